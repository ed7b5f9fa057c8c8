//! Handshakes: beginning them, repeating them, answering them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::event::{Event, Refusal};
use crate::handshake::{HandshakeError, Initiated, Mac1, Received, Verdict};
use crate::id::{PeerId, SessionIndex};
use crate::packet::Offload;
use crate::packet::icmp::Unreachable;
use crate::path::{Locator, Origin};
use crate::peer::{Attempt, Refused};
use crate::session::Session;
use crate::staging::MAX_WAIT;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::timer::Timer;
use crate::wire::{CookieReply, Initiation, Response};

/// Wait for a response before the next initiation, by number of tries, before jitter. Lost first packets are common on
/// radio links, so the first repeat comes early; WireGuard waits 5 s each time.
const RETRY: [Duration; 4] =
    [Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Wait from the fifth try on.
const RETRY_LATER: Duration = Duration::from_secs(5);

/// Tries after which a peer is called unreachable: about 3.5 s.
const UNREACHABLE_AFTER: usize = 3;

/// Places that one initiation is sent to.
const MAX_PLACES: usize = 8;

/// How long an unanswered handshake goes on while nobody sends anything new (WireGuard §6.4).
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);

/// Least time between two initiations of one peer that are worked on (WireGuard §5.1: 50 per second).
const MIN_INTERVAL: Duration = Duration::from_millis(20);

/// How long a cookie that we were given is used (its maker's secret lives 120 s).
const COOKIE_USE: Duration = Duration::from_secs(120);

/// How long the same refusal is not said again.
pub(super) const SAY_AGAIN: Duration = Duration::from_secs(60);

impl Node {
    /// Keeps a packet until there is a session, and begins the handshake.
    pub(super) fn stage(&mut self, id: PeerId, packet: Box<[u8]>, offload: Offload, now: Instant) {
        let Some(peer) = self.peer(id) else { return };
        if peer.current().is_some() {
            // The session came up while the packet was on its way here.
            return self.send_staged(id, &packet, offload, now);
        }
        if self.is_hopeless(id) {
            self.drops.add(DropReason::Unreachable, 1);
            self.note_unreachable(id, now);
            return self.answer_unreachable(&packet, Unreachable::HostUnreachable, now);
        }
        let Some(live) = self.live_mut(id, now) else { return };
        let dropped = live.staging.push(packet, offload, now);
        self.drops.add(DropReason::StagingFull, dropped);
        self.dial(id, now);
    }

    /// Begins a handshake, unless one is under way.
    pub(super) fn dial(&mut self, id: PeerId, now: Instant) {
        if self.peer(id).is_none_or(|peer| peer.permission.is_err()) && !self.may_relay(id) {
            return;
        }
        let Some(live) = self.live_mut(id, now) else { return };
        match &live.attempt {
            // It waits for its time, and now it is wanted.
            Some(attempt) if attempt.tries == 0 => self.cancel_retry(id),
            Some(_) => return,
            None => {}
        }
        let Some(live) = self.live_mut(id, now) else { return };
        live.attempt = Some(Attempt::waiting(now, now));
        self.initiate(id, now);
        self.schedule_carry(id, now);
        // Whoever has an address of its own may well answer there.
        if self.peer(id).is_some_and(|peer| !peer.is_relay && peer.candidates().next().is_none()) {
            self.seek_relays(id, now);
        }
    }

    /// Sends the next initiation of a handshake that is under way now, not when its time would come.
    pub(super) fn repeat(&mut self, id: PeerId, now: Instant) {
        self.cancel_retry(id);
        self.initiate(id, now);
    }

    /// The retry timer of a peer: sends the next initiation, or gives up.
    pub(super) fn retry(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer(id) else { return };
        let Some(attempt) = peer.live.as_ref().and_then(|live| live.attempt.as_ref()) else { return };
        let (tries, since, is_kept) = (attempt.tries as usize, attempt.since, peer.is_kept);
        if tries >= UNREACHABLE_AFTER {
            self.note_unreachable(id, now);
        }
        self.expire_staged(id, now);
        let wanted = self.peer(id).and_then(|peer| peer.live.as_ref()).is_some_and(|live| !live.staging.is_empty());
        // Nobody waits any more, or it has been too long: the next packet begins anew. One that is kept in touch with never
        // stops.
        if !is_kept && (now - since >= GIVE_UP_AFTER || (!wanted && now - since >= MAX_WAIT * 2)) {
            self.note_given_up(id, now);
            self.drop_attempt(id);
            return self.release_if_over(id, now);
        }
        self.seek_relays(id, now);
        if self.carried_place(id).is_none() {
            self.carry(id, now);
        }
        self.initiate(id, now);
    }

