//! Opening a way through a NAT that gives every destination another port, where its next ports can be told.
//!
//! Both sides learn by the relay when to begin: who is behind a counting NAT tells which ports it will give out next, and the
//! other probes those at once, while the first probes the other's address. What comes through is a datagram from a new place,
//! and becomes a path as any such does; ports that were only guessed become no candidates.

use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::address::is_of_use_to_others;
use crate::id::PeerId;
use crate::nat::{Forecast, NatClass};
use crate::path::{Locator, VOLLEY};
use crate::peer::Peer;
use crate::time::Instant;
use crate::wire::Control;

impl Node {
    /// What the NAT before this node does; `None` before three members at different addresses have seen it, and again after
    /// the machine's addresses changed.
    #[must_use]
    pub const fn nat_class(&self) -> Option<NatClass> {
        self.sightings.class()
    }

    /// Tells a peer that is reached by a relay which mappings our NAT makes next, if that can be told.
    pub(super) fn tell_forecast(&mut self, id: PeerId, now: Instant) {
        let Some(forecast) = self.sightings.forecast().filter(|_| self.settings.punch) else { return };
        if !self.is_relayed(id) {
            return;
        }
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        if live.punching.told.take(now) {
            self.send_control(id, &Control::NextMappings { forecast }, now);
        }
    }

    /// A peer tells which mappings its NAT makes next.
    pub(super) fn handle_forecast(&mut self, id: PeerId, forecast: Forecast, now: Instant) {
        if !self.settings.punch || !self.is_relayed(id) || !is_of_use_to_others(forecast.first.ip()) {
            return;
        }
        // Our own is told before our probes use it up, and the peer's volley meets them.
        self.tell_forecast(id, now);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        if !live.punching.fired.take(now) {
            return;
        }
        for address in forecast.addresses(self.stride(id)).take(VOLLEY) {
            // It may be a victim's, and every new session counts its rounds anew.
            if !self.peer_mut(id).is_some_and(|peer| peer.allowance.take_place(now)) {
                return;
            }
            // The answer's source is the news, not its token.
            let token = self.rng.next_u64();
            self.send_control_to(id, &Control::Probe { token }, Locator::from(address), now);
        }
    }

    /// Begins another round with a peer that the last one did not meet.
    pub(super) fn punch_again(&mut self, id: PeerId, now: Instant) {
        let live = self.peer(id).and_then(|peer| peer.live.as_ref());
        if live.is_some_and(|live| live.punching.told.is_due(now) && live.paths.sound(now).is_some()) {
            self.tell_forecast(id, now);
        }
    }

    /// Between two counting NATs both sides guess, and each probe of one side moves its own ports on. If other hosts use the
    /// counters, so that one is `a` ports further than was told and the other `b`, then probe `j` of a side that takes every
    /// second port meets probe `j + b` of a side that takes every one where `j = a + b`; with equal strides they would pass
    /// each other unless `a + b` is 0.
    fn stride(&self, id: PeerId) -> u16 {
        let is_counted = matches!(self.sightings.class(), Some(NatClass::Sequential(_)));
        let is_greater = self.peer(id).is_some_and(|peer| self.settings.identity.public > peer.key);
        if is_counted && is_greater { 2 } else { 1 }
    }

    pub(super) fn is_relayed(&self, id: PeerId) -> bool {
        let peer = self.peer(id).filter(|peer| peer.current().is_some());
        peer.and_then(|peer: &Peer| peer.remote).is_some_and(|remote| remote.channel.is_some())
    }
}
