//! What is measured operation by operation.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use proto::data::{ForwardingTable, PeerRow, Published, SessionRow, Turn, Worker};
use proto::handshake::{Agreement, Keys, Mac1};
use proto::id::{PeerId, PublicKey, SessionIndex};
use proto::packet::Part;
use proto::packet::coalesce::Run;
use proto::packet::segment::Segments;
use proto::path::Fit;
use proto::route::{RouteTable, Target};
use proto::session::{AeadKey, AesBackend, ReplayWindow, Session};
use proto::time::Instant;
use proto::wire::{Capabilities, OVERHEAD, Suite};
use zeroize::Zeroizing;

use crate::memory::{
    ALICE, BOB, HEADERS, MTU, MemoryDevice, MemorySocket, PARTIAL, SEGMENTS, SUPER_PACKET, TSO, datagram, super_packet,
};

/// Something to repeat.
pub trait Operation {
    /// Makes ready for one [`run`](Self::run); not part of the measurement.
    fn prepare(&mut self) {}

    /// Does it once.
    fn run(&mut self);
}

/// An operation by name.
pub struct Entry {
    /// Its name in reports.
    pub name: &'static str,
    /// Bytes of inner packets that it works on; zero where its cost does not go by bytes.
    pub bytes: usize,
    /// Whether each run needs its [`Operation::prepare`].
    pub is_prepared: bool,
    /// Sets it up.
    pub make: fn() -> Box<dyn Operation>,
}

/// Prefixes in the table that `route_lookup` asks.
const PREFIXES: u32 = 10_000;

/// Every operation.
#[must_use]
pub fn all() -> Vec<Entry> {
    use AesBackend::{AwsLc, Ring};
    use Suite::{Aegis128L, Aegis128X2, Aes128Gcm, Aes256Gcm, ChaCha20Poly1305};
    let entry = |name, bytes, is_prepared, make| Entry { name, bytes, is_prepared, make };
    vec![
        entry("seal_aes256gcm_ring_1420", MTU, false, || seal(Aes256Gcm, Ring)),
        entry("open_aes256gcm_ring_1420", MTU, true, || open(Aes256Gcm, Ring)),
        entry("seal_aes256gcm_awslc_1420", MTU, false, || seal(Aes256Gcm, AwsLc)),
        entry("open_aes256gcm_awslc_1420", MTU, true, || open(Aes256Gcm, AwsLc)),
        entry("seal_aes128gcm_ring_1420", MTU, false, || seal(Aes128Gcm, Ring)),
        entry("open_aes128gcm_ring_1420", MTU, true, || open(Aes128Gcm, Ring)),
        entry("seal_aes128gcm_awslc_1420", MTU, false, || seal(Aes128Gcm, AwsLc)),
        entry("open_aes128gcm_awslc_1420", MTU, true, || open(Aes128Gcm, AwsLc)),
        entry("seal_chacha20poly1305_1420", MTU, false, || seal(ChaCha20Poly1305, Ring)),
        entry("open_chacha20poly1305_1420", MTU, true, || open(ChaCha20Poly1305, Ring)),
        entry("seal_aegis128l_1420", MTU, false, || seal(Aegis128L, Ring)),
        entry("open_aegis128l_1420", MTU, true, || open(Aegis128L, Ring)),
        entry("seal_aegis128x2_1420", MTU, false, || seal(Aegis128X2, Ring)),
        entry("open_aegis128x2_1420", MTU, true, || open(Aegis128X2, Ring)),
        entry("route_lookup_10000_prefixes", 0, false, || Box::new(Lookup::new())),
        entry("replay_window", 0, false, || Box::<Replay>::default()),
        entry("segment_tso_62k", SUPER_PACKET, false, || Box::new(Segment::new())),
        entry("coalesce_62k", SUPER_PACKET, false, || Box::new(Coalesce::new())),
        entry("turn_outbound_62k", SUPER_PACKET, false, || Box::new(Outbound(Pair::new(false)))),
        entry("turn_outbound_64_small_to_8_peers", bytes_of(&small()), false, || Box::new(Small::new(small()))),
        entry("turn_outbound_64_mixed_to_1_peer", bytes_of(&mixed()), false, || Box::new(Small::new(mixed()))),
        entry("turn_inbound_62k", SUPER_PACKET, true, || Box::new(Inbound(Pair::new(true)))),
    ]
}

fn seal(suite: Suite, backend: AesBackend) -> Box<dyn Operation> {
    Box::new(Seal::new(key(suite, backend)))
}

fn open(suite: Suite, backend: AesBackend) -> Box<dyn Operation> {
    Box::new(Open::new(key(suite, backend)))
}

/// A key, in a library of choice where the suite leaves one.
fn key(suite: Suite, backend: AesBackend) -> AeadKey {
    AeadKey::with_backend(suite, &[7; 32], backend).expect("a key of the right length")
}

/// Seals one datagram.
struct Seal {
    key: AeadKey,
    counter: u64,
    datagram: Vec<u8>,
}

