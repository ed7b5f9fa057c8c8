//! When the kernel may fragment what a socket sends. It is said of the socket, not of the datagram, so it is said before and
//! taken back after: only of datagrams that are not known to pass whole and have to arrive all the same, which are few.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};

use proto::path::{Fragments, LEAST_V6};

use super::Family;
use crate::sys::udp::{self, SocketOption};

/// Which of those who send from one socket may have it changed.
#[derive(Clone, Debug, Default)]
pub(super) struct Cutting(Arc<Mutex<()>>);

impl Cutting {
    /// Makes the socket one that never fragments, and does not believe what ICMP says of a path: anybody can forge it, and the
    /// probes find out by themselves.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub(super) fn forbid(fd: BorrowedFd<'_>, family: Family) -> io::Result<()> {
        forbid(fd, false)?;
        if family == Family::Dual { forbid(fd, true) } else { Ok(()) }
    }

    /// Sends to `destination` while the kernel may or may not fragment. Those that must not, and whose size matters, wait for
    /// those that may.
    ///
    /// # Errors
    /// Those of sending, and of `setsockopt(2)`.
    pub(super) fn send<T>(
        &self,
        fd: BorrowedFd<'_>,
        family: Family,
        destination: IpAddr,
        fragments: Fragments,
        send: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        // Nothing is left half done by a panic: whoever comes next sets what it needs.
        let _turn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match fragments {
            Fragments::Never => send(),
            Fragments::Allowed => {
                let v6 = family == Family::Dual && destination.to_canonical().is_ipv6();
                let sent = allow(fd, v6).and_then(|()| send());
                forbid(fd, v6)?;
                sent
            }
        }
    }
}

fn forbid(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if !v6 {
        return udp::set_option(fd, SocketOption::MtuDiscoverV4, libc::IP_PMTUDISC_PROBE);
    }
    udp::set_option(fd, SocketOption::MtuDiscoverV6, libc::IPV6_PMTUDISC_PROBE)?;
    udp::set_option(fd, SocketOption::FragmentSizeV6, 0)
}

fn allow(fd: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if !v6 {
        return udp::set_option(fd, SocketOption::MtuDiscoverV4, libc::IP_PMTUDISC_DONT);
    }
    udp::set_option(fd, SocketOption::MtuDiscoverV6, libc::IPV6_PMTUDISC_DONT)?;
    // No router fragments IPv6, so it is cut to what every link carries.
    udp::set_option(fd, SocketOption::FragmentSizeV6, LEAST_V6.into())
}
