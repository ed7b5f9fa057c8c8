//! The path agent of one peer: when to probe which candidate, and which path carries the data.
//!
//! A candidate gets a burst of probes, then one a second, and after [`BUDGET`] without an answer no more until something
//! changes. One that answers is asked again at once until [`CONFIRM`] answers in a row have come: a single packet moves
//! nothing. What comes in on the active path speaks for it; only when data goes out and nothing has come in for half a second is
//! it probed. While the session carries data the others, which stand by, are probed every ten seconds; a session without data
//! sends no probes at all. What would go over TLS does not stand by: it is asked only when the active path is in doubt, for a
//! probe would hold a connection open that nobody needs.

mod sizing;
mod spread;

pub use spread::{Balance, MAX_WAYS};

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::mtu::Search;
use super::quality::Quality;
use super::{Locator, Origin, PathKind, SocketId};
use crate::allowance::Allowance;
use crate::stats::Stamps;
use crate::time::Instant;

/// When the first probes of a candidate go out. Both sides begin at about the same time, so that each opens its own
/// firewall for the other's second probe.
const BURST: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(500), Duration::from_secs(1)];

/// Between two probes of a candidate after its burst.
const PACE: Duration = Duration::from_secs(1);

/// Probes to a candidate that never answered, until something changes: 12 s worth.
const BUDGET: u32 = 12;

/// Answers in a row that make a candidate a path.
const CONFIRM: u32 = 3;

/// Between an answer and the next probe, until the path is confirmed.
const CONFIRM_PACE: Duration = Duration::from_millis(20);

/// Data went out, and nothing has come in for this long: the active path is asked. A receiver with nothing to say sends a
/// keepalive after a second, so a stream in one direction costs a probe a second, and traffic in both none.
const SILENCE: Duration = Duration::from_millis(500);

/// Between two probes of a path that stands by, and, to measure it, of the active one.
const STANDBY_PACE: Duration = Duration::from_secs(10);

/// Between two probes of an active path that owes an answer.
const DOUBT_PACE: Duration = Duration::from_millis(300);

/// An answer that takes two round trips and this is late.
const LATE: Duration = Duration::from_millis(100);

/// The active path has owed an answer for this long: those that stand by are asked whether they work.
const ALERT_AFTER: Duration = Duration::from_millis(500);

/// A path has owed an answer for this long and a round trip more, which is three or four probes: any other that answers takes
/// its place. With the pace of probes this is little more than two seconds after it died at the latest.
const SUSPECT_AFTER: Duration = Duration::from_secs(1);

/// The same of a path that loses next to nothing: two probes in a row say as much there. With what goes before it is below 1.4 s, when TCP
/// with its shortest timeout (200 ms, doubled each time) sends for the third time; the fourth time would be 1.6 s later.
const SUSPECT_STEADY_AFTER: Duration = Duration::from_millis(610);

/// A path that loses no more than this many of a thousand probes loses next to nothing: one of the last eight, as when it was new.
const LOW_LOSS: u32 = 130;

/// A path has owed an answer for this long and two round trips more: it is dead.
const DEAD_AFTER: Duration = Duration::from_millis(1_800);

/// A session that carried data this recently is in use.
const IN_USE: Duration = Duration::from_secs(10);

/// How often candidates that did not answer get another chance while the data goes through a relay.
const RETRY: Duration = Duration::from_secs(60);

/// The same while it goes over TLS, which is far worse: as long as a candidate's budget of probes lasts.
const RETRY_TLS: Duration = Duration::from_secs(12);

/// How often they get one while somebody waits for a direct path, and says so by asking for the peer again and again.
const RETRY_WANTED: Duration = Duration::from_secs(10);

/// A candidate that is back after a time of silence, with the loss of that time, gets so many answers in a row at once to show
/// that the loss was that of the silence.
const PROVE: u32 = 12;

/// Another path of the same kind must be better by a fifth, and by this much.
const LEAST_GAIN: Duration = Duration::from_millis(5);

/// A path that loses more than this many of a thousand probes counts as one of the next worse kind.
const BAD_LOSS: u32 = 300;

/// Loss is an average over some eight probes: so much more says nothing.
const LOSS_NOISE: u32 = 100;

/// Most candidates of one peer; a new one takes the place of the one that has failed for longest, or is not taken.
const MAX_CANDIDATES: usize = 16;

