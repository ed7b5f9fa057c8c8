//! Two real workers with a session between them, their devices and sockets in memory.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use proto::data::batch::{MAX_SEND, RECV_SLOTS, RecvBatch, RecvMeta, SLOT_LEN, SendBatch};
use proto::data::{
    Device, DeviceSend, ForwardingTable, PeerRow, Published, SessionRow, Socket, SocketSend, Turn, Worker,
};
use proto::handshake::{Agreement, Keys, Mac1};
use proto::id::{PeerId, PublicKey, SessionIndex};
use proto::packet::{Gso, MAX_SEGMENTS, Offload, Part};
use proto::path::{Fit, SocketId};
use proto::route::{RouteTable, Target};
use proto::session::Session;
use proto::stats::{DropCounters, DropReason};
use proto::time::Instant;
use proto::wire::{Capabilities, Flags, HEADER_LEN, Suite, TAG_LEN};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::oracle;
use crate::traffic::Unit;

/// The number of the end that most often sends.
pub const ALICE: u8 = 1;

/// The number of the end that most often receives.
pub const BOB: u8 = 2;

/// An IPv4 address behind an end.
#[must_use]
pub const fn address_v4(end: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, end, 3, 4))
}

/// An IPv6 address behind an end.
#[must_use]
pub const fn address_v6(end: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0xfd00, end as u16, 0, 0, 0, 0, 0, 1))
}

/// Where an end is in the underlay.
#[must_use]
pub const fn underlay(end: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, end)), 6374)
}

/// A worker, and what it works with.
pub struct End {
    /// What its kernel hands over and is handed.
    pub device: MemoryDevice,
    /// What it sends and receives.
    pub socket: MemorySocket,
    drops: Arc<DropCounters>,
    worker: Worker,
}

/// Two ends. Each can receive what `capabilities` say.
#[must_use]
pub fn pair(capabilities: Capabilities) -> [End; 2] {
    [End::new(ALICE, BOB, capabilities), End::new(BOB, ALICE, capabilities)]
}

/// What an end names the session.
const fn index(end: u8) -> SessionIndex {
    SessionIndex(0x0102_0300 + end as u32)
}

/// The key that an end seals with.
const fn key(end: u8) -> [u8; 32] {
    [end; 32]
}

impl End {
    fn new(own: u8, peer: u8, capabilities: Capabilities) -> Self {
        let keys = Keys { send: Zeroizing::new(key(own)), receive: Zeroizing::new(key(peer)) };
        let agreement = Agreement { keys, suite: Suite::Aes256Gcm, capabilities, lanes: 1 };
        let session = Session::new(PeerId(0), (index(own), index(peer)), &agreement, true).expect("a known suite");
        let mut routes = RouteTable::default();
        for (end, target) in [(own, Target::Local), (peer, Target::Peer(PeerId(0)))] {
            for (address, len) in [(address_v4(end), 16), (address_v6(end), 32)] {
                routes.insert(IpNet::new(address, len).expect("a length").trunc(), target);
            }
        }
        let mut table = ForwardingTable::new(Mac1::new(&PublicKey([own; 32])));
        table.routes = Arc::new(routes);
        let activity = Arc::default();
        let row = PeerRow {
            session: session.clone(),
            next: None,
            remote: underlay(peer).into(),
            spread: None,
            fit: Fit::known(u16::MAX),
            activity,
        };
        table.insert_session(SessionRow { session, activity: Arc::clone(&row.activity) });
        table.set_peer(PeerId(0), Some(row));
        let drops = Arc::<DropCounters>::default();
        let worker = Worker::new(0, Published::new(Arc::new(table)), Arc::clone(&drops));
        Self { device: MemoryDevice::new(own, peer), socket: MemorySocket::default(), drops, worker }
    }

    /// Sends what its device has, and returns it batch by batch.
    pub fn send_all(&mut self) -> Vec<Message> {
        let turn = |end: &mut Self| end.worker.turn_outbound(&mut end.device, &mut end.socket, Instant::default());
        while turn(self) != Turn::Drained {}
        while self.worker.poll_punt().is_some() {}
        std::mem::take(&mut self.socket.sent)
    }

    /// Receives `messages`, and returns what its device was given.
    pub fn receive_all(&mut self, messages: impl IntoIterator<Item = Message>) -> Vec<Unit> {
        self.socket.arrived.extend(messages);
        let turn = |end: &mut Self| end.worker.turn_inbound(&mut end.device, &mut end.socket, Instant::default());
        while turn(self) != Turn::Drained {}
        while self.worker.poll_punt().is_some() {}
        std::mem::take(&mut self.device.written)
    }

    /// What it dropped, and why.
    #[must_use]
    pub fn drops(&self) -> Vec<(DropReason, u64)> {
        self.drops.snapshot()
    }
}

