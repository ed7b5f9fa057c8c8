//! Whole workers: what goes into one side's device against what goes through the socket and comes out of the other side's.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use ipnet::IpNet;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::batch::{MAX_SEND, RECV_SLOTS, RecvMeta};
use super::*;
use crate::handshake::{Agreement, Keys, Mac1};
use crate::id::{PeerId, PublicKey, SessionIndex};
use crate::nat::Stun;
use crate::packet::layout::Layout;
use crate::packet::{Gso, MAX_SEGMENTS};
use crate::path::{Fit, SocketId};
use crate::route::{RouteTable, Target};
use crate::session::Session;
use crate::stats::DropReason;
use crate::wire::{Capabilities, DataHeader, HEADER_LEN, Suite};

mod trace;

const PARTIAL: Offload = Offload { gso: Gso::None, segment_size: 0, partial_checksum: true };

/// Alice, peer 0 of everybody, and how her peers see her.
const ALICE: u32 = 0;

fn remote(peer: u32) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7_000 + peer as u16))
}

fn inner(peer: u32, is_v6: bool) -> IpAddr {
    let last = 1 + peer as u16;
    if is_v6 { IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]) } else { IpAddr::from([10, 0, 0, last as u8]) }
}

/// Alice's session with a peer, or the peer's with her.
fn session(peer: u32, is_alice: bool) -> Arc<Session> {
    let key = |direction: bool| Zeroizing::new([peer as u8 * 2 + u8::from(direction); 32]);
    let agreement = Agreement {
        keys: Keys { send: key(is_alice), receive: key(!is_alice) },
        suite: Suite::ChaCha20Poly1305,
        capabilities: Capabilities::COAL.and(Capabilities::CSUM_PARTIAL),
        lanes: 1,
    };
    let (alices, peers) = (SessionIndex(2 * peer), SessionIndex(2 * peer + 1));
    let indices = if is_alice { (alices, peers) } else { (peers, alices) };
    Session::new(PeerId(if is_alice { peer } else { ALICE }), indices, &agreement, true).unwrap()
}

/// The table of `own`, with a session with each of `others`.
fn table(own: u32, others: impl IntoIterator<Item = u32>) -> ForwardingTable {
    let mut routes = RouteTable::default();
    let mut table = ForwardingTable::new(Mac1::new(&PublicKey([0; 32])));
    for is_v6 in [false, true] {
        routes.insert(IpNet::from(inner(own, is_v6)), Target::Local);
    }
    for other in others {
        for is_v6 in [false, true] {
            routes.insert(IpNet::from(inner(other, is_v6)), Target::Peer(PeerId(other)));
        }
        let session = session(own.max(other), own == ALICE);
        let row = PeerRow {
            session: Arc::clone(&session),
            next: None,
            remote: remote(other).into(),
            spread: None,
            fit: Fit::known(u16::MAX),
            activity: Arc::default(),
        };
        table.set_peer(PeerId(other), Some(row));
        table.insert_session(SessionRow { session, activity: Arc::default() });
    }
    table.routes = Arc::new(routes);
    table
}

struct Side {
    worker: Worker,
    drops: Arc<DropCounters>,
}

impl Side {
    fn new(table: ForwardingTable) -> Self {
        let drops = Arc::<DropCounters>::default();
        Self { worker: Worker::new(0, Published::new(Arc::new(table)), Arc::clone(&drops)), drops }
    }

    fn alice(peers: u32) -> Self {
        Self::new(table(ALICE, 1..=peers))
    }

    fn peer(peer: u32) -> Self {
        Self::new(table(peer, [ALICE]))
    }

    fn send(&mut self, packets: Vec<(Vec<u8>, Offload)>, socket: &mut Network) {
        self.send_with_pauses(packets.into_iter().map(Some).collect(), socket);
    }

