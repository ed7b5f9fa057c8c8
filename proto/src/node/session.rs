//! Sessions: putting them in place, looking after them, ending them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::hello::hello_at;
use super::{Node, Settings};
use crate::data::{PeerRow, SessionRow, Spread, seal_staged};
use crate::event::{Disconnect, Event};
use crate::id::{PeerId, SessionIndex};
use crate::packet::Offload;
use crate::path::{Balance, Locator};
use crate::peer::{Attention, Established, Live, Peer};
use crate::session::Session;
use crate::stats::{DropReason, Stamps};
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::{CONTROL_LANE, Control};

/// How often peers that something goes on with are looked after: bounds the error of every timer below.
pub(super) const SWEEP: Duration = Duration::from_millis(250);

/// One who received data and has nothing to say says so after this, so that the sender can tell silence from death.
/// WireGuard's 10 s would make dead peers look alive for longer than users accept.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(1);

/// One who sent data and heard nothing for this long begins a new handshake: the peer may have restarted.
const SUSPECT_AFTER: Duration = Duration::from_secs(2);

/// A session that carried data this recently is worth a new handshake when it is old; another may die of age.
pub(super) const IN_USE: Duration = Duration::from_secs(10);

/// Silence that a relay puts up with: longer than any that its members keep.
const LEAST_AT_RELAY: Duration = Duration::from_secs(180);

impl Settings {
    /// A session of this age is dead on both sides.
    pub(super) fn reject_after(&self) -> Duration {
        self.rekey_after * 3 / 2
    }

    /// Silence after which a session ends. A relay's members may have nothing to say to it and yet be reached through it: it waits
    /// for longer than they are silent, whatever is configured.
    pub(super) fn idle_limit(&self) -> Duration {
        if self.relay.is_some() { self.idle_after.max(LEAST_AT_RELAY) } else { self.idle_after }
    }

    /// The responder waits longer than the initiator, by more than a sweep and a round trip, so that one of them rekeys.
    pub(super) fn rekey_due(&self, is_initiator: bool) -> Duration {
        if is_initiator { self.rekey_after } else { self.rekey_after * 11 / 10 + SWEEP * 2 }
    }
}

/// What a look at a live peer asks for.
#[derive(Default)]
struct Care {
    idle: bool,
    expired: bool,
    dial: bool,
    keepalive: bool,
    hello: bool,
}

impl Node {
    /// A session that we answered, which waits to be used.
    pub(super) fn install_next(&mut self, id: PeerId, session: Arc<Session>, now: Instant) {
        let established = Established { control: session.claim(CONTROL_LANE), session, at: now, is_initiator: false };
        self.publish_session(id, &established.session);
        let Some(live) = self.live_mut(id, now) else { return };
        let old = live.next.replace(established);
        self.forget_session(old);
        self.publish_row(id);
    }

    /// A session to send on from now on.
    pub(super) fn install_current(
        &mut self,
        id: PeerId,
        session: Arc<Session>,
        remote: Locator,
        is_initiator: bool,
        now: Instant,
    ) {
        let established = Established { control: session.claim(CONTROL_LANE), session, at: now, is_initiator };
        self.publish_session(id, &established.session);
        self.promote(id, established, remote, now);
    }

    /// The first datagram of a session that we answered came in.
    pub(super) fn handle_confirmed(&mut self, index: SessionIndex, source: Locator, now: Instant) {
        let Some(row) = self.table.session(index) else { return };
        let id = row.session.peer;
        if !row.session.confirm() {
            return;
        }
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let Some(next) = live.next.take_if(|next| next.session.local == index) else { return };
        if self.is_crossed(id, &next) {
            // The peer sends on ours from its next datagram on; until then this one is for receiving only.
            let live = self.peer_mut(id).and_then(|peer| peer.live.as_mut());
            let old = live.and_then(|live| live.previous.replace(next));
            self.forget_session(old);
            return self.publish_row(id);
        }
        // A handshake of our own that is still under way is moot now.
        self.drop_attempt(id);
        self.promote(id, next, source, now);
    }