    fn initiate(&mut self, id: PeerId, now: Instant) {
        let index = self.fresh_index();
        let seed = self.seed();
        let timestamp = self.next_timestamp(now);
        let jitter = self.rng.next_u32();
        let places = self.places(id, now);
        let Some(peer) = self.peers.get_mut(id.index()).and_then(Option::as_mut) else { return };
        let Some(live) = &mut peer.live else { return };
        let cookie = live.cookie.as_ref().filter(|(_, since)| now - *since < COOKIE_USE).map(|(cookie, _)| cookie);
        let Some(attempt) = &mut live.attempt else { return };
        self.pending.remove(&attempt.index);
        self.table.remove_session(attempt.index);
        attempt.next_at = now + wait(attempt.tries, jitter);
        self.timers.set(attempt.next_at, Timer::Retry(id));
        let offer = self.settings.offer;
        let Ok((state, mut message)) =
            Initiated::start(&self.settings.identity, &peer.key, index, timestamp, offer, seed)
        else {
            return;
        };
        let mac1 = Mac1::new(&peer.key).append(&mut message, cookie);
        attempt.tries += 1;
        (attempt.state, attempt.index, attempt.mac1) = (Some(state), index, mac1);
        attempt.message.clone_from(&message);
        self.pending.insert(index, id);
        // Workers let no cookie reply pass whose index they do not know.
        self.table.reserve(index);
        self.is_table_dirty = true;
        self.shook_at = now;
        let is_allowed = |place: &Locator| !live.paths.is_told(*place) || peer.allowance.take_place(now);
        let places: Vec<Locator> = places.into_iter().filter(is_allowed).collect();
        for place in places {
            self.transmit(place, message.clone());
        }
    }

    /// Where the next initiation goes: everywhere at once, for the first that comes through decides; but a rekey begins with
    /// the path in use, and none begins with TLS where it was not what worked last. Of more places than one try takes, each try has its share.
    fn places(&self, id: PeerId, now: Instant) -> Vec<Locator> {
        let Some(live) = self.peer(id).and_then(|peer| peer.live.as_ref()) else { return Vec::new() };
        let tries = live.attempt.as_ref().map_or(0, |attempt| attempt.tries as usize);
        let in_use = live.current.as_ref().and_then(|_| live.paths.sound(now));
        if let Some(active) = in_use.filter(|_| tries == 0) {
            return vec![active];
        }
        let last = self.peer(id).and_then(|peer| peer.remote);
        let mut all = self.dialable(id);
        all.retain(|(_, place)| tries > 0 || !place.is_carried() || last == Some(*place));
        let carried = self.carried_place(id).filter(|place| tries > 0 && !all.iter().any(|(_, known)| known == place));
        all.extend(carried.map(|place| (Origin::Tls, place)));
        let skipped = if all.len() > MAX_PLACES { tries * MAX_PLACES % all.len() } else { 0 };
        let turned = all.iter().skip(skipped).chain(all.iter().take(skipped));
        turned.take(MAX_PLACES).map(|(_, locator)| *locator).collect()
    }

    /// Strictly increasing, and wall time where the clock allows.
    fn next_timestamp(&mut self, now: Instant) -> u64 {
        let wall = self.clock.unix_at_origin.saturating_add(now.as_nanos());
        self.last_timestamp = wall.max(self.last_timestamp.saturating_add(1));
        self.last_timestamp
    }

