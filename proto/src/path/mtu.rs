//! How large a datagram one path carries whole: the search of RFC 8899 (DPLPMTUD) §5, by padded probes that must not be
//! fragmented.
//!
//! Sizes are those of outer IP packets. Only answered probes count; what ICMP says of the network is not listened to, so it
//! cannot be forged. A probe carries no data, so none is lost by it. All sizes of a *flight* are asked at once, and those that
//! did not answer again, [`MAX_PROBES`] times in all; the second flight asks what lies between the largest that answered and the
//! least that did not. Two flights of some packets each so do what one probe at a time would take twenty round trips for.

use std::net::IpAddr;
use std::time::Duration;

use super::Locator;
use crate::packet::layout::Version;
use crate::time::Instant;
use crate::wire::{OVERHEAD, RELAY_HEADER_LEN};

/// Sizes that links have, with and without the headers of what is usually around them (PPPoE, GRE, VXLAN, other tunnels). The
/// least is there to tell a narrow path from a dead one.
const SIZES: [u16; 24] = [
    1000, 1200, 1280, 1300, 1320, 1340, 1360, 1380, 1400, 1420, 1440, 1452, 1460, 1472, 1480, 1492, 1500, 2000, 4000,
    4470, 8000, 8500, 8900, 9000,
];

/// Those of the first flight, besides the largest of all: what nearly every path carries (RFC 8899 §5.1.2), and the plain
/// Ethernet and jumbo frame.
const FIRST: [u16; 5] = [1000, 1280, 1400, 1500, 8000];

/// Times that a size is asked for before it counts as too large (RFC 8899 §5.1.2).
const MAX_PROBES: u32 = 3;

/// How long the first answer is waited for where the round trip is not known.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The least time that an answer is waited for.
const LEAST_WAIT: Duration = Duration::from_millis(100);

/// An answer may come so much later than two round trips.
const GRACE: Duration = Duration::from_millis(50);

/// After a search in which nothing answered.
const RETRY: Duration = Duration::from_secs(10);

/// After a search that found less than what was wanted (RFC 8899 §5.1.1, `PMTU_RAISE_TIMER`).
const RAISE: Duration = Duration::from_secs(600);

/// While large packets are sent, so often it is asked whether they still arrive.
const CONFIRM: Duration = Duration::from_secs(1);

/// Probes whose answers are known: two flights of all sizes, each as often as it may be asked for.
const MAX_OUTSTANDING: usize = 2 * SIZES.len() * MAX_PROBES as usize;

/// What an IPv6 link must carry (RFC 8200 §5); where a path carries less, what is larger goes in fragments.
pub const LEAST_V6: u16 = 1280;

/// How large the inner packets to a peer may be, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// So large ones are known to arrive unfragmented; 0 before anything is known.
    pub whole: u16,
    /// Larger ones are refused, but for IPv6 up to [`LEAST_V6`]. What is larger than `whole` goes in outer fragments if it must.
    pub limit: u16,
}

impl Fit {
    /// That of a path of which nothing is known yet, for a device of this MTU.
    #[must_use]
    pub const fn unknown(device_mtu: u16) -> Self {
        Self { whole: 0, limit: device_mtu }
    }

    /// That of a path which is known to carry inner packets of up to `whole` bytes, and no larger ones.
    #[must_use]
    pub const fn known(whole: u16) -> Self {
        Self { whole, limit: whole }
    }

    /// The largest packet of this version that is carried at all.
    #[must_use]
    pub fn most(self, version: Version) -> u16 {
        match version {
            Version::V4 => self.limit,
            Version::V6 => self.limit.max(LEAST_V6),
        }
    }
}

/// Whether a datagram may be cut on its way, by the machine or a router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fragments {
    /// It goes whole or not at all (IPv4: DF).
    #[default]
    Never,
    /// It is not known to pass whole, and has to arrive all the same.
    Allowed,
}

/// Bytes around an inner packet on the way to `locator`: IP, UDP, a relay's header, and ours.
fn overhead(locator: Locator) -> u16 {
    let relay = if locator.channel.is_some() { RELAY_HEADER_LEN } else { 0 };
    outer_headers(locator.address.ip()) + (OVERHEAD + relay) as u16
}

