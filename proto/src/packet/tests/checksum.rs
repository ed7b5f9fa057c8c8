//! Checksums against a naive model and the example of RFC 1071.

use proptest::prelude::*;

use super::{Inner, a_udp_packet, inner, naive_sum};
use crate::packet::MAX_PACKET;
use crate::packet::checksum;
use crate::packet::layout::{Layout, Transport, Version};

#[test]
fn sum_is_that_of_the_example_in_rfc_1071() {
    assert_eq!(checksum::sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
}

#[test]
fn sum_of_the_largest_packet_does_not_overflow() {
    assert_eq!(checksum::sum(&[0xff; MAX_PACKET]), naive_sum(&[0xff; MAX_PACKET]));
}

#[test]
fn udp_checksum_is_never_zero() {
    let mut packet = a_udp_packet(2, 2).bytes();
    let layout = Layout::parse(&packet).unwrap();
    packet[28..30].fill(0);
    checksum::complete(&mut packet, &layout);
    let sum_without_payload = u16::from_be_bytes([packet[26], packet[27]]);
    packet[28..30].copy_from_slice(&sum_without_payload.to_be_bytes());
    checksum::complete(&mut packet, &layout);
    assert_eq!(packet[26..28], [0xff, 0xff]);
    assert!(checksum::verify(&packet, &layout));
}

#[test]
fn only_udp_over_ipv4_may_go_without_checksum() {
    for (version, expected) in [(Version::V4, true), (Version::V6, false)] {
        let mut packet = Inner { version, ..a_udp_packet(50, 50) }.bytes();
        let layout = Layout::parse(&packet).unwrap();
        let at = layout.checksum_offset().unwrap();
        packet[at..at + 2].fill(0);
        assert_eq!(checksum::verify(&packet, &layout), expected);
    }
}

proptest! {
    #[test]
    fn sum_agrees_with_the_naive_model(bytes in prop::collection::vec(any::<u8>(), 0..300), value in any::<u8>()) {
        prop_assert_eq!(checksum::sum(&bytes), naive_sum(&bytes));
        let equal = vec![value; bytes.len()];
        prop_assert_eq!(checksum::sum(&equal), naive_sum(&equal));
    }

    #[test]
    fn one_flipped_bit_does_not_verify(inner in inner(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut packet = inner.bytes();
        let layout = Layout::parse(&packet).unwrap();
        checksum::complete(&mut packet, &layout);
        prop_assert!(checksum::verify(&packet, &layout));
        let at = layout.l4_offset + at.index(packet.len() - layout.l4_offset);
        packet[at] ^= 1 << bit;
        let field = layout.checksum_offset().unwrap();
        let is_absent = layout.transport == Transport::Udp && packet[field..field + 2] == [0, 0];
        prop_assert!(is_absent || !checksum::verify(&packet, &layout));
    }

    #[test]
    fn generic_completion_agrees_with_that_of_the_transport(inner in inner()) {
        let partial = inner.bytes();
        let layout = Layout::parse(&partial).unwrap();
        let field = layout.checksum_offset().unwrap();
        let (mut generic, mut full) = (partial.clone(), partial);
        prop_assert!(checksum::complete_at(&mut generic, layout.l4_offset, field - layout.l4_offset));
        checksum::complete(&mut full, &layout);
        if full[field..field + 2] == [0, 0] {
            full[field..field + 2].fill(0xff);
        }
        prop_assert_eq!(generic, full);
    }
}

#[test]
fn generic_completion_never_writes_zero() {
    let mut packet = [0xff, 0xff, 0, 0];
    assert!(checksum::complete_at(&mut packet, 0, 2));
    assert_eq!(packet, [0xff; 4]);
}

#[test]
fn generic_completion_refuses_a_field_outside_the_packet() {
    let mut packet = [1; 40];
    assert!(checksum::complete_at(&mut packet, 20, 18));
    assert!(!checksum::complete_at(&mut packet, 20, 19));
    assert!(!checksum::complete_at(&mut packet, 41, 0));
    assert!(!checksum::complete_at(&mut packet, usize::MAX, usize::MAX));
}