/// Most candidates of one origin, so that a peer with many interfaces does not crowd out what others know.
const MAX_OF_ORIGIN: usize = 6;

/// How long a probe waits that the peer's allowance has nothing for.
const SPENT_PACE: Duration = Duration::from_millis(500);

/// Probes of one candidate that may be under way.
const MAX_OUTSTANDING: usize = 8;

/// The candidates and paths of one peer.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    all: Vec<Path>,
    active: Option<Locator>,
    /// From where the peer was heard last, if not from the active path.
    moved: Option<Locator>,
    /// When that was asked about last.
    moved_at: Option<Instant>,
    /// When data last passed.
    used_at: Option<Instant>,
    retried_at: Option<Instant>,
    /// When the last path died that was known to work, or the peer was heard for the first time after that.
    lost_at: Option<Instant>,
    /// Data goes past the session on the LAN, so that only probes tell whether its paths live.
    is_watched: bool,
    balance: Balance,
    /// Where flows go at once, in order; empty while all data goes to the active path.
    members: Vec<Locator>,
    /// The path that was active when sizes were looked at last.
    sized: Option<Locator>,
    /// Bytes that had been sent when it was asked last whether large packets arrive.
    sent_at_confirm: u64,
}

#[derive(Debug)]
struct Path {
    locator: Locator,
    origin: Origin,
    quality: Quality,
    /// Probes that wait for an answer, the oldest first.
    outstanding: Vec<(u64, Instant)>,
    /// Since when it owes an answer: the first probe that was sent after the last answer.
    owing: Option<Instant>,
    probed_at: Option<Instant>,
    answered_at: Option<Instant>,
    /// Answers in a row.
    streak: u32,
    /// Probes since the last start.
    sent: u32,
    /// Probes since it became known.
    probes: u32,
    started: Instant,
    next: Option<Instant>,
    search: Search,
}

/// What the data is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It takes another path from now on.
    Active(Locator),
    /// The active path is dead and no other is known to work.
    Dead,
}

/// How a candidate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// The data goes here.
    Active,
    /// It works, and something else is better.
    Standby,
    /// It is being tried.
    Probing,
    /// It has not answered.
    Silent,
    /// It worked, and does not any more.
    Dead,
}

impl PathState {
    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Probing => "probing",
            Self::Silent => "silent",
            Self::Dead => "dead",
        }
    }
}

/// A candidate as status output shows it.
#[derive(Clone, Copy, Debug)]
pub struct PathStatus {
    /// Where.
    pub locator: Locator,
    /// How it became known.
    pub origin: Origin,
    /// What kind of way it is.
    pub kind: PathKind,
    /// How it does.
    pub state: PathState,
    /// Smoothed round-trip time; `None` before the first answer.
    pub rtt: Option<Duration>,
    /// Mean deviation of the round-trip time.
    pub jitter: Duration,
    /// Unanswered probes per thousand.
    pub loss: u32,
    /// Probes that were sent there since it became known.
    pub probes: u32,
    /// When the last of them was sent.
    pub probed_at: Option<Instant>,
    /// When it answered last, to a probe or a handshake.
    pub answered_at: Option<Instant>,
    /// The largest outer packet in bytes that is known to pass; `None` before any is.
    pub mtu: Option<u16>,
}

impl Paths {
    /// Adds a candidate, to be probed from now on; one that is known keeps what is known of it, and the better origin.
    pub(crate) fn add(&mut self, locator: Locator, origin: Origin, now: Instant) {
        if let Some(path) = self.path_mut(locator) {
            path.origin = path.origin.min(origin);
            return;
        }
        let of_origin = self.all.iter().filter(|path| path.origin == origin).count();
        let is_full = of_origin >= MAX_OF_ORIGIN || self.all.len() >= MAX_CANDIDATES;
        if is_full && !self.make_room(origin, of_origin >= MAX_OF_ORIGIN) {
            return;
        }
        self.all.push(Path::new(locator, origin, now));
    }

    /// Forgets candidates of an origin that are not among `kept`, except the active one while it works.
    pub(crate) fn retain(&mut self, origin: Origin, kept: impl Fn(Locator) -> bool) {
        let active = self.active;
        self.all.retain(|path| path.origin != origin || kept(path.locator) || active == Some(path.locator));
    }

