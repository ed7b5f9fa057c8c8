//! Metrics of the node as a whole.

use std::fmt::Result;

use super::families::Families;
use super::sample::{Queue, Sample};

/// Writes them.
pub(super) fn encode(families: &mut Families<'_>, sample: &Sample) -> Result {
    let build = [("version", sample.version.as_str())];
    families.gauge("meshd_build_info", "The version of the daemon, always 1", [(build, 1)])?;
    let node = [("node", sample.name.as_str()), ("mesh", sample.mesh.as_str())];
    families.gauge("meshd_node_info", "The node's name and its mesh, always 1", [(node, 1)])?;
    let digest = [("digest", sample.mesh_digest.as_str())];
    families.gauge("meshd_mesh_info", "The mesh as the node runs it in few characters, always 1", [(digest, 1)])?;
    families.number(
        "meshd_uptime_seconds",
        "Time since the start, sleep of the machine included",
        sample.uptime.as_secs_f64(),
    )?;
    families.number("meshd_members", "Members of the mesh other than this node", sample.peers.len())?;
    families.number("meshd_sessions", "Peers in session", sample.load.sessions)?;
    families.number(
        "meshd_handshakes_pending",
        "Handshakes of this node without an answer so far",
        sample.load.attempts,
    )?;
    let reloads = [("succeeded", sample.reloads.succeeded), ("failed", sample.reloads.failed)];
    let reloads = reloads.map(|(result, count)| ([("result", result)], count));
    families.counter("meshd_reloads", "How often the configuration was read anew, by result", reloads)?;
    drops(families, sample)?;
    queues(families, sample)?;
    surroundings(families, sample)
}

fn drops(families: &mut Families<'_>, sample: &Sample) -> Result {
    let line = |(reason, count): &(proto::stats::DropReason, u64)| {
        ([("reason", reason.name()), ("direction", reason.direction().name())], *count)
    };
    families.counter(
        "meshd_drops",
        "Packets and datagrams that went no further, by reason",
        sample.drops.iter().map(line),
    )
}

fn queues(families: &mut Families<'_>, sample: &Sample) -> Result {
    let queues: [(&str, Queue); 2] = [("punts", sample.punts), ("api_calls", sample.calls)];
    let lengths = queues.iter().map(|(name, queue)| ([("queue", *name)], queue.len));
    families.gauge("meshd_queue_length", "What waits for the core, by queue", lengths)?;
    let capacities = queues.iter().map(|(name, queue)| ([("queue", *name)], queue.capacity));
    families.gauge("meshd_queue_capacity", "What may wait for the core, by queue", capacities)?;
    families.number("meshd_staged_packets", "Packets that wait for a session", sample.load.staged_packets)?;
    families.number("meshd_staged_bytes", "Bytes of packets that wait for a session", sample.load.staged_bytes)
}

fn surroundings(families: &mut Families<'_>, sample: &Sample) -> Result {
    families.number(
        "meshd_routes_withheld",
        "Routes of the mesh that this machine does not have",
        sample.routes_withheld,
    )?;
    let class = sample.nat_class.map(|class| ([("class", class)], 1));
    families.gauge("meshd_nat_info", "What the NAT before this node does to ports, always 1", class)?;
    families.number("meshd_port_mappings", "Gateways that pass the UDP port on to this node", sample.port_mappings)?;
    families.number("meshd_lan_neighbours", "Members and others that are heard on LANs", sample.lan.neighbours)?;
    families.count("meshd_lan_beacons", "Beacons that were heard and counted", sample.lan.heard)
}