    pub(super) fn handle_initiation(
        &mut self,
        datagram: &[u8],
        source: Locator,
        now: Instant,
    ) -> Result<(), DropReason> {
        let initiation = Initiation::parse(datagram).map_err(|_| DropReason::MalformedDatagram)?;
        if !self.mac1.verify(datagram) {
            return Err(DropReason::BadMac);
        }
        let Self { cookies, rng, limiter, .. } = self;
        cookies.refresh(now, || super::draw(rng));
        match limiter.check(source.address, now, || cookies.verify(datagram, source.address)) {
            Verdict::Accept => {}
            Verdict::DemandCookie => return self.demand_cookie(datagram, source),
            Verdict::Refuse => return Err(DropReason::HandshakeRateLimited),
        }
        let seed = self.seed();
        let received = Received::open(&self.settings.identity, &initiation, seed).map_err(|_: HandshakeError| {
            self.questions.note_unreadable(source.address, now);
            DropReason::HandshakeFailed
        })?;
        let Some(id) = self.by_key.get(&self.peers, &received.remote) else {
            self.stranger(received.remote, source, now);
            return Err(DropReason::HandshakeUnknownKey);
        };
        self.admit(id, &received, source, now)?;
        self.answer(id, received, initiation.sender, source, now)
    }

    fn demand_cookie(&mut self, datagram: &[u8], source: Locator) -> Result<(), DropReason> {
        let mut nonce = [0; 16];
        self.rng.fill_bytes(&mut nonce);
        let reply =
            self.cookies.reply(&self.mac1, datagram, source.address, nonce).ok_or(DropReason::MalformedDatagram)?;
        self.transmit(source, reply.to_bytes());
        Err(DropReason::HandshakeRateLimited)
    }

    /// Whether a member's initiation is to be answered.
    fn admit(&mut self, id: PeerId, received: &Received, source: Locator, now: Instant) -> Result<(), DropReason> {
        let may_all_the_same = self.may_relay(id) || self.may_enrol(id, now);
        let Some(peer) = self.peer_mut(id) else { return Err(DropReason::HandshakeUnknownKey) };
        if let Err(denial) = peer.permission
            && !may_all_the_same
        {
            self.refuse(id, source, Refusal::Denied(denial), now);
            return Err(DropReason::HandshakeNotAllowed);
        }
        if received.payload.timestamp == peer.timestamp {
            // The network delivered it twice, or somebody else did: nothing that the peer should be blamed for.
            return Err(DropReason::HandshakeReplayed);
        }
        if received.payload.timestamp < peer.timestamp {
            self.refuse(id, source, Refusal::OldTimestamp, now);
            return Err(DropReason::HandshakeReplayed);
        }
        let answered = peer.live.as_ref().and_then(|live| live.answered);
        if answered.is_some_and(|at| now - at < MIN_INTERVAL) {
            return Err(DropReason::HandshakeRateLimited);
        }
        peer.timestamp = received.payload.timestamp;
        Ok(())
    }

    fn answer(
        &mut self,
        id: PeerId,
        received: Received,
        sender: SessionIndex,
        source: Locator,
        now: Instant,
    ) -> Result<(), DropReason> {
        let index = self.fresh_index();
        let (agreement, mut message) = match received.respond(index, self.settings.offer) {
            Ok(answer) => answer,
            Err(error) => {
                self.refuse(id, source, Refusal::Handshake(error), now);
                return Err(DropReason::HandshakeFailed);
            }
        };
        let session = Session::new(id, (index, sender), &agreement, false).ok_or(DropReason::HandshakeFailed)?;
        let Some(live) = self.live_mut(id, now) else { return Err(DropReason::HandshakeUnknownKey) };
        live.answered = Some(now);
        self.install_next(id, session, now);
        if let Some(peer) = self.peer(id) {
            // An initiator asks nobody for cookies: it has asked for this response itself.
            Mac1::new(&peer.key).append(&mut message, None);
        }
        self.shook_at = now;
        self.transmit(source, message);
        Ok(())
    }

    pub(super) fn handle_response(&mut self, datagram: &[u8], source: Locator, now: Instant) -> Result<(), DropReason> {
        let response = Response::parse(datagram).map_err(|_| DropReason::MalformedDatagram)?;
        if !self.mac1.verify(datagram) {
            return Err(DropReason::BadMac);
        }
        let id = self.pending.get(&response.receiver).copied().ok_or(DropReason::HandshakeUnexpected)?;
        let Some(attempt) = self.attempt_mut(id) else { return Err(DropReason::HandshakeUnexpected) };
        let state = attempt.state.take().ok_or(DropReason::HandshakeUnexpected)?;
        let agreement = match state.accept(&response) {
            Ok(agreement) => agreement,
            Err((
                state,
                HandshakeError::Crypto | HandshakeError::SuiteNotOffered | HandshakeError::NoCommonSuite { .. },
            )) => {
                // The true response may still come.
                if let Some(attempt) = self.attempt_mut(id) {
                    attempt.state = Some(state);
                    attempt.unread = attempt.unread.saturating_add(1);
                }
                return Err(DropReason::HandshakeFailed);
            }
        };
        let session = Session::new(id, (response.receiver, response.sender), &agreement, true)
            .ok_or(DropReason::HandshakeFailed)?;
        self.drop_attempt(id);
        self.install_current(id, session, source, true, now);
        Ok(())
    }

