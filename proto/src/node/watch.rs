//! Which peers are looked after every quarter of a second, and which are left alone until something is due.
//!
//! Workers carry data without a word to the core, which reads their stamps. It does so for peers that something goes on with;
//! of the others it wants to be told, once, when data passes again ([`Punt::Stirred`](crate::data::Punt::Stirred)). So thousands of
//! sessions that are only kept cost a timer each, and a daemon that has nothing else asks for no wake-up in between.

use super::Node;
use super::hello::hello_at;
use super::session::{IN_USE, SWEEP, since};
use crate::id::PeerId;
use crate::peer::Attention;
use crate::time::Instant;
use crate::timer::Timer;

impl Node {
    /// Looks after a peer from now on, until nothing goes on with it for a while.
    pub(super) fn watch(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        let Some(live) = &mut peer.live else { return };
        let before = std::mem::take(&mut live.attention);
        if let Some(activity) = peer.activity.as_ref().filter(|_| before != Attention::Watched) {
            activity.watch();
        }
        if let Attention::Resting { until } = before {
            self.timers.cancel(until, Timer::Care(id));
        }
        self.watched.insert(id);
        self.schedule_sweep(now);
    }

    /// Something is due at a peer that was left alone.
    pub(super) fn handle_care_due(&mut self, id: PeerId, now: Instant) {
        self.watch(id, now);
        self.sweep_peer(id, now);
    }

    /// After a look at a peer: leaves it alone if nothing goes on with it.
    ///
    /// Workers are asked to tell of data first, and the peer is left alone only if the next look finds nothing either: a worker
    /// that was about to write its stamps has done so by then.
    pub(super) fn rest(&mut self, id: PeerId, now: Instant) {
        let until = self.care_due(id, now).map(|due| due.round_up(SWEEP)).filter(|until| *until > now);
        let Some(peer) = self.peers.get_mut(id.index()).and_then(Option::as_mut) else { return };
        let Some(live) = &mut peer.live else { return };
        match (until, live.attention) {
            (None, Attention::Watched) | (Some(_), Attention::Resting { .. }) => {}
            (None, _) => self.watch(id, now),
            (Some(_), Attention::Watched) => {
                peer.activity.iter().for_each(|activity| activity.rest());
                live.attention = Attention::Drowsy;
            }
            (Some(until), Attention::Drowsy) => {
                live.attention = Attention::Resting { until };
                self.watched.remove(&id);
                self.timers.set(until, Timer::Care(id));
            }
        }
    }

    /// When a peer has to be looked at next if no data passes until then; `None`: something goes on with it.
    fn care_due(&self, id: PeerId, now: Instant) -> Option<Instant> {
        let live = self.peer(id)?.live.as_ref()?;
        let current = live.current.as_ref()?;
        let is_busy = live.attempt.is_some()
            || live.next.is_some()
            || live.unanswered.is_some()
            || !live.staging.is_empty()
            || self.owners.is_asked(id, now)
            || live.direct.as_ref().is_some_and(|direct| direct.is_in_use())
            || !live.probes.is_empty();
        let stamps = self.peer(id)?.activity.as_ref().map(|activity| activity.stamps()).unwrap_or_default();
        let data = stamps.rx_data.max(stamps.tx_data);
        if is_busy || (data > 0 && since(now, data) < IN_USE) {
            return None;
        }
        let reject = self.settings.reject_after();
        let expiry = live.previous.iter().chain([current]).map(|session| session.at + reject).min()?;
        let other = if self.is_held(id) {
            let rekey = current.at + self.settings.rekey_due(current.is_initiator);
            rekey.min(hello_at(live, stamps, self.silence(id, now).hello))
        } else {
            let heard = Instant::from_millis(data.max(stamps.rx_any));
            heard.max(current.at) + self.settings.idle_limit()
        };
        Some(expiry.min(other))
    }
}