    /// At each `None` the device has nothing more for a moment.
    fn send_with_pauses(&mut self, packets: VecDeque<Option<(Vec<u8>, Offload)>>, socket: &mut Network) {
        let mut device = Packets { to_read: packets, ..Packets::default() };
        while self.worker.turn_outbound(&mut device, socket, Instant::ORIGIN) != Turn::Drained
            || !device.to_read.is_empty()
        {}
    }

    /// What the device is given for `messages` that one receive call finds.
    fn receive(&mut self, messages: Vec<(Vec<u8>, usize)>) -> Vec<(usize, Offload)> {
        let mut socket = Network { to_receive: messages.into(), ..Network::default() };
        let mut device = Packets::default();
        assert_eq!(self.worker.turn_inbound(&mut device, &mut socket, Instant::ORIGIN), Turn::Drained);
        device.written
    }
}

#[derive(Default)]
struct Packets {
    to_read: VecDeque<Option<(Vec<u8>, Offload)>>,
    /// Bytes of each packet written.
    written: Vec<(usize, Offload)>,
}

impl Device for Packets {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        let (packet, offload) = self.to_read.pop_front()??;
        buffer[..packet.len()].copy_from_slice(&packet);
        Some((packet.len(), offload))
    }

    fn send(&mut self, _: &[u8], parts: &[Part], offload: Offload) -> DeviceSend {
        self.written.push((parts.iter().map(|part| part.len).sum(), offload));
        DeviceSend::Sent
    }
}

/// A socket that takes what its script says, and then everything.
#[derive(Default)]
struct Network {
    script: VecDeque<Answer>,
    /// The first batch of a call that was cut off, and how many of its datagrams had gone.
    cut_off: Option<(Vec<u8>, usize)>,
    /// Each message: where it went, its bytes, its stride.
    sent: Vec<(SocketAddr, Vec<u8>, usize)>,
    calls: usize,
    to_receive: VecDeque<(Vec<u8>, usize)>,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Takes at most so many batches.
    Takes(usize),
    /// Takes at most so many datagrams of the first batch one by one, and is full.
    Full(usize),
    /// Loses the first batch.
    Drops,
}

impl Network {
    fn take(&mut self, batch: &SendBatch, from: usize, count: usize) {
        let datagrams = batch.datagrams().skip(from).take(count);
        self.sent.extend(datagrams.map(|datagram| (batch.destination(), datagram.to_vec(), datagram.len())));
    }

    fn messages_to(&self, peer: u32) -> Vec<(Vec<u8>, usize)> {
        let messages = self.sent.iter().filter(|(destination, ..)| *destination == remote(peer));
        messages.map(|(_, bytes, stride)| (bytes.clone(), *stride)).collect()
    }

    fn assert_sound(batch: &SendBatch) {
        let lens: Vec<_> = batch.datagrams().map(<[u8]>::len).collect();
        let (last, others) = lens.split_last().expect("a batch that is not empty");
        assert!(others.iter().all(|len| *len == batch.stride()) && *last <= batch.stride());
        assert!(lens.len() == batch.count() && lens.len() <= MAX_SEGMENTS && batch.bytes().len() <= MAX_SEND);
    }
}

impl Socket for Network {
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend {
        self.calls += 1;
        batches.iter().for_each(Self::assert_sound);
        let first = &batches[0];
        let cut_off = self.cut_off.take();
        if let Some((bytes, _)) = &cut_off {
            assert_eq!(first.bytes(), bytes, "what was cut off comes again, unchanged");
        }
        let from = cut_off.map_or(0, |(_, gone)| gone);
        match self.script.pop_front().unwrap_or(Answer::Takes(usize::MAX)) {
            Answer::Full(count) => {
                let count = count.min(first.count() - from - 1);
                self.take(first, from, count);
                self.cut_off = Some((first.bytes().to_vec(), from + count));
                SocketSend::Full
            }
            Answer::Takes(_) | Answer::Drops if from > 0 => {
                self.take(first, from, usize::MAX);
                SocketSend::Sent(1)
            }
            Answer::Takes(count) => {
                let count = count.clamp(1, batches.len());
                for batch in &batches[..count] {
                    self.sent.push((batch.destination(), batch.bytes().to_vec(), batch.stride()));
                }
                SocketSend::Sent(count)
            }
            Answer::Drops => SocketSend::Dropped,
        }
    }

