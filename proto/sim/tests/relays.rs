//! Members that cannot dial each other meet at a relay, and go on without it where they can.

use std::time::Duration;

use proto::event::Event;
use proto::id::EndpointName;
use proto::member::{Kind, Members};
use proto::path::{PathKind, PathState};
use sim::link::Link;
use sim::nat::{Behaviour, NatPlan};
use sim::network::{Interface, SitePlan};
use sim::world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A connector that everybody can dial, and edges that nobody can, of one site or of two without a connector of their own.
fn site(seed: u64, edges: &[&str]) -> Site {
    let mut world = World::new(seed, Link::GOOD);
    world.keepalive = Some(seconds(25));
    let connector = world.add_endpoint("hub.connector", Kind::Connector);
    let names: Vec<_> = edges.iter().map(|name| world.add_endpoint(name, Kind::Edge)).collect();
    world.add_community("all", &names);
    let mut told = world.members.clone();
    for endpoint in told.endpoints.iter_mut().filter(|endpoint| endpoint.kind == Kind::Edge) {
        endpoint.public_addresses.clear();
    }
    let mut site = Site { world, connector, names, told };
    for name in site.names.iter().chain([&site.connector]).cloned().collect::<Vec<_>>() {
        site.start(&name);
    }
    site.world.run_for(seconds(2));
    site
}

/// A world, and what its nodes are told of each other.
struct Site {
    world: World,
    connector: EndpointName,
    names: Vec<EndpointName>,
    told: Members,
}

impl Site {
    fn start(&mut self, name: &EndpointName) {
        self.world.start_with(name, &self.told);
        self.world.step(name);
    }
}

fn kinds(world: &mut World, from: &EndpointName, to: &EndpointName) -> Vec<(PathKind, PathState)> {
    let (peer, now) = (world.peer(from, to), world.now());
    world.host(from).node.peer_paths(peer, now).iter().map(|path| (path.kind, path.state)).collect()
}

#[test]
fn the_first_packet_goes_through_the_relay_and_the_next_ones_directly() {
    for edges in [["hub.one", "hub.two"], ["here.one", "there.two"]] {
        let Site { mut world, connector, names, .. } = site(1, &edges);
        let before = world.wire.len();
        world.send(&names[0], &names[1], 1);
        world.run_for(Duration::from_millis(300));
        assert_eq!(world.numbers(&names[1]), [1], "{edges:?}: the first byte");
        let hub = world.home(&connector);
        let data = |from: usize| world.wire[from..].iter().filter(|(.., bytes)| bytes[0] == 4).count();
        assert!(world.wire[before..].iter().any(|(_, _, to, bytes)| *to == hub && bytes[0] == 7), "through the relay");
        assert_eq!(data(before), 0, "{edges:?}: nothing else was possible yet");
        world.run_for(seconds(2));
        let after = world.wire.len();
        world.send(&names[0], &names[1], 2);
        world.run_for(seconds(1));
        assert_eq!(world.numbers(&names[1]), [1, 2]);
        let data =
            world.wire[after..].iter().filter(|(_, from, to, bytes)| bytes[0] == 4 && *from != hub && *to != hub);
        assert_eq!(data.count(), 1, "{edges:?}: directly");
        let paths = kinds(&mut world, &names[0], &names[1]);
        assert!(paths.contains(&(PathKind::Direct, PathState::Active)), "{paths:?}");
        assert!(paths.contains(&(PathKind::Relay, PathState::Standby)), "{paths:?}");
    }
}

#[test]
fn a_relay_reads_nothing_and_policy_still_keeps_it_out() {
    let Site { mut world, connector, names, .. } = site(2, &["here.one", "there.two"]);
    world.send(&names[0], &names[1], 7);
    world.run_for(seconds(1));
    assert_eq!(world.numbers(&names[1]), [7]);
    world.send(&names[0], &connector, 8);
    world.send(&connector, &names[0], 9);
    world.run_for(seconds(5));
    assert_eq!(
        (world.numbers(&connector), world.numbers(&names[0])),
        (vec![], vec![]),
        "it is in no community with them"
    );
    let stranger = world.host(&names[0]).events.iter().any(|(_, event)| matches!(event, Event::Unreachable { .. }));
    assert!(!stranger);
}

