//! Tells when the machine has slept or the daemon has been stopped for a while: what it knows of the network may be old.
//!
//! Three things tell: SIGCONT after a SIGSTOP; the kernel, which counts the end of a sleep as a setting of the wall clock; and a timer
//! that fires much too late, which is all that a frozen container or a paused virtual machine sees. Nothing is polled.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::sys::wall::WallWatch;

/// A timer that fires so late was held up by more than a busy machine.
pub(crate) const MUCH_TOO_LATE: Duration = Duration::from_secs(3);

/// What is told when the process goes on.
pub(crate) struct Resume {
    continued: Signal,
    /// `None` after a failure.
    wall: Option<WallWatch>,
}

impl Resume {
    /// Watches from now on; must be called within the runtime.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { continued: signal(SignalKind::from_raw(libc::SIGCONT))?, wall: Some(WallWatch::new()?) })
    }

    /// Waits until the process goes on after it was stopped, or the machine after it slept. A wall clock that somebody sets counts too.
    /// Safe to cancel.
    pub(crate) async fn wait(&mut self) {
        let wall = async {
            match &self.wall {
                Some(wall) => wall.changed().await,
                None => std::future::pending().await,
            }
        };
        let result = tokio::select! {
            _ = self.continued.recv() => Ok(()),
            result = wall => result,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the end of the machine's sleep is not seen any more");
            self.wall = None;
        }
    }
}
