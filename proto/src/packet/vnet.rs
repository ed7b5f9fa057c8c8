//! The virtio-net header in front of every packet on a TUN queue (virtio 1.2 §5.1.6), and its neutral form
//! [`Offload`]. Offsets in it are always checked against, or taken from, our own parse of the packet.

use super::checksum;
use super::layout::{Layout, Transport, Version};
use super::{Gso, Offload};

/// Bytes of the header, without the mergeable-buffers field that TUN does not use.
pub const VNET_HEADER_LEN: usize = 10;

/// What a header that the kernel wrote turned out to mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Just that.
    As(Offload),
    /// A partial checksum somewhere that [`Offload`] cannot name. It has been completed.
    Completed,
}

/// Reads the `header` of `packet`. `None`: it makes no sense, or is of a kind that was not offered.
///
/// A super-packet whose `partial_checksum` is false has no usable checksum: whoever segments it computes each. A forwarded
/// datagram whose checksum the kernel has found right is taken for one whose checksum is still to be computed, so that it
/// may join others in a super-packet; one that nobody has checked stays as it is, right or wrong.
#[must_use]
pub fn accept(header: &[u8; VNET_HEADER_LEN], packet: &mut [u8]) -> Option<Accepted> {
    let header = VnetHeader::from_bytes(header);
    if header.gso_type == GSO_NONE && header.flags & NEEDS_CSUM == 0 {
        let partial_checksum = header.flags & DATA_VALID != 0 && has_udp_checksum(packet);
        return Some(Accepted::As(Offload { partial_checksum, ..Offload::default() }));
    }
    let layout = Layout::parse(packet).ok();
    let partial_checksum = header.flags & NEEDS_CSUM != 0;
    let is_ours = layout.is_some_and(|layout| header.names_checksum_of(&layout));
    if header.gso_type == GSO_NONE {
        return if is_ours {
            Some(Accepted::As(Offload { partial_checksum, ..Offload::default() }))
        } else {
            let (start, offset) = (usize::from(header.csum_start), usize::from(header.csum_offset));
            checksum::complete_at(packet, start, offset).then_some(Accepted::Completed)
        };
    }
    let gso = gso_of(header.gso_type, &layout?)?;
    let is_sound = header.gso_size > 0 && (is_ours || !partial_checksum);
    is_sound.then_some(Accepted::As(Offload { gso, segment_size: header.gso_size, partial_checksum }))
}

/// Writes the header of the packet that begins with `first`, all headers in it. `None`: it is not what `offload` says.
#[must_use]
pub fn describe(first: &[u8], offload: Offload) -> Option<[u8; VNET_HEADER_LEN]> {
    let mut header = VnetHeader::default();
    if offload.gso == Gso::None && !offload.partial_checksum {
        return Some(header.to_bytes());
    }
    let layout = layout_of_beginning(first)?;
    header.flags = NEEDS_CSUM;
    header.csum_start = u16::try_from(layout.l4_offset).ok()?;
    header.csum_offset = checksum_distance(&layout)?;
    if offload.gso != Gso::None {
        if offload.segment_size == 0 {
            return None;
        }
        header.gso_type = gso_type(offload.gso, &layout)?;
        header.gso_size = offload.segment_size;
        header.hdr_len = u16::try_from(layout.header_len).ok()?;
    }
    Some(header.to_bytes())
}

/// Whether a packet is a UDP datagram with a checksum: over IPv4 it may be sent without (RFC 768).
fn has_udp_checksum(packet: &[u8]) -> bool {
    let Ok(layout) = Layout::parse(packet) else { return false };
    let field = layout.checksum_offset().and_then(|at| packet.get(at..)?.first_chunk::<2>());
    layout.transport == Transport::Udp && field.is_some_and(|field| *field != [0, 0])
}

/// Completes a partial transport checksum. `false`: `packet` has none.
#[must_use]
pub fn complete_checksum(packet: &mut [u8]) -> bool {
    let Ok(layout) = Layout::parse(packet) else { return false };
    let Some(offset) = checksum_distance(&layout) else { return false };
    checksum::complete_at(packet, layout.l4_offset, usize::from(offset))
}

