//! Paths of the peers: probing their candidates, and moving the data to the best of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand_chacha::rand_core::Rng as _;

use super::Node;
use super::Observed;
use super::spread::Errand;
use crate::address::is_of_use_to_others;
use crate::event::Event;
use crate::id::{PeerId, SessionIndex};
use crate::path::{Change, Locator, Origin, SocketId};
use crate::peer::{Carrier, Peer};
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::{Control, MAX_ADDRESSES};

/// How long an address is told to others after the last that saw us there: a NAT keeps the mapping for as long at least (RFC
/// 4787 REQ-5).
const OBSERVED_FOR: Duration = Duration::from_secs(120);

/// From one address at which a peer sees us to another that it says instead.
const OBSERVER_PACE: Duration = Duration::from_secs(5);

/// Observers whose news is kept; more would say the same.
const MAX_OBSERVERS: usize = 16;

impl Node {
    /// Takes the addresses of this machine's interfaces that others may reach, without ports: the machine's network changed, or is
    /// told for the first time. Every path is probed anew.
    pub fn handle_links(&mut self, addresses: &[IpAddr], now: Instant) {
        if self.local != addresses {
            // For the first time, when first datagrams are on their way already, it is no change.
            if !self.local.is_empty() {
                self.sightings.forget();
                self.sprays.forgive();
            }
            self.local = addresses.to_vec();
            self.forget_lifetime();
        }
        self.handle_resume(now);
    }

    /// Takes note that the machine slept, or that its network may be another: every path is probed anew, those in use first.
    pub fn handle_resume(&mut self, now: Instant) {
        // What others saw belonged to the network before.
        self.observed.clear();
        // Sessions that came of age meanwhile are over, and need no probes.
        self.handle_timeout(now);
        self.send_round(Errand::Probe, now);
    }

    /// Takes the addresses that routers map to this node and that servers see; they replace those before.
    pub fn handle_outer(&mut self, addresses: &[(Origin, SocketAddr)], now: Instant) {
        if self.outer != addresses {
            self.outer = addresses.to_vec();
            self.send_round(Errand::Tell, now);
        }
    }

