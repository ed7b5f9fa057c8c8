//! The fast path, still sans-IO: plain functions over batches that read a published [`ForwardingTable`] and punt what they
//! cannot decide. The same code runs on worker threads in the daemon and single-threaded in simulation.
//!
//! I/O reaches it through two object-safe traits, called once per batch, never per segment.

mod apart;
pub mod batch;
mod inbound;
mod outbound;
mod passage;
mod punt;
mod relay;
mod slots;
mod spread;
mod table;
#[cfg(test)]
mod tests;
pub mod trace;

use std::sync::Arc;

use batch::{RecvBatch, SendBatch};
use inbound::Inbound;
use outbound::Outbound;
use trace::{Tap, Tracing, Untraced};

pub(crate) use apart::seal_staged;
pub use punt::{Punt, PuntQueue};
pub use spread::{Spread, Way};
pub use table::{ChannelRow, ForwardingTable, PeerRow, Published, SessionRow};

use crate::packet::{Offload, Part};
use crate::stats::DropCounters;
use crate::time::Instant;

/// A TUN device as the fast path sees it: whole packets or super-packets with their offload state.
pub trait Device {
    /// Reads one packet or super-packet to the start of `buffer` (at least [`MAX_PACKET`](crate::packet::MAX_PACKET) bytes) and returns its length.
    /// `None`: nothing is waiting.
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)>;

    /// Writes the packet that `parts` of `memory` make up, in order.
    ///
    /// The first part begins with the IP header and holds all headers; further parts are payload. With a `gso` other than
    /// none this is a super-packet whose IP length fields cover the whole; its transport checksum is partial.
    fn send(&mut self, memory: &[u8], parts: &[Part], offload: Offload) -> DeviceSend;
}

/// A UDP socket as the fast path sees it.
pub trait Socket {
    /// Sends the first of `batches`, and of those after it as many as go with it, in order. An offload that turns out not
    /// to work is worked around inside, without losing a datagram.
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend;

    /// Fills `batch` with what is waiting, and returns how many messages that was; zero: nothing is waiting.
    fn recv(&mut self, batch: &mut RecvBatch) -> usize;

    /// Whether the last receive is known to have taken all there was, so that the next may wait for its turn. Saves a call
    /// where traffic is sparse.
    fn is_drained(&self) -> bool {
        false
    }
}

/// One worker of the fast path: its buffers, its lanes, and its view of the published table.
///
/// A worker owns a TUN queue and a UDP socket and runs both directions to completion; the shell calls the two turns
/// whenever the one or the other is readable, and then takes the punts.
pub struct Worker {
    table: Arc<ForwardingTable>,
    published: Arc<Published>,
    outbound: Outbound,
    inbound: Inbound,
    punts: PuntQueue,
    drops: Arc<DropCounters>,
}

/// What a turn of either half works with besides its table and its two ends.
struct Means<'t, T> {
    punts: &'t mut PuntQueue,
    drops: &'t DropCounters,
    now: Instant,
    tap: T,
}

/// Where a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// Nothing is left to read.
    Drained,
    /// The turn's budget is used up: the other direction may go first now.
    More,
    /// The socket is full: call again when it is writable, and do not wait for the device until then.
    Blocked,
}

impl Worker {
    /// A worker that sends on lane `lane` of every session.
    #[must_use]
    pub fn new(lane: u8, published: Arc<Published>, drops: Arc<DropCounters>) -> Self {
        Self {
            table: published.load(),
            published,
            outbound: Outbound::new(lane),
            inbound: Inbound::new(),
            punts: PuntQueue::default(),
            drops,
        }
    }

    /// Carries packets from the device to the socket, until one of them has no more or the budget is used up.
    pub fn turn_outbound(&mut self, device: &mut dyn Device, socket: &mut dyn Socket, now: Instant) -> Turn {
        self.published.refresh(&mut self.table);
        match self.published.trace().get() {
            None => self.outward(device, socket, now, Untraced),
            Some(trace) => self.outward(device, socket, now, Tracing { trace: &trace, now }),
        }
    }

    /// Carries datagrams from the socket to the device, until the socket has no more or the budget is used up.
    pub fn turn_inbound(&mut self, device: &mut dyn Device, socket: &mut dyn Socket, now: Instant) -> Turn {
        self.published.refresh(&mut self.table);
        match self.published.trace().get() {
            None => self.inward(device, socket, now, Untraced),
            Some(trace) => self.inward(device, socket, now, Tracing { trace: &trace, now }),
        }
    }

    /// What the worker could not decide, oldest first. Take them all after each turn.
    #[must_use]
    pub fn poll_punt(&mut self) -> Option<Punt> {
        self.punts.pop()
    }

    fn outward<T: Tap>(&mut self, device: &mut dyn Device, socket: &mut dyn Socket, now: Instant, tap: T) -> Turn {
        let means = Means { punts: &mut self.punts, drops: &self.drops, now, tap };
        self.outbound.turn(&self.table, device, socket, means)
    }

    fn inward<T: Tap>(&mut self, device: &mut dyn Device, socket: &mut dyn Socket, now: Instant, tap: T) -> Turn {
        let means = Means { punts: &mut self.punts, drops: &self.drops, now, tap };
        let mut view = inbound::View { table: &mut self.table, published: &self.published };
        self.inbound.turn(&mut view, device, socket, means)
    }
}

/// What became of a packet given to a [`Device`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum DeviceSend {
    /// The kernel has it.
    Sent,
    /// The device cannot take this super-packet: write its segments one by one.
    Refused,
    /// The kernel did not want it (queue full, interface down); it is gone.
    Dropped,
}

/// What became of batches given to a [`Socket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SocketSend {
    /// The kernel has so many of them, the first ones: at least one.
    Sent(usize),
    /// The socket's buffer is full: keep all of them, unchanged, and stop reading the device until the socket is writable.
    Full,
    /// The network refused the first one (unreachable, no buffers); it is gone.
    Dropped,
}
