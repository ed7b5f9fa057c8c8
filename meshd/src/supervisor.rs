//! What systemd is told (sd_notify(3)): ready, reloading, stopping, how many peers are connected, and that the driver lives.
//!
//! Without `NOTIFY_SOCKET` nothing is sent, and without `WATCHDOG_USEC` nothing wakes up for it.

use std::future::pending;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Says that the node runs; to be called once the driver does, and after each reload.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Says that the configuration is read anew. [`ready`] must follow, also where the old one stays in use.
pub(crate) fn reloading() {
    // With the time: systemd from version 253 on tells by it whether this answers its signal.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "no monotonic clock"),
    }
}

/// Says that the machine is being put back.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Begins the watch that systemd asked for (`WatchdogSec=`); must be called within the runtime.
pub(crate) fn watchdog() -> Watchdog {
    Watchdog { ticks: sd_notify::watchdog_enabled().and_then(ticks), said: None }
}

/// Tells systemd that the driver's loop turns: whoever owns this pings when [`Watchdog::due`] returns, and a driver that hangs
/// does not.
pub(crate) struct Watchdog {
    /// `None` where nobody watches.
    ticks: Option<Interval>,
    /// The status that systemd shows.
    said: Option<Doing>,
}

/// What the daemon does, for the status that systemd shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// The node runs: so many peers are connected, of so many.
    Running((usize, usize)),
    /// This machine is not selected to run the node.
    Resting,
    /// The node could not start, and is tried again.
    Waiting,
}

impl Watchdog {
    /// Waits until the next ping is due, the first one at once; for good where nobody watches. Safe to cancel.
    pub(crate) async fn due(&mut self) {
        match &mut self.ticks {
            Some(ticks) => drop(ticks.tick().await),
            None => pending().await,
        }
    }

    /// Pings, and says what the daemon does where that has changed.
    pub(crate) fn ping(&mut self, doing: Doing) {
        if self.said.replace(doing) == Some(doing) {
            return tell(&[NotifyState::Watchdog]);
        }
        let status = match doing {
            Doing::Running((connected, all)) => format!("{connected} of {all} peers connected"),
            Doing::Resting => "not selected: nothing runs".to_owned(),
            Doing::Waiting => "the node cannot start: `meshd status` says why".to_owned(),
        };
        tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

/// A third of the time that systemd waits: one late ping does no harm. A span of zero switches the watch off.
fn ticks(patience: Duration) -> Option<Interval> {
    let period = Some(patience / 3).filter(|period| !period.is_zero())?;
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(ticks)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
