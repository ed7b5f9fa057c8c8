//! A device and a socket in memory, and the packets that go through them.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};

use proto::data::batch::{RecvBatch, RecvMeta, SendBatch};
use proto::data::{Device, DeviceSend, Socket, SocketSend};
use proto::packet::checksum::{write_ipv4_header, write_partial};
use proto::packet::layout::Layout;
use proto::packet::{Gso, Offload, Part};
use proto::path::SocketId;

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

/// That of a single packet of a local socket.
pub(crate) const PARTIAL: Offload = Offload { gso: Gso::None, segment_size: 0, partial_checksum: true };

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

/// A UDP datagram from Alice to `destination`, as a local socket sends it: its checksum is partial.
pub(crate) fn datagram(destination: Ipv4Addr, port: u16, payload: usize) -> Vec<u8> {
    let len = 20 + 8 + payload;
    let mut packet = vec![0; len];
    let fields: [(usize, &[u8]); 7] = [
        (0, &[0x45]),
        (6, &[0x40]),   // do not fragment
        (8, &[64, 17]), // hop limit, UDP
        (12, &ALICE.octets()),
        (16, &destination.octets()),
        (20, &[port.to_be_bytes(), 5_000u16.to_be_bytes()].concat()),
        (24, &(8 + payload as u16).to_be_bytes()),
    ];
    for (offset, bytes) in fields {
        packet.iter_mut().skip(offset).zip(bytes).for_each(|(byte, new)| *byte = *new);
    }
    write_ipv4_header(&mut packet, len as u16);
    let layout = Layout::parse(&packet).expect("a well-formed packet");
    write_partial(&mut packet, &layout, 8 + payload);
    packet
}

/// A device that hands out the same packets after each [`refill`](Self::refill), and counts what it is handed.
#[derive(Default)]
pub(crate) struct MemoryDevice {
    packets: Vec<(Vec<u8>, Offload)>,
    left: usize,
    /// Bytes that the other direction wrote.
    pub(crate) written: usize,
}

impl MemoryDevice {
    pub(crate) fn with(packets: Vec<(Vec<u8>, Offload)>) -> Self {
        Self { packets, ..Self::default() }
    }

    pub(crate) const fn refill(&mut self) {
        self.left = self.packets.len();
    }
}

impl Device for MemoryDevice {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        let index = self.packets.len() - self.left;
        let (packet, offload) = self.packets.get(index)?;
        self.left -= 1;
        buffer.get_mut(..packet.len())?.copy_from_slice(packet);
        Some((packet.len(), *offload))
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
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend {
        for batch in batches {
            black_box(batch.bytes());
            self.sent += batch.count();
            if self.is_keeping {
                self.messages.push_back((batch.bytes().to_vec(), batch.stride()));
            }
        }
        SocketSend::Sent(batches.len())
    }

    fn recv(&mut self, batch: &mut RecvBatch) -> usize {
        let Some((bytes, stride)) = self.messages.pop_front() else { return 0 };
        let start = RecvBatch::slot_start(0);
        if let Some(slot) = batch.memory_mut().get_mut(start..start + bytes.len()) {
            slot.copy_from_slice(&bytes);
        }
        batch.set_filled([RecvMeta { len: bytes.len(), stride, source: self.source, socket: SocketId::MAIN }])
    }
}
