//! Socket to device. In the order in which a datagram passes:
//! receive messages; by type, punt handshake and control to the core; find the session and lock the lane; open in place;
//! check that the inner source belongs to the sender and the inner destination to us; continue the run or begin a new one;
//! write each run to the device as one packet or super-packet.

mod notes;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::batch::{RecvBatch, RecvMeta};
use super::relay::Forward;
use super::trace::{Tap, Verdict};
use super::{Device, DeviceSend, ForwardingTable, Means, Published, Punt, PuntQueue, SessionRow, Socket, Turn};
use crate::account::Carried;
use crate::id::SessionIndex;
use crate::packet::coalesce::Run;
use crate::packet::{MAX_PACKET, Offload, Part, layout, mss};
use crate::path::{Channel, Locator};
use crate::route::Target;
use crate::session::OpenError;
use crate::stats::{DropCounters, DropReason};
use crate::time::Instant;
use crate::wire::{
    COOKIE_REPLY_LEN, CookieReply, DataHeader, Flags, HEADER_LEN, INITIATION_LEN, MAX_CONTROL, MessageType, OVERHEAD,
    RELAY_HEADER_LEN, RESPONSE_LEN, RelayHeader, TransactionId,
};
use notes::note_full;

/// Bytes of one turn, after which the other direction may go first: 16 super-packets.
const BUDGET: usize = 16 * 61_440;

/// What a message costs of the budget besides its bytes.
const MESSAGE_COST: usize = 512;

/// How long the same session's news of the same address is not repeated to the core, which is busy with the first.
const REPORT_REPEAT: Duration = Duration::from_millis(100);

/// The receiving half of a worker.
pub(super) struct Inbound {
    batch: RecvBatch,
    run: Run,
    /// Where the open run stands: its session, and the counter that would continue it.
    run_end: Option<(SessionIndex, u64)>,
    /// For taking a super-packet apart that the device refused.
    scratch: Box<[u8]>,
    reported: Option<(SessionIndex, Locator, Instant)>,
    forward: Forward,
}

/// The table, and how to get a newer one: a session may have been published since the turn began.
pub(super) struct View<'t> {
    pub(super) table: &'t mut Arc<ForwardingTable>,
    pub(super) published: &'t Published,
}

impl View<'_> {
    /// Both kinds of turn have it in place.
    #[inline(always)]
    fn session(&mut self, index: SessionIndex) -> Option<SessionRow> {
        if let Some(row) = self.table.session(index) {
            return Some(row.clone());
        }
        // The response to a handshake goes out right after its session was published, so the peer's first datagram can
        // overtake our look at the new table.
        if self.published.refresh(self.table) { self.table.session(index).cloned() } else { None }
    }

    /// Whether the index is one of ours: a session's, or a handshake's that is under way.
    fn is_ours(&mut self, index: SessionIndex) -> bool {
        self.table.has(index) || (self.published.refresh(self.table) && self.table.has(index))
    }
}

/// Datagrams of one message: `start..end` in the arena, `stride` apart, each behind a relay's header of `head` bytes.
#[derive(Clone, Copy)]
struct Cursor {
    at: usize,
    end: usize,
    stride: usize,
    head: usize,
}

impl Cursor {
    fn peek(&self) -> Option<Part> {
        let len = self.stride.min(self.end - self.at);
        (len > self.head).then(|| Part { start: self.at + self.head, len: len - self.head })
    }

    fn skip(&mut self) {
        self.at = (self.at + self.stride).min(self.end);
    }
}

impl Inbound {
    pub(super) fn new() -> Self {
        Self {
            batch: RecvBatch::new(),
            run: Run::default(),
            run_end: None,
            scratch: vec![0; MAX_PACKET].into_boxed_slice(),
            reported: None,
            forward: Forward::new(),
        }
    }

    pub(super) fn turn<T: Tap>(
        &mut self,
        view: &mut View<'_>,
        device: &mut dyn Device,
        socket: &mut dyn Socket,
        means: Means<'_, T>,
    ) -> Turn {
        let Means { punts, drops, now, tap } = means;
        let mut budget = BUDGET;
        while budget > 0 {
            let count = socket.recv(&mut self.batch);
            if count == 0 {
                return Turn::Drained;
            }
            let Self { batch, run, run_end, scratch, reported, forward } = self;
            let (metas, memory) = batch.messages();
            let mut message =
                Message { run, run_end, scratch, reported, forward, memory, device, socket, punts, drops, now, tap };
            for (slot, meta) in metas.iter().take(count).enumerate() {
                budget = budget.saturating_sub(meta.len + MESSAGE_COST);
                message.handle(slot, *meta, view);
            }
            // The slots are about to be filled anew. Within one receive a run goes on across messages: where the link has
            // no UDP GRO each message is a single datagram, and this is worth 1.9 times the throughput.
            message.end_run();
            message.forward.flush(message.socket, drops);
            if socket.is_drained() {
                return Turn::Drained;
            }
        }
        Turn::More
    }
}

