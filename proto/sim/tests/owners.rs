//! A subnet behind several connectors: who carries it, how soon another takes over, and when the first one has it back.
#![allow(clippy::unwrap_used, reason = "what the tests share is part of the tests")]

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;
use proto::event::Event;
use proto::id::EndpointName;
use proto::member::Kind;
use proto::owner::Condition;
use proto::route::Target;
use sim::link::Link;
use sim::packets;
use sim::world::World;

const TICK: Duration = Duration::from_millis(100);

fn subnet() -> IpNet {
    "10.50.0.0/16".parse().unwrap()
}

/// Two connectors with one subnet, the first preferred if their priorities are not equal, and edges that may talk to both.
struct Shared {
    world: World,
    connectors: [EndpointName; 2],
    edges: Vec<EndpointName>,
    sent: u64,
}

impl Shared {
    fn new(seed: u64, edges: usize, priorities: [u16; 2]) -> Self {
        let mut world = World::new(seed, Link::GOOD);
        let connectors = ["site.one", "site.two"].map(|name| world.add_endpoint(name, Kind::Connector));
        let edges: Vec<_> = (0..edges).map(|n| world.add_endpoint(&format!("far.edge{n}"), Kind::Edge)).collect();
        let all: Vec<_> = edges.iter().chain(&connectors).cloned().collect();
        world.add_community("all", &all);
        for (endpoint, priority) in world.members.endpoints.iter_mut().zip(priorities) {
            (endpoint.subnets, endpoint.priority) = (vec![subnet()], priority);
        }
        world.start_all();
        Self { world, connectors, edges, sent: 0 }
    }

    /// The first edge sends a packet into the subnet every 100 ms.
    fn send_for(&mut self, duration: Duration) {
        let end = self.world.now() + duration;
        while self.world.now() < end {
            self.sent += 1;
            let source = self.world.inner(&self.edges[0]);
            let packet = packets::numbered(source, "10.50.0.9".parse().unwrap(), self.sent, 100);
            self.world.host(&self.edges[0]).send_packet(packet);
            self.world.step(&self.edges[0].clone());
            self.world.run_for(TICK);
        }
    }

    /// How many of the packets sent after `from` a connector has received.
    fn received(&mut self, connector: usize, from: u64) -> usize {
        let numbers = self.world.numbers(&self.connectors[connector].clone());
        numbers.into_iter().filter(|number| *number > from).count()
    }

    fn chosen(&mut self, edge: usize) -> EndpointName {
        let now = self.world.now();
        let host = self.world.host(&self.edges[edge]);
        let chosen = host.node.shared_prefixes(now)[0].chosen.unwrap();
        host.node.peer_name(chosen).unwrap().clone()
    }

    fn condition(&mut self, connector: usize) -> Condition {
        let (now, id) =
            (self.world.now(), self.world.peer(&self.edges[0].clone(), &self.connectors[connector].clone()));
        let status = self.world.host(&self.edges[0]).node.shared_prefixes(now);
        status[0].owners.iter().find(|owner| owner.peer == id).unwrap().condition
    }
}

#[test]
fn another_connector_takes_over_within_three_seconds_and_gives_back_after_it_has_held() {
    for seed in 0..8 {
        let mut shared = Shared::new(seed, 1, [0, 1]);
        shared.send_for(Duration::from_secs(15));
        assert_eq!((shared.received(0, 0), shared.received(1, 0)), (150, 0), "the preferred one carries all");
        // At any phase of the timers.
        shared.world.run_for(Duration::from_millis(seed * 37));
        let one = shared.connectors[0].clone();
        shared.world.kill(&one);
        let killed = shared.sent;
        shared.send_for(Duration::from_secs(10));
        let lost = (shared.sent - killed) as usize - shared.received(1, killed);
        assert!(lost <= 30, "seed {seed}: {lost} packets of 100 ms each");
        assert!(matches!(shared.condition(0), Condition::Silent(_)));
        shared.world.start(&one);
        shared.world.step(&one);
        let back = shared.sent;
        shared.send_for(Duration::from_secs(5));
        assert_eq!(shared.received(0, back), 0, "seed {seed}: before it has held");
        shared.send_for(Duration::from_secs(10));
        let (first, second) = (shared.received(0, back), shared.received(1, back));
        assert!(first >= 30, "seed {seed}: {first} after it has held");
        assert_eq!(first + second, 150, "seed {seed}: the way back loses nothing");
        let edge = shared.edges[0].clone();
        let events = &shared.world.host(&edge).events;
        let changes = events.iter().filter(|(_, event)| matches!(event, Event::OwnerChanged { .. })).count();
        assert_eq!(changes, 2, "seed {seed}: there and back");
    }
}

