//! [`Node`]: this process's protocol machine.
//!
//! Its methods are of three kinds. `handle_*` take an input: a punt from the fast path, a registry snapshot, the time.
//! `poll_*` give outputs: drain each until `None` after any input; draining late is allowed, never wrong, but
//! **take the table before the transmits**, so that workers know a session before the peer is told of it. The rest are
//! questions for status output.
//!
//! The node reads no clock and draws no randomness: `now` and a seed are given. It does no I/O, and no lock is in it.

mod account;
mod carrier;
mod control;
mod detail;
mod direct;
mod enrol;
mod explain;
mod handshake;
mod hello;
mod load;
mod mtu;
mod neighbour;
mod order;
mod owners;
mod path;
mod punch;
mod questions;
mod registry;
mod relay;
mod session;
mod settings;
mod spray;
mod spread;
mod view;
mod watch;

pub use account::{MemberStatus, RelayStatus};
pub use control::ProbeError;
pub use detail::{Observed, PeerDetail, SessionDetail, Tries};
pub(crate) use direct::Direct;
pub use explain::Inquiry;
pub use load::Load;
pub use neighbour::{LanPolicy, NeighbourRoutes};
pub use relay::{Answer, Asked};

use enrol::Enrolments;
use order::Order;
use owners::Owners;
use questions::Questions;
use relay::Relaying;
use spray::Sprays;
use spread::Round;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::account::RelayRates;
use crate::data::{ForwardingTable, Published, Punt};
use crate::event::{Event, Refusal};
use crate::handshake::{CookieSecret, Identity, Limiter, Mac1, Offer};
use crate::id::{EndpointName, PeerId, PublicKey, SessionIndex};
use crate::nat::{Lifetime, Sightings};
use crate::packet::Offload;
use crate::packet::icmp::{self, Unreachable};
use crate::packet::layout;
use crate::path::{Balance, Fragments, Locator, Origin, PathStatus, SocketId};
use crate::peer::{Live, Peer, PeerStatus};
use crate::route::Target;
use crate::stats::{DropCounters, DropReason};
use crate::time::Instant;
use crate::timer::{Deadline, Timer, Timers};
use crate::wire::{MessageType, RelayHeader};

/// What a node is told at its beginning.
pub struct Settings {
    /// Its own name; must be an endpoint of every registry snapshot.
    pub name: EndpointName,
    /// Its keys and mesh.
    pub identity: Identity,
    /// Suites, capabilities and lanes of its data plane.
    pub offer: Offer,
    /// Age at which an initiator replaces a session; a session dies at one and a half times this. WireGuard: 120 s.
    pub rekey_after: Duration,
    /// A session without traffic ends after this.
    pub idle_after: Duration,
    /// Whether peers are told, and believed, addresses that were not configured: without it, only what is dialled and what
    /// comes in becomes a path.
    pub punch: bool,
    /// Whether many ports are tried where a NAT gives them out at random, within the bounds of [`crate::path::SprayStatus`].
    pub spray: bool,
    /// How much it relays; `None`: it is no relay.
    pub relay: Option<RelayRates>,
    /// The UDP port that it listens on, which it tells peers with its interfaces' addresses.
    pub port: u16,
    /// The device's MTU in bytes: larger inner packets do not come, and paths need not carry them.
    pub mtu: u16,
    /// How long a node that nobody can dial is silent at most towards its connectors and home relays; how long it may be, it learns.
    /// `None`: it can be dialled, or does not care.
    pub keepalive: Option<Duration>,
    /// What being heard on a LAN entitles a member to.
    pub lan: LanPolicy,
    /// Over how many paths the data to one peer goes.
    pub balance: Balance,
    /// Endpoints of the mesh file that this node leaves out, so that they are none to it; for explanations only.
    pub unselected: Vec<EndpointName>,
}

/// Wall time, for handshake timestamps.
#[derive(Clone, Copy, Debug)]
pub struct WallClock {
    /// Nanoseconds since 1970 at [`Instant::ORIGIN`].
    pub unix_at_origin: u64,
    /// No timestamp at or below this is used: what an earlier run may have used. A clock set back so cannot lock us out.
    pub floor: u64,
}

/// A datagram that the core wants sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// UDP payload.
    pub datagram: Vec<u8>,
    /// Whether it may be cut on its way.
    pub fragments: Fragments,
    /// The socket that it leaves by.
    pub socket: SocketId,
}