    /// Whether a session that the peer began has crossed one of ours, and ours is to be kept: both sides began at once, and
    /// would else swap sessions and go on beginning at once for ever. The smaller public key wins.
    ///
    /// They have crossed if ours came up after we had answered theirs. A peer that has restarted did not answer ours.
    fn is_crossed(&self, id: PeerId, theirs: &Established) -> bool {
        let wins = |peer: &Peer| self.settings.identity.public < peer.key;
        let ours = self.peer(id).filter(|peer| wins(peer)).and_then(Peer::current);
        ours.is_some_and(|ours| ours.is_initiator && ours.at >= theirs.at)
    }

    fn promote(&mut self, id: PeerId, established: Established, source: Locator, now: Instant) {
        let Some(live) = self.live_mut(id, now) else { return };
        live.unanswered = None;
        (live.vigil, live.missed) = (None, None);
        // A new session does not move the data from a path that works: handshakes take whatever way is open.
        let remote = live.paths.sound(now).unwrap_or(source);
        let before = live.current.replace(established);
        let rekeyed = before.is_some();
        let old = std::mem::replace(&mut live.previous, before);
        self.forget_session(old);
        let Some(peer) = self.peer_mut(id) else { return };
        let has_moved = peer.remote.replace(remote) != Some(remote);
        peer.last_handshake = Some(now);
        peer.unreachable_since = None;
        peer.given_up = None;
        peer.refusal = None;
        peer.rekeys = peer.rekeys.saturating_add(rekeyed.into());
        peer.activity().handshakes.completed.fetch_add(1, Ordering::Relaxed);
        self.publish_row(id);
        if has_moved {
            self.move_channels(id);
            self.hold_relay(remote, now);
        }
        self.emit(if rekeyed { Event::Rekeyed { peer: id } } else { Event::Connected { peer: id, remote } });
        self.flush(id, now);
        self.open_paths(id, remote, now);
    }

    /// Sends what waited for the session; where nothing did, a hello to who is kept in touch with, or a keepalive: either tells a
    /// responder that we hold the keys.
    fn flush(&mut self, id: PeerId, now: Instant) {
        let mut sent = self.send_waiting_probes(id, now);
        sent |= self.send_waiting_questions(id, now);
        while let Some(staged) = self.peer_mut(id).and_then(|p| p.live.as_mut()).and_then(|l| l.staging.pop()) {
            self.send_staged(id, &staged.packet, staged.offload, now);
            sent = true;
        }
        match (sent, self.peer(id).is_some_and(|peer| peer.is_kept)) {
            (true, _) => {}
            (false, true) => self.greet(id, now),
            (false, false) => self.send_control(id, &Control::Keepalive, now),
        }
    }

