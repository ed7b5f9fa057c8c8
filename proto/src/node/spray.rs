//! Sprays: opening a way between a NAT whose ports are random and one that keeps its port, by many tries at once.
//!
//! The random side begins, when a peer's addresses were probed in vain: it offers a spray, and a peer that keeps its port, and
//! that has probes left, accepts. From then on the one opens sockets towards the other, each a mapping of its NAT, and the other
//! probes ports. A probe that meets a mapping comes to a socket of its own, which is a new place, and becomes a path as any such.
//!
//! Nobody is flooded on a member's word alone: both sides send only to the IP address at which a relay has the peer, one
//! spray at a time, and not more in an hour than [`SPRAY_PROBES`](crate::path::SPRAY_PROBES) in all.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::address::is_of_use_to_others;
use crate::event::Event;
use crate::id::PeerId;
use crate::path::{
    Fragments, Locator, OFFER_PAUSE, SPRAY_PACE, SPRAY_PAUSE, SPRAY_SOCKETS, SPRAY_VOLLEY, SPRAY_WAIT, SocketId,
    SprayAllowance, SprayEnd, SpraySide, SprayStatus, ports,
};
use crate::peer::Peer;
use crate::session::TxLane;
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::{Control, Flags, MessageType, SprayStep};

/// Sprays that are remembered: more do not fit into the hour for which a peer is left alone.
const MAX_REMEMBERED: usize = 1024;

/// What a node knows of sprays.
#[derive(Default)]
pub(super) struct Sprays {
    running: Option<Running>,
    /// The last one of each peer.
    last: BTreeMap<PeerId, SprayStatus>,
    allowance: SprayAllowance,
}

/// The spray that goes on; there is one at a time.
struct Running {
    peer: PeerId,
    /// Guessed places that are still to be probed; none at the side that opens sockets.
    targets: Vec<SocketAddr>,
    /// When it is over, if nothing is left to be probed.
    until: Instant,
}

impl Sprays {
    /// The machine is elsewhere, and so perhaps behind another NAT: peers need not be left alone any more. What was spent is.
    pub(super) fn forgive(&mut self) {
        self.last.retain(|_, status| status.end.is_none());
    }

    fn is_paused(&self, id: PeerId, now: Instant) -> bool {
        self.last.get(&id).is_some_and(|last| now - last.at < SPRAY_PAUSE)
    }
}

impl Node {
    /// The last spray with a peer, of those that are remembered.
    #[must_use]
    pub fn spray_status(&self, id: PeerId) -> Option<SprayStatus> {
        self.sprays.last.get(&id).copied()
    }

    /// The last sprays with all peers.
    pub fn sprays(&self) -> impl Iterator<Item = (PeerId, SprayStatus)> {
        self.sprays.last.iter().map(|(id, status)| (*id, *status))
    }

    /// Seals a probe for each of `count` sockets, as [`Event::SprayWanted`] asked for: at most
    /// [`SPRAY_SOCKETS`](crate::path::SPRAY_SOCKETS), and none if that spray is over.
    pub fn spray_probes(&mut self, id: PeerId, count: usize, now: Instant) -> Vec<Vec<u8>> {
        let is_running = self.sprays.running.as_ref().is_some_and(|running| running.peer == id);
        let count = count.min(if is_running { SPRAY_SOCKETS } else { 0 });
        let probes: Vec<Vec<u8>> = (0..count).filter_map(|_| self.seal_guess(id, now)).collect();
        if let Some(status) = self.sprays.last.get_mut(&id).filter(|_| is_running) {
            status.count = probes.len();
        }
        probes
    }

    /// Whether a path goes, or may go, by a socket of this machine.
    #[must_use]
    pub fn uses_socket(&self, socket: SocketId, now: Instant) -> bool {
        let uses = |peer: &Peer| {
            let is_remote = peer.remote.is_some_and(|remote| remote.socket == socket);
            peer.current().is_some() && (is_remote || peer.live.iter().any(|live| live.paths.uses(socket, now)))
        };
        self.live.iter().filter_map(|id| self.peer(*id)).any(uses)
    }

    /// A socket that no path goes by any more was closed; its number may be given to another.
    pub fn handle_socket_closed(&mut self, socket: SocketId) {
        for peer in self.peers.iter_mut().flatten() {
            peer.remote = peer.remote.filter(|remote| remote.socket != socket);
            if let Some(live) = &mut peer.live {
                live.paths.forget_socket(socket);
            }
        }
    }

