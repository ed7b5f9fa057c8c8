//! When a host that is asked every second counts as away, and when as back. A pure machine.

use std::time::Duration;

/// Between two questions to a host that answers, or is away.
const PACE: Duration = Duration::from_secs(1);

/// How long an answer may take. With three questions and the pace a host that falls silent is away after 2.5 s at most.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// Answers in a row that miss, or come, until the host counts as away, or as back.
const IN_A_ROW: u8 = 3;

/// One host's record.
#[derive(Debug, Default)]
pub(super) struct Probation {
    is_away: bool,
    /// Answers in a row that contradict that.
    against: u8,
}

impl Probation {
    /// Takes whether the host has answered; returns whether it is away, if that is news.
    pub(super) fn note(&mut self, has_answered: bool) -> Option<bool> {
        if has_answered != self.is_away {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < IN_A_ROW {
            return None;
        }
        (self.is_away, self.against) = (!self.is_away, 0);
        Some(self.is_away)
    }

    /// From one question to the next: one that may have been lost is repeated without a pause.
    pub(super) const fn pace(&self) -> Duration {
        if self.against > 0 && !self.is_away { PATIENCE } else { PACE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_misses_in_a_row_are_away_and_three_answers_in_a_row_are_back() {
        let mut probation = Probation::default();
        let told: Vec<_> = "++-+--+---+-+++--+-".chars().map(|c| probation.note(c == '+')).collect();
        let news: Vec<_> = told.iter().enumerate().filter_map(|(at, told)| told.map(|is_away| (at, is_away))).collect();
        assert_eq!(news, [(9, true), (14, false)]);
    }

    #[test]
    fn a_host_that_falls_silent_is_away_within_three_seconds() {
        let mut probation = Probation::default();
        // Right after an answer.
        let mut passed = probation.pace();
        while probation.note(false).is_none() {
            passed += probation.pace();
        }
        assert!(passed + PATIENCE <= Duration::from_millis(2_500), "{passed:?}");
        assert_eq!(probation.pace(), PACE, "and is not asked more often than before");
    }
}
