//! Time as the core sees it: a point on a monotonic clock that only the shell (or the simulator) can read.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point in monotonic time: nanoseconds since an origin that the shell chose.
///
/// The core compares and adds; it never reads a clock. Two instants of different origins must not be mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ORIGIN: Self = Self(0);

    /// An instant `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time so many milliseconds after the origin, as activity stamps tell it.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Milliseconds since the origin, truncated; the resolution of activity stamps.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The time from `earlier` to `self`, or zero where `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Rounds up to a multiple of `grid` so that timers of many peers share one wake-up.
    #[must_use]
    pub fn round_up(self, grid: Duration) -> Self {
        let grid = nanos(grid).max(1);
        Self(self.0.div_ceil(grid).saturating_mul(grid))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_to_the_grid_and_leaves_grid_points_alone() {
        let grid = Duration::from_millis(10);
        assert_eq!(Instant::from_nanos(1).round_up(grid), Instant::from_nanos(10_000_000));
        assert_eq!(Instant::from_nanos(10_000_000).round_up(grid), Instant::from_nanos(10_000_000));
    }

    #[test]
    fn a_later_instant_lies_zero_before_an_earlier_one() {
        assert_eq!(Instant::from_nanos(1) - Instant::from_nanos(2), Duration::ZERO);
    }
}
