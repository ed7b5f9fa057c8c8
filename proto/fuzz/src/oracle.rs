//! What is right, by `etherparse` and by plain loops over RFC 1071: slow, and written without a look at the fast path.

use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use proto::packet::{Gso, MAX_PACKET, MAX_SEGMENTS, Offload};

/// The packets that a wire carries when the kernel has done what `offload` says is left to do in `packet`.
///
/// # Panics
/// Where `packet` is not what `offload` says.
#[must_use]
pub fn on_the_wire(packet: &[u8], offload: Offload) -> Vec<Vec<u8>> {
    if offload == Offload::default() {
        return vec![packet.to_vec()];
    }
    let (ip, payload) = IpHeaders::from_slice(packet).expect("an IP packet");
    assert!(!payload.fragmented, "a fragment has nothing to finish");
    let size = if offload.gso == Gso::None { MAX_PACKET } else { usize::from(offload.segment_size) };
    match payload.ip_number {
        IpNumber::TCP => {
            assert_ne!(offload.gso, Gso::Udp);
            let (tcp, data) = TcpHeader::from_slice(payload.payload).expect("a TCP header");
            pieces(data, size, |place, piece| tcp_segment(&ip, &tcp, place, size, piece))
        }
        IpNumber::UDP => {
            assert_ne!(offload.gso, Gso::Tcp);
            let (udp, data) = UdpHeader::from_slice(payload.payload).expect("a UDP header");
            assert_eq!(usize::from(udp.length), payload.payload.len(), "the UDP length");
            pieces(data, size, |place, piece| udp_datagram(&ip, &udp, place, piece))
        }
        other => panic!("nothing can be left to finish in {other:?}"),
    }
}

/// Which segment.
#[derive(Clone, Copy)]
struct Place {
    index: usize,
    is_last: bool,
}

