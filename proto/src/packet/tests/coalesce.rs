//! Coalescing: the inverse of segmentation, and what a run refuses.

use proptest::prelude::*;

use super::{Arena, Inner, a_tcp_packet, a_udp_packet, checksums, inner};
use crate::packet::coalesce::{FlowKey, Run};
use crate::packet::layout::{self, Layout, Malformed, Version};
use crate::packet::{Gso, MAX_PACKET, MAX_SEGMENTS, Offload, checksum};

proptest! {
    #[test]
    fn coalescing_undoes_segmentation(inner in inner()) {
        let mut arena = Arena::of(&inner.segments());
        let run = arena.run();
        let (parts, offload) = run.finish(&mut arena.memory).unwrap();
        let ordinary = Offload { partial_checksum: true, ..Offload::default() };
        prop_assert_eq!(offload, if inner.count() > 1 { inner.offload() } else { ordinary });
        prop_assert_eq!(arena.gather(parts), inner.bytes());
        prop_assert_eq!(run.total_len(), inner.bytes().len());
        prop_assert_eq!(run.addresses(), layout::addresses(&inner.bytes()));
    }

    #[test]
    fn finishing_twice_changes_nothing(inner in inner()) {
        let mut arena = Arena::of(&inner.segments());
        let run = arena.run();
        run.finish(&mut arena.memory).unwrap();
        let once = arena.memory.clone();
        run.finish(&mut arena.memory).unwrap();
        prop_assert_eq!(arena.memory, once);
    }

    #[test]
    fn finished_run_comes_apart_into_valid_segments(inner in inner(), is_finished in any::<bool>()) {
        let mut arena = Arena::of(&inner.segments());
        let run = arena.run();
        if is_finished {
            run.finish(&mut arena.memory).unwrap();
        }
        let mut out = vec![0xee; 2000];
        for (index, mut segment) in inner.segments().into_iter().enumerate() {
            checksum::complete(&mut segment, run.layout().unwrap());
            let len = run.segment(&arena.memory, index, &mut out);
            prop_assert_eq!(&out[..len], &segment);
            let (expected, actual) = checksums(&segment);
            prop_assert_eq!(expected, actual);
            prop_assert_eq!(run.segment(&arena.memory, index, &mut vec![0; len - 1]), 0);
        }
        prop_assert_eq!(run.segment(&arena.memory, inner.count(), &mut out), 0);
    }

    #[test]
    fn single_packet_with_full_checksum_stays_untouched(inner in inner(), garbage in any::<u16>()) {
        let mut packet = inner.bytes();
        let at = Layout::parse(&packet).unwrap().checksum_offset().unwrap();
        packet[at..at + 2].copy_from_slice(&garbage.to_be_bytes());
        let mut arena = Arena::of(&[packet.clone()]);
        let mut run = Run::new();
        run.start(&arena.memory, arena.parts[0], false).unwrap();
        prop_assert!(!run.try_append(&arena.memory, arena.parts[0], false));
        prop_assert!(!run.try_append(&arena.memory, arena.parts[0], true));
        let (parts, offload) = run.finish(&mut arena.memory).unwrap();
        prop_assert_eq!(offload, Offload::default());
        prop_assert_eq!(arena.gather(parts), &packet[..]);
        let mut out = vec![0; 2000];
        let len = run.segment(&arena.memory, 0, &mut out);
        prop_assert_eq!(&out[..len], packet);
    }

    #[test]
    fn partial_checksum_of_the_sender_is_never_trusted(inner in inner(), garbage in any::<u16>()) {
        let mut packet = inner.bytes();
        let at = Layout::parse(&packet).unwrap().checksum_offset().unwrap();
        packet[at..at + 2].copy_from_slice(&garbage.to_be_bytes());
        let mut arena = Arena::of(&[packet]);
        let run = arena.run();
        let (parts, _) = run.finish(&mut arena.memory).unwrap();
        prop_assert_eq!(arena.gather(parts), inner.bytes());
    }
}

#[test]
fn damaged_ipv4_header_of_a_single_packet_is_not_repaired() {
    let mut packet = a_tcp_packet(100, 100).bytes();
    packet[10] ^= 0xff;
    let mut arena = Arena::of(&[packet.clone()]);
    let run = arena.run();
    let (parts, _) = run.finish(&mut arena.memory).unwrap();
    assert_eq!(arena.gather(parts), packet);
}

