//! What nodes with different lists of ciphers end on.

use std::time::Duration;

use proto::event::{Event, Refusal};
use proto::handshake::HandshakeError;
use proto::id::EndpointName;
use proto::member::Kind;
use proto::wire::{Suite, Suites};
use sim::link::Link;
use sim::world::World;

/// A world of started edges in one community, each with its own offer.
fn world(seed: u64, offers: &[Suites]) -> (World, Vec<EndpointName>) {
    let mut world = World::new(seed, Link::GOOD);
    let names: Vec<_> = (0..offers.len()).map(|n| world.add_endpoint(&format!("site.edge{n}"), Kind::Edge)).collect();
    world.add_community("all", &names);
    for (name, offer) in names.iter().zip(offers) {
        world.suites = *offer;
        world.start(name);
    }
    (world, names)
}

fn suite(world: &mut World, at: &EndpointName, of: &EndpointName) -> Option<Suite> {
    let peer = world.peer(at, of);
    world.host(at).node.peer_status(peer)?.suite
}

fn opted(suites: &[Suite]) -> Suites {
    Suites::DEFAULT.or(Suites::of(suites))
}

#[test]
fn each_pair_ends_on_the_fastest_cipher_that_both_offer() {
    use Suite::{Aegis128L, Aegis128X2, Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
    let offers = [
        Suites::DEFAULT,
        opted(&[Aegis128X2]),
        opted(&[Aegis128X2, Aegis128L, Aes128Gcm]),
        Suites::of(&[Aegis128L, Aes128Gcm, ChaCha20Poly1305]),
        Suites(Suites::DEFAULT.0 | 0x80),
    ];
    let expected = [
        (0, 1, Aes256Gcm),
        (0, 2, Aes256Gcm),
        (0, 3, ChaCha20Poly1305),
        (0, 4, Aes256Gcm),
        (1, 2, Aegis128X2),
        (1, 3, ChaCha20Poly1305),
        (1, 4, Aes256Gcm),
        (2, 3, Aegis128L),
        (2, 4, Aes256Gcm),
        (3, 4, ChaCha20Poly1305),
    ];
    let (mut world, names) = world(501, &offers);
    for (number, (a, b, _)) in (0..).zip(expected) {
        // Every other pair the other way round: who answers makes no difference.
        let (from, to) = if number % 2 == 0 { (a, b) } else { (b, a) };
        world.send(&names[from], &names[to], number);
        world.run_for(Duration::from_millis(100));
        world.send(&names[to], &names[from], 100 + number);
        world.run_for(Duration::from_millis(100));
        assert!(world.numbers(&names[to]).contains(&number) && world.numbers(&names[from]).contains(&(100 + number)));
    }
    for (a, b, chosen) in expected {
        assert_eq!(suite(&mut world, &names[a], &names[b]), Some(chosen), "{a} with {b}");
        assert_eq!(suite(&mut world, &names[b], &names[a]), Some(chosen), "{b} with {a}");
    }
}

#[test]
fn a_node_that_comes_back_with_another_list_ends_on_another_cipher() {
    let (mut world, names) = world(502, &[opted(&[Suite::Aegis128L]), Suites::DEFAULT]);
    world.send(&names[0], &names[1], 1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(suite(&mut world, &names[0], &names[1]), Some(Suite::Aes256Gcm));
    world.suites = opted(&[Suite::Aegis128L]);
    world.start(&names[1]);
    world.send(&names[1], &names[0], 2);
    world.run_for(Duration::from_secs(1));
    assert_eq!(suite(&mut world, &names[0], &names[1]), Some(Suite::Aegis128L));
    assert_eq!((world.numbers(&names[1]), world.numbers(&names[0])), (vec![], vec![2]));
}

#[test]
fn two_lists_without_a_common_cipher_make_no_session_and_both_are_named() {
    let lists = [Suites::of(&[Suite::Aegis128X2]), Suites::DEFAULT];
    let (mut world, names) = world(503, &lists);
    world.send(&names[0], &names[1], 1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(suite(&mut world, &names[0], &names[1]), None);
    let error = HandshakeError::NoCommonSuite { ours: lists[1], theirs: lists[0] };
    let is_said = |event: &Event| matches!(event, Event::Refused { reason: Refusal::Handshake(e), .. } if *e == error);
    assert!(world.host(&names[1]).events.iter().any(|(_, event)| is_said(event)));
}