    /// Tries every candidate anew, at once: the machine's network changed, or the peer asks for it.
    pub(crate) fn restart(&mut self, now: Instant) {
        for path in &mut self.all {
            path.start(now);
            path.search.restart();
        }
    }

    /// As [`Paths::restart`], for those that are not known to work.
    pub(crate) fn restart_silent(&mut self, now: Instant) {
        let is_silent = |path: &&mut Path| !path.works(now) && !path.locator.is_carried();
        self.all.iter_mut().filter(is_silent).for_each(|path| path.start(now));
    }

    /// Asks the active path whether it works, because something depends on it; `false` if it owes an answer already.
    pub(crate) fn question(&mut self, now: Instant) -> bool {
        let active = self.active.and_then(|active| self.path_mut(active)).filter(|path| path.owing.is_none());
        active.map(|path| path.next = Some(now)).is_some()
    }

    /// The session is in use, though not by data of its own: the peer relays.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.used_at = Some(now);
    }

    /// As [`Paths::restart_silent`], for one candidate.
    pub(crate) fn restart_silent_at(&mut self, locator: Locator, now: Instant) {
        if let Some(path) = self.path_mut(locator).filter(|path| !path.works(now)) {
            path.start(now);
        }
    }

    /// Somebody asks for the peer: as good as data, and where that goes through a relay a reason to try the other candidates
    /// anew now. Returns whether that was done; the peer should try ours then, too.
    pub(crate) fn want(&mut self, now: Instant) -> bool {
        self.used_at = self.used_at.max(Some(now));
        let is_direct = self.active_path().is_some_and(|path| path.kind() <= PathKind::Direct);
        if is_direct || self.retried_at.is_some_and(|at| now - at < RETRY_WANTED) {
            return false;
        }
        self.retried_at = Some(now);
        let is_silent = |path: &&mut Path| path.next.is_none() && !path.works(now) && !path.locator.is_carried();
        self.all.iter_mut().filter(is_silent).for_each(|path| path.start(now));
        true
    }

    /// The peer sends from there now. It may have moved, or may like that path better: if the active one does not answer
    /// either, the data follows as soon as the new one has been confirmed. As long as it goes on, that is asked once a second:
    /// what answered the first time may have died since.
    pub(crate) fn roamed(&mut self, locator: Locator, origin: Origin, now: Instant) {
        let is_asked = self.moved == Some(locator) && self.moved_at.is_some_and(|at| now - at < PACE);
        if is_asked && self.knows(locator) {
            return;
        }
        (self.moved, self.moved_at) = (Some(locator), Some(now));
        self.add(locator, origin, now);
        let active = self.active;
        for path in self.all.iter_mut().filter(|path| path.locator == locator || active == Some(path.locator)) {
            path.start(now);
        }
    }

    /// A probe of the peer's, or an answer, came from a candidate: the way is open from there, and so may be the other way round now.
    pub(crate) fn heard(&mut self, locator: Locator, now: Instant) {
        let Some(path) = self.path_mut(locator).filter(|path| path.streak < CONFIRM) else { return };
        let soon = path.probed_at.map_or(now, |at| now.max(at + CONFIRM_PACE));
        path.next = path.next.map_or(Some(soon), |next| Some(next.min(soon)));
    }

    /// The data goes there, because a handshake came through: as good as an answer to a probe.
    pub(crate) fn adopt(&mut self, locator: Locator, origin: Origin, now: Instant) {
        self.add(locator, origin, now);
        self.moved = None;
        if let Some(path) = self.path_mut(locator) {
            path.answered_at = Some(now);
            path.owing = None;
            path.streak = CONFIRM;
            path.next.get_or_insert(now);
            self.active = Some(locator);
        }
    }

    /// Probes paths of the LAN every second, or as any others.
    pub(crate) fn watch(&mut self, is_watched: bool, now: Instant) {
        if std::mem::replace(&mut self.is_watched, is_watched) || !is_watched {
            return;
        }
        self.all.iter_mut().filter(|path| path.kind() == PathKind::Lan).for_each(|path| path.next = Some(now));
    }

    /// Paths of the LAN that work, best first.
    pub(crate) fn near(&self, now: Instant) -> Vec<SocketAddr> {
        let works = |path: &&Path| path.kind() == PathKind::Lan && path.works(now);
        let mut near: Vec<&Path> = self.all.iter().filter(works).collect();
        near.sort_by_key(|path| path.locator);
        near.into_iter().map(|path| path.locator.address).collect()
    }

    /// Where the data goes; `None` while no path is known to work.
    pub(crate) const fn active(&self) -> Option<Locator> {
        self.active
    }

    /// Every candidate, the active one first.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = (Origin, Locator)> {
        let is_active = |path: &&Path| self.active == Some(path.locator);
        let (first, others) = (self.all.iter().filter(is_active), self.all.iter().filter(move |path| !is_active(path)));
        first.chain(others).map(|path| (path.origin, path.locator))
    }

    /// Whether the active path owes an answer, so that a way around should be at hand.
    pub(crate) fn is_doubtful(&self, now: Instant) -> bool {
        self.active_path().is_some_and(|path| path.owes_for(ALERT_AFTER, now))
    }

    /// The active path, if it works and the session is in use, so that it would be known if it did not.
    pub(crate) fn sound(&self, now: Instant) -> Option<Locator> {
        self.active_path().filter(|path| path.works(now) && self.is_in_use(now)).map(|path| path.locator)
    }

    /// The relay's place, if the data goes through a channel there over TLS, and the session is in use.
    pub(crate) fn carried_channel(&self, now: Instant) -> Option<Locator> {
        let active = self.active.filter(|active| active.is_carried() && active.channel.is_some())?;
        self.is_in_use(now).then(|| active.address.into())
    }

    /// Whether the active path has not answered the first question: no doubt yet, and time to see who could help.
    pub(crate) fn is_asked_again(&self, now: Instant) -> bool {
        self.active_path().is_some_and(|path| path.owes_for(DOUBT_PACE, now))
    }

    /// Whether the active path owes an answer.
    pub(crate) fn is_asked(&self) -> bool {
        self.active_path().is_some_and(|path| path.owing.is_some())
    }

    /// Asks, once for each pause of the data, whether it is one: a receiver that nothing reaches any more would not know.
    pub(crate) fn note_pause(&mut self, stamps: Stamps, now: Instant) {
        let at = Instant::from_millis;
        let (used, in_use) = (at(stamps.tx_data.max(stamps.rx_data)), self.is_in_use(now));
        let is_pause = in_use && now - used >= SILENCE && now - at(stamps.rx_any) >= SILENCE;
        let Some(active) = self.active.and_then(|active| self.path_mut(active)) else { return };
        if is_pause && active.owing.is_none() && active.probed_at < Some(used) {
            active.next = Some(now);
        }
    }

    /// Whether there is an active path: between the death of one and the next there is none.
    pub(crate) const fn has_active(&self) -> bool {
        self.active.is_some()
    }

    /// Whether the active path works, and was proven since then.
    pub(crate) fn proven_since(&self, since: Instant, now: Instant) -> bool {
        self.active_path().is_some_and(|path| path.works(now) && path.answered_at > Some(since))
    }

    /// Where the peer may send from itself.
    pub(crate) fn sources(&self) -> impl Iterator<Item = SocketAddr> {
        self.all.iter().filter(|path| path.locator.channel.is_none()).map(|path| path.locator.address)
    }

    /// Where the peer itself has answered, and does still: the data's path first.
    pub(crate) fn proven(&self, now: Instant) -> impl Iterator<Item = SocketAddr> {
        let is_proven = move |path: &&Path| path.locator.channel.is_none() && path.works(now);
        let others = self.all.iter().filter(|path| self.active != Some(path.locator));
        self.active_path().into_iter().chain(others).filter(is_proven).map(|path| path.locator.address)
    }

    /// Whether this is a candidate.
    pub(crate) fn knows(&self, locator: Locator) -> bool {
        self.all.iter().any(|path| path.locator == locator)
    }

    /// Whether the peer's own addresses were probed in vain, as far as its NAT may have given them.
    pub(crate) fn has_tried_in_vain(&self) -> bool {
        let is_outer = |path: &&Path| {
            matches!(path.origin, Origin::Observed | Origin::Mapped | Origin::Public) && path.locator.address.is_ipv4()
        };
        self.all.iter().filter(is_outer).any(|path| path.streak == 0 && path.probes > BURST.len() as u32)
    }

    /// Whether datagrams go by one of this machine's sockets, or may.
    pub(crate) fn uses(&self, socket: SocketId, now: Instant) -> bool {
        let is_alive = |path: &Path| path.next.is_some() || path.works(now);
        self.all.iter().any(|path| path.locator.socket == socket && is_alive(path))
    }

    /// A socket of this machine is closed: what went by it goes nowhere now.
    pub(crate) fn forget_socket(&mut self, socket: SocketId) {
        self.all.retain(|path| path.locator.socket != socket);
        self.active = self.active.filter(|active| active.socket != socket);
    }

    /// Paths that cannot be used any more are none, the active one included; returns whether there were any.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(Origin, Locator) -> bool) -> bool {
        let before = self.all.len();
        self.all.retain(|path| !is_gone(path.origin, path.locator));
        self.active = self.active.filter(|active| self.all.iter().any(|path| path.locator == *active));
        self.all.len() < before
    }

    /// Takes what passed last in the session, and when.
    pub(crate) fn note(&mut self, stamps: Stamps, now: Instant) {
        let at = Instant::from_millis;
        let (used, heard) = (at(stamps.tx_data.max(stamps.rx_data)), at(stamps.rx_any));
        let was_idle = !self.is_in_use(now);
        self.used_at = self.used_at.max(Some(used).filter(|used| *used > Instant::ORIGIN));
        if was_idle && self.is_in_use(now) {
            // Those that stood by may have died meanwhile.
            let is_stale = |path: &&mut Path| path.probed_at.is_some_and(|at| now - at >= IN_USE);
            self.all
                .iter_mut()
                .filter(is_stale)
                .filter(|path| path.streak >= CONFIRM && !path.locator.is_carried())
                .for_each(|path| path.next = Some(now));
        }
        let (moved, is_watched) = (self.moved.is_some(), self.is_watched || !self.members.is_empty());
        if self.active.is_none() && self.lost_at.is_some_and(|lost| heard > lost) {
            // Some way is open again.
            self.lost_at = Some(heard);
            self.all.iter_mut().filter(|path| path.next.is_none()).for_each(|path| path.start(now));
        }
        let Some(active) = self.active.and_then(|active| self.path_mut(active)) else { return };
        if !moved && !is_watched && active.owing.is_some_and(|owing| heard > owing) {
            // It came from there, or the peer would be said to have moved.
            active.owing = None;
            active.next = Some(now + STANDBY_PACE);
        }
        if at(stamps.tx_data) > heard && now - heard >= SILENCE && active.owing.is_none() {
            active.next = Some(now);
        }
    }

    /// The next candidate to probe now, if one is due: send it a probe with a fresh token, and tell [`Paths::sent`]. Those that the
    /// peer only tells of share its allowance; the others have to wait for none.
    pub(crate) fn poll_probe(&mut self, allowance: &mut Allowance, now: Instant) -> Option<Locator> {
        loop {
            let due = self.all.iter_mut().filter_map(|path| Some((path.next.filter(|next| *next <= now)?, path)));
            let (_, path) = due.min_by_key(|(next, _)| *next)?;
            if !path.is_told() || allowance.take_place(now) {
                return Some(path.locator);
            }
            path.next = Some(now + SPENT_PACE);
        }
    }

    /// Whether only the peer, or somebody else, says that it is there.
    pub(crate) fn is_told(&self, locator: Locator) -> bool {
        self.all.iter().any(|path| path.locator == locator && path.is_told())
    }

    /// A probe went out.
    pub(crate) fn sent(&mut self, locator: Locator, token: u64, now: Instant) {
        let (in_use, is_only_probed) = (self.is_in_use(now), self.is_only_probed(locator, now));
        let owes = self.active == Some(locator) || is_only_probed;
        if let Some(path) = self.path_mut(locator) {
            path.note_sent(token, now);
            path.next = path.next_after_probe(owes, in_use, now);
        }
    }

    /// An answer came in over `source`; the round-trip time if it is one to a probe that went there, which alone proves that the
    /// peer receives and sends there.
    pub(crate) fn answered(&mut self, source: Locator, token: u64, now: Instant) -> Option<Duration> {
        let (is_active, in_use) = (self.active == Some(source), self.is_in_use(now));
        let path = self.path_mut(source)?;
        let position = path.outstanding.iter().position(|(known, _)| *known == token)?;
        let (_, sent) = path.outstanding.remove(position);
        path.note_answer(now - sent, now);
        let next = path.next_after_answer(is_active, in_use, now);
        path.next = next;
        if self.is_only_probed(source, now)
            && let Some(path) = self.path_mut(source)
        {
            path.next = Some(now + PACE);
        }
        Some(now - sent)
    }

    /// When to call [`Paths::poll_probe`] and [`Paths::review`] next.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        let probes = self.all.iter().filter_map(|path| path.next);
        let verdicts = self.active_path().into_iter().flat_map(|path| {
            let after = [path.asked_after(), path.late_after(), ALERT_AFTER, path.suspect_after(), path.dead_after()];
            after.into_iter().filter_map(|after| path.owing.map(|owing| owing + after))
        });
        probes.chain(verdicts.filter(|at| *at > now)).chain(self.next_size_at(now)).min()
    }

    /// Counts what was lost, and decides where the data goes.
    pub(crate) fn review(&mut self, now: Instant) -> Option<Change> {
        self.all.iter_mut().for_each(|path| path.expire(now));
        self.retry_silent(now);
        self.alert(now);
        if let Some(locator) = self.better(now) {
            (self.active, self.moved) = (Some(locator), None);
            return Some(Change::Active(locator));
        }
        let is_dead = self.active_path().is_some_and(|active| active.owes_for(active.dead_after(), now));
        if is_dead { self.give_up(now) } else { None }
    }

    /// Where the data should go instead.
    fn better(&self, now: Instant) -> Option<Locator> {
        let Some(active) = self.active_path() else { return self.best(now).map(|best| best.locator) };
        // Where the peer sends from now comes first, if the active path has fallen silent.
        let moved = self.moved.and_then(|moved| self.all.iter().find(|path| path.locator == moved));
        // The active path is asked at the same time, and may only be the slower to answer: a peer that finds several ways at once
        // sends by one after the other, and who followed it at once would go back and forth with it.
        if let Some(moved) = moved.filter(|moved| moved.works(now) && active.owes_for(active.late_after(), now))
            && moved.answered_at > active.owing
        {
            return Some(moved.locator);
        }
        let best = self.best(now).filter(|best| best.locator != active.locator)?;
        let is_better = if active.owes_for(active.suspect_after(), now) {
            best.answered_at > active.owing
        } else {
            is_worth_it(active, best)
        };
        is_better.then_some(best.locator)
    }

    /// Asks those that stand by, once for each time that the active path is in doubt.
    fn alert(&mut self, now: Instant) {
        let Some(active) = self.active_path().filter(|active| active.owes_for(ALERT_AFTER, now)) else { return };
        let (locator, owing) = (active.locator, active.owing);
        for path in self.all.iter_mut().filter(|path| path.locator != locator && path.probed_at < owing) {
            path.start(now);
        }
    }

    /// Every candidate.
    pub(crate) fn status(&self, now: Instant) -> Vec<PathStatus> {
        self.all
            .iter()
            .map(|path| path.status(self.active == Some(path.locator) || self.members.contains(&path.locator), now))
            .collect()
    }

    fn give_up(&mut self, now: Instant) -> Option<Change> {
        self.active.take()?;
        self.lost_at = Some(now);
        self.restart(now);
        Some(Change::Dead)
    }

    /// The best of those that answer. One that was just left because it did not is none, though it may be a better kind.
    fn best(&self, now: Instant) -> Option<&Path> {
        let answers = |path: &&Path| path.works(now) && !path.owes_for(path.asked_after(), now);
        self.all.iter().filter(answers).min_by_key(|path| (path.rank(), path.cost()))
    }

    fn active_path(&self) -> Option<&Path> {
        self.active.and_then(|active| self.all.iter().find(|path| path.locator == active))
    }

    fn path_mut(&mut self, locator: Locator) -> Option<&mut Path> {
        self.all.iter_mut().find(|path| path.locator == locator)
    }

    fn is_in_use(&self, now: Instant) -> bool {
        self.used_at.is_some_and(|used| now - used < IN_USE)
    }

    /// Removes the candidate that was tried for longest in vain; of the same origin where that has its share.
    fn make_room(&mut self, origin: Origin, same: bool) -> bool {
        let active = self.active;
        let may_go = |path: &&Path| {
            path.streak == 0 && path.sent > 0 && active != Some(path.locator) && (!same || path.origin == origin)
        };
        let Some(oldest) = self.all.iter().filter(may_go).min_by_key(|path| path.started).map(|path| path.locator)
        else {
            return false;
        };
        self.all.retain(|path| path.locator != oldest);
        true
    }

    /// While the data goes through a relay, what did not answer gets another chance now and then.
    fn retry_silent(&mut self, now: Instant) {
        let is_direct = self.active_path().is_some_and(|path| path.kind() <= PathKind::Direct);
        let is_carried = self.active.is_some_and(Locator::is_carried);
        let pause = if is_carried { RETRY_TLS } else { RETRY };
        let is_due = self.retried_at.is_none_or(|at| now - at >= pause);
        if is_direct || !is_due || !self.is_in_use(now) {
            return;
        }
        if self.retried_at.replace(now).is_some() {
            let is_silent = |path: &&mut Path| path.next.is_none() && !path.locator.is_carried();
            self.all.iter_mut().filter(is_silent).for_each(|path| path.start(now));
        }
    }
}