/// Bytes of IP and UDP header to this address.
pub(super) fn outer_headers(address: IpAddr) -> u16 {
    if address.to_canonical().is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// What the search is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Nothing yet.
    #[default]
    Idle,
    /// The first flight is out.
    First,
    /// What lies between is asked for.
    Between,
    /// Whether the present size still arrives.
    Confirming,
    /// Done (RFC 8899: Search Complete), or nothing answered (Error): nothing is out.
    Resting,
}

/// The search on one path.
#[derive(Debug, Default)]
pub(super) struct Search {
    phase: Phase,
    /// The largest size that data relies on; 0: none yet.
    held: u16,
    /// The largest that has answered in this search.
    confirmed: u16,
    /// The least that counts as too large in this search; 0: none.
    excluded: u16,
    /// Whether a search has come to its end, so that what is larger than `held` is known not to arrive.
    is_settled: bool,
    /// The largest size that is of use.
    wanted: u16,
    /// The largest that this search asks for.
    ceiling: u16,
    /// Sizes of this flight that have not answered.
    open: Vec<u16>,
    /// Those of them that are still to be sent in this round, the next one last.
    to_send: Vec<u16>,
    round: u32,
    /// Probes under way, the oldest first.
    outstanding: Vec<(u64, u16, Instant)>,
    rtt: Option<Duration>,
    /// When the round is over, or the next search is due.
    next: Option<Instant>,
    confirmed_at: Option<Instant>,
    /// When to look for more.
    raise_at: Option<Instant>,
}

impl Search {
    /// How inner packets to `locator` fit, as far as is known, for a device of this MTU.
    pub(super) fn fit(&self, locator: Locator, device_mtu: u16) -> Fit {
        let whole = self.held.saturating_sub(overhead(locator));
        Fit { whole, limit: if self.is_settled && self.held > 0 { whole } else { device_mtu } }
    }

    /// The size that is known to arrive; `None` before any is.
    pub(super) fn size(&self) -> Option<u16> {
        Some(self.held).filter(|held| *held > 0)
    }

    /// Begins the search if it has not begun, for a device of this MTU.
    pub(super) fn begin(&mut self, locator: Locator, device_mtu: u16, now: Instant) {
        if self.phase == Phase::Idle {
            // A link of 1,500 bytes is told from a narrower one even where less would do.
            self.wanted = device_mtu.saturating_add(overhead(locator)).clamp(1500, 9000);
            self.search(0, self.wanted, now);
        }
    }

    /// Whether a search is under way, or is to begin.
    pub(super) const fn is_new(&self) -> bool {
        matches!(self.phase, Phase::Idle | Phase::First | Phase::Between)
    }

    /// Asks whether the present size still arrives, unless it was asked a moment ago; returns whether it asks now.
    pub(super) fn confirm(&mut self, now: Instant) -> bool {
        let is_due = self.confirmed_at.is_none_or(|at| now - at >= CONFIRM);
        let asks = self.phase == Phase::Resting && self.held > 0 && is_due;
        if asks {
            (self.phase, self.confirmed_at) = (Phase::Confirming, Some(now));
            self.fly(vec![self.held], now);
        }
        asks
    }

    /// The size of the probe that is to be sent now: send it with a fresh token, and tell [`Search::sent`].
    pub(super) fn poll(&mut self, now: Instant) -> Option<u16> {
        if self.to_send.is_empty() && self.next.is_some_and(|next| next <= now) {
            self.advance(now);
        }
        self.to_send.last().copied()
    }

    /// The probe that was polled went out.
    pub(super) fn sent(&mut self, token: u64, now: Instant) {
        let Some(size) = self.to_send.pop() else { return };
        if self.outstanding.len() >= MAX_OUTSTANDING {
            self.outstanding.remove(0);
        }
        self.outstanding.push((token, size, now));
    }