    pub(super) fn handle_cookie_reply(&mut self, datagram: &[u8], now: Instant) -> Result<(), DropReason> {
        let reply = CookieReply::parse(datagram).map_err(|_| DropReason::MalformedDatagram)?;
        let id = self.pending.get(&reply.receiver).copied().ok_or(DropReason::HandshakeUnexpected)?;
        let key = self.peer(id).map(|peer| peer.key).ok_or(DropReason::HandshakeUnexpected)?;
        let Some(attempt) = self.attempt_mut(id) else { return Err(DropReason::HandshakeUnexpected) };
        let cookie = Mac1::new(&key).open_cookie(&reply, &attempt.mac1).ok_or(DropReason::AuthenticationFailed)?;
        if let Some(live) = self.live_mut(id, now) {
            let had_one = live.cookie.as_ref().is_some_and(|(_, since)| now - *since < MAX_WAIT);
            live.cookie = Some((cookie, now));
            if !had_one {
                // With the proof in hand there is no reason to wait for the retry. Once only: a peer that keeps
                // demanding cookies is answered at the pace of the retries.
                self.repeat(id, now);
            }
        }
        Ok(())
    }

    /// Remembers a refusal for status output and says it, but not over and over.
    fn refuse(&mut self, id: PeerId, source: Locator, reason: Refusal, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        peer.activity().handshakes.refused.fetch_add(1, Ordering::Relaxed);
        let before = peer.refusal.take().filter(|refused| refused.reason == reason);
        let say = before.as_ref().is_none_or(|refused| now - refused.said >= SAY_AGAIN);
        let said = before.as_ref().filter(|_| !say).map_or(now, |refused| refused.said);
        let count = before.map_or(0, |refused| refused.count) + 1;
        peer.refusal = Some(Box::new(Refused { reason, source, count, at: now, said }));
        if say {
            self.emit(Event::Refused { peer: Some(id), source, reason });
        }
    }

    fn note_unreachable(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        if peer.unreachable_since.is_none() {
            peer.unreachable_since = Some(now);
            self.emit(Event::Unreachable { peer: id });
        }
    }

    /// Gives up packets that waited too long, and tells their senders.
    pub(super) fn expire_staged(&mut self, id: PeerId, now: Instant) {
        while let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut())
            && let Some(staged) = live.staging.pop_expired(now)
        {
            self.drops.add(DropReason::Unreachable, 1);
            self.answer_unreachable(&staged.packet, Unreachable::HostUnreachable, now);
        }
    }

    fn attempt_mut(&mut self, id: PeerId) -> Option<&mut Attempt> {
        self.peer_mut(id)?.live.as_mut()?.attempt.as_mut()
    }

    fn cancel_retry(&mut self, id: PeerId) {
        if let Some(at) = self.attempt_mut(id).map(|attempt| attempt.next_at) {
            self.timers.cancel(at, Timer::Retry(id));
        }
    }

    pub(super) fn drop_attempt(&mut self, id: PeerId) {
        self.cancel_retry(id);
        let attempt = self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.attempt.take());
        if let Some(attempt) = attempt {
            self.pending.remove(&attempt.index);
            self.table.remove_session(attempt.index);
        }
    }
}

/// How long to wait after try number `tries`. Up to a tenth is added at random, and later half, so that nodes which lost the same
/// hub do not come back in step.
fn wait(tries: u32, jitter: u32) -> Duration {
    let base = RETRY.get(tries as usize).copied().unwrap_or(RETRY_LATER);
    let share = if tries < 2 { 10 } else { 2 };
    base + base * (jitter % 1024) / (1024 * share)
}