#[test]
fn a_connector_that_lost_its_way_into_the_subnet_is_left_at_once_though_it_lives() {
    let mut shared = Shared::new(20, 1, [0, 1]);
    shared.send_for(Duration::from_secs(12));
    let (one, now) = (shared.connectors[0].clone(), shared.world.now());
    shared.world.host(&one).node.handle_reach(BTreeSet::from([subnet()]), now);
    shared.world.step(&one);
    shared.world.run_for(TICK);
    let withdrawn = shared.sent;
    shared.send_for(Duration::from_secs(5));
    assert_eq!((shared.received(0, withdrawn), shared.received(1, withdrawn)), (0, 50));
    assert!(matches!(shared.condition(0), Condition::Unreached(_)));
    let now = shared.world.now();
    shared.world.host(&one).node.handle_reach(BTreeSet::new(), now);
    shared.world.step(&one);
    let back = shared.sent;
    shared.send_for(Duration::from_millis(4_900));
    assert_eq!(shared.received(0, back), 0, "before it has held");
    shared.send_for(Duration::from_secs(2));
    assert!(shared.received(0, back) >= 15, "after it has held");
}

#[test]
fn a_connector_that_stops_hands_over_at_once() {
    let mut shared = Shared::new(26, 1, [0, 1]);
    shared.send_for(Duration::from_secs(12));
    let (one, now) = (shared.connectors[0].clone(), shared.world.now());
    shared.world.host(&one).node.handle_shutdown(now);
    shared.world.step(&one);
    shared.world.run_for(TICK);
    shared.world.kill(&one);
    let stopped = shared.sent;
    shared.send_for(Duration::from_secs(5));
    assert_eq!(shared.received(1, stopped), 50, "nothing is lost");
}

#[test]
fn what_a_connector_reaches_is_asked_when_a_session_begins() {
    let mut shared = Shared::new(21, 1, [0, 1]);
    let (one, now) = (shared.connectors[0].clone(), shared.world.now());
    shared.world.host(&one).node.handle_reach(BTreeSet::from([subnet()]), now);
    shared.send_for(Duration::from_secs(1));
    assert!(shared.received(1, 0) >= 9, "all but the first, which may be on its way before the answer");
}

#[test]
fn the_first_packet_is_not_lost_where_the_preferred_connector_is_away() {
    let mut shared = Shared::new(22, 1, [0, 1]);
    let one = shared.connectors[0].clone();
    shared.world.kill(&one);
    shared.send_for(Duration::from_millis(100));
    shared.world.run_for(Duration::from_secs(3));
    assert_eq!(shared.received(1, 0), 1);
}

#[test]
fn edges_spread_over_connectors_of_equal_priority_and_stay() {
    let mut shared = Shared::new(23, 40, [3, 3]);
    let chosen: Vec<_> = (0..40).map(|edge| shared.chosen(edge)).collect();
    let first = chosen.iter().filter(|name| **name == shared.connectors[0]).count();
    assert!((10..=30).contains(&first), "{first} of 40");
    shared.world.start_all();
    assert_eq!((0..40).map(|edge| shared.chosen(edge)).collect::<Vec<_>>(), chosen);
}

#[test]
fn packets_out_of_the_subnet_are_taken_from_either_connector_and_none_goes_from_one_to_the_other() {
    let mut shared = Shared::new(24, 1, [0, 1]);
    let inside = "10.50.0.9".parse().unwrap();
    let edge = shared.edges[0].clone();
    for (number, connector) in (1..).zip(shared.connectors.clone()) {
        assert_eq!(shared.world.host(&connector).node.route(inside), Some(Target::Local));
        let packet = packets::numbered(inside, shared.world.inner(&edge), number, 100);
        shared.world.host(&connector).send_packet(packet);
        shared.world.step(&connector);
    }
    shared.world.run_for(Duration::from_secs(1));
    assert_eq!(shared.world.numbers(&edge), [1, 2]);
}

#[test]
fn an_owner_that_policy_denies_is_no_choice() {
    let mut shared = Shared::new(25, 1, [0, 1]);
    let one = shared.connectors[0].clone();
    shared.world.members.communities[0].members.retain(|name| *name != one);
    shared.world.start_all();
    shared.send_for(Duration::from_secs(1));
    assert_eq!((shared.received(0, 0), shared.received(1, 0)), (0, 10));
    assert_eq!(shared.condition(0), Condition::Denied);
}
