//! [`Stun`]: asks STUN servers for our address, as they see it (RFC 8489).
//!
//! Built like [`Node`](crate::node::Node): `handle_*` take inputs, `poll_*` give outputs, and `now` and a seed are given. It asks when
//! it is told to, never by itself: an idle node sends nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::Awaited;
use crate::node::Transmit;
use crate::path::{Fragments, SocketId};
use crate::time::Instant;
use crate::wire::{BindingAnswer, TransactionId};

/// Most servers that are asked at a time: two tell whether a NAT maps by destination, more only replace those that are away.
pub const MAX_SERVERS: usize = 16;

/// The wait after the first transmission, which doubles (RFC 8489 §6.2.1: RTO).
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Transmissions of one request (RFC 8489 §6.2.1: Rc).
const TRANSMISSIONS: u32 = 7;

/// The wait after the last transmission, in first waits (RFC 8489 §6.2.1: Rm).
const LAST_WAIT: u32 = 16;

/// What came of asking a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StunEvent {
    /// It answered.
    Reflexive {
        /// Who.
        server: SocketAddr,
        /// Our address, as the server sees it.
        address: SocketAddr,
    },
    /// It refused, with a code of RFC 8489 §14.8.
    Refused {
        /// Who.
        server: SocketAddr,
        /// Why: 300 to 699.
        code: u16,
    },
    /// It did not answer within 39.5 s.
    Silent {
        /// Who.
        server: SocketAddr,
    },
}

/// The requests under way, and the answers to them.
pub struct Stun {
    rng: ChaCha20Rng,
    awaited: Arc<Awaited>,
    /// At most [`MAX_SERVERS`], one for each server.
    requests: Vec<Request>,
    /// Bounded by the requests: each is sent anew only after a wait.
    transmits: VecDeque<Transmit>,
    /// Bounded by the requests: each ends in one.
    events: VecDeque<StunEvent>,
}

struct Request {
    server: SocketAddr,
    id: TransactionId,
    transmissions: u32,
    /// When to send again, or to give up.
    due: Instant,
}

impl Stun {
    /// Asks nobody yet. `seed` is 32 bytes from a cryptographic generator; `awaited` is that of the node's forwarding table.
    #[must_use]
    pub fn new(seed: [u8; 32], awaited: Arc<Awaited>) -> Self {
        let rng = ChaCha20Rng::from_seed(seed);
        Self { rng, awaited, requests: Vec::new(), transmits: VecDeque::new(), events: VecDeque::new() }
    }

    /// Asks each server, the first [`MAX_SERVERS`] of them. Requests that are under way are given up without an event, for the
    /// network may have changed since.
    pub fn handle_servers(&mut self, servers: &[SocketAddr], now: Instant) {
        self.requests.clear();
        self.transmits.clear();
        for &server in servers.iter().take(MAX_SERVERS) {
            if self.requests.iter().all(|request| request.server != server) {
                let mut id = [0; 12];
                self.rng.fill_bytes(&mut id);
                self.requests.push(Request { server, id: TransactionId(id), transmissions: 0, due: now });
            }
        }
        self.announce();
        self.handle_timeout(now);
    }

    /// Takes what may be an answer. It counts only if it has the id of a request and comes from where that was sent.
    pub fn handle_answer(&mut self, datagram: &[u8], source: SocketAddr) {
        let Some(id) = TransactionId::of_answer(datagram) else { return };
        let Some(place) = self.requests.iter().position(|r| r.id == id && r.server == source) else { return };
        // Without an address it says nothing, and a better one may come.
        let Some(answer) = BindingAnswer::parse(datagram) else { return };
        let server = self.requests.swap_remove(place).server;
        self.announce();
        self.events.push_back(match answer {
            BindingAnswer::Address(address) => StunEvent::Reflexive { server, address },
            BindingAnswer::Refused(code) => StunEvent::Refused { server, code },
        });
    }

    /// Does what is due. An early call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let Self { requests, transmits, events, .. } = self;
        let before = requests.len();
        requests.retain_mut(|request| {
            if request.due > now {
                return true;
            }
            if request.transmissions == TRANSMISSIONS {
                events.push_back(StunEvent::Silent { server: request.server });
                return false;
            }
            transmits.push_back(Transmit {
                destination: request.server,
                datagram: request.id.request().to_vec(),
                fragments: Fragments::Never,
                socket: SocketId::MAIN,
            });
            request.due = now + wait_after(request.transmissions);
            request.transmissions += 1;
            true
        });
        if requests.len() != before {
            self.announce();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` while nothing is under way.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.requests.iter().map(|request| request.due).min()
    }

    /// The next datagram to send, from the port whose outer address is asked for.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing that happened.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<StunEvent> {
        self.events.pop_front()
    }

    fn announce(&self) {
        self.awaited.set(self.requests.iter().map(|request| request.id));
    }
}

/// How long to wait after so many transmissions and one more.
fn wait_after(transmissions: u32) -> Duration {
    let waits = if transmissions + 1 == TRANSMISSIONS { LAST_WAIT } else { 1 << transmissions.min(TRANSMISSIONS) };
    FIRST_WAIT * waits
}