/// Whether a run that begins with the first packet takes the second one too.
fn is_taken(first: &[u8], second: &[u8]) -> bool {
    let arena = Arena::of(&[first.to_vec(), second.to_vec()]);
    let mut run = Run::new();
    run.start(&arena.memory, arena.parts[0], true).unwrap();
    run.try_append(&arena.memory, arena.parts[1], true)
}

#[test]
fn run_takes_no_segment_after_a_shorter_one() {
    let [long, short] = [100, 99].map(|len| a_tcp_packet(len, 100).bytes());
    assert!(is_taken(&long, &short));
    assert!(!is_taken(&short, &long));
    let arena = Arena::of(&[long, short.clone(), short]);
    let mut run = Run::new();
    run.start(&arena.memory, arena.parts[0], true).unwrap();
    assert!(run.try_append(&arena.memory, arena.parts[1], true));
    assert!(!run.try_append(&arena.memory, arena.parts[2], true));
    assert_eq!(run.count(), 2);
}

#[test]
fn run_takes_no_segment_after_fin_or_psh() {
    let plain = a_tcp_packet(100, 100).bytes();
    for flags in [0x11, 0x18, 0x19] {
        let last = Inner { flags, ..a_tcp_packet(100, 100) }.bytes();
        assert!(is_taken(&plain, &last));
        assert!(!is_taken(&last, &plain));
        let arena = Arena::of(&[plain.clone(), last, plain.clone()]);
        let mut run = Run::new();
        run.start(&arena.memory, arena.parts[0], true).unwrap();
        assert!(run.try_append(&arena.memory, arena.parts[1], true));
        assert!(!run.try_append(&arena.memory, arena.parts[2], true));
    }
}

#[test]
fn run_takes_no_segment_whose_flags_segmentation_does_not_make() {
    let plain = a_tcp_packet(100, 100).bytes();
    for flags in [0x00, 0x12, 0x14, 0x30, 0x50, 0x90] {
        let odd = Inner { flags, ..a_tcp_packet(100, 100) }.bytes();
        assert!(!is_taken(&plain, &odd), "{flags:#x}");
    }
    for flags in [0x00, 0x12, 0x14, 0x30] {
        let odd = Inner { flags, ..a_tcp_packet(100, 100) }.bytes();
        assert!(!is_taken(&odd, &odd), "{flags:#x}");
    }
    let reduced = Inner { flags: 0x90, ..a_tcp_packet(100, 100) }.bytes();
    assert!(is_taken(&reduced, &plain));
}

#[test]
fn run_takes_no_segment_with_other_headers_in_front() {
    let plain = a_tcp_packet(100, 100);
    let others = [
        Inner { tcp_options: vec![], ..plain.clone() },
        Inner { ip_options: 4, tcp_options: vec![1; 8], ..plain.clone() },
        Inner { version: Version::V6, ..plain.clone() },
        a_udp_packet(100, 100),
        a_tcp_packet(0, 100),
    ];
    for other in others {
        assert!(!is_taken(&plain.bytes(), &other.bytes()), "{other:?}");
    }
    let v6 = Inner { version: Version::V6, ..plain.clone() };
    for (first, at, value) in [
        (&plain, 0, 0x44),
        (&plain, 0, 0x65),
        (&plain, 7, 1),
        (&plain, 6, 0x20),
        (&plain, 9, 17),
        (&plain, 32, 0x70),
        (&v6, 0, 0x40),
        (&v6, 6, 17),
    ] {
        let first = first.bytes();
        let mut second = first.clone();
        assert!(is_taken(&first, &second));
        second[at] = value;
        assert!(!is_taken(&first, &second), "{at}");
    }
}

#[test]
fn run_of_acks_without_payload_is_never_made() {
    let ack = a_tcp_packet(0, 100).bytes();
    assert!(!is_taken(&ack, &ack));
}

#[test]
fn run_mixes_no_checksum_states() {
    let packet = a_tcp_packet(100, 100).bytes();
    let arena = Arena::of(&[packet]);
    let mut run = Run::new();
    run.start(&arena.memory, arena.parts[0], true).unwrap();
    assert!(!run.try_append(&arena.memory, arena.parts[0], false));
}

#[test]
fn run_holds_no_more_segments_than_the_kernel_takes() {
    let packet = a_udp_packet(10, 10).bytes();
    let arena = Arena::of(&[packet]);
    let mut run = Run::new();
    run.start(&arena.memory, arena.parts[0], true).unwrap();
    let taken = (0..100).filter(|_| run.try_append(&arena.memory, arena.parts[0], true)).count();
    assert_eq!((taken, run.count()), (MAX_SEGMENTS - 1, MAX_SEGMENTS));
}

