//! The life of sessions: no storms, no peer cut off, no index given twice.

use std::time::Duration;

use proto::event::Event;
use sim::link::Link;
use sim::world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Initiations on the wire so far.
fn initiations(world: &World) -> usize {
    world.wire.iter().filter(|(.., datagram)| datagram[0] == 1).count()
}

#[test]
fn a_stream_in_one_direction_needs_no_handshake_but_its_first() {
    let (mut world, names) = World::mesh(101, Link::GOOD, 2);
    for number in 0..3000 {
        world.send(&names[0], &names[1], number);
        world.run_for(Duration::from_millis(7));
    }
    assert_eq!(world.numbers(&names[1]).len(), 3000);
    assert_eq!(initiations(&world), 1);
}

#[test]
fn one_lost_packet_costs_no_handshake_for_a_probe_is_answered() {
    let (mut world, names) = World::mesh(102, Link::GOOD, 2);
    world.send(&names[0], &names[1], 1);
    world.run_for(seconds(5));
    world.set_cut(&names[1], true);
    world.send(&names[0], &names[1], 2);
    world.set_cut(&names[1], false);
    world.run_for(seconds(60));
    assert_eq!(initiations(&world), 1);
}

#[test]
fn handshakes_that_are_under_way_at_once_do_not_take_each_others_index() {
    let (mut world, names) = World::mesh(103, Link::GOOD, 40);
    for (number, to) in (0..).zip(&names[1..]) {
        let packet = sim::packets::numbered(world.inner(&names[0]), world.inner(to), number, 100);
        world.host(&names[0]).send_packet(packet);
    }
    world.step(&names[0]);
    world.run_for(seconds(1));
    for (number, from) in (100..).zip(&names[1..]) {
        world.send(from, &names[0], number);
    }
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.numbers(&names[0]), (100..139).collect::<Vec<_>>());
}

#[test]
fn a_session_whose_first_datagram_was_lost_can_still_be_used_later() {
    let (mut world, names) = World::mesh(104, Link::GOOD, 2);
    let (a, b) = (names[0].clone(), names[1].clone());
    let (peer, now) = (world.peer(&a, &b), world.now());
    world.host(&a).node.probe(peer, now).unwrap();
    world.step(&a);
    // Initiation and response pass; the probe that would confirm the session is lost.
    world.run_for(Duration::from_micros(1500));
    world.set_cut(&a, true);
    world.run_for(Duration::from_millis(1));
    world.set_cut(&a, false);
    world.run_for(seconds(15));
    world.send(&a, &b, 2);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.numbers(&b), [2]);
}

#[test]
fn a_network_that_delivers_twice_is_not_told_as_a_refused_handshake() {
    let (mut world, names) = World::mesh(108, Link { duplication: 1000, ..Link::RADIO }, 2);
    world.send(&names[0], &names[1], 1);
    world.run_for(seconds(10));
    let refused = |event: &Event| matches!(event, Event::Refused { .. });
    assert!(!world.host(&names[1]).events.iter().any(|(_, event)| refused(event)));
}
