//! Settings that change while the node runs: what follows from each, at once.

use super::spread::Errand;
use super::{Node, Settings};
use crate::event::Disconnect;
use crate::id::PeerId;
use crate::time::Instant;

impl Node {
    /// Takes other settings. Name, identity, offer, port, MTU and balance stay what they were, for sessions, workers and devices
    /// are made for them; all else counts from now on, for sessions that are up as well.
    pub fn handle_settings(&mut self, settings: Settings, now: Instant) {
        let before = std::mem::replace(&mut self.settings, settings);
        let Settings { relay, punch, spray, lan, .. } = before;
        self.settings.name = before.name;
        self.settings.identity = before.identity;
        self.settings.offer = before.offer;
        (self.settings.port, self.settings.mtu, self.settings.balance) = (before.port, before.mtu, before.balance);
        if relay != self.settings.relay {
            self.renew_rates(now);
            self.end_relayed(now);
        }
        if !(self.settings.punch && self.settings.spray) && punch && spray {
            self.break_spray(|_| true);
        }
        if self.settings.punch && !punch {
            self.send_round(Errand::Tell, now);
        }
        if lan.implicit_community != self.settings.lan.implicit_community {
            let near: Vec<PeerId> = self.neighbours.keys().copied().collect();
            near.into_iter().for_each(|id| self.review_permission(id, now));
        }
        if lan.direct != self.settings.lan.direct {
            self.renew_direct(now);
        }
        self.keep_in_touch_anew(now);
    }

    /// Sessions that stood for relaying only end where neither side relays any more.
    fn end_relayed(&mut self, now: Instant) {
        let is_over = |id: &PeerId| !self.may_relay(*id) && self.peer(*id).is_some_and(|peer| peer.permission.is_err());
        let over: Vec<PeerId> = self.live.iter().copied().filter(is_over).collect();
        over.into_iter().for_each(|id| self.disconnect(id, Disconnect::Removed, now));
    }
}
