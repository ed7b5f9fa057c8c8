//! A relay's part of the fast path: datagrams that go on to somebody else, unopened. Only the channel in front of them changes.

use super::batch::{Destination, SendQueue};
use super::{ChannelRow, Socket, SocketSend};
use crate::path::Fragments;
use crate::stats::{DropCounters, DropReason};
use crate::time::Instant;
use crate::wire::{RELAY_HEADER_LEN, RelayHeader};

/// Every path carries datagrams of this length whole: with the headers around them they are smaller than what path MTU searches
/// begin with.
const LEAST_WHOLE: usize = 950;

/// What is on its way through this worker.
pub(super) struct Forward {
    queue: SendQueue,
}

impl Forward {
    pub(super) fn new() -> Self {
        Self { queue: SendQueue::new() }
    }

    /// Takes a datagram with its header for the other end of its channel.
    ///
    /// # Errors
    /// Why it goes no further: a limit is reached, or the socket is full. A relay keeps nothing: who sends too fast for it loses, as with any router.
    pub(super) fn push(
        &mut self,
        row: &ChannelRow,
        datagram: &[u8],
        socket: &mut dyn Socket,
        drops: &DropCounters,
        now: Instant,
    ) -> Result<(), DropReason> {
        row.admit(datagram.len() as u64, now)?;
        if self.copy(row, datagram).is_some() {
            return Ok(());
        }
        self.flush(socket, drops);
        self.copy(row, datagram).ok_or(DropReason::RelayFull)
    }

    /// Sends what was taken.
    pub(super) fn flush(&mut self, socket: &mut dyn Socket, drops: &DropCounters) {
        while let Some(first) = self.queue.unsent().first() {
            let count = first.count() as u64;
            let done = match socket.send(self.queue.unsent()) {
                SocketSend::Sent(done) => done.max(1),
                SocketSend::Full => {
                    drops.add(DropReason::RelayFull, count);
                    1
                }
                SocketSend::Dropped => {
                    drops.add(DropReason::SendFailed, count);
                    1
                }
            };
            self.queue.advance(done);
        }
    }

    fn copy(&mut self, row: &ChannelRow, datagram: &[u8]) -> Option<()> {
        // What every path carries whole is sent with the others, whatever the sender says: apart it costs several times as much.
        let fragments = RelayHeader::parse(datagram).ok()?.fragments;
        let fragments = if datagram.len() <= LEAST_WHOLE { Fragments::Never } else { fragments };
        let to = Destination { fragments, ..Destination::from(row.to) };
        let (header, rest) = self.queue.push(to, datagram.len())?.split_first_chunk_mut::<RELAY_HEADER_LEN>()?;
        *header = RelayHeader { channel: row.channel, fragments }.to_bytes();
        rest.copy_from_slice(datagram.get(RELAY_HEADER_LEN..)?);
        Some(())
    }
}
