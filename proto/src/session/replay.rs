//! The anti-replay window of one lane: a bitmap that slides in blocks (RFC 6479 §2).

/// Counters behind the newest that are still told apart. Two lanes' bursts of 64 segments, reordered, need about 128;
/// a long fat path with a multi-queue NIC more.
pub const WINDOW: u64 = 2048;

/// One block more than the window, so that sliding clears whole words only.
const WORDS: usize = WINDOW as usize / 64 + 1;

/// Which counters of a lane were seen.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One more than the newest counter seen; zero: none yet.
    end: u64,
    bits: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { end: 0, bits: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// The newest counter seen.
    #[must_use]
    pub const fn newest(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    /// Whether `counter` is inside or ahead of the window and was not seen.
    #[inline]
    #[must_use]
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.end {
            return true;
        }
        if self.end - counter > WINDOW {
            return false;
        }
        let (word, bit) = position(counter);
        self.bits.get(word).is_some_and(|bits| bits & bit == 0)
    }

    /// Records `counter`, which [`is_new`](Self::is_new) and authentic.
    #[inline]
    pub fn mark(&mut self, counter: u64) {
        if counter >= self.end {
            // `end / 64` is the word of the next counter to come; everything between it and the new one is unseen.
            let first_stale = self.end.div_ceil(64);
            let blocks = (counter / 64 + 1).saturating_sub(first_stale).min(WORDS as u64);
            for block in 0..blocks {
                let (word, _) = position((first_stale + block) * 64);
                if let Some(bits) = self.bits.get_mut(word) {
                    *bits = 0;
                }
            }
            self.end = counter + 1;
        }
        let (word, bit) = position(counter);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
    }
}

#[inline]
const fn position(counter: u64) -> (usize, u64) {
    ((counter / 64) as usize % WORDS, 1 << (counter % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn accept(window: &mut ReplayWindow, counter: u64) -> bool {
        let new = window.is_new(counter);
        if new {
            window.mark(counter);
        }
        new
    }

    #[test]
    fn a_counter_passes_once_and_an_old_one_never() {
        let mut window = ReplayWindow::default();
        assert!(accept(&mut window, 0) && !accept(&mut window, 0));
        assert!(accept(&mut window, WINDOW));
        assert!(!accept(&mut window, 0), "outside");
        assert!(accept(&mut window, 1), "the oldest inside");
        assert!(accept(&mut window, u64::MAX >> 8));
        assert!(!accept(&mut window, WINDOW));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_that_remembers_everything(
            steps in proptest::collection::vec((0u64..400, prop_oneof![Just(0u64), 0u64..70, 0u64..5000]), 1..400)
        ) {
            let (mut window, mut seen, mut top) = (ReplayWindow::default(), BTreeSet::new(), 3000u64);
            for (back, forward) in steps {
                top += forward;
                let counter = top.saturating_sub(back * 8);
                let newest: Option<u64> = seen.last().copied();
                let inside = newest.is_none_or(|newest| counter > newest || newest - counter < WINDOW);
                let expected = inside && seen.insert(counter);
                prop_assert_eq!(accept(&mut window, counter), expected, "counter {}", counter);
            }
        }
    }
}
