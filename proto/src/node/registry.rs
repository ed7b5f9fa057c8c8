//! Membership: a registry snapshot becomes peers, policy and routes. What did not change keeps its session.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Node;
use crate::event::{Disconnect, Event};
use crate::id::{EndpointName, PeerId};
use crate::member::{Denial, Endpoint, Kind, Members, Nearness, Permission, Policy};
use crate::path::{Allowance, Locator, Origin};
use crate::peer::{Carrier, Peer};
use crate::route::{RouteTable, Target};
use crate::time::Instant;

impl Node {
    /// Takes a whole, checked picture of the mesh, which replaces the one before. Returns the numbers of peers that are gone: none of
    /// them means anybody before the next picture.
    pub fn handle_registry(&mut self, members: &Members, now: Instant) -> Vec<PeerId> {
        let policy = Policy::new(members);
        let own = self.settings.name.clone();
        let mut seen = BTreeSet::new();
        // Growing by doubling would leave room for as many peers again.
        self.peers.reserve_exact(members.endpoints.len().saturating_sub(self.peers.len()));
        self.by_name.reserve(members.endpoints.len());
        self.by_key.reserve(members.endpoints.len());
        let mut gone = Vec::new();
        for endpoint in members.endpoints.iter().filter(|endpoint| endpoint.name != own) {
            seen.insert(endpoint.name.clone());
            gone.extend(self.upsert(endpoint, policy.check(&own, &endpoint.name), now));
        }
        // Those who are invited come and go by `handle_invitations`.
        let names = self.by_name.iter().filter(|id| !self.is_invited(*id)).filter_map(|id| self.peer_name(id));
        let absent: Vec<_> = names.filter(|name| !seen.contains(name)).cloned().collect();
        gone.extend(absent.iter().filter_map(|name| self.remove(name, now)));
        self.rebuild_routes(members, now);
        self.keep_in_touch_anew(now);
        // Their prefixes may be others.
        if !self.neighbours.is_empty() {
            self.emit(Event::NeighbourRoutes);
        }
        // Only now: what was said of one of them above is said of nobody else.
        self.free.extend(&gone);
        gone
    }

    /// Finds out anew who is kept in touch with, and dials those. Everybody is looked at, for whom silence is now another matter.
    pub(super) fn keep_in_touch_anew(&mut self, now: Instant) {
        self.keep_in_touch();
        let all: Vec<PeerId> = self.by_name.iter().collect();
        for id in all {
            self.dial_if_kept(id, now);
        }
        let live: Vec<PeerId> = self.live.iter().copied().collect();
        live.into_iter().for_each(|id| self.watch(id, now));
    }

    /// Takes the addresses that a peer's public addresses resolve to, best first. They replace the ones before.
    pub fn handle_candidates(&mut self, peer: PeerId, candidates: Vec<SocketAddr>, now: Instant) {
        let Some(known) = self.peer_mut(peer) else { return };
        known.resolved = Some(candidates.into_boxed_slice());
        self.renew_candidates(peer, now);
        self.dial_if_kept(peer, now);
    }

    /// Returns the number of the peer that was here before under this name with another key.
    fn upsert(&mut self, endpoint: &Endpoint, permission: Result<Permission, Denial>, now: Instant) -> Option<PeerId> {
        let known = self.peer_id(&endpoint.name);
        // A new key is a new identity: nothing of the old one may live on, nor is it known to be near.
        let same = known.filter(|id| self.peer(*id).is_some_and(|peer| peer.key == endpoint.public_key));
        let nearness = same.map_or(Nearness::Far, |id| self.nearness(id));
        let permission = Policy::among_neighbours(permission, nearness);
        let Some(id) = same else {
            let gone = known.and_then(|_| self.remove(&endpoint.name, now));
            self.insert(endpoint, permission);
            return gone;
        };
        // Somebody has made a member of it by hand.
        self.forget_invitation(id);
        if !endpoint.relays() {
            self.forget_relay(id, now);
        }
        if permission.is_err() && !self.may_relay(id) {
            self.disconnect(id, Disconnect::Removed, now);
        }
        let peer = self.peer_mut(id)?;
        peer.kind = endpoint.kind;
        peer.permission = permission;
        peer.is_relay = endpoint.relays();
        peer.carrier = carrier(endpoint, peer.carrier);
        if *peer.public_addresses != *endpoint.public_addresses {
            peer.public_addresses = endpoint.public_addresses.as_slice().into();
            peer.resolved = None;
            self.renew_candidates(id, now);
        }
        if !endpoint.serves_tls() {
            self.forget_paths(id, |origin, _| origin == Origin::Tls, now);
        }
        None
    }

