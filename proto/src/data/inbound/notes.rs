//! What is told of datagrams on their way in, where somebody listens.

use super::{Message, View};
use crate::data::trace::{Direction, Tap, Traced, Verdict};
use crate::data::{ChannelRow, ForwardingTable};
use crate::packet::Part;
use crate::path::Locator;
use crate::session::Session;
use crate::stats::DropReason;
use crate::wire::DataHeader;

impl<T: Tap> Message<'_, T> {
    /// Tells of a datagram that was not opened.
    #[inline(always)]
    pub(super) fn note_datagram(&self, part: Part, verdict: Verdict, source: Locator, view: &View<'_>) {
        if T::IS_ON {
            let datagram = self.memory.get(part.start..part.start + part.len).unwrap_or_default();
            let header = DataHeader::parse(datagram).ok();
            let traced = Traced {
                session: header.map(|header| header.receiver),
                counter: header.map(|header| header.counter),
                path: Some(source),
                ..Traced::new(Direction::In, verdict, part.len)
            };
            self.tap.note(&[], traced, Some(view.table));
        }
    }

    /// Tells of a datagram on its way from a member to another.
    #[inline(always)]
    pub(super) fn note_relayed(
        &self,
        part: Part,
        verdict: Verdict,
        (source, row): (Locator, &ChannelRow),
        view: &View<'_>,
    ) {
        if T::IS_ON {
            let (path, onward) = (Some(source), Some(row.to));
            let traced = Traced { path, onward, ..Traced::new(Direction::Relayed, verdict, part.len) };
            self.tap.note(&[], traced, Some(view.table));
        }
    }

    /// Tells of a datagram of a session: of its inner packet, if it was opened.
    #[inline(always)]
    pub(super) fn note_data(
        &self,
        inner: Option<Part>,
        verdict: Verdict,
        (header, source): (&DataHeader, Locator),
        session: &Session,
        table: &ForwardingTable,
    ) {
        if T::IS_ON {
            let packet = inner.and_then(|part| self.memory.get(part.start..part.start + part.len)).unwrap_or_default();
            let traced = Traced {
                peer: Some(session.peer),
                session: Some(header.receiver),
                counter: Some(header.counter),
                path: Some(source),
                ..Traced::new(Direction::In, verdict, packet.len())
            };
            self.tap.note(packet, traced, Some(table));
        }
    }
}

/// Tells of a packet or super-packet that the device did not take.
#[inline(always)]
pub(super) fn note_full<T: Tap>(tap: T, memory: &[u8], parts: &[Part]) {
    if T::IS_ON
        && let Some(first) = parts.first()
    {
        let packet = memory.get(first.start..first.start + first.len).unwrap_or_default();
        let len = parts.iter().map(|part| part.len).sum();
        let verdict = Verdict::Dropped(DropReason::DeviceFull);
        let traced = Traced { segments: parts.len(), ..Traced::new(Direction::In, verdict, len) };
        tap.note(packet, traced, None);
    }
}
