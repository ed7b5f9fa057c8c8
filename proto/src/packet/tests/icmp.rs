//! ICMP errors: what they say, and what is never answered.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::{Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4};

use super::{Inner, ROUTER_V4, ROUTER_V6, SOURCE_V4, SOURCE_V6, a_tcp_packet, a_udp_packet, naive_sum};
use crate::packet::icmp::{Unreachable, packet_too_big, unreachable};
use crate::packet::layout::Version;

#[test]
fn ipv4_error_quotes_what_fits_and_goes_to_the_sender() {
    for (len, quoted) in [(100, 152), (2000, 548)] {
        let original = a_tcp_packet(len, 100).bytes();
        let error = packet_too_big(&original, ROUTER_V4, 1380).unwrap();
        let sliced = SlicedPacket::from_ip(&error).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) = (sliced.net, sliced.transport) else {
            panic!("no ICMPv4");
        };
        assert_eq!((ip.header().source(), ip.header().destination()), ([10, 0, 0, 1], SOURCE_V4));
        assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
        let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1380 };
        assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(needed));
        assert_eq!(naive_sum(icmp.slice()), 0xffff);
        assert_eq!(icmp.payload(), &original[..quoted]);
        assert!(error.len() <= 576);
    }
}

#[test]
fn ipv6_error_quotes_what_fits_and_goes_to_the_sender() {
    for (len, quoted) in [(100, 172), (2000, 1232)] {
        let original = Inner { version: Version::V6, ..a_tcp_packet(len, 100) }.bytes();
        let error = packet_too_big(&original, ROUTER_V6, 1380).unwrap();
        let sliced = SlicedPacket::from_ip(&error).unwrap();
        let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) = (sliced.net, sliced.transport) else {
            panic!("no ICMPv6");
        };
        assert_eq!(IpAddr::from(ip.header().source()), ROUTER_V6);
        assert_eq!(ip.header().destination(), SOURCE_V6);
        assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: 1380 });
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        assert_eq!(icmp.payload(), &original[..quoted]);
        assert!(error.len() <= 1280);
    }
}

#[test]
fn unreachable_says_why() {
    use Unreachable::{AdminProhibited, HostUnreachable, NoRoute};
    let v4 = a_udp_packet(10, 10).bytes();
    let v6 = Inner { version: Version::V6, ..a_udp_packet(10, 10) }.bytes();
    for (code, code_v4, code_v6) in [(NoRoute, 0, 0), (AdminProhibited, 13, 1), (HostUnreachable, 1, 3)] {
        assert_eq!(unreachable(&v4, ROUTER_V4, code).unwrap()[20..22], [3, code_v4]);
        assert_eq!(unreachable(&v6, ROUTER_V6, code).unwrap()[40..42], [1, code_v6]);
    }
    assert_eq!(unreachable(&v4, ROUTER_V6, NoRoute), None);
    assert_eq!(unreachable(&v6, ROUTER_V4, NoRoute), None);
}

fn is_answered(original: &[u8]) -> bool {
    let source = if original[0] >> 4 == 4 { ROUTER_V4 } else { ROUTER_V6 };
    let answer = unreachable(original, source, Unreachable::NoRoute);
    assert_eq!(answer.is_some(), packet_too_big(original, source, 1400).is_some());
    answer.is_some()
}

#[test]
fn error_is_never_answered() {
    let v4 = unreachable(&a_udp_packet(10, 10).bytes(), ROUTER_V4, Unreachable::NoRoute).unwrap();
    let original = Inner { version: Version::V6, ..a_udp_packet(10, 10) }.bytes();
    let v6 = unreachable(&original, ROUTER_V6, Unreachable::NoRoute).unwrap();
    assert!(!is_answered(&v4) && !is_answered(&v6));
    for (kind, expected) in [(3, false), (4, false), (5, false), (11, false), (12, false), (8, true), (0, true)] {
        let mut packet = v4.clone();
        packet[20] = kind;
        assert_eq!(is_answered(&packet), expected, "ICMPv4 type {kind}");
    }
    for (kind, expected) in [(0, false), (127, false), (137, false), (128, true), (129, true)] {
        let mut packet = v6.clone();
        packet[40] = kind;
        assert_eq!(is_answered(&packet), expected, "ICMPv6 type {kind}");
    }
}

#[test]
fn error_behind_ipv6_extension_headers_is_never_answered() {
    let original = Inner { version: Version::V6, ..a_udp_packet(10, 10) }.bytes();
    let mut error = unreachable(&original, ROUTER_V6, Unreachable::NoRoute).unwrap();
    // A destination options header of eight bytes of padding.
    error.splice(40..40, [58, 0, 1, 4, 0, 0, 0, 0]);
    error[6] = 60;
    error[5] += 8;
    assert!(!is_answered(&error));
    error[48] = 128;
    assert!(is_answered(&error));
}

#[test]
fn group_address_is_never_answered() {
    let patched = |at: usize, address: [u8; 4]| {
        let mut packet = a_udp_packet(10, 10).bytes();
        packet[at..at + 4].copy_from_slice(&address);
        is_answered(&packet)
    };
    for destination in [[224, 0, 0, 1], [239, 40, 20, 81], [255, 255, 255, 255], [0, 0, 0, 0]] {
        assert!(!patched(16, destination), "{destination:?}");
    }
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!patched(12, source), "{source:?}");
    }
    assert!(patched(12, [192, 0, 2, 1]));
    let patched = |at: usize, address: Ipv6Addr| {
        let mut packet = Inner { version: Version::V6, ..a_udp_packet(10, 10) }.bytes();
        packet[at..at + 16].copy_from_slice(&address.octets());
        is_answered(&packet)
    };
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    assert!(!patched(24, group) && !patched(8, group));
    assert!(!patched(8, Ipv6Addr::UNSPECIFIED) && !patched(8, Ipv6Addr::LOCALHOST));
    assert!(patched(8, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)));
}

#[test]
fn later_fragment_is_never_answered() {
    let mut packet = a_udp_packet(10, 10).bytes();
    packet[6] = 0x20;
    assert!(is_answered(&packet));
    packet[7] = 1;
    assert!(!is_answered(&packet));

    let mut packet = Inner { version: Version::V6, ..a_udp_packet(10, 10) }.bytes();
    packet.splice(40..40, [17, 0, 0, 1, 0, 0, 0, 1]);
    packet[6] = 44;
    packet[5] += 8;
    assert!(is_answered(&packet));
    packet[43] = 9;
    assert!(!is_answered(&packet));
}
