//! Both sides of the handshake against each other, and what must not pass.

use super::*;
use crate::id::SessionIndex;
use crate::wire::{Initiation, Response};

const OFFER: Offer = Offer {
    suites: Suites::ALL,
    capabilities: Capabilities(Capabilities::COAL.0 | Capabilities::FAST_AES.0),
    lanes: 1,
};

fn identity(secret: u8, mesh: &str, psk: &PresharedKey) -> Identity {
    Identity::new(SecretKey::from_bytes([secret; 32]), MeshId::from_name(mesh), psk.clone())
}

fn initiate(from: &Identity, to: &Identity, offer: Offer) -> (Initiated, Vec<u8>) {
    let (state, mut message) =
        Initiated::start(from, &to.public, SessionIndex(1), 77, offer, [11; 32]).expect("a valid key");
    Mac1::new(&to.public).append(&mut message, None);
    (state, message)
}

fn receive(to: &Identity, message: &[u8]) -> Result<Received, HandshakeError> {
    Received::open(to, &Initiation::parse(message).unwrap(), [22; 32])
}

fn respond(received: Received, to: &Identity, offer: Offer) -> (Agreement, Vec<u8>) {
    let (agreement, mut message) = received.respond(SessionIndex(2), offer).unwrap();
    Mac1::new(&to.public).append(&mut message, None);
    (agreement, message)
}

#[test]
fn both_sides_derive_the_same_keys_crosswise() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let (state, initiation) = initiate(&alice, &bob, OFFER);
    let received = receive(&bob, &initiation).unwrap();
    assert_eq!((received.remote, received.payload.timestamp), (alice.public, 77));
    let (theirs, response) = respond(received, &alice, OFFER);
    let response = Response::parse(&response).unwrap();
    assert_eq!((response.sender, response.receiver), (SessionIndex(2), SessionIndex(1)));
    let ours = state.accept(&response).ok().unwrap();
    assert_eq!(ours.keys.send, theirs.keys.receive);
    assert_eq!(ours.keys.receive, theirs.keys.send);
    assert_ne!(ours.keys.send, ours.keys.receive);
    assert_eq!((ours.suite, theirs.suite), (Suites::AES_256_GCM, Suites::AES_256_GCM));
}

#[test]
fn a_damaged_response_leaves_the_state_ready_for_the_true_one() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let (mut state, initiation) = initiate(&alice, &bob, OFFER);
    let (_, response) = respond(receive(&bob, &initiation).unwrap(), &alice, OFFER);
    for position in [12, 43, 50, 75] {
        let mut damaged = response.clone();
        damaged[position] ^= 1;
        let Err((back, error)) = state.accept(&Response::parse(&damaged).unwrap()) else { panic!("accepted damage") };
        assert_eq!(error, HandshakeError::Crypto);
        state = back;
    }
    assert!(state.accept(&Response::parse(&response).unwrap()).is_ok());
}

#[test]
fn another_mesh_or_another_psk_does_not_decrypt() {
    let psk: PresharedKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".parse().unwrap();
    let alice = identity(1, "lab", &PresharedKey::NONE);
    let (_, initiation) = initiate(&alice, &identity(2, "lab", &PresharedKey::NONE), OFFER);
    assert!(receive(&identity(2, "home", &PresharedKey::NONE), &initiation).is_err(), "mesh");
    // The psk enters in message 2 (psk2), so the initiator is the one to notice.
    let bob = identity(2, "lab", &psk);
    let (state, initiation) = initiate(&alice, &bob, OFFER);
    let (_, response) = respond(receive(&bob, &initiation).unwrap(), &alice, OFFER);
    assert!(state.accept(&Response::parse(&response).unwrap()).is_err(), "psk");
}

#[test]
fn a_bit_flip_anywhere_in_noise_message_1_is_refused() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let (_, initiation) = initiate(&alice, &bob, OFFER);
    for position in (8..120).step_by(7) {
        let mut damaged = initiation.clone();
        damaged[position] ^= 0x10;
        assert!(receive(&bob, &damaged).is_err(), "byte {position}");
    }
}

#[test]
fn the_suite_is_the_fastest_that_both_offer() {
    let offer = |suites, fast: bool| Offer {
        suites,
        capabilities: if fast { Capabilities::FAST_AES } else { Capabilities::default() },
        lanes: 1,
    };
    let choose = |ours: Offer, theirs: Offer| choose_suite(ours, theirs.suites, theirs.capabilities);
    let (all, aes, chacha) = (Suites::ALL, Suites::AES_256_GCM, Suites::CHACHA20_POLY1305);
    assert_eq!(choose(offer(all, true), offer(all, true)), Ok(aes));
    assert_eq!(choose(offer(all, true), offer(all, false)), Ok(chacha));
    assert_eq!(choose(offer(all, false), offer(aes, true)), Ok(aes));
    assert_eq!(choose(offer(chacha, true), offer(all, true)), Ok(chacha));
    assert_eq!(choose(offer(chacha, true), offer(aes, true)), Err(HandshakeError::NoCommonSuite));
}

#[test]
fn equal_seeds_give_equal_messages_and_other_seeds_other_ones() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let start = |seed| Initiated::start(&alice, &bob.public, SessionIndex(1), 1, OFFER, seed).unwrap().1;
    assert_eq!(start([1; 32]), start([1; 32]));
    assert_ne!(start([1; 32]), start([2; 32]));
}
