//! What a node knows of one peer, and of how others see the node itself: for an operator who asks why things are as they are.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use super::{Asked, Node};
use crate::id::PeerId;
use crate::path::{Locator, Origin, PathStatus, SprayStatus};
use crate::peer::PeerState;
use crate::time::Instant;

/// One peer in full, beside its [`PeerStatus`](crate::peer::PeerStatus).
#[derive(Clone, Debug)]
pub struct PeerDetail {
    /// The session that is sent on.
    pub session: Option<SessionDetail>,
    /// Every candidate that was probed inside a session; empty while there is none.
    pub paths: Vec<PathStatus>,
    /// Where handshakes go, or would, best first.
    pub places: Vec<(Origin, Locator)>,
    /// The handshake that waits for its answer, or the last one if that had none.
    pub tries: Option<Tries>,
    /// The relays that were asked for the peer.
    pub asked: Vec<Asked>,
    /// The relays that would be asked for it.
    pub relays: Vec<PeerId>,
    /// Whether it carries datagrams for others.
    pub is_relay: bool,
    /// The last spray with it, of those that are remembered.
    pub spray: Option<SprayStatus>,
}

/// The session that is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionDetail {
    /// When its handshake ended.
    pub since: Instant,
    /// Whether we began it.
    pub is_initiator: bool,
}

/// A handshake without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tries {
    /// When its first initiation was sent.
    pub since: Instant,
    /// Initiations; each went to eight places at most.
    pub count: u32,
    /// Responses that came and could not be read.
    pub unread: u32,
    /// When it was given up; `None`: it goes on.
    pub ended: Option<Instant>,
    /// The relays that were asked meanwhile.
    pub asked: Vec<Asked>,
}

/// Where a peer sees this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Who says so.
    pub by: PeerId,
    /// Where.
    pub address: SocketAddr,
    /// When it said so last.
    pub at: Instant,
}

impl Node {
    /// One peer in full.
    #[must_use]
    pub fn peer_detail(&self, id: PeerId, now: Instant) -> Option<PeerDetail> {
        let peer = self.peer(id)?;
        let live = peer.live.as_ref();
        let current = peer.current();
        let attempt = live.and_then(|live| live.attempt.as_ref());
        let tries = attempt.map(|attempt| Tries {
            since: attempt.since,
            count: attempt.tries,
            unread: attempt.unread,
            ended: None,
            asked: Vec::new(),
        });
        let tries = tries.or_else(|| peer.given_up.as_deref().cloned());
        let asked = live.filter(|live| !live.asked.is_empty()).map(|live| live.asked.clone());
        Some(PeerDetail {
            session: current.map(|current| SessionDetail { since: current.at, is_initiator: current.is_initiator }),
            paths: live.filter(|_| current.is_some()).map(|live| live.paths.status(now)).unwrap_or_default(),
            places: self.dialable(id),
            asked: asked.or_else(|| tries.as_ref().map(|tries| tries.asked.clone())).unwrap_or_default(),
            tries,
            relays: self.relays_for(id, &peer.name),
            is_relay: peer.is_relay,
            spray: self.spray_status(id),
        })
    }

    /// Where peers see this node, oldest news first.
    pub fn observed(&self) -> impl Iterator<Item = Observed> {
        self.observed.iter().copied()
    }

    /// The addresses of this machine's interfaces that others may reach.
    #[must_use]
    pub fn links(&self) -> &[IpAddr] {
        &self.local
    }

    /// How many of the peers that policy lets talk to this node have a session, and how many these are.
    #[must_use]
    pub fn connected(&self) -> (usize, usize) {
        let permitted = self.peers.iter().flatten().filter(|peer| peer.permission.is_ok());
        permitted.fold((0, 0), |(connected, all), peer| {
            (connected + usize::from(peer.state() == PeerState::Connected), all + 1)
        })
    }

    /// The members that relay, by name.
    #[must_use]
    pub fn relays(&self) -> &[PeerId] {
        &self.relays
    }

    /// The relays at which others look for this node.
    #[must_use]
    pub fn own_relays(&self) -> Vec<PeerId> {
        self.home_relays(&self.settings.name)
    }

    /// The relay that is reached at this address.
    #[must_use]
    pub fn relay_at(&self, address: SocketAddr) -> Option<PeerId> {
        self.relays.iter().copied().find(|relay| self.relay_address(*relay) == Some(address))
    }

    /// Probes the paths of every relay in session anew.
    pub fn remeasure_relays(&mut self, now: Instant) {
        for id in self.relays.clone() {
            if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
                live.paths.restart(now);
                self.tend_paths(id, now);
            }
        }
    }

    /// Keeps what came of a handshake that is given up, for the operator; the next session forgets it.
    pub(super) fn note_given_up(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        peer.activity().handshakes.unanswered.fetch_add(1, Ordering::Relaxed);
        let Some(live) = peer.live.as_ref() else { return };
        peer.given_up = live.attempt.as_ref().map(|attempt| {
            let (since, count, asked) = (attempt.since, attempt.tries, live.asked.clone());
            Box::new(Tries { since, count, unread: attempt.unread, ended: Some(now), asked })
        });
    }
}