    fn recv(&mut self, batch: &mut RecvBatch) -> usize {
        let messages: Vec<_> = self.to_receive.drain(..self.to_receive.len().min(RECV_SLOTS)).collect();
        for (slot, (bytes, _)) in messages.iter().enumerate() {
            let start = RecvBatch::slot_start(slot);
            batch.memory_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        let source = remote(ALICE);
        batch.set_filled(messages.iter().map(|(bytes, stride)| RecvMeta {
            len: bytes.len(),
            stride: *stride,
            source,
            socket: SocketId::MAIN,
        }))
    }
}

/// A datagram from Alice to a peer, by a flow that has `port`.
fn udp(peer: u32, is_v6: bool, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (inner(ALICE, is_v6), inner(peer, is_v6)) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        other => panic!("{other:?} are of one family"),
    }
    .udp(port, 53)
    .write(&mut packet, payload)
    .unwrap();
    packet
}

/// A TCP super-packet from Alice to peer 1.
fn tcp(port: u16, sequence: u32, segments: usize) -> (Vec<u8>, Offload) {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (inner(ALICE, false), inner(1, false)) else { panic!("IPv4") };
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(from.octets(), to.octets(), 64).tcp(port, 80, sequence, 500).ack(1);
    builder.write(&mut packet, &vec![7; segments * 1_300]).unwrap();
    (packet, Offload { gso: Gso::Tcp, segment_size: 1_300, partial_checksum: true })
}

#[derive(Clone, Debug)]
struct Given {
    peer: u32,
    port: u16,
    is_v6: bool,
    payload: Vec<u8>,
    segment_size: Option<u16>,
}

impl Given {
    fn packet(&self) -> (Vec<u8>, Offload) {
        let gso = if self.segment_size.is_some() { Gso::Udp } else { Gso::None };
        let segment_size = self.segment_size.unwrap_or(0);
        let packet = udp(self.peer, self.is_v6, self.port, &self.payload);
        (packet, Offload { gso, segment_size, partial_checksum: true })
    }

    fn payloads(&self) -> Vec<&[u8]> {
        self.payload.chunks(self.segment_size.map_or(usize::MAX, usize::from)).collect()
    }
}