#[test]
fn run_grows_to_the_largest_packet_and_no_further() {
    // 52 bytes of headers and three payloads, the last one byte shorter: 65,535 and 65,538 bytes.
    for (segment, fits) in [(21_828, true), (21_829, false)] {
        let mut arena = Arena::of(&[a_tcp_packet(segment, 1).bytes(), a_tcp_packet(segment - 1, 1).bytes()]);
        let mut run = Run::new();
        run.start(&arena.memory, arena.parts[0], true).unwrap();
        assert!(run.try_append(&arena.memory, arena.parts[0], true));
        assert_eq!(run.try_append(&arena.memory, arena.parts[1], true), fits);
        run.finish(&mut arena.memory).unwrap();
        assert!(run.total_len() <= MAX_PACKET);
    }
}

#[test]
fn other_protocol_travels_alone_and_only_with_its_own_checksum() {
    let mut icmp = a_udp_packet(100, 100).bytes();
    icmp[9] = 1;
    let mut arena = Arena::of(&[icmp.clone()]);
    let mut run = Run::new();
    assert_eq!(run.start(&arena.memory, arena.parts[0], true), Err(Malformed::NoChecksumField));
    assert!(run.is_empty() && run.finish(&mut arena.memory).is_none() && run.addresses().is_none());
    run.start(&arena.memory, arena.parts[0], false).unwrap();
    assert!(!run.try_append(&arena.memory, arena.parts[0], false));
    let (parts, offload) = run.finish(&mut arena.memory).unwrap();
    assert_eq!((arena.gather(parts), offload), (icmp, Offload::default()));
}

#[test]
fn run_that_is_started_anew_forgets_the_previous_one() {
    let inner = a_tcp_packet(1000, 100);
    let mut arena = Arena::of(&inner.segments());
    let mut run = arena.run();
    run.start(&arena.memory, arena.parts[0], true).unwrap();
    let (parts, offload) = run.finish(&mut arena.memory).unwrap();
    assert_eq!((parts, offload.gso), (&arena.parts[..1], Gso::None));
    run.clear();
    assert!(run.is_empty() && run.layout().is_none());
    assert!(run.finish(&mut arena.memory).is_none());
}

#[test]
fn run_finishes_in_no_smaller_memory_than_it_was_made_of() {
    let mut arena = Arena::of(&a_tcp_packet(1000, 100).segments());
    let run = arena.run();
    let end = arena.parts.last().map(|part| part.start + part.len).unwrap();
    assert!(run.finish(&mut arena.memory[..end - 1]).is_none());
    assert!(run.finish(&mut arena.memory[..end]).is_some());
}

#[test]
fn udp_datagrams_of_one_flow_continue_each_other_while_they_do_not_grow() {
    let base = a_udp_packet(100, 100);
    let key_of = |bytes: &[u8]| FlowKey::of(bytes, &Layout::parse(bytes).unwrap());
    let bytes = base.bytes();
    let key = key_of(&bytes).unwrap();
    let continues = |bytes: &[u8]| key_of(bytes).is_some_and(|later| later.continues(&key));

    let mut payload = base.payload.clone();
    payload.reverse();
    assert!(continues(&Inner { id: 999, payload, ..base.clone() }.bytes()));
    assert!(continues(&a_udp_packet(99, 100).bytes()) && !continues(&a_udp_packet(101, 101).bytes()));
    assert!(key_of(&a_udp_packet(99, 100).bytes()).unwrap().is_shorter(&key) && !key.is_shorter(&key));
    assert!(!continues(&Inner { version: Version::V6, ..base.clone() }.bytes()));
    assert!(!continues(&a_tcp_packet(88, 100).bytes()));
    for (at, what) in [(1, "TOS"), (8, "TTL"), (15, "source"), (19, "destination"), (21, "port"), (23, "port")] {
        let mut other = bytes.clone();
        other[at] ^= 1;
        assert!(!continues(&other), "{what}");
    }
    let mut fragmentable = bytes.clone();
    fragmentable[6] = 0;
    assert!(key_of(&fragmentable).is_none());

    let v6 = Inner { version: Version::V6, ..base }.bytes();
    let key = key_of(&v6).unwrap();
    let shorter = Inner { version: Version::V6, ..a_udp_packet(50, 100) }.bytes();
    let mut other_label = v6.clone();
    other_label[3] ^= 1;
    assert!(key_of(&v6).unwrap().continues(&key) && key_of(&shorter).unwrap().continues(&key));
    assert!(!key_of(&other_label).unwrap().continues(&key));
}
