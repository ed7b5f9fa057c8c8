//! Device to socket. In the order in which a packet passes:
//! read a packet or super-packet; find the owner of its destination; find the owner's session; for each segment write it
//! behind a header into a send batch and seal it there; send the batches when one is full, or when nothing is left to read.

mod notes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{Destination, MAX_SEND, SendQueue};
use super::passage::Passage;
use super::trace::{Tap, Verdict};
use super::{Device, ForwardingTable, Means, PeerRow, Punt, PuntQueue, Socket, SocketSend, Turn};
use crate::id::PeerId;
use crate::packet::checksum;
use crate::packet::coalesce::FlowKey;
use crate::packet::flow::flow_hash;
use crate::packet::layout::{self, Transport};
use crate::packet::segment::Segments;
use crate::packet::{Gso, MAX_PACKET, MAX_SEGMENTS, Offload, mss};
use crate::path::Fragments;
use crate::route::Target;
use crate::session::{Session, TxLane};
use crate::stats::{DropCounters, DropReason};
use crate::time::Instant;
use crate::wire::{Capabilities, Flags, HEADER_LEN, MessageType, OVERHEAD, RELAY_HEADER_LEN, RelayHeader, TAG_LEN};

/// Bytes of one turn, after which the other direction may go first: 32 super-packets. Smaller turns were measured slower.
const BUDGET: usize = 32 * 61_440;

/// What a packet costs of the budget besides its bytes, so that a flood of small ones ends a turn as well.
const PACKET_COST: usize = 512;

/// How long senders of super-packets to the same peer are not told again that their segments are too large.
const TELL_AGAIN: Duration = Duration::from_millis(5);

/// The sending half of a worker.
pub(super) struct Outbound {
    lane: u8,
    /// The packet being sent. One buffer, so that it stays in the L2 cache.
    packet: Box<[u8]>,
    /// What of it is still to be sealed, where the socket was full in the middle of a super-packet.
    rest: Option<Rest>,
    queue: SendQueue,
    /// This worker's lanes of each peer's sessions.
    lanes: Vec<Lanes>,
    /// More of them, of peers to which there are several ways: at most three each.
    aside: BTreeMap<(PeerId, u8), Lanes>,
    /// The peer to whose senders it was said last that something is too large, and when.
    told: Option<(PeerId, Instant)>,
    /// The peer whose lanes are looked at next, to see whether their sessions are over.
    pruned: usize,
}

#[derive(Clone, Copy)]
struct Rest {
    len: usize,
    offload: Offload,
    next: usize,
}

/// What became of a packet.
enum Sealed {
    /// All of it is in the batch, or sent.
    All,
    /// The socket is full; this segment is the next.
    Until(usize),
}

impl Outbound {
    pub(super) fn new(lane: u8) -> Self {
        Self {
            lane,
            packet: vec![0; MAX_PACKET].into_boxed_slice(),
            rest: None,
            queue: SendQueue::new(),
            lanes: Vec::new(),
            aside: BTreeMap::new(),
            told: None,
            pruned: 0,
        }
    }

    pub(super) fn turn<T: Tap>(
        &mut self,
        table: &ForwardingTable,
        device: &mut dyn Device,
        socket: &mut dyn Socket,
        means: Means<'_, T>,
    ) -> Turn {
        self.prune(table);
        let mut budget = BUDGET;
        let Means { punts, drops, now, tap } = means;
        let mut context = Context { table, socket, punts, drops, now, tap };
        // What a full socket left here is not added to: a part of it may have gone.
        if !flush(&mut self.queue, &mut context) {
            return Turn::Blocked;
        }
        loop {
            let rest = match self.rest.take() {
                Some(rest) => rest,
                None if budget == 0 => break,
                None => match device.recv(&mut self.packet) {
                    Some((len, offload)) => Rest { len: len.min(MAX_PACKET), offload, next: 0 },
                    None => break,
                },
            };
            budget = budget.saturating_sub(rest.len + PACKET_COST);
            let mut rest = rest;
            if let Sealed::Until(next) = self.packet(&mut rest, &mut context) {
                self.rest = Some(Rest { next, ..rest });
                return Turn::Blocked;
            }
        }
        // Nothing waits to be batched with: what is here goes now. No timers, so no added latency.
        if !flush(&mut self.queue, &mut context) {
            return Turn::Blocked;
        }
        if budget == 0 { Turn::More } else { Turn::Drained }
    }