/// Whether the data should leave a path that works for another: for a better kind, for much less loss, or for a much shorter
/// round trip. The last two are noisy figures, so a gain within their noise is none.
fn is_worth_it(active: &Path, best: &Path) -> bool {
    let (before, after) = (&active.quality, &best.quality);
    if before.loss() > BAD_LOSS && after.loss() * 3 < before.loss() {
        return true;
    }
    match best.kind().cmp(&active.kind()) {
        Ordering::Less => after.loss() <= before.loss().max(BAD_LOSS),
        Ordering::Equal => {
            let (Some(old), Some(new)) = (before.rtt(), after.rtt()) else { return false };
            let noise = before.jitter() + after.jitter();
            if best.is_inside() && !active.is_inside() {
                return new <= old + LEAST_GAIN + noise;
            }
            new + LEAST_GAIN + noise <= old && new * 5 <= old * 4 && after.loss() <= before.loss() + LOSS_NOISE
        }
        Ordering::Greater => false,
    }
}

impl Path {
    fn new(locator: Locator, origin: Origin, now: Instant) -> Self {
        Self {
            locator,
            origin,
            quality: Quality::default(),
            outstanding: Vec::new(),
            owing: None,
            probed_at: None,
            answered_at: None,
            streak: 0,
            sent: 0,
            probes: 0,
            started: now,
            next: Some(now),
            search: Search::default(),
        }
    }

