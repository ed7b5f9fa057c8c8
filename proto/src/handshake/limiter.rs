//! How many initiations a responder works on: a token bucket per source, and a measure of load that turns cookies on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::bucket::{Buckets, Rate};
use crate::time::Instant;

/// Initiations per second and source (IPv4 /32, IPv6 /64) once cookies are wanted; WireGuard's numbers.
const RATE: Rate = Rate { per_second: 20, burst: 5 };

/// Initiations per second, from everybody, above which a sender must prove its address. Each costs about 0.15 ms of
/// scalar multiplication, so this is 3 % of a core.
const LOAD: u32 = 200;

/// How long load is felt after it was seen, so that a burst does not flap between the two modes.
const LOAD_MEMORY: Duration = Duration::from_secs(1);

/// What to do with an initiation whose mac1 is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Work on it.
    Accept,
    /// Answer with a cookie instead.
    DemandCookie,
    /// Drop it: this source has had its share.
    Refuse,
}

/// The limiter's state.
pub struct Limiter {
    sources: Buckets,
    window: Instant,
    seen: u32,
    loaded_until: Instant,
}

impl Limiter {
    /// Starts with full buckets. `seed` is 32 random bytes.
    #[must_use]
    pub fn new(seed: [u8; 32], now: Instant) -> Self {
        Self { sources: Buckets::new(RATE, seed, now), window: now, seen: 0, loaded_until: now }
    }

    /// Whether senders must prove their address now.
    #[must_use]
    pub fn is_loaded(&self, now: Instant) -> bool {
        now < self.loaded_until
    }

    /// Counts an initiation from `source` and decides. `has_cookie` tells whether its mac2 is right; it is asked only
    /// under load.
    pub fn check(&mut self, source: SocketAddr, now: Instant, has_cookie: impl FnOnce() -> bool) -> Verdict {
        if now - self.window >= Duration::from_secs(1) {
            (self.window, self.seen) = (now, 0);
        }
        self.seen = self.seen.saturating_add(1);
        if self.seen > LOAD {
            self.loaded_until = now + LOAD_MEMORY;
        }
        if !self.is_loaded(now) {
            return Verdict::Accept;
        }
        if !has_cookie() {
            return Verdict::DemandCookie;
        }
        if self.take(source.ip(), now) { Verdict::Accept } else { Verdict::Refuse }
    }

    fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        let prefix = match source {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits().to_be_bytes().first_chunk().map_or(0, |half| u64::from_be_bytes(*half)),
        };
        self.sources.take(&prefix.to_be_bytes(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 1))
    }

    fn loaded() -> (Limiter, Instant) {
        let now = Instant::from_nanos(5);
        let mut limiter = Limiter::new([1; 32], now);
        for _ in 0..LOAD {
            assert_eq!(limiter.check(source(9), now, || false), Verdict::Accept);
        }
        assert_eq!(limiter.check(source(9), now, || false), Verdict::DemandCookie);
        (limiter, now)
    }

    #[test]
    fn few_initiations_are_accepted_without_a_cookie() {
        let mut limiter = Limiter::new([1; 32], Instant::ORIGIN);
        let accepted = (0..LOAD).all(|_| limiter.check(source(1), Instant::ORIGIN, || false) == Verdict::Accept);
        assert!(accepted && !limiter.is_loaded(Instant::ORIGIN));
    }

    #[test]
    fn under_load_a_source_gets_its_burst_and_then_its_rate() {
        let (mut limiter, now) = loaded();
        let burst = (0..100).filter(|_| limiter.check(source(1), now, || true) == Verdict::Accept).count();
        assert_eq!(burst as u32, RATE.burst);
        assert_eq!(limiter.check(source(1), now, || true), Verdict::Refuse);
        let later = now + Duration::from_millis(1000 / u64::from(RATE.per_second));
        assert_eq!(limiter.check(source(1), later, || true), Verdict::Accept);
        assert_eq!(limiter.check(source(1), later, || true), Verdict::Refuse);
    }

    #[test]
    fn one_source_does_not_use_up_another_ones_share() {
        let (mut limiter, now) = loaded();
        while limiter.check(source(1), now, || true) == Verdict::Accept {}
        assert_eq!(limiter.check(source(2), now, || true), Verdict::Accept);
    }

    #[test]
    fn load_is_forgotten_after_its_memory() {
        let (mut limiter, now) = loaded();
        let later = now + LOAD_MEMORY + Duration::from_millis(1);
        assert_eq!(limiter.check(source(3), later, || false), Verdict::Accept);
    }
}