    /// Lets go of one peer's lanes per turn if their sessions are over, so that keys do not live on with peers that nobody talks to.
    fn prune(&mut self, table: &ForwardingTable) {
        let peer = u32::try_from(self.pruned).ok().and_then(|index| table.peer(PeerId(index)));
        self.pruned = match self.lanes.get_mut(self.pruned) {
            Some(lanes) => {
                lanes.keep(peer);
                self.pruned + 1
            }
            None => 0,
        };
        if self.pruned == 0 && !self.aside.is_empty() {
            self.aside.retain(|(peer, _), lanes| {
                lanes.keep(table.peer(*peer));
                lanes.0.iter().any(Option::is_some)
            });
        }
    }

    fn packet<T: Tap>(&mut self, rest: &mut Rest, context: &mut Context<'_, T>) -> Sealed {
        let Some(packet) = self.packet.get_mut(..rest.len) else { return Sealed::All };
        let peer = match route(packet, context.table) {
            Ok(peer) => peer,
            Err(reason) => {
                context.drops.add(reason, 1);
                context.note(packet, Verdict::Dropped(reason), None);
                if matches!(reason, DropReason::NoRoute | DropReason::Denied) {
                    // The core answers with an ICMP error, so that the sender need not wait for its timeout.
                    context.punt_packet(packet, rest.offload);
                }
                return Sealed::All;
            }
        };
        let Some(row) = context.table.peer(peer) else {
            if rest.next == 0 {
                context.note(packet, Verdict::PuntedNoSession, Some(peer));
                context.punt_packet(packet, rest.offload);
            } else {
                // The core would send the segments that are gone once more.
                context.drops.add(DropReason::Unreachable, 1);
                context.note(packet, Verdict::Dropped(DropReason::Unreachable), Some(peer));
            }
            return Sealed::All;
        };
        if rest.offload.gso == Gso::None {
            mss::clamp(packet, row.fit.limit, rest.offload.partial_checksum);
        }
        let Ok(segments) = Segments::new(packet, &rest.offload) else {
            context.drops.add(DropReason::MalformedPacket, 1);
            context.note(packet, Verdict::Dropped(DropReason::MalformedPacket), Some(peer));
            return Sealed::All;
        };
        let (segments, fragments) = match Passage::of(&segments, rest.offload, row.fit) {
            Passage::Open(fragments) => (segments, fragments),
            // What of it has gone cannot be cut anew.
            _ if rest.next > 0 => (segments, Fragments::Allowed),
            Passage::Narrow(payload) => {
                if segments.len_of(0) > usize::from(row.fit.most(segments.layout().version)) {
                    context.punt_sample(&segments, peer, &mut self.told);
                }
                rest.offload = Offload { gso: Gso::Tcp, segment_size: payload, partial_checksum: true };
                let Ok(segments) = Segments::new(packet, &rest.offload) else { return Sealed::All };
                let is_known = segments.len_of(0) <= usize::from(row.fit.whole);
                (segments, if is_known { Fragments::Never } else { Fragments::Allowed })
            }
            Passage::Closed => {
                // The core cuts it, or tells its sender.
                context.note(packet, Verdict::PuntedTooLarge, Some(peer));
                context.punt_packet(packet, rest.offload);
                return Sealed::All;
            }
        };
        // All of a super-packet is one flow.
        let way = row.spread.as_ref().and_then(|spread| spread.of(flow_hash(packet, segments.layout())));
        let (remote, lane) = way.map_or((row.remote, self.lane), |way| (way.remote, self.lane + way.lanes));
        if self.lanes.len() <= peer.index() {
            self.lanes.resize_with(peer.index() + 1, Lanes::default);
        }
        let lanes = if lane == self.lane {
            self.lanes.get_mut(peer.index())
        } else {
            Some(self.aside.entry((peer, lane)).or_default())
        };
        let session = row.sending();
        let Some(held) = lanes.and_then(|lanes| lanes.of(session, lane)) else {
            context.drops.add(DropReason::SessionExhausted, 1);
            context.note(packet, Verdict::Dropped(DropReason::SessionExhausted), Some(peer));
            return Sealed::All;
        };
        let capabilities = session.capabilities;
        let head = remote.channel.map(|channel| RelayHeader { channel, fragments }.to_bytes());
        let to = Destination { address: remote.address, fragments, socket: remote.socket };
        let first = T::IS_ON.then(|| held.lane.next_counter());
        let mut sealer = Sealer { row, to, head, capabilities, held, queue: &mut self.queue, offload: rest.offload };
        let sealed = sealer.seal_from(rest.next, &segments, packet, context);
        if let Some(first) = first {
            context.note_sealed(packet, &sealer, (first, remote), &sealed);
        }
        if sealer.held.lane.is_worn() {
            context.punts.push(Punt::Worn { peer }, context.drops);
        }
        sealed
    }
}

