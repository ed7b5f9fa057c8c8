//! Sealing against opening, and the limits of both.

use zeroize::Zeroizing;

use super::*;
use crate::handshake::Keys;

fn pair(suite: Suite, lanes: u8) -> (Arc<Session>, Arc<Session>) {
    let agreement = |send, receive| Agreement {
        keys: Keys { send: Zeroizing::new([send; 32]), receive: Zeroizing::new([receive; 32]) },
        suite,
        capabilities: Capabilities::default(),
        lanes,
    };
    let (a, b) = (SessionIndex(1), SessionIndex(2));
    let session = |pair, keys| Session::new(PeerId(0), pair, &keys, true).unwrap();
    (session((a, b), agreement(1, 2)), session((b, a), agreement(2, 1)))
}

fn open(session: &Session, datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
    let header = DataHeader::parse(datagram).unwrap();
    let mut bytes = datagram.to_vec();
    let len = session.lane(header.lane).unwrap().open(&header, &mut bytes)?;
    Ok(bytes[HEADER_LEN..HEADER_LEN + len].to_vec())
}

#[test]
fn what_one_side_seals_the_other_opens_once() {
    for suite in Suite::ALL {
        let (alice, bob) = pair(suite, 2);
        for lane in [0, 1, CONTROL_LANE] {
            let mut tx = alice.claim(lane).unwrap();
            for text in ["", "hello"] {
                let datagram = tx.seal_vec(MessageType::Data, Flags::default(), text.as_bytes()).unwrap();
                assert_eq!(open(&bob, &datagram).unwrap(), text.as_bytes());
                assert_eq!(open(&bob, &datagram), Err(OpenError::Replayed));
                assert!(open(&alice, &datagram).is_err(), "the other direction has another key");
            }
        }
    }
}

#[test]
fn every_bit_of_a_datagram_is_authenticated_and_a_forgery_uses_up_no_counter() {
    for suite in Suite::ALL {
        let (alice, bob) = pair(suite, 1);
        let datagram = alice.claim(0).unwrap().seal_vec(MessageType::Data, Flags::COAL, b"payload").unwrap();
        // Byte 0 is the type and bytes 4..8 the index: other values reach another parser or another session. Byte 2 and
        // the counter's top byte must agree before a lane is chosen.
        for position in (1..datagram.len()).filter(|p| ![2, 4, 5, 6, 7, 15].contains(p)) {
            let mut forged = datagram.clone();
            forged[position] ^= 1;
            assert_eq!(open(&bob, &forged), Err(OpenError::Authentication), "{suite:?}, byte {position}");
        }
        assert_eq!(open(&bob, &datagram).unwrap(), b"payload");
    }
}

#[test]
fn a_lane_is_handed_out_once_and_unannounced_lanes_do_not_exist() {
    let (alice, bob) = pair(Suite::Aes256Gcm, 1);
    assert!(alice.claim(0).is_some() && alice.claim(0).is_none());
    assert!(alice.claim(CONTROL_LANE).is_some() && alice.claim(CONTROL_LANE).is_none());
    assert!(bob.lane(1).is_none() && bob.lane(254).is_none());
    assert!(bob.lane(0).is_some() && bob.lane(CONTROL_LANE).is_some());
}

#[test]
fn only_an_authentic_datagram_makes_a_lane_its_window() {
    let (alice, bob) = pair(Suite::Aes256Gcm, MAX_LANES);
    let windows = || bob.windows.iter().filter(|window| window.get().is_some()).count();
    let datagram = alice.claim(3).unwrap().seal_vec(MessageType::Data, Flags::default(), b"x").unwrap();
    let mut forged = datagram.clone();
    forged[HEADER_LEN] ^= 1;
    assert_eq!((open(&bob, &forged), windows()), (Err(OpenError::Authentication), 0));
    assert!(open(&bob, &datagram).is_ok());
    assert_eq!((open(&bob, &datagram), windows()), (Err(OpenError::Replayed), 1));
}

#[test]
fn two_threads_that_take_a_fresh_lane_at_once_accept_its_first_datagram_once() {
    let (alice, bob) = pair(Suite::Aes256Gcm, 1);
    let datagram = alice.claim(0).unwrap().seal_vec(MessageType::Data, Flags::default(), b"x").unwrap();
    let header = DataHeader::parse(&datagram).unwrap();
    let (mut first, mut second) = (bob.lane(0).unwrap(), bob.lane(0).unwrap());
    assert!(first.open(&header, &mut datagram.clone()).is_ok() && first.is_newest(header.counter));
    drop(first);
    assert_eq!(second.open(&header, &mut datagram.clone()), Err(OpenError::Replayed));
}

#[test]
fn a_worn_lane_says_so_and_an_exhausted_one_seals_nothing() {
    let (alice, _) = pair(Suite::Aes256Gcm, 1);
    let mut lane = alice.claim(0).unwrap();
    assert!(!lane.is_worn());
    lane.next = REKEY_AFTER_MESSAGES;
    assert!(lane.is_worn() && lane.seal_vec(MessageType::Data, Flags::default(), b"x").is_ok());
    lane.next = REJECT_AFTER_MESSAGES;
    assert_eq!(lane.seal_vec(MessageType::Data, Flags::default(), b"x"), Err(LaneExhausted));
}

#[test]
fn counters_of_two_lanes_never_meet() {
    let (alice, bob) = pair(Suite::ChaCha20Poly1305, 2);
    let (mut first, mut second) = (alice.claim(0).unwrap(), alice.claim(1).unwrap());
    let counter = |datagram: &[u8]| DataHeader::parse(datagram).unwrap().counter;
    for _ in 0..3 {
        let a = first.seal_vec(MessageType::Data, Flags::default(), b"a").unwrap();
        let b = second.seal_vec(MessageType::Data, Flags::default(), b"b").unwrap();
        assert_ne!(counter(&a), counter(&b));
        assert!(open(&bob, &b).is_ok() && open(&bob, &a).is_ok());
    }
}
