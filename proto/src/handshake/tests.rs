//! Both sides of the handshake against each other, and what must not pass.

use super::*;
use crate::id::SessionIndex;
use crate::wire::{Initiation, Response};

const OFFER: Offer = Offer {
    suites: Suites::DEFAULT,
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
    assert_eq!((ours.suite, theirs.suite), (Suite::Aes256Gcm, Suite::Aes256Gcm));
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

fn offer(suites: &[Suite], fast: bool) -> Offer {
    let capabilities = if fast { Capabilities::FAST_AES } else { Capabilities::default() };
    Offer { suites: Suites::of(suites), capabilities, lanes: 1 }
}

fn choose(ours: Offer, theirs: Offer) -> Result<Suite, HandshakeError> {
    choose_suite(ours, theirs.suites, theirs.capabilities)
}

#[test]
fn the_default_suites_are_chosen_by_what_both_sides_run_fastest() {
    let (aes, chacha) = (Suite::Aes256Gcm, Suite::ChaCha20Poly1305);
    let both = [aes, chacha];
    assert_eq!(Suites::of(&both), Suites::DEFAULT);
    assert_eq!(choose(offer(&both, true), offer(&both, true)), Ok(aes));
    assert_eq!(choose(offer(&both, true), offer(&both, false)), Ok(chacha));
    assert_eq!(choose(offer(&both, false), offer(&[aes], true)), Ok(aes));
    assert_eq!(choose(offer(&[chacha], true), offer(&both, true)), Ok(chacha));
    let error = choose(offer(&[chacha], true), offer(&[aes], true)).unwrap_err();
    assert_eq!(error.to_string(), "no cipher in common: this node offers chacha20-poly1305, the peer aes-256-gcm");
}

/// The order that the format's page promises.
fn order(fast: bool) -> [Suite; 5] {
    use Suite::{Aegis128L, Aegis128X2, Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
    if fast {
        [Aegis128X2, Aegis128L, Aes128Gcm, Aes256Gcm, ChaCha20Poly1305]
    } else {
        [ChaCha20Poly1305, Aegis128X2, Aegis128L, Aes128Gcm, Aes256Gcm]
    }
}

#[test]
fn of_any_two_offers_the_first_common_suite_is_chosen_whoever_answers() {
    for (ours, theirs, fast) in (0..32).flat_map(|a| (0..32).flat_map(move |b| [(a, b, true), (a, b, false)])) {
        let (ours, theirs) =
            (Offer { suites: Suites(ours), ..offer(&[], true) }, Offer { suites: Suites(theirs), ..offer(&[], fast) });
        let expected = order(fast).into_iter().find(|s| ours.suites.contains(*s) && theirs.suites.contains(*s));
        assert_eq!(choose(ours, theirs).ok(), expected, "{} and {}", ours.suites, theirs.suites);
        assert_eq!(choose(theirs, ours).ok(), expected, "{} and {}", theirs.suites, ours.suites);
    }
}

#[test]
fn suites_of_a_newer_version_are_passed_over() {
    let newer = |suites: &[Suite]| Offer { suites: Suites::of(suites).or(Suites(0xe0)), ..offer(&[], true) };
    let both = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
    assert_eq!(choose(offer(&both, true), newer(&both)), Ok(Suite::Aes256Gcm));
    assert!(choose(newer(&both), newer(&[])).is_err(), "what neither can name is not in common");
}

#[test]
fn each_suite_is_agreed_upon_in_a_whole_handshake_with_keys_of_its_own() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let mut keys = Vec::new();
    for suite in Suite::ALL {
        let all = offer(&Suite::ALL, true);
        for (asks, answers) in [(offer(&[suite], true), all), (all, offer(&[suite], true))] {
            let (state, initiation) = initiate(&alice, &bob, asks);
            let (theirs, response) = respond(receive(&bob, &initiation).unwrap(), &alice, answers);
            let ours = state.accept(&Response::parse(&response).unwrap()).ok().unwrap();
            assert_eq!((ours.suite, theirs.suite), (suite, suite));
            assert_eq!((&ours.keys.send, &ours.keys.receive), (&theirs.keys.receive, &theirs.keys.send));
            keys.push((suite, *ours.keys.send));
        }
    }
    // Equal seeds and identities make equal halves of the split: only the suite's label is left to tell keys apart.
    for (at, (suite, key)) in keys.iter().enumerate() {
        assert!(keys[..at].iter().all(|(other, before)| (other == suite) == (before == key)), "{suite:?}");
    }
}

#[test]
fn a_responder_cannot_choose_what_it_was_not_offered() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let (state, initiation) = initiate(&alice, &bob, offer(&[Suite::Aes256Gcm], true));
    let mut received = receive(&bob, &initiation).unwrap();
    received.payload.suites = Suites::of(&Suite::ALL);
    let (_, response) = respond(received, &alice, offer(&[Suite::Aegis128X2], true));
    let Err((_, error)) = state.accept(&Response::parse(&response).unwrap()) else { panic!("accepted") };
    assert_eq!(error, HandshakeError::SuiteNotOffered);
}

#[test]
fn equal_seeds_give_equal_messages_and_other_seeds_other_ones() {
    let (alice, bob) = (identity(1, "lab", &PresharedKey::NONE), identity(2, "lab", &PresharedKey::NONE));
    let start = |seed| Initiated::start(&alice, &bob.public, SessionIndex(1), 1, OFFER, seed).unwrap().1;
    assert_eq!(start([1; 32]), start([1; 32]));
    assert_ne!(start([1; 32]), start([2; 32]));
}
