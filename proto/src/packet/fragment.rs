//! Cuts an IPv4 packet that is larger than its path, as any router would (RFC 791 §3.2, RFC 1812 §4.2.2.7). Slow path: it
//! allocates. Most senders forbid it, and IPv6 always does.

use super::checksum;
use super::layout::{IPV4_HEADER, field, write_u16};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// The fragments of `packet`, none of more than `mtu` bytes; its transport checksum must be complete.
///
/// `None`: it is not IPv4, or must not be cut, or has options, of which a router would have to know which go into every
/// fragment.
#[must_use]
pub fn fragments(packet: &[u8], mtu: u16) -> Option<Vec<Vec<u8>>> {
    let (header, payload) = packet.split_first_chunk::<IPV4_HEADER>()?;
    let flags = u16::from_be_bytes([header[6], header[7]]);
    if header[0] != 0x45 || flags & DONT_FRAGMENT != 0 {
        return None;
    }
    // Offsets count units of eight bytes.
    let step = usize::from(mtu).checked_sub(IPV4_HEADER)? & !7;
    let count = payload.len().div_ceil(step.max(8));
    let pieces = payload.chunks(step.max(8)).enumerate().map(|(index, piece)| {
        let begins_at = field(index.saturating_mul(step) >> 3);
        let more = if index.saturating_add(1) < count { MORE } else { flags & MORE };
        let mut fragment = [header.as_slice(), piece].concat();
        write_u16(&mut fragment, 2, field(IPV4_HEADER.saturating_add(piece.len())));
        write_u16(&mut fragment, 6, more | (flags & OFFSET).wrapping_add(begins_at) & OFFSET);
        write_u16(&mut fragment, 10, 0);
        let sum = !checksum::sum(fragment.get(..IPV4_HEADER).unwrap_or_default());
        write_u16(&mut fragment, 10, sum);
        fragment
    });
    (step >= 8).then(|| pieces.collect())
}
