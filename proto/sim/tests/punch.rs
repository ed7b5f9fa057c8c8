//! Ways through NATs that give every destination another port: by foretelling ports where a counter gives them out.

use std::num::NonZeroI16;
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use proto::nat::NatClass;
use proto::path::{PathKind, PathState};
use sim::link::Link;
use sim::nat::{Behaviour, NatPlan, Ports};
use sim::network::{Interface, SiteId, SitePlan};
use sim::world::World;

const COUNTING: NatPlan = NatPlan { ports: Ports::Sequential { delta: 1 }, ..NatPlan::SYMMETRIC };

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Edges behind NATs of their own, in touch with three connectors that everybody can dial.
fn world(seed: u64, nats: &[NatPlan]) -> (World, Vec<EndpointName>) {
    let (world, edges) = world_with_sites(seed, nats);
    (world, edges.into_iter().map(|(name, _)| name).collect())
}

/// The same, with the edges' sites.
fn world_with_sites(seed: u64, nats: &[NatPlan]) -> (World, Vec<(EndpointName, SiteId)>) {
    let mut world = World::new(seed, Link::GOOD);
    world.keepalive = Some(seconds(25));
    for number in 0..3 {
        world.add_endpoint(&format!("hub.connector{number}"), Kind::Connector);
    }
    let edge = |(number, nat): (u8, &NatPlan)| {
        let site = world.add_site(SitePlan::behind(*nat));
        let home = Interface { site, address: ([192, 168, number, 10], 6374).into() };
        (world.add_endpoint_at(&format!("hub.edge{number}"), Kind::Edge, &[home]), site)
    };
    let edges: Vec<(EndpointName, SiteId)> = (1..).zip(nats).map(edge).collect();
    let names: Vec<EndpointName> = edges.iter().map(|(name, _)| name.clone()).collect();
    world.add_community("all", &names);
    world.start_all();
    for name in world.members.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect::<Vec<_>>() {
        world.step(&name);
    }
    world.run_for(seconds(2));
    (world, edges)
}

fn active(world: &mut World, from: &EndpointName, to: &EndpointName) -> Option<PathKind> {
    let (peer, now) = (world.peer(from, to), world.now());
    let paths = world.host(from).node.peer_paths(peer, now);
    paths.iter().find(|path| path.state == PathState::Active).map(|path| path.kind)
}

/// How one edge reaches another some seconds after its first packet, which arrived.
fn way(world: &mut World, from: &EndpointName, to: &EndpointName) -> Option<PathKind> {
    let before = world.numbers(to).len();
    for number in 0..10 {
        world.send(from, to, number);
        world.run_for(Duration::from_millis(500));
    }
    assert_eq!(world.numbers(to).len(), before + 10, "{from} to {to}");
    active(world, from, to)
}

#[test]
fn a_node_learns_the_class_of_its_nat_from_three_members_and_forgets_it_when_addresses_change() {
    let up = NonZeroI16::new(1).map(NatClass::Sequential);
    let cases = [
        (NatPlan::HOME, Some(NatClass::EndpointIndependent)),
        (COUNTING, up),
        (NatPlan::SYMMETRIC, Some(NatClass::Random)),
    ];
    let (mut world, edges) = world(1, &cases.map(|(nat, _)| nat));
    for (edge, (nat, expected)) in edges.iter().zip(cases) {
        assert_eq!(world.host(edge).node.nat_class(), expected, "{nat:?}");
        let now = world.now();
        let links = [[192, 168, 1, 10], [10, 0, 0, 10]].map(|address| [address.into()]);
        for (link, expected) in [(0, expected), (0, expected), (1, None)] {
            world.host(edge).node.handle_links(&links[link], now);
            assert_eq!(world.host(edge).node.nat_class(), expected);
        }
    }
}

#[test]
fn a_counting_nat_is_passed_to_any_that_keeps_its_port_and_to_another_that_counts() {
    for seed in 0..8 {
        let strict = NatPlan { filtering: Behaviour::AddressAndPortDependent, ..NatPlan::HOME };
        let down = NatPlan { ports: Ports::Sequential { delta: 3 }, ..COUNTING };
        let (mut world, edges) = world(seed, &[COUNTING, strict, down]);
        for (from, to) in [(0, 1), (1, 2), (0, 2)] {
            let found = way(&mut world, &edges[from], &edges[to]);
            assert_eq!(found, Some(PathKind::Direct), "seed {seed}: {from} to {to}");
        }
    }
}

#[test]
fn two_counters_meet_though_other_hosts_have_used_some_of_their_ports() {
    for (one, other) in [(0, 0), (0, 6), (6, 0), (3, 4)] {
        let (mut world, edges) = world_with_sites(5, &[COUNTING; 2]);
        for ((_, site), used) in edges.iter().zip([one, other]) {
            let neighbour = ([192, 168, 77, 77], 5000).into();
            let socket = world.add_socket(Interface { site: *site, address: neighbour });
            (0..used).for_each(|n| world.say(socket, ([203, 0, 113, 9], 5000 + n).into(), Vec::new()));
        }
        let found = way(&mut world, &edges[0].0, &edges[1].0);
        assert_eq!(found, Some(PathKind::Direct), "{one} and {other} ports used by others");
    }
}

#[test]
fn what_cannot_be_foretold_is_relayed_and_costs_a_bounded_number_of_probes() {
    let (mut world, edges) = world(3, &[COUNTING, NatPlan::SYMMETRIC]);
    let before = world.load(&edges[1]).sent.datagrams;
    assert_eq!(way(&mut world, &edges[0], &edges[1]), Some(PathKind::Relay));
    let spent = world.load(&edges[1]).sent.datagrams - before;
    assert!(spent < 64 + 150, "{spent} datagrams with four volleys, candidates and data");
}
