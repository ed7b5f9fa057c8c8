//! Hellos: keeping the way open to a node that nobody can dial, with as few datagrams as its NAT allows.
//!
//! A hello asks for an answer that comes late, after a silence. That it comes shows that the way was open until then, and that the
//! other side still has the session; that it does not is looked into at once.

use std::time::Duration;

use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::id::PeerId;
use crate::nat::{Lifetime, Silence};
use crate::path::Locator;
use crate::peer::{Attempt, Live, Peer, Vigil};
use crate::stats::Stamps;
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::Control;

/// How often a node says hello to a relay that it does not have to keep, while something of its goes through it.
const FOR_A_RELAY: Duration = Duration::from_secs(25);

/// How late an answer may be: a round trip on a bad link, and a look at the peer. Less than what hellos wait for after it.
const GRACE: Duration = Duration::from_secs(1);

/// The time over which nodes come back to a relay that said goodbye: so much for each member of the mesh, for a relay answers 200
/// initiations a second before it asks for cookies; and what a restart takes anyway at least. Whoever has something to send does not wait.
const RETURN_PER_MEMBER: Duration = Duration::from_millis(5);
const RETURN_WITHIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// Longest that an answer may be asked to wait; who asks for more gets it then.
const MAX_AFTER: Duration = Duration::from_secs(300);

impl Node {
    /// Whether a session is kept though nothing of ours goes through it: a home relay's, our connector's, or one of a relay that
    /// another session goes through.
    pub(super) fn is_held(&self, id: PeerId) -> bool {
        self.peer(id).is_some_and(|peer| peer.is_kept || (peer.is_relay && self.goes_through(id)))
    }

    fn goes_through(&self, relay: PeerId) -> bool {
        let Some(address) = self.relay_address(relay) else { return false };
        let is_there = |remote: Locator| remote.channel.is_some() && remote.address == address;
        let mut others = self.live.iter().filter_map(|id| self.peer(*id));
        others.any(|peer| peer.current().is_some() && peer.remote.is_some_and(is_there))
    }

    /// A session goes over `remote` from now on: the relay there, if there is one, is kept.
    pub(super) fn hold_relay(&mut self, remote: Locator, now: Instant) {
        let is_it = |id: &&PeerId| remote.channel.is_some() && self.relay_address(**id) == Some(remote.address);
        if let Some(relay) = self.relays.iter().find(is_it).copied() {
            self.watch(relay, now);
        }
    }

    /// How long to be silent towards a peer from now on. A way that a session goes through is not put at risk by trying.
    pub(super) fn silence(&self, id: PeerId, now: Instant) -> Silence {
        let most = self.most_silence();
        let may_try = self.peer(id).is_some_and(|peer| peer.is_kept) && !self.goes_through(id);
        if may_try { self.lifetime.silence(most, now) } else { self.lifetime.safe(most) }
    }

    fn most_silence(&self) -> Duration {
        self.settings.keepalive.unwrap_or(FOR_A_RELAY)
    }

    /// A hello is due, or an answer is missing.
    pub(super) fn tend_hello(&mut self, id: PeerId, now: Instant) {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        match live.vigil.take() {
            Some(vigil) => self.miss(id, &vigil, now),
            // All at once: a silence is one only if nobody is sent anything.
            None if self.peer(id).is_some_and(|peer| peer.is_kept) => {
                let kept: Vec<PeerId> = self.kept.clone();
                kept.into_iter().for_each(|id| self.greet(id, now));
            }
            None => self.greet(id, now),
        }
    }

    /// Says hello, and asks for an answer at the end of the silence that follows.
    pub(super) fn greet(&mut self, id: PeerId, now: Instant) {
        let (token, after) = (self.rng.next_u64(), self.silence(id, now).answer);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        if live.current.is_none() {
            return;
        }
        live.vigil = Some(Vigil { token, asked: now, after });
        self.send_control(id, &Control::Echo { token, after }, now);
        // The late answer would tell late that UDP is blocked now, and nobody would find us meanwhile.
        self.question_relay(id, now);
        // Its timer is that of the silence before.
        self.watch(id, now);
    }

