//! Inner packets and super-packets as a kernel hands them over.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader};
use proto::packet::{Gso, Offload};

use crate::input::Input;
use crate::oracle;

/// A packet or super-packet, and what is left undone in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// From the IP header on.
    pub packet: Vec<u8>,
    /// What is left undone.
    pub offload: Offload,
}

/// Packets with the same addresses and ports.
#[derive(Clone, Debug)]
pub struct Flow {
    source: IpAddr,
    destination: IpAddr,
    protocol: IpNumber,
    id: u16,
    dont_fragment: bool,
    ip_options: Vec<u8>,
    hop_limit: u8,
    sequence: u32,
    tcp_options: Vec<u8>,
    port: u16,
    /// Payload of a single UDP datagram, in bytes: equal ones may be merged.
    size: usize,
}

/// Segment sizes worth meeting: the least, odd ones, the usual ones, and one that makes segments of a jumbo frame.
const SIZES: [usize; 8] = [1, 7, 33, 100, 536, 1337, 1360, 8_907];

/// Most payload of one packet: 65,535 bytes less the longest headers.
const MAX_PAYLOAD: usize = 65_535 - 120;

const FIN: u8 = 1;
const PSH: u8 = 8;
const ACK: u8 = 16;
const CWR: u8 = 128;

