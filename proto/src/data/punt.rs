//! What the fast path hands to the core because it cannot decide it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::id::{PeerId, SessionIndex};
use crate::packet::Offload;
use crate::path::Locator;
use crate::stats::{DropCounters, DropReason};

/// One thing for the core to decide.
#[derive(Debug)]
pub enum Punt {
    /// An inner packet for which there is no session (or no route): to be staged, or answered with an ICMP error.
    Packet {
        /// The packet or super-packet.
        packet: Box<[u8]>,
        /// Its offload state.
        offload: Offload,
    },
    /// A handshake or control message, not yet opened. Handshake messages have passed mac1.
    Datagram {
        /// The whole datagram.
        datagram: Box<[u8]>,
        /// Who sent it.
        source: Locator,
    },
    /// An answer to a STUN request that is awaited. It is not the node's but [`Stun`](crate::nat::Stun)'s.
    StunAnswer {
        /// The whole datagram.
        datagram: Box<[u8]>,
        /// Who sent it.
        source: SocketAddr,
    },
    /// The first datagrams arrived on a session that we answered: the initiator holds its keys.
    Confirmed {
        /// Our name for the session.
        session: SessionIndex,
        /// Where they came from.
        source: Locator,
    },
    /// The newest datagram of a session came from elsewhere than we send to.
    Roamed {
        /// Our name for the session.
        session: SessionIndex,
        /// Where it came from.
        source: Locator,
    },
    /// A lane has sealed so many messages that a new session is due.
    Worn {
        /// Whose session.
        peer: PeerId,
    },
    /// Data passes in a session that carried none for a while.
    Stirred {
        /// Whose session.
        peer: PeerId,
    },
}

/// Most punts that wait in a worker during one turn; the core has had no chance to take any, so more would only be older.
const MAX_PUNTS: usize = 128;

/// Most bytes of packets and datagrams that wait: eight full super-packets.
const MAX_BYTES: usize = 512 * 1024;

/// A bounded queue of punts. Full, it drops the newest and counts it.
#[derive(Debug, Default)]
pub struct PuntQueue {
    queue: VecDeque<Punt>,
    bytes: usize,
}

impl PuntQueue {
    /// Returns whether there was room.
    pub(super) fn push(&mut self, punt: Punt, drops: &DropCounters) -> bool {
        let len = punt.len();
        let has_room = self.queue.len() < MAX_PUNTS && self.bytes + len <= MAX_BYTES;
        if has_room {
            self.bytes += len;
            self.queue.push_back(punt);
        } else {
            drops.add(DropReason::PuntFull, 1);
        }
        has_room
    }

    pub(super) fn pop(&mut self) -> Option<Punt> {
        let punt = self.queue.pop_front()?;
        self.bytes -= punt.len();
        Some(punt)
    }
}

impl Punt {
    fn len(&self) -> usize {
        match self {
            Self::Packet { packet, .. } => packet.len(),
            Self::Datagram { datagram, .. } | Self::StunAnswer { datagram, .. } => datagram.len(),
            Self::Confirmed { .. } | Self::Roamed { .. } | Self::Worn { .. } | Self::Stirred { .. } => 0,
        }
    }
}
