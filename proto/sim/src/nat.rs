//! NATs, in the terms of RFC 4787: which external port a mapping gets, who may send to it, and how long it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::time::Instant;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

#[cfg(test)]
mod tests;

/// What a NAT's mappings (RFC 4787 §4.1) or filters (§5) depend on, besides the internal address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// On nothing: one for all remote endpoints.
    EndpointIndependent,
    /// On the remote address.
    AddressDependent,
    /// On the remote address and port.
    AddressAndPortDependent,
}

/// Which external port a new mapping gets (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// The internal port; a random one where a mapping of the same scope has it. Mappings to different remote endpoints
    /// may share a port, as they do in Linux.
    Preserved,
    /// The one `delta` (at least 1) after the last.
    Sequential {
        /// Distance of successive ports.
        delta: u16,
    },
    /// Any.
    Random,
}

/// What becomes of a datagram from inside to the NAT's own external address (RFC 4787 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hairpin {
    /// It comes back in, from the sender's external address and port.
    Returned,
    /// It is lost.
    Dropped,
}

/// Whether UDP passes at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {
    /// It does.
    Carried,
    /// A firewall takes all of it, both ways.
    Blocked,
}

/// How a NAT behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatPlan {
    /// When a second remote endpoint sees another external port.
    pub mapping: Behaviour,
    /// Which port a mapping gets.
    pub ports: Ports,
    /// Who may send to a mapping: whom the host has sent to, by this.
    pub filtering: Behaviour,
    /// How long an entry lives after the last outgoing datagram; incoming ones refresh nothing (RFC 4787 §4.3 requires
    /// the former and leaves the latter open).
    pub lifetime: Duration,
    /// Most entries: a mapping takes one for each remote that its filter tells apart. A full table makes none, and what
    /// needed one is lost.
    pub capacity: usize,
    /// Whether hosts inside reach each other by external addresses.
    pub hairpin: Hairpin,
    /// Whether UDP passes.
    pub udp: Udp,
}

impl NatPlan {
    /// A well-behaved router: endpoint-independent mapping, address-and-port-dependent filtering, 30 s.
    pub const HOME: Self = Self {
        mapping: Behaviour::EndpointIndependent,
        ports: Ports::Preserved,
        filtering: Behaviour::AddressAndPortDependent,
        lifetime: Duration::from_secs(30),
        capacity: 4096,
        hairpin: Hairpin::Returned,
        udp: Udp::Carried,
    };

    /// Nothing can be foretold, and nobody gets in unasked.
    pub const SYMMETRIC: Self = Self {
        mapping: Behaviour::AddressAndPortDependent,
        ports: Ports::Random,
        hairpin: Hairpin::Dropped,
        ..Self::HOME
    };

    /// Any NAT that carries UDP, each behaviour as likely as another, with lifetimes from 30 to 120 s.
    #[must_use]
    pub(crate) fn any(rng: &mut ChaCha20Rng) -> Self {
        let mut below = |n: u32| rng.next_u32() % n;
        let behaviour = |n: u32| match n {
            0 => Behaviour::EndpointIndependent,
            1 => Behaviour::AddressDependent,
            _ => Behaviour::AddressAndPortDependent,
        };
        Self {
            mapping: behaviour(below(3)),
            ports: match below(3) {
                0 => Ports::Preserved,
                1 => Ports::Sequential { delta: 1 + below(4) as u16 },
                _ => Ports::Random,
            },
            filtering: behaviour(below(3)),
            lifetime: Duration::from_secs(30 + u64::from(below(91))),
            hairpin: if below(2) == 0 { Hairpin::Returned } else { Hairpin::Dropped },
            ..Self::HOME
        }
    }
}

/// A NAT with its table.
#[derive(Debug)]
pub(crate) struct Nat {
    plan: NatPlan,
    ports: BTreeMap<(SocketAddr, Remote), u16>,
    mappings: BTreeMap<MappingKey, Mapping>,
    /// Every entry once, no later than it expires: a refreshed one is put back when its turn comes, not at each
    /// datagram.
    due: BTreeSet<(Instant, MappingKey, Remote)>,
    last_port: u16,
}

/// An external port, and for whom.
type MappingKey = (u16, Remote);

#[derive(Debug)]
struct Mapping {
    internal: SocketAddr,
    /// Who may send to it, and until when.
    permits: BTreeMap<Remote, Instant>,
}

/// As much of a remote endpoint as a behaviour looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Remote {
    Any,
    Address(IpAddr),
    Endpoint(SocketAddr),
}

impl Behaviour {
    const fn of(self, remote: SocketAddr) -> Remote {
        match self {
            Self::EndpointIndependent => Remote::Any,
            Self::AddressDependent => Remote::Address(remote.ip()),
            Self::AddressAndPortDependent => Remote::Endpoint(remote),
        }
    }
}

