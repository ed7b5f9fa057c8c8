//! How long the NATs in front of us remember a mapping, learnt from what still came in after a silence.
//!
//! A node that nobody can dial has to send now and then, or the way to it closes. RFC 4787 §4.3 asks NATs to wait two minutes and
//! many wait 30 s, so a fixed interval is too long for some and a waste for most. Only a whole silence tells: many NATs have one
//! mapping for all that a socket sends, and whatever it sends keeps that one open. So a longer silence is tried a step at a time,
//! and while the NAT turns out to be shorter than the step, nobody gets in for the difference.

use std::time::Duration;

use crate::time::Instant;

/// Silences to keep, each a little below a lifetime that NATs are known to have.
const STEPS: [Duration; 8] = [
    Duration::from_secs(15),
    Duration::from_secs(25),
    Duration::from_secs(35),
    Duration::from_secs(45),
    Duration::from_secs(55),
    Duration::from_secs(70),
    Duration::from_secs(85),
    // Sessions get new keys every 120 s, which breaks any longer silence.
    Duration::from_secs(110),
];

/// By how much the answer comes before the next hello, or after the silence that it is to prove.
const MARGIN: Duration = Duration::from_secs(1);

/// Failures after which a step is left alone: the first may have been a lost datagram.
const FAILURES: u32 = 2;

/// When a step that failed is tried again: NATs get new software, too.
const AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What one network has shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// The longest step that is known to work; the first is taken for granted, for nothing forgets sooner.
    step: usize,
    failures: u32,
    /// No longer step is tried before that.
    settled: Option<Instant>,
}

/// How long to be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Silence {
    /// Until then nothing is sent.
    pub(crate) hello: Duration,
    /// Then an answer is to come in.
    pub(crate) answer: Duration,
}

impl Lifetime {
    /// The next silence, of at most `most`.
    pub(crate) fn silence(&self, most: Duration, now: Instant) -> Silence {
        match self.trial(most, now) {
            Some(trial) => Silence { hello: trial + MARGIN * 2, answer: trial + MARGIN },
            None => self.safe(most),
        }
    }

    /// A silence, of at most `most`, that is known to leave mappings open.
    pub(crate) fn safe(&self, most: Duration) -> Silence {
        let hello = self.known(most);
        Silence { hello, answer: hello.saturating_sub(MARGIN) }
    }

    fn known(&self, most: Duration) -> Duration {
        STEPS.get(self.step).map_or(most, |step| *step.min(&most))
    }

    /// An answer came in after nothing had been sent to anybody for `quiet`. Shorter silences than the one that is tried tell nothing.
    pub(crate) fn lived(&mut self, quiet: Duration, most: Duration, now: Instant) {
        if self.trial(most, now).is_some_and(|trial| quiet >= trial) {
            (self.step, self.failures, self.settled) = (self.step + 1, 0, None);
        }
    }

    /// An answer that was due after `answer` did not come in, though who was to send it is there.
    pub(crate) fn lost(&mut self, answer: Duration, now: Instant) {
        if STEPS.get(self.step).is_none_or(|known| answer < *known) {
            self.step = self.step.saturating_sub(1);
            self.failures = 0;
            self.settled = Some(now + AGAIN);
            return;
        }
        self.failures += 1;
        if self.failures >= FAILURES {
            (self.failures, self.settled) = (0, Some(now + AGAIN));
        }
    }

    fn trial(&self, most: Duration, now: Instant) -> Option<Duration> {
        let is_settled = self.settled.is_some_and(|until| now < until);
        let next = STEPS.get(self.step + 1).filter(|_| !is_settled)?;
        Some((*next).min(most.saturating_sub(MARGIN * 2))).filter(|trial| *trial > self.known(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const MOST: Duration = Duration::from_secs(120);

    /// Cycles behind a NAT that remembers for `lifetime`: the longest silence in which nobody gets in, the time, and what was learnt.
    fn learn(lifetime: Duration, cycles: u32) -> (Duration, Instant, Lifetime) {
        let (mut now, mut learnt, mut worst) = (Instant::ORIGIN, Lifetime::default(), Duration::ZERO);
        for _ in 0..cycles {
            let silence = learnt.silence(MOST, now);
            assert!(silence.answer < silence.hello && silence.hello <= MOST);
            now = now + silence.hello;
            worst = worst.max(silence.hello.saturating_sub(lifetime));
            if silence.answer < lifetime {
                learnt.lived(silence.answer, MOST, now);
            } else {
                learnt.lost(silence.answer, now);
            }
        }
        (worst, now, learnt)
    }

    proptest! {
        #[test]
        fn the_silence_that_is_learnt_is_below_the_lifetime_and_no_step_below_the_best(millis in 16_000u64..400_000) {
            let lifetime = Duration::from_millis(millis);
            let (worst, now, learnt) = learn(lifetime, 30);
            let hello = learnt.silence(MOST, now).hello;
            prop_assert!(hello < lifetime, "{hello:?}");
            let best = STEPS.into_iter().rfind(|step| *step + MARGIN * 2 < lifetime).unwrap_or(STEPS[0]);
            prop_assert!(hello >= best, "{hello:?} of {best:?}");
            prop_assert!(worst <= Duration::from_secs(27), "{worst:?}");
        }
    }

    #[test]
    fn an_operator_can_only_shorten_it() {
        let now = Instant::ORIGIN;
        for most in [5, 20, 25, 60].map(Duration::from_secs) {
            let mut learnt = Lifetime::default();
            for _ in 0..20 {
                let silence = learnt.silence(most, now);
                assert!(silence.hello <= most && silence.answer < silence.hello, "{silence:?}");
                learnt.lived(silence.answer, most, now);
            }
            assert!(learnt.silence(most, now).hello >= most * 9 / 10);
        }
    }

    #[test]
    fn one_lost_datagram_at_a_longer_step_settles_nothing() {
        let (mut learnt, now) = (Lifetime::default(), Instant::ORIGIN);
        let before = learnt.silence(MOST, now);
        learnt.lost(before.answer, now);
        assert_eq!(learnt.silence(MOST, now), before);
        learnt.lost(before.answer, now);
        assert_eq!(learnt.silence(MOST, now).hello, STEPS[0]);
        assert_eq!(learnt.silence(MOST, now + AGAIN), before, "tried again a day later");
    }

    #[test]
    fn what_is_known_to_work_is_left_at_once_when_it_fails() {
        let (_, now, mut learnt) = learn(Duration::from_secs(62), 30);
        let before = learnt.silence(MOST, now);
        assert_eq!(before.hello, Duration::from_secs(55));
        learnt.lost(before.answer, now);
        assert_eq!(learnt.silence(MOST, now).hello, Duration::from_secs(45));
    }
}
