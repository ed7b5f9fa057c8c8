//! What ten thousand machines behind NATs cost the network, the NATs, and the machine that simulates them. Measured,
//! and held below generous bounds where they do not depend on the speed of a machine.

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cap::Cap;
use proto::id::EndpointName;
use proto::member::{Kind, Members};
use sim::link::Link;
use sim::network::{Interface, SiteId, SitePlan};
use sim::trace::Recording;
use sim::world::World;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Held by the test that counts: libtest runs them in parallel.
static COUNTING: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    COUNTING.lock().unwrap_or_else(PoisonError::into_inner)
}

const HOSTS: usize = 10_000;

/// Edges per connector.
const EDGES: usize = 9;

/// A carrier for each hundred of `count` homes, one host in each, all NATs as they come.
fn homes(world: &mut World, count: usize) -> Vec<(SiteId, Interface)> {
    let mut carrier = SiteId::INTERNET;
    let home = |n: usize| {
        if n.is_multiple_of(100) {
            let nat = world.any_nat();
            carrier = world.add_site(SitePlan::behind(nat));
        }
        // Every second is behind the carrier's NAT as well.
        let uplink = if n.is_multiple_of(2) { carrier } else { SiteId::INTERNET };
        let nat = world.any_nat();
        let site = world.add_site(SitePlan { uplink, ..SitePlan::behind(nat) });
        (site, Interface { site, address: ([192, 168, 1, 10], 6374).into() })
    };
    (0..count).map(home).collect()
}

/// Live entries in the tables of all homes.
fn entries(world: &mut World, homes: &[(SiteId, Interface)]) -> usize {
    homes.iter().map(|(site, _)| world.nat_entries(*site)).sum()
}

#[test]
fn ten_thousand_hosts_that_keep_their_mappings_alive_cost_a_table_entry_each_and_no_memory_per_datagram() {
    let _alone = alone();
    let mut world = World::new(1, Link::RADIO);
    world.recording = Recording::Digest;
    let server = ([203, 0, 113, 1], 1).into();
    let listener = world.add_socket(Interface::public(server));
    let homes = homes(&mut world, HOSTS);
    let hosts: Vec<_> = homes.iter().map(|(_, interface)| world.add_socket(*interface)).collect();
    let mut arrived = 0;
    let mut after = Vec::new();
    for _ in 0..12 {
        hosts.iter().for_each(|host| world.say(*host, server, vec![0; 32]));
        world.run_for(Duration::from_secs(25));
        arrived += world.take_heard(listener).len();
        after.push(ALLOCATOR.allocated());
    }
    hosts.iter().for_each(|host| world.say(*host, server, vec![0; 32]));
    let entries = entries(&mut world, &homes);
    println!("{HOSTS} hosts, 300 s: {} datagrams sent, {arrived} arrived, {entries} entries", world.total().datagrams);
    assert_eq!(entries, HOSTS);
    assert_eq!(world.total().datagrams, 13 * HOSTS as u64);
    assert!(after[11] < after[1] + 100_000, "{after:?}");
}

/// Started nodes behind NATs, in clusters of a connector and its edges that know of each other only; and how many they
/// are.
fn clusters(world: &mut World, homes: &[(SiteId, Interface)]) -> (Vec<Vec<EndpointName>>, usize) {
    let mut clusters = Vec::new();
    for (n, chunk) in homes.chunks(EDGES).enumerate() {
        let first = world.members.endpoints.len();
        let mut names = vec![world.add_endpoint(&format!("site{n}.connector"), Kind::Connector)];
        for (e, (_, home)) in chunk.iter().enumerate() {
            names.push(world.add_endpoint_at(&format!("site{n}.edge{e}"), Kind::Edge, &[*home]));
        }
        let endpoints = world.members.endpoints[first..].to_vec();
        let members = Members { mesh: world.members.mesh, endpoints, communities: Vec::new() };
        names.iter().for_each(|name| world.start_with(name, &members));
        clusters.push(names);
    }
    (clusters, world.members.endpoints.len())
}

#[test]
fn ten_thousand_idle_nodes_behind_nats_send_nothing_and_hold_nothing() {
    let _alone = alone();
    let before = ALLOCATOR.allocated();
    let mut world = World::new(2, Link::GOOD);
    world.recording = Recording::Digest;
    let homes = homes(&mut world, HOSTS);
    let (clusters, count) = clusters(&mut world, &homes);
    world.run_for(Duration::from_secs(600));
    let each = (ALLOCATOR.allocated() - before) / count;
    println!("{count} nodes behind NATs, 600 s idle: {each} bytes each, {} datagrams", world.total().datagrams);
    assert_eq!(world.total().datagrams, 0);
    assert_eq!(entries(&mut world, &homes), 0);
    assert!(each < 50_000, "{each} bytes");
    // One of each hundredth cluster speaks, and pays for itself.
    for names in clusters.iter().step_by(100) {
        world.send(&names[1], &names[0], 1);
        world.run_for(Duration::from_millis(200));
        assert_eq!(world.numbers(&names[0]), [1]);
        assert_eq!((world.load(&names[1]).indices, world.load(&names[2]).indices), (1, 0));
    }
}

#[allow(clippy::disallowed_methods, reason = "how many nodes is asked by hand; what they do is not")]
fn connected_hosts() -> usize {
    // More of them by hand: MESHD_NODES=10000 cargo test --release -p sim --test idle -- --nocapture
    std::env::var("MESHD_NODES").ok().and_then(|text| text.parse().ok()).unwrap_or(500)
}

#[test]
fn edges_behind_any_nat_stay_connected_by_a_keepalive_every_25_seconds() {
    let _alone = alone();
    let mut world = World::new(3, Link::GOOD);
    world.recording = Recording::Digest;
    world.keepalive = Some(Duration::from_secs(25));
    let homes = homes(&mut world, connected_hosts());
    let (clusters, count) = clusters(&mut world, &homes);
    world.run_for(Duration::from_secs(200));
    let sent = world.total();
    for (connector, edge) in clusters.iter().filter_map(|names| Some((names.first()?, names.get(1)?))) {
        world.send(connector, edge, 1);
        world.run_for(Duration::from_millis(10));
        assert_eq!(world.numbers(edge), [1], "the mapping is open still");
    }
    let held = entries(&mut world, &homes);
    println!("{count} nodes, 200 s: {} datagrams and {} bytes sent, {held} NAT entries", sent.datagrams, sent.bytes);
    assert_eq!(held, homes.len());
}
