//! [`Lan`]: members on one LAN find each other by multicast.
//!
//! Each sends a beacon now and then, sealed under a key that those share who configured the same token, and believes what it
//! hears for a while. The token proves that the sender knows the token, nothing more: whoever holds it can make beacons in
//! any member's name. So a beacon only ever gives *candidates*, addresses to try; who is there, the handshake proves.
//!
//! **Work and memory are bounded** against anybody: size and version, then a share per source and one for all, before any
//! cryptography; then one key derivation and one opening. State is made by authentic beacons only.
//!
//! **Old beacons change nothing.** A beacon counts once; and not when its sender said something newer, nor when its timestamp
//! is far from this node's clock. What was heard of a sender is remembered as long as one of its beacons may pass for fresh.
//! Only a node whose own clock is set back by minutes may take an old one for fresh: for a time to live it has a candidate too
//! many.

mod key;
mod neighbour;
mod token;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

pub use key::{BeaconKey, OpenError};
pub use neighbour::{MAX_NEIGHBOURS, MAX_SIGHTINGS, Neighbour, Sighting};
pub use token::{Strength, Token, TokenError};

use neighbour::{Neighbours, News};

use crate::address::{ip_bytes, is_of_one_machine, is_of_use_to_others};
use crate::bucket::{Bucket, Buckets, Rate};
use crate::id::{MeshId, PublicKey};
use crate::stats::{DropCounters, DropReason};
use crate::time::Instant;
use crate::wire::{BEACON_SALT_LEN, Beacon, MAX_BEACON_ADDRESSES, SealedBeacon};

/// Milliseconds by which a beacon's timestamp may differ from this node's clock. Machines without a clock of their own are
/// minutes off until they have asked for the time; a recorded beacon is good for as long.
const FRESHNESS: u64 = 10 * 60 * 1000;

/// Beacons of one source, by its whole address: on a link a /64 is everybody. A member sends two a second at most.
const SOURCE_RATE: Rate = Rate { per_second: 4, burst: 8 };

/// Beacons of everybody together: as many neighbours as there may be, each with both families, once a second. One takes some
/// 5 us to open, so this is a third of a percent of a core.
const TOTAL_RATE: Rate = Rate { per_second: 600, burst: 600 };

/// How soon a neighbour that knows nobody yet is answered at most; each draws its own time, so that they do not all answer at once.
const HASTE: Duration = Duration::from_millis(250);

/// Shortest time between two rounds.
const ROUND_GAP: Duration = Duration::from_millis(500);

/// What LAN discovery is told at its beginning.
pub struct Settings {
    /// Of the token.
    pub key: BeaconKey,
    /// This node's own.
    pub public_key: PublicKey,
    /// Beacons of other meshes are dropped.
    pub mesh: MeshId,
    /// UDP port at which this node takes datagrams; not 0.
    pub port: u16,
    /// Longest time from one round of beacons to the next; the shortest is four fifths of it, drawn anew each time.
    pub interval: Duration,
    /// How long a neighbour is believed after its last beacon; twice the interval where it is less.
    pub ttl: Duration,
}

/// Wall time in milliseconds since 1970, by the machine's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub u64);

/// A neighbour is new, was restarted, or is reached otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The static public key that it announced, which nothing proves yet.
    pub key: PublicKey,
    /// Index of the interface by which it was heard.
    pub interface: u32,
    /// Candidates: the source of its beacon with the port that it announced, then what else it named; at most 8.
    pub candidates: Vec<SocketAddr>,
}

/// What the shell may tell an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanEvent {
    /// A neighbour was heard that was not believed before.
    Found {
        /// Who it says it is.
        key: PublicKey,
        /// From where.
        address: SocketAddr,
        /// Index of the interface.
        interface: u32,
    },
    /// A neighbour was not heard for its time to live.
    Lost {
        /// Who.
        key: PublicKey,
    },
}

/// Events that wait to be drained: every neighbour lost, and as many found. A shell that drains after each input never comes
/// near; what is more is left out.
const MAX_EVENTS: usize = 2 * MAX_NEIGHBOURS;

