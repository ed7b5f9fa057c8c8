//! The kernel's notices of changes in folders (inotify(7)).

use std::io;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};
use tokio::io::unix::AsyncFd;

/// A queue of notices.
pub(crate) struct Notices(AsyncFd<Queue>);

struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Notices {
    /// An empty queue; must be called within the runtime.
    ///
    /// # Errors
    /// When the user has too many of them, or the process has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let queue = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the descriptor is the queue's own, which the AsyncFd owns and nothing else closes or replaces.
        Ok(Self(unsafe { AsyncFd::register(Queue(queue)) }.map_err(io::Error::from)?))
    }

    /// Adds a folder, of which these changes are told from now on.
    ///
    /// # Errors
    /// Those of `inotify_add_watch(2)`: no such folder, no permission to read it, too many.
    pub(crate) fn add(&self, folder: &Path, changes: AddWatchFlags) -> io::Result<()> {
        self.0.get_ref().0.add_watch(folder, changes)?;
        Ok(())
    }

    /// Waits for the next notices. Safe to cancel.
    ///
    /// # Errors
    /// When the queue fails, so that nothing will be told any more.
    pub(crate) async fn next(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.read_events() {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                read => return Ok(read?),
            }
        }
    }
}