/// The protocol machine.
pub struct Node {
    settings: Settings,
    mac1: Mac1,
    rng: ChaCha20Rng,
    clock: WallClock,
    last_timestamp: u64,
    cookies: CookieSecret,
    limiter: Limiter,
    peers: Vec<Option<Peer>>,
    /// Empty places in `peers`.
    free: Vec<PeerId>,
    by_name: Order,
    by_key: Order,
    /// Indices of initiations in flight; the table reserves them.
    pending: BTreeMap<SessionIndex, PeerId>,
    /// Peers with something going on.
    live: BTreeSet<PeerId>,
    /// Those of them that are looked after all the time.
    watched: BTreeSet<PeerId>,
    /// What all live peers are to get, and who waits for it.
    round: Round,
    /// Peers that are kept in touch with.
    kept: Vec<PeerId>,
    /// How long the NATs in front of us remember.
    lifetime: Lifetime,
    /// When a handshake message was sent last.
    shook_at: Instant,
    strangers: Vec<Stranger>,
    /// Addresses of this machine's interfaces.
    local: Vec<IpAddr>,
    /// Addresses that routers map to us, and that servers see.
    outer: Vec<(Origin, SocketAddr)>,
    /// Where peers see us, oldest news first.
    observed: Vec<Observed>,
    /// What those tell of the NAT before us.
    sightings: Sightings,
    sprays: Sprays,
    enrolments: Enrolments,
    /// Where peers are heard on LANs that we are in.
    neighbours: BTreeMap<PeerId, Box<[SocketAddr]>>,
    /// Addresses of this machine on the LANs that it looks for neighbours on.
    lan_addresses: Vec<IpAddr>,
    /// Peers that carry datagrams for others, by name.
    relays: Vec<PeerId>,
    /// Whether any of them serves TLS.
    has_carriers: bool,
    relaying: Relaying,
    /// Prefixes that several peers announce.
    owners: Owners,
    questions: Questions,
    timers: Timers,
    sweep_at: Option<Instant>,
    icmp_credit: IcmpCredit,
    drops: Arc<DropCounters>,
    table: ForwardingTable,
    is_table_dirty: bool,
    transmits: VecDeque<Transmit>,
    packets: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

/// Somebody without a place in this mesh who knows our key.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// The key it showed.
    pub key: PublicKey,
    /// Where it came from last.
    pub source: Locator,
    /// How often it tried.
    pub count: u64,
    /// When it tried last.
    pub at: Instant,
    said: Instant,
}

/// Strangers that are remembered for status output; the oldest is forgotten for a new one.
const MAX_STRANGERS: usize = 16;

/// ICMP errors per second, so that a scan of denied addresses does not turn into a storm (RFC 4443 §2.4(f)).
const ICMP_RATE: u32 = 50;

/// Outputs of one kind that wait to be drained, besides two for each peer: one input (a timeout, a shutdown, a snapshot) may
/// concern all of them. A shell that drains after each input never comes near.
const MAX_QUEUED: usize = 4096;

struct IcmpCredit {
    since: Instant,
    left: u32,
}

