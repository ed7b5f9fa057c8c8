//! The targets.

use std::collections::BTreeSet;

use proto::data::batch::SLOT_LEN;
use proto::packet::segment::Segments;
use proto::packet::vnet::{self, Accepted, VNET_HEADER_LEN};
use proto::packet::{Gso, MAX_PACKET, MAX_SEGMENTS, Offload};
use proto::wire::{
    BindingAnswer, Capabilities, Control, CookieReply, DataHeader, Flags, HEADER_LEN, INITIATION_LEN, Initiation,
    InitiationPayload, MAX_CONTROL, MessageType, OVERHEAD, RELAY_HEADER_LEN, RESPONSE_LEN, RelayHeader, Response,
    ResponsePayload, TAG_LEN, TransactionId,
};

use crate::input::Input;
use crate::oracle::{on_the_wire, payload, without_meaningless_id};
use crate::rig::{ALICE, BOB, End, Forger, Message, pair};
use crate::traffic::{Flow, Unit};

/// Everything that the far end of a mesh may be able to receive.
const CAPABILITIES: [u8; 4] = [3, 0, 1, 2];

/// What goes into one end's device comes out of the other's, packet for packet: generated flows, interleaved in any way,
/// cut into messages at any place, whatever the receiver understands and its device takes.
///
/// # Panics
/// Where it does not.
pub fn identity(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let Sending { mut bob, capabilities, units, batches } = send(input);
    let cuts = input.one_in(2);
    let messages = if cuts { batches.iter().flat_map(|batch| cut(batch, input)).collect() } else { batches };
    let written = bob.receive_all(messages);
    assert_eq!(bob.drops(), [], "the receiver");
    assert_equal(&wire_of(&written), &wire_of(&units));
    if !cuts && bob.device.refused.is_empty() && capabilities.contains(Capabilities(3)) {
        for unit in units.iter().filter(|unit| comes_out_whole(unit)) {
            assert!(written.contains(unit), "a super-packet came out in pieces: {:?}", unit.offload);
        }
    }
}

/// A wire that loses, doubles and reorders: what it lets through comes out, each packet once, in the order in which the
/// wire let it through.
///
/// # Panics
/// Where it does not.
pub fn losses(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let Sending { mut bob, units, batches, .. } = send(input);
    // One datagram is one packet, in order.
    let (mut sent, packets) = (Vec::new(), wire_of(&units));
    sent.extend(batches.iter().flat_map(Message::datagrams).zip(packets));
    let (mut passed, mut expected, mut doubles) = (Vec::<&[u8]>::new(), Vec::new(), 0);
    while !sent.is_empty() {
        let (datagram, packet) = sent.remove(if input.one_in(8) { input.below(sent.len().min(40)) } else { 0 });
        if !input.one_in(10) {
            passed.push(datagram);
            expected.push(packet);
            if input.one_in(10) {
                doubles += 1;
                passed.insert(passed.len() - input.below(passed.len().min(20)), datagram);
                // The first of the two counts, and it may have come before others.
                let first = passed.iter().position(|other| *other == datagram).unwrap_or(0);
                let earlier = passed[..first].iter().collect::<BTreeSet<_>>().len();
                let packet = expected.pop().expect("just pushed");
                expected.insert(earlier, packet);
            }
        }
    }
    let written = bob.receive_all(joined(&passed, input));
    assert_eq!(bob.drops().iter().map(|(_, count)| count).sum::<u64>(), doubles, "every double, and nothing else");
    assert_equal(&wire_of(&written), &expected);
}

/// What Alice made of some units, and who is to receive it.
struct Sending {
    bob: End,
    capabilities: Capabilities,
    units: Vec<Unit>,
    batches: Vec<Message>,
}

