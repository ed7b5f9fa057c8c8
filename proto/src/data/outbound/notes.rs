//! What is told of packets on their way out, where somebody listens.

use super::{Context, Sealed, Sealer};
use crate::data::batch::SendBatch;
use crate::data::trace::{Direction, Tap, Traced, Verdict};
use crate::id::PeerId;
use crate::path::Locator;
use crate::stats::DropReason;

impl<T: Tap> Context<'_, T> {
    /// Tells of a packet that is not sealed.
    #[inline(always)]
    pub(super) fn note(&self, packet: &[u8], verdict: Verdict, peer: Option<PeerId>) {
        if T::IS_ON {
            let traced = Traced { peer, ..Traced::new(Direction::Out, verdict, packet.len()) };
            self.tap.note(packet, traced, Some(self.table));
        }
    }

    /// Tells of what was sealed of a packet from the counter `first` on, and of what could not be.
    #[cold]
    pub(super) fn note_sealed(
        &self,
        packet: &[u8],
        sealer: &Sealer<'_>,
        (first, remote): (u64, Locator),
        sealed: &Sealed,
    ) {
        let lane = &sealer.held.lane;
        let segments = usize::try_from(lane.next_counter().saturating_sub(first)).unwrap_or(usize::MAX);
        let verdict = match sealed {
            _ if segments > 0 => Verdict::Sent,
            // It is tried again when the socket is writable.
            Sealed::Until(_) => return,
            Sealed::All => Verdict::Dropped(DropReason::SessionExhausted),
        };
        let traced = Traced {
            peer: Some(lane.session().peer),
            session: Some(lane.session().local),
            counter: Some(first),
            path: Some(remote),
            segments,
            ..Traced::new(Direction::Out, verdict, packet.len())
        };
        self.tap.note(packet, traced, Some(self.table));
    }

    /// Tells of datagrams that the network refused; of what, is sealed.
    #[cold]
    pub(super) fn note_refused(&self, batch: &SendBatch) {
        let path = Locator { socket: batch.socket(), ..Locator::from(batch.destination()) };
        let verdict = Verdict::Dropped(DropReason::SendFailed);
        let traced = Traced {
            path: Some(path),
            segments: batch.count(),
            ..Traced::new(Direction::Out, verdict, batch.bytes().len())
        };
        self.tap.note(&[], traced, Some(self.table));
    }
}
