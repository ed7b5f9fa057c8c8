//! The one clock that the core and the workers are shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use proto::time::Instant;

/// Time since the daemon's start, that which the machine slept included: sessions and mappings age meanwhile. Copies agree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
}

/// What the clock shows at the start: not zero, for a stamp of zero means never.
const FIRST: Duration = Duration::from_secs(1);

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: since_boot() }
    }

    /// What it showed at the start.
    pub(crate) fn started(self) -> Instant {
        Instant::ORIGIN + FIRST
    }

    pub(crate) fn now(self) -> Instant {
        Instant::ORIGIN + FIRST + self.elapsed()
    }

    /// The runtime's time for an instant of this clock, if the machine does not sleep before.
    pub(crate) fn at(self, instant: Instant) -> tokio::time::Instant {
        tokio::time::Instant::now() + (instant - self.now())
    }

    /// Wall time at the origin of the core's time, in nanoseconds since 1970.
    pub(crate) fn unix_at_origin(self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let origin = wall.saturating_sub(self.elapsed() + FIRST);
        u64::try_from(origin.as_nanos()).unwrap_or(u64::MAX)
    }

    fn elapsed(self) -> Duration {
        since_boot().saturating_sub(self.start)
    }
}

/// The clock that goes on while the machine sleeps. It is read without a system call, as the monotonic one is, and a kernel that has it
/// cannot refuse it.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
