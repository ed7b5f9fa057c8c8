//! Asking STUN servers on a clock of the test's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::node::Transmit;
use crate::time::Instant;
use crate::wire::TransactionId;

const START: Instant = Instant::from_nanos(1_000_000_000);

fn server(number: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 3478 + number))
}

fn asking(count: u16) -> (Stun, Arc<Awaited>) {
    let awaited = Arc::<Awaited>::default();
    let mut stun = Stun::new([7; 32], Arc::clone(&awaited));
    let servers: Vec<_> = (0..count).map(server).collect();
    stun.handle_servers(&servers, START);
    (stun, awaited)
}

fn transmits(stun: &mut Stun) -> Vec<Transmit> {
    std::iter::from_fn(|| stun.poll_transmit()).collect()
}

fn id_of(request: &Transmit) -> TransactionId {
    TransactionId(*request.datagram.last_chunk().unwrap())
}

/// An answer to `request` that says 192.0.2.7:8080, in the plain form.
fn answer(request: &Transmit) -> Vec<u8> {
    let mut answer = vec![1, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
    answer.extend(id_of(request).0);
    answer.extend([0, 1, 0, 8, 0, 1, 0x1f, 0x90, 192, 0, 2, 7]);
    answer
}

#[test]
fn a_silent_server_is_asked_seven_times_and_given_up_after_39_5_seconds() {
    let (mut stun, awaited) = asking(1);
    let (mut times, mut requests) = (Vec::new(), Vec::new());
    let mut now = START;
    while let Some(due) = stun.poll_timeout() {
        requests.extend(transmits(&mut stun));
        times.push((now - START).as_millis());
        now = due;
        stun.handle_timeout(now);
    }
    assert_eq!(times, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!((now - START).as_millis(), 39_500);
    assert!(requests.iter().all(|request| *request == requests[0]), "RFC 8489 §6.2.1: the same request");
    assert_eq!(stun.poll_event(), Some(StunEvent::Silent { server: server(0) }));
    assert!(!awaited.has(id_of(&requests[0])));
}

#[test]
fn an_answer_ends_the_asking_and_counts_once() {
    let (mut stun, awaited) = asking(2);
    let requests = transmits(&mut stun);
    assert!(requests.len() == 2 && requests.iter().all(|request| awaited.has(id_of(request))));
    for _ in 0..2 {
        stun.handle_answer(&answer(&requests[0]), server(0));
    }
    let address = "192.0.2.7:8080".parse().unwrap();
    assert_eq!(stun.poll_event(), Some(StunEvent::Reflexive { server: server(0), address }));
    assert_eq!(stun.poll_event(), None);
    assert_eq!([awaited.has(id_of(&requests[0])), awaited.has(id_of(&requests[1]))], [false, true]);
    stun.handle_timeout(START + Duration::from_millis(500));
    assert_eq!(transmits(&mut stun), [requests[1].clone()]);
}

#[test]
fn who_has_not_seen_the_request_or_is_not_the_server_is_not_believed() {
    let (mut stun, _) = asking(2);
    let requests = transmits(&mut stun);
    stun.handle_answer(&answer(&requests[0]), server(1));
    let mut guessed = answer(&requests[0]);
    guessed[19] ^= 1;
    stun.handle_answer(&guessed, server(0));
    stun.handle_answer(&[], server(0));
    assert_eq!(stun.poll_event(), None);
}

#[test]
fn asking_anew_forgets_what_was_asked_before() {
    let (mut stun, awaited) = asking(1);
    let old = transmits(&mut stun);
    stun.handle_servers(&[server(0), server(0)], START);
    let new = transmits(&mut stun);
    assert_eq!(new.len(), 1, "each server once");
    assert!(!awaited.has(id_of(&old[0])) && awaited.has(id_of(&new[0])));
    stun.handle_answer(&answer(&old[0]), server(0));
    assert_eq!(stun.poll_event(), None);
    stun.handle_servers(&[], START);
    assert!(stun.poll_timeout().is_none() && !awaited.has(id_of(&new[0])));
}

#[test]
fn no_more_than_the_bound_is_asked() {
    let (mut stun, awaited) = asking(40);
    let requests = transmits(&mut stun);
    assert_eq!(requests.len(), MAX_SERVERS);
    assert!(requests.iter().all(|request| awaited.has(id_of(request))));
}
