//! Segmentation: every segment is a packet that `etherparse` accepts.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::{Inner, a_tcp_packet, a_udp_packet, checksums, inner, naive_pseudo_sum, payload_of, written};
use crate::packet::layout::{Layout, Malformed, Transport};
use crate::packet::segment::Segments;
use crate::packet::{Gso, Offload, checksum};

proptest! {
    #[test]
    fn segments_are_packets_that_etherparse_accepts(inner in inner(), any_flags in any::<u8>()) {
        let inner = Inner { flags: any_flags, ..inner };
        let packet = inner.bytes();
        let segments = Segments::new(&packet, &inner.offload()).unwrap();
        prop_assert_eq!(segments.count(), inner.count());
        let has_full_last = inner.payload.len().is_multiple_of(inner.segment_size.into());
        prop_assert_eq!(segments.is_uniform(), inner.count() == 1 || has_full_last);
        let mut joined = vec![];
        for index in 0..segments.count() {
            let mut segment = written(&segments, index);
            let layout = Layout::parse(&segment).unwrap();
            prop_assert_eq!(&layout, segments.layout());
            let field = layout.checksum_offset().unwrap();
            let partial = naive_pseudo_sum(&segment, &inner, segment.len() - layout.l4_offset);
            prop_assert_eq!(&segment[field..field + 2], &partial.to_be_bytes());

            checksum::complete(&mut segment, &layout);
            let (expected, actual) = checksums(&segment);
            prop_assert_eq!(expected, actual);
            prop_assert!(checksum::verify(&segment, &layout));

            let sliced = SlicedPacket::from_ip(&segment).unwrap();
            if let Some(NetSlice::Ipv4(ip)) = sliced.net {
                let header = ip.header().to_header();
                prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
                prop_assert_eq!(header.identification, inner.id.wrapping_add(index as u16));
            }
            if let Some(TransportSlice::Tcp(tcp)) = sliced.transport {
                let offset = index as u32 * u32::from(inner.segment_size);
                let is_last = index + 1 == segments.count();
                let flags = segment[layout.l4_offset + 13];
                prop_assert_eq!(tcp.sequence_number(), inner.sequence.wrapping_add(offset));
                prop_assert_eq!(tcp.options(), &inner.tcp_options[..]);
                prop_assert_eq!(flags & 0x76, inner.flags & 0x76);
                prop_assert_eq!(flags & 0x09, if is_last { inner.flags & 0x09 } else { 0 });
                prop_assert_eq!(flags & 0x80, if index == 0 { inner.flags & 0x80 } else { 0 });
            }
            joined.extend_from_slice(payload_of(&segment));
        }
        prop_assert_eq!(joined, inner.payload);
    }

    #[test]
    fn ordinary_packet_is_its_own_only_segment(inner in inner(), garbage in any::<u16>()) {
        let partial = inner.bytes();
        let segments = Segments::new(&partial, &Offload { partial_checksum: true, ..Offload::default() }).unwrap();
        prop_assert_eq!((segments.count(), segments.segment_size(), segments.is_uniform()), (1, 0, true));
        prop_assert_eq!(&written(&segments, 0), &partial);

        let mut odd = partial.clone();
        let at = segments.layout().checksum_offset().unwrap();
        odd[at..at + 2].copy_from_slice(&garbage.to_be_bytes());
        let segments = Segments::new(&odd, &Offload::default()).unwrap();
        prop_assert_eq!(written(&segments, 0), odd);
    }
}

#[test]
fn segment_is_not_written_into_a_buffer_of_another_length() {
    let packet = a_tcp_packet(300, 100).bytes();
    let segments = Segments::new(&packet, &a_tcp_packet(300, 100).offload()).unwrap();
    let len = segments.len_of(1);
    assert!(segments.write(1, &mut vec![0; len]));
    assert!(!segments.write(1, &mut vec![0; len + 1]));
    assert!(!segments.write(1, &mut vec![0; len - 1]));
    assert!(!segments.write(3, &mut vec![0; len]));
    assert!(!segments.write(usize::MAX, &mut []));
    assert_eq!(segments.len_of(3), 0);
}

#[test]
fn offload_that_does_not_fit_its_packet_is_refused() {
    let (tcp, udp) = (a_tcp_packet(300, 100), a_udp_packet(300, 100));
    let refused = |packet: &[u8], offload| Segments::new(packet, &offload).map(|_| ()).unwrap_err();
    assert_eq!(
        refused(&tcp.bytes(), udp.offload()),
        Malformed::WrongTransport { gso: Gso::Udp, transport: Transport::Tcp }
    );
    assert_eq!(
        refused(&udp.bytes(), tcp.offload()),
        Malformed::WrongTransport { gso: Gso::Tcp, transport: Transport::Udp }
    );
    assert_eq!(refused(&tcp.bytes(), Offload { segment_size: 0, ..tcp.offload() }), Malformed::NoSegmentSize);

    let mut fragment = tcp.bytes();
    fragment[6] = 0x20;
    assert_eq!(
        refused(&fragment, tcp.offload()),
        Malformed::WrongTransport { gso: Gso::Tcp, transport: Transport::Other }
    );
    let partial = Offload { partial_checksum: true, ..Offload::default() };
    assert_eq!(refused(&fragment, partial), Malformed::NoChecksumField);
    assert!(Segments::new(&fragment, &Offload::default()).is_ok());
}

#[test]
fn super_packet_without_payload_is_one_segment() {
    let inner = a_tcp_packet(0, 100);
    assert_eq!(inner.segments(), [inner.bytes()]);
}
