//! Keeps what one peer does again and again from filling the log and the events: some at once is told, then one a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::id::EndpointName;
use proto::time::Instant;

/// Told at once of one peer: a bad link may make and lose a session so often while somebody looks on.
const BURST: u32 = 16;

/// After these, one in so long: a peer that goes on for a day has its share of the newest events, not all of them.
const AGAIN: Duration = Duration::from_secs(60);

/// What was told of each peer that did something. Members and guests are known beforehand, so there are no more than these.
#[derive(Default)]
pub(super) struct OftenByPeer(BTreeMap<EndpointName, Allowance>);

struct Allowance {
    /// When all of [`BURST`] may be told again.
    whole_at: Instant,
    left_out: u64,
}

impl OftenByPeer {
    /// Whether what a peer did is to be told: if so, how many were left out since what was told last.
    pub(super) fn pass(&mut self, peer: &EndpointName, now: Instant) -> Option<u64> {
        let allowance = self.0.entry(peer.clone()).or_insert(Allowance { whole_at: now, left_out: 0 });
        let whole_at = allowance.whole_at.max(now);
        if whole_at - now > AGAIN * (BURST - 1) {
            allowance.left_out += 1;
            return None;
        }
        allowance.whole_at = whole_at + AGAIN;
        Some(std::mem::take(&mut allowance.left_out))
    }

    /// Forgets all but those that are to be kept.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&EndpointName) -> bool) {
        self.0.retain(|name, _| is_kept(name));
    }
}

/// What is to be added to a text that stands for others too.
pub(super) fn others(left_out: u64) -> String {
    match left_out {
        0 => String::new(),
        count => format!("; {count} more before this were not told"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_some_at_once_and_one_a_minute_and_the_others_theirs() {
        let name = |text: &str| text.parse::<EndpointName>().unwrap();
        let (mut often, one, two) = (OftenByPeer::default(), name("a.one"), name("a.two"));
        let at = |seconds| Instant::ORIGIN + Duration::from_secs(seconds);
        let told = (0..1_000).filter_map(|_| often.pass(&one, at(1))).count();
        assert_eq!(told, 16);
        assert_eq!(often.pass(&two, at(1)), Some(0));
        let hour: Vec<u64> = (2..=3_601).filter_map(|seconds| often.pass(&one, at(seconds))).collect();
        assert_eq!((hour.len(), hour[0]), (60, 984 + 59));
        let rested = at(3_601 + 16 * 60);
        assert_eq!((0..100).filter_map(|_| often.pass(&one, rested)).count(), 16);
        often.keep(|name| *name != one);
        assert_eq!(often.pass(&one, rested), Some(0));
    }
}