/// Ports that mappings get where the internal one is not preserved; those below are well known (RFC 4787 §4.2.1).
const FIRST_PORT: u16 = 1024;
const PORT_COUNT: u32 = 65_536 - FIRST_PORT as u32;

/// Ports that are tried before a datagram is lost; with half of them in use, one random choice in 2^64 fails.
const TRIES: usize = 64;

impl Nat {
    pub(crate) fn new(plan: NatPlan, rng: &mut ChaCha20Rng) -> Self {
        let (ports, mappings, due) = Default::default();
        Self { plan, ports, mappings, due, last_port: random_port(rng) }
    }

    pub(crate) const fn hairpin(&self) -> Hairpin {
        self.plan.hairpin
    }

    /// Lets a datagram out and returns the external port that it comes from; `None`: it is lost.
    pub(crate) fn outbound(
        &mut self,
        internal: SocketAddr,
        remote: SocketAddr,
        now: Instant,
        rng: &mut ChaCha20Rng,
    ) -> Option<u16> {
        self.expire(now);
        if self.plan.udp == Udp::Blocked {
            return None;
        }
        let (scope, permit) = (self.plan.mapping.of(remote), self.plan.filtering.of(remote));
        let expiry = now + self.plan.lifetime;
        let known = self.ports.get(&(internal, scope)).copied();
        if let Some(port) = known
            && let Some(until) = self.mappings.get_mut(&(port, scope))?.permits.get_mut(&permit)
        {
            *until = expiry;
            return known;
        }
        if self.due.len() >= self.plan.capacity {
            return None;
        }
        let port = known.or_else(|| self.choose_port(internal.port(), scope, rng))?;
        self.ports.insert((internal, scope), port);
        let mapping = self.mappings.entry((port, scope)).or_insert(Mapping { internal, permits: BTreeMap::new() });
        mapping.permits.insert(permit, expiry);
        self.due.insert((expiry, (port, scope), permit));
        Some(port)
    }

    /// Lets a datagram in that came to an external port, and returns for whom it is; `None`: it is lost.
    pub(crate) fn inbound(&mut self, port: u16, remote: SocketAddr, now: Instant) -> Option<SocketAddr> {
        self.expire(now);
        if self.plan.udp == Udp::Blocked {
            return None;
        }
        let permit = self.plan.filtering.of(remote);
        let is_open = |mapping: &&Mapping| mapping.permits.contains_key(&permit);
        // Its own mapping first: with preserved ports another's may have the same port.
        let own = self.mappings.get(&(port, self.plan.mapping.of(remote))).filter(is_open);
        let mapping = own.or_else(|| self.on_port(port).find(is_open))?;
        Some(mapping.internal)
    }

    /// Forgets everything, as at a restart.
    pub(crate) fn flush(&mut self, rng: &mut ChaCha20Rng) {
        *self = Self::new(self.plan, rng);
    }

    /// Live entries.
    pub(crate) fn entries(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.due.len()
    }

    fn expire(&mut self, now: Instant) {
        while self.due.first().is_some_and(|(at, ..)| *at <= now)
            && let Some((_, key, permit)) = self.due.pop_first()
        {
            let Some(mapping) = self.mappings.get_mut(&key) else { continue };
            match mapping.permits.get(&permit) {
                Some(until) if *until > now => {
                    self.due.insert((*until, key, permit));
                }
                _ => {
                    mapping.permits.remove(&permit);
                    if mapping.permits.is_empty() {
                        self.ports.remove(&(mapping.internal, key.1));
                        self.mappings.remove(&key);
                    }
                }
            }
        }
    }

    fn choose_port(&mut self, internal: u16, scope: Remote, rng: &mut ChaCha20Rng) -> Option<u16> {
        match self.plan.ports {
            Ports::Preserved if !self.mappings.contains_key(&(internal, scope)) => Some(internal),
            Ports::Preserved | Ports::Random => {
                std::iter::repeat_with(|| random_port(rng)).take(TRIES).find(|port| self.is_free(*port))
            }
            Ports::Sequential { delta } => {
                let last = u32::from(self.last_port - FIRST_PORT);
                let step = |n: u32| FIRST_PORT + ((last + n * u32::from(delta.max(1))) % PORT_COUNT) as u16;
                let port = (1..=TRIES as u32).map(step).find(|port| self.is_free(*port))?;
                self.last_port = port;
                Some(port)
            }
        }
    }

    fn is_free(&self, port: u16) -> bool {
        self.on_port(port).next().is_none()
    }

    fn on_port(&self, port: u16) -> impl Iterator<Item = &Mapping> {
        let keys = self.mappings.range((port, Remote::Any)..);
        keys.take_while(move |((at, _), _)| *at == port).map(|(_, mapping)| mapping)
    }
}

fn random_port(rng: &mut ChaCha20Rng) -> u16 {
    FIRST_PORT + (rng.next_u32() % PORT_COUNT) as u16
}