impl Seal {
    fn new(key: AeadKey) -> Self {
        Self { key, counter: 0, datagram: vec![0x5a; MTU + OVERHEAD] }
    }
}

impl Operation for Seal {
    fn run(&mut self) {
        self.counter += 1;
        self.key.seal(self.counter, black_box(&mut self.datagram)).expect("room for header and tag");
    }
}

/// Opens one datagram; the same one each time, so without the replay window.
struct Open {
    key: AeadKey,
    sealed: Vec<u8>,
    datagram: Vec<u8>,
}

impl Open {
    fn new(key: AeadKey) -> Self {
        let mut sealed = vec![0x5a; MTU + OVERHEAD];
        key.seal(1, &mut sealed).expect("room for header and tag");
        Self { key, datagram: sealed.clone(), sealed }
    }
}

impl Operation for Open {
    fn prepare(&mut self) {
        self.datagram.copy_from_slice(&self.sealed);
    }

    fn run(&mut self) {
        black_box(self.key.open(1, black_box(&mut self.datagram))).expect("an authentic datagram");
    }
}

/// Looks up addresses, each in another prefix than the one before.
struct Lookup {
    routes: RouteTable,
    next: u32,
}

impl Lookup {
    fn new() -> Self {
        let mut routes = RouteTable::default();
        fill(&mut routes);
        Self { routes, next: 0 }
    }
}

/// A /24 for each of [`PREFIXES`] peers, from 20.0.0.0 on.
fn fill(routes: &mut RouteTable) {
    for number in 0..PREFIXES {
        routes.insert(IpNet::V4(Ipv4Net::new_assert(address_in(number), 24).trunc()), Target::Peer(PeerId(number)));
    }
}

fn address_in(prefix: u32) -> Ipv4Addr {
    Ipv4Addr::from((20 << 24) | (prefix << 8) | 9)
}

impl Operation for Lookup {
    fn run(&mut self) {
        // A step that is coprime to the number of prefixes visits all of them.
        self.next = (self.next + 7_919) % PREFIXES;
        black_box(self.routes.lookup(IpAddr::V4(address_in(self.next))));
    }
}

/// Checks and marks the next counter.
#[derive(Default)]
struct Replay {
    window: ReplayWindow,
    counter: u64,
}

impl Operation for Replay {
    fn run(&mut self) {
        if black_box(self.window.is_new(black_box(self.counter))) {
            self.window.mark(self.counter);
        }
        self.counter += 1;
    }
}

/// Takes a super-packet apart.
struct Segment {
    packet: Vec<u8>,
    out: Vec<u8>,
}

impl Segment {
    fn new() -> Self {
        Self { packet: super_packet(), out: vec![0; SEGMENTS * MTU] }
    }
}

impl Operation for Segment {
    fn run(&mut self) {
        let segments = Segments::new(black_box(&self.packet), &TSO).expect("a well-formed packet");
        for (index, out) in self.out.chunks_exact_mut(MTU).enumerate() {
            assert!(segments.write(index, out), "{MTU} bytes each");
        }
        black_box(&self.out);
    }
}

/// Puts the segments of a super-packet together again.
struct Coalesce {
    memory: Vec<u8>,
    headers: Vec<u8>,
    run: Run,
}

impl Coalesce {
    fn new() -> Self {
        let mut segment = Segment::new();
        segment.run();
        let headers = segment.out.iter().copied().take(HEADERS).collect();
        Self { memory: segment.out, headers, run: Run::new() }
    }
}

impl Operation for Coalesce {
    fn run(&mut self) {
        // Finishing has patched them.
        self.memory.iter_mut().zip(&self.headers).for_each(|(byte, old)| *byte = *old);
        self.run.start(&self.memory, Part { start: 0, len: MTU }, true).expect("a well-formed packet");
        for index in 1..SEGMENTS {
            let part = Part { start: index * MTU, len: MTU };
            assert!(self.run.try_append(&self.memory, part, true), "segments of one packet");
        }
        black_box(self.run.finish(&mut self.memory));
    }
}

/// Peers that small packets go to.
const PEERS: u32 = 8;

/// 64 small datagrams, each to another peer than the one before.
fn small() -> Vec<Vec<u8>> {
    (0..64).map(|number| datagram(address_in(number % PEERS), 4_000, 64)).collect()
}

/// 64 datagrams of three flows to one peer, each of another size than the one before.
fn mixed() -> Vec<Vec<u8>> {
    [(4_000, 64), (4_001, 1_200), (4_002, 400), (4_001, 1_200)]
        .into_iter()
        .cycle()
        .take(64)
        .map(|(port, payload)| datagram(address_in(0), port, payload))
        .collect()
}

fn bytes_of(packets: &[Vec<u8>]) -> usize {
    packets.iter().map(Vec::len).sum()
}

/// A turn over single datagrams to up to [`PEERS`] peers.
struct Small {
    worker: Worker,
    device: MemoryDevice,
    socket: MemorySocket,
}

