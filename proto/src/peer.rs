//! Run-time state for one remote endpoint. An idle peer is a name, a key and its addresses; all else hangs off [`Live`].

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use crate::allowance::Allowance;
use crate::handshake::{Cookie, Initiated};
use crate::id::{EndpointName, PublicKey, SessionIndex};
use crate::member::{Denial, Host, Kind, Permission, PublicAddress};
use crate::node::{Asked, Direct, Tries};
use crate::path::{Locator, Paths, Punching};
use crate::session::{Session, TxLane};
use crate::staging::Staging;
use crate::stats::Activity;
use crate::time::Instant;
use crate::wire::Suite;

pub(crate) struct Peer {
    pub(crate) name: EndpointName,
    pub(crate) key: PublicKey,
    pub(crate) kind: Kind,
    pub(crate) permission: Result<Permission, Denial>,
    /// Where its record says that it may be dialled, best first.
    pub(crate) public_addresses: Box<[PublicAddress]>,
    /// What the shell resolved those to; until it did, their literals are what is known.
    pub(crate) resolved: Option<Box<[SocketAddr]>>,
    /// Where it was reached last.
    pub(crate) remote: Option<Locator>,
    /// Carries datagrams for others.
    pub(crate) is_relay: bool,
    /// Whether and where it is reached over TLS.
    pub(crate) carrier: Carrier,
    /// Kept in touch with even when there is nothing to say, because it cannot dial us.
    pub(crate) is_kept: bool,
    /// Greatest initiation timestamp seen from it.
    pub(crate) timestamp: u64,
    /// `None` before anything went on with it.
    pub(crate) activity: Option<Arc<Activity>>,
    pub(crate) rekeys: u32,
    pub(crate) last_handshake: Option<Instant>,
    /// It did not answer since then.
    pub(crate) unreachable_since: Option<Instant>,
    /// What came of the last handshake that had no answer.
    pub(crate) given_up: Option<Box<Tries>>,
    pub(crate) refusal: Option<Box<Refused>>,
    /// What it may still cause.
    pub(crate) allowance: Allowance,
    pub(crate) live: Option<Box<Live>>,
}

/// How a relay is reached over TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// It is not: its record names no address for that.
    #[default]
    None,
    /// It was not needed yet, or the shell could not open one.
    Closed,
    /// By a socket on loopback, which the shell carries over TLS.
    Open(SocketAddrV4),
}

/// How often, and why, we refused a peer's handshakes.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) reason: crate::event::Refusal,
    pub(crate) source: Locator,
    pub(crate) count: u64,
    pub(crate) at: Instant,
    pub(crate) said: Instant,
}

/// What a peer has while something goes on with it.
#[derive(Default)]
pub(crate) struct Live {
    /// The session that we send on.
    pub(crate) current: Option<Established>,
    /// The one before, for datagrams still under way.
    pub(crate) previous: Option<Established>,
    /// One that we answered and that the initiator has not used yet.
    pub(crate) next: Option<Established>,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) staging: Staging,
    /// Proof of our address that the peer demanded, and since when we hold it.
    pub(crate) cookie: Option<(Cookie, Instant)>,
    /// When it sent its last initiation that we worked on.
    pub(crate) answered: Option<Instant>,
    /// Since when it owes us a sign of life.
    pub(crate) unanswered: Option<Instant>,
    /// Pings that wait for replies.
    pub(crate) probes: Vec<Probe>,
    pub(crate) paths: Paths,
    pub(crate) punching: Punching,
    /// What was agreed with a neighbour about packets past the session.
    pub(crate) direct: Option<Box<Direct>>,
    /// Where a relay had it, when it last opened a channel to it.
    pub(crate) seen_at: Option<Ipv4Addr>,
    /// Relays that were asked for a channel to it.
    pub(crate) asked: Vec<Asked>,
    /// When its paths' timer is set.
    pub(crate) paths_at: Option<Instant>,
    pub(crate) attention: Attention,
    /// The late answer that is awaited.
    pub(crate) vigil: Option<Vigil>,
    /// How late the answer was to be that did not come.
    pub(crate) missed: Option<Duration>,
    /// The late answer that it asked for: when, with which token, to where.
    pub(crate) owed: Option<(Instant, u64, Locator)>,
}

/// How closely a peer is looked after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Attention {
    /// Every quarter of a second.
    #[default]
    Watched,
    /// Once more; workers have been asked to tell of data.
    Drowsy,
    /// When workers tell, or when something is due.
    Resting {
        /// When the timer is set.
        until: Instant,
    },
}

/// A late answer that was asked for.
pub(crate) struct Vigil {
    pub(crate) token: u64,
    pub(crate) asked: Instant,
    /// How late.
    pub(crate) after: Duration,
}

/// A session in use, with the core's own lane of it.
pub(crate) struct Established {
    pub(crate) session: Arc<Session>,
    pub(crate) control: Option<TxLane>,
    pub(crate) at: Instant,
    pub(crate) is_initiator: bool,
}

/// A handshake that we began.
pub(crate) struct Attempt {
    /// `None` between two initiations, when the next has not been made yet.
    pub(crate) state: Option<Initiated>,
    pub(crate) index: SessionIndex,
    /// The initiation as it was sent, for places that become known while it waits for its answer.
    pub(crate) message: Vec<u8>,
    pub(crate) mac1: [u8; 16],
    pub(crate) since: Instant,
    pub(crate) tries: u32,
    /// Responses to it that could not be read.
    pub(crate) unread: u32,
    pub(crate) next_at: Instant,
}

