//! What nodes do for each other when the network is kind, and when it is not.

use std::time::Duration;

use proto::event::{Disconnect, Event};
use proto::member::Kind;
use proto::peer::PeerState;
use sim::link::Link;
use sim::packets;
use sim::world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn the_first_packet_of_a_flow_arrives_after_one_handshake() {
    let (mut world, names) = World::mesh(1, Link::GOOD, 2);
    world.send(&names[0], &names[1], 7);
    // Initiation, response, packet: three times one millisecond.
    world.run_for(Duration::from_millis(4));
    assert_eq!(world.numbers(&names[1]), [7]);
}

#[test]
fn twenty_nodes_mesh_up_over_radio_links_and_every_pair_talks() {
    let (mut world, names) = World::mesh(2, Link::RADIO, 20);
    for round in 0..6 {
        for (i, from) in names.iter().enumerate() {
            for (j, to) in names.iter().enumerate().filter(|(j, _)| *j != i) {
                world.send(from, to, (round * 10_000 + i * 100 + j) as u64);
            }
        }
        world.run_for(seconds(2));
    }
    for (j, to) in names.iter().enumerate() {
        let got = world.numbers(to);
        for i in (0..names.len()).filter(|i| *i != j) {
            let any = got.iter().any(|number| number % 10_000 == (i * 100 + j) as u64);
            assert!(any, "nothing from {i} reached {j}");
        }
    }
}

#[test]
fn equal_seeds_give_equal_traces_and_other_seeds_other_ones() {
    let trace = |seed| {
        let (mut world, names) = World::mesh(seed, Link::RADIO, 5);
        world.rekey_after = seconds(5);
        for n in 0..40 {
            world.send(&names[n % 5], &names[(n + 1) % 5], n as u64);
            world.run_for(Duration::from_millis(300));
        }
        world.wire
    };
    let first = trace(3);
    assert!(first.len() > 50, "{} datagrams", first.len());
    assert!(first == trace(3));
    assert!(first != trace(4));
}

#[test]
fn rekeying_loses_nothing() {
    let mut world = World::new(5, Link::GOOD);
    world.rekey_after = seconds(2);
    let a = world.add_endpoint("site.edge1", Kind::Edge);
    let b = world.add_endpoint("site.edge2", Kind::Edge);
    world.add_community("all", &[a.clone(), b.clone()]);
    world.start_all();
    for number in 0..2000 {
        world.send(&a, &b, number);
        world.send(&b, &a, number);
        world.run_for(Duration::from_millis(10));
    }
    let all: Vec<u64> = (0..2000).collect();
    assert_eq!(world.numbers(&b), all);
    assert_eq!(world.numbers(&a), all);
    let peer = world.peer(&a, &b);
    let rekeys = world.host(&a).node.peer_status(peer).unwrap().rekeys;
    assert!((7..=11).contains(&rekeys), "{rekeys} rekeys in 20 s");
}

#[test]
fn both_sides_may_begin_at_once() {
    let (mut world, names) = World::mesh(6, Link::GOOD, 2);
    world.send(&names[0], &names[1], 1);
    world.send(&names[1], &names[0], 2);
    world.run_for(seconds(1));
    assert_eq!((world.numbers(&names[1]), world.numbers(&names[0])), (vec![1], vec![2]));
    for number in 10..20 {
        world.send(&names[0], &names[1], number);
        world.send(&names[1], &names[0], number);
        world.run_for(Duration::from_millis(50));
    }
    assert_eq!((world.numbers(&names[1]).len(), world.numbers(&names[0]).len()), (11, 11));
}

#[test]
fn a_restarted_peer_is_back_within_three_seconds() {
    for way in [[0, 1], [1, 0]] {
        let (mut world, names) = World::mesh(7, Link::GOOD, 2);
        let (speaker, restarted) = (&names[way[0]], &names[way[1]]);
        world.send(speaker, restarted, 1);
        world.run_for(seconds(1));
        world.kill(restarted);
        world.start(restarted);
        for number in 100..130 {
            world.send(speaker, restarted, number);
            world.run_for(Duration::from_millis(100));
        }
        world.send(speaker, restarted, 999);
        world.run_for(Duration::from_millis(100));
        assert!(world.numbers(restarted).contains(&999), "way {way:?}");
    }
}

