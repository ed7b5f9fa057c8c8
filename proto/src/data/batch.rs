//! Where datagrams stand on their way between the AEAD and the socket: send and receive batches, allocated once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::packet::MAX_SEGMENTS;
use crate::path::{Fragments, SocketId};

/// Most bytes of one UDP GSO send: 65,535 less the IPv4 and UDP headers; the same bound serves IPv6.
pub const MAX_SEND: usize = 65_507;

/// Messages that one receive call may fill.
pub const RECV_SLOTS: usize = 64;

/// Bytes of one receive slot: a whole GRO message.
pub const SLOT_LEN: usize = 65_536;

/// Distance between receive slots: more than a slot, so that slots do not all fall into the same L1/L2 sets.
pub const SLOT_STRIDE: usize = SLOT_LEN + 2_112;

/// Datagrams to one destination, back to back, in the form of one UDP GSO send.
///
/// All are `stride` bytes long but the last, which may be shorter and then closes the batch. The AEAD seals in place
/// here, so the encrypted batch *is* the send buffer.
pub struct SendBatch {
    buffer: Box<[u8]>,
    used: usize,
    count: usize,
    stride: usize,
    closed: bool,
    destination: Destination,
}

/// Where a datagram goes, and whether it may be cut on its way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub address: SocketAddr,
    /// Datagrams that may be cut do not share a batch with others.
    pub fragments: Fragments,
    /// The socket that it leaves by.
    pub socket: SocketId,
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        Self { address, fragments: Fragments::Never, socket: SocketId::MAIN }
    }
}

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Default for SendBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SendBatch {
    /// An empty batch. Allocates its one buffer.
    #[must_use]
    pub fn new() -> Self {
        let buffer = vec![0; MAX_SEND].into_boxed_slice();
        Self { buffer, used: 0, count: 0, stride: 0, closed: false, destination: Destination::from(NOWHERE) }
    }

    /// Whether `count` datagrams, all `len` long but a perhaps shorter last one, may follow what is in the batch.
    #[must_use]
    pub fn has_room(&self, destination: impl Into<Destination>, len: usize, count: usize) -> bool {
        let destination = destination.into();
        (self.count == 0 || self.destination == destination) && self.takes(len, count)
    }

    /// As [`has_room`](Self::has_room), for the destination that the batch has.
    #[inline]
    const fn takes(&self, len: usize, count: usize) -> bool {
        // A shorter datagram ends a batch, so more than one of them cannot follow longer ones.
        let is_alike = len == self.stride || (len < self.stride && count <= 1);
        (self.count == 0 || (is_alike && !self.closed))
            && self.count + count <= MAX_SEGMENTS
            && self.used + len * count <= MAX_SEND
    }

    /// Appends one datagram of `len` bytes and lends its memory; `None` where [`has_room`](Self::has_room) says no.
    pub fn push(&mut self, destination: impl Into<Destination>, len: usize) -> Option<&mut [u8]> {
        let destination = destination.into();
        if len == 0 || !self.has_room(destination, len, 1) {
            return None;
        }
        self.destination = destination;
        self.append(len)
    }

    /// As [`push`](Self::push), where it is known that there is room.
    #[inline]
    fn append(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.count == 0 {
            self.stride = len;
        }
        self.closed = len < self.stride;
        self.count += 1;
        let start = self.used;
        self.used += len;
        self.buffer.get_mut(start..self.used)
    }

    /// Takes back the datagram that was pushed last and is `len` bytes long, because it could not be sealed.
    pub fn pop(&mut self, len: usize) {
        self.used = self.used.saturating_sub(len);
        self.count = self.count.saturating_sub(1);
        self.closed = false;
    }

    /// Forgets everything; the memory stays.
    pub fn clear(&mut self) {
        (self.used, self.count, self.stride, self.closed) = (0, 0, 0, false);
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of datagrams.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Length of every datagram but perhaps the last, in bytes.
    #[must_use]
    pub const fn stride(&self) -> usize {
        self.stride
    }

    /// Where all of them go.
    #[must_use]
    pub const fn destination(&self) -> SocketAddr {
        self.destination.address
    }

    /// Whether they may be cut on their way.
    #[must_use]
    pub const fn fragments(&self) -> Fragments {
        self.destination.fragments
    }

    /// The socket that they leave by.
    #[must_use]
    pub const fn socket(&self) -> SocketId {
        self.destination.socket
    }

    /// All bytes, back to back.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.used).unwrap_or_default()
    }

    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes().chunks(self.stride.max(1))
    }
}