/// LAN discovery: beacons and `now` in; beacons, candidates, events and a next deadline out.
pub struct Lan {
    settings: Settings,
    addresses: Vec<SocketAddr>,
    rng: ChaCha20Rng,
    sources: Buckets,
    total: Bucket,
    neighbours: Neighbours,
    drops: Arc<DropCounters>,
    last_timestamp: u64,
    next_sequence: u64,
    next_round: Instant,
    last_round: Option<Instant>,
    is_round_due: bool,
    events: VecDeque<LanEvent>,
}

impl Lan {
    /// Knows nobody; the first round is due within a quarter of a second. `seed` is 32 bytes from a cryptographic generator:
    /// every salt comes from it. Drops are counted in `drops`.
    #[must_use]
    pub fn new(settings: Settings, drops: Arc<DropCounters>, seed: [u8; 32], now: Instant) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mut secret = [0; 32];
        rng.fill_bytes(&mut secret);
        let ttl = settings.ttl.max(settings.interval.saturating_mul(2));
        Self {
            settings,
            addresses: Vec::new(),
            sources: Buckets::new(SOURCE_RATE, secret, now),
            total: Bucket::new(TOTAL_RATE, now),
            neighbours: Neighbours::new(ttl),
            drops,
            last_timestamp: 0,
            next_sequence: 0,
            next_round: now + drawn(&mut rng, HASTE),
            rng,
            last_round: None,
            is_round_due: false,
            events: VecDeque::new(),
        }
    }

    /// Names the addresses at which this node is reached besides those that its beacons come from. What is no address of one
    /// machine, or of one link only, is left out, and what is more than fits a beacon (7).
    pub fn set_addresses(&mut self, addresses: &[SocketAddr]) {
        self.addresses = further(addresses, None).take(MAX_BEACON_ADDRESSES).collect();
    }

    /// Takes a datagram that came to the group by the interface of this index. Gives the candidates where they are news;
    /// nothing where they are not, and for a beacon of this node's own.
    ///
    /// # Errors
    /// Why it was dropped; that is counted too.
    pub fn handle_beacon(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        interface: u32,
        now: Instant,
        wall: WallTime,
    ) -> Result<Option<Heard>, DropReason> {
        let result = self.hear(datagram, source, interface, now, wall);
        if let Err(reason) = &result {
            tracing::trace!(address = %source, interface, reason = reason.name(), "beacon dropped");
            self.drops.add(*reason, 1);
        }
        result
    }

    /// Does what is due: forgets neighbours, begins a round. An early call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        for key in self.neighbours.expire(now) {
            self.push_event(LanEvent::Lost { key });
        }
        if now >= self.next_round {
            let interval = self.settings.interval;
            self.next_round = now + (interval - drawn(&mut self.rng, interval / 5)).max(ROUND_GAP);
            (self.last_round, self.is_round_due) = (Some(now), true);
        }
    }

    /// True once for each round that has begun: the shell then sends one [`beacon`](Self::beacon) to each group by each
    /// interface.
    #[must_use]
    pub fn poll_round(&mut self) -> bool {
        std::mem::take(&mut self.is_round_due)
    }

    /// A beacon, to be sent once. `None` where the cipher refuses, which it does not.
    #[must_use]
    pub fn beacon(&mut self, wall: WallTime) -> Option<Vec<u8>> {
        // A clock that is set back a little must not make us older than what was heard of us; one that is set back by more
        // would make us too far ahead of everybody else's.
        let is_near = self.last_timestamp.saturating_sub(wall.0) <= FRESHNESS / 2;
        self.last_timestamp = if is_near { self.last_timestamp.max(wall.0) } else { wall.0 };
        let beacon = Beacon {
            mesh: self.settings.mesh,
            sender: self.settings.public_key,
            timestamp: self.last_timestamp,
            sequence: self.next_sequence,
            port: self.settings.port,
            addresses: self.addresses.clone(),
        };
        self.next_sequence = self.next_sequence.saturating_add(1);
        let mut salt = [0; BEACON_SALT_LEN];
        self.rng.fill_bytes(&mut salt);
        self.settings.key.seal(&beacon, salt)
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<LanEvent> {
        self.events.pop_front()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next.
    #[must_use]
    pub fn poll_timeout(&self) -> Instant {
        self.neighbours.next_expiry().map_or(self.next_round, |expiry| expiry.min(self.next_round))
    }

    /// The neighbours that are believed, by key.
    pub fn neighbours(&self) -> impl Iterator<Item = Neighbour<'_>> {
        self.neighbours.iter()
    }

    fn hear(
        &mut self,
        datagram: &[u8],
        source: SocketAddr,
        interface: u32,
        now: Instant,
        wall: WallTime,
    ) -> Result<Option<Heard>, DropReason> {
        let beacon = self.open(datagram, source, now)?;
        if beacon.mesh != self.settings.mesh {
            return Err(DropReason::BeaconOtherMesh);
        }
        if beacon.sender == self.settings.public_key {
            return Ok(None);
        }
        if beacon.timestamp.abs_diff(wall.0) > FRESHNESS {
            return Err(DropReason::BeaconClock);
        }
        let address = reached_at(source, beacon.port, interface);
        let further: Vec<_> = further(&beacon.addresses, Some(address)).collect();
        let news = self.neighbours.hear(&beacon, address, interface, further.clone(), now)?;
        if news == News::Neighbour {
            self.push_event(LanEvent::Found { key: beacon.sender, address, interface });
        }
        if matches!(news, News::Neighbour | News::Restart) {
            self.hasten(now);
        }
        let candidates = std::iter::once(address).chain(further).collect();
        Ok((news != News::None).then_some(Heard { key: beacon.sender, interface, candidates }))
    }

    /// Opens a datagram, the cheapest refusals first.
    fn open(&mut self, datagram: &[u8], source: SocketAddr, now: Instant) -> Result<Beacon, DropReason> {
        let sealed = SealedBeacon::parse(datagram).map_err(|_| DropReason::BeaconMalformed)?;
        if !is_of_one_machine(source.ip()) {
            return Err(DropReason::BeaconMalformed);
        }
        if !self.sources.take(&ip_bytes(source.ip()), now) || !self.total.take(TOTAL_RATE, now) {
            return Err(DropReason::BeaconRateLimited);
        }
        self.settings.key.open(&sealed).map_err(|error| match error {
            OpenError::Sealed => DropReason::BeaconNotOpened,
            OpenError::Malformed => DropReason::BeaconMalformed,
        })
    }

    /// Sends soon, so that a neighbour that knows nobody knows this node within one exchange.
    fn hasten(&mut self, now: Instant) {
        let soon = now + drawn(&mut self.rng, HASTE);
        let allowed = self.last_round.map_or(soon, |last| soon.max(last + ROUND_GAP));
        self.next_round = self.next_round.min(allowed);
    }

    fn push_event(&mut self, event: LanEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }
}

/// A time from zero to just below `longest`.
fn drawn(rng: &mut ChaCha20Rng, longest: Duration) -> Duration {
    let nanos = longest.as_nanos().saturating_mul(u128::from(rng.next_u32())) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The source of a beacon with the port that it announced. A link-local address means something with its interface only.
fn reached_at(source: SocketAddr, port: u16, interface: u32) -> SocketAddr {
    let mut address = SocketAddr::new(source.ip().to_canonical(), port);
    if let SocketAddr::V6(v6) = &mut address
        && v6.ip().is_unicast_link_local()
    {
        v6.set_scope_id(interface);
    }
    address
}

/// Those of a node's further addresses that are of use to others: each once, and not `known`.
fn further(addresses: &[SocketAddr], known: Option<SocketAddr>) -> impl Iterator<Item = SocketAddr> {
    let is_useful = |address: SocketAddr| address.port() != 0 && is_of_use_to_others(address.ip());
    addresses.iter().copied().enumerate().filter_map(move |(place, address)| {
        let is_repeated = addresses.iter().take(place).any(|earlier| *earlier == address) || known == Some(address);
        (is_useful(address) && !is_repeated).then_some(address)
    })
}

#[cfg(test)]
mod tests;
