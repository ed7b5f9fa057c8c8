//! Creating TUN queues: the ioctls of `/dev/net/tun` (Linux `Documentation/networking/tuntap.rst`, `linux/if_tun.h`).
//!
//! Reading and writing a queue needs no wrapper: `std::fs::File` has safe `readv` and `writev`.

use std::ffi::{CStr, c_char, c_int, c_short, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use proto::packet::vnet::VNET_HEADER_LEN;

/// What a queue is opened as. All queues of one interface are opened alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueKind {
    /// Every packet begins with a virtio-net header.
    pub(crate) vnet_header: bool,
    /// The interface may have more than one queue.
    pub(crate) multi_queue: bool,
}

/// What the kernel may leave undone in packets that it hands over: the argument of `TUNSETOFFLOAD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffloadMask {
    /// Nothing: finished packets only.
    Nothing,
    /// Checksums, and TCP segmentation.
    Tcp,
    /// Checksums, and TCP and UDP segmentation (Linux 6.2).
    TcpUdp,
}

/// Opens a queue of interface `name`, non-blocking, and returns it with the name that the kernel gave the interface.
///
/// An interface that does not exist is created, and goes away with its last queue. An empty name, or one with `%d` in
/// it, lets the kernel choose.
///
/// # Errors
/// Those of `open` and `TUNSETIFF`: `EPERM` without `CAP_NET_ADMIN`, `EBUSY` where the interface is in use, `EINVAL`
/// where it is no TUN or was created with another [`QueueKind`], or where the name is too long.
pub(crate) fn open_queue(name: &str, kind: QueueKind) -> io::Result<(File, String)> {
    let mut request = InterfaceRequest::new(name, kind)?;
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    // SAFETY: the descriptor is open, and TUNSETIFF reads and writes one ifreq, which `InterfaceRequest` is as long as.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    check(result)?;
    Ok((file, request.name()?))
}

/// Settles the form of the virtio-net header: [`VNET_HEADER_LEN`] bytes, little-endian.
///
/// Both are already so on a new interface of a little-endian machine, but not always on an inherited one.
///
/// # Errors
/// `EINVAL` where the kernel knows no such thing (before 4.0).
pub(crate) fn set_vnet_header(queue: BorrowedFd<'_>) -> io::Result<()> {
    // Ten: the cast loses nothing.
    let len = VNET_HEADER_LEN as c_int;
    // SAFETY: the descriptor is open, and TUNSETVNETHDRSZ reads one int.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const len) };
    check(result)?;
    let little_endian: c_int = 1;
    // SAFETY: the descriptor is open, and TUNSETVNETLE reads one int.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETVNETLE, &raw const little_endian) };
    check(result)
}

/// Tells the kernel what it may leave undone, for the whole interface.
///
/// # Errors
/// `EINVAL` where the kernel knows no such offload.
pub(crate) fn set_offload(queue: BorrowedFd<'_>, mask: OffloadMask) -> io::Result<()> {
    let bits = mask.bits();
    // SAFETY: the descriptor is open, and TUNSETOFFLOAD takes its argument by value.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(bits)) };
    check(result)
}

impl OffloadMask {
    /// `TUN_F_TSO_ECN` is never asked for: `proto::packet::Offload` cannot carry it, and without it the kernel itself
    /// segments the few packets that have CWR set.
    const fn bits(self) -> c_uint {
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
        match self {
            Self::Nothing => 0,
            Self::Tcp => tcp,
            Self::TcpUdp => tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        }
    }
}

/// `struct ifreq` as `TUNSETIFF` uses it, padded to its 40 bytes.
#[repr(C)]
struct InterfaceRequest {
    name: [c_char; libc::IFNAMSIZ],
    flags: c_short,
    padding: [u8; 22],
}

impl InterfaceRequest {
    fn new(name: &str, kind: QueueKind) -> io::Result<Self> {
        if name.len() >= libc::IFNAMSIZ || name.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let mut request = Self { name: [0; libc::IFNAMSIZ], flags: flags(kind), padding: [0; 22] };
        for (to, from) in request.name.iter_mut().zip(name.bytes()) {
            *to = c_char::from_ne_bytes([from]);
        }
        Ok(request)
    }

    fn name(&self) -> io::Result<String> {
        let bytes = self.name.map(|c| c.to_ne_bytes()[0]);
        let name = CStr::from_bytes_until_nul(&bytes).map_err(io::Error::other)?;
        name.to_str().map(str::to_owned).map_err(io::Error::other)
    }
}

fn flags(kind: QueueKind) -> c_short {
    let vnet_header = if kind.vnet_header { libc::IFF_VNET_HDR } else { 0 };
    let multi_queue = if kind.multi_queue { libc::IFF_MULTI_QUEUE } else { 0 };
    // The highest of these bits is 0x4000, so the cast loses nothing.
    (libc::IFF_TUN | libc::IFF_NO_PI | vnet_header | multi_queue) as c_short
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
