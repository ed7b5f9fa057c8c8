//! Tracing: what is told of packets, and that being watched changes nothing for them.

use std::num::NonZeroU64;
use std::sync::Mutex;

use super::*;
use crate::data::trace::{Direction, Fate, Trace, TraceFilter, TraceProtocol, TraceSink, Traced, Verdict};

type Seen = Arc<Mutex<Vec<Traced>>>;

struct Notebook(Seen);

impl TraceSink for Notebook {
    fn take(&self, traced: Traced) {
        self.0.lock().unwrap().push(traced);
    }
}

impl Side {
    fn trace(&self, filter: TraceFilter, snap: usize) -> Seen {
        let seen = Seen::default();
        self.worker.published.trace().set(Some(Arc::new(Trace::new(filter, snap, Box::new(Notebook(seen.clone()))))));
        seen
    }
}

fn told(seen: &Seen) -> Vec<Traced> {
    std::mem::take(&mut seen.lock().unwrap())
}

fn verdicts(seen: &Seen) -> Vec<Verdict> {
    told(seen).iter().map(|traced| traced.verdict).collect()
}

#[test]
fn a_packet_is_told_at_both_ends_with_its_peer_session_counter_and_path() {
    let (mut alice, mut bob, mut network) = (Side::alice(1), Side::peer(1), Network::default());
    let (sent, received) = (alice.trace(TraceFilter::default(), 128), bob.trace(TraceFilter::default(), 30));
    let packet = udp(1, false, 7, b"hello");
    alice.send(vec![(packet.clone(), PARTIAL), (packet.clone(), PARTIAL)], &mut network);
    bob.receive(network.messages_to(1));
    let expected = |direction, verdict, counter, peer| Traced {
        packet: packet.clone().into(),
        peer: Some(PeerId(peer)),
        counter: Some(counter),
        ..Traced::new(direction, verdict, packet.len())
    };
    let sent = told(&sent);
    let of_alice = |counter| Traced {
        session: Some(SessionIndex(2)),
        path: Some(remote(1).into()),
        segments: 1,
        ..expected(Direction::Out, Verdict::Sent, counter, 1)
    };
    assert_eq!(sent, [of_alice(0), of_alice(1)]);
    for (counter, traced) in (0..).zip(told(&received)) {
        let whole = Traced { packet: packet.clone().into(), ..traced.clone() };
        let session = Some(SessionIndex(3));
        let path = Some(remote(ALICE).into());
        let expected = expected(Direction::In, Verdict::Delivered, counter, ALICE);
        assert_eq!(whole, Traced { session, path, ..expected });
        assert_eq!(traced.packet.len(), 30, "no more than asked for is copied");
    }
}

#[test]
fn a_super_packet_is_told_once_with_the_datagrams_that_it_became() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let seen = alice.trace(TraceFilter::default(), 128);
    let (packet, offload) = tcp(1, 0, 40);
    let len = packet.len();
    alice.send(vec![(packet, offload)], &mut network);
    let told = told(&seen);
    assert_eq!((told.len(), told[0].segments, told[0].len, told[0].packet.len()), (1, 40, len, 128));
}

#[test]
fn what_goes_no_further_is_told_with_its_reason() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let drops = TraceFilter { fate: Fate::Dropped, ..TraceFilter::default() };
    let seen = alice.trace(drops.clone(), 128);
    network.script = [Answer::Drops].into();
    alice.send(vec![(udp(1, false, 7, b"unlucky"), PARTIAL)], &mut network);
    alice.send(vec![(udp(9, false, 7, b"for nobody"), PARTIAL), (vec![0; 40], PARTIAL)], &mut network);
    let reasons = [DropReason::SendFailed, DropReason::NoRoute, DropReason::MalformedPacket];
    assert_eq!(verdicts(&seen), reasons.map(Verdict::Dropped));

    let (mut bob, mut alice) = (Side::peer(1), Side::alice(1));
    let seen = bob.trace(drops, 128);
    let mut network = Network::default();
    alice.send(vec![(udp(1, false, 7, b"hello"), PARTIAL)], &mut network);
    let messages = network.messages_to(1);
    let (mut forged, mut unknown) = (messages.clone(), messages.clone());
    forged[0].0[20] ^= 1;
    unknown[0].0[4] ^= 0x80;
    for messages in [messages.clone(), messages, forged, unknown, vec![(vec![99; 50], 50)]] {
        bob.receive(messages);
    }
    let told = told(&seen);
    let reasons: Vec<_> = told.iter().map(|traced| traced.verdict).collect();
    let expected = [DropReason::Replayed, DropReason::Replayed, DropReason::UnknownSession, DropReason::UnknownType];
    assert_eq!(reasons, expected.map(Verdict::Dropped));
    assert!(told.iter().all(|traced| traced.path == Some(remote(ALICE).into()) && traced.packet.is_empty()));
}