fn send(input: &mut Input<'_>) -> Sending {
    let capabilities = Capabilities(input.pick(&CAPABILITIES));
    let [mut alice, mut bob] = pair(capabilities);
    bob.device.refused = input.pick(&[&[][..], &[Gso::Tcp], &[Gso::Udp], &[Gso::Tcp, Gso::Udp]]).to_vec();
    alice.socket.full = (0..input.below(12)).map(|_| input.one_in(2)).collect();
    let mut flows: Vec<Flow> = (0..=input.below(4)).map(|_| Flow::draw(input, ALICE, BOB)).collect();
    let mut units = Vec::new();
    for _ in 0..=input.below(12) {
        let flow = input.below(flows.len());
        units.extend((0..=input.below(4)).map(|_| flows[flow].next(input)));
    }
    alice.device.to_read = units.iter().cloned().collect();
    let batches = alice.send_all();
    assert_eq!(alice.drops(), [], "the sender");
    Sending { bob, capabilities, units, batches }
}

fn wire_of(units: &[Unit]) -> Vec<Vec<u8>> {
    let packets = units.iter().flat_map(|unit| on_the_wire(&unit.packet, unit.offload));
    packets.map(without_meaningless_id).collect()
}

fn assert_equal(arrived: &[Vec<u8>], expected: &[Vec<u8>]) {
    for (number, (arrived, expected)) in arrived.iter().zip(expected).enumerate() {
        assert!(arrived == expected, "packet {number}:\n{arrived:02x?}\nshould be\n{expected:02x?}");
    }
    assert_eq!(arrived.len(), expected.len(), "the number of packets");
}

/// Datagrams as the messages that a kernel may join them to: equal lengths, and a shorter last one.
fn joined(datagrams: &[&[u8]], input: &mut Input<'_>) -> Vec<Message> {
    let (mut rest, mut messages) = (datagrams, Vec::new());
    while let Some(first) = rest.first().map(|first| first.len()) {
        let alike = rest.iter().take_while(|datagram| datagram.len() == first).count();
        let whole = alike + usize::from(rest.get(alike).is_some_and(|next| next.len() < first));
        let whole = whole.min(SLOT_LEN / first.max(1)).max(1);
        let (message, later) = rest.split_at(if input.one_in(4) { 1 + input.below(whole) } else { whole });
        messages.push(Message::of(message));
        rest = later;
    }
    messages
}

/// One batch as the messages of a receiver whose kernel joined fewer datagrams.
fn cut(batch: &Message, input: &mut Input<'_>) -> Vec<Message> {
    let datagrams: Vec<&[u8]> = batch.datagrams().collect();
    let (mut rest, mut messages) = (datagrams.as_slice(), Vec::new());
    while !rest.is_empty() {
        let (message, later) = rest.split_at((1 + input.below(20)).min(rest.len()));
        messages.push(Message::of(message));
        rest = later;
    }
    messages
}

/// Whether a super-packet fits one send, and the rules for coalescing keep it together.
fn comes_out_whole(Unit { packet, offload }: &Unit) -> bool {
    const SYN_RST_URG: u8 = 0x26;
    let Ok(segments) = Segments::new(packet, offload) else { return false };
    let fits = segments.count() <= MAX_SEGMENTS.min(proto::data::batch::MAX_SEND / (segments.len_of(0) + OVERHEAD));
    let flags = packet.get(segments.layout().l4_offset + 13).copied().unwrap_or(0);
    let is_plain = offload.gso == Gso::Udp || flags & SYN_RST_URG == 0 && flags & 16 != 0;
    offload.gso != Gso::None && offload.partial_checksum && segments.count() > 1 && fits && is_plain
}