/// The work on one received message.
struct Message<'w, T> {
    run: &'w mut Run,
    run_end: &'w mut Option<(SessionIndex, u64)>,
    scratch: &'w mut [u8],
    reported: &'w mut Option<(SessionIndex, Locator, Instant)>,
    forward: &'w mut Forward,
    memory: &'w mut [u8],
    device: &'w mut dyn Device,
    socket: &'w mut dyn Socket,
    punts: &'w mut PuntQueue,
    drops: &'w DropCounters,
    now: Instant,
    tap: T,
}

impl<T: Tap> Message<'_, T> {
    fn handle(&mut self, slot: usize, meta: RecvMeta, view: &mut View<'_>) {
        let start = RecvBatch::slot_start(slot);
        if meta.len == 0 {
            self.drops.add(DropReason::MalformedDatagram, 1);
        }
        let mut cursor = Cursor { at: start, end: start + meta.len, stride: meta.stride.max(1), head: 0 };
        self.walk(&mut cursor, Locator { socket: meta.socket, ..Locator::from(meta.source) }, view);
    }

    fn walk(&mut self, cursor: &mut Cursor, source: Locator, view: &mut View<'_>) {
        while let Some(part) = cursor.peek() {
            let Some(datagram) = self.memory.get(part.start..part.start + part.len) else { return };
            match MessageType::of(datagram) {
                Ok(MessageType::Data) => match DataHeader::parse(datagram) {
                    Ok(header) => self.data(cursor, header, source, view),
                    Err(_) => self.drop_one(cursor, DropReason::MalformedDatagram, source, view),
                },
                // A relay's relay would make loops possible.
                Ok(MessageType::Relayed) if source.channel.is_some() => {
                    self.drop_one(cursor, DropReason::MalformedDatagram, source, view);
                }
                Ok(MessageType::Relayed) => self.relayed(cursor, source, view),
                Ok(kind) => {
                    if let Err(reason) = self.punt(kind, part, source, view) {
                        self.drops.add(reason, 1);
                        self.note_datagram(part, Verdict::Dropped(reason), source, view);
                    }
                    cursor.skip();
                }
                Err(_) => self.drop_one(cursor, DropReason::UnknownType, source, view),
            }
        }
    }

    /// Passes this datagram and those after it on the same channel on to its other end, or takes them as what came from there.
    fn relayed(&mut self, cursor: &mut Cursor, source: Locator, view: &mut View<'_>) {
        let Some(channel) = cursor.peek().and_then(|part| self.channel_of(part)) else {
            return self.drop_one(cursor, DropReason::MalformedDatagram, source, view);
        };
        let row = view.table.channel(channel).cloned();
        let is_foreign = row.as_ref().is_some_and(|row| !row.from.contains(&source.address));
        let mut inner = Cursor { end: cursor.at, head: RELAY_HEADER_LEN, ..*cursor };
        let (mut carried, mut limited) = (Carried::default(), 0);
        while let Some(part) = cursor.peek()
            && self.channel_of(part) == Some(channel)
        {
            cursor.skip();
            inner.end = cursor.at;
            let Some(row) = &row else { continue };
            if is_foreign {
                self.drops.add(DropReason::RelayForeign, 1);
                self.note_relayed(part, Verdict::Dropped(DropReason::RelayForeign), (source, row), view);
                continue;
            }
            let Some(datagram) = self.memory.get(part.start..part.start + part.len) else { return };
            match self.forward.push(row, datagram, self.socket, self.drops, self.now) {
                Ok(()) => {
                    carried += Carried { datagrams: 1, bytes: part.len as u64 };
                    self.note_relayed(part, Verdict::Forwarded, (source, row), view);
                }
                Err(reason) => {
                    self.note_relayed(part, Verdict::Dropped(reason), (source, row), view);
                    limited += u64::from(matches!(reason, DropReason::RelayLimited | DropReason::RelayTotalLimited));
                    self.drops.add(reason, 1);
                }
            }
        }
        if let Some(row) = row {
            row.count(carried, limited);
        } else {
            self.walk(&mut inner, Locator { channel: Some(channel), ..source }, view);
        }
    }

    fn channel_of(&self, part: Part) -> Option<Channel> {
        let datagram = self.memory.get(part.start..part.start + part.len)?;
        let is_relayed = MessageType::of(datagram) == Ok(MessageType::Relayed);
        if is_relayed { RelayHeader::parse(datagram).ok().map(|header| header.channel) } else { None }
    }

    fn drop_one(&self, cursor: &mut Cursor, reason: DropReason, source: Locator, view: &View<'_>) {
        self.drops.add(reason, 1);
        if let Some(part) = cursor.peek() {
            self.note_datagram(part, Verdict::Dropped(reason), source, view);
        }
        cursor.skip();
    }

    /// Hands a handshake or control message to the core, if it has the right size and either the right mac1 or an index of
    /// ours; and an answer to a STUN request, if it is awaited. Whoever has none of these would fill the queue to the core
    /// from anywhere.
    fn punt(&mut self, kind: MessageType, part: Part, source: Locator, view: &mut View<'_>) -> Result<(), DropReason> {
        let datagram = self.memory.get(part.start..part.start + part.len).ok_or(DropReason::MalformedDatagram)?;
        // Its first byte is that of an initiation.
        if let Some(id) = TransactionId::of_answer(datagram) {
            // A server behind a relay has not seen us.
            if source.channel.is_some() || !view.table.awaited.has(id) {
                return Err(DropReason::StunUnexpected);
            }
            let source = source.address;
            self.punts.push(Punt::StunAnswer { datagram: datagram.into(), source }, self.drops);
            return Ok(());
        }
        let sized = match kind {
            MessageType::Initiation => part.len == INITIATION_LEN,
            MessageType::Response => part.len == RESPONSE_LEN,
            MessageType::CookieReply => part.len == COOKIE_REPLY_LEN,
            MessageType::Control => (OVERHEAD..=OVERHEAD + MAX_CONTROL).contains(&part.len),
            MessageType::Data | MessageType::Relayed => false,
        };
        if !sized {
            return Err(DropReason::MalformedDatagram);
        }
        let is_proven = match kind {
            MessageType::Initiation | MessageType::Response if view.table.mac1.verify(datagram) => true,
            MessageType::Initiation | MessageType::Response => return Err(DropReason::BadMac),
            MessageType::CookieReply => CookieReply::parse(datagram).is_ok_and(|reply| view.is_ours(reply.receiver)),
            MessageType::Control => DataHeader::parse(datagram).is_ok_and(|header| view.is_ours(header.receiver)),
            MessageType::Data | MessageType::Relayed => false,
        };
        if !is_proven {
            return Err(DropReason::UnknownSession);
        }
        self.punts.push(Punt::Datagram { datagram: datagram.into(), source }, self.drops);
        Ok(())
    }

    /// Opens this datagram and those after it that are of the same session and lane, under one lock.
    fn data(&mut self, cursor: &mut Cursor, first: DataHeader, source: Locator, view: &mut View<'_>) {
        let Some(row) = view.session(first.receiver) else {
            return self.drop_one(cursor, DropReason::UnknownSession, source, view);
        };
        let session = Arc::clone(&row.session);
        let Some(mut lane) = session.lane(first.lane) else {
            return self.drop_one(cursor, DropReason::AuthenticationFailed, source, view);
        };
        let (mut packets, mut bytes, mut opened, mut newest) = (0u64, 0u64, false, false);
        while let Some(part) = cursor.peek() {
            let Some(datagram) = self.memory.get_mut(part.start..part.start + part.len) else { break };
            let Ok(header) = DataHeader::parse(datagram) else { break };
            if header.kind != MessageType::Data || header.receiver != first.receiver || header.lane != first.lane {
                break;
            }
            cursor.skip();
            match lane.open(&header, datagram) {
                Ok(len) => {
                    (opened, newest) = (true, newest || lane.is_newest(header.counter));
                    if len == 0 {
                        continue;
                    }
                    let inner = Part { start: part.start + HEADER_LEN, len };
                    match self.deliver(inner, &header, &row, view.table) {
                        Ok(()) => {
                            (packets, bytes) = (packets + 1, bytes + len as u64);
                            let verdict = Verdict::Delivered;
                            self.note_data(Some(inner), verdict, (&header, source), &session, view.table);
                        }
                        Err(reason) => {
                            self.drops.add(reason, 1);
                            let verdict = Verdict::Dropped(reason);
                            self.note_data(Some(inner), verdict, (&header, source), &session, view.table);
                        }
                    }
                }
                Err(error) => {
                    let reason = match error {
                        OpenError::Replayed => DropReason::Replayed,
                        OpenError::Authentication => DropReason::AuthenticationFailed,
                    };
                    self.drops.add(reason, 1);
                    self.note_data(None, Verdict::Dropped(reason), (&header, source), &session, view.table);
                }
            }
        }
        drop(lane);
        if opened {
            row.activity.received(packets, bytes, self.now);
            if packets > 0 && row.activity.must_tell(self.now) {
                self.punts.push(Punt::Stirred { peer: session.peer }, self.drops);
            }
            self.report_source(&row, source, newest, view.table);
        }
    }

    /// Tells the core that a session came alive, or that its peer has moved.
    fn report_source(&mut self, row: &SessionRow, source: Locator, newest: bool, table: &ForwardingTable) {
        let session = row.session.local;
        let expected = table.peer(row.session.peer);
        let punt = if !row.session.is_confirmed() {
            Punt::Confirmed { session, source }
        } else if newest && expected.is_some_and(|expected| !expected.goes_to(source)) {
            // Only the newest datagram may move a peer: older ones may be replays from before it came here.
            Punt::Roamed { session, source }
        } else {
            return;
        };
        let repeated =
            self.reported.is_some_and(|(s, a, at)| s == session && a == source && self.now - at < REPORT_REPEAT);
        if !repeated && self.punts.push(punt, self.drops) {
            *self.reported = Some((session, source, self.now));
        }
    }

    /// Appends an opened inner packet to the run that it continues, or checks it and begins a new run with it.
    fn deliver(
        &mut self,
        inner: Part,
        header: &DataHeader,
        row: &SessionRow,
        table: &ForwardingTable,
    ) -> Result<(), DropReason> {
        let partial = header.flags.contains(Flags::CSUM_PARTIAL);
        let continues = header.flags.contains(Flags::COAL) && *self.run_end == Some((header.receiver, header.counter));
        let next = (header.receiver, header.counter.wrapping_add(1));
        if continues && self.run.try_append(self.memory, inner, partial) {
            *self.run_end = Some(next);
            return Ok(());
        }
        self.end_run();
        let packet = self.memory.get_mut(inner.start..inner.start + inner.len).ok_or(DropReason::MalformedInner)?;
        let (source, destination): (IpAddr, IpAddr) = layout::addresses(packet).ok_or(DropReason::MalformedInner)?;
        if !table.routes.admits(source, row.session.peer) {
            return Err(DropReason::ForgedSource);
        }
        if table.routes.lookup(destination) != Some(Target::Local) {
            return Err(DropReason::NotAnnounced);
        }
        if mss::syn(packet).is_some()
            && let Some(peer) = table.peer(row.session.peer)
        {
            mss::clamp(packet, peer.fit.limit, partial);
        }
        self.run.start(self.memory, inner, partial).map_err(|_| DropReason::MalformedInner)?;
        *self.run_end = Some(next);
        Ok(())
    }

    /// Writes the open run, if there is one.
    fn end_run(&mut self) {
        *self.run_end = None;
        let refused = match self.run.finish(self.memory) {
            None => return,
            Some((parts, offload)) => match self.device.send(self.memory, parts, offload) {
                DeviceSend::Sent => false,
                DeviceSend::Dropped => {
                    self.drops.add(DropReason::DeviceFull, parts.len() as u64);
                    note_full(self.tap, self.memory, parts);
                    false
                }
                DeviceSend::Refused => true,
            },
        };
        if refused {
            self.write_apart();
        }
        self.run.clear();
    }

    /// Writes the segments of a refused super-packet one by one, with complete checksums.
    fn write_apart(&mut self) {
        for index in 0..self.run.count() {
            let len = self.run.segment(self.memory, index, self.scratch);
            let part = [Part { start: 0, len }];
            match self.device.send(self.scratch, &part, Offload::default()) {
                DeviceSend::Sent => {}
                DeviceSend::Dropped | DeviceSend::Refused => self.drops.add(DropReason::DeviceFull, 1),
            }
        }
    }
}
