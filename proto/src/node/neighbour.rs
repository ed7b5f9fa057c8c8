//! Peers that are heard on a LAN: where they are reached there, and what that entitles them to.
//!
//! A beacon proves that its sender holds the LAN's token, not who it is. So what is heard gives candidates, and, where this node
//! counts the token's holders as a community, permission for an *endpoint* of the mesh, which must prove its key in a handshake
//! like any other, and must let this node in by its own policy as well.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use super::Node;
use crate::event::{Disconnect, Event};
use crate::id::PeerId;
use crate::member::{Nearness, Permission, Policy};
use crate::path::Origin;
use crate::route::Target;
use crate::time::Instant;

/// What being heard on a LAN entitles a member to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LanPolicy {
    /// Whether neighbours count as a community while they are heard.
    pub implicit_community: bool,
    /// Whether packets may go to neighbours as they are, by the kernel's routes, where both sides say so.
    pub direct: bool,
}

/// What the machine is to route to a neighbour besides what the mesh's own policy asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourRoutes {
    /// Who.
    pub peer: PeerId,
    /// Every prefix that the mesh's record gives it.
    pub prefixes: Vec<IpNet>,
    /// Whether it may be talked to only because it is near: the tunnel has no routes to it otherwise.
    pub is_implicit: bool,
    /// Through which of its addresses it takes packets as they are; at most one of each family.
    pub gateways: Vec<SocketAddr>,
}

impl Node {
    /// Takes the addresses at which a peer is heard on LANs that both are in; they replace those before.
    pub fn handle_neighbour(&mut self, id: PeerId, addresses: &[SocketAddr], now: Instant) {
        if addresses.is_empty() {
            self.neighbours.remove(&id);
        } else if self.peer(id).is_some() {
            self.neighbours.insert(id, addresses.into());
        }
        self.review_permission(id, now);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        live.paths.retain(Origin::Lan, |locator| addresses.contains(&locator.address));
        for address in addresses {
            live.paths.add((*address).into(), Origin::Lan, now);
            // It may have been tried before it was near, and given up.
            live.paths.restart_silent_at((*address).into(), now);
        }
        self.tend_paths(id, now);
    }

    /// Takes the addresses that this machine has on the LANs that it looks for neighbours on, link-local ones among them.
    pub fn handle_lan_addresses(&mut self, addresses: &[IpAddr], now: Instant) {
        self.lan_addresses = addresses.to_vec();
        let near: Vec<PeerId> = self.neighbours.keys().copied().collect();
        near.into_iter().for_each(|id| self.tend_direct(id, now));
    }

    /// What the machine is to route to neighbours, by peer; to be asked after [`Event::NeighbourRoutes`].
    #[must_use]
    pub fn neighbour_routes(&self) -> Vec<NeighbourRoutes> {
        let routes = |id: &PeerId| {
            let peer = self.peer(*id)?;
            let is_implicit = peer.permission == Ok(Permission::Neighbour);
            let gateways = self.direct_gateways(*id);
            let prefixes = || self.table.routes.prefixes_of(*id);
            let is_any = is_implicit || !gateways.is_empty();
            is_any.then(|| NeighbourRoutes { peer: *id, prefixes: prefixes(), is_implicit, gateways })
        };
        self.neighbours.keys().filter_map(routes).collect()
    }

    /// The holder of a key, where that is an endpoint and not this node.
    #[must_use]
    pub fn peer_of_key(&self, key: &crate::id::PublicKey) -> Option<PeerId> {
        self.by_key.get(&self.peers, key)
    }

    pub(super) fn nearness(&self, id: PeerId) -> Nearness {
        let is_near = self.settings.lan.implicit_community && self.neighbours.contains_key(&id);
        if is_near { Nearness::Near } else { Nearness::Far }
    }

    pub(super) fn review_permission(&mut self, id: PeerId, now: Instant) {
        let nearness = self.nearness(id);
        let Some(peer) = self.peer_mut(id) else { return };
        let permission = Policy::among_neighbours(peer.permission.clone(), nearness);
        if permission == peer.permission {
            return;
        }
        let target = if permission.is_ok() { Target::Peer(id) } else { Target::Denied(id) };
        peer.permission = permission;
        if matches!(target, Target::Denied(_)) && !self.may_relay(id) {
            self.disconnect(id, Disconnect::Removed, now);
        }
        Arc::make_mut(&mut self.table.routes).hand_over(id, target);
        self.renew_owners(now);
        self.is_table_dirty = true;
        self.emit(Event::NeighbourRoutes);
    }
}