/// What a turn works with besides its own state.
struct Context<'t, T> {
    table: &'t ForwardingTable,
    socket: &'t mut dyn Socket,
    punts: &'t mut PuntQueue,
    drops: &'t DropCounters,
    now: Instant,
    tap: T,
}

impl<T: Tap> Context<'_, T> {
    fn punt_packet(&mut self, packet: &[u8], offload: Offload) {
        self.punts.push(Punt::Packet { packet: packet.into(), offload }, self.drops);
    }

    /// Hands the first segment of a super-packet whose segments are too large to the core, which answers it with an ICMP error.
    /// The super-packet itself goes on, so one for each peer and while is enough.
    #[cold]
    fn punt_sample(&mut self, segments: &Segments<'_>, peer: PeerId, told: &mut Option<(PeerId, Instant)>) {
        if told.is_some_and(|(known, at)| known == peer && self.now - at < TELL_AGAIN) {
            return;
        }
        let mut packet = vec![0; segments.len_of(0)];
        if segments.write(0, &mut packet) {
            *told = Some((peer, self.now));
            // With a checksum that is not marked as partial the core does not send it on.
            self.punt_packet(&packet, Offload::default());
        }
    }
}

/// Finds the peer that owns the destination; refuses what policy or the receiver would refuse.
#[inline]
fn route(packet: &[u8], table: &ForwardingTable) -> Result<PeerId, DropReason> {
    let (source, destination): (IpAddr, IpAddr) = layout::addresses(packet).ok_or(DropReason::MalformedPacket)?;
    let peer = match table.routes.lookup(destination) {
        Some(Target::Peer(peer)) => peer,
        Some(Target::Denied(_)) => return Err(DropReason::Denied),
        Some(Target::Local) | None if destination.is_multicast() || is_broadcast(destination) => {
            return Err(DropReason::Multicast);
        }
        Some(Target::Local) | None => return Err(DropReason::NoRoute),
    };
    match table.routes.lookup(source) {
        Some(Target::Local) => Ok(peer),
        Some(Target::Peer(_) | Target::Denied(_)) | None => Err(DropReason::ForeignSource),
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
}

/// A worker's lanes of one peer's sessions: the one that was used last, and the one before, to which the core may go back where
/// handshakes crossed. A lane is handed out once, so one that is still of use must be kept.
#[derive(Default)]
struct Lanes([Option<Held>; 2]);

/// A lane, and what the last datagram on it carried if the next one may continue it.
struct Held {
    lane: TxLane,
    flow: Option<FlowKey>,
}

impl Lanes {
    /// The lane of `session`, claimed now if need be. Both kinds of turn have it in place.
    #[inline(always)]
    fn of(&mut self, session: &Arc<Session>, lane: u8) -> Option<&mut Held> {
        let [last, before] = &mut self.0;
        let is_of = |held: &Option<Held>| held.as_ref().is_some_and(|held| Arc::ptr_eq(held.lane.session(), session));
        if !is_of(last) {
            std::mem::swap(last, before);
            if !is_of(last) {
                *last = session.claim(lane).map(|lane| Held { lane, flow: None });
            }
        }
        last.as_mut()
    }

    /// Lets go of the lanes that the peer's row has no use for any more.
    fn keep(&mut self, row: Option<&PeerRow>) {
        for held in &mut self.0 {
            held.take_if(|held| row.is_none_or(|row| !row.has(held.lane.session())));
        }
    }
}

/// Most datagrams of this length that one send takes.
fn fits(len: usize) -> usize {
    (MAX_SEND / len.max(1)).clamp(1, MAX_SEGMENTS)
}

/// Seals the segments of one packet, with the one session that they all go out on.
struct Sealer<'w> {
    row: &'w PeerRow,
    to: Destination,
    /// What goes before each datagram, where a relay stands between.
    head: Option<[u8; RELAY_HEADER_LEN]>,
    capabilities: Capabilities,
    held: &'w mut Held,
    queue: &'w mut SendQueue,
    offload: Offload,
}

/// What became of a segment.
enum Step {
    /// It is in a batch.
    Sealed,
    /// The batches have to be sent first.
    NoRoom,
    /// The lane seals no more.
    Exhausted,
}