prop_compose! {
    /// Few sizes, so that batches grow, and contents by which to know each one.
    fn given()(
        peer in 1u32..=10,
        port in 1u16..4,
        is_v6 in any::<bool>(),
        content in any::<u64>(),
        len in prop_oneof![Just(64), Just(80), Just(1_200), 8usize..1_300],
        segments in prop_oneof![4 => Just(None), 1 => (2usize..100).prop_map(Some)],
    ) -> Given {
        let size = len.min(65_000 / segments.unwrap_or(1));
        let payload = content.to_be_bytes().into_iter().cycle().take(size * segments.unwrap_or(1)).collect();
        Given { peer, port, is_v6, payload, segment_size: segments.map(|_| size as u16) }
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![3 => (1usize..6).prop_map(Answer::Takes), 1 => (0usize..70).prop_map(Answer::Full)]
}

/// Opens all that went out and returns each peer's UDP payloads, in the order of the wire.
fn open_all(network: &Network) -> BTreeMap<u32, Vec<Vec<u8>>> {
    let mut sessions = BTreeMap::new();
    let mut newest = BTreeMap::new();
    let mut payloads = BTreeMap::<u32, Vec<Vec<u8>>>::new();
    for (destination, bytes, stride) in &network.sent {
        let peer = u32::from(destination.port() - 7_000);
        let session = sessions.entry(peer).or_insert_with(|| session(peer, false));
        for datagram in bytes.chunks(*stride) {
            let header = DataHeader::parse(datagram).unwrap();
            assert!(newest.insert(peer, header.counter).is_none_or(|before| before < header.counter), "counters rise");
            let mut datagram = datagram.to_vec();
            let len = session.lane(header.lane).unwrap().open(&header, &mut datagram).unwrap();
            let packet = &datagram[HEADER_LEN..HEADER_LEN + len];
            let layout = Layout::parse(packet).unwrap();
            payloads.entry(peer).or_default().push(packet[layout.header_len..].to_vec());
        }
    }
    payloads
}

proptest! {
    #[test]
    fn every_datagram_goes_once_and_in_order_however_full_the_socket_is(
        given in prop::collection::vec(prop::option::weighted(0.9, given()), 1..100),
        script in prop::collection::vec(answer(), 0..60),
    ) {
        let mut alice = Side::alice(10);
        let mut network = Network { script: script.into(), ..Network::default() };
        alice.send_with_pauses(given.iter().map(|given| given.as_ref().map(Given::packet)).collect(), &mut network);
        let mut expected = BTreeMap::<u32, Vec<Vec<u8>>>::new();
        for given in given.iter().flatten() {
            expected.entry(given.peer).or_default().extend(given.payloads().into_iter().map(<[u8]>::to_vec));
        }
        prop_assert_eq!(open_all(&network), expected);
    }
}

#[test]
fn what_the_network_refuses_is_counted_and_takes_nothing_else_along() {
    let mut alice = Side::alice(8);
    let mut network = Network { script: [Answer::Takes(2), Answer::Drops].into(), ..Network::default() };
    alice.send((0..32).map(|n| (udp(1 + n % 8, false, 1, &[0; 64]), PARTIAL)).collect(), &mut network);
    let counts: Vec<_> = open_all(&network).into_iter().map(|(peer, payloads)| (peer, payloads.len())).collect();
    assert_eq!(counts, [1, 2, 4, 5, 6, 7, 8].map(|peer| (peer, 4)));
    assert_eq!(alice.drops.get(DropReason::SendFailed), 4);
}

#[test]
fn packets_to_eight_peers_in_turn_go_in_one_call() {
    let (mut alice, mut network) = (Side::alice(8), Network::default());
    alice.send((0..64).map(|n| (udp(1 + n % 8, false, 1, &[0; 64]), PARTIAL)).collect(), &mut network);
    assert_eq!((network.calls, network.sent.len()), (1, 8), "a message for each peer");
}

#[test]
fn packets_of_many_sizes_to_one_peer_share_calls() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let sizes = [64, 1_200, 400, 1_200].into_iter().cycle().take(64);
    alice.send(sizes.map(|len| (udp(1, false, 1, &vec![0; len]), PARTIAL)).collect(), &mut network);
    assert_eq!((network.calls, network.sent.len()), (5, 33));
}

#[test]
fn a_super_packet_and_the_acknowledgement_after_it_are_one_message() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let acknowledgement = || (udp(1, false, 9, &[0; 24]), PARTIAL);
    let packets = (0..6).flat_map(|n| [tcp(1, n * 46 * 1_300, 46), acknowledgement()]);
    alice.send(packets.collect(), &mut network);
    assert_eq!((network.calls, network.sent.len()), (6, 6));
}

fn writes(network: &Network) -> Vec<(usize, Offload)> {
    Side::peer(1).receive(network.messages_to(1))
}

#[test]
fn datagrams_of_one_flow_that_were_sent_one_by_one_arrive_as_one_super_packet() {
    for is_v6 in [false, true] {
        let (mut alice, mut network) = (Side::alice(1), Network::default());
        for _ in 0..40 {
            alice.send(vec![(udp(1, is_v6, 1, &[5; 64]), PARTIAL)], &mut network);
        }
        assert_eq!(network.sent.len(), 40, "nothing is held back");
        let headers = if is_v6 { 48 } else { 28 };
        let offload = Offload { gso: Gso::Udp, segment_size: 64, partial_checksum: true };
        assert_eq!(writes(&network), [(headers + 40 * 64, offload)]);
    }
}