#[test]
fn a_peer_that_restarts_right_after_connecting_and_speaks_first_is_answered_at_once() {
    // Both orders, for the smaller key decides what becomes of crossing handshakes, and this is not one.
    for way in [[0, 1], [1, 0]] {
        let (mut world, names) = World::mesh(15, Link::GOOD, 2);
        let (other, restarted) = (&names[way[0]], &names[way[1]]);
        world.send(other, restarted, 1);
        world.run_for(Duration::from_millis(300));
        world.kill(restarted);
        world.start(restarted);
        world.send(restarted, other, 2);
        world.run_for(Duration::from_millis(10));
        world.send(other, restarted, 3);
        world.run_for(Duration::from_millis(10));
        assert_eq!(world.numbers(other), [2], "way {way:?}");
        assert_eq!(world.numbers(restarted), [3], "way {way:?}");
    }
}

#[test]
fn the_reply_to_a_restarted_peers_first_packet_goes_out_on_its_new_session() {
    let (mut world, names) = World::mesh(16, Link::GOOD, 2);
    let (other, restarted) = (&names[0], &names[1]);
    world.send(other, restarted, 1);
    world.run_for(Duration::from_secs(5));
    world.kill(restarted);
    world.start(restarted);
    world.send(restarted, other, 2);
    // Initiation and response are through; the packet is on its way. Its reply is there the moment that it arrives, before
    // the core has heard of it.
    world.run_for(Duration::from_micros(2500));
    let reply = packets::numbered(world.inner(other), world.inner(restarted), 3, 100);
    world.host(other).send_packet(reply);
    world.run_for(Duration::from_millis(2));
    assert_eq!(world.numbers(other), [2]);
    assert_eq!(world.numbers(restarted), [3]);
}

#[test]
fn a_peer_that_moves_is_found_again_whoever_speaks() {
    for way in [[0, 1], [1, 0]] {
        let (mut world, names) = World::mesh(8, Link::GOOD, 2);
        world.send(&names[0], &names[1], 1);
        world.run_for(seconds(1));
        let elsewhere = "203.0.113.9:5555".parse().unwrap();
        world.roam(&names[0], elsewhere);
        for number in 100..130 {
            world.send(&names[way[0]], &names[way[1]], number);
            world.run_for(Duration::from_millis(100));
        }
        assert!(world.numbers(&names[way[1]]).contains(&129), "way {way:?}");
        let peer = world.peer(&names[1], &names[0]);
        assert_eq!(world.host(&names[1]).node.peer_status(peer).unwrap().path, Some(elsewhere.into()));
    }
}

#[test]
fn an_idle_mesh_is_silent_and_its_sessions_end() {
    let (mut world, names) = World::mesh(9, Link::GOOD, 3);
    world.run_for(seconds(600));
    assert!(world.wire.is_empty(), "nobody had anything to say");
    world.send(&names[0], &names[1], 1);
    world.run_for(seconds(5));
    let spoken = world.wire.len();
    // A handshake, the packet, a word that it came; and each side asks once whether the path works, and four times what it carries.
    assert!(spoken <= 10 + 2 * 2 * 4, "{spoken} datagrams for one packet");
    world.run_for(seconds(600));
    // One goodbye from each side at most.
    let later: Vec<_> = world.wire[spoken..]
        .iter()
        .map(|(at, from, _, bytes)| (at.as_millis(), *from, bytes[0], bytes.len()))
        .collect();
    assert!(later.len() <= 2, "{later:?}");
    let peer = world.peer(&names[0], &names[1]);
    let host = world.host(&names[0]);
    assert_eq!(host.node.peer_status(peer).unwrap().state, PeerState::Idle);
    assert!(host.node.poll_timeout().is_none(), "an idle node asks for no wake-up");
    let ended = |reason| Event::Disconnected { peer, name: names[1].clone(), reason };
    let (idle, closed) = (ended(Disconnect::Idle), ended(Disconnect::Closed));
    assert!(host.events.iter().any(|(_, event)| *event == idle || *event == closed));
}