impl Attempt {
    /// One whose first initiation goes out at `next_at`.
    pub(crate) fn waiting(now: Instant, next_at: Instant) -> Self {
        Self {
            state: None,
            index: SessionIndex(0),
            message: Vec::new(),
            mac1: [0; 16],
            since: now,
            tries: 0,
            unread: 0,
            next_at,
        }
    }
}

/// A ping that the shell asked for and that waits for its reply.
pub(crate) struct Probe {
    pub(crate) token: u64,
    /// `None`: to be sent when the session is up.
    pub(crate) sent: Option<Instant>,
}

impl Live {
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Established> {
        [&self.current, &self.previous, &self.next].into_iter().flatten()
    }

    /// Whether nothing is going on any more.
    pub(crate) fn is_over(&self) -> bool {
        self.sessions().next().is_none() && self.attempt.is_none() && self.staging.is_empty() && self.probes.is_empty()
    }
}

/// What a peer is doing, for status output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// No session, and nothing to say.
    Idle,
    /// A handshake is under way.
    Connecting,
    /// A session is up.
    Connected,
    /// It does not answer.
    Unreachable,
    /// Policy keeps it from us.
    Denied,
    /// Policy keeps it from us, and a session is up in which one of the two relays for the other.
    RelayOnly,
}

/// A peer as status output shows it.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its name.
    pub name: EndpointName,
    /// Edge or connector.
    pub kind: Kind,
    /// Its key.
    pub key: PublicKey,
    /// What it is doing.
    pub state: PeerState,
    /// Whether and why it may talk to us.
    pub permission: Result<Permission, Denial>,
    /// Where it is reached, if a session is up.
    pub path: Option<Locator>,
    /// Addresses to dial that its record names.
    pub candidates: Vec<SocketAddr>,
    /// When the last handshake with it ended well.
    pub last_handshake: Option<Instant>,
    /// Our index of the session in use.
    pub session: Option<SessionIndex>,
    /// The suite of the session in use.
    pub suite: Option<Suite>,
    /// How often a session was replaced by a newer one.
    pub rekeys: u64,
    /// Since when it does not answer.
    pub unreachable_since: Option<Instant>,
    /// When it was heard last, where it is lost: no path to it works, or it answers no handshake, after it did.
    pub disconnected_since: Option<Instant>,
    /// Why and how often we refused its handshakes, and when last.
    pub refused: Option<(crate::event::Refusal, Locator, u64, Instant)>,
    /// Traffic counters.
    pub activity: Arc<Activity>,
}

impl Peer {
    pub(crate) fn current(&self) -> Option<&Established> {
        self.live.as_ref()?.current.as_ref()
    }

    /// Where it may be dialled, best first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = SocketAddr> {
        let literal = |address: &PublicAddress| match address.host {
            Host::Ip(ip) => Some(SocketAddr::new(ip, address.port)),
            Host::Name(_) => None,
        };
        let literals = self.public_addresses.iter().filter(|_| self.resolved.is_none()).filter_map(literal);
        self.resolved.iter().flatten().copied().chain(literals)
    }

    /// Whether a socket on loopback is where it is reached over TLS.
    pub(crate) fn is_carried_at(&self, address: SocketAddr) -> bool {
        matches!(self.carrier, Carrier::Open(at) if address == SocketAddr::V4(at))
    }

    /// Whether its record says where it may be dialled, over UDP or TLS.
    pub(crate) fn has_place(&self) -> bool {
        self.candidates().next().is_some() || self.carrier != Carrier::None
    }

    /// Where its traffic is counted.
    pub(crate) fn activity(&mut self) -> Arc<Activity> {
        Arc::clone(self.activity.get_or_insert_default())
    }

    pub(crate) fn state(&self) -> PeerState {
        let connecting = self.live.as_ref().is_some_and(|live| live.attempt.is_some());
        match &self.permission {
            Err(_) if self.current().is_some() => PeerState::RelayOnly,
            Err(_) => PeerState::Denied,
            // A session whose peer owes us an answer for long is none, whatever its keys say.
            Ok(_) if self.unreachable_since.is_some() => PeerState::Unreachable,
            Ok(_) if self.current().is_some() => PeerState::Connected,
            Ok(_) if connecting => PeerState::Connecting,
            Ok(_) => PeerState::Idle,
        }
    }

    fn disconnected_since(&self) -> Option<Instant> {
        let has_no_path =
            self.live.as_ref().is_some_and(|live| live.current.is_some() && live.paths.active().is_none());
        let met = self.last_handshake.filter(|_| has_no_path || self.unreachable_since.is_some())?;
        let heard = self.activity.as_ref().map_or(0, |activity| activity.stamps().rx_any);
        Some(met.max(Instant::from_millis(heard)))
    }

    pub(crate) fn status(&self) -> PeerStatus {
        let current = self.current().map(|established| &established.session);
        let session = current.map(|session| session.local);
        PeerStatus {
            name: self.name.clone(),
            kind: self.kind,
            key: self.key,
            state: self.state(),
            permission: self.permission.clone(),
            path: session.and(self.remote),
            candidates: self.candidates().collect(),
            last_handshake: self.last_handshake,
            session,
            suite: current.map(|session| session.suite),
            rekeys: self.rekeys.into(),
            unreachable_since: self.unreachable_since,
            disconnected_since: self.disconnected_since(),
            refused: self.refusal.as_ref().map(|r| (r.reason, r.source, r.count, r.at)),
            activity: self.activity.clone().unwrap_or_default(),
        }
    }
}
