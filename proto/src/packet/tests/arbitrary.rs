//! No bytes and no arguments make anything panic.

use etherparse::{SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::{Arena, ROUTER_V4, ROUTER_V6, inner};
use crate::packet::MAX_SEGMENTS;
use crate::packet::coalesce::{FlowKey, Run};
use crate::packet::icmp::{Unreachable, packet_too_big, unreachable};
use crate::packet::layout::{self, Layout, Transport, Version};
use crate::packet::segment::Segments;
use crate::packet::{Gso, Offload, checksum};
use crate::packet::{MAX_PACKET, Part};

/// A packet with some bytes overwritten; most often its length field still fits.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let flips = prop::collection::vec((0usize..80, any::<u8>()), 0..4);
    (inner(), flips, prop_oneof![4 => Just(None), 1 => (0usize..200).prop_map(Some)]).prop_map(|(inner, flips, cut)| {
        let mut packet = inner.bytes();
        for (at, value) in flips {
            if let Some(byte) = packet.get_mut(at) {
                *byte = value;
            }
        }
        packet.truncate(cut.unwrap_or(usize::MAX));
        packet
    })
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => mutated(), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

fn any_offload() -> impl Strategy<Value = Offload> {
    let gso = prop_oneof![Just(Gso::None), Just(Gso::Tcp), Just(Gso::Udp)];
    (gso, prop_oneof![0u16..500, any::<u16>()], any::<bool>())
        .prop_map(|(gso, segment_size, partial_checksum)| Offload { gso, segment_size, partial_checksum })
}

fn any_len() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0usize..2000, 1 => any::<usize>()]
}

fn any_layout() -> impl Strategy<Value = Layout> {
    let transport = prop_oneof![Just(Transport::Tcp), Just(Transport::Udp), Just(Transport::Other)];
    (any::<bool>(), transport, any_len(), any_len()).prop_map(|(is_v6, transport, l4_offset, header_len)| Layout {
        version: if is_v6 { Version::V6 } else { Version::V4 },
        transport,
        l4_offset,
        header_len,
    })
}

proptest! {
    #[test]
    fn parse_agrees_with_etherparse(bytes in any_bytes()) {
        let Ok(layout) = Layout::parse(&bytes) else { return Ok(()) };
        if let Ok(sliced) = SlicedPacket::from_ip(&bytes) {
            let end_of = |slice: &[u8]| slice.as_ptr_range().end as usize - bytes.as_ptr() as usize;
            match (layout.transport, sliced.transport) {
                (Transport::Tcp, Some(TransportSlice::Tcp(tcp))) => {
                    prop_assert_eq!(layout.l4_offset + tcp.header_slice().len(), layout.header_len);
                    prop_assert_eq!(end_of(tcp.header_slice()), layout.header_len);
                }
                (Transport::Udp, Some(TransportSlice::Udp(udp))) => {
                    prop_assert_eq!(end_of(udp.header_slice()), layout.header_len);
                }
                (Transport::Other, _) => {}
                (expected, found) => prop_assert!(false, "{:?} but {:?}", expected, found),
            }
        } else {
            prop_assert_eq!(layout.transport, Transport::Other);
        }
    }

    #[test]
    fn no_bytes_make_segmentation_panic(bytes in any_bytes(), offload in any_offload(), index in any_len()) {
        let Ok(segments) = Segments::new(&bytes, &offload) else { return Ok(()) };
        let mut total = 0;
        for index in (0..segments.count()).chain([index]) {
            let mut out = vec![0; segments.len_of(index)];
            let is_written = segments.write(index, &mut out);
            prop_assert_eq!(is_written, index < segments.count());
            if is_written {
                prop_assert_eq!(Layout::parse(&out), Ok(*segments.layout()));
                total += out.len() - if offload.gso == Gso::None { 0 } else { segments.layout().header_len };
            }
        }
        prop_assert!(total <= bytes.len() + bytes.len());
    }

    #[test]
    fn no_layout_makes_checksums_panic(
        bytes in any_bytes(), layout in any_layout(), start in any_len(), offset in any_len(), len in any::<u16>(),
    ) {
        let mut bytes = bytes;
        let total = bytes.len();
        _ = checksum::pseudo_header_sum(&bytes, &layout, start);
        checksum::write_partial(&mut bytes, &layout, offset);
        checksum::complete(&mut bytes, &layout);
        _ = checksum::verify(&bytes, &layout);
        let fits = start.checked_add(offset).and_then(|at| at.checked_add(2)).is_some_and(|end| end <= total);
        prop_assert_eq!(checksum::complete_at(&mut bytes, start, offset), fits);
        checksum::write_ipv4_header(&mut bytes, len);
        _ = layout::addresses(&bytes);
        _ = FlowKey::of(&bytes, &layout);
        if let Ok(layout) = Layout::parse(&bytes) {
            checksum::complete(&mut bytes, &layout);
            prop_assert!(checksum::verify(&bytes, &layout));
        }
    }

    #[test]
    fn no_bytes_make_icmp_panic(bytes in any_bytes(), mtu in any::<u16>()) {
        for source in [ROUTER_V4, ROUTER_V6] {
            let answers = [unreachable(&bytes, source, Unreachable::NoRoute), packet_too_big(&bytes, source, mtu)];
            for answer in answers.into_iter().flatten() {
                prop_assert!(Layout::parse(&answer).is_ok() && answer.len() <= 1280);
                prop_assert!(SlicedPacket::from_ip(&answer).is_ok());
            }
        }
    }

    #[test]
    fn run_stays_within_its_memory_and_the_largest_packet(
        packets in prop::collection::vec(any_bytes(), 1..8),
        steps in prop::collection::vec(
            (any::<prop::sample::Index>(), any_len(), any_len(), any::<u8>(), any_len()), 1..40
        ),
    ) {
        let mut arena = Arena::of(&packets);
        let mut run = Run::new();
        let mut out = vec![0; 4096];
        for (which, start, len, action, index) in steps {
            let part = if action & 0x30 == 0 { Part { start, len } } else { *which.get(&arena.parts) };
            let is_partial = action & 0xc0 != 0;
            match action & 0x0f {
                0..=2 => _ = run.start(&arena.memory, part, is_partial),
                3..=10 => _ = run.try_append(&arena.memory, part, is_partial),
                11 => run.clear(),
                12 => _ = run.segment(&arena.memory, index, &mut out),
                13 => _ = run.finish(arena.memory.get_mut(..start).unwrap_or_default()),
                _ => {}
            }
            prop_assert!(run.total_len() <= MAX_PACKET && run.count() <= MAX_SEGMENTS);
            if let Some((parts, offload)) = run.finish(&mut arena.memory) {
                let total: usize = parts.iter().map(|part| part.len).sum();
                prop_assert_eq!(total, run.total_len());
                prop_assert!(parts.iter().all(|part| part.start + part.len <= arena.memory.len()));
                prop_assert_eq!(offload.gso == Gso::None, run.count() == 1);
                for index in 0..run.count() {
                    prop_assert!(run.segment(&arena.memory, index, &mut out) > 0);
                }
            }
        }
    }
}