    fn start(&mut self, now: Instant) {
        (self.sent, self.started, self.next) = (0, now, Some(now));
    }

    fn kind(&self) -> PathKind {
        PathKind::of(self.locator, self.origin)
    }

    /// Whether nothing but somebody's word is known of it: it is in no record, and nobody has answered there.
    fn is_told(&self) -> bool {
        let is_word = !matches!(self.origin, Origin::Public | Origin::Relay | Origin::Tls);
        is_word && self.answered_at.is_none()
    }

    /// Whether it goes by the peer's own private address, so that no NAT is on the way: not even one that both are behind, and that
    /// leads from its outer side back in.
    fn is_inside(&self) -> bool {
        let is_private = matches!(self.locator.address.ip(), IpAddr::V4(ip) if ip.is_private());
        is_private && self.origin == Origin::Interface && self.locator.channel.is_none()
    }

    /// What a packet costs here; a detour over the outside must be worth it.
    fn cost(&self) -> Duration {
        self.quality.cost() + if self.is_inside() { Duration::ZERO } else { LEAST_GAIN }
    }

    /// Its kind as a number; one more where it loses much.
    fn rank(&self) -> u32 {
        self.kind() as u32 + u32::from(self.quality.loss() > BAD_LOSS)
    }

    /// Whether data may go there: it is confirmed, and does not owe an answer for too long.
    fn works(&self, now: Instant) -> bool {
        self.streak >= CONFIRM && !self.owes_for(self.suspect_after(), now)
    }

