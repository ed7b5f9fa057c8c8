//! What the network does to a datagram: lose it, delay it, let others overtake it, deliver it twice.

use std::time::Duration;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng as _;

/// Behaviour of every link of a world.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Datagrams lost, per thousand.
    pub loss: u32,
    /// Least time on the way.
    pub delay: Duration,
    /// Added at random, up to this; more than the gap between two datagrams lets the second overtake.
    pub jitter: Duration,
    /// Datagrams delivered twice, per thousand.
    pub duplication: u32,
}

impl Link {
    /// One millisecond, nothing lost.
    pub const GOOD: Self = Self { loss: 0, delay: Duration::from_millis(1), jitter: Duration::ZERO, duplication: 0 };

    /// A crowded radio cell: 10 % loss, 40 to 100 ms, reordering, duplicates.
    pub const RADIO: Self =
        Self { loss: 100, delay: Duration::from_millis(40), jitter: Duration::from_millis(60), duplication: 20 };

    /// When copies of one datagram arrive, after now: none, one or two.
    pub(crate) fn fates(&self, rng: &mut ChaCha20Rng) -> [Option<Duration>; 2] {
        let lost = rng.next_u32() % 1000 < self.loss;
        let twice = rng.next_u32() % 1000 < self.duplication;
        let jitter = self.jitter.as_nanos() as u64;
        let mut way = || self.delay + Duration::from_nanos(rng.next_u64() % (jitter + 1));
        let (first, second) = (way(), way());
        [(!lost).then_some(first), (!lost && twice).then_some(second)]
    }
}
