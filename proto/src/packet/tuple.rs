//! Who talks to whom in a packet, told from its first bytes alone: for filters and for people, never for forwarding.

use std::net::IpAddr;

use super::layout;

/// Protocol numbers (IANA) of which more than the number is told.
pub const ICMP: u8 = 1;
/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// ICMP for IPv6 (RFC 4443).
pub const ICMP_V6: u8 = 58;

/// The fixed header of IPv6 in bytes (RFC 8200 §3).
const V6_HEADER: usize = 40;

/// Addresses, protocol and ports of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FiveTuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol number; of IPv6 that of the first header behind the fixed one.
    pub protocol: u8,
    /// Source and destination port of TCP and UDP, where the bytes have them: not in later fragments.
    pub ports: Option<(u16, u16)>,
    /// Type of an ICMP message of either family.
    pub icmp_type: Option<u8>,
}

impl FiveTuple {
    /// Reads as much as there is of a packet, which may be cut off; `None` where even the addresses are missing.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let (source, destination) = layout::addresses(packet)?;
        let (protocol, l4) = if source.is_ipv4() { v4(packet)? } else { (*packet.get(6)?, packet.get(V6_HEADER..)) };
        let l4 = l4.unwrap_or_default();
        let ports = match (protocol, l4) {
            (TCP | UDP, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            _ => None,
        };
        let icmp_type = if matches!(protocol, ICMP | ICMP_V6) { l4.first().copied() } else { None };
        Some(Self { source, destination, protocol, ports, icmp_type })
    }
}

/// Protocol, and what follows the header of an IPv4 packet unless it is a later fragment.
fn v4(packet: &[u8]) -> Option<(u8, Option<&[u8]>)> {
    let header_len = usize::from(packet.first()? & 0x0f).saturating_mul(4);
    let is_later_fragment = packet.get(6)? & 0x1f != 0 || *packet.get(7)? != 0;
    let l4 = if is_later_fragment { None } else { packet.get(header_len..) };
    Some((*packet.get(9)?, l4))
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_parts_of_a_packet_are_read_from_its_headers_alone() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1000, 53).write(&mut packet, &[7; 100]).unwrap();
        let tuple = FiveTuple::of(&packet[..28]).unwrap();
        assert_eq!((tuple.source, tuple.destination), ([10, 0, 0, 1].into(), [10, 0, 0, 2].into()));
        assert_eq!((tuple.protocol, tuple.ports, tuple.icmp_type), (UDP, Some((1000, 53)), None));
        packet[7] = 1;
        assert_eq!(FiveTuple::of(&packet).unwrap().ports, None, "a later fragment has no ports");
    }

    #[test]
    fn echo_requests_of_both_families_are_told_by_their_type() {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        PacketBuilder::ipv4([1; 4], [2; 4], 64).icmpv4_echo_request(1, 2).write(&mut v4, &[]).unwrap();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).icmpv6_echo_request(1, 2).write(&mut v6, &[]).unwrap();
        let told = |packet: &[u8]| FiveTuple::of(packet).map(|tuple| (tuple.protocol, tuple.icmp_type));
        assert_eq!(told(&v4), Some((ICMP, Some(8))));
        assert_eq!(told(&v6), Some((ICMP_V6, Some(128))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = FiveTuple::of(&bytes);
        }
    }
}
