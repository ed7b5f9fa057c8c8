//! The packet functions against `etherparse` and naive models, on generated packets and on arbitrary bytes.

mod arbitrary;
mod checksum;
mod coalesce;
mod icmp;
mod layout;
mod narrow;
mod segment;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetSlice, SlicedPacket, TcpHeader, TransportSlice, UdpHeader,
};
use proptest::prelude::*;

use crate::packet::Part;
use crate::packet::coalesce::Run;
use crate::packet::layout::{Layout, Transport, Version};
use crate::packet::segment::Segments;
use crate::packet::{Gso, Offload};

const SOURCE_V4: [u8; 4] = [10, 1, 2, 3];
const DESTINATION_V4: [u8; 4] = [10, 4, 5, 6];
const SOURCE_V6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const DESTINATION_V6: [u8; 16] = [0xfd, 9, 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const ROUTER_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const ROUTER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));

/// What the sender's kernel hands over.
#[derive(Clone, Debug)]
struct Inner {
    version: Version,
    transport: Transport,
    id: u16,
    sequence: u32,
    flags: u8,
    ip_options: usize,
    tcp_options: Vec<u8>,
    payload: Vec<u8>,
    segment_size: u16,
}

impl Inner {
    fn offload(&self) -> Offload {
        let gso = if self.transport == Transport::Tcp { Gso::Tcp } else { Gso::Udp };
        Offload { gso, segment_size: self.segment_size, partial_checksum: true }
    }

    fn count(&self) -> usize {
        self.payload.len().div_ceil(usize::from(self.segment_size))
    }

    fn transport_header(&self) -> Vec<u8> {
        if self.transport == Transport::Udp {
            let length = 8 + u16::try_from(self.payload.len()).unwrap();
            return UdpHeader { source_port: 4000, destination_port: 53, length, checksum: 0 }.to_bytes().to_vec();
        }
        let mut tcp = TcpHeader::new(4000, 80, self.sequence, 512);
        (tcp.fin, tcp.syn, tcp.rst, tcp.psh) =
            (self.flags & 1 != 0, self.flags & 2 != 0, self.flags & 4 != 0, self.flags & 8 != 0);
        (tcp.ack, tcp.urg, tcp.ece, tcp.cwr) =
            (self.flags & 16 != 0, self.flags & 32 != 0, self.flags & 64 != 0, self.flags & 128 != 0);
        tcp.acknowledgment_number = 77;
        tcp.set_options_raw(&self.tcp_options).unwrap();
        tcp.to_bytes().to_vec()
    }

    fn ip_header(&self, l4_len: usize) -> Vec<u8> {
        let protocol = if self.transport == Transport::Tcp { IpNumber::TCP } else { IpNumber::UDP };
        match self.version {
            Version::V4 => {
                let mut ip = Ipv4Header::new(0, 63, protocol, SOURCE_V4, DESTINATION_V4).unwrap();
                ip.identification = self.id;
                ip.options = vec![1; self.ip_options].as_slice().try_into().unwrap();
                ip.set_payload_len(l4_len).unwrap();
                ip.header_checksum = ip.calc_header_checksum();
                ip.to_bytes().to_vec()
            }
            Version::V6 => Ipv6Header {
                flow_label: Ipv6FlowLabel::try_new(0x12345).unwrap(),
                payload_length: u16::try_from(l4_len).unwrap(),
                next_header: protocol,
                hop_limit: 63,
                source: SOURCE_V6,
                destination: DESTINATION_V6,
                ..Ipv6Header::default()
            }
            .to_bytes()
            .to_vec(),
        }
    }

    /// The packet, its transport checksum partial.
    fn bytes(&self) -> Vec<u8> {
        let mut l4 = self.transport_header();
        l4.extend_from_slice(&self.payload);
        let mut packet = self.ip_header(l4.len());
        let checksum_at = packet.len() + if self.transport == Transport::Tcp { 16 } else { 6 };
        packet.extend_from_slice(&l4);
        let partial = naive_pseudo_sum(&packet, self, l4.len());
        packet[checksum_at..checksum_at + 2].copy_from_slice(&partial.to_be_bytes());
        packet
    }

