//! How much a spray may cost, and what came of one.
//!
//! Where a NAT gives every destination a port at random, nobody can foretell one. But if its node opens [`SPRAY_SOCKETS`] mappings
//! towards a peer that keeps its own port, and that probes [`SPRAY_PROBES`] of the 64,512 ports, then one of the probes
//! meets one of the mappings with a chance of `1 - (1 - 256 / 64512)^1024`, some 98 %.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

use crate::time::Instant;

/// Sockets that one spray opens.
pub const SPRAY_SOCKETS: usize = 256;

/// Probes that a node sends to guessed ports in an hour, for all its peers together: an IP address that is not the peer's gets no
/// more than this, whoever asks for it.
pub const SPRAY_PROBES: usize = 1024;

/// Fewer are not worth the mappings that the other side opens: they meet one with a chance of 63 %.
const LEAST: usize = 256;

const HOUR: Duration = Duration::from_secs(3600);

/// How long a peer is left alone after a spray. NATs change when sites do.
pub(crate) const SPRAY_PAUSE: Duration = HOUR;

/// How long a peer that has not accepted an offer gets no other.
pub(crate) const OFFER_PAUSE: Duration = Duration::from_secs(60);

/// Probes that go out together, every [`PACE`]: 150 a second.
pub(crate) const VOLLEY: usize = 15;

/// From one volley to the next.
pub(crate) const PACE: Duration = Duration::from_millis(100);

/// How long answers are waited for after the last probe: a round trip through a slow network, and confirming the path.
pub(crate) const WAIT: Duration = Duration::from_secs(3);

/// Ports that NATs give out begin here.
const FIRST_PORT: u16 = 1024;

/// What a node does in a spray.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpraySide {
    /// It opens sockets, for its NAT's ports are random.
    Opens,
    /// It probes ports, for its own is known.
    Probes,
}

impl SpraySide {
    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opens => "opens",
            Self::Probes => "probes",
        }
    }
}

/// How a spray ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SprayEnd {
    /// A direct path was found meanwhile.
    Met,
    /// All was spent in vain.
    Missed,
    /// The session ended before.
    Broken,
}

impl SprayEnd {
    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::Broken => "broken off",
        }
    }
}

/// One spray, as status output shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SprayStatus {
    /// What this node does in it.
    pub side: SpraySide,
    /// When it began.
    pub at: Instant,
    /// Sockets opened, or probes sent, so far.
    pub count: usize,
    /// The most of them.
    pub budget: usize,
    /// How it ended; `None`: it goes on.
    pub end: Option<SprayEnd>,
}

/// What is left of the probes of an hour.
#[derive(Debug, Default)]
pub(crate) struct SprayAllowance {
    /// What was spent, and when; a volley each, so some seventy at most.
    spent: Vec<(Instant, usize)>,
}

impl SprayAllowance {
    /// How many probes a spray may send now; `None` where too few are left.
    pub(crate) fn left(&mut self, now: Instant) -> Option<usize> {
        self.spent.retain(|(at, _)| now - *at < HOUR);
        let spent: usize = self.spent.iter().map(|(_, count)| count).sum();
        SPRAY_PROBES.checked_sub(spent).filter(|left| *left >= LEAST)
    }

    /// Counts probes that were sent.
    pub(crate) fn spend(&mut self, count: usize, now: Instant) {
        if count > 0 {
            self.spent.push((now, count));
        }
    }
}

/// So many ports that a NAT may give out, in an order that nobody foresees, each once.
pub(crate) fn ports(count: usize, rng: &mut ChaCha20Rng) -> Vec<u16> {
    let mut all: Vec<u16> = (FIRST_PORT..=u16::MAX).collect();
    let count = count.min(all.len());
    // The first steps of a Fisher-Yates shuffle; the bias of the remainder is one in a million.
    for index in 0..count {
        let rest = u32::try_from(all.len() - index).unwrap_or(1);
        all.swap(index, index + (rng.next_u32() % rest) as usize);
    }
    all.truncate(count);
    all.shrink_to_fit();
    all
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng as _;

    use super::*;

    #[test]
    fn no_port_is_tried_twice_and_none_that_nats_do_not_give_out() {
        for seed in 0..20 {
            let mut all = ports(SPRAY_PROBES, &mut ChaCha20Rng::seed_from_u64(seed));
            all.sort_unstable();
            all.dedup();
            assert!(all.len() == SPRAY_PROBES && all[0] >= FIRST_PORT);
        }
    }

    #[test]
    fn a_spray_meets_a_random_nat_nineteen_times_in_twenty() {
        let met = |seed| {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let mappings = ports(SPRAY_SOCKETS, &mut rng);
            ports(SPRAY_PROBES, &mut rng).iter().any(|port| mappings.contains(port))
        };
        assert!((0..200).filter(|seed| met(*seed)).count() >= 190);
    }

    #[test]
    fn an_hour_has_so_many_probes_whatever_they_were_spent_on() {
        let start = Instant::from_nanos(1_000_000_000_000);
        let mut allowance = SprayAllowance::default();
        assert_eq!(allowance.left(start), Some(SPRAY_PROBES));
        allowance.spend(300, start);
        allowance.spend(400, start + HOUR / 2);
        assert_eq!(allowance.left(start + HOUR / 2), Some(SPRAY_PROBES - 700));
        allowance.spend(100, start + HOUR / 2);
        assert_eq!(allowance.left(start + HOUR / 2), None, "too few to be worth it");
        assert_eq!(allowance.left(start + HOUR), Some(SPRAY_PROBES - 500));
    }
}