    pub(super) fn insert(&mut self, endpoint: &Endpoint, permission: Result<Permission, Denial>) {
        let Ok(next) = u32::try_from(self.peers.len()) else { return };
        let id = self.free.pop().unwrap_or(PeerId(next));
        let peer = Peer {
            name: endpoint.name.clone(),
            key: endpoint.public_key,
            kind: endpoint.kind,
            is_kept: false,
            is_relay: endpoint.relays(),
            carrier: carrier(endpoint, Carrier::None),
            permission,
            public_addresses: endpoint.public_addresses.as_slice().into(),
            resolved: None,
            remote: None,
            timestamp: 0,
            activity: None,
            rekeys: 0,
            last_handshake: None,
            unreachable_since: None,
            given_up: None,
            refusal: None,
            allowance: Allowance::default(),
            live: None,
        };
        match self.peers.get_mut(id.index()) {
            Some(free) => *free = Some(peer),
            None => self.peers.push(Some(peer)),
        }
        self.by_name.insert(&self.peers, &endpoint.name, id);
        self.by_key.insert(&self.peers, &endpoint.public_key, id);
        self.strangers.retain(|stranger| stranger.key != endpoint.public_key);
    }

    pub(super) fn remove(&mut self, name: &EndpointName, now: Instant) -> Option<PeerId> {
        let id = self.peer_id(name)?;
        self.forget_relay(id, now);
        self.disconnect(id, Disconnect::Removed, now);
        // The next to have this number is somebody else.
        self.neighbours.remove(&id);
        self.observed.retain(|seen| seen.by != id);
        self.forget_owner(id);
        self.forget_spray(id);
        self.forget_invitation(id);
        let key = self.peer(id).map(|peer| peer.key)?;
        self.by_name.remove(&self.peers, name, id);
        // In the same snapshot the key may have gone to another name already.
        self.by_key.remove(&self.peers, &key, id);
        if let Some(place) = self.peers.get_mut(id.index()) {
            *place = None;
        }
        Some(id)
    }

    /// A peer's record, or a name server, has other addresses than before: its paths follow while there is a session.
    fn renew_candidates(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer_mut(id).filter(|peer| peer.current().is_some()) else { return };
        let addresses: Vec<SocketAddr> = peer.candidates().collect();
        if let Some(live) = &mut peer.live {
            live.paths.retain(Origin::Public, |locator| addresses.contains(&locator.address));
            for address in addresses {
                live.paths.add(address.into(), Origin::Public, now);
            }
        }
        self.tend_paths(id, now);
    }

    /// A peer relays no more: nobody is reached through it, or waits for it.
    fn forget_relay(&mut self, relay: PeerId, now: Instant) {
        if !self.peer(relay).is_some_and(|peer| peer.is_relay) {
            return;
        }
        let address = self.relay_address(relay);
        let goes_through = |locator: Locator| locator.channel.is_some() && Some(locator.address) == address;
        for peer in self.peers.iter_mut().flatten() {
            if let Some(tries) = &mut peer.given_up {
                tries.asked.retain(|asked| !asked.is_of(relay));
            }
            if let Some(live) = &mut peer.live {
                live.asked.retain(|asked| !asked.is_of(relay));
            }
            if peer.live.is_none() {
                peer.remote = peer.remote.filter(|remote| !goes_through(*remote));
            }
        }
        let live: Vec<PeerId> = self.live.iter().copied().filter(|id| *id != relay).collect();
        for id in live {
            self.forget_paths(id, |_, locator| goes_through(locator), now);
        }
    }