    fn owes_for(&self, time: Duration, now: Instant) -> bool {
        self.owing.is_some_and(|owing| now - owing >= time)
    }

    /// An answer is late by then, if it is not lost.
    fn asked_after(&self) -> Duration {
        DOUBT_PACE.min(LATE + self.quality.rtt().unwrap_or_default() * 2)
    }

    /// The same where it decides more than what to do next: never before a round trip is over.
    fn late_after(&self) -> Duration {
        self.asked_after().max(LATE + self.quality.rtt().unwrap_or_default())
    }

    fn suspect_after(&self) -> Duration {
        let patience = if self.quality.loss() <= LOW_LOSS { SUSPECT_STEADY_AFTER } else { SUSPECT_AFTER };
        patience + self.quality.rtt().unwrap_or_default()
    }

    fn dead_after(&self) -> Duration {
        DEAD_AFTER + self.quality.rtt().unwrap_or_default() * 2
    }

    fn note_sent(&mut self, token: u64, now: Instant) {
        if self.outstanding.len() >= MAX_OUTSTANDING {
            self.outstanding.remove(0);
        }
        self.outstanding.push((token, now));
        self.probed_at = Some(now);
        self.owing.get_or_insert(now);
        self.sent = self.sent.saturating_add(1);
        self.probes = self.probes.saturating_add(1);
    }

