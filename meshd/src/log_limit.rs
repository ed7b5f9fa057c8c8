//! Keeps lines of the log that others can cause from filling it: one for each key and span, with the number of those that it
//! stands for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Keys that are remembered at a time. Whoever makes up more of them gets no more lines than that.
const MAX_KEYS: usize = 64;

/// Between two lines of one key.
const SPAN: Duration = Duration::from_secs(1);

/// Says which lines are written, by a key such as a peer and a reason.
pub(crate) struct LogLimit<K> {
    keys: BTreeMap<K, Line>,
    /// Lines left out whose key had no place.
    homeless: u64,
}

struct Line {
    written: Instant,
    left_out: u64,
}

impl<K: Ord> LogLimit<K> {
    /// Nothing has been written.
    pub(crate) const fn new() -> Self {
        Self { keys: BTreeMap::new(), homeless: 0 }
    }

    /// Whether a line is to be written: if so, how many were left out since the one before.
    pub(crate) fn pass(&mut self, key: K) -> Option<u64> {
        self.pass_at(key, Instant::now())
    }

    fn pass_at(&mut self, key: K, now: Instant) -> Option<u64> {
        if let Some(line) = self.keys.get_mut(&key) {
            if now.duration_since(line.written) < SPAN {
                line.left_out += 1;
                return None;
            }
            line.written = now;
            return Some(std::mem::take(&mut line.left_out));
        }
        if self.keys.len() >= MAX_KEYS {
            self.forget(now);
        }
        if self.keys.len() >= MAX_KEYS {
            self.homeless += 1;
            return None;
        }
        self.keys.insert(key, Line { written: now, left_out: 0 });
        Some(std::mem::take(&mut self.homeless))
    }

    /// Makes room: what was left out under old keys is told with the next new one.
    fn forget(&mut self, now: Instant) {
        let homeless = &mut self.homeless;
        self.keys.retain(|_, line| {
            let is_young = now.duration_since(line.written) < SPAN;
            *homeless += if is_young { 0 } else { line.left_out };
            is_young
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_line_a_second_that_tells_how_many_it_stands_for() {
        let (mut limit, start) = (LogLimit::new(), Instant::now());
        let written = |limit: &mut LogLimit<_>, from: u64| -> Vec<u64> {
            (0..100).filter_map(|n| limit.pass_at("key", start + Duration::from_millis(from + n * 10))).collect()
        };
        assert_eq!(written(&mut limit, 0), [0]);
        assert_eq!(written(&mut limit, 1_000), [99]);
        assert_eq!(limit.pass_at("other", start + Duration::from_millis(1_500)), Some(0));
    }

    #[test]
    fn made_up_keys_get_no_more_lines_than_are_remembered_and_none_is_uncounted() {
        let (mut limit, start) = (LogLimit::new(), Instant::now());
        let written: u64 = (0..1_000u32).filter_map(|key| limit.pass_at(key, start)).map(|left_out| left_out + 1).sum();
        assert_eq!(written, MAX_KEYS as u64);
        let later = start + SPAN;
        assert_eq!(limit.pass_at(7_000, later), Some(1_000 - MAX_KEYS as u64));
    }
}
