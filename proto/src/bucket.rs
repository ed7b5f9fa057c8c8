//! Token buckets: how much work a source, or everybody together, may cause in a second.

use ring::hmac;

use crate::handshake::mac;
use crate::time::Instant;

/// Sources are hashed into this many buckets under a secret: memory is bounded, and who shares a bucket cannot be chosen.
const BUCKETS: usize = 1024;

/// So many in a second, and so many at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

impl Rate {
    /// Nanoseconds of credit that one takes.
    fn cost(self) -> u64 {
        1_000_000_000 / u64::from(self.per_second.max(1))
    }

    fn full(self) -> u64 {
        self.cost() * u64::from(self.burst)
    }
}

/// One bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Nanoseconds.
    credit: u64,
    at: Instant,
}

impl Bucket {
    /// Starts full.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        Self { credit: rate.full(), at: now }
    }

    /// Takes one; false where there is none.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let earned = u64::try_from(now.saturating_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.credit = self.credit.saturating_add(earned).min(rate.full());
        self.at = now;
        let left = self.credit.checked_sub(rate.cost());
        self.credit = left.unwrap_or(self.credit);
        left.is_some()
    }
}

/// A bucket for each source.
pub(crate) struct Buckets {
    secret: hmac::Key,
    rate: Rate,
    buckets: Box<[Bucket]>,
}

impl Buckets {
    /// Starts with full buckets. `seed` is 32 random bytes.
    pub(crate) fn new(rate: Rate, seed: [u8; 32], now: Instant) -> Self {
        let buckets = vec![Bucket::new(rate, now); BUCKETS].into_boxed_slice();
        Self { secret: hmac::Key::new(hmac::HMAC_SHA256, &seed), rate, buckets }
    }

    /// Takes one of what `source` has; false where there is none.
    pub(crate) fn take(&mut self, source: &[u8], now: Instant) -> bool {
        let digest = mac(&self.secret, source);
        let slot = usize::from(u16::from_le_bytes([digest[0], digest[1]])) % BUCKETS;
        self.buckets.get_mut(slot).is_some_and(|bucket| bucket.take(self.rate, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const RATE: Rate = Rate { per_second: 20, burst: 5 };

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let now = Instant::from_nanos(5);
        let mut buckets = Buckets::new(RATE, [1; 32], now);
        assert_eq!((0..100).filter(|_| buckets.take(b"one", now)).count(), 5);
        let later = now + Duration::from_millis(50);
        assert!(buckets.take(b"one", later) && !buckets.take(b"one", later));
        assert!(buckets.take(b"two", now), "another source");
        assert_eq!((0..100).filter(|_| buckets.take(b"one", now + Duration::from_secs(3600))).count(), 5);
    }

    #[test]
    fn a_clock_that_stands_still_gives_nothing() {
        let mut bucket = Bucket::new(RATE, Instant::ORIGIN);
        assert_eq!((0..100).filter(|_| bucket.take(RATE, Instant::ORIGIN)).count(), 5);
    }
}