/// The headers of a packet of which only the beginning is at hand, so that its length fields cannot be checked
/// ([`Layout::parse`] does). `None`: TCP or UDP does not follow the IP header at once, or the beginning is too short.
fn layout_of_beginning(first: &[u8]) -> Option<Layout> {
    let (version, l4_offset, protocol) = match first.first()? >> 4 {
        4 => (Version::V4, usize::from(first.first()? & 0xf) << 2, first.get(9)?),
        6 => (Version::V6, 40, first.get(6)?),
        _ => return None,
    };
    let l4 = first.get(l4_offset..)?;
    let (transport, len) = match protocol {
        6 => (Transport::Tcp, usize::from(l4.get(12)? >> 4) << 2),
        17 => (Transport::Udp, 8),
        _ => return None,
    };
    let is_whole = l4_offset >= 20 && len >= 8 && len <= l4.len();
    is_whole.then_some(Layout { version, transport, l4_offset, header_len: l4_offset.saturating_add(len) })
}

/// `struct virtio_net_hdr`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct VnetHeader {
    flags: u8,
    gso_type: u8,
    /// Only a hint when the kernel writes it, so it is not read.
    hdr_len: u16,
    gso_size: u16,
    csum_start: u16,
    csum_offset: u16,
}

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum is there, and was verified.
const DATA_VALID: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_*`. The ECN bit (0x80) is not among them: it is never offered.
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;

impl VnetHeader {
    fn from_bytes(bytes: &[u8; VNET_HEADER_LEN]) -> Self {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = *bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    fn to_bytes(self) -> [u8; VNET_HEADER_LEN] {
        let ([h0, h1], [g0, g1]) = (self.hdr_len.to_le_bytes(), self.gso_size.to_le_bytes());
        let ([s0, s1], [o0, o1]) = (self.csum_start.to_le_bytes(), self.csum_offset.to_le_bytes());
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    fn names_checksum_of(&self, layout: &Layout) -> bool {
        self.flags & NEEDS_CSUM != 0
            && usize::from(self.csum_start) == layout.l4_offset
            && Some(self.csum_offset) == checksum_distance(layout)
    }
}

/// Where in its header the transport has its checksum.
fn checksum_distance(layout: &Layout) -> Option<u16> {
    u16::try_from(layout.checksum_offset()?.checked_sub(layout.l4_offset)?).ok()
}

fn gso_of(gso_type: u8, layout: &Layout) -> Option<Gso> {
    match (gso_type, layout.version, layout.transport) {
        (GSO_TCPV4, Version::V4, Transport::Tcp) | (GSO_TCPV6, Version::V6, Transport::Tcp) => Some(Gso::Tcp),
        (GSO_UDP_L4, Version::V4 | Version::V6, Transport::Udp) => Some(Gso::Udp),
        _ => None,
    }
}

fn gso_type(gso: Gso, layout: &Layout) -> Option<u8> {
    match (gso, layout.version, layout.transport) {
        (Gso::Tcp, Version::V4, Transport::Tcp) => Some(GSO_TCPV4),
        (Gso::Tcp, Version::V6, Transport::Tcp) => Some(GSO_TCPV6),
        (Gso::Udp, Version::V4 | Version::V6, Transport::Udp) => Some(GSO_UDP_L4),
        (
            Gso::None | Gso::Tcp | Gso::Udp,
            Version::V4 | Version::V6,
            Transport::Tcp | Transport::Udp | Transport::Other,
        ) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u8, protocol: u8) -> Vec<u8> {
        let mut packet = vec![0; if version == 4 { 20 } else { 40 }];
        packet[0] = version << 4 | if version == 4 { 5 } else { 0 };
        packet[if version == 4 { 9 } else { 6 }] = protocol;
        packet.extend([0; 20]);
        let tcp_offset = packet.len() - 8;
        packet[tcp_offset] = 5 << 4;
        packet.extend(b"payload");
        let len = packet.len() as u8;
        packet[if version == 4 { 3 } else { 5 }] = if version == 4 { len } else { len - 40 };
        if protocol == 17 {
            let l4_offset = tcp_offset - 12;
            packet[l4_offset + 5] = len - l4_offset as u8;
        }
        packet
    }

    fn offload(gso: Gso, segment_size: u16, partial_checksum: bool) -> Offload {
        Offload { gso, segment_size, partial_checksum }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (version, protocol, gso) in [(4, 6, Gso::Tcp), (6, 6, Gso::Tcp), (4, 17, Gso::Udp), (6, 17, Gso::Udp)] {
            for offload in [Offload::default(), offload(Gso::None, 0, true), offload(gso, 1360, true)] {
                let mut packet = packet(version, protocol);
                let header = describe(&packet, offload).unwrap();
                assert_eq!(accept(&header, &mut packet), Some(Accepted::As(offload)), "{version} {protocol}");
            }
        }
    }

    #[test]
    fn an_unknown_or_unoffered_kind_makes_no_sense() {
        for gso_type in [2, 3, 6, 0x81, 0xff] {
            let header = VnetHeader { gso_type, gso_size: 100, ..VnetHeader::default() }.to_bytes();
            assert_eq!(accept(&header, &mut packet(4, 6)), None, "{gso_type}");
        }
    }

    #[test]
    fn a_kind_that_is_not_the_packets_makes_no_sense() {
        let tcp4 = describe(&packet(4, 6), offload(Gso::Tcp, 100, true)).unwrap();
        assert_eq!(accept(&tcp4, &mut packet(6, 6)), None);
        assert_eq!(accept(&tcp4, &mut packet(4, 17)), None);
        assert_eq!(accept(&tcp4, &mut []), None);
        assert_eq!(describe(&packet(4, 17), offload(Gso::Tcp, 100, true)), None);
        assert_eq!(describe(&packet(4, 1), offload(Gso::None, 0, true)), None);
    }

    #[test]
    fn a_super_packet_of_empty_segments_makes_no_sense() {
        assert_eq!(describe(&packet(4, 6), offload(Gso::Tcp, 0, true)), None);
        let mut header = describe(&packet(4, 6), offload(Gso::Tcp, 1, true)).unwrap();
        header[4] = 0;
        assert_eq!(accept(&header, &mut packet(4, 6)), None);
    }

    #[test]
    fn a_verified_checksum_of_udp_counts_as_one_to_be_computed() {
        let valid = VnetHeader { flags: DATA_VALID, ..VnetHeader::default() }.to_bytes();
        let finished = |version, protocol| {
            let mut packet = packet(version, protocol);
            let layout = Layout::parse(&packet).unwrap();
            checksum::complete(&mut packet, &layout);
            packet
        };
        for version in [4, 6] {
            let partial = Some(Accepted::As(offload(Gso::None, 0, true)));
            let untouched = Some(Accepted::As(Offload::default()));
            assert_eq!(accept(&valid, &mut finished(version, 17)), partial);
            assert_eq!(accept(&[0; VNET_HEADER_LEN], &mut finished(version, 17)), untouched, "nobody has looked");
            assert_eq!(accept(&valid, &mut packet(version, 17)), untouched, "there is none");
            assert_eq!(accept(&valid, &mut finished(version, 6)), untouched);
            assert_eq!(accept(&valid, &mut finished(version, 17)[..30].to_vec()), untouched, "cut off");
        }
    }

    #[test]
    fn a_checksum_of_another_transport_is_completed_at_once() {
        let mut packet = packet(4, 132);
        let header = VnetHeader { flags: NEEDS_CSUM, csum_start: 20, csum_offset: 8, ..VnetHeader::default() };
        assert_eq!(accept(&header.to_bytes(), &mut packet), Some(Accepted::Completed));
        assert_ne!(packet[28..30], [0, 0]);
        let outside = VnetHeader { csum_offset: 60_000, ..header };
        assert_eq!(accept(&outside.to_bytes(), &mut packet), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for seed in 0..=u16::MAX {
            let [a, b] = seed.to_be_bytes();
            let header = [a, b, a, b, b, a, 0, a, 0, b];
            let mut short = packet(if a & 1 == 0 { 4 } else { 6 }, b);
            short.truncate(usize::from(a % 64));
            let _ = accept(&header, &mut short);
            let _ = describe(&short, offload(Gso::Tcp, seed, true));
        }
    }
}