/// Most batches of a [`SendQueue`]: peers, or sizes, that the packets of one turn may alternate between and still share sends.
pub(super) const MAX_OPEN: usize = 8;

/// Batches that are open at the same time, in the order in which they were begun, which is the order in which they are sent.
///
/// For each destination only the newest batch is added to, so what goes to one destination stays in order. Together they
/// hold no more bytes than one send, and the first is always used first: a stream of super-packets goes through one
/// buffer, which stays in the L2 cache.
pub(super) struct SendQueue {
    /// Allocated when first needed.
    batches: Vec<SendBatch>,
    /// How many of them are sent.
    sent: usize,
    /// How many of them are in use, sent or not.
    begun: usize,
    /// The one that was added to last.
    current: usize,
    /// Bytes in those in use.
    used: usize,
}

impl SendQueue {
    pub(super) fn new() -> Self {
        Self { batches: vec![SendBatch::new()], sent: 0, begun: 0, current: 0, used: 0 }
    }

    /// Finds or begins the batch that `count` datagrams go to, all `len` long but a perhaps shorter last one. False: what is
    /// there has to be sent first.
    #[inline]
    pub(super) fn reserve(&mut self, destination: impl Into<Destination>, len: usize, count: usize) -> bool {
        let destination = destination.into();
        if self.used + len * count > MAX_SEND {
            return false;
        }
        if let Some(newest) = self.newest(destination) {
            let Some(batch) = self.batches.get(newest) else { return false };
            if batch.takes(len, count) {
                self.current = newest;
                return true;
            }
            // Nothing is gained by holding back a full one.
            if batch.count == MAX_SEGMENTS {
                return false;
            }
        }
        self.begin(destination)
    }

    /// Appends one datagram of `len` bytes and lends its memory. `None`: what is there has to be sent first.
    #[inline]
    pub(super) fn push(&mut self, destination: impl Into<Destination>, len: usize) -> Option<&mut [u8]> {
        if len == 0 || !self.reserve(destination, len, 1) {
            return None;
        }
        self.used += len;
        self.batches.get_mut(self.current)?.append(len)
    }

    /// Takes back the datagram that was pushed last and is `len` bytes long, because it could not be sealed.
    pub(super) fn pop(&mut self, len: usize) {
        let Some(batch) = self.batches.get_mut(self.current) else { return };
        batch.pop(len);
        self.used = self.used.saturating_sub(len);
        if batch.is_empty() && self.current + 1 == self.begun {
            self.begun = self.current;
        }
    }

    /// What is to be sent, oldest first.
    pub(super) fn unsent(&self) -> &[SendBatch] {
        self.batches.get(self.sent..self.begun).unwrap_or_default()
    }

    /// Forgets the `count` oldest batches.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.begun);
        if self.sent == self.begun {
            (self.sent, self.begun, self.current, self.used) = (0, 0, 0, 0);
        }
    }

    /// The newest batch for a destination; the only one that may be added to, lest an older datagram come after a newer.
    #[inline]
    fn newest(&self, destination: Destination) -> Option<usize> {
        let is_it = |index: &usize| self.batches.get(*index).is_some_and(|batch| batch.destination == destination);
        // The last one for its destination to be added to, so there is no newer one.
        if self.current < self.begun && is_it(&self.current) {
            return Some(self.current);
        }
        (self.sent..self.begun).rev().find(is_it)
    }

    fn begin(&mut self, destination: Destination) -> bool {
        if self.begun == MAX_OPEN {
            return false;
        }
        if self.begun == self.batches.len() {
            self.batches.push(SendBatch::new());
        }
        let Some(batch) = self.batches.get_mut(self.begun) else { return false };
        batch.clear();
        batch.destination = destination;
        self.current = self.begun;
        self.begun += 1;
        true
    }
}

