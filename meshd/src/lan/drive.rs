//! The driver's part of LAN discovery: news to the core, and what the core makes of them to the machine's routes.

use proto::id::PeerId;

use super::{Lan, LanNews};
use crate::driver::Driver;
use crate::host::{DirectWay, Neighbours, PlannedRoute};
use crate::report::events::EventKind;

/// What is told of a neighbour that is none any more.
const NOT_HEARD: &str = "no longer heard on the LAN";

impl Driver {
    /// Takes what LAN discovery heard. A key of no endpoint is no neighbour.
    pub(crate) fn handle_lan_news(&mut self, news: &LanNews) {
        let is_known = self.lan.near.contains_key(&news.key);
        self.lan.note(news);
        let Some(peer) = self.node.peer_of_key(&news.key) else {
            return tracing::debug!(public_key = %news.key, "a neighbour is no endpoint of this mesh");
        };
        let endpoint = self.node.peer_name(peer);
        let text = match news.places.first() {
            Some(place) if !is_known => Some(format!("heard on the LAN at {}", place.address)),
            Some(_) => None,
            None => Some(NOT_HEARD.to_owned()),
        };
        if let Some(text) = text {
            self.reporter.note(EventKind::Neighbour, endpoint, text);
        }
        let name = endpoint.map_or("?", |name| name.as_str());
        match news.places.first() {
            Some(place) if !is_known => tracing::info!(peer = name, address = %place.address, "heard on the LAN"),
            Some(_) => tracing::debug!(peer = name, addresses = ?news.places, "heard elsewhere on the LAN"),
            None => tracing::info!(peer = name, "no longer heard on the LAN"),
        }
        let mut addresses: Vec<_> = news.places.iter().map(|place| place.address).collect();
        addresses.dedup();
        self.node.handle_neighbour(peer, &addresses, self.clock.now());
    }

    /// Ends LAN discovery, to look for neighbours otherwise, or no more. Those who are near are found anew.
    pub(crate) fn replace_lan(&mut self, lan: Lan) {
        let before = std::mem::replace(&mut self.lan, lan);
        for peer in before.near.keys().filter_map(|key| self.node.peer_of_key(key)).collect::<Vec<_>>() {
            self.reporter.note(EventKind::Neighbour, self.node.peer_name(peer), NOT_HEARD);
            self.node.handle_neighbour(peer, &[], self.clock.now());
        }
        self.lan.is_due = true;
    }

    /// Tells the core of another mesh who is near: a key may belong to an endpoint now, or to another.
    pub(crate) fn replay_neighbours(&mut self) {
        for (key, places) in &self.lan.near {
            if let Some(peer) = self.node.peer_of_key(key) {
                let mut addresses: Vec<_> = places.iter().map(|place| place.address).collect();
                addresses.dedup();
                self.node.handle_neighbour(peer, &addresses, self.clock.now());
            }
        }
        self.lan.is_due = true;
    }

    /// Tells LAN discovery, and the core, on which LANs the machine is now.
    pub(crate) async fn tell_lans(&mut self) {
        match self.host.lan_links().await {
            Ok(links) => {
                let addresses = self.lan.set_links(links);
                self.node.handle_lan_addresses(&addresses, self.clock.now());
            }
            Err(error) => tracing::warn!(%error, "the machine's LANs are unknown"),
        }
    }

    /// Notes that the core wants other routes to neighbours.
    pub(crate) fn note_neighbour_routes(&mut self) {
        self.lan.is_due = true;
    }

    /// Gives the machine the routes to neighbours that the core wants, where they changed.
    pub(crate) async fn route_neighbours(&mut self) {
        if !std::mem::take(&mut self.lan.is_due) {
            return;
        }
        let mut neighbours = Neighbours::default();
        for wanted in self.node.neighbour_routes() {
            let Some(owner) = self.node.peer_name(wanted.peer).cloned() else { continue };
            for gateway in wanted.gateways {
                let Some(interface) = self.interface_of(wanted.peer, gateway) else { continue };
                let (prefixes, gateway) = (wanted.prefixes.clone(), gateway.ip());
                neighbours.direct.push(DirectWay { prefixes, gateway, interface });
            }
            if wanted.is_implicit {
                let route = |prefix| PlannedRoute { prefix, owner: owner.clone() };
                neighbours.routes.extend(wanted.prefixes.into_iter().map(route));
            }
        }
        if let Err(error) = self.host.set_neighbours(neighbours).await {
            tracing::error!(%error, "routes to neighbours could not be brought up to date");
        }
    }

    fn interface_of(&self, peer: PeerId, gateway: std::net::SocketAddr) -> Option<u32> {
        let key = self.node.peer_status(peer)?.key;
        self.lan.interface_of(&key, gateway)
    }
}