    /// Offers a peer a spray, if nothing else has led to it.
    pub(super) fn offer_spray(&mut self, id: PeerId, now: Instant) {
        if self.sightings.random().is_none() || !self.may_spray(id) || self.sprays.is_paused(id, now) {
            return;
        }
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let is_due = live.punching.offered.is_none_or(|at| now - at >= OFFER_PAUSE);
        if is_due && live.paths.has_tried_in_vain() && live.paths.sound(now).is_some() {
            (live.punching.offered, live.punching.is_offer_due) = (Some(now), true);
            self.question_channel(id, now);
        }
    }

    /// Asks the relay that the data goes through for its channel once more: it then tells both sides where it has the other now.
    fn question_channel(&mut self, id: PeerId, now: Instant) {
        let remote = self.peer(id).and_then(|peer| peer.remote);
        let Some(relay) = remote.and_then(|remote| self.relay_at(remote.address)) else { return };
        if let Some(place) = self.peer(relay).and_then(|relay| relay.remote) {
            self.open_channel_at(relay, id, place, now);
        }
    }

    /// The relay has told where it has the peer, and the peer where it has us.
    pub(super) fn send_offer(&mut self, id: PeerId, now: Instant) {
        let live = self.peer_mut(id).and_then(|peer| peer.live.as_mut());
        let is_due = live.is_some_and(|live| std::mem::take(&mut live.punching.is_offer_due));
        let address = self.sightings.random().filter(|_| is_due && self.may_spray(id));
        if let Some(address) = address {
            self.send_control(id, &Control::Spray { step: SprayStep::Offer, address }, now);
        }
    }

    pub(super) fn handle_spray(&mut self, id: PeerId, step: SprayStep, address: SocketAddr, now: Instant) {
        if !self.may_spray(id) || !self.is_at(id, address.ip()) {
            return;
        }
        match step {
            SprayStep::Offer => self.accept_spray(id, address.ip(), now),
            SprayStep::Accept => self.open_spray(id, address, now),
        }
    }

    /// The peer's ports are random: if ours is not, they are probed from now on.
    fn accept_spray(&mut self, id: PeerId, ip: IpAddr, now: Instant) {
        let Some(address) = self.sightings.kept() else { return };
        let Some(budget) = self.sprays.allowance.left(now) else { return };
        let targets: Vec<SocketAddr> =
            ports(budget, &mut self.rng).into_iter().map(|port| SocketAddr::new(ip, port)).collect();
        // Its mappings are there by the time that most of the probes are.
        self.send_control(id, &Control::Spray { step: SprayStep::Accept, address }, now);
        self.begin_spray(Running { peer: id, targets, until: now }, SpraySide::Probes, budget, now);
    }

    /// The peer probes from now on, from the one address that its NAT gives it.
    fn open_spray(&mut self, id: PeerId, target: SocketAddr, now: Instant) {
        let live = self.peer(id).and_then(|peer| peer.live.as_ref());
        let is_answer = live.and_then(|live| live.punching.offered).is_some_and(|at| now - at < SPRAY_WAIT);
        if !is_answer || self.sightings.random().is_none() || self.sprays.is_paused(id, now) {
            return;
        }
        let volleys = u32::try_from(crate::path::SPRAY_PROBES / SPRAY_VOLLEY).unwrap_or(u32::MAX);
        let until = now + SPRAY_PACE * volleys + SPRAY_WAIT;
        self.begin_spray(Running { peer: id, targets: Vec::new(), until }, SpraySide::Opens, SPRAY_SOCKETS, now);
        self.emit(Event::SprayWanted { peer: id, target });
    }

    fn begin_spray(&mut self, running: Running, side: SpraySide, budget: usize, now: Instant) {
        let last = &mut self.sprays.last;
        if last.len() >= MAX_REMEMBERED
            && let Some(oldest) = last.iter().min_by_key(|(_, status)| status.at).map(|(id, _)| *id)
        {
            last.remove(&oldest);
        }
        last.insert(running.peer, SprayStatus { side, at: now, count: 0, budget, end: None });
        self.sprays.running = Some(running);
        self.timers.set(now, Timer::Spray);
    }