    /// Paths that cannot be used any more. Where the data took one, it goes another way at once, or one is looked for.
    fn forget_paths(&mut self, id: PeerId, is_gone: impl Fn(Origin, Locator) -> bool, now: Instant) {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        if !live.paths.forget(is_gone) || live.current.is_none() {
            return;
        }
        self.tend_paths(id, now);
        if self.peer(id).and_then(|peer| peer.live.as_ref()).is_some_and(|live| !live.paths.has_active()) {
            self.dial(id, now);
        }
    }

    /// A node that nobody can dial keeps in touch with its own connectors, which then can reach it, and with its relays.
    fn keep_in_touch(&mut self) {
        let is_relay = |id: &PeerId| self.peer(*id).is_some_and(|peer| peer.is_relay);
        self.relays = self.by_name.iter().filter(is_relay).collect();
        let has_carrier = |id: &PeerId| self.peer(*id).is_some_and(|peer| peer.carrier != Carrier::None);
        self.has_carriers = self.relays.iter().any(has_carrier);
        let may_dial = self.settings.keepalive.is_none();
        let homes = if may_dial { Vec::new() } else { self.home_relays(&self.settings.name) };
        let cluster = self.settings.name.cluster().to_owned();
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let Some(peer) = peer else { continue };
            let is_own = peer.kind == Kind::Connector && peer.name.cluster() == cluster && peer.permission.is_ok();
            peer.is_kept = !may_dial && (is_own || homes.iter().any(|home| home.index() == index));
        }
        let is_kept = |id: &PeerId| self.peer(*id).is_some_and(|peer| peer.is_kept);
        self.kept = self.by_name.iter().filter(is_kept).collect();
    }

    fn rebuild_routes(&mut self, members: &Members, now: Instant) {
        let (mut routes, mut shared) = (RouteTable::default(), BTreeSet::new());
        for endpoint in &members.endpoints {
            let target = match self.peer_id(&endpoint.name) {
                None => Target::Local,
                Some(id) if self.peer(id).is_some_and(|peer| peer.permission.is_ok()) => Target::Peer(id),
                Some(id) => Target::Denied(id),
            };
            for prefix in endpoint.prefixes(&members.mesh) {
                if routes.insert(prefix, target).is_some_and(|before| before != target) {
                    shared.insert(prefix.trunc());
                }
            }
        }
        self.table.routes = Arc::new(routes);
        self.is_table_dirty = true;
        self.rebuild_owners(members, &shared, now);
    }

    /// Begins a handshake with a peer that is to be kept in touch with and has no session.
    pub(super) fn dial_if_kept(&mut self, id: PeerId, now: Instant) {
        let idle = |peer: &Peer| peer.is_kept && peer.live.is_none() && peer.has_place();
        if self.peer(id).is_some_and(idle) {
            self.dial(id, now);
        }
    }

    /// Ends everything with a peer, telling it where possible.
    pub(super) fn disconnect(&mut self, id: PeerId, reason: Disconnect, now: Instant) {
        let had_session = self.peer(id).is_some_and(|peer| peer.current().is_some());
        if had_session && reason != Disconnect::Closed {
            self.send_control(id, &crate::wire::Control::Close, now);
        }
        let is_owner_lost = self.note_owner_gone(id, reason, now);
        self.tear_down(id, now);
        if is_owner_lost {
            self.tend_owners(now);
        }
        let name = self.peer_name(id).filter(|_| had_session).cloned();
        if let Some(name) = name {
            self.emit(Event::Disconnected { peer: id, name, reason });
        }
    }
}

/// What an endpoint's record makes of the carrier that was there before: the shell keeps those that are open.
fn carrier(endpoint: &Endpoint, before: Carrier) -> Carrier {
    match before {
        _ if !endpoint.serves_tls() => Carrier::None,
        Carrier::None => Carrier::Closed,
        Carrier::Closed | Carrier::Open(_) => before,
    }
}
