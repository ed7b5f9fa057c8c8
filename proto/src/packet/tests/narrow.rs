//! What makes packets fit a narrow path: segment sizes in SYNs, and fragments.

use etherparse::{Ipv4HeaderSlice, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;

use super::{Inner, a_tcp_packet, inner};
use crate::packet::layout::{Layout, Transport, Version};
use crate::packet::{checksum, fragment, mss};

/// A SYN with these bytes of options, padded, and a complete checksum.
fn syn(version: Version, flags: u8, mut options: Vec<u8>) -> Vec<u8> {
    options.resize(options.len().next_multiple_of(4), 1);
    let mut packet = Inner { version, flags, tcp_options: options, ..a_tcp_packet(0, 0) }.bytes();
    let layout = Layout::parse(&packet).unwrap();
    checksum::complete(&mut packet, &layout);
    packet
}

fn mss_of(packet: &[u8]) -> Option<u16> {
    let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ip(packet).unwrap().transport else { return None };
    tcp.options_iterator()
        .filter_map(Result::ok)
        .find_map(|option| if let TcpOptionElement::MaximumSegmentSize(mss) = option { Some(mss) } else { None })
}

proptest! {
    #[test]
    fn a_clamped_syn_says_what_fits_and_has_a_right_checksum(
        is_v6: bool, mss in any::<u16>(), mtu in 600u16..9000, before in 0usize..5, ack: bool,
    ) {
        let version = if is_v6 { Version::V6 } else { Version::V4 };
        let options = [vec![1; before], vec![2, 4], mss.to_be_bytes().to_vec(), vec![4, 2]].concat();
        let mut packet = syn(version, if ack { 0x12 } else { 2 }, options);
        let whole = packet.clone();
        mss::clamp(&mut packet, mtu, false);
        let most = mtu - if is_v6 { 60 } else { 40 };
        prop_assert_eq!(mss_of(&packet), Some(mss.min(most)));
        prop_assert!(checksum::verify(&packet, &Layout::parse(&packet).unwrap()));
        prop_assert_eq!(packet == whole, mss <= most);
        let mut partial = whole.clone();
        mss::clamp(&mut partial, mtu, true);
        let at = Layout::parse(&whole).unwrap().checksum_offset().unwrap();
        prop_assert_eq!(&partial[at..at + 2], &whole[at..at + 2], "a partial one does not cover it");
    }

    #[test]
    fn nothing_but_a_syn_is_touched_and_no_bytes_make_it_panic(inner in inner(), bytes: Vec<u8>, mtu: u16, partial: bool) {
        let mut packet = Inner { flags: inner.flags & !2, ..inner }.bytes();
        let before = packet.clone();
        mss::clamp(&mut packet, mtu, partial);
        prop_assert_eq!(packet, before);
        let (mut bytes, len) = (bytes.clone(), bytes.len());
        mss::clamp(&mut bytes, mtu, partial);
        prop_assert_eq!(bytes.len(), len);
    }

    #[test]
    fn fragments_fit_and_make_up_the_packet(len in 0usize..9000, mtu in 68u16..2000, first in 0u16..100, more: bool) {
        let mut packet = Inner { version: Version::V4, ..super::a_udp_packet(len, 0) }.bytes();
        let flags = first | if more { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&flags.to_be_bytes());
        let fragments = fragment::fragments(&packet, mtu).unwrap();
        let mut payload = Vec::new();
        for (index, fragment) in fragments.iter().enumerate() {
            let header = Ipv4HeaderSlice::from_slice(fragment).unwrap();
            prop_assert!(fragment.len() <= usize::from(mtu));
            prop_assert_eq!(usize::from(header.total_len()), fragment.len());
            prop_assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
            prop_assert_eq!(usize::from(header.fragments_offset().value()), usize::from(first) + payload.len() / 8);
            prop_assert_eq!(header.more_fragments(), more || index + 1 < fragments.len());
            payload.extend_from_slice(&fragment[20..]);
        }
        prop_assert_eq!(&payload, &packet[20..]);
    }
}

#[test]
fn what_must_not_be_cut_is_not() {
    let mut packet = Inner { version: Version::V4, ..super::a_udp_packet(2000, 0) }.bytes();
    packet[6] = 0x40;
    assert_eq!(fragment::fragments(&packet, 1280), None);
    let v6 = Inner { version: Version::V6, ..super::a_udp_packet(2000, 0) }.bytes();
    assert_eq!(fragment::fragments(&v6, 1280), None);
    assert_eq!(fragment::fragments(&[0x45], 1280), None);
    assert!(Layout::parse(&packet).is_ok_and(|layout| layout.transport == Transport::Udp));
}