    fn note_answer(&mut self, rtt: Duration, now: Instant) {
        if self.answered_at.is_none() {
            // What was lost before the first answer says that the way was not open, not that it loses.
            self.quality = Quality::default();
        }
        self.quality.answered(rtt);
        self.answered_at = Some(now);
        self.owing = None;
        self.streak = self.streak.saturating_add(1);
    }

    /// Takes probes that waited too long for lost. One lost probe ends a streak that was not complete; only owing an answer
    /// for long ends one that was, and then the candidate begins anew.
    fn expire(&mut self, now: Instant) {
        let (before, dead_after) = (self.outstanding.len(), self.dead_after());
        self.outstanding.retain(|(_, sent)| now - *sent < dead_after);
        for _ in self.outstanding.len()..before {
            self.quality.lost();
        }
        if self.streak >= CONFIRM && self.owes_for(dead_after, now) {
            self.streak = 0;
            self.start(now);
        } else if self.streak < CONFIRM && self.outstanding.len() < before {
            self.streak = 0;
        }
    }

    fn next_after_probe(&self, is_active: bool, in_use: bool, now: Instant) -> Option<Instant> {
        if is_active {
            // Until something has come in, or it is dead.
            return self.owing.map(|_| now + DOUBT_PACE);
        }
        if self.streak >= CONFIRM {
            // Lost, or the path has died: it is not left in doubt until the next turn.
            return in_use.then(|| now + DOUBT_PACE);
        }
        (self.sent < BUDGET).then(|| now + self.burst_pace(now))
    }