    pub(super) fn handle_paths_due(&mut self, id: PeerId, now: Instant) {
        if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
            live.paths_at = None;
            self.tend_paths(id, now);
        }
    }

    /// Sends the probes of a peer that are due, and moves the data where that is due.
    pub(super) fn tend_paths(&mut self, id: PeerId, now: Instant) {
        if self.is_invited(id) {
            return;
        }
        while let Some(locator) = self.poll_probe(id, now) {
            let token = self.rng.next_u64();
            if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
                live.paths.sent(locator, token, now);
            }
            self.send_control_to(id, &Control::Probe { token }, locator, now);
        }
        let change = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.paths.review(now));
        self.tend_sizes(id, now);
        if self.paths(id).is_some_and(crate::path::Paths::is_asked) {
            self.question_relays(id, now);
        }
        if self.paths(id).is_some_and(|paths| paths.is_asked_again(now)) {
            self.carry(id, now);
        }
        if self.paths(id).is_some_and(|paths| paths.is_doubtful(now)) {
            self.seek_relays(id, now);
        }
        self.offer_spray(id, now);
        self.touch_relay(id, now);
        match change {
            Some(Change::Active(locator)) => self.move_to(id, locator, now),
            Some(Change::Dead) => {
                self.dial(id, now);
                self.tend_owners(now);
            }
            None => {}
        }
        self.tend_spread(id, now);
        self.tend_direct(id, now);
        self.schedule_paths(id, now);
    }

    fn poll_probe(&mut self, id: PeerId, now: Instant) -> Option<Locator> {
        let peer = self.peer_mut(id)?;
        peer.live.as_mut()?.paths.poll_probe(&mut peer.allowance, now)
    }

    /// A session came up over `remote`: what is known of the peer are the candidates, and it is told ours.
    pub(super) fn open_paths(&mut self, id: PeerId, remote: Locator, now: Instant) {
        let member = self.peer(id).filter(|_| !self.is_invited(id));
        let Some(origin) = member.map(|peer| peer.origin_of(remote)) else { return };
        let candidates = self.dialable(id);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        live.paths.adopt(remote, origin, now);
        for (origin, locator) in candidates {
            live.paths.add(locator, origin, now);
        }
        self.send_candidates(id, now);
        self.ask_reach(id, now);
        if self.peer(id).is_some_and(|peer| peer.is_relay) {
            self.ask_relay(id, now);
        }
        self.tend_paths(id, now);
    }

    /// Where a peer may be dialled, best first: what is probed anyway, its neighbourhood, where it was last, its record.
    pub(super) fn dialable(&self, id: PeerId) -> Vec<(Origin, Locator)> {
        let Some(peer) = self.peer(id) else { return Vec::new() };
        let known = peer.live.iter().flat_map(|live| live.paths.candidates());
        let near = self.neighbours.get(&id).into_iter().flatten().map(|address| (Origin::Lan, (*address).into()));
        let last = peer.remote.map(|remote| (peer.origin_of(remote), remote));
        let public = peer.candidates().map(|address| (Origin::Public, address.into()));
        let mut all: Vec<(Origin, Locator)> = Vec::new();
        for candidate in known.chain(near).chain(last).chain(public) {
            if !all.iter().any(|(_, locator)| *locator == candidate.1) {
                all.push(candidate);
            }
        }
        all
    }

    /// Whether there is no way to a peer that could be tried.
    pub(super) fn is_hopeless(&self, id: PeerId) -> bool {
        let has_relays = || self.peer(id).is_some_and(|peer| !self.relays_for(id, &peer.name).is_empty());
        let has_carrier = self.peer(id).is_some_and(|peer| peer.carrier != Carrier::None);
        self.dialable(id).is_empty() && !has_carrier && !has_relays()
    }

    /// Tells a peer where we may be reached.
    pub(super) fn send_candidates(&mut self, id: PeerId, now: Instant) {
        // Before the addresses, the probes to which would use up ports.
        self.tell_forecast(id, now);
        let addresses = self.own_candidates(now);
        if !addresses.is_empty() && self.peer(id).is_some_and(|peer| peer.current().is_some()) {
            self.send_control(id, &Control::Candidates { addresses }, now);
        }
    }

    fn own_candidates(&self, now: Instant) -> Vec<(Origin, SocketAddr)> {
        if !self.settings.punch {
            return Vec::new();
        }
        let port = self.settings.port;
        let local = self.local.iter().map(|ip| (Origin::Interface, SocketAddr::new(*ip, port)));
        let seen = self.observed.iter().filter(|seen| now - seen.at < OBSERVED_FOR);
        let seen = seen.map(|seen| (Origin::Observed, seen.address));
        let mut all: Vec<(Origin, SocketAddr)> = Vec::new();
        for (origin, address) in self.outer.iter().copied().chain(seen).chain(local) {
            if all.len() < MAX_ADDRESSES && !all.iter().any(|(_, known)| *known == address) {
                all.push((origin, address));
            }
        }
        all
    }

    /// A peer says where it may be reached.
    pub(super) fn handle_peer_candidates(&mut self, id: PeerId, addresses: &[(Origin, SocketAddr)], now: Instant) {
        if !self.settings.punch {
            return;
        }
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        // Whoever says that it is on our LAN, or in its record, has no way to know.
        let told = |(origin, address): &&(Origin, SocketAddr)| {
            matches!(origin, Origin::Interface | Origin::Observed | Origin::Mapped) && is_of_use_to_others(address.ip())
        };
        let told: Vec<(Origin, SocketAddr)> = addresses.iter().filter(told).copied().collect();
        for origin in [Origin::Interface, Origin::Observed, Origin::Mapped] {
            live.paths.retain(origin, |locator| told.iter().any(|(_, address)| *address == locator.address));
        }
        for (origin, address) in told {
            live.paths.add(address.into(), origin, now);
        }
        live.paths.restart_silent(now);
        self.tend_paths(id, now);
    }

    /// A session's newest datagram came from elsewhere than we send to: finds out whether the peer receives there before
    /// anything is sent there. Whoever can send a copy of a datagram from another address does not move the peer so.
    pub(super) fn handle_roamed(&mut self, index: SessionIndex, source: Locator, now: Instant) {
        let Some(id) = self.table.session(index).map(|row| row.session.peer) else { return };
        if self.is_invited(id) {
            return;
        }
        let Some(peer) = self.peer_mut(id) else { return };
        let is_known = peer.live.as_ref().is_some_and(|live| live.paths.members().contains(&source));
        if is_known || peer.remote == Some(source) || peer.current().is_none() {
            return;
        }
        let origin = peer.origin_of(source);
        if let Some(live) = &mut peer.live {
            let is_new = !live.paths.knows(source);
            live.paths.roamed(source, origin, now);
            if is_new && source.is_carried() {
                // It may relay through us from there already. Over UDP new places cost nothing to make up, and all its channels
                // are published anew for this.
                self.move_channels(id);
            }
        }
        self.tend_paths(id, now);
    }

    pub(super) fn knows_path(&self, id: PeerId, source: Locator) -> bool {
        self.paths(id).is_some_and(|paths| paths.knows(source))
    }

    /// A candidate was heard from: if ours did not get there before, they may now.
    pub(super) fn handle_probed(&mut self, id: PeerId, source: Locator, now: Instant) {
        if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
            live.paths.heard(source, now);
            self.tend_paths(id, now);
        }
    }

    /// An answer to a probe of a path; `false` if it is none.
    pub(super) fn handle_path_reply(&mut self, id: PeerId, token: u64, source: Locator, now: Instant) -> bool {
        let paths = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).map(|live| &mut live.paths);
        let is_ours = paths.is_some_and(|paths| {
            paths.answered(source, token, now).is_some() || paths.answered_size(source, token, now)
        });
        if is_ours {
            if source.is_carried() {
                self.handle_carried(id, source, now);
            }
            self.note_return(id, now);
            self.tend_paths(id, now);
        }
        is_ours
    }

    /// A peer tells from where our probe came.
    pub(super) fn handle_observed(&mut self, by: PeerId, address: SocketAddr, source: Locator, now: Instant) {
        // Others reach nothing by the mapping of a socket that was opened for one peer.
        if !is_of_use_to_others(address.ip()) || source.socket != SocketId::MAIN {
            return;
        }
        // Whoever stands behind a NAT, or in our LAN, may see us as nobody else does.
        if self.peer(by).is_none_or(|peer| peer.origin_of(source) != Origin::Public) {
            return;
        }
        self.sightings.note_seen(source.address, address, &self.local, now);
        let is_before = |seen: &Observed| seen.by == by && seen.address.is_ipv4() == address.is_ipv4();
        // All peers are told, and probe there: nobody can have them do so more often.
        let is_hasty = |seen: &Observed| seen.address != address && now - seen.at < OBSERVER_PACE;
        if self.observed.iter().any(|seen| is_before(seen) && is_hasty(seen)) {
            return;
        }
        let is_news = !self.observed.iter().any(|seen| seen.address == address);
        self.observed.retain(|seen| !is_before(seen) && now - seen.at < OBSERVED_FOR);
        if self.observed.len() >= MAX_OBSERVERS {
            self.observed.remove(0);
        }
        self.observed.push(Observed { by, address, at: now });
        if is_news && !self.local.contains(&address.ip()) {
            self.send_round(Errand::Tell, now);
        }
    }

    fn move_to(&mut self, id: PeerId, remote: Locator, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        // It has answered there, though perhaps no handshake yet.
        peer.unreachable_since = None;
        let before = peer.remote.replace(remote);
        if before == Some(remote) {
            return;
        }
        let is_relay = peer.is_relay;
        self.publish_row(id);
        self.move_channels(id);
        if let Some(before) = before.filter(|before| is_relay && (before.is_carried() || remote.is_carried())) {
            self.readdress(id, before.address, remote, now);
        }
        self.hold_relay(remote, now);
        self.emit(Event::Moved { peer: id, remote });
    }

    fn tend_spread(&mut self, id: PeerId, now: Instant) {
        let live = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).filter(|live| live.current.is_some());
        if live.is_some_and(|live| live.paths.tend_spread(now)) {
            self.publish_row(id);
        }
    }

    fn paths(&self, id: PeerId) -> Option<&crate::path::Paths> {
        self.peer(id)?.live.as_ref().map(|live| &live.paths)
    }

    fn schedule_paths(&mut self, id: PeerId, now: Instant) {
        let Some(live) = self.peers.get_mut(id.index()).and_then(Option::as_mut).and_then(|peer| peer.live.as_mut())
        else {
            return;
        };
        // Without a session there is nothing to probe with.
        let next = live.current.as_ref().and_then(|_| live.paths.next_at(now));
        let before = std::mem::replace(&mut live.paths_at, next);
        if before != next {
            before.into_iter().for_each(|at| self.timers.cancel(at, Timer::Paths(id)));
            next.into_iter().for_each(|at| self.timers.set(at, Timer::Paths(id)));
        }
    }
}

impl Peer {
    /// How a place where it was met is known.
    fn origin_of(&self, locator: Locator) -> Origin {
        let is_public = locator.channel.is_none() && self.candidates().any(|known| known == locator.address);
        match locator.channel {
            Some(_) => Origin::Relay,
            None if self.is_carried_at(locator.address) => Origin::Tls,
            None if is_public => Origin::Public,
            None => Origin::Seen,
        }
    }
}