#[test]
fn a_shorter_datagram_ends_a_super_packet_and_the_next_begins_one() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let lens = [900, 900, 300, 300, 300, 900, 900, 100];
    alice.send(lens.map(|len| (udp(1, false, 1, &vec![5; len]), PARTIAL)).into(), &mut network);
    let lens: Vec<_> = writes(&network).iter().map(|(len, _)| len - 28).collect();
    assert_eq!(lens, [900 + 900 + 300, 300 + 300, 900 + 900 + 100]);
}

#[test]
fn datagrams_of_different_flows_do_not_join() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let finished = Offload::default();
    let packets = [(1, PARTIAL), (2, PARTIAL), (2, finished), (2, PARTIAL), (2, PARTIAL), (1, PARTIAL)];
    alice.send(packets.map(|(port, offload)| (udp(1, false, port, &[5; 64]), offload)).into(), &mut network);
    assert_eq!(writes(&network).len(), 5, "only the fourth and the fifth");
}

#[test]
fn a_packet_that_waited_for_a_full_socket_does_not_continue_itself() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    // 64 fill a batch, so the next one waits for the socket.
    network.script = [Answer::Full(0), Answer::Full(0)].into();
    let flow = |port, count| (0..count).map(move |_| (udp(1, false, port, &[5; 64]), PARTIAL));
    alice.send(flow(1, 64).chain(flow(2, 2)).collect(), &mut network);
    let offload = Offload { gso: Gso::Udp, segment_size: 64, partial_checksum: true };
    assert_eq!(writes(&network), [(28 + 64 * 64, offload), (28 + 2 * 64, offload)]);
}

#[test]
fn super_packets_of_interleaved_streams_arrive_whole_without_gro() {
    let (mut alice, mut network) = (Side::alice(1), Network::default());
    let packets = (0..3).flat_map(|round| (1..=4).map(move |port| tcp(port, round * 10 * 1_300, 10)));
    alice.send(packets.collect(), &mut network);
    let mut peer = Side::peer(1);
    let datagrams: Vec<_> =
        network.messages_to(1).into_iter().flat_map(|(bytes, stride)| split(&bytes, stride)).collect();
    assert_eq!(datagrams.len(), 120);
    // Two receive calls of up to 64 datagrams: the end of the first cuts one super-packet in two.
    assert_eq!(peer.receive(datagrams).len(), 12 + 1);
}

fn split(bytes: &[u8], stride: usize) -> Vec<(Vec<u8>, usize)> {
    bytes.chunks(stride).map(|datagram| (datagram.to_vec(), datagram.len())).collect()
}

#[test]
fn an_answer_of_a_stun_server_reaches_the_core_only_while_it_is_awaited() {
    let mut alice = Side::alice(1);
    let awaited = Arc::clone(&alice.worker.table.awaited);
    let mut stun = Stun::new([7; 32], awaited);
    let ask = |stun: &mut Stun| {
        stun.handle_servers(&[remote(ALICE)], Instant::ORIGIN);
        stun.poll_transmit().unwrap().datagram
    };
    let answer = |request: &[u8]| [&[1, 1, 0, 0], &request[4..]].concat();
    let (old, new) = (ask(&mut stun), ask(&mut stun));
    let messages = [answer(&old), answer(&new), new.clone()].map(|bytes| (bytes.clone(), bytes.len()));
    assert_eq!(alice.receive(messages.into()), []);
    let punt = alice.worker.poll_punt();
    assert!(
        matches!(punt, Some(Punt::StunAnswer { datagram, source }) if *datagram == *answer(&new) && source == remote(ALICE))
    );
    assert!(alice.worker.poll_punt().is_none());
    assert_eq!(alice.drops.snapshot(), [(DropReason::UnknownType, 1), (DropReason::StunUnexpected, 1)]);
}
