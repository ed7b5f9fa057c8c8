//! ICMP errors towards an inner sender whose packet meshd cannot carry (RFC 792, RFC 4443). Slow path: it allocates.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type, IpNumber, IpSlice, Ipv6ExtensionSlice, PacketBuilder};

use super::layout::Layout;

/// Why a packet does not reach its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// No route leads there.
    NoRoute,
    /// No community allows it.
    AdminProhibited,
    /// A route leads there, but its peer does not answer.
    HostUnreachable,
}

/// Builds a destination-unreachable message from `source`, an address of this node in the family of `original`.
///
/// `None` where RFC 1122 §3.2.2 and RFC 4443 §2.4(e) forbid to answer, or `original` is no packet.
#[must_use]
pub fn unreachable(original: &[u8], source: IpAddr, code: Unreachable) -> Option<Vec<u8>> {
    let v4 = match code {
        Unreachable::NoRoute => DestUnreachableHeader::Network,
        Unreachable::AdminProhibited => DestUnreachableHeader::FilterProhibited,
        Unreachable::HostUnreachable => DestUnreachableHeader::Host,
    };
    let v6 = match code {
        Unreachable::NoRoute => DestUnreachableCode::NoRoute,
        Unreachable::AdminProhibited => DestUnreachableCode::Prohibited,
        Unreachable::HostUnreachable => DestUnreachableCode::Address,
    };
    build(original, source, Icmpv4Type::DestinationUnreachable(v4), Icmpv6Type::DestinationUnreachable(v6))
}

/// Builds the message that no more than `mtu` bytes get through: fragmentation needed (RFC 1191 §4) or packet too big
/// (RFC 4443 §3.2), from `source`, an address of this node in the family of `original`.
///
/// `None` as for [`unreachable()`]. The answer does not depend on DF: meshd fragments nothing, and silence would be a
/// black hole.
#[must_use]
pub fn packet_too_big(original: &[u8], source: IpAddr, mtu: u16) -> Option<Vec<u8>> {
    let v4 = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    build(original, source, Icmpv4Type::DestinationUnreachable(v4), Icmpv6Type::PacketTooBig { mtu: mtu.into() })
}

/// What every IPv4 host can receive (RFC 1812 §4.3.2.3).
const MAX_V4: usize = 576;
/// The minimum IPv6 MTU (RFC 4443 §2.4(c)).
const MAX_V6: usize = 1280;
/// IP and ICMP headers before the quotation.
const HEADERS_V4: usize = 20 + 8;
const HEADERS_V6: usize = 40 + 8;

const HOP_LIMIT: u8 = 64;

fn build(original: &[u8], source: IpAddr, v4: Icmpv4Type, v6: Icmpv6Type) -> Option<Vec<u8>> {
    let sender = answerable_sender(original)?;
    let mut message = Vec::new();
    match (source, sender) {
        (IpAddr::V4(source), IpAddr::V4(sender)) => {
            let quoted = quotation(original, MAX_V4.saturating_sub(HEADERS_V4));
            PacketBuilder::ipv4(source.octets(), sender.octets(), HOP_LIMIT)
                .icmpv4(v4)
                .write(&mut message, quoted)
                .ok()?;
        }
        (IpAddr::V6(source), IpAddr::V6(sender)) => {
            let quoted = quotation(original, MAX_V6.saturating_sub(HEADERS_V6));
            PacketBuilder::ipv6(source.octets(), sender.octets(), HOP_LIMIT)
                .icmpv6(v6)
                .write(&mut message, quoted)
                .ok()?;
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
    }
    Some(message)
}

fn quotation(original: &[u8], most: usize) -> &[u8] {
    original.get(..most).unwrap_or(original)
}

/// The source of `original`, unless an error message must not go there.
fn answerable_sender(original: &[u8]) -> Option<IpAddr> {
    Layout::parse(original).ok()?;
    let ip = IpSlice::from_slice(original).ok()?;
    let (sender, destination) = (ip.source_addr(), ip.destination_addr());
    let is_answerable = is_one_host(sender) && !is_for_many(destination) && is_first_fragment(&ip) && !is_error(&ip);
    is_answerable.then_some(sender)
}

/// Whether an address names a single host that can be answered.
fn is_one_host(address: IpAddr) -> bool {
    const CLASS_E: u8 = 240;
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && first < CLASS_E && !v4.is_loopback() && !v4.is_multicast()
        }
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
    }
}

/// Whether a packet to this address would be answered by more than one node: an amplifier.
fn is_for_many(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4 == Ipv4Addr::BROADCAST || v4.is_multicast() || v4 == Ipv4Addr::UNSPECIFIED,
        IpAddr::V6(v6) => v6.is_multicast() || v6 == Ipv6Addr::UNSPECIFIED,
    }
}

fn is_first_fragment(ip: &IpSlice<'_>) -> bool {
    match ip {
        IpSlice::Ipv4(v4) => v4.header().fragments_offset().value() == 0,
        IpSlice::Ipv6(v6) => v6.extensions().clone().into_iter().all(|extension| match extension {
            Ipv6ExtensionSlice::Fragment(fragment) => fragment.fragment_offset().value() == 0,
            Ipv6ExtensionSlice::HopByHop(_)
            | Ipv6ExtensionSlice::Routing(_)
            | Ipv6ExtensionSlice::DestinationOptions(_)
            | Ipv6ExtensionSlice::Authentication(_) => true,
        }),
    }
}

/// Whether this is an ICMP error or redirect; one without a type is taken for such.
fn is_error(ip: &IpSlice<'_>) -> bool {
    const REDIRECT_V6: u8 = 137;
    let kind = ip.payload().payload.first().copied();
    match ip.payload_ip_number() {
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        IpNumber::ICMP => kind.is_none_or(|kind| matches!(kind, 3 | 4 | 5 | 11 | 12)),
        IpNumber::IPV6_ICMP => kind.is_none_or(|kind| kind < 128 || kind == REDIRECT_V6),
        _ => false,
    }
}