impl Flow {
    /// A flow of `from` to `to`, hosts' numbers in the addressing of the [`rig`](crate::rig).
    pub fn draw(input: &mut Input<'_>, from: u8, to: u8) -> Self {
        let is_v6 = input.one_in(2);
        let address = |host| if is_v6 { crate::rig::address_v6(host) } else { crate::rig::address_v4(host) };
        let protocol = input.pick(&[IpNumber::TCP, IpNumber::UDP, IpNumber::TCP, IpNumber::UDP, IpNumber::ICMP]);
        let tcp_options =
            [vec![], vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], vec![1; 40], vec![1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9]];
        Self {
            source: address(from),
            destination: address(to),
            protocol,
            // Near the wrap as often as not.
            id: input.pick(&[0, 0xfff0, 0xffff]) | u16::from(input.byte() & 15),
            dont_fragment: !input.one_in(3),
            ip_options: vec![1; if is_v6 { 0 } else { input.pick(&[0, 0, 0, 4, 40]) }],
            hop_limit: input.byte().max(1),
            sequence: input.pick(&[0, u32::MAX - 5_000, 0x7fff_ff00]) + u32::from(input.byte()),
            tcp_options: tcp_options[input.below(tcp_options.len())].clone(),
            port: input.word(),
            size: input.pick(&SIZES[1..]),
        }
    }

    /// The next packet or super-packet.
    pub fn next(&mut self, input: &mut Input<'_>) -> Unit {
        match self.protocol {
            IpNumber::TCP => self.next_tcp(input),
            IpNumber::UDP => self.next_udp(input),
            _ => {
                let payload = self.payload(input.below(1_400));
                Unit { packet: self.with_ip_header(&payload), offload: Offload::default() }
            }
        }
    }

    fn next_tcp(&mut self, input: &mut Input<'_>) -> Unit {
        let (size, len) = draw_segments(input);
        let flags = match input.below(8) {
            0..=3 => ACK,
            4 => ACK | PSH,
            5 => ACK | PSH | FIN,
            6 => ACK | CWR,
            _ => input.byte(),
        };
        let is_super = !input.one_in(3);
        let payload = self.payload(if is_super { len } else { len.min(1_400) });
        let mut tcp = TcpHeader::new(self.port, 80, self.sequence, 512);
        (tcp.fin, tcp.syn, tcp.rst, tcp.psh) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 8 != 0);
        (tcp.ack, tcp.urg, tcp.ece, tcp.cwr) = (flags & 16 != 0, flags & 32 != 0, flags & 64 != 0, flags & 128 != 0);
        tcp.acknowledgment_number = 77;
        tcp.set_options_raw(&self.tcp_options).expect("whole words");
        let mut l4 = tcp.to_bytes().to_vec();
        l4.extend(&payload);
        self.sequence = self.sequence.wrapping_add(payload.len() as u32);
        self.unit(input, &l4, if is_super { Gso::Tcp } else { Gso::None }, size, payload.len())
    }

    fn next_udp(&mut self, input: &mut Input<'_>) -> Unit {
        let (size, len) = draw_segments(input);
        let is_super = input.one_in(3);
        let payload = self.payload(if is_super { len } else { self.size });
        let length = payload.len() as u16 + 8;
        let udp = UdpHeader { source_port: self.port, destination_port: 53, length, checksum: 0 };
        let mut l4 = udp.to_bytes().to_vec();
        l4.extend(&payload);
        self.unit(input, &l4, if is_super { Gso::Udp } else { Gso::None }, size, payload.len())
    }

    /// Adds the IP header, and the checksum in the state that the kernel may leave it in.
    fn unit(&mut self, input: &mut Input<'_>, l4: &[u8], gso: Gso, size: usize, payload: usize) -> Unit {
        let mut packet = self.with_ip_header(l4);
        let segments = if gso == Gso::None { 1 } else { payload.div_ceil(size).max(1) };
        self.id = self.id.wrapping_add(segments as u16);
        // Most often partial. A super-packet of which no checksum is asked for comes from a UDP sender without one.
        let partial_checksum = !input.one_in(6);
        let at = packet.len() - l4.len() + if self.protocol == IpNumber::TCP { 16 } else { 6 };
        let field = match (partial_checksum, gso) {
            (true, _) => oracle::pseudo_sum(&packet),
            (false, Gso::None) => input.word(),
            (false, Gso::Tcp | Gso::Udp) => 0,
        };
        packet[at..at + 2].copy_from_slice(&field.to_be_bytes());
        let segment_size = if gso == Gso::None { 0 } else { size as u16 };
        Unit { packet, offload: Offload { gso, segment_size, partial_checksum } }
    }

    fn with_ip_header(&self, l4: &[u8]) -> Vec<u8> {
        let mut packet = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip =
                    Ipv4Header::new(0, self.hop_limit, self.protocol, source.octets(), destination.octets()).unwrap();
                (ip.identification, ip.dont_fragment) = (self.id, self.dont_fragment);
                ip.options = self.ip_options.as_slice().try_into().expect("whole words");
                ip.set_payload_len(l4.len()).expect("bounded");
                ip.header_checksum = ip.calc_header_checksum();
                ip.to_bytes().to_vec()
            }
            (source, destination) => Ipv6Header {
                flow_label: Ipv6FlowLabel::try_new(self.port.into()).expect("20 bits"),
                payload_length: l4.len() as u16,
                next_header: self.protocol,
                hop_limit: self.hop_limit,
                source: octets_v6(source),
                destination: octets_v6(destination),
                ..Ipv6Header::default()
            }
            .to_bytes()
            .to_vec(),
        };
        packet.extend(l4);
        packet
    }

    /// Bytes that differ from packet to packet.
    fn payload(&self, len: usize) -> Vec<u8> {
        let seed = usize::from(self.id) ^ self.sequence as usize;
        (0..len).map(|at| (at * 31 + at / 251 + seed) as u8).collect()
    }
}

fn octets_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
    }
}

/// A segment size, and the payload of a super-packet whose last segment is full, short, or the only one.
fn draw_segments(input: &mut Input<'_>) -> (usize, usize) {
    let size = if input.one_in(3) { 1 + input.below(1_400) } else { input.pick(&SIZES) };
    let count = if input.one_in(8) { 1 + input.below(200) } else { 1 + input.below(46) };
    let last = if input.one_in(3) { size } else { 1 + input.below(size) };
    (size, (size * (count - 1) + last).min(MAX_PAYLOAD))
}