#[test]
fn a_packet_without_a_session_is_told_as_handed_over() {
    let mut table = table(ALICE, [1]);
    table.set_peer(PeerId(1), None);
    let (mut alice, mut network) = (Side::new(table), Network::default());
    let seen = alice.trace(TraceFilter::default(), 128);
    alice.send(vec![(udp(1, false, 7, b"first"), PARTIAL)], &mut network);
    assert_eq!(verdicts(&seen), [Verdict::PuntedNoSession]);
}

#[test]
fn a_filter_keeps_what_meets_all_of_it_and_a_sample_one_of_so_many() {
    let filters = [
        (TraceFilter { peer: Some(PeerId(2)), ..TraceFilter::default() }, 3),
        (TraceFilter { port: Some(1), ..TraceFilter::default() }, 2),
        (TraceFilter { host: Some(IpNet::from(inner(3, true))), ..TraceFilter::default() }, 1),
        (TraceFilter { protocol: Some(TraceProtocol::Icmp), ..TraceFilter::default() }, 0),
        (TraceFilter { peer: Some(PeerId(2)), port: Some(1), ..TraceFilter::default() }, 1),
        (TraceFilter { sample: NonZeroU64::new(4).unwrap(), ..TraceFilter::default() }, 2),
    ];
    for (filter, count) in filters {
        let (mut alice, mut network) = (Side::alice(3), Network::default());
        let seen = alice.trace(filter.clone(), 128);
        let packets = [(1, false, 1), (2, false, 1), (2, true, 2), (2, true, 3), (3, true, 4)];
        let packets = packets.map(|(peer, is_v6, port)| (udp(peer, is_v6, port, b"x"), PARTIAL));
        alice.send(packets.into(), &mut network);
        assert_eq!(told(&seen).len(), count, "{filter:?}");
    }
}

#[test]
fn nothing_is_told_after_the_switch_is_off() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let seen = alice.trace(TraceFilter::default(), 128);
    alice.worker.published.trace().set(None);
    alice.send(vec![(udp(1, false, 7, b"hello"), PARTIAL)], &mut network);
    assert!(told(&seen).is_empty());
}

proptest! {
    #[test]
    fn who_is_watched_sends_and_receives_the_same(
        given in prop::collection::vec(given(), 1..60),
        script in prop::collection::vec(answer(), 0..30),
    ) {
        let run = |is_watched: bool| {
            let (mut alice, mut bob) = (Side::alice(10), Side::peer(1));
            let seen = is_watched.then(|| [&alice, &bob].map(|side| side.trace(TraceFilter::default(), 64)));
            let mut network = Network { script: script.clone().into(), ..Network::default() };
            alice.send(given.iter().map(Given::packet).collect(), &mut network);
            let written = bob.receive(network.messages_to(1));
            let counts = seen.map(|seen| seen.map(|seen| told(&seen).iter().map(|traced| traced.segments.max(1)).sum()));
            (network.sent, written, counts)
        };
        let (sent, written, _) = run(false);
        let (watched_sent, watched_written, counts) = run(true);
        prop_assert_eq!(&sent, &watched_sent);
        prop_assert_eq!(written, watched_written);
        let datagrams = |of: &dyn Fn(SocketAddr) -> bool| -> usize {
            sent.iter().filter(|(to, ..)| of(*to)).map(|(_, bytes, stride)| bytes.len().div_ceil(*stride)).sum()
        };
        prop_assert_eq!(counts, Some([datagrams(&|_| true), datagrams(&|to| to == remote(1))]));
    }
}
