//! Keeps TCP segments as small as a path carries, by the one number that its two ends tell each other (RFC 9293 §3.7.1): so
//! hardly a packet is ever too large, and nobody need be told so by ICMP that a filter on the way may drop.

use super::layout::{IPV4_HEADER, IPV6_HEADER, TCP_HEADER, field, write_u16};
use super::segment::SYN;

const TCP: u8 = 6;

/// Where the flags stand in a TCP header.
const FLAGS: usize = 13;

/// Makes the maximum segment size in a SYN, if it is more, what fits into packets of `mtu` bytes, and corrects the checksum
/// (RFC 1624) unless it is partial. Leaves everything else alone.
#[inline]
pub fn clamp(packet: &mut [u8], mtu: u16, has_partial_checksum: bool) {
    if let Some(l4_offset) = syn(packet) {
        clamp_syn(packet, l4_offset, mtu, has_partial_checksum);
    }
}

/// Where the TCP header of a SYN stands; `None` for every other packet.
#[inline]
#[must_use]
pub fn syn(packet: &[u8]) -> Option<usize> {
    let l4_offset = match packet {
        [first, _, _, _, _, _, high, low, _, TCP, ..] if *first >> 4 == 4 && (*high & 0x1f, *low) == (0, 0) => {
            usize::from(*first & 0xf) << 2
        }
        [first, _, _, _, _, _, TCP, ..] if *first >> 4 == 6 => IPV6_HEADER,
        _ => return None,
    };
    let flags = packet.get(l4_offset.saturating_add(FLAGS))?;
    (flags & SYN != 0).then_some(l4_offset)
}

#[cold]
fn clamp_syn(packet: &mut [u8], l4_offset: usize, mtu: u16, has_partial_checksum: bool) {
    // What the peer's options take of a segment is the sender's business (RFC 6691).
    let ip = if packet.first().is_some_and(|first| first >> 4 == 6) { IPV6_HEADER } else { IPV4_HEADER };
    let most = mtu.saturating_sub(field(ip.saturating_add(TCP_HEADER)));
    let Some(tcp) = packet.get_mut(l4_offset..) else { return };
    let Some((at, mss)) = find(tcp).filter(|(_, mss)| *mss > most) else { return };
    write_u16(tcp, at, most);
    let stored = tcp.get(16..).and_then(|rest| rest.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes));
    if let Some(stored) = stored.filter(|_| !has_partial_checksum) {
        // Over the bytes of two words it counts the other way round.
        let (old, new) = if at % 2 == 0 { (mss, most) } else { (mss.swap_bytes(), most.swap_bytes()) };
        write_u16(tcp, 16, !super::checksum::add(&[!stored, !old, new]));
    }
}

/// Where the option's value stands in a TCP header, and the value.
fn find(tcp: &[u8]) -> Option<(usize, u16)> {
    let end = usize::from(tcp.get(12)? >> 4) << 2;
    let mut at = TCP_HEADER;
    while at < end {
        match (tcp.get(at)?, tcp.get(at.saturating_add(1))) {
            (0, _) => return None,
            (1, _) => at = at.saturating_add(1),
            (2, Some(4)) => {
                let value = at.saturating_add(2);
                let bytes = tcp.get(value..end)?.first_chunk()?;
                return Some((value, u16::from_be_bytes(*bytes)));
            }
            (_, Some(len @ 2..)) => at = at.saturating_add(usize::from(*len)),
            (_, Some(_) | None) => return None,
        }
    }
    None
}
