//! Direct mode: two neighbours agree, inside their session, to leave packets between them to their kernels.
//!
//! Each offers, about once a second, addresses that its own machine has on the LAN. An offer is accepted where a probe inside the
//! session has been answered from one of these addresses: whoever only stands between the two has another. An offer is a
//! lease: it ends by itself where it is not repeated, and so do the routes; the paths of the LAN are probed meanwhile every second,
//! for the session sees nothing of the data.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::Node;
use crate::event::Event;
use crate::id::PeerId;
use crate::time::Instant;
use crate::wire::{Control, Families, MAX_ADDRESSES};

/// Between two offers to a peer that offers too.
const REPEAT: Duration = Duration::from_secs(1);

/// Between two offers to a peer that has not answered: it does not want to, or does not know them.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an offer stands: two repetitions may be lost.
const LEASE: Duration = Duration::from_millis(3_500);

/// What two peers have agreed on, as this side knows it.
#[derive(Debug, Default)]
pub(crate) struct Direct {
    theirs: Option<Offer>,
    /// What we said last, and when; `None`: we have offered nothing, or have withdrawn it.
    ours: Option<(Families, Instant)>,
    /// Where packets go; at most one of each family.
    gateways: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Offer {
    addresses: Vec<IpAddr>,
    /// In which it has proven one of our addresses.
    ready: Families,
    at: Instant,
}

impl Direct {
    /// Whether packets go past the session, so that it must be looked after as one that carries them.
    pub(crate) fn is_in_use(&self) -> bool {
        !self.gateways.is_empty()
    }
}

impl Node {
    /// Where a peer's packets go as they are; empty where they go through the session.
    #[must_use]
    pub fn direct_gateways(&self, id: PeerId) -> Vec<SocketAddr> {
        let direct = self.peer(id).and_then(|peer| peer.live.as_ref()?.direct.as_ref());
        direct.map(|direct| direct.gateways.clone()).unwrap_or_default()
    }

    pub(super) fn handle_direct_offer(&mut self, id: PeerId, ready: Families, addresses: Vec<IpAddr>, now: Instant) {
        if !self.settings.lan.direct {
            return;
        }
        if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
            live.direct.get_or_insert_default().theirs = Some(Offer { addresses, ready, at: now });
        }
        self.tend_paths(id, now);
    }

    pub(super) fn handle_direct_withdraw(&mut self, id: PeerId, now: Instant) {
        if let Some(direct) =
            self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.direct.as_mut())
        {
            direct.theirs = None;
        }
        self.tend_direct(id, now);
    }

    /// Offers, withdraws, and says where packets to a peer are to go, as things stand now.
    pub(super) fn tend_direct(&mut self, id: PeerId, now: Instant) {
        if !self.settings.lan.direct {
            return;
        }
        let near = self.near(id, now);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        if near.is_empty() && live.direct.is_none() {
            return;
        }
        let direct = live.direct.get_or_insert_default();
        direct.theirs.take_if(|offer| now - offer.at >= LEASE);
        let theirs = direct.theirs.as_ref();
        let is_offered = |address: &&SocketAddr| theirs.is_some_and(|offer| offer.addresses.contains(&address.ip()));
        let proven: Vec<SocketAddr> = near.iter().filter(is_offered).copied().collect();
        let ready = Families::of(&proven);
        let agreed = theirs.map_or(Families::default(), |offer| offer.ready.common(ready));
        let gateways = [agreed.v4, agreed.v6].into_iter().zip([false, true]).filter(|(is_agreed, _)| *is_agreed);
        let gateways: Vec<SocketAddr> =
            gateways.filter_map(|(_, v6)| proven.iter().copied().find(|address| address.is_ipv6() == v6)).collect();
        let pace = if theirs.is_some() { REPEAT } else { PATIENCE };
        let is_due = direct.ours.is_none_or(|(said, at)| said != ready || now - at >= pace);
        let is_changed = direct.gateways != gateways;
        direct.gateways = gateways;
        live.paths.watch(theirs_stands(live.direct.as_deref()), now);
        if is_changed {
            self.emit(Event::NeighbourRoutes);
        }
        if near.is_empty() {
            self.withdraw_offer(id, now);
        } else if is_due {
            self.offer(id, ready, now);
        }
    }

    /// Direct mode was switched on or off.
    pub(super) fn renew_direct(&mut self, now: Instant) {
        let live: Vec<PeerId> = self.live.iter().copied().collect();
        for id in live {
            if self.settings.lan.direct {
                self.tend_direct(id, now);
            } else {
                self.end_direct(id, now);
            }
        }
    }

    /// Ends what was agreed on with a peer.
    fn end_direct(&mut self, id: PeerId, now: Instant) {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let Some(direct) = live.direct.take() else { return };
        live.paths.watch(false, now);
        if direct.ours.is_some() {
            self.send_control(id, &Control::DirectWithdraw, now);
        }
        if direct.is_in_use() {
            self.emit(Event::NeighbourRoutes);
        }
    }

    /// Where a peer is proven to be on a LAN, the best first; nothing where it must not be reached so.
    fn near(&self, id: PeerId, now: Instant) -> Vec<SocketAddr> {
        let Some(peer) = self.peer(id).filter(|peer| peer.permission.is_ok() && peer.current().is_some()) else {
            return Vec::new();
        };
        let Some(heard) = self.neighbours.get(&id).filter(|_| !self.lan_addresses.is_empty()) else {
            return Vec::new();
        };
        let paths = peer.live.iter().flat_map(|live| live.paths.near(now));
        paths.filter(|address| heard.contains(address)).collect()
    }

    fn offer(&mut self, id: PeerId, ready: Families, now: Instant) {
        let addresses = self.lan_addresses.iter().copied().take(MAX_ADDRESSES).collect();
        if let Some(direct) =
            self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.direct.as_mut())
        {
            direct.ours = Some((ready, now));
        }
        self.send_control(id, &Control::DirectOffer { ready, addresses }, now);
    }

    /// Ends what stands, and forgets it where the other side has done so too.
    fn withdraw_offer(&mut self, id: PeerId, now: Instant) {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let had_offered = live.direct.as_mut().is_some_and(|direct| direct.ours.take().is_some());
        live.direct.take_if(|direct| direct.theirs.is_none() && direct.gateways.is_empty());
        if had_offered {
            self.send_control(id, &Control::DirectWithdraw, now);
        }
    }
}

/// Whether the peer would send packets past the session, or we would soon.
fn theirs_stands(direct: Option<&Direct>) -> bool {
    direct.is_some_and(|direct| direct.theirs.is_some())
}