    fn burst_pace(&self, now: Instant) -> Duration {
        let at = BURST.get(self.sent as usize).map(|offset| self.started + *offset);
        at.filter(|at| *at > now).map_or(PACE, |at| at - now)
    }

    fn next_after_answer(&self, is_active: bool, in_use: bool, now: Instant) -> Option<Instant> {
        let is_doubtful = self.streak < PROVE && self.quality.loss() > BAD_LOSS;
        if self.streak < CONFIRM || is_doubtful {
            return Some(now + CONFIRM_PACE);
        }
        if is_active { in_use.then(|| now + STANDBY_PACE) } else { self.next_standby(in_use, now) }
    }

    fn next_standby(&self, in_use: bool, now: Instant) -> Option<Instant> {
        (in_use && !self.locator.is_carried()).then(|| now + STANDBY_PACE)
    }

    fn status(&self, is_active: bool, now: Instant) -> PathStatus {
        let state = match self {
            _ if is_active => PathState::Active,
            path if path.works(now) => PathState::Standby,
            path if path.next.is_some() => PathState::Probing,
            path if path.answered_at.is_some() => PathState::Dead,
            _ => PathState::Silent,
        };
        PathStatus {
            locator: self.locator,
            origin: self.origin,
            kind: self.kind(),
            state,
            rtt: self.quality.rtt(),
            jitter: self.quality.jitter(),
            loss: self.quality.loss(),
            probes: self.probes,
            probed_at: self.probed_at,
            answered_at: self.answered_at,
            mtu: self.search.size(),
        }
    }
}
