//! A device and a socket in memory, and the packets that go through them.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use proto::data::batch::{RecvBatch, RecvMeta, SendBatch};
use proto::data::{Device, DeviceSend, Socket, SocketSend};
use proto::packet::checksum::{write_ipv4_header, write_partial};
use proto::packet::layout::Layout;
use proto::packet::{Gso, Offload, Part};

/// Bytes of an inner packet: the tunnel's default MTU.
pub(crate) const MTU: usize = 1420;

/// IPv4 and TCP headers with a timestamp option, as Linux sends them.
pub(crate) const HEADERS: usize = 20 + 32;

/// Payload of one segment.
const SEGMENT: usize = MTU - HEADERS;

/// Segments of a super-packet: as many as one UDP send takes at this MTU.
pub(crate) const SEGMENTS: usize = 45;

/// Bytes of a super-packet: 61,612.
pub(crate) const SUPER_PACKET: usize = HEADERS + SEGMENTS * SEGMENT;

/// The inner addresses.
pub(crate) const ALICE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const BOB: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The offload state that the kernel's TSO leaves a packet in.
pub(crate) const TSO: Offload = Offload { gso: Gso::Tcp, segment_size: SEGMENT as u16, partial_checksum: true };

/// A TCP super-packet from Alice to Bob.
pub(crate) fn super_packet() -> Vec<u8> {
    let mut headers = vec![0; HEADERS];
    let fields: [(usize, &[u8]); 9] = [
        (0, &[0x45]),
        (6, &[0x40]),                    // do not fragment
        (8, &[64, 6]),                   // hop limit, TCP
        (12, &ALICE.octets()),           // source
        (16, &BOB.octets()),             // destination
        (20, &[0x14, 0x51, 0xd4, 0x31]), // ports
        (32, &[0x80, 0x10]),             // 32 bytes of header, ACK
        (34, &[0x01, 0xf6]),             // window
        (40, &[1, 1, 8, 10]),            // no-operation twice, timestamp
    ];
    for (offset, bytes) in fields {
        headers.iter_mut().skip(offset).zip(bytes).for_each(|(byte, new)| *byte = *new);
    }
    let mut packet = headers;
    packet.extend((0..SEGMENTS * SEGMENT).map(|n| (n % 251) as u8));
    write_ipv4_header(&mut packet, SUPER_PACKET as u16);
    let layout = Layout::parse(&packet).expect("a well-formed packet");
    write_partial(&mut packet, &layout, SUPER_PACKET - layout.l4_offset);
    packet
}

/// A device that hands out one super-packet per [`refill`](Self::refill), and counts what it is handed.
#[derive(Default)]
pub(crate) struct MemoryDevice {
    packet: Vec<u8>,
    is_full: bool,
    /// Bytes that the other direction wrote.
    pub(crate) written: usize,
}

impl MemoryDevice {
    pub(crate) fn with(packet: Vec<u8>) -> Self {
        Self { packet, ..Self::default() }
    }

    pub(crate) const fn refill(&mut self) {
        self.is_full = true;
    }
}

impl Device for MemoryDevice {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        if !std::mem::take(&mut self.is_full) {
            return None;
        }
        buffer.get_mut(..self.packet.len())?.copy_from_slice(&self.packet);
        Some((self.packet.len(), TSO))
    }

    fn send(&mut self, memory: &[u8], parts: &[Part], offload: Offload) -> DeviceSend {
        black_box((memory, parts, offload));
        self.written += parts.iter().map(|part| part.len).sum::<usize>();
        DeviceSend::Sent
    }
}

/// A socket that keeps what it is given, if it is told to, and hands it out again as messages of GRO.
pub(crate) struct MemorySocket {
    pub(crate) is_keeping: bool,
    pub(crate) messages: VecDeque<(Vec<u8>, usize)>,
    /// Datagrams that were sent.
    pub(crate) sent: usize,
    pub(crate) source: SocketAddr,
}

impl Socket for MemorySocket {
    fn send(&mut self, batch: &SendBatch) -> SocketSend {
        black_box(batch.bytes());
        self.sent += batch.count();
        if self.is_keeping {
            self.messages.push_back((batch.bytes().to_vec(), batch.stride()));
        }
        SocketSend::Sent
    }

    fn recv(&mut self, batch: &mut RecvBatch) -> usize {
        let Some((bytes, stride)) = self.messages.pop_front() else { return 0 };
        let start = RecvBatch::slot_start(0);
        if let Some(slot) = batch.memory_mut().get_mut(start..start + bytes.len()) {
            slot.copy_from_slice(&bytes);
        }
        batch.set_filled([RecvMeta { len: bytes.len(), stride, source: self.source }])
    }
}