/// Every parser of the format on the wire: none panics, only the documented sizes parse, and what parses is written as it
/// came.
///
/// # Panics
/// Where one does not keep to that.
pub fn wire(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let len = match input.below(5) {
        0 => INITIATION_LEN,
        1 => RESPONSE_LEN,
        2 => proto::wire::COOKIE_REPLY_LEN,
        3 => OVERHEAD,
        _ => input.below(400),
    };
    let datagram = input.bytes(len);
    let kind = MessageType::of(&datagram);
    assert_eq!(kind.is_ok(), datagram.first().is_some_and(|first| matches!(first, 1..=5 | 7)));
    if let Ok(message) = Initiation::parse(&datagram) {
        assert_eq!((kind, len), (Ok(MessageType::Initiation), INITIATION_LEN));
        assert_eq!(message.to_bytes()[4..], datagram[4..INITIATION_LEN - 32]);
    }
    if let Ok(message) = Response::parse(&datagram) {
        assert_eq!((kind, len), (Ok(MessageType::Response), RESPONSE_LEN));
        assert_eq!(message.to_bytes()[4..], datagram[4..RESPONSE_LEN - 32]);
    }
    if let Ok(message) = CookieReply::parse(&datagram) {
        assert_eq!(kind, Ok(MessageType::CookieReply));
        assert_eq!(message.to_bytes()[4..], datagram[4..]);
    }
    if let Ok(header) = DataHeader::parse(&datagram) {
        assert!(matches!(kind, Ok(MessageType::Data | MessageType::Control)) && len >= HEADER_LEN + TAG_LEN);
        let mut written = header.to_bytes();
        written[3] = datagram[3];
        assert_eq!(written[..], datagram[..HEADER_LEN]);
    }
    if let Some(control) = Control::parse(&datagram) {
        // An address that cannot be sent to is left out, so the bytes may differ; the meaning may not.
        let written = control.to_bytes();
        assert!(written.len() <= MAX_CONTROL);
        assert_eq!(Control::parse(&written), Some(control));
    }
    if kind == Ok(MessageType::Relayed)
        && let Ok(header) = RelayHeader::parse(&datagram)
    {
        assert_eq!(header.to_bytes()[4..], datagram[4..RELAY_HEADER_LEN]);
    }
    if let Some(payload) = datagram.first_chunk::<16>() {
        assert_eq!(InitiationPayload::parse(payload).to_bytes()[..11], payload[..11]);
        if let Some(response) = ResponsePayload::parse(payload) {
            assert_eq!(response.to_bytes()[..3], payload[..3]);
        }
    }
}

/// Answers of STUN servers, each attribute of which may be anything: none panics, and what gives an address begins as
/// `docs/wire.md` says.
///
/// # Panics
/// Where one does not.
pub fn stun(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let mut attributes = Vec::new();
    for _ in 0..input.below(6) {
        let (any_kind, any_len, any_family) = (input.byte(), input.below(40), input.byte());
        let (kind, len) = (input.pick(&[0x01, 0x20, 0x09, any_kind]), input.pick(&[8, 20, 4, any_len]));
        let said = if input.one_in(8) { input.byte() } else { u8::try_from(len).unwrap() };
        attributes.extend([0, kind, 0, said, 0, input.pick(&[1, 2, any_family])]);
        attributes.extend(input.bytes(len.next_multiple_of(4).saturating_sub(2)));
    }
    let len = u16::try_from(attributes.len()).unwrap();
    let mut datagram = input.pick(&[[1, 1], [1, 0x11], [1, 0]]).to_vec();
    datagram.extend(len.to_be_bytes());
    datagram.extend([0x21, 0x12, 0xa4, 0x42]);
    datagram.extend(input.bytes(12));
    datagram.extend(attributes);
    if input.one_in(4) {
        let (at, byte) = (input.below(datagram.len()), input.byte());
        datagram[at] = byte;
    }
    if let Some(answer) = BindingAnswer::parse(&datagram) {
        let len = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
        assert!(datagram.len() == 20 + len && datagram[4..8] == [0x21, 0x12, 0xa4, 0x42]);
        assert!(TransactionId::of_answer(&datagram).is_some_and(|TransactionId(id)| id[..] == datagram[8..20]));
        match answer {
            BindingAnswer::Address(address) => assert!(datagram[1] == 1 && address.port() != 0),
            BindingAnswer::Refused(code) => assert!(datagram[1] == 0x11 && (300..700).contains(&code)),
        }
    }
}