/// What is known of one received message besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct RecvMeta {
    /// Bytes in the slot.
    pub len: usize,
    /// Length of each datagram that GRO merged into the message, the last perhaps shorter; `len` for a single one.
    pub stride: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// The socket that it came to.
    pub socket: SocketId,
}

/// Memory for received messages: [`RECV_SLOTS`] slots, touched only as far as they are used.
pub struct RecvBatch {
    memory: Box<[u8]>,
    metas: [RecvMeta; RECV_SLOTS],
    filled: usize,
}

impl Default for RecvBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RecvBatch {
    /// Empty slots. Allocates the one arena.
    #[must_use]
    pub fn new() -> Self {
        let memory = vec![0; SLOT_STRIDE * RECV_SLOTS].into_boxed_slice();
        Self {
            memory,
            metas: [RecvMeta { len: 0, stride: 1, source: NOWHERE, socket: SocketId::MAIN }; RECV_SLOTS],
            filled: 0,
        }
    }

    /// Offset of slot `slot` in [`memory`](Self::memory_mut).
    #[must_use]
    pub const fn slot_start(slot: usize) -> usize {
        slot * SLOT_STRIDE
    }

    /// The whole arena, for the socket to fill slots and for the fast path to open datagrams in place.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        &mut self.memory
    }

    /// The messages of the last receive and the arena they lie in.
    pub fn messages(&mut self) -> (&[RecvMeta], &mut [u8]) {
        (self.metas.get(..self.filled).unwrap_or_default(), &mut self.memory)
    }

    /// Records that the first `metas.len()` slots (at most [`RECV_SLOTS`]) were filled.
    pub fn set_filled(&mut self, metas: impl IntoIterator<Item = RecvMeta>) -> usize {
        self.filled = 0;
        for (slot, meta) in self.metas.iter_mut().zip(metas) {
            let len = meta.len.min(SLOT_LEN);
            *slot = RecvMeta { stride: meta.stride.clamp(1, len.max(1)), len, ..meta };
            self.filled += 1;
        }
        self.filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn datagrams_of_equal_size_share_a_batch_and_a_shorter_one_closes_it() {
        let mut batch = SendBatch::new();
        assert!(batch.push(to(1), 100).is_some());
        assert!(batch.push(to(1), 100).is_some());
        assert!(batch.push(to(1), 60).is_some());
        assert!(batch.push(to(1), 60).is_none(), "a shorter datagram ends the batch");
        assert_eq!(batch.datagrams().map(<[u8]>::len).collect::<Vec<_>>(), [100, 100, 60]);
    }

    #[test]
    fn another_destination_or_a_longer_datagram_needs_another_batch() {
        let mut batch = SendBatch::new();
        assert!(batch.push(to(1), 100).is_some());
        assert!(batch.push(to(2), 100).is_none());
        assert!(batch.push(to(1), 101).is_none());
        batch.clear();
        assert!(batch.push(to(2), 101).is_some());
    }

    #[test]
    fn a_batch_holds_no_more_than_one_gso_send_may() {
        let mut batch = SendBatch::new();
        let by_count = (0..).take_while(|_| batch.push(to(1), 100).is_some()).count();
        assert_eq!(by_count, MAX_SEGMENTS);
        batch.clear();
        let by_bytes = (0..).take_while(|_| batch.push(to(1), 1452).is_some()).count();
        assert_eq!(by_bytes, MAX_SEND / 1452);
    }

    #[test]
    fn a_datagram_that_was_taken_back_leaves_no_trace() {
        let mut batch = SendBatch::new();
        batch.push(to(1), 100).unwrap().fill(1);
        assert!(batch.push(to(1), 40).is_some());
        batch.pop(40);
        assert!(batch.push(to(1), 100).is_some());
        assert_eq!(batch.bytes().len(), 200);
    }

    fn shapes(queue: &SendQueue) -> Vec<(u16, Vec<usize>)> {
        queue.unsent().iter().map(|b| (b.destination().port(), b.datagrams().map(<[u8]>::len).collect())).collect()
    }

    #[test]
    fn a_queue_has_a_batch_for_each_destination() {
        let mut queue = SendQueue::new();
        for round in 0..3 {
            for port in 1..=8 {
                queue.push(to(port), 100).unwrap().fill(round);
            }
        }
        let expected: Vec<_> = (1..=8).map(|port| (port, vec![100; 3])).collect();
        assert_eq!(shapes(&queue), expected);
        assert!(queue.push(to(9), 100).is_none(), "none is free");
        queue.advance(3);
        assert_eq!(shapes(&queue), expected[3..]);
        queue.advance(5);
        assert!(queue.unsent().is_empty());
    }

    #[test]
    fn what_does_not_fit_begins_another_batch_behind_the_one_of_its_destination() {
        let mut queue = SendQueue::new();
        for (port, len) in [(1, 100), (2, 50), (1, 40), (1, 100), (2, 50), (1, 100), (1, 200)] {
            assert!(queue.push(to(port), len).is_some());
        }
        assert_eq!(
            shapes(&queue),
            [(1, vec![100, 40]), (2, vec![50, 50]), (1, vec![100, 100]), (1, vec![200])],
            "in order for each destination"
        );
    }

    #[test]
    fn a_queue_holds_no_more_bytes_than_one_send_and_no_full_batch() {
        let mut queue = SendQueue::new();
        assert!(queue.reserve(to(1), 1_452, 45) && (0..45).all(|_| queue.push(to(1), 1_452).is_some()));
        assert!(queue.push(to(1), 84).is_some(), "an ACK goes with the super-packet");
        assert!(!queue.reserve(to(1), 1_452, 45) && !queue.reserve(to(2), 1_452, 45));
        queue.advance(1);
        assert!(queue.reserve(to(2), 1_452, 45));
        assert_eq!(queue.batches.len(), 1, "one hot buffer");
        queue.advance(1);
        assert_eq!((0..).take_while(|_| queue.push(to(1), 100).is_some()).count(), MAX_SEGMENTS);
    }

    #[test]
    fn a_batch_whose_only_datagram_was_taken_back_is_none() {
        let mut queue = SendQueue::new();
        assert!(queue.push(to(1), 100).is_some());
        assert!(queue.push(to(2), 100).is_some());
        queue.pop(100);
        assert_eq!(shapes(&queue), [(1, vec![100])]);
        assert!(queue.push(to(2), 70).is_some());
        assert_eq!(shapes(&queue), [(1, vec![100]), (2, vec![70])]);
    }

    #[test]
    fn a_lying_length_or_stride_is_clamped_to_the_slot_and_the_message() {
        let mut batch = RecvBatch::new();
        batch.set_filled([
            RecvMeta { len: 10, stride: 0, source: NOWHERE, socket: SocketId::MAIN },
            RecvMeta { len: 10, stride: 999, source: NOWHERE, socket: SocketId::MAIN },
            RecvMeta { len: usize::MAX, stride: usize::MAX, source: NOWHERE, socket: SocketId::MAIN },
        ]);
        let clamped: Vec<_> = batch.messages().0.iter().map(|m| (m.len, m.stride)).collect();
        assert_eq!(clamped, [(10, 1), (10, 10), (SLOT_LEN, SLOT_LEN)]);
    }
}
