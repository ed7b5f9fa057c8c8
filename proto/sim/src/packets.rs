//! Inner packets for scenarios: UDP datagrams that carry a number, so that a test can say which of them arrived.

use std::net::IpAddr;

use proto::packet::checksum;
use proto::packet::layout::{Layout, Transport};

/// A UDP datagram from `source` to `destination` (same family) with `number` and zeros up to `payload` bytes (at least 8).
#[must_use]
pub fn numbered(source: IpAddr, destination: IpAddr, number: u64, payload: usize) -> Vec<u8> {
    let udp_len = 8 + payload.max(8);
    let mut packet = match (source, destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (20 + udp_len) as u16;
            let mut header = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            checksum::write_ipv4_header(&mut header, total);
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((udp_len as u16).to_be_bytes());
            header.extend([17, 64]);
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => Vec::new(),
    };
    packet.extend(4000u16.to_be_bytes());
    packet.extend(4001u16.to_be_bytes());
    packet.extend((udp_len as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(number.to_be_bytes());
    packet.resize(packet.len() + udp_len - 16, 0);
    if let Ok(layout) = Layout::parse(&packet) {
        let l4_len = packet.len() - layout.l4_offset;
        checksum::write_partial(&mut packet, &layout, l4_len);
        checksum::complete(&mut packet, &layout);
    }
    packet
}

/// The number in a packet made by [`numbered`]; `None` for any other packet, or one whose checksum is wrong.
#[must_use]
pub fn number(packet: &[u8]) -> Option<u64> {
    let is_ours = |layout: &Layout| layout.transport == Transport::Udp && checksum::verify(packet, layout);
    let layout = Layout::parse(packet).ok().filter(is_ours)?;
    packet.get(layout.header_len..).and_then(|payload| payload.first_chunk()).copied().map(u64::from_be_bytes)
}
