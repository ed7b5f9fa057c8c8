//! What is kept of a run: its datagrams, or only a digest of them, and who sent how much.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::SocketAddr;

use proto::time::Instant;

/// Whether a world keeps the datagrams that were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// All, in [`World::wire`](crate::world::World::wire).
    Full,
    /// None; the digest and the counters go on.
    Digest,
}

/// What one sender, or all of them, put on the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams, lost ones included.
    pub datagrams: u64,
    /// Bytes of UDP payload.
    pub bytes: u64,
}

/// What one node costs the network and its machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// What it sent, over all its restarts.
    pub sent: Traffic,
    /// Session indices that it holds: sessions, and initiations that are under way.
    pub indices: usize,
}

/// A running digest of every datagram with its time, its source as the network saw it last, and its destination.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    hasher: DefaultHasher,
    pub(crate) total: Traffic,
}

impl Traffic {
    pub(crate) const fn add(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
    }
}

impl Trace {
    pub(crate) fn add(&mut self, now: Instant, source: SocketAddr, destination: SocketAddr, datagram: &[u8]) {
        (now, source, destination, datagram).hash(&mut self.hasher);
        self.total.add(datagram.len());
    }

    /// Equal for equal traces; of worth within one build only.
    pub(crate) fn digest(&self) -> u64 {
        self.hasher.finish()
    }
}