/// A device in memory that judges what it is given.
pub struct MemoryDevice {
    /// What the kernel hands over, in order.
    pub to_read: VecDeque<Unit>,
    /// Kinds of super-packets that it does not take.
    pub refused: Vec<Gso>,
    written: Vec<Unit>,
    own: u8,
    peer: u8,
}

impl MemoryDevice {
    const fn new(own: u8, peer: u8) -> Self {
        Self { to_read: VecDeque::new(), refused: Vec::new(), written: Vec::new(), own, peer }
    }

    /// Whether a packet is from behind the peer and to behind us.
    fn assert_addressed(&self, packet: &[u8]) {
        let (source, destination) = match packet[0] >> 4 {
            4 => (packet[12..14] == [10, self.peer], packet[16..18] == [10, self.own]),
            _ => (packet[8..12] == [0xfd, 0, 0, self.peer], packet[24..28] == [0xfd, 0, 0, self.own]),
        };
        assert!(source && destination, "a packet that is not from the peer to us");
    }
}

impl Device for MemoryDevice {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        let Unit { packet, offload } = self.to_read.pop_front()?;
        buffer[..packet.len()].copy_from_slice(&packet);
        Some((packet.len(), offload))
    }

    fn send(&mut self, memory: &[u8], parts: &[Part], offload: Offload) -> DeviceSend {
        let pieces: Vec<&[u8]> = parts.iter().map(|part| &memory[part.start..part.start + part.len]).collect();
        let packet = pieces.concat();
        oracle::assert_consistent(&pieces, offload);
        self.assert_addressed(&packet);
        if self.refused.contains(&offload.gso) {
            return DeviceSend::Refused;
        }
        self.written.push(Unit { packet, offload });
        DeviceSend::Sent
    }
}

/// What one receive call says of one slot. It may lie.
#[derive(Clone, Debug)]
pub struct Message {
    /// What stands in the slot.
    pub bytes: Vec<u8>,
    /// Bytes that there are said to be.
    pub len: usize,
    /// Bytes from one datagram to the next, as said.
    pub stride: usize,
}

impl Message {
    /// Datagrams of one length, but the last, which may be shorter.
    #[must_use]
    pub fn of(datagrams: &[&[u8]]) -> Self {
        let bytes = datagrams.concat();
        Self { len: bytes.len(), stride: datagrams.first().map_or(1, |first| first.len()), bytes }
    }

    /// The datagrams in it.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.stride)
    }
}

/// A socket in memory.
#[derive(Default)]
pub struct MemorySocket {
    /// Whether the next sends find it full, in order; then it never is.
    pub full: VecDeque<bool>,
    arrived: VecDeque<Message>,
    sent: Vec<Message>,
}

impl Socket for MemorySocket {
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend {
        let Some(batch) = batches.first() else { panic!("a send of nothing") };
        if self.full.pop_front().unwrap_or(false) {
            return SocketSend::Full;
        }
        let datagrams: Vec<&[u8]> = batch.datagrams().collect();
        assert!(batch.bytes().len() <= MAX_SEND && (1..=MAX_SEGMENTS).contains(&datagrams.len()));
        assert_eq!(datagrams.len(), batch.count());
        self.sent.push(Message::of(&datagrams));
        // One at a time, which is allowed, so that each may find the socket full.
        SocketSend::Sent(1)
    }

    fn recv(&mut self, batch: &mut RecvBatch) -> usize {
        let mut metas = Vec::new();
        while metas.len() < RECV_SLOTS
            && let Some(Message { bytes, len, stride }) = self.arrived.pop_front()
        {
            let (start, bytes) = (RecvBatch::slot_start(metas.len()), &bytes[..bytes.len().min(SLOT_LEN)]);
            batch.memory_mut()[start..start + bytes.len()].copy_from_slice(bytes);
            metas.push(RecvMeta { len, stride, source: underlay(ALICE), socket: SocketId::MAIN });
        }
        batch.set_filled(metas)
    }
}

/// Alice's keys in the hands of somebody who does not follow the rules: any header, any counter, any content.
///
/// Seals as `docs/wire.md` says, without the code under test.
pub struct Forger {
    key: LessSafeKey,
}

impl Default for Forger {
    fn default() -> Self {
        Self { key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key(ALICE)).expect("32 bytes")) }
    }
}

impl Forger {
    /// An authentic data datagram from Alice to Bob.
    #[must_use]
    pub fn seal(&self, flags: Flags, lane: u8, sequence: u64, inner: &[u8]) -> Vec<u8> {
        let counter = u64::from(lane) << 56 | sequence & ((1 << 56) - 1);
        let mut datagram = vec![4, flags.0, lane, 0];
        datagram.extend(index(BOB).0.to_le_bytes());
        datagram.extend(counter.to_le_bytes());
        datagram.extend(inner);
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let (header, content) = datagram.split_at_mut(HEADER_LEN);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(&*header), content).expect("short enough");
        datagram.extend(tag.as_ref());
        debug_assert_eq!(datagram.len(), HEADER_LEN + inner.len() + TAG_LEN);
        datagram
    }
}