    /// Sends the next probes, or sees that it is over.
    pub(super) fn handle_spray_due(&mut self, now: Instant) {
        let Some(mut running) = self.sprays.running.take() else { return };
        let id = running.peer;
        let has_session = self.peer(id).is_some_and(|peer| peer.current().is_some());
        let end = if !has_session {
            Some(SprayEnd::Broken)
        } else if !self.is_relayed(id) {
            Some(SprayEnd::Met)
        } else {
            (running.targets.is_empty() && now >= running.until).then_some(SprayEnd::Missed)
        };
        if let Some(end) = end {
            return self.end_spray(id, end);
        }
        if !running.targets.is_empty() {
            let rest = running.targets.split_off(running.targets.len().min(SPRAY_VOLLEY));
            let volley = std::mem::replace(&mut running.targets, rest);
            self.fire(id, &volley, now);
            running.until = now + SPRAY_WAIT;
        }
        self.sprays.running = Some(running);
        self.timers.set(now + SPRAY_PACE, Timer::Spray);
    }

    fn fire(&mut self, id: PeerId, volley: &[SocketAddr], now: Instant) {
        for address in volley {
            if let Some(datagram) = self.seal_guess(id, now) {
                self.transmit_guess(*address, datagram);
            }
        }
        self.sprays.allowance.spend(volley.len(), now);
        if let Some(status) = self.sprays.last.get_mut(&id) {
            status.count += volley.len();
        }
    }

    fn end_spray(&mut self, id: PeerId, end: SprayEnd) {
        let Some(status) = self.sprays.last.get_mut(&id) else { return };
        status.end = Some(end);
        let status = *status;
        self.emit(Event::SprayEnded { peer: id, status });
    }

    /// Somebody else has this number from now on, or nobody: what goes on ends.
    pub(super) fn forget_spray(&mut self, id: PeerId) {
        self.break_spray(|running| running == id);
        self.sprays.last.remove(&id);
    }

    /// Ends the spray that goes on, if it is with such a peer.
    pub(super) fn break_spray(&mut self, is_ended: impl Fn(PeerId) -> bool) {
        if let Some(running) = self.sprays.running.take_if(|running| is_ended(running.peer)) {
            self.end_spray(running.peer, SprayEnd::Broken);
        }
    }

    /// A probe whose answer's source is the news, not its token.
    fn seal_guess(&mut self, id: PeerId, now: Instant) -> Option<Vec<u8>> {
        let token = self.rng.next_u64();
        let peer = self.peer_mut(id)?;
        let activity = peer.activity();
        let current = peer.live.as_mut()?.current.as_mut()?;
        let lane: &mut TxLane = current.control.as_mut()?;
        let plaintext = Control::Probe { token }.to_bytes();
        let datagram = lane.seal_vec(MessageType::Control, Flags::default(), &plaintext).ok()?;
        activity.sent(0, 0, now);
        Some(datagram)
    }

    /// Sends to a place that nobody is known to be at. It is no destination whose mapping would tell anything of our NAT.
    fn transmit_guess(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.transmits.len() < self.max_queued() {
            let Locator { address, socket, .. } = to.into();
            let fragments = Fragments::Never;
            self.transmits.push_back(super::Transmit { destination: address, datagram, fragments, socket });
        }
    }

    /// A relay's channels lead to one place of each member, which must be the one that everybody knows.
    fn may_spray(&self, id: PeerId) -> bool {
        let is_on = self.settings.punch && self.settings.spray && self.settings.relay.is_none();
        let is_free = self.sprays.running.is_none() && !self.peer(id).is_none_or(|peer| peer.is_relay);
        is_on && is_free && self.is_relayed(id)
    }

    /// Whether a relay has the peer at this address, too.
    fn is_at(&self, id: PeerId, ip: IpAddr) -> bool {
        let seen_at = self.peer(id).and_then(|peer| peer.live.as_ref()?.seen_at).map(IpAddr::V4);
        is_of_use_to_others(ip) && seen_at == Some(ip)
    }

    /// The IPv4 address at which a member has answered, for those that it is relayed to: sprays are for NATs.
    pub(super) fn seen_at(&self, id: PeerId, now: Instant) -> Option<Ipv4Addr> {
        let answered = self.peer(id)?.live.as_ref()?.paths.proven(now);
        answered.filter(|address| !address.ip().is_loopback()).find_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }
}