impl Sealer<'_> {
    /// Seals segments `first..` into batches, sending them whenever they have no room.
    fn seal_from<T: Tap>(
        &mut self,
        first: usize,
        segments: &Segments<'_>,
        packet: &[u8],
        context: &mut Context<'_, T>,
    ) -> Sealed {
        let count = segments.count();
        let full_len = self.datagram_len(segments, 0);
        let wanted = count.min(fits(full_len));
        // A super-packet begins with a fresh batch: the kernel made it so that it fits one send.
        let is_split = first == 0 && count > 1 && !self.queue.reserve(self.to, full_len, wanted);
        if is_split && !flush(self.queue, context) {
            return Sealed::Until(0);
        }
        let flow = self.flow_of(packet, segments);
        let previous = self.held.flow.as_ref().filter(|_| first == 0);
        let (continues, is_last) = match (&flow, previous) {
            (Some(flow), Some(previous)) if flow.continues(previous) => (true, flow.is_shorter(previous)),
            _ => (false, false),
        };
        let coal = self.capabilities.contains(Capabilities::COAL);
        let mut sealed = (0u64, 0u64);
        let mut outcome = Sealed::All;
        for index in first..count {
            let flags = Flags::default().with(Flags::COAL, (index > 0 && coal) || continues);
            let mut step = self.seal_one(segments, index, flags);
            if matches!(step, Step::NoRoom) {
                if !flush(self.queue, context) {
                    outcome = Sealed::Until(index);
                    break;
                }
                step = self.seal_one(segments, index, flags);
            }
            if !matches!(step, Step::Sealed) {
                context.drops.add(DropReason::SessionExhausted, (count - index) as u64);
                break;
            }
            sealed = (sealed.0 + 1, sealed.1 + segments.len_of(index) as u64);
        }
        if sealed.0 > 0 {
            self.held.flow = flow.filter(|_| !is_last);
        }
        self.row.activity.sent(sealed.0, sealed.1, context.now);
        if sealed.0 > 0 && self.row.activity.must_tell(context.now) {
            context.punts.push(Punt::Stirred { peer: self.row.session.peer }, context.drops);
        }
        outcome
    }

    #[inline]
    fn seal_one(&mut self, segments: &Segments<'_>, index: usize, flags: Flags) -> Step {
        let len = self.datagram_len(segments, index);
        let Some(slot) = self.queue.push(self.to, len) else { return Step::NoRoom };
        let slot = match &self.head {
            None => Some(slot),
            Some(head) => slot.split_first_chunk_mut().map(|(front, rest)| {
                *front = *head;
                rest
            }),
        };
        if slot.is_some_and(|slot| seal(segments, index, self.capabilities, flags, &mut self.held.lane, slot)) {
            return Step::Sealed;
        }
        self.queue.pop(len);
        Step::Exhausted
    }

    #[inline]
    fn datagram_len(&self, segments: &Segments<'_>, index: usize) -> usize {
        segments.len_of(index) + OVERHEAD + if self.head.is_some() { RELAY_HEADER_LEN } else { 0 }
    }

    /// The flow of a UDP datagram that may share a super-packet with others at the receiver.
    #[inline]
    fn flow_of(&self, packet: &[u8], segments: &Segments<'_>) -> Option<FlowKey> {
        let both = Capabilities::COAL.and(Capabilities::CSUM_PARTIAL);
        let mergeable =
            self.offload.gso == Gso::None && self.offload.partial_checksum && self.capabilities.contains(both);
        if mergeable { FlowKey::of(packet, segments.layout()) } else { None }
    }
}

/// Writes segment `index` into `slot` and seals it there.
#[inline]
pub(super) fn seal(
    segments: &Segments<'_>,
    index: usize,
    capabilities: Capabilities,
    flags: Flags,
    lane: &mut TxLane,
    slot: &mut [u8],
) -> bool {
    let end = slot.len() - TAG_LEN;
    let Some(inner) = slot.get_mut(HEADER_LEN..end) else { return false };
    if !segments.write(index, inner) {
        return false;
    }
    let partial = segments.is_partial_checksum() && segments.layout().transport != Transport::Other;
    let keep_partial = partial && capabilities.contains(Capabilities::CSUM_PARTIAL);
    if partial && !keep_partial {
        checksum::complete(inner, segments.layout());
    }
    lane.seal(MessageType::Data, flags.with(Flags::CSUM_PARTIAL, keep_partial), slot).is_ok()
}

/// Sends all batches; `false` where the socket is full and the rest must be kept.
fn flush<T: Tap>(queue: &mut SendQueue, context: &mut Context<'_, T>) -> bool {
    while let Some(first) = queue.unsent().first() {
        let done = match context.socket.send(queue.unsent()) {
            SocketSend::Sent(count) => count.max(1),
            SocketSend::Full => return false,
            SocketSend::Dropped => {
                context.drops.add(DropReason::SendFailed, first.count() as u64);
                if T::IS_ON {
                    context.note_refused(first);
                }
                1
            }
        };
        queue.advance(done);
    }
    true
}
