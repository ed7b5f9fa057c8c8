//! Metrics of each peer, and of each path to it.

use std::fmt::Result;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proto::stats::{Activity, Relayed};

use super::families::{Families, Label};
use super::sample::{PathSample, PeerSample, Sample};

/// Writes them.
pub(super) fn encode(families: &mut Families<'_>, sample: &Sample) -> Result {
    let states = sample.peers.iter().map(|peer| ([("peer", peer.name.as_str()), ("state", peer.state)], 1));
    families.gauge("meshd_peer_state", "What goes on with the peer, 1 for its present state", states)?;
    traffic(families, sample)?;
    relayed(families, sample)?;
    sessions(families, sample)?;
    paths(families, sample)
}

/// The peers that may talk to this node: of the others there is nothing to count.
fn counted(sample: &Sample) -> impl Iterator<Item = &PeerSample> {
    sample.peers.iter().filter(|peer| peer.is_counted)
}

fn traffic(families: &mut Families<'_>, sample: &Sample) -> Result {
    let mut family = |name: &str, help: &str, counter: fn(&Activity) -> &AtomicU64| {
        let line = |peer: &'_ PeerSample| counter(&peer.status.activity).load(Relaxed);
        families.counter(name, help, counted(sample).map(|peer| ([("peer", peer.name.as_str())], line(peer))))
    };
    family("meshd_peer_receive_bytes", "Bytes of packets from the peer", |activity| &activity.rx_bytes)?;
    family("meshd_peer_receive_packets", "Packets from the peer", |activity| &activity.rx_packets)?;
    family("meshd_peer_transmit_bytes", "Bytes of packets to the peer", |activity| &activity.tx_bytes)?;
    family("meshd_peer_transmit_packets", "Packets to the peer", |activity| &activity.tx_packets)
}

fn relayed(families: &mut Families<'_>, sample: &Sample) -> Result {
    let mut family = |name: &str, help: &str, count: fn(&Relayed) -> u64| {
        let line = |peer: &PeerSample| count(&peer.relayed);
        families.counter(name, help, counted(sample).map(|peer| ([("peer", peer.name.as_str())], line(peer))))
    };
    family("meshd_peer_transmit_relayed_bytes", "Bytes of packets to the peer that went through relays", |sent| {
        sent.bytes
    })?;
    family("meshd_peer_transmit_relayed_packets", "Packets to the peer that went through relays", |sent| sent.packets)
}

fn sessions(families: &mut Families<'_>, sample: &Sample) -> Result {
    let handshakes = counted(sample).flat_map(|peer| {
        let counters = &peer.status.activity.handshakes;
        let results =
            [("completed", &counters.completed), ("unanswered", &counters.unanswered), ("refused", &counters.refused)];
        results.map(|(result, count)| ([("peer", peer.name.as_str()), ("result", result)], count.load(Relaxed)))
    });
    families.counter("meshd_peer_handshakes", "Handshakes with the peer, by what came of them", handshakes)?;
    let rekeys = counted(sample).map(|peer| ([("peer", peer.name.as_str())], peer.status.rekeys));
    families.counter("meshd_peer_rekeys", "Sessions that were replaced by newer ones", rekeys)?;
    let mut spans = |name: &str, help: &str, span: fn(&PeerSample) -> Option<Duration>| {
        let line = |peer: &'_ PeerSample| span(peer).map(|span| span.as_secs_f64());
        let lines = counted(sample).filter_map(|peer| Some(([("peer", peer.name.as_str())], line(peer)?)));
        families.gauge(name, help, lines)
    };
    spans("meshd_peer_session_age_seconds", "Age of the session in use", |peer| peer.session_age)?;
    spans("meshd_peer_disconnected_seconds", "Time since the last sign of life of a peer that is lost", |peer| {
        peer.disconnected
    })
}

fn paths(families: &mut Families<'_>, sample: &Sample) -> Result {
    let mut family = |name: &str, help: &str, value: fn(&PathSample) -> Option<f64>| {
        let all = sample.peers.iter().flat_map(|peer| peer.paths.iter().map(move |path| (peer, path)));
        families.gauge(name, help, all.filter_map(|(peer, path)| Some((labels(peer, path), value(path)?))))
    };
    family("meshd_path_active", "Whether data goes by the path", |path| Some(f64::from(u8::from(path.is_active()))))?;
    family("meshd_path_rtt_seconds", "Round trip time, smoothed", |path| path.status.rtt.map(|rtt| rtt.as_secs_f64()))?;
    family("meshd_path_jitter_seconds", "Mean deviation of the round trip time", |path| {
        path.status.rtt.map(|_| path.status.jitter.as_secs_f64())
    })?;
    family("meshd_path_loss_ratio", "Part of the last probes without an answer, 0 to 1", |path| {
        Some(f64::from(path.status.loss) / 1000.0)
    })?;
    family("meshd_path_mtu_bytes", "The largest packet that is known to pass whole, outer headers included", |path| {
        path.status.mtu.map(f64::from)
    })
}

fn labels<'s>(peer: &'s PeerSample, path: &'s PathSample) -> [Label<'s>; 4] {
    [("peer", &peer.name), ("kind", path.kind), ("address", &path.address), ("relay", &path.relay)]
}