    fn segments(&self) -> Vec<Vec<u8>> {
        let packet = self.bytes();
        let segments = Segments::new(&packet, &self.offload()).unwrap();
        (0..segments.count()).map(|index| written(&segments, index)).collect()
    }
}

fn written(segments: &Segments<'_>, index: usize) -> Vec<u8> {
    let mut out = vec![0xee; segments.len_of(index)];
    assert!(segments.write(index, &mut out));
    out
}

/// RFC 1071 word by word.
fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

fn naive_pseudo_sum(packet: &[u8], inner: &Inner, l4_len: usize) -> u16 {
    let mut header = match inner.version {
        Version::V4 => packet[12..20].to_vec(),
        Version::V6 => packet[8..40].to_vec(),
    };
    header.extend([0, if inner.transport == Transport::Tcp { 6 } else { 17 }]);
    header.extend(u16::try_from(l4_len).unwrap().to_be_bytes());
    naive_sum(&header)
}

fn a_tcp_packet(payload: usize, segment_size: u16) -> Inner {
    Inner {
        version: Version::V4,
        transport: Transport::Tcp,
        id: 7,
        sequence: 1000,
        flags: 0x10,
        ip_options: 0,
        tcp_options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
        payload: (0..payload).map(|byte| byte as u8).collect(),
        segment_size,
    }
}

fn a_udp_packet(payload: usize, segment_size: u16) -> Inner {
    Inner { transport: Transport::Udp, tcp_options: vec![], ..a_tcp_packet(payload, segment_size) }
}

prop_compose! {
    /// A super-packet of 1..=63 segments. Its TCP flags are those with which segments can be put together again.
    fn inner()(
        is_v6 in any::<bool>(),
        is_tcp in any::<bool>(),
        id in any::<u16>(),
        sequence in any::<u32>(),
        flags in any::<u8>(),
        ip_options in 0usize..=10,
        options in prop_oneof![
            Just(vec![]),
            Just(vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]),
            (0usize..=10).prop_map(|words| vec![1; words * 4]),
        ],
        payload in prop::collection::vec(any::<u8>(), 1..1000),
        segment_size in 16u16..400,
    ) -> Inner {
        Inner {
            version: if is_v6 { Version::V6 } else { Version::V4 },
            transport: if is_tcp { Transport::Tcp } else { Transport::Udp },
            id,
            sequence,
            flags: flags & 0xd9 | 0x10,
            ip_options: if is_v6 { 0 } else { ip_options * 4 },
            tcp_options: if is_tcp { options } else { vec![] },
            payload,
            segment_size,
        }
    }
}

/// The checksum that `etherparse` computes for a packet, and the one that stands in it.
fn checksums(packet: &[u8]) -> (u16, u16) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    match (sliced.net.unwrap(), sliced.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            (tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap(), tcp.checksum())
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            (tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap(), tcp.checksum())
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            (udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).unwrap(), udp.checksum())
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            (udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).unwrap(), udp.checksum())
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    }
}

fn payload_of(packet: &[u8]) -> &[u8] {
    &packet[Layout::parse(packet).unwrap().header_len..]
}

/// Receive memory.
struct Arena {
    memory: Vec<u8>,
    parts: Vec<Part>,
}

impl Arena {
    /// Packets with the gaps that headers and tags leave between them.
    fn of(packets: &[Vec<u8>]) -> Self {
        let mut arena = Self { memory: vec![], parts: vec![] };
        for packet in packets {
            arena.memory.extend([0xaa; 16]);
            arena.parts.push(Part { start: arena.memory.len(), len: packet.len() });
            arena.memory.extend_from_slice(packet);
            arena.memory.extend([0xbb; 16]);
        }
        arena
    }

    /// Feeds all packets to a run that must take them all.
    fn run(&self) -> Run {
        let mut run = Run::new();
        let (first, others) = self.parts.split_first().unwrap();
        run.start(&self.memory, *first, true).unwrap();
        for part in others {
            assert!(run.try_append(&self.memory, *part, true));
        }
        run
    }

    fn gather(&self, parts: &[Part]) -> Vec<u8> {
        parts.iter().flat_map(|part| &self.memory[part.start..part.start + part.len]).copied().collect()
    }
}
