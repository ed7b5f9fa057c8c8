//! A wait for the wall clock to be set. That the machine goes on after a sleep counts as such (timerfd_create(2),
//! `TFD_TIMER_CANCEL_ON_SET`).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

/// A point in wall time that is far away: the timer is there to be cancelled.
const FAR: Duration = Duration::from_secs(i32::MAX as u64 * 2);

/// Tells when the wall clock was set.
pub(crate) struct WallWatch(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl WallWatch {
    /// Watches from now on; must be called within the runtime.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the descriptor is the timer's own, which the AsyncFd owns and nothing else closes or replaces.
        let wall = Self(unsafe { AsyncFd::register(Timer(timer)) }.map_err(io::Error::from)?);
        wall.arm()?;
        Ok(wall)
    }

    /// Waits until the clock was set. Safe to cancel.
    ///
    /// # Errors
    /// When the timer fails, so that nothing will be told any more.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            match nix::unistd::read(&self.0.get_ref().0, &mut [0; 8]) {
                Err(Errno::ECANCELED) => return self.arm(),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
                // That far is now.
                Ok(_) => self.arm()?,
            }
        }
    }

    fn arm(&self) -> io::Result<()> {
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        Ok(self.0.get_ref().0.set(Expiration::OneShot(TimeSpec::from_duration(FAR)), flags)?)
    }
}