#[test]
fn a_peer_that_does_not_answer_is_called_unreachable_and_then_left_alone() {
    let (mut world, names) = World::mesh(10, Link::GOOD, 2);
    world.kill(&names[1]);
    world.send(&names[0], &names[1], 1);
    world.run_for(seconds(8));
    let peer = world.peer(&names[0], &names[1]);
    let host = world.host(&names[0]);
    assert_eq!(host.node.peer_status(peer).unwrap().state, PeerState::Unreachable);
    assert!(host.events.iter().any(|(_, event)| *event == Event::Unreachable { peer }));
    // The application was told by ICMP rather than left to its timeout.
    assert_eq!(host.received.len(), 1);
    assert_eq!(host.received[0][9], 1, "ICMP");
    world.run_for(seconds(200));
    let sent = world.wire.len();
    world.run_for(seconds(600));
    assert_eq!(world.wire.len(), sent, "nobody asks any more");
    // It comes back, and the next packet finds it.
    world.start(&names[1]);
    world.send(&names[0], &names[1], 2);
    world.run_for(seconds(1));
    assert_eq!(world.numbers(&names[1]), [2]);
}

#[test]
fn a_long_cut_heals_by_itself() {
    let (mut world, names) = World::mesh(11, Link::GOOD, 2);
    world.send(&names[0], &names[1], 1);
    world.run_for(seconds(1));
    world.set_cut(&names[1], true);
    for number in 0..300 {
        world.send(&names[0], &names[1], 1000 + number);
        world.run_for(Duration::from_millis(100));
    }
    world.set_cut(&names[1], false);
    for number in 0..60 {
        world.send(&names[0], &names[1], 5000 + number);
        world.run_for(Duration::from_millis(100));
    }
    assert!(world.numbers(&names[1]).contains(&5059));
}

#[test]
fn a_node_that_says_goodbye_is_dropped_at_once() {
    let (mut world, names) = World::mesh(12, Link::GOOD, 2);
    world.send(&names[0], &names[1], 1);
    world.run_for(seconds(1));
    let now = world.now();
    world.host(&names[0]).node.handle_shutdown(now);
    world.step(&names[0]);
    world.kill(&names[0]);
    world.run_for(Duration::from_millis(10));
    let peer = world.peer(&names[1], &names[0]);
    assert_eq!(world.host(&names[1]).node.peer_status(peer).unwrap().state, PeerState::Idle);
}

#[test]
fn a_probe_is_answered_with_its_round_trip_time_also_without_a_session() {
    let (mut world, names) = World::mesh(13, Link::GOOD, 2);
    let peer = world.peer(&names[0], &names[1]);
    let now = world.now();
    for _ in 0..2 {
        let now = world.now();
        world.host(&names[0]).node.probe(peer, now).unwrap();
        world.step(&names[0]);
        world.run_for(Duration::from_millis(50));
    }
    let rtts: Vec<_> = world
        .host(&names[0])
        .events
        .iter()
        .filter_map(|(_, event)| if let Event::ProbeReply { rtt, .. } = event { Some(*rtt) } else { None })
        .collect();
    assert_eq!(rtts, [Duration::from_millis(2); 2], "started at {now:?}");
}

#[test]
fn heavy_loss_delays_but_does_not_stop_a_mesh() {
    let link = Link { loss: 200, delay: Duration::from_millis(300), jitter: Duration::from_millis(30), duplication: 0 };
    let (mut world, names) = World::mesh(14, link, 2);
    for number in 0..600 {
        world.send(&names[0], &names[1], number);
        world.run_for(Duration::from_millis(100));
    }
    let arrived = world.numbers(&names[1]).into_iter().filter(|number| *number >= 100).count();
    // The wire loses a fifth; the mesh must not lose more than a little on top.
    assert!(arrived > 370, "{arrived} of 500");
}
