//! What probes tell of a path: round-trip time after RFC 6298 §2, and loss.

use std::time::Duration;

/// Moving averages over the last few probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quality {
    smoothed: Option<Duration>,
    deviation: Duration,
    /// Of a thousand probes, so many went unanswered.
    loss: u32,
}

/// A round trip that was not measured yet is taken for this (RFC 6298 §2.1).
const UNKNOWN: Duration = Duration::from_secs(1);

impl Quality {
    /// A probe was answered after `rtt`.
    pub(super) fn answered(&mut self, rtt: Duration) {
        (self.smoothed, self.deviation) = match self.smoothed {
            None => (Some(rtt), rtt / 2),
            Some(smoothed) => (Some((smoothed * 7 + rtt) / 8), (self.deviation * 3 + smoothed.abs_diff(rtt)) / 4),
        };
        self.loss -= self.loss / 8;
    }

    /// A probe was not answered in time.
    pub(super) fn lost(&mut self) {
        self.loss += (1000 - self.loss) / 8;
    }

    /// The smoothed round-trip time; `None` before the first answer.
    pub(super) const fn rtt(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The mean deviation of the round-trip time.
    pub(super) const fn jitter(&self) -> Duration {
        self.deviation
    }

    /// Unanswered probes per thousand.
    pub(super) const fn loss(&self) -> u32 {
        self.loss
    }

    /// What a packet costs here: the time it takes, and a round trip more for each that has to be sent again.
    pub(super) fn cost(&self) -> Duration {
        let rtt = self.smoothed.unwrap_or(UNKNOWN);
        rtt + rtt * self.loss / 250
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_average_follows_a_change_within_some_probes_and_loss_fades() {
        let mut quality = Quality::default();
        quality.answered(100 * MS);
        assert_eq!((quality.rtt(), quality.jitter()), (Some(100 * MS), 50 * MS));
        (0..30).for_each(|_| quality.answered(20 * MS));
        assert!(quality.rtt().unwrap() < 23 * MS && quality.jitter() < 5 * MS, "{quality:?}");
        (0..4).for_each(|_| quality.lost());
        let (loss, cost) = (quality.loss(), quality.cost());
        assert!((350..500).contains(&loss) && cost > quality.rtt().unwrap() * 2, "{loss} {cost:?}");
        (0..40).for_each(|_| quality.answered(20 * MS));
        assert!(quality.loss() < 10);
    }
}