#[test]
fn a_peer_that_is_not_at_the_relay_is_unreachable_and_reached_when_it_is() {
    let mut site = site(3, &["hub.one", "hub.two"]);
    let names = site.names.clone();
    site.world.kill(&names[1]);
    site.world.run_for(seconds(1));
    site.world.send(&names[0], &names[1], 1);
    site.world.run_for(seconds(10));
    site.start(&names[1]);
    site.world.run_for(seconds(2));
    site.world.send(&names[0], &names[1], 2);
    site.world.run_for(seconds(8));
    assert!(site.world.numbers(&names[1]).contains(&2));
}

#[test]
fn a_relay_that_restarts_is_asked_again() {
    let mut site = site(4, &["hub.one", "hub.two"]);
    let (names, connector) = (site.names.clone(), site.connector.clone());
    site.world.send(&names[0], &names[1], 1);
    site.world.run_for(seconds(200));
    site.start(&connector);
    site.world.run_for(seconds(30));
    site.world.send(&names[0], &names[1], 2);
    site.world.run_for(seconds(8));
    assert!(site.world.numbers(&names[1]).contains(&2));
}

#[test]
fn traffic_goes_on_within_seconds_when_the_only_relay_has_restarted() {
    for down in [0, 1, 4] {
        let mut world = World::new(5, Link::GOOD);
        world.keepalive = Some(seconds(25));
        let hub = world.add_endpoint("hub.connector", Kind::Connector);
        let edge = |number: u8| {
            let site = world.add_site(SitePlan::behind(NatPlan::SYMMETRIC));
            let home = Interface { site, address: ([192, 168, number, 10], 6374).into() };
            world.add_endpoint_at(&format!("hub.edge{number}"), Kind::Edge, &[home])
        };
        let names: Vec<EndpointName> = (1..=2).map(edge).collect();
        world.add_community("all", &names);
        world.start_all();
        for name in names.iter().chain([&hub]) {
            world.step(name);
        }
        let talk = |world: &mut World, numbers: std::ops::Range<u64>| {
            for number in numbers {
                world.send(&names[0], &names[1], number);
                world.send(&names[1], &names[0], number);
                world.run_for(Duration::from_millis(250));
            }
        };
        world.run_for(seconds(2));
        talk(&mut world, 0..80);
        assert!(world.numbers(&names[1]).contains(&79), "relayed");
        world.kill(&hub);
        talk(&mut world, 80..80 + 4 * down);
        world.start(&hub);
        talk(&mut world, 100..120);
        for name in &names {
            let back = world.numbers(name).into_iter().find(|number| *number >= 100);
            assert!(back.is_some_and(|number| number < 116), "{name}, relay down for {down} s: {back:?}");
        }
    }
}

#[test]
fn an_edge_that_comes_out_elsewhere_is_reached_through_the_relay_before_its_dead_path_is_given_up() {
    let mut world = World::new(6, Link::GOOD);
    world.keepalive = Some(seconds(25));
    let hub = world.add_endpoint("hub.connector", Kind::Connector);
    let strict = NatPlan { filtering: Behaviour::AddressAndPortDependent, ..NatPlan::HOME };
    let sites = [strict, strict, NatPlan::SYMMETRIC].map(|nat| world.add_site(SitePlan::behind(nat)));
    let home =
        |number: u8| Interface { site: sites[usize::from(number)], address: ([192, 168, number, 10], 6374).into() };
    let names = [0, 1].map(|number| world.add_endpoint_at(&format!("hub.edge{number}"), Kind::Edge, &[home(number)]));
    world.add_community("all", &names);
    world.start_all();
    for name in names.iter().chain([&hub]) {
        world.step(name);
    }
    let talk = |world: &mut World, numbers: std::ops::Range<u64>| {
        for number in numbers {
            world.send(&names[0], &names[1], number);
            world.send(&names[1], &names[0], number);
            world.run_for(Duration::from_millis(50));
        }
    };
    world.run_for(seconds(2));
    talk(&mut world, 0..400);
    assert!(kinds(&mut world, &names[0], &names[1]).contains(&(PathKind::Direct, PathState::Active)));
    let now = world.now();
    world.host(&names[0]).interfaces = vec![home(2)];
    world.host(&names[0]).node.handle_links(&[home(2).address.ip()], now);
    world.step(&names[0]);
    talk(&mut world, 1_000..1_100);
    for name in &names {
        let back = world.numbers(name).into_iter().find(|number| *number >= 1_000).map(|number| (number - 1_000) * 50);
        assert!(back.is_some_and(|millis| millis <= 2_000), "{name}: {back:?} ms");
    }
}
