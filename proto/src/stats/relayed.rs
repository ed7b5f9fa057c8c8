//! How much of what was sent to a peer went through relays: told from its counters when the data changes its way, so that packets
//! cost nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Activity;

/// What went through relays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Inner packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Written by the core, read by anyone.
#[derive(Debug)]
pub(super) struct Counter {
    packets: Part,
    bytes: Part,
}

/// Of one counter: what went through relays until the data changed its way last, and what the counter showed then.
#[derive(Debug)]
struct Part {
    settled: AtomicU64,
    from: AtomicU64,
}

/// In the place of what the counter showed: the data goes through no relay.
const STRAIGHT: u64 = u64::MAX;

impl Default for Counter {
    fn default() -> Self {
        let part = || Part { settled: AtomicU64::new(0), from: AtomicU64::new(STRAIGHT) };
        Self { packets: part(), bytes: part() }
    }
}

impl Part {
    fn turn(&self, is_relayed: bool, count: u64) {
        self.settled.store(self.sum(count), Ordering::Relaxed);
        self.from.store(if is_relayed { count } else { STRAIGHT }, Ordering::Relaxed);
    }

    fn sum(&self, count: u64) -> u64 {
        let from = self.from.load(Ordering::Relaxed);
        let since = if from == STRAIGHT { 0 } else { count.saturating_sub(from) };
        self.settled.load(Ordering::Relaxed).saturating_add(since)
    }
}

impl Activity {
    /// From now on data goes through a relay, or through none. What workers send by the table before counts as the rest does.
    pub(crate) fn turn(&self, is_relayed: bool) {
        self.relayed.packets.turn(is_relayed, self.tx_packets.load(Ordering::Relaxed));
        self.relayed.bytes.turn(is_relayed, self.tx_bytes.load(Ordering::Relaxed));
    }

    /// How much of what was sent went through relays. Not to be asked while the core works: the two would be of different moments.
    #[must_use]
    pub fn relayed(&self) -> Relayed {
        let sum = |part: &Part, count: &AtomicU64| part.sum(count.load(Ordering::Relaxed));
        Relayed {
            packets: sum(&self.relayed.packets, &self.tx_packets),
            bytes: sum(&self.relayed.bytes, &self.tx_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn what_was_sent_while_the_data_went_through_a_relay_is_relayed() {
        let (activity, now) = (Activity::default(), Instant::ORIGIN);
        let relayed = |packets, bytes| Relayed { packets, bytes };
        activity.sent(1, 100, now);
        assert_eq!(activity.relayed(), relayed(0, 0));
        activity.turn(true);
        activity.sent(2, 200, now);
        assert_eq!(activity.relayed(), relayed(2, 200));
        activity.turn(true);
        activity.sent(1, 50, now);
        activity.turn(false);
        activity.sent(9, 900, now);
        assert_eq!(activity.relayed(), relayed(3, 250));
        activity.turn(true);
        activity.sent(1, 1, now);
        assert_eq!(activity.relayed(), relayed(4, 251));
    }
}