/// Any virtio header before any packet: what is accepted can be segmented and described again, to the same meaning.
///
/// # Panics
/// Where it cannot.
pub fn virtio(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let mut unit = any_unit(input);
    let mut header = [0; VNET_HEADER_LEN];
    let described = vnet::describe(&unit.packet, unit.offload);
    match described {
        Some(right) if !input.one_in(3) => {
            header = right;
            for _ in 0..input.below(3) {
                header[input.below(VNET_HEADER_LEN)] = input.byte();
            }
            if input.one_in(8) {
                // The segment size.
                header[4..6].fill(0);
            }
        }
        _ => header.copy_from_slice(&input.bytes(VNET_HEADER_LEN)),
    }
    let len = unit.packet.len();
    let Some(accepted) = vnet::accept(&header, &mut unit.packet) else { return };
    assert_eq!(unit.packet.len(), len);
    let Accepted::As(offload) = accepted else { return };
    if offload == Offload::default() {
        return;
    }
    let segments = Segments::new(&unit.packet, &offload).expect("what is accepted fits its packet");
    assert_eq!(on_the_wire(&unit.packet, offload).len(), segments.count());
    let again = vnet::describe(&unit.packet, Offload { partial_checksum: true, ..offload }).expect("it can be written");
    let expected = Accepted::As(Offload { partial_checksum: true, ..offload });
    assert_eq!(vnet::accept(&again, &mut unit.packet), Some(expected));
}

/// Any packet under any offload at the sender: nothing panics, and what it sends is let in and consistent at the receiver.
///
/// # Panics
/// Where it is not.
pub fn outbound(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let [mut alice, mut bob] = pair(Capabilities(input.pick(&CAPABILITIES)));
    alice.socket.full = (0..input.below(6)).map(|_| input.one_in(2)).collect();
    alice.device.to_read = (0..=input.below(6)).map(|_| any_unit(input)).collect();
    let sent = alice.send_all();
    let _: Vec<Unit> = bob.receive_all(sent);
    assert_eq!(bob.drops(), [], "the sender sent what the receiver refuses");
}

/// A packet, perhaps damaged, with its own offload or any other.
fn any_unit(input: &mut Input<'_>) -> Unit {
    let mut unit = Flow::draw(input, ALICE, BOB).next(input);
    damage(&mut unit.packet, input);
    if input.one_in(3) {
        let gso = input.pick(&[Gso::None, Gso::Tcp, Gso::Udp]);
        // Not so small that a packet becomes ten thousand: that takes time and shows nothing new.
        let segment_size = if input.one_in(4) { input.byte().into() } else { input.word() | 64 };
        unit.offload = Offload { gso, segment_size, partial_checksum: input.one_in(2) };
    }
    unit
}

/// Overwrites a few bytes of the headers, or cuts something off. Most often it does nothing.
fn damage(packet: &mut Vec<u8>, input: &mut Input<'_>) {
    match input.below(6) {
        0..=2 => {}
        3 => packet.truncate(input.below(100)),
        _ => {
            for _ in 0..=input.below(3) {
                let (at, byte) = (input.below(80), input.byte());
                if let Some(old) = packet.get_mut(at) {
                    *old = byte;
                }
            }
        }
    }
}

/// A member that follows no rule: authentic datagrams with any flags, lanes, counters and inner packets, in any order.
/// Nothing panics, and what reaches the device is from the member, to us, and one packet that the kernel can work with.
///
/// # Panics
/// Where it is not.
pub fn chains(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let [_, mut bob] = pair(Capabilities(3));
    bob.device.refused = input.pick(&[&[][..], &[], &[Gso::Tcp, Gso::Udp]]).to_vec();
    let datagrams = forged(input);
    let messages = joined(&datagrams.iter().map(|(_, datagram)| datagram.as_slice()).collect::<Vec<_>>(), input);
    let contents: BTreeSet<Vec<u8>> =
        datagrams.iter().filter_map(|(inner, _)| payload(inner)).map(<[u8]>::to_vec).collect();
    for Unit { packet, offload } in bob.receive_all(messages).iter().filter(|unit| unit.offload.gso != Gso::None) {
        for packet in on_the_wire(packet, *offload) {
            assert!(contents.contains(payload(&packet).expect("TCP or UDP")), "content that nobody sent");
        }
    }
    assert_serves(&mut bob);
}

