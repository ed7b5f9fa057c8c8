//! How often a peer is told forecasts of our NAT's mappings, and how many probes its forecasts get.

use std::time::Duration;

use crate::time::Instant;

/// Probes to forecast mappings in one volley: a counter that few others use is met by the first, a busy one by the last.
pub(crate) const VOLLEY: usize = 16;

/// Volleys before a pause: 64 probes for one peer.
const MAX_ROUNDS: u32 = 4;

/// How long a peer that was not met is left alone. NATs change when sites do.
const PAUSE: Duration = Duration::from_secs(60);

/// Least time from one round to the next: whoever answers a forecast with its own is in the same round.
const LEAST_GAP: Duration = Duration::from_millis(500);

/// From one round to the next, where nothing came of the first: a round trip through a slow relay.
pub(crate) const ROUND: Duration = Duration::from_secs(1);

/// What is left to spend on one peer.
#[derive(Debug, Default)]
pub(crate) struct Punching {
    /// Forecasts that it was told.
    pub(crate) told: Rounds,
    /// Volleys at forecasts of its own.
    pub(crate) fired: Rounds,
    /// When it was to be offered a spray.
    pub(crate) offered: Option<Instant>,
    /// The offer waits until the relay has told both sides where it has the other.
    pub(crate) is_offer_due: bool,
}

/// Rounds of one side.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    count: u32,
    last: Option<Instant>,
}

impl Rounds {
    /// Whether there may be another round now; it is counted then.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = self.last.map(|last| now - last);
        if since.is_some_and(|since| since >= PAUSE) {
            self.count = 0;
        }
        let may = self.count < MAX_ROUNDS && since.is_none_or(|since| since >= LEAST_GAP);
        if may {
            (self.count, self.last) = (self.count + 1, Some(now));
        }
        may
    }

    /// Whether a round began, and long enough ago that another is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now - last >= ROUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_four_rounds_and_then_none_for_a_minute() {
        let start = Instant::from_nanos(1_000_000_000_000);
        let mut rounds = Rounds::default();
        let taken = |rounds: &mut Rounds, from: u32, to: u32| -> usize {
            (from..to).filter(|tick| rounds.take(start + LEAST_GAP / 2 * *tick)).count()
        };
        assert_eq!(taken(&mut rounds, 0, 3), 2, "not twice within half a second");
        assert_eq!(taken(&mut rounds, 3, 200), 2);
        assert_eq!(taken(&mut rounds, 200, 300), 4, "a minute after the last");
    }
}