impl Node {
    /// A node without peers; give it a registry snapshot next. `seed` is 32 bytes from a cryptographic generator: every
    /// key, index and token of the node comes from it.
    #[must_use]
    pub fn new(settings: Settings, seed: [u8; 32], clock: WallClock, now: Instant) -> Self {
        let mut rng = ChaCha20Rng::from_seed(seed);
        let mac1 = Mac1::new(&settings.identity.public);
        let cookies = CookieSecret::new(draw(&mut rng), now);
        let limiter = Limiter::new(draw(&mut rng), now);
        let table = ForwardingTable::new(mac1.clone());
        Self {
            settings,
            mac1,
            rng,
            clock,
            last_timestamp: clock.floor,
            cookies,
            limiter,
            peers: Vec::new(),
            free: Vec::new(),
            by_name: Order::default(),
            by_key: Order::default(),
            pending: BTreeMap::new(),
            live: BTreeSet::new(),
            watched: BTreeSet::new(),
            round: Round::default(),
            kept: Vec::new(),
            lifetime: Lifetime::default(),
            shook_at: now,
            strangers: Vec::new(),
            local: Vec::new(),
            outer: Vec::new(),
            observed: Vec::new(),
            sightings: Sightings::default(),
            sprays: Sprays::default(),
            enrolments: Enrolments::default(),
            neighbours: BTreeMap::new(),
            lan_addresses: Vec::new(),
            relays: Vec::new(),
            has_carriers: false,
            relaying: Relaying::default(),
            owners: Owners::default(),
            questions: Questions::default(),
            timers: Timers::default(),
            sweep_at: None,
            icmp_credit: IcmpCredit { since: now, left: ICMP_RATE },
            drops: Arc::default(),
            table,
            is_table_dirty: false,
            transmits: VecDeque::new(),
            packets: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The drop counters, which workers share.
    #[must_use]
    pub fn drops(&self) -> Arc<DropCounters> {
        Arc::clone(&self.drops)
    }

    /// A place for workers to find tables, holding the present one.
    #[must_use]
    pub fn publish(&mut self) -> Arc<Published> {
        self.is_table_dirty = false;
        Published::new(Arc::new(self.table.clone()))
    }

    /// Takes what the fast path could not decide.
    pub fn handle_punt(&mut self, punt: Punt, now: Instant) {
        match punt {
            Punt::Packet { packet, offload } => self.handle_packet(packet, offload, now),
            Punt::Datagram { datagram, source } => self.handle_datagram(&datagram, source, now),
            // The shell gives these to its `Stun`; one that has none has asked nobody.
            Punt::StunAnswer { .. } => self.drops.add(DropReason::StunUnexpected, 1),
            Punt::Confirmed { session, source } => self.handle_confirmed(session, source, now),
            Punt::Roamed { session, source } => self.handle_roamed(session, source, now),
            Punt::Worn { peer } => self.handle_worn(peer, now),
            Punt::Stirred { peer } => self.watch(peer, now),
        }
    }

    /// Takes a handshake or control message.
    pub fn handle_datagram(&mut self, datagram: &[u8], source: Locator, now: Instant) {
        let result = match MessageType::of(datagram) {
            Ok(MessageType::Initiation) => self.handle_initiation(datagram, source, now),
            Ok(MessageType::Response) => self.handle_response(datagram, source, now),
            Ok(MessageType::CookieReply) => self.handle_cookie_reply(datagram, now),
            Ok(MessageType::Control) => self.handle_control(datagram, source, now),
            // Data is the workers' business; what reaches the core by another way is not ours.
            Ok(MessageType::Data | MessageType::Relayed) | Err(_) => Err(DropReason::UnknownType),
        };
        if let Err(reason) = result {
            tracing::trace!(address = %source, reason = reason.name(), "datagram dropped");
            self.drops.add(reason, 1);
        }
    }

    /// Takes an inner packet for which the fast path had no session or no route.
    pub fn handle_packet(&mut self, packet: Box<[u8]>, offload: Offload, now: Instant) {
        let Some((_, destination)) = layout::addresses(&packet) else { return };
        match self.table.routes.lookup(destination) {
            Some(Target::Peer(peer)) => self.stage(peer, packet, offload, now),
            // These were counted when they were punted.
            Some(Target::Denied(_)) => self.answer_unreachable(&packet, Unreachable::AdminProhibited, now),
            Some(Target::Local) | None => self.answer_unreachable(&packet, Unreachable::NoRoute, now),
        }
    }

    /// Does what is due. An early call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Sweep => self.sweep(now),
                Timer::Care(peer) => self.handle_care_due(peer, now),
                Timer::Echo(peer) => self.handle_echo_due(peer, now),
                Timer::Round => self.handle_round_due(now),
                Timer::Retry(peer) => self.retry(peer, now),
                Timer::Carry(peer) => self.handle_carry_due(peer, now),
                Timer::Paths(peer) => self.handle_paths_due(peer, now),
                Timer::Spray => self.handle_spray_due(now),
            }
        }
    }

    /// The next datagram to send.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next packet for the device: an ICMP error to a local sender.
    #[must_use]
    pub fn poll_packet(&mut self) -> Option<Vec<u8>> {
        self.packets.pop_front()
    }

    /// The next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A new table, if anything in it changed.
    #[must_use]
    pub fn poll_table(&mut self) -> Option<Arc<ForwardingTable>> {
        std::mem::take(&mut self.is_table_dirty).then(|| Arc::new(self.table.clone()))
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) next; `None`: not before another input.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        self.timers.next()
    }

    /// The peer of this name.
    #[must_use]
    pub fn peer_id(&self, name: &EndpointName) -> Option<PeerId> {
        self.by_name.get(&self.peers, name)
    }

    /// A peer's name.
    #[must_use]
    pub fn peer_name(&self, peer: PeerId) -> Option<&EndpointName> {
        self.peer(peer).map(|peer| &peer.name)
    }

    /// One peer as status output shows it.
    #[must_use]
    pub fn peer_status(&self, peer: PeerId) -> Option<PeerStatus> {
        self.peer(peer).map(Peer::status)
    }

    /// Every place where a peer may be reached, and how each does; empty while nothing goes on with it.
    #[must_use]
    pub fn peer_paths(&self, peer: PeerId, now: Instant) -> Vec<PathStatus> {
        self.peer(peer).and_then(|peer| peer.live.as_ref()).map(|live| live.paths.status(now)).unwrap_or_default()
    }

    /// All peers as status output shows them, by name.
    #[must_use]
    pub fn status(&self) -> Vec<PeerStatus> {
        self.by_name.iter().filter_map(|id| self.peer_status(id)).collect()
    }

    /// Keys that tried to connect and belong to no endpoint.
    #[must_use]
    pub fn strangers(&self) -> &[Stranger] {
        &self.strangers
    }

    /// The owner of an inner address.
    #[must_use]
    pub fn route(&self, address: IpAddr) -> Option<Target> {
        self.table.routes.lookup(address)
    }

    /// The greatest handshake timestamp used so far. The shell keeps it (with a margin) as the next run's
    /// [`WallClock::floor`].
    #[must_use]
    pub const fn last_timestamp(&self) -> u64 {
        self.last_timestamp
    }

    fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(id.index())?.as_ref()
    }

    fn peer_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.peers.get_mut(id.index())?.as_mut()
    }

    /// A peer's live state, made now if it has none; `None` only for an unknown peer.
    fn live_mut(&mut self, id: PeerId, now: Instant) -> Option<&mut Live> {
        self.peer(id)?;
        self.live.insert(id);
        let balance = self.settings.balance;
        self.peer_mut(id)?.live.get_or_insert_default().paths.set_balance(balance);
        self.watch(id, now);
        self.peer_mut(id)?.live.as_deref_mut()
    }

    fn seed(&mut self) -> [u8; 32] {
        draw(&mut self.rng)
    }

    /// A random index that neither a session nor an initiation has.
    fn fresh_index(&mut self) -> SessionIndex {
        loop {
            let index = SessionIndex(self.rng.next_u32());
            if index.0 != 0 && self.table.is_free(index) {
                return index;
            }
        }
    }

    fn max_queued(&self) -> usize {
        MAX_QUEUED + 2 * self.peers.len()
    }

    fn transmit(&mut self, to: Locator, datagram: Vec<u8>) {
        self.transmit_as(to, datagram, Fragments::Never);
    }

    fn transmit_as(&mut self, to: Locator, mut datagram: Vec<u8>, fragments: Fragments) {
        if let Some(channel) = to.channel {
            datagram.splice(0..0, RelayHeader { channel, fragments }.to_bytes());
        }
        if self.transmits.len() < self.max_queued() {
            self.sightings.note_sent(to.address);
            self.transmits.push_back(Transmit { destination: to.address, datagram, fragments, socket: to.socket });
        }
    }

    fn emit(&mut self, event: Event) {
        if self.events.len() < self.max_queued() {
            self.events.push_back(event);
        }
    }

    fn answer_unreachable(&mut self, packet: &[u8], code: Unreachable, now: Instant) {
        self.answer_sender(packet, |from| icmp::unreachable(packet, from, code), now);
    }

    /// Answers an inner sender with the ICMP error that `build` makes, while there is credit.
    fn answer_sender(&mut self, packet: &[u8], build: impl FnOnce(IpAddr) -> Option<Vec<u8>>, now: Instant) {
        if now - self.icmp_credit.since >= Duration::from_secs(1) {
            self.icmp_credit = IcmpCredit { since: now, left: ICMP_RATE };
        }
        let Some(left) = self.icmp_credit.left.checked_sub(1) else { return };
        // In the name of the destination: from an address of this machine it would be a martian to the machine's kernel.
        let Some((_, from)) = layout::addresses(packet) else { return };
        if let Some(error) = build(from) {
            self.icmp_credit.left = left;
            if self.packets.len() < MAX_QUEUED {
                self.packets.push_back(error);
            }
        }
    }

    fn stranger(&mut self, key: PublicKey, source: Locator, now: Instant) {
        let known = self.strangers.iter_mut().find(|stranger| stranger.key == key);
        let say = match known {
            Some(stranger) => {
                (stranger.source, stranger.at, stranger.count) = (source, now, stranger.count + 1);
                let due = now - stranger.said >= handshake::SAY_AGAIN;
                if due {
                    stranger.said = now;
                }
                due
            }
            None => {
                let forgotten = (self.strangers.len() >= MAX_STRANGERS).then(|| self.strangers.remove(0));
                self.strangers.push(Stranger { key, source, count: 1, at: now, said: now });
                // Keys are free to make up: as many are said per minute as are remembered.
                forgotten.is_none_or(|stranger| now - stranger.said >= handshake::SAY_AGAIN)
            }
        };
        if say {
            self.emit(Event::Refused { peer: None, source, reason: Refusal::UnknownKey(key) });
        }
    }
}

fn draw(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}
