//! Packets that wait for a session, so that the first of a flow is not lost. Bounded; full, it drops the oldest.

use std::collections::VecDeque;
use std::time::Duration;

use crate::packet::Offload;
use crate::time::Instant;

/// Packets that wait per peer at most: a burst of a few connections' first packets.
const MAX_PACKETS: usize = 32;

/// Bytes that wait per peer at most: two full super-packets. Later packets are worth more than earlier ones (the sender
/// has retransmitted by then), so the oldest go first.
const MAX_BYTES: usize = 128 * 1024;

/// How long a packet waits; later it would only confuse its sender.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(5);

/// The queue of one peer.
#[derive(Default)]
pub(crate) struct Staging {
    queue: VecDeque<Staged>,
    bytes: usize,
}

/// One waiting packet.
pub(crate) struct Staged {
    pub(crate) packet: Box<[u8]>,
    pub(crate) offload: Offload,
    pub(crate) since: Instant,
}

impl Staging {
    /// Appends a packet; returns how many older ones had to go.
    #[must_use]
    pub(crate) fn push(&mut self, packet: Box<[u8]>, offload: Offload, since: Instant) -> u64 {
        self.bytes += packet.len();
        self.queue.push_back(Staged { packet, offload, since });
        let mut dropped = 0;
        while self.queue.len() > 1 && (self.queue.len() > MAX_PACKETS || self.bytes > MAX_BYTES) {
            dropped += u64::from(self.pop().is_some());
        }
        dropped
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<Staged> {
        let staged = self.queue.pop_front()?;
        self.bytes -= staged.packet.len();
        Some(staged)
    }

    /// Takes the oldest if it has waited too long.
    pub(crate) fn pop_expired(&mut self, now: Instant) -> Option<Staged> {
        if now - self.queue.front()?.since >= MAX_WAIT { self.pop() } else { None }
    }

    /// Packets that wait, and their bytes.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.queue.len(), self.bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(len: usize) -> Box<[u8]> {
        vec![0; len].into_boxed_slice()
    }

    #[test]
    fn a_full_queue_drops_the_oldest_by_count_and_by_bytes() {
        let mut staging = Staging::default();
        let dropped: u64 = (0..40).map(|n| staging.push(packet(n), Offload::default(), Instant::ORIGIN)).sum();
        assert_eq!(dropped, 8);
        assert_eq!(staging.pop().unwrap().packet.len(), 8);
        assert!(staging.push(packet(MAX_BYTES), Offload::default(), Instant::ORIGIN) > 0);
        assert_eq!(staging.queue.len(), 1, "one packet always fits");
    }

    #[test]
    fn a_packet_that_waited_too_long_is_given_up() {
        let mut staging = Staging::default();
        let _ = staging.push(packet(1), Offload::default(), Instant::ORIGIN);
        assert!(staging.pop_expired(Instant::ORIGIN + MAX_WAIT / 2).is_none());
        assert!(staging.pop_expired(Instant::ORIGIN + MAX_WAIT).is_some() && staging.is_empty());
    }
}
