//! Ways to NATs whose ports are random: a bounded number of tries, from many sockets at many ports.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use proto::path::{PathKind, PathState, SPRAY_PROBES, SPRAY_SOCKETS, SprayEnd, SpraySide};
use sim::link::Link;
use sim::nat::NatPlan;
use sim::network::{Interface, SitePlan};
use sim::world::World;

/// As long as a spray takes, its trigger and its end included.
const ALL_OF_IT: u64 = 16;

/// Edges behind NATs of their own, and three connectors that everybody can dial.
fn world(seed: u64, nats: &[NatPlan]) -> (World, Vec<EndpointName>) {
    let mut world = World::new(seed, Link::GOOD);
    world.keepalive = Some(Duration::from_secs(25));
    for number in 0..3 {
        world.add_endpoint(&format!("hub.connector{number}"), Kind::Connector);
    }
    let mut edges = Vec::new();
    for (number, nat) in (1u8..).zip(nats) {
        let site = world.add_site(SitePlan::behind(*nat));
        let home = Interface { site, address: ([192, 168, number, 10], 6374).into() };
        edges.push(world.add_endpoint_at(&format!("hub.edge{number}"), Kind::Edge, &[home]));
    }
    world.add_community("all", &edges);
    world.start_all();
    for name in world.members.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect::<Vec<_>>() {
        world.step(&name);
    }
    world.run_for(Duration::from_secs(2));
    (world, edges)
}

/// Two edges talk for some seconds; nothing is lost.
fn talk(world: &mut World, from: &EndpointName, to: &EndpointName, seconds: u64) {
    let before = world.numbers(to).len();
    for number in 0..seconds * 2 {
        world.send(from, to, number);
        world.run_for(Duration::from_millis(500));
    }
    assert_eq!(world.numbers(to).len() - before, seconds as usize * 2, "{from} to {to}");
}

fn way(world: &mut World, from: &EndpointName, to: &EndpointName) -> Option<PathKind> {
    let (peer, now) = (world.peer(from, to), world.now());
    let paths = world.host(from).node.peer_paths(peer, now);
    paths.iter().find(|path| path.state == PathState::Active).map(|path| path.kind)
}

fn is_direct(world: &mut World, one: &EndpointName, other: &EndpointName) -> bool {
    [(one, other), (other, one)].iter().all(|(from, to)| way(world, from, to) == Some(PathKind::Direct))
}

#[test]
fn random_ports_are_met_by_an_edge_that_keeps_its_port_nine_times_in_ten_within_1024_probes() {
    let (mut met, mut probes) = (0, Vec::new());
    for seed in 0..50 {
        let (mut world, edges) = world(seed, &[NatPlan::SYMMETRIC, NatPlan::HOME]);
        let [random, kept] = edges.as_slice() else { panic!("two edges") };
        talk(&mut world, random, kept, ALL_OF_IT);
        let peer = world.peer(kept, random);
        let status = world.host(kept).node.spray_status(peer).expect("a spray");
        assert_eq!(status.side, SpraySide::Probes);
        assert!(status.count <= SPRAY_PROBES, "{status:?}");
        let is_met = is_direct(&mut world, random, kept);
        assert_eq!(status.end, Some(if is_met { SprayEnd::Met } else { SprayEnd::Missed }), "seed {seed}");
        assert!(is_met || status.count == SPRAY_PROBES, "{status:?}");
        met += usize::from(is_met);
        probes.push(status.count);
    }
    probes.sort_unstable();
    assert!(met >= 45, "{met} of 50; probes {probes:?}");
}

#[test]
fn a_way_that_was_met_lasts_while_it_is_used() {
    let (mut world, edges) = world(1, &[NatPlan::SYMMETRIC, NatPlan::HOME]);
    talk(&mut world, &edges[0], &edges[1], ALL_OF_IT);
    assert!(is_direct(&mut world, &edges[0], &edges[1]));
    let before = [0, 1].map(|edge| world.load(&edges[edge]).sent.datagrams);
    talk(&mut world, &edges[1], &edges[0], 200);
    assert!(is_direct(&mut world, &edges[0], &edges[1]), "through a new session, too");
    let spent = [0, 1].map(|edge| world.load(&edges[edge]).sent.datagrams - before[edge]);
    assert!(spent.iter().all(|spent| *spent < 1200), "{spent:?}");
}

#[test]
fn an_edge_that_has_moved_to_another_nat_is_met_there() {
    let (mut world, edges) = world(7, &[NatPlan::SYMMETRIC, NatPlan::HOME]);
    talk(&mut world, &edges[0], &edges[1], 1);
    let site = world.add_site(SitePlan::behind(NatPlan::SYMMETRIC));
    world.replug(&edges[0], vec![Interface { site, address: ([10, 1, 1, 1], 6374).into() }]);
    world.run_for(Duration::from_secs(5));
    talk(&mut world, &edges[0], &edges[1], 2 * ALL_OF_IT);
    assert!(is_direct(&mut world, &edges[0], &edges[1]));
}

#[test]
fn two_edges_with_random_ports_do_not_try_and_stay_at_a_relay() {
    let (mut world, edges) = world(2, &[NatPlan::SYMMETRIC; 2]);
    let before = world.load(&edges[1]).sent.datagrams;
    talk(&mut world, &edges[0], &edges[1], ALL_OF_IT);
    assert_eq!(way(&mut world, &edges[0], &edges[1]), Some(PathKind::Relay));
    assert!(world.host(&edges[0]).node.sprays().next().is_none());
    assert!(world.load(&edges[1]).sent.datagrams - before < 200);
}

#[test]
fn an_hour_has_no_more_probes_however_many_peers_ask_for_them() {
    let (mut world, edges) = world(3, &[[NatPlan::HOME].as_slice(), &[NatPlan::SYMMETRIC; 8]].concat());
    let kept = &edges[0];
    for other in &edges[1..] {
        talk(&mut world, other, kept, ALL_OF_IT);
    }
    let all: Vec<_> = world.host(kept).node.sprays().map(|(_, status)| status).collect();
    let spent: usize = all.iter().map(|status| status.count).sum();
    assert!((SPRAY_PROBES / 2..=SPRAY_PROBES).contains(&spent) && all.len() < 8, "{all:?}");
}

#[test]
fn a_spray_costs_one_port_for_each_socket_and_another_for_each_probe() {
    let (mut world, edges) = world(1, &[NatPlan::SYMMETRIC, NatPlan::HOME]);
    talk(&mut world, &edges[0], &edges[1], ALL_OF_IT);
    let [outer, kept]: [SocketAddr; 2] = [(1, 0), (0, 1)].map(|(at, of)| {
        let (peer, now) = (world.peer(&edges[at], &edges[of]), world.now());
        let paths = world.host(&edges[at]).node.peer_paths(peer, now);
        paths.iter().find(|path| path.state == PathState::Active).expect("a path").locator.address
    });
    let pairs = || world.wire.iter().map(|(_, from, to, _)| (*from, *to));
    let opened: BTreeSet<u16> =
        pairs().filter(|(from, to)| from.ip() == outer.ip() && *to == kept).map(|(from, _)| from.port()).collect();
    let probed: BTreeSet<u16> =
        pairs().filter(|(from, to)| *from == kept && to.ip() == outer.ip()).map(|(_, to)| to.port()).collect();
    assert!((SPRAY_SOCKETS..SPRAY_SOCKETS + 3).contains(&opened.len()), "{}", opened.len());
    assert!(probed.len() <= SPRAY_PROBES + 3, "{}", probed.len());
}
