//! The core's deadlines: one ordered set, one name per kind, no timer library.

use std::collections::BTreeSet;

use crate::id::PeerId;
use crate::time::Instant;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Look after every peer that something goes on with: keepalive, rekey, expiry, liveness. Runs only while there is one.
    Sweep,
    /// Look after a peer with a session that nothing goes on in.
    Care(PeerId),
    /// Send the next initiation to a peer that has not answered.
    Retry(PeerId),
    /// A peer's first initiation was not answered over UDP: try TLS.
    Carry(PeerId),
    /// Probe a peer's candidates, and look at what answered.
    Paths(PeerId),
    /// Send the answer that a peer asked for some time ago.
    Echo(PeerId),
    /// Tell or probe the next peers of those that all are to be.
    Round,
    /// Send the next probes of a spray, or end it.
    Spray,
}

/// When the core wants to be called next, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// When.
    pub at: Instant,
    /// For what; for the log.
    pub timer: Timer,
}

/// All deadlines, earliest first.
#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn cancel(&mut self, at: Instant, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    pub(crate) fn next(&self) -> Option<Deadline> {
        self.0.first().map(|(at, timer)| Deadline { at: *at, timer: *timer })
    }

    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, timer) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some(timer)
    }
}
