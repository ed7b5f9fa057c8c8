//! Membership: a registry snapshot becomes peers, policy and routes. What did not change keeps its session.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Node;
use crate::event::{Disconnect, Event};
use crate::id::{EndpointName, PeerId};
use crate::member::{Denial, Endpoint, Kind, Members, Nearness, Permission, Policy};
use crate::path::Allowance;
use crate::peer::{Carrier, Peer};
use crate::route::{RouteTable, Target};
use crate::time::Instant;

impl Node {
    /// Takes a whole, checked picture of the mesh, which replaces the one before.
    pub fn handle_registry(&mut self, members: &Members, now: Instant) {
        let policy = Policy::new(members);
        let own = self.settings.name.clone();
        let mut seen = BTreeSet::new();
        // Growing by doubling would leave room for as many peers again.
        self.peers.reserve_exact(members.endpoints.len().saturating_sub(self.peers.len()));
        self.by_name.reserve(members.endpoints.len());
        self.by_key.reserve(members.endpoints.len());
        for endpoint in members.endpoints.iter().filter(|endpoint| endpoint.name != own) {
            seen.insert(endpoint.name.clone());
            self.upsert(endpoint, policy.check(&own, &endpoint.name), now);
        }
        // Those who are invited come and go by `handle_invitations`.
        let names = self.by_name.iter().filter(|id| !self.is_invited(*id)).filter_map(|id| self.peer_name(id));
        let gone: Vec<_> = names.filter(|name| !seen.contains(name)).cloned().collect();
        for name in gone {
            self.remove(&name, now);
        }
        self.rebuild_routes(members, now);
        self.keep_in_touch();
        let all: Vec<PeerId> = self.by_name.iter().collect();
        for id in all {
            self.dial_if_kept(id, now);
        }
    }

    /// Takes the addresses that a peer's public addresses resolve to, best first. They replace the ones before.
    pub fn handle_candidates(&mut self, peer: PeerId, candidates: Vec<SocketAddr>, now: Instant) {
        let Some(known) = self.peer_mut(peer) else { return };
        known.resolved = Some(candidates.into_boxed_slice());
        self.dial_if_kept(peer, now);
    }

    fn upsert(&mut self, endpoint: &Endpoint, permission: Result<Permission, Denial>, now: Instant) {
        let known = self.peer_id(&endpoint.name);
        let nearness = known.map_or(Nearness::Far, |id| self.nearness(id));
        let permission = Policy::among_neighbours(permission, nearness);
        // A new key is a new identity: nothing of the old one may live on.
        let same = known.filter(|id| self.peer(*id).is_some_and(|peer| peer.key == endpoint.public_key));
        let Some(id) = same else {
            if known.is_some() {
                self.remove(&endpoint.name, now);
            }
            return self.insert(endpoint, permission);
        };
        if permission.is_err() && !self.may_relay(id) {
            self.disconnect(id, Disconnect::Removed, now);
        }
        if let Some(peer) = self.peer_mut(id) {
            peer.kind = endpoint.kind;
            peer.permission = permission;
            peer.is_relay = endpoint.relays();
            peer.carrier = carrier(endpoint, peer.carrier);
            if *peer.public_addresses != *endpoint.public_addresses {
                peer.public_addresses = endpoint.public_addresses.as_slice().into();
                peer.resolved = None;
            }
        }
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
    }

    pub(super) fn remove(&mut self, name: &EndpointName, now: Instant) {
        let Some(id) = self.peer_id(name) else { return };
        self.disconnect(id, Disconnect::Removed, now);
        // The next to have this number is somebody else.
        self.neighbours.remove(&id);
        self.forget_owner(id);
        self.forget_invitation(id);
        let Some(key) = self.peer(id).map(|peer| peer.key) else { return };
        self.by_name.remove(&self.peers, name, id);
        // In the same snapshot the key may have gone to another name already.
        self.by_key.remove(&self.peers, &key, id);
        if let Some(place) = self.peers.get_mut(id.index()) {
            *place = None;
            self.free.push(id);
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
        if had_session {
            self.emit(Event::Disconnected { peer: id, reason });
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