    /// An answer did not come. Whether it was lost, the way is closed or the peer is gone shows by probing.
    fn miss(&mut self, id: PeerId, vigil: &Vigil, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        let stamps = peer.activity().stamps();
        let Some(live) = &mut peer.live else { return };
        let due = vigil.asked + vigil.after;
        if stamps.rx_any >= due.as_millis() {
            // The way was open when the answer should have come, so that was lost.
            return self.greet(id, now);
        }
        live.missed = Some(vigil.after);
        live.paths.question(now);
        self.tend_paths(id, now);
        self.greet(id, now);
    }

    /// The late answer, if `token` is that of one; the silence before it was long enough for what the NAT is tried for, or not.
    pub(super) fn handle_echo_reply(&mut self, id: PeerId, token: u64, now: Instant) -> bool {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return false };
        if live.vigil.take_if(|vigil| vigil.token == token).is_none() {
            return false;
        }
        let quiet = now - self.last_sent();
        let most = self.most_silence();
        self.lifetime.lived(quiet, most, now);
        true
    }

    /// A probe was answered after a late answer had been missed: the peer is there, so the way had closed.
    pub(super) fn note_return(&mut self, id: PeerId, now: Instant) {
        let missed = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.missed.take());
        if let Some(after) = missed {
            self.lifetime.lost(after, now);
        }
    }

    /// When anything was sent to anybody, by the core or a worker.
    fn last_sent(&self) -> Instant {
        let stamps = self.live.iter().filter_map(|id| self.peer(*id)?.activity.as_ref());
        let last = stamps.map(|activity| activity.stamps().tx_any).max().unwrap_or_default();
        Instant::from_millis(last).max(self.shook_at)
    }

    /// A peer that is to be kept in touch with has said goodbye, and perhaps to everybody: dials it in a while, at random.
    pub(super) fn return_to(&mut self, id: PeerId, now: Instant) {
        let is_wanted = |peer: &Peer| peer.is_kept && peer.live.is_none() && peer.has_place();
        if !self.peer(id).is_some_and(is_wanted) {
            return;
        }
        let members = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let [least, most] = RETURN_WITHIN;
        let within = RETURN_PER_MEMBER.saturating_mul(members).clamp(least, most);
        let next_at = now + within * (self.rng.next_u32() % 1024) / 1024;
        let Some(live) = self.live_mut(id, now) else { return };
        live.attempt = Some(Attempt::waiting(now, next_at));
        self.timers.set(next_at, Timer::Retry(id));
    }

    /// The machine is in another network: what was learnt is of no use there.
    pub(super) fn forget_lifetime(&mut self) {
        self.lifetime = Lifetime::default();
    }

    /// A peer wants an answer later; a newer wish replaces the one before.
    pub(super) fn handle_echo(&mut self, id: PeerId, token: u64, after: Duration, source: Locator, now: Instant) {
        let at = now + after.min(MAX_AFTER);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let before = live.owed.replace((at, token, source));
        before.into_iter().for_each(|(at, ..)| self.timers.cancel(at, Timer::Echo(id)));
        self.timers.set(at, Timer::Echo(id));
    }

    /// It is time for the answer that a peer wanted.
    pub(super) fn handle_echo_due(&mut self, id: PeerId, now: Instant) {
        let owed = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.owed.take());
        if let Some((_, token, source)) = owed {
            let observed = source.channel.is_none().then_some(source.address);
            self.send_control_to(id, &Control::ProbeReply { token, observed }, source, now);
        }
    }
}

/// When a peer that is held is to be greeted, or its late answer missed.
pub(super) fn hello_at(live: &Live, stamps: Stamps, silence: Duration) -> Instant {
    match &live.vigil {
        Some(vigil) => vigil.asked + vigil.after + GRACE,
        None => Instant::from_millis(stamps.tx_any) + silence,
    }
}
