//! What the daemon is told by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that it listens to. From the moment that this exists none of them ends the process by itself.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// To stop, by the signal of this name.
    Stop(&'static str),
    /// To load the configuration anew.
    Reload,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// Those of `sigaction(2)` and of the pipe behind it.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next order. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Order::Stop("SIGINT"),
            _ = self.hangup.recv() => Order::Reload,
        }
    }
}