impl Small {
    fn new(packets: Vec<Vec<u8>>) -> Self {
        let remote = |number: u32| SocketAddr::from(([192, 0, 2, 1], 6_000 + number as u16));
        let mut table = table(0, ALICE, BOB, remote(0));
        for number in 0..PEERS {
            let row = PeerRow {
                session: session(0),
                next: None,
                remote: remote(number).into(),
                spread: None,
                fit: Fit::known(u16::MAX),
                activity: Arc::default(),
            };
            table.set_peer(PeerId(number), Some(row));
        }
        Self {
            worker: Worker::new(0, Published::new(Arc::new(table)), Arc::default()),
            device: MemoryDevice::with(packets.into_iter().map(|packet| (packet, PARTIAL)).collect()),
            socket: MemorySocket { is_keeping: false, messages: Default::default(), sent: 0, source: remote(0) },
        }
    }
}

impl Operation for Small {
    fn run(&mut self) {
        self.device.refill();
        let turn = self.worker.turn_outbound(&mut self.device, &mut self.socket, Instant::ORIGIN);
        assert_eq!(turn, Turn::Drained, "less than a turn's budget");
    }
}

/// Two workers that share a session: Alice seals what Bob opens.
struct Pair {
    alice: Worker,
    bob: Worker,
    device: MemoryDevice,
    socket: MemorySocket,
}

impl Pair {
    fn new(is_keeping: bool) -> Self {
        let remote = SocketAddr::from(([192, 0, 2, 1], 6374));
        let worker = |side, mine, theirs| {
            let published = Published::new(Arc::new(table(side, mine, theirs, remote)));
            Worker::new(0, published, Arc::default())
        };
        Self {
            alice: worker(0, ALICE, BOB),
            bob: worker(1, BOB, ALICE),
            device: MemoryDevice::with(vec![(super_packet(), TSO)]),
            socket: MemorySocket { is_keeping, messages: Default::default(), sent: 0, source: remote },
        }
    }

    fn outbound(&mut self) {
        self.device.refill();
        let turn = self.alice.turn_outbound(&mut self.device, &mut self.socket, Instant::ORIGIN);
        assert_eq!(turn, Turn::Drained, "one packet at a time");
    }

    fn inbound(&mut self) {
        let turn = self.bob.turn_inbound(&mut self.device, &mut self.socket, Instant::ORIGIN);
        assert_eq!(turn, Turn::Drained, "one message at a time");
    }
}

/// From the device to the socket: route, segment, seal.
struct Outbound(Pair);

impl Operation for Outbound {
    fn run(&mut self) {
        self.0.outbound();
    }
}

/// From the socket to the device: open, check, coalesce; with the copy into the receive slot that the kernel makes.
struct Inbound(Pair);

impl Operation for Inbound {
    fn prepare(&mut self) {
        self.0.socket.messages.clear();
        self.0.outbound();
    }

    fn run(&mut self) {
        self.0.inbound();
    }
}

/// One side's session: side 0 is Alice's.
fn session(side: u8) -> Arc<Session> {
    let key = |direction: u8| Zeroizing::new([direction; 32]);
    let agreement = Agreement {
        keys: Keys { send: key(side), receive: key(1 - side) },
        suite: Suite::Aes256Gcm,
        capabilities: Capabilities(Capabilities::COAL.0 | Capabilities::CSUM_PARTIAL.0),
        lanes: 1,
    };
    let indices = (SessionIndex(u32::from(side)), SessionIndex(u32::from(1 - side)));
    Session::new(PeerId(0), indices, &agreement, true).expect("a known suite")
}

/// A table with many routes and one session.
fn table(side: u8, mine: Ipv4Addr, theirs: Ipv4Addr, remote: SocketAddr) -> ForwardingTable {
    let mut routes = RouteTable::default();
    fill(&mut routes);
    routes.insert(IpNet::V4(mine.into()), Target::Local);
    routes.insert(IpNet::V4(theirs.into()), Target::Peer(PeerId(0)));
    let mut table = ForwardingTable::new(Mac1::new(&PublicKey([0; 32])));
    table.routes = Arc::new(routes);
    let session = session(side);
    table.set_peer(
        PeerId(0),
        Some(PeerRow {
            session: Arc::clone(&session),
            next: None,
            remote: remote.into(),
            spread: None,
            fit: Fit::known(u16::MAX),
            activity: Arc::default(),
        }),
    );
    table.insert_session(SessionRow { session, activity: Arc::default() });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_can_be_repeated() {
        for entry in all() {
            let mut operation = (entry.make)();
            for _ in 0..3 {
                operation.prepare();
                operation.run();
            }
        }
    }

    #[test]
    fn a_super_packet_goes_out_in_segments_and_comes_in_whole() {
        let mut inbound = Inbound(Pair::new(true));
        for round in 1..=3 {
            inbound.prepare();
            inbound.run();
            assert_eq!(inbound.0.socket.sent, round * SEGMENTS);
            assert_eq!(inbound.0.device.written, round * SUPER_PACKET);
        }
    }
}
