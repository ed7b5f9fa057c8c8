//! The one clock that the core and the workers are shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::time::Instant;

/// Time since the daemon's start. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

/// What the clock shows at the start: not zero, for a stamp of zero means never.
const FIRST: Duration = Duration::from_secs(1);

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    pub(crate) fn now(self) -> Instant {
        Instant::ORIGIN + FIRST + self.start.elapsed()
    }

    /// The system's time for an instant of this clock.
    pub(crate) fn at(self, instant: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.start + (instant - (Instant::ORIGIN + FIRST)))
    }

    /// Wall time at the origin of the core's time, in nanoseconds since 1970.
    pub(crate) fn unix_at_origin(self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = wall.saturating_sub(self.start.elapsed() + FIRST);
        u64::try_from(origin.as_nanos()).unwrap_or(u64::MAX)
    }
}
