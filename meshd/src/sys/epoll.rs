//! Waiting for descriptors (`epoll(7)`), and waking a thread that waits (`eventfd(2)`).

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// What to be told of a descriptor. Errors are always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interest {
    /// That there is something to read.
    Read,
    /// That there is room to write.
    Write,
    /// Both.
    ReadWrite,
    /// Errors only.
    Errors,
}

/// A level-triggered epoll set.
///
/// A descriptor leaves the set when its last duplicate is closed.
#[derive(Debug)]
pub(crate) struct Epoll(OwnedFd);

impl Epoll {
    /// Makes an empty set.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        own(fd).map(Self)
    }

    /// Adds `fd`; its events will carry `token`.
    ///
    /// # Errors
    /// `EEXIST` where it is in the set already, `EPERM` where it cannot be waited for.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Changes what to be told of `fd`.
    ///
    /// # Errors
    /// `ENOENT` where it is not in the set.
    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Takes `fd` out of the set.
    ///
    /// # Errors
    /// `ENOENT` where it is not in the set.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::Errors)
    }

    /// Waits until a descriptor is ready or `timeout` is over (`None`: for ever), and returns how many are ready.
    ///
    /// A timeout is rounded up to milliseconds. A signal ends the wait early, with zero events.
    ///
    /// # Errors
    /// None that a correct program meets.
    pub(crate) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map_or(-1, |t| c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX));
        let room = c_int::try_from(events.slots.len()).unwrap_or(c_int::MAX);
        events.ready = 0;
        // SAFETY: `slots` is writable memory for `room` events for the whole call.
        let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.slots.as_mut_ptr(), room, timeout) };
        match usize::try_from(ready) {
            Ok(ready) => events.ready = ready,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        Ok(events.ready)
    }

    fn control(&self, operation: c_int, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: both descriptors are open, and `event` is a valid event for the whole call.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd.as_raw_fd(), &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Interest {
    const fn bits(self) -> u32 {
        // The constants are small positive numbers.
        match self {
            Self::Read => libc::EPOLLIN as u32,
            Self::Write => libc::EPOLLOUT as u32,
            Self::ReadWrite => (libc::EPOLLIN | libc::EPOLLOUT) as u32,
            Self::Errors => 0,
        }
    }
}

/// Room for the events of one wait. What does not fit is told by the next wait.
pub(crate) struct Events {
    slots: [libc::epoll_event; 16],
    ready: usize,
}

impl Events {
    /// No events.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self { slots: [libc::epoll_event { events: 0, u64: 0 }; 16], ready: 0 }
    }

    /// The events of the last wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.slots.iter().take(self.ready).map(|event| Event { token: event.u64, bits: event.events })
    }
}

/// That a descriptor is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The descriptor's token.
    pub(crate) token: u64,
    bits: u32,
}

impl Event {
    /// Whether there is something to read.
    #[must_use]
    pub(crate) const fn is_readable(self) -> bool {
        self.bits & libc::EPOLLIN as u32 != 0
    }

    /// Whether there is room to write.
    #[must_use]
    pub(crate) const fn is_writable(self) -> bool {
        self.bits & libc::EPOLLOUT as u32 != 0
    }

    /// Whether the descriptor failed, for instance because its interface was deleted. It stays so: take it out of the set.
    #[must_use]
    pub(crate) const fn is_failed(self) -> bool {
        self.bits & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0
    }
}

/// Wakes a thread that waits in an [`Epoll`] which has this descriptor in it.
#[derive(Debug)]
pub(crate) struct Waker(File);

impl Waker {
    /// Makes a waker that has not been used.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        own(fd).map(|fd| Self(fd.into()))
    }

    /// Makes the descriptor readable until [`reset`](Self::reset).
    pub(crate) fn wake(&self) {
        // Fails only when 2^64 - 2 calls were not looked at, and then it is readable anyway.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable again.
    pub(crate) fn reset(&self) {
        // Fails only when there is nothing to reset.
        let _ = (&self.0).read(&mut [0; 8]);
    }

    /// Another handle to the same waker, for another thread.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes ownership of what a system call has just returned.
fn own(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened it, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waker_ends_a_wait_and_is_silent_after_its_reset() {
        let (epoll, waker, mut events) = (Epoll::new().unwrap(), Waker::new().unwrap(), Events::new());
        epoll.add(waker.as_fd(), 7, Interest::Read).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);

        let other = waker.try_clone().unwrap();
        let thread = std::thread::spawn(move || other.wake());
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        thread.join().unwrap();
        let event = events.iter().next().unwrap();
        assert_eq!((event.token, event.is_readable(), event.is_writable(), event.is_failed()), (7, true, false, false));

        waker.reset();
        assert_eq!(epoll.wait(&mut events, Some(Duration::from_micros(1))).unwrap(), 0);
    }

    #[test]
    fn interest_can_be_changed_and_taken_back() {
        let (epoll, waker, mut events) = (Epoll::new().unwrap(), Waker::new().unwrap(), Events::new());
        epoll.add(waker.as_fd(), 1, Interest::Read).unwrap();
        epoll.modify(waker.as_fd(), 2, Interest::ReadWrite).unwrap();
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        assert_eq!(events.iter().map(|e| (e.token, e.is_writable())).collect::<Vec<_>>(), [(2, true)]);
        epoll.remove(waker.as_fd()).unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        assert!(epoll.remove(waker.as_fd()).is_err());
    }
}