    /// Sends a packet that waited, on the core's own lane.
    pub(super) fn send_staged(&mut self, id: PeerId, packet: &[u8], offload: Offload, now: Instant) {
        let Some(row) = self.table.peer(id).cloned() else { return };
        self.watch(id, now);
        let current = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.current.as_mut());
        let Some(lane) = current.and_then(|current| current.control.as_mut()) else { return };
        let sealed = seal_staged(packet, offload, &row, lane);
        let is_lost = sealed.datagrams.is_empty();
        if is_lost && !sealed.is_too_long {
            self.drops.add(DropReason::MalformedPacket, 1);
        }
        row.activity.sent(sealed.datagrams.len() as u64, packet.len() as u64, now);
        for (datagram, fragments) in sealed.datagrams {
            self.transmit_as(row.remote, datagram, fragments);
        }
        if sealed.is_too_long {
            self.drops.add(DropReason::TooLong, u64::from(is_lost));
            self.answer_too_long(packet, row.fit, now);
        }
    }

    /// A lane has sealed almost as much as it may.
    pub(super) fn handle_worn(&mut self, id: PeerId, now: Instant) {
        self.dial(id, now);
    }

    pub(super) fn schedule_sweep(&mut self, now: Instant) {
        if self.sweep_at.is_none() {
            // On a grid, so that all sweeps and many retries share wake-ups.
            let at = (now + Duration::from_nanos(1)).round_up(SWEEP);
            self.sweep_at = Some(at);
            self.timers.set(at, Timer::Sweep);
        }
    }

    /// Looks after every watched peer. Runs while there is one, and not at all otherwise.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.sweep_at = None;
        let watched: Vec<PeerId> = self.watched.iter().copied().collect();
        for id in watched {
            self.sweep_peer(id, now);
        }
        self.repeat_reach(now);
        self.tend_owners(now);
        self.expire_questions(now);
        if !self.watched.is_empty() || self.owners.has_to_repeat() || self.questions.are_waiting() {
            self.schedule_sweep(now);
        }
    }

    pub(super) fn sweep_peer(&mut self, id: PeerId, now: Instant) {
        self.drop_old_sessions(id, now);
        self.expire_staged(id, now);
        self.expire_probes(id, now);
        let care = self.diagnose(id, now);
        self.tend_paths(id, now);
        self.punch_again(id, now);
        if care.idle || care.expired {
            let reason = if care.idle { Disconnect::Idle } else { Disconnect::Expired };
            self.disconnect(id, reason, now);
        }
        if care.dial || (care.expired && self.peer(id).is_some_and(|peer| peer.is_kept)) {
            self.dial(id, now);
        }
        if care.keepalive {
            self.send_control(id, &Control::Keepalive, now);
        }
        if care.hello {
            self.tend_hello(id, now);
        }
        self.release_if_over(id, now);
        self.rest(id, now);
    }

    /// Decides what a live peer needs, from its session's age and the stamps that the workers left.
    fn diagnose(&mut self, id: PeerId, now: Instant) -> Care {
        let (rekey, reject, idle_after) = (
            (self.settings.rekey_due(true), self.settings.rekey_due(false)),
            self.settings.reject_after(),
            self.settings.idle_limit(),
        );
        let has_carriers = self.has_carriers;
        let silence = self.silence(id, now).hello;
        let Some(peer) = self.peers.get_mut(id.index()).and_then(Option::as_mut) else { return Care::default() };
        let stamps = peer.activity().stamps();
        let is_kept = peer.is_kept;
        // Without data, and to be there when data comes.
        let is_spare = self.owners.is_asked(id, now);
        let Some(live) = &mut peer.live else { return Care::default() };
        live.paths.note(stamps, now);
        if has_carriers {
            live.paths.note_pause(stamps, now);
        }
        let Some(current) = &live.current else {
            return Care { dial: is_kept && live.attempt.is_none(), ..Care::default() };
        };
        let age = now - current.at;
        let is_passed_by = live.direct.as_ref().is_some_and(|direct| direct.is_in_use());
        let data = stamps.rx_data.max(stamps.tx_data);
        let in_use = is_passed_by || since(now, data) < IN_USE;
        let is_idle = !is_passed_by && since(now, data.max(stamps.rx_any)).min(age) >= idle_after;
        let is_old = age >= if current.is_initiator { rekey.0 } else { rekey.1 };
        let is_silent = now >= hello_at(live, stamps, silence);
        let owes = owes_answer(live, stamps, now);
        let answer_due = stamps.rx_data > stamps.tx_any && since(now, stamps.tx_any) >= KEEPALIVE_AFTER;
        let is_held = (is_idle || is_old || is_silent) && self.is_held(id);
        Care {
            idle: is_idle && !is_held && !is_spare,
            expired: age >= reject,
            dial: owes || (is_old && (in_use || is_held || is_spare)),
            keepalive: answer_due,
            hello: is_silent && is_held,
        }
    }

    fn drop_old_sessions(&mut self, id: PeerId, now: Instant) {
        let reject = self.settings.reject_after();
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let previous = live.previous.take_if(|old| now - old.at >= reject);
        // The initiator may use it as long: it cannot know whether what would have confirmed it was lost.
        let next = live.next.take_if(|unused| now - unused.at >= reject);
        let had_next = next.is_some();
        self.forget_session(previous);
        self.forget_session(next);
        if had_next {
            self.publish_row(id);
        }
    }

    /// Ends everything with a peer here, without a word to it.
    pub(super) fn tear_down(&mut self, id: PeerId, now: Instant) {
        self.drop_attempt(id);
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.take()) else { return };
        live.paths_at.into_iter().for_each(|at| self.timers.cancel(at, Timer::Paths(id)));
        live.owed.into_iter().for_each(|(at, ..)| self.timers.cancel(at, Timer::Echo(id)));
        if let Attention::Resting { until } = live.attention {
            self.timers.cancel(until, Timer::Care(id));
        }
        self.peer(id).and_then(|peer| peer.activity.as_ref()).into_iter().for_each(|activity| activity.watch());
        self.watched.remove(&id);
        self.live.remove(&id);
        self.close_channels(id, now);
        if live.direct.as_ref().is_some_and(|direct| direct.is_in_use()) {
            self.emit(Event::NeighbourRoutes);
        }
        let Live { current, previous, next, .. } = *live;
        for session in [current, previous, next] {
            self.forget_session(session);
        }
        self.table.set_peer(id, None);
        self.is_table_dirty = true;
    }

    pub(super) fn release_if_over(&mut self, id: PeerId, now: Instant) {
        let over = self.peer(id).and_then(|peer| peer.live.as_ref()).is_some_and(|live| live.is_over());
        if over {
            self.tear_down(id, now);
        }
    }

    /// Tells the workers how to send to a peer, from what is known of it now.
    pub(super) fn publish_row(&mut self, id: PeerId) {
        let next = self.peer(id).and_then(|peer| peer.live.as_ref()?.next.as_ref());
        let next = next.filter(|next| !self.is_crossed(id, next)).map(|next| Arc::clone(&next.session));
        let fit = self.fit(id);
        let spread = self.spread(id);
        let Some(peer) = self.peer_mut(id) else { return };
        let activity = peer.activity();
        if let Some(remote) = peer.remote {
            activity.turn(remote.channel.is_some());
        }
        let row = peer.current().zip(peer.remote).map(|(current, remote)| PeerRow {
            session: Arc::clone(&current.session),
            next,
            remote,
            spread,
            fit,
            activity,
        });
        self.table.set_peer(id, row);
        self.is_table_dirty = true;
    }

    fn spread(&self, id: PeerId) -> Option<Arc<Spread>> {
        let Balance::Flow { workers } = self.settings.balance else { return None };
        let members = self.peer(id)?.live.as_ref()?.paths.members();
        Spread::new(members, workers).map(Arc::new)
    }

    fn publish_session(&mut self, id: PeerId, session: &Arc<Session>) {
        let Some(activity) = self.peer_mut(id).map(Peer::activity) else { return };
        self.table.insert_session(SessionRow { session: Arc::clone(session), activity });
        self.is_table_dirty = true;
    }

    fn forget_session(&mut self, established: Option<Established>) {
        if let Some(established) = established {
            self.table.remove_session(established.session.local);
            self.is_table_dirty = true;
        }
    }
}

/// Whether the peer has owed us a sign of life for too long: we sent data, and have heard nothing since.
fn owes_answer(live: &mut Live, stamps: Stamps, now: Instant) -> bool {
    // A stream in one direction is always ahead of its answers; each of them makes the wait begin anew.
    let still = live.unanswered.filter(|since| since.as_millis() >= stamps.rx_any);
    live.unanswered = (stamps.tx_data > stamps.rx_any).then(|| still.unwrap_or(now));
    live.unanswered.is_some_and(|since| now - since >= SUSPECT_AFTER)
}

/// Time since a stamp in milliseconds.
pub(super) fn since(now: Instant, stamp: u64) -> Duration {
    Duration::from_millis(now.as_millis().saturating_sub(stamp))
}
