//! Floods of forged messages: they cost those who work nothing.

use std::net::SocketAddr;
use std::time::Duration;

use sim::link::Link;
use sim::world::World;

#[test]
fn a_flood_of_control_messages_and_cookies_does_not_keep_a_handshake_out() {
    let (mut world, names) = World::mesh(301, Link::GOOD, 2);
    let (from, attacker) = (world.home(&names[0]), SocketAddr::from(([203, 0, 113, 66], 1)));
    world.send(&names[0], &names[1], 1);
    let initiation = world.wire.last().unwrap().3.clone();
    for (kind, len) in [(5, 40), (3, 56)] {
        for index in 0..300u32 {
            let mut junk = vec![kind, 0, 0, 0];
            junk.extend(index.wrapping_mul(2_654_435_761).to_le_bytes());
            junk.resize(len, 0);
            world.host(&names[1]).deliver(attacker, junk);
        }
    }
    world.host(&names[1]).deliver(from, initiation);
    world.step(&names[1]);
    assert!(world.wire.iter().any(|(.., datagram)| datagram[0] == 2), "the initiation was answered");
}

#[test]
fn a_burst_on_a_new_session_asks_the_core_once() {
    let (mut world, names) = World::mesh(302, Link::GOOD, 3);
    world.send(&names[0], &names[1], 1);
    world.run_for(Duration::from_micros(1500));
    // All of the burst arrives before the core of the receiver has seen that the session is in use.
    let burst = (2..300).map(|n| sim::packets::numbered(world.inner(&names[0]), world.inner(&names[1]), n, 100));
    let burst: Vec<_> = burst.collect();
    world.run_for(Duration::from_micros(500));
    for packet in burst {
        world.host(&names[0]).send_packet(packet);
    }
    let now = world.now();
    let sent = world.host(&names[0]).run(now);
    let from = world.home(&names[0]);
    for sim::host::Sent { datagram, .. } in sent {
        world.host(&names[1]).deliver(from, datagram);
    }
    world.send(&names[2], &names[1], 1);
    let initiation = world.wire.last().unwrap().3.clone();
    let from = world.home(&names[2]);
    world.host(&names[1]).deliver(from, initiation);
    world.step(&names[1]);
    assert_eq!(world.host(&names[1]).node.drops().get(proto::stats::DropReason::PuntFull), 0);
}

#[test]
fn strangers_with_ever_new_keys_do_not_fill_the_log() {
    use proto::event::{Event, Refusal};
    use proto::handshake::{Identity, Initiated, Mac1, Offer};
    use proto::id::{PresharedKey, SecretKey, SessionIndex};
    use proto::wire::{Capabilities, Suites};

    let (mut world, names) = World::mesh(303, Link::GOOD, 2);
    let (to, key, mesh) = (world.home(&names[0]), world.members.endpoints[0].public_key, world.members.mesh);
    for n in 0..100u8 {
        let identity = Identity::new(SecretKey::from_bytes([n + 1; 32]), mesh, PresharedKey::NONE);
        let offer = Offer { suites: Suites::DEFAULT, capabilities: Capabilities::default(), lanes: 1 };
        let (_, mut message) = Initiated::start(&identity, &key, SessionIndex(1), 1, offer, [n; 32]).ok().unwrap();
        Mac1::new(&key).append(&mut message, None);
        world.inject(SocketAddr::from(([203, 0, 113, n], 1)), to, message);
        world.run_for(Duration::from_millis(20));
    }
    let unknown = |event: &Event| matches!(event, Event::Refused { reason: Refusal::UnknownKey(_), .. });
    let said = world.host(&names[0]).events.iter().filter(|(_, event)| unknown(event)).count();
    assert!((1..=16).contains(&said), "{said} events");
}