/// An inner packet, and an authentic datagram around it.
type Forged = (Vec<u8>, Vec<u8>);

/// The segments of some packets, each step of which may break any rule.
fn forged(input: &mut Input<'_>) -> Vec<Forged> {
    let (forger, mut datagrams) = (Forger::default(), Vec::new());
    let mut sequence = input.pick(&[0, 1 << 32, (1 << 56) - 2_000]);
    for _ in 0..=input.below(4) {
        let (from, to) =
            (input.pick(&[ALICE, ALICE, ALICE, ALICE, BOB, 3]), input.pick(&[BOB, BOB, BOB, BOB, ALICE, 3]));
        let unit = Flow::draw(input, from, to).next(input);
        let Ok(segments) = Segments::new(&unit.packet, &unit.offload) else { continue };
        // Longer than any super-packet may get: the first segment again and again.
        let more = input.pick(&[0, 0, 0, 70]);
        for number in 0..segments.count().min(70) + more {
            let next = if number < segments.count() { number } else { 0 };
            let index = if input.one_in(16) { input.below(segments.count()) } else { next };
            let mut inner = vec![0; segments.len_of(index)];
            assert!(segments.write(index, &mut inner));
            if input.one_in(4) {
                damage(&mut inner, input);
            }
            let flags = if input.one_in(8) { Flags(input.byte()) } else { Flags(if number == 0 { 1 } else { 3 }) };
            let lane = if input.one_in(32) { input.byte() } else { 0 };
            sequence = match input.below(32) {
                0..=28 => sequence + 1,
                29 => sequence + 2,
                30 => sequence,
                _ => u64::from(input.word()),
            };
            let datagram = forger.seal(flags, lane, sequence, &inner);
            datagrams.push((inner, datagram));
        }
    }
    datagrams
}

/// Receive slots that lie: lengths and strides that have nothing to do with what stands there, among them authentic
/// datagrams. Nothing panics, and only consistent packets of the member reach the device.
///
/// # Panics
/// Where something does.
pub fn slots(bytes: &[u8]) {
    let input = &mut Input::new(bytes);
    let [_, mut bob] = pair(Capabilities(3));
    let datagrams = forged(input);
    let mut rest = datagrams.as_slice();
    let mut messages = Vec::new();
    for _ in 0..=input.below(8) {
        let (some, later) = rest.split_at(input.below(5).min(rest.len()));
        rest = later;
        let mut bytes: Vec<u8> = some.iter().flat_map(|(_, datagram)| datagram).copied().collect();
        if input.one_in(3) {
            bytes.extend(input.bytes(200));
        }
        let honest = some.first().map_or(1, |(_, datagram)| datagram.len());
        let len = input.pick(&[bytes.len(), 0, bytes.len() / 2, bytes.len() + 77, MAX_PACKET, usize::MAX]);
        let stride = match input.below(6) {
            0..=2 => honest,
            3 => honest.saturating_sub(usize::from(input.byte())),
            4 => input.pick(&[0, 1, 31, 32, 33, usize::MAX]),
            _ => honest + usize::from(input.byte()),
        };
        // Strides of few bytes over 64 KB are many datagrams; a few such messages show as much as many.
        messages.push(Message { bytes, len, stride });
    }
    let _: Vec<Unit> = bob.receive_all(messages);
    assert_serves(&mut bob);
}

/// After whatever came before, an honest packet passes.
fn assert_serves(bob: &mut End) {
    let honest = Flow::draw(&mut Input::new(&[]), ALICE, BOB).next(&mut Input::new(&[]));
    let packet = on_the_wire(&honest.packet, honest.offload).swap_remove(0);
    let datagram = Forger::default().seal(Flags(0), 0, (1 << 56) - 1, &packet);
    let written = bob.receive_all([Message::of(&[&datagram])]);
    assert_eq!(written, [Unit { packet, offload: Offload::default() }]);
}
