//! The Internet checksum (RFC 1071) of inner packets: IPv4 headers, TCP and UDP with their pseudo-headers (RFC 8200
//! §8.1).
//!
//! A *partial* checksum field holds the folded sum of the pseudo-header, not complemented, as Linux leaves it where it
//! says `CSUM_PARTIAL` (virtio: `NEEDS_CSUM`).

use super::layout::{IPV4_HEADER, Layout, Transport, Version, field, write_u16};

/// The one's complement sum of `bytes`, folded to 16 bits, not complemented. An odd last byte is padded with zero.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    let (blocks, rest) = bytes.as_chunks::<32>();
    // Eight independent lanes of 32-bit words in 64 bits cannot overflow and become vector additions. The sum may be
    // taken in any byte order (RFC 1071 §2B), so it is taken in the machine's.
    let mut lanes = [0u64; 8];
    for block in blocks {
        let (words, _) = block.as_chunks::<4>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
        }
    }
    let mut total = lanes.iter().fold(0, |total: u64, lane| total.wrapping_add(*lane));
    let (words, tail) = rest.as_chunks::<4>();
    for word in words {
        total = total.wrapping_add(u64::from(u32::from_ne_bytes(*word)));
    }
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    total = total.wrapping_add(u64::from(u32::from_ne_bytes(last)));
    u16::from_be(fold(total))
}

/// The folded sum of the pseudo-header for `l4_len` bytes of transport header and payload, not complemented.
///
/// `packet` may be the headers alone. Zero for [`Transport::Other`], which has no pseudo-header.
#[inline]
#[must_use]
pub fn pseudo_header_sum(packet: &[u8], layout: &Layout, l4_len: usize) -> u16 {
    let addresses = match layout.version {
        Version::V4 => packet.get(12..).and_then(|rest| rest.first_chunk::<8>()).map(|pair| sum(pair)),
        Version::V6 => packet.get(8..).and_then(|rest| rest.first_chunk::<32>()).map(|pair| sum(pair)),
    };
    match (layout.transport, addresses) {
        (Transport::Other, _) | (_, None) => 0,
        (Transport::Tcp | Transport::Udp, Some(addresses)) => {
            add(&[addresses, u16::from(layout.transport.protocol()), field(l4_len)])
        }
    }
}

/// Writes the partial checksum for `l4_len` bytes of transport header and payload. `packet` may be the headers alone.
///
/// Leaves [`Transport::Other`] alone.
#[inline]
pub fn write_partial(packet: &mut [u8], layout: &Layout, l4_len: usize) {
    let partial = pseudo_header_sum(packet, layout, l4_len);
    if let Some(at) = layout.checksum_offset() {
        write_u16(packet, at, partial);
    }
}

/// Writes the full transport checksum, whatever the field held. Leaves [`Transport::Other`] alone.
pub fn complete(packet: &mut [u8], layout: &Layout) {
    let Some(at) = layout.checksum_offset() else { return };
    if write_u16(packet, at, 0).is_none() {
        return;
    }
    let checksum = !transport_sum(packet, layout);
    // Zero would mean "no checksum" in UDP (RFC 768).
    let checksum = if checksum == 0 && layout.transport == Transport::Udp { 0xffff } else { checksum };
    write_u16(packet, at, checksum);
}

/// Whether the transport checksum is right, or there is none to check: UDP over IPv4 may go without, and
/// [`Transport::Other`] has none that meshd knows.
#[must_use]
pub fn verify(packet: &[u8], layout: &Layout) -> bool {
    let Some(at) = layout.checksum_offset() else { return true };
    let Some(stored) = super::layout::read_u16(packet, at) else { return false };
    if stored == 0 && layout.transport == Transport::Udp {
        return layout.version == Version::V4;
    }
    transport_sum(packet, layout) == 0xffff
}

/// Completes a partial checksum of any protocol (virtio 1.2 §5.1.6.2): `start` is where the sum begins, `offset` where
/// the field lies from there, which holds the pseudo-header sum. Returns whether the field lies within the packet.
#[must_use]
pub fn complete_at(packet: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(summed) = packet.get_mut(start..) else { return false };
    let checksum = match !sum(summed) {
        // As Linux does: the same number in one's complement, and UDP would read zero as "no checksum".
        0 => 0xffff,
        checksum => checksum,
    };
    write_u16(summed, offset, checksum).is_some()
}

/// Sets the total length of an IPv4 header, options included, and its checksum. Leaves alone what is no such header.
#[inline]
pub fn write_ipv4_header(packet: &mut [u8], total_len: u16) {
    let words = packet.first().map_or(0, |first| usize::from(first & 15));
    let Some(header) = packet.get_mut(..words << 2) else { return };
    if let Some(fixed) = header.first_chunk_mut::<IPV4_HEADER>() {
        [fixed[2], fixed[3]] = total_len.to_be_bytes();
        [fixed[10], fixed[11]] = [0, 0];
        let checksum = !sum(header);
        write_u16(header, 10, checksum);
    }
}

/// One's complement sum of a few words.
#[inline]
pub(super) fn add(words: &[u16]) -> u16 {
    fold(words.iter().fold(0, |total: u64, word| total.wrapping_add(u64::from(*word))))
}

#[inline]
fn transport_sum(packet: &[u8], layout: &Layout) -> u16 {
    let bytes = packet.get(layout.l4_offset..).unwrap_or_default();
    add(&[sum(bytes), pseudo_header_sum(packet, layout, bytes.len())])
}

/// Folds the carries back in (RFC 1071 §2A); four steps suffice for any 64 bits.
#[inline]
const fn fold(total: u64) -> u16 {
    let total = (total >> 32).wrapping_add(total & 0xffff_ffff);
    let total = (total >> 16).wrapping_add(total & 0xffff);
    let total = (total >> 16).wrapping_add(total & 0xffff);
    (total >> 16).wrapping_add(total & 0xffff) as u16
}