fn pieces(data: &[u8], size: usize, make: impl Fn(Place, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let count = data.len().div_ceil(size).max(1);
    let piece = |index: usize| &data[(index * size).min(data.len())..((index + 1) * size).min(data.len())];
    (0..count).map(|index| make(Place { index, is_last: index + 1 == count }, piece(index))).collect()
}

fn tcp_segment(ip: &IpHeaders, tcp: &TcpHeader, place: Place, size: usize, data: &[u8]) -> Vec<u8> {
    let mut tcp = tcp.clone();
    tcp.sequence_number = tcp.sequence_number.wrapping_add((place.index * size) as u32);
    tcp.fin &= place.is_last;
    tcp.psh &= place.is_last;
    tcp.cwr &= place.index == 0;
    let (header, checksum) = match with_length(ip, place, tcp.header_len() + data.len()) {
        Ip::V4(ip) => (ip.to_bytes().to_vec(), tcp.calc_checksum_ipv4(&ip, data)),
        Ip::V6(ip) => (ip.to_bytes().to_vec(), tcp.calc_checksum_ipv6(&ip, data)),
    };
    tcp.checksum = checksum.expect("bounded");
    [header.as_slice(), &tcp.to_bytes(), data].concat()
}

fn udp_datagram(ip: &IpHeaders, udp: &UdpHeader, place: Place, data: &[u8]) -> Vec<u8> {
    let mut udp = udp.clone();
    udp.length = data.len() as u16 + 8;
    let (header, checksum) = match with_length(ip, place, 8 + data.len()) {
        Ip::V4(ip) => (ip.to_bytes().to_vec(), udp.calc_checksum_ipv4(&ip, data)),
        Ip::V6(ip) => (ip.to_bytes().to_vec(), udp.calc_checksum_ipv6(&ip, data)),
    };
    udp.checksum = checksum.expect("bounded");
    [header.as_slice(), &udp.to_bytes(), data].concat()
}

enum Ip {
    V4(Ipv4Header),
    V6(Ipv6Header),
}

/// The IP header of one segment.
fn with_length(ip: &IpHeaders, place: Place, payload: usize) -> Ip {
    match ip {
        IpHeaders::Ipv4(ip, _) => {
            let mut ip = ip.clone();
            ip.identification = ip.identification.wrapping_add(place.index as u16);
            ip.set_payload_len(payload).expect("bounded");
            ip.header_checksum = ip.calc_header_checksum();
            Ip::V4(ip)
        }
        IpHeaders::Ipv6(ip, _) => Ip::V6(Ipv6Header { payload_length: payload as u16, ..ip.clone() }),
    }
}

/// Judges what a device is given in pieces. Whatever a peer sent, it must be one packet whose length fields are right, and a
/// super-packet must be one that the kernel cuts where its pieces meet.
///
/// # Panics
/// Where it is not.
pub fn assert_consistent(pieces: &[&[u8]], offload: Offload) {
    let packet: &[u8] = &pieces.concat();
    assert!(packet.len() <= MAX_PACKET, "{} bytes", packet.len());
    assert_eq!(stated_len(packet), Some(packet.len()), "the IP length");
    if offload == Offload::default() {
        return;
    }
    assert!(offload.partial_checksum, "a super-packet's checksum is left to the kernel");
    let wire = on_the_wire(packet, offload);
    let l4 = l4_offset(packet);
    let (header_len, checksum_at) = match packet[if packet[0] >> 4 == 4 { 9 } else { 6 }] {
        6 => (l4 + usize::from(packet[l4 + 12] >> 4) * 4, l4 + 16),
        _ => (l4 + 8, l4 + 6),
    };
    assert_eq!(packet[checksum_at..checksum_at + 2], pseudo_sum(packet).to_be_bytes(), "the pseudo-header's sum");
    if offload.gso == Gso::None {
        return;
    }
    let size = usize::from(offload.segment_size);
    let (first, last) = (pieces[0].len(), pieces[pieces.len() - 1].len());
    assert_eq!(first, header_len + size, "all headers and the first segment");
    assert!(pieces[1..pieces.len() - 1].iter().all(|piece| piece.len() == size) && (1..=size).contains(&last));
    assert!((2..=MAX_SEGMENTS).contains(&wire.len()), "{} segments", wire.len());
    assert!(packet[0] >> 4 == 6 || naive_sum(&packet[..l4]) == 0xffff, "the IPv4 header's checksum");
}

/// The bytes that the IP header says there are.
fn stated_len(packet: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(usize::from(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?])));
    match packet.first()? >> 4 {
        4 => word(2),
        6 => word(4).map(|len| len + 40),
        _ => None,
    }
}

fn l4_offset(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { usize::from(packet[0] & 15) * 4 } else { 40 }
}

/// What follows the headers of a TCP or UDP packet, whatever its length fields say.
#[must_use]
pub fn payload(packet: &[u8]) -> Option<&[u8]> {
    let (is_v4, l4) = (packet.first()? >> 4 == 4, l4_offset(packet));
    match packet.get(if is_v4 { 9 } else { 6 })? {
        6 => packet.get(l4 + usize::from(packet.get(l4 + 12)? >> 4) * 4..),
        17 => packet.get(l4 + 8..),
        _ => None,
    }
}

/// The folded sum of the pseudo-header of a whole TCP or UDP packet, not complemented.
#[must_use]
pub fn pseudo_sum(packet: &[u8]) -> u16 {
    let is_v4 = packet[0] >> 4 == 4;
    let mut header = if is_v4 { packet[12..20].to_vec() } else { packet[8..40].to_vec() };
    header.extend([0, packet[if is_v4 { 9 } else { 6 }]]);
    header.extend(((packet.len() - l4_offset(packet)) as u16).to_be_bytes());
    naive_sum(&header)
}

/// RFC 1071 word by word.
#[must_use]
pub fn naive_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Sets aside what may change on the way: the ID of a UDP datagram that must not be fragmented means nothing (RFC 6864
/// §4.1), and is numbered anew where datagrams are merged.
#[must_use]
pub fn without_meaningless_id(mut packet: Vec<u8>) -> Vec<u8> {
    if packet.len() >= 20 && packet[0] >> 4 == 4 && packet[9] == 17 && packet[6] & 0x40 != 0 {
        packet[4..6].fill(0);
        packet[10..12].fill(0);
    }
    packet
}