    /// When to poll next.
    pub(super) fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.to_send.is_empty() { self.next } else { Some(now) }
    }

    /// A probe was answered; `false` if it is none of these.
    pub(super) fn answered(&mut self, token: u64, now: Instant) -> bool {
        let Some(position) = self.outstanding.iter().position(|(known, ..)| *known == token) else { return false };
        let (_, size, sent) = self.outstanding.remove(position);
        self.rtt = Some(now - sent);
        self.confirmed = self.confirmed.max(size);
        self.held = self.held.max(size);
        // What is smaller passes as well.
        self.open.retain(|open| *open > size);
        self.to_send.retain(|open| *open > size);
        match self.phase {
            Phase::Confirming if size >= self.held => self.rest(now),
            Phase::First | Phase::Between | Phase::Confirming if self.open.is_empty() => self.next = Some(now),
            // The others went out at the same time.
            Phase::First | Phase::Between | Phase::Confirming => {
                self.next = self.next.map(|next| next.min(now + self.wait()));
            }
            Phase::Idle | Phase::Resting => {}
        }
        true
    }

    /// The machine itself sends nothing as large as `size` there.
    pub(super) fn too_long(&mut self, size: u16, now: Instant) {
        if self.phase == Phase::Confirming && size <= self.held {
            self.search(0, self.held, now);
        }
        self.excluded = if self.excluded == 0 { size } else { self.excluded.min(size) };
        self.open.retain(|open| *open < size);
        self.to_send.retain(|open| *open < size);
        if self.open.is_empty() && matches!(self.phase, Phase::First | Phase::Between) {
            self.next = Some(now);
        }
    }

    /// Forgets what is too large: the network has changed. What is known to arrive is relied upon until the new search ends.
    pub(super) fn restart(&mut self) {
        self.phase = Phase::Idle;
    }

    /// A new search up to `ceiling`, in which `confirmed` is taken for granted.
    fn search(&mut self, confirmed: u16, ceiling: u16, now: Instant) {
        self.outstanding.clear();
        (self.phase, self.confirmed, self.ceiling, self.excluded) = (Phase::First, confirmed, ceiling, 0);
        let mut sizes: Vec<u16> = FIRST.into_iter().chain([ceiling, self.held]).collect();
        sizes.retain(|size| *size > confirmed && *size <= ceiling);
        self.fly(sizes, now);
    }

    fn fly(&mut self, mut sizes: Vec<u16>, now: Instant) {
        sizes.sort_unstable();
        sizes.dedup();
        self.open = sizes;
        self.round = 0;
        self.send_open(now);
    }

    fn send_open(&mut self, now: Instant) {
        self.round += 1;
        self.to_send = self.open.iter().rev().copied().collect();
        self.next = Some(now + self.wait());
    }

    fn wait(&self) -> Duration {
        self.rtt.map_or(FIRST_WAIT, |rtt| (rtt * 2 + GRACE).max(LEAST_WAIT))
    }

    /// A round is over, or a rest.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Idle => self.next = None,
            Phase::Resting if self.confirmed == 0 => self.search(0, self.wanted, now),
            Phase::Resting => self.search(self.held, self.wanted, now),
            // Lost, or too large now: what is smaller is asked with it.
            Phase::Confirming => self.search(0, self.held, now),
            Phase::First | Phase::Between if !self.open.is_empty() && self.round < MAX_PROBES => self.send_open(now),
            Phase::First => self.end_first(now),
            Phase::Between => self.settle(now),
        }
    }

    fn end_first(&mut self, now: Instant) {
        if self.confirmed == 0 {
            // Nothing arrived, of whatever size: this says nothing about sizes.
            return self.rest(now);
        }
        // A black hole is left at once.
        self.held = self.confirmed;
        let least_open = self.open.iter().copied().chain(Some(self.excluded).filter(|size| *size > 0)).min();
        let Some(excluded) = least_open else { return self.settle(now) };
        self.excluded = excluded;
        let (above, below) = (self.confirmed, excluded.min(self.ceiling.saturating_add(1)));
        let between: Vec<u16> = SIZES.into_iter().filter(|size| *size > above && *size < below).collect();
        if between.is_empty() {
            return self.settle(now);
        }
        self.phase = Phase::Between;
        self.fly(between, now);
    }

    fn settle(&mut self, now: Instant) {
        (self.held, self.is_settled) = (self.confirmed, true);
        self.confirmed_at = Some(now);
        // That the present size still arrives is no reason to wait longer for more.
        if self.confirmed < self.ceiling || self.ceiling == self.wanted {
            self.raise_at = (self.confirmed < self.wanted).then(|| now + RAISE);
        }
        self.rest(now);
    }

    fn rest(&mut self, now: Instant) {
        (self.phase, self.round) = (Phase::Resting, 0);
        self.open.clear();
        self.to_send.clear();
        self.next = if self.confirmed == 0 { Some(now + RETRY) } else { self.raise_at };
    }
}

#[cfg(test)]
mod tests;
