//! Sites, several interfaces, cuts, sleep: what places do to datagrams and to nodes.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use proto::peer::PeerState;
use sim::link::Link;
use sim::nat::{Hairpin, NatPlan};
use sim::network::{Interface, SiteId, SitePlan};
use sim::trace::Recording;
use sim::world::World;

const PRIVATE: ([u8; 4], u16) = ([192, 168, 1, 10], 6374);

/// Sites with an edge each, all with the same private address, and a connector for them on the internet.
fn shops(seed: u64, link: Link, count: usize) -> (World, EndpointName, Vec<(EndpointName, SiteId)>) {
    let mut world = World::new(seed, link);
    let connector = world.add_endpoint("shop.connector", Kind::Connector);
    let edge = |n| {
        let nat = world.any_nat();
        let site = world.add_site(SitePlan::behind(nat));
        let home = Interface { site, address: PRIVATE.into() };
        (world.add_endpoint_at(&format!("shop.edge{n}"), Kind::Edge, &[home]), site)
    };
    let edges = (0..count).map(edge).collect();
    world.keepalive = Some(Duration::from_secs(25));
    world.start_all();
    (world, connector, edges)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn equal_private_addresses_in_many_sites_are_told_apart_by_who_receives() {
    let (mut world, connector, edges) = shops(1, Link::GOOD, 30);
    for (number, (edge, _)) in (0..).zip(&edges) {
        world.send(edge, &connector, number);
    }
    world.run_for(seconds(1));
    assert_eq!(world.numbers(&connector), (0..30).collect::<Vec<_>>());
    for (number, (edge, site)) in (100..).zip(&edges) {
        let peer = world.peer(&connector, edge);
        let path = world.host(&connector).node.peer_status(peer).unwrap().path.unwrap();
        assert_eq!(path.address.ip(), world.external(*site));
        world.send(&connector, edge, number);
        world.run_for(Duration::from_millis(10));
        assert_eq!(world.numbers(edge), [number]);
    }
}

#[test]
fn hosts_of_a_site_reach_each_other_directly_also_while_its_cable_is_cut() {
    let mut world = World::new(3, Link { loss: 1000, ..Link::GOOD });
    let site = world.add_site(SitePlan::behind(NatPlan::HOME));
    let [a, b] = [10, 11].map(|n| world.add_socket(Interface { site, address: ([192, 168, 1, n], 1).into() }));
    world.set_site_cut(site, true);
    world.say(a, ([192, 168, 1, 11], 1).into(), vec![7]);
    world.run_for(Duration::from_millis(2));
    assert_eq!(world.take_heard(b), [(([192, 168, 1, 10], 1).into(), vec![7])]);
    assert_eq!(world.nat_entries(site), 0);
}

#[test]
fn a_cut_cable_loses_what_passes_it_and_a_mended_one_carries_again() {
    let (mut world, connector, edges) = shops(4, Link::GOOD, 2);
    let (edge, site) = edges[0].clone();
    world.send(&edge, &connector, 1);
    world.run_for(seconds(1));
    world.set_site_cut(site, true);
    world.send(&edge, &connector, 2);
    world.send(&connector, &edge, 3);
    world.run_for(Duration::from_millis(100));
    assert_eq!((world.numbers(&connector), world.numbers(&edge)), (vec![1], vec![]));
    world.set_site_cut(site, false);
    world.send(&edge, &connector, 4);
    world.run_for(seconds(1));
    assert!(world.numbers(&connector).contains(&4));
}

#[test]
fn the_distance_of_a_site_is_passed_each_way() {
    let mut world = World::new(5, Link::GOOD);
    let plan = SitePlan { distance: Duration::from_millis(20), ..SitePlan::behind(NatPlan::HOME) };
    let carrier = world.add_site(plan);
    let site = world.add_site(SitePlan { uplink: carrier, ..plan });
    let far: SocketAddr = ([203, 0, 113, 1], 1).into();
    let (inside, outside) =
        (world.add_socket(Interface { site, address: PRIVATE.into() }), world.add_socket(Interface::public(far)));
    world.say(inside, far, vec![1]);
    world.run_for(Duration::from_micros(40_900));
    assert!(world.take_heard(outside).is_empty());
    world.run_for(Duration::from_micros(200));
    let source = world.take_heard(outside)[0].0;
    world.say(outside, source, vec![2]);
    world.run_for(Duration::from_micros(40_900));
    assert!(world.take_heard(inside).is_empty());
    world.run_for(Duration::from_micros(200));
    assert_eq!(world.take_heard(inside), [(far, vec![2])]);
}

#[test]
fn a_host_with_several_interfaces_uses_the_one_that_the_destination_is_at() {
    let mut world = World::new(6, Link::GOOD);
    let nat = NatPlan { hairpin: Hairpin::Dropped, ..NatPlan::HOME };
    let [near, other] = [(), ()].map(|()| world.add_site(SitePlan::behind(nat)));
    let public: SocketAddr = ([198, 51, 100, 1], 6374).into();
    let inner: SocketAddr = ([192, 168, 1, 1], 6374).into();
    let gateway = [
        Interface { site: other, address: inner },
        Interface { site: near, address: inner },
        Interface::public(public),
    ];
    let gateway = world.add_endpoint_at("site.connector", Kind::Connector, &gateway);
    let edge = world.add_endpoint_at("site.edge1", Kind::Edge, &[Interface { site: near, address: PRIVATE.into() }]);
    let roamer = world.add_endpoint("site.edge2", Kind::Edge);
    world.start_all();
    let now = world.now();
    for (from, at) in [(&edge, inner), (&roamer, public)] {
        let peer = world.peer(from, &gateway);
        world.host(from).node.handle_candidates(peer, vec![at], now);
        world.send(from, &gateway, 1);
        world.run_for(Duration::from_millis(10));
        let peer = world.peer(&gateway, from);
        let path = world.host(&gateway).node.peer_status(peer).unwrap().path.unwrap();
        assert_eq!(path, world.home(from).into(), "no NAT in between");
    }
    assert_eq!(world.numbers(&gateway), [1, 1]);
}

#[test]
fn a_node_that_is_carried_from_site_to_site_is_found_again() {
    let (mut world, connector, edges) = shops(7, Link::GOOD, 2);
    let (edge, elsewhere) = (edges[0].0.clone(), edges[1].1);
    world.send(&edge, &connector, 1);
    world.run_for(seconds(1));
    world.replug(&edge, vec![Interface { site: elsewhere, address: ([192, 168, 1, 77], 6374).into() }]);
    world.send(&edge, &connector, 2);
    world.run_for(seconds(1));
    world.send(&connector, &edge, 3);
    world.run_for(seconds(1));
    assert_eq!((world.numbers(&connector), world.numbers(&edge)), (vec![1, 2], vec![3]));
    let peer = world.peer(&connector, &edge);
    let path = world.host(&connector).node.peer_status(peer).unwrap().path.unwrap();
    assert_eq!(path.address.ip(), world.external(elsewhere));
}

#[test]
fn a_machine_that_sleeps_hears_and_does_nothing_and_is_back_when_it_wakes() {
    let (mut world, connector, edges) = shops(8, Link::GOOD, 1);
    let edge = edges[0].0.clone();
    world.run_for(seconds(60));
    world.suspend(&edge, seconds(600));
    let before = world.load(&edge).sent;
    world.run_for(seconds(500));
    world.send(&connector, &edge, 1);
    world.send(&edge, &connector, 2);
    world.run_for(seconds(99));
    assert_eq!(world.load(&edge).sent, before);
    assert_eq!(world.numbers(&edge), []);
    let peer = world.peer(&connector, &edge);
    assert_ne!(world.host(&connector).node.peer_status(peer).unwrap().state, PeerState::Connected);
    world.run_for(seconds(10));
    assert_eq!(world.numbers(&connector), [2], "it waited for the machine to wake");
    assert_eq!(world.host(&connector).node.peer_status(peer).unwrap().state, PeerState::Connected);
}

#[test]
fn equal_seeds_give_equal_digests_recorded_or_not_and_other_seeds_other_ones() {
    let run = |seed, recording| {
        let (mut world, connector, edges) = shops(seed, Link::RADIO, 20);
        world.recording = recording;
        for (number, (edge, site)) in (0..).zip(&edges) {
            world.send(edge, &connector, number);
            world.run_for(seconds(3));
            world.flush_nat(*site);
        }
        world.run_for(seconds(60));
        let sent: Vec<_> = edges.iter().map(|(edge, _)| world.load(edge).sent).collect();
        let mut of_edges = world.load(&connector).sent;
        for one in &sent {
            of_edges.datagrams += one.datagrams;
            of_edges.bytes += one.bytes;
        }
        assert_eq!(of_edges, world.total(), "every datagram has a sender");
        (world.digest(), sent, world.wire)
    };
    let first = run(9, Recording::Full);
    assert!(first.2.len() > 100, "{} datagrams", first.2.len());
    assert!(first == run(9, Recording::Full));
    let unrecorded = run(9, Recording::Digest);
    assert_eq!((first.0, &first.1, 0), (unrecorded.0, &unrecorded.1, unrecorded.2.len()));
    assert_ne!(first.0, run(10, Recording::Digest).0);
}
