//! UDP system calls that `std` lacks: segmentation offload in both directions (`udp(7)`: `UDP_SEGMENT`, `UDP_GRO`), many
//! messages per call (`sendmmsg(2)`, `recvmmsg(2)`), and a few socket options.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, BorrowedFd};

use proto::data::batch::RECV_SLOTS;
use proto::packet::MAX_SEGMENTS;
use proto::wire::{LANE_OFFSET, MessageType};

/// An integer socket option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketOption {
    /// Bytes that may wait to be read, beyond `net.core.rmem_max`; needs `CAP_NET_ADMIN`.
    ReceiveBufferForce,
    /// Bytes that may wait to be sent, beyond `net.core.wmem_max`; needs `CAP_NET_ADMIN`.
    SendBufferForce,
    /// Path MTU discovery over IPv4: `IP_PMTUDISC_PROBE` forbids fragments and does not listen to ICMP, `IP_PMTUDISC_DONT` allows
    /// them.
    MtuDiscoverV4,
    /// The same over IPv6.
    MtuDiscoverV6,
    /// The size that IPv6 packets are fragmented to, 1280 at least; 0: that of the link, or what ICMP says of the path.
    FragmentSizeV6,
    /// 1: the kernel may merge datagrams of one flow into one message (Linux 5.0).
    Gro,
    /// The default segment size of sends; 0: no segmentation. An error means that there is no `UDP_SEGMENT` (Linux 4.18).
    Segment,
}

impl SocketOption {
    const fn level_and_name(self) -> (c_int, c_int) {
        match self {
            Self::ReceiveBufferForce => (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE),
            Self::SendBufferForce => (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
            Self::MtuDiscoverV4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
            Self::MtuDiscoverV6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
            Self::FragmentSizeV6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU),
            Self::Gro => (libc::SOL_UDP, libc::UDP_GRO),
            Self::Segment => (libc::SOL_UDP, libc::UDP_SEGMENT),
        }
    }
}

/// Sets a socket option.
///
/// # Errors
/// Those of `setsockopt(2)`: `ENOPROTOOPT` where the kernel has no such option, `EPERM`.
pub(crate) fn set_option(fd: BorrowedFd<'_>, option: SocketOption, value: c_int) -> io::Result<()> {
    let (level, name) = option.level_and_name();
    let len = socklen::<c_int>();
    // SAFETY: the descriptor is open, and `value` is `len` readable bytes for the whole call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the kernel choose among the `count` sockets of a `SO_REUSEPORT` group by lane (`socket(7)`:
/// `SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5): a data datagram goes to the one that was bound as number `lane % count`, all
/// else to the first. `fd` is any socket of the group.
///
/// # Errors
/// `ENOPROTOOPT` where the kernel has no such option; `EINVAL` where the socket is of no group, or `count` is zero.
pub(crate) fn steer_by_lane(fd: BorrowedFd<'_>, count: u32) -> io::Result<()> {
    let mut program = lane_program(count);
    let len = program.len() as u16;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    let (value, len) = ((&raw const program).cast(), socklen::<libc::sock_fprog>());
    // SAFETY: the descriptor is open, `value` is `len` readable bytes for the whole call, and so are the instructions that
    // it points at, which the kernel copies.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, value, len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Offsets count from the UDP payload: the kernel shows the program a datagram without its headers. What is too short to
/// be read ends the program with zero.
fn lane_program(count: u32) -> [libc::sock_filter; 6] {
    use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MOD, BPF_RET};
    // Seven bits of operation code.
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    [
        step(BPF_LD | BPF_B | BPF_ABS, 0),
        libc::sock_filter { jf: 3, ..step(BPF_JMP | BPF_JEQ | BPF_K, MessageType::Data as u32) },
        step(BPF_LD | BPF_B | BPF_ABS, LANE_OFFSET as u32),
        step(BPF_ALU | BPF_MOD | BPF_K, count),
        step(BPF_RET | BPF_A, 0),
        step(BPF_RET | BPF_K, 0),
    ]
}

/// A socket address in the kernel's form.
#[derive(Clone, Copy)]
pub(crate) struct KernelAddr {
    /// A `sockaddr_in6`, or a `sockaddr_in` laid over its beginning: its address is where the flow label is.
    raw: libc::sockaddr_in6,
    len: libc::socklen_t,
}

impl KernelAddr {
    /// An IPv4 address for an IPv4 socket.
    #[must_use]
    pub(crate) fn v4(address: SocketAddrV4) -> Self {
        let mut raw = EMPTY_ADDRESS;
        raw.sin6_family = AF_INET;
        raw.sin6_port = address.port().to_be();
        raw.sin6_flowinfo = u32::from_ne_bytes(address.ip().octets());
        Self { raw, len: socklen::<libc::sockaddr_in>() }
    }

    /// Any address for a dual-stack IPv6 socket; IPv4 in its mapped form (RFC 4291 §2.5.5.2).
    #[must_use]
    pub(crate) fn dual(address: SocketAddr) -> Self {
        let (ip, scope) = match address {
            SocketAddr::V4(v4) => (v4.ip().to_ipv6_mapped(), 0),
            SocketAddr::V6(v6) => (*v6.ip(), v6.scope_id()),
        };
        let mut raw = EMPTY_ADDRESS;
        raw.sin6_family = AF_INET6;
        raw.sin6_port = address.port().to_be();
        raw.sin6_addr.s6_addr = ip.octets();
        raw.sin6_scope_id = scope;
        Self { raw, len: socklen::<libc::sockaddr_in6>() }
    }

    /// Whether datagrams to it are IPv4, from whatever kind of socket.
    fn is_v4(&self) -> bool {
        self.raw.sin6_family == AF_INET || Ipv6Addr::from(self.raw.sin6_addr.s6_addr).to_ipv4_mapped().is_some()
    }
}

/// The plain form of what the kernel wrote; mapped IPv4 becomes IPv4 again. `None`: it is no IP address.
fn plain_address(raw: &libc::sockaddr_in6, len: libc::socklen_t) -> Option<SocketAddr> {
    let port = u16::from_be(raw.sin6_port);
    if raw.sin6_family == AF_INET && len >= socklen::<libc::sockaddr_in>() {
        return Some(SocketAddr::from((Ipv4Addr::from(raw.sin6_flowinfo.to_ne_bytes()), port)));
    }
    if raw.sin6_family != AF_INET6 || len < socklen::<libc::sockaddr_in6>() {
        return None;
    }
    let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
    Some(match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::from((v4, port)),
        None => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, raw.sin6_scope_id)),
    })
}

/// Sends one message. Never blocks.
///
/// # Errors
/// Those of `sendmsg(2)`; then nothing was sent.
pub(crate) fn send(fd: BorrowedFd<'_>, message: &Message<'_>) -> io::Result<()> {
    let mut vector = readable(message.bytes);
    let mut control = SendControl::new();
    let mut header = empty_message();
    address_message(&mut header, &message.to);
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    control.point(&mut header, message);
    // SAFETY: the descriptor is open; the message points at an address, a vector of one readable buffer and control
    // messages that all live longer than the call.
    let result = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const header, SEND_FLAGS) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// One message to send: datagrams to one address.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// Where they go.
    pub(crate) to: KernelAddr,
    /// The interface that they leave by; `None`: by the one that the kernel finds.
    pub(crate) interface: Option<NonZeroU32>,
    /// The datagrams, back to back.
    pub(crate) bytes: &'a [u8],
    /// Length of each but the last, which may be shorter; `None` for a single datagram.
    pub(crate) stride: Option<u16>,
}

/// Sends many messages per call.
pub(crate) struct Sender {
    headers: Box<[libc::mmsghdr]>,
    slots: Box<[SendSlot]>,
}

/// What the header of a message points at, besides its bytes.
#[derive(Clone, Copy)]
struct SendSlot {
    vector: libc::iovec,
    name: KernelAddr,
    control: SendControl,
}

// SAFETY: the pointers in it are written at the beginning of each call, used within it, and never followed later.
unsafe impl Send for Sender {}

impl Sender {
    /// Allocates the headers of [`MAX_SEGMENTS`] messages.
    #[must_use]
    pub(crate) fn new() -> Self {
        let header = libc::mmsghdr { msg_hdr: empty_message(), msg_len: 0 };
        let name = KernelAddr { raw: EMPTY_ADDRESS, len: 0 };
        let slot = SendSlot { vector: EMPTY_VECTOR, name, control: SendControl::new() };
        Self { headers: vec![header; MAX_SEGMENTS].into(), slots: vec![slot; MAX_SEGMENTS].into() }
    }

    /// Sends as many of `messages` (the first [`MAX_SEGMENTS`] of them at most) as the kernel takes, in order and each
    /// wholly, and returns how many that was: at least one. Never blocks.
    ///
    /// # Errors
    /// Those of `sendmsg(2)` for the first message; then nothing was sent.
    pub(crate) fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        messages: impl Iterator<Item = Message<'a>>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for ((header, slot), message) in self.headers.iter_mut().zip(&mut self.slots).zip(messages) {
            slot.point(&mut header.msg_hdr, &message);
            count += 1;
        }
        // SAFETY: the descriptor is open; the first `count` headers were just pointed at a slot's address, control
        // messages and vector of one readable buffer, that all live longer than the call.
        let result = unsafe { libc::sendmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), count, SEND_FLAGS as _) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

impl SendSlot {
    fn point(&mut self, header: &mut libc::msghdr, message: &Message<'_>) {
        self.vector = readable(message.bytes);
        self.name = message.to;
        address_message(header, &self.name);
        header.msg_iov = &raw mut self.vector;
        header.msg_iovlen = 1;
        self.control.point(header, message);
    }
}

/// Receives many messages per call, each perhaps of many datagrams that GRO merged.
pub(crate) struct Receiver {
    headers: Box<[libc::mmsghdr]>,
    slots: Box<[ReceiveSlot]>,
}

/// Where the kernel writes what belongs to one message, besides its bytes.
#[derive(Clone, Copy)]
struct ReceiveSlot {
    vector: libc::iovec,
    name: libc::sockaddr_in6,
    control: Control<c_int>,
}

// SAFETY: the pointers in it are written at the beginning of each call, used within it, and never followed later.
unsafe impl Send for Receiver {}

/// One received message, besides its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes in the buffer.
    pub(crate) len: usize,
    /// Length of each merged datagram but perhaps the last, where the kernel says that it merged any.
    pub(crate) stride: Option<usize>,
    /// Who sent it; `None` where the kernel did not say it in a form of the Internet.
    pub(crate) source: Option<SocketAddr>,
    /// Bytes or control messages were cut off.
    pub(crate) truncated: bool,
}

impl Receiver {
    /// Allocates the headers of [`RECV_SLOTS`] messages.
    #[must_use]
    pub(crate) fn new() -> Self {
        let header = libc::mmsghdr { msg_hdr: empty_message(), msg_len: 0 };
        let control = Control { header: empty_control(), value: 0 };
        let slot = ReceiveSlot { vector: EMPTY_VECTOR, name: EMPTY_ADDRESS, control };
        Self { headers: vec![header; RECV_SLOTS].into(), slots: vec![slot; RECV_SLOTS].into() }
    }

    /// Fills `buffers` (the first [`RECV_SLOTS`] of them at most), one message each, with what is waiting, and returns
    /// what is known of each. Never blocks.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`; `EAGAIN` where nothing is waiting.
    pub(crate) fn receive<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        buffers: impl Iterator<Item = &'a mut [u8]>,
    ) -> io::Result<impl Iterator<Item = Received> + '_> {
        let mut count = 0;
        for ((header, slot), buffer) in self.headers.iter_mut().zip(&mut self.slots).zip(buffers) {
            slot.point(&mut header.msg_hdr, buffer);
            count += 1;
        }
        let (headers, no_timeout) = (self.headers.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the descriptor is open; the first `count` headers were just pointed at a slot's name, control message
        // and vector of one writable buffer, all disjoint and living longer than the call.
        let result = unsafe { libc::recvmmsg(fd.as_raw_fd(), headers, count, libc::MSG_DONTWAIT as _, no_timeout) };
        let filled = usize::try_from(result).map_err(|_| io::Error::last_os_error())?;
        Ok(self.headers.iter().zip(&self.slots).take(filled).map(|(header, slot)| slot.received(header)))
    }
}

impl ReceiveSlot {
    fn point(&mut self, message: &mut libc::msghdr, buffer: &mut [u8]) {
        self.vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        message.msg_name = (&raw mut self.name).cast();
        message.msg_namelen = socklen::<libc::sockaddr_in6>();
        message.msg_iov = &raw mut self.vector;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut self.control).cast();
        message.msg_controllen = size_of::<Control<c_int>>() as _;
        message.msg_flags = 0;
    }

    fn received(&self, header: &libc::mmsghdr) -> Received {
        let message = &header.msg_hdr;
        Received {
            len: usize::try_from(header.msg_len).unwrap_or(0),
            stride: self.stride(message.msg_controllen as _),
            source: plain_address(&self.name, message.msg_namelen),
            truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        }
    }

    fn stride(&self, control_len: usize) -> Option<usize> {
        let header = &self.control.header;
        let is_stride = control_len >= mem::offset_of!(Control<c_int>, value) + size_of::<c_int>()
            && header.cmsg_level == libc::SOL_UDP
            && header.cmsg_type == libc::UDP_GRO;
        if is_stride { usize::try_from(self.control.value).ok() } else { None }
    }
}

/// A control message: `CMSG_DATA` directly follows the header, which is as aligned as any value here.
#[derive(Clone, Copy)]
#[repr(C)]
struct Control<T> {
    header: libc::cmsghdr,
    value: T,
}

impl<T> Control<T> {
    /// Fills in the header, for a value of which the first `len` bytes count.
    fn describe(&mut self, level: c_int, kind: c_int, len: usize) {
        self.header.cmsg_level = level;
        self.header.cmsg_type = kind;
        self.header.cmsg_len = (mem::offset_of!(Self, value) + len) as _;
    }
}

/// The control messages of a send, back to back; either may be left out.
#[derive(Clone, Copy)]
#[repr(C)]
struct SendControl {
    segment: Control<u16>,
    /// An `in6_pktinfo`, or an `in_pktinfo` laid over its beginning.
    interface: Control<PacketInfo>,
}

/// `in6_pktinfo` (`ipv6(7)`), and `in_pktinfo` (`ip(7)`), whose index comes first, not last.
#[derive(Clone, Copy)]
#[repr(C)]
struct PacketInfo([u32; 5]);

impl SendControl {
    fn new() -> Self {
        let header = empty_control();
        Self { segment: Control { header, value: 0 }, interface: Control { header, value: PacketInfo([0; 5]) } }
    }

    /// Makes them what a message needs.
    fn point(&mut self, header: &mut libc::msghdr, message: &Message<'_>) {
        let (mut first, mut len) = (std::ptr::null_mut(), 0);
        if let Some(interface) = message.interface {
            let index = interface.get();
            if message.to.is_v4() {
                self.interface.value = PacketInfo([index, 0, 0, 0, 0]);
                self.interface.describe(libc::SOL_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>());
            } else {
                self.interface.value = PacketInfo([0, 0, 0, 0, index]);
                self.interface.describe(libc::SOL_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>());
            }
            first = (&raw mut self.interface).cast();
            len = size_of::<Control<PacketInfo>>();
        }
        if let Some(stride) = message.stride {
            self.segment.value = stride;
            self.segment.describe(libc::SOL_UDP, libc::UDP_SEGMENT, size_of::<u16>());
            first = (&raw mut *self).cast();
            len += size_of::<Control<u16>>();
        }
        (header.msg_control, header.msg_controllen) = (first, len as _);
    }
}

const SEND_FLAGS: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
const AF_INET: libc::sa_family_t = libc::AF_INET as libc::sa_family_t;
const AF_INET6: libc::sa_family_t = libc::AF_INET6 as libc::sa_family_t;
const EMPTY_VECTOR: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
const EMPTY_ADDRESS: libc::sockaddr_in6 = libc::sockaddr_in6 {
    sin6_family: 0,
    sin6_port: 0,
    sin6_flowinfo: 0,
    sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
    sin6_scope_id: 0,
};

const fn socklen<T>() -> libc::socklen_t {
    // No socket option or address is anywhere near 4 GiB.
    size_of::<T>() as libc::socklen_t
}

/// The kernel only reads what a send points at.
const fn readable(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

fn address_message(message: &mut libc::msghdr, to: &KernelAddr) {
    message.msg_name = (&raw const to.raw).cast_mut().cast();
    message.msg_namelen = to.len;
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a msghdr is integers and pointers, for which zero is a value. (Some C libraries have padding that cannot be
    // named, hence no literal.)
    unsafe { mem::zeroed() }
}

fn empty_control() -> libc::cmsghdr {
    // SAFETY: a cmsghdr is integers, for which zero is a value.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_to_the_kernel_and_back() {
        for text in ["192.0.2.7:51820", "[2001:db8::1]:443", "[fe80::1%3]:1", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            let kernel = KernelAddr::dual(address);
            assert_eq!(plain_address(&kernel.raw, kernel.len), Some(address));
            if let SocketAddr::V4(v4) = address {
                let kernel = KernelAddr::v4(v4);
                assert_eq!(plain_address(&kernel.raw, kernel.len), Some(address));
            }
        }
    }

    #[test]
    fn the_kernel_form_is_that_of_socket2() {
        let v4: SocketAddrV4 = "192.0.2.7:51820".parse().unwrap();
        let (ours, theirs) = (KernelAddr::v4(v4), socket2::SockAddr::from(v4));
        assert_eq!(ours.len, theirs.len());
        // SAFETY: both are at least as long as a sockaddr_in, which any bytes are.
        let ours: libc::sockaddr_in = unsafe { std::ptr::read((&raw const ours.raw).cast()) };
        // SAFETY: as above.
        let theirs: libc::sockaddr_in = unsafe { std::ptr::read(theirs.as_ptr().cast()) };
        assert_eq!(
            (ours.sin_family, ours.sin_port, ours.sin_addr.s_addr),
            (theirs.sin_family, theirs.sin_port, theirs.sin_addr.s_addr)
        );
    }

    #[test]
    fn a_name_of_no_internet_family_is_no_source() {
        let mut raw = EMPTY_ADDRESS;
        assert_eq!(plain_address(&raw, 0), None);
        raw.sin6_family = AF_INET6;
        assert_eq!(plain_address(&raw, 2), None, "cut off");
    }

    #[test]
    fn control_messages_have_the_layout_of_the_cmsg_macros() {
        // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
        let (space, len) = unsafe { (libc::CMSG_SPACE(2), libc::CMSG_LEN(2)) };
        assert_eq!(size_of::<Control<u16>>(), space as usize);
        assert_eq!(mem::offset_of!(Control<u16>, value) + 2, len as usize);
        // SAFETY: as above.
        let space = unsafe { libc::CMSG_SPACE(size_of::<libc::in6_pktinfo>() as u32) };
        assert_eq!(size_of::<Control<PacketInfo>>(), space as usize);
        assert_eq!(mem::offset_of!(libc::in6_pktinfo, ipi6_ifindex), 16);
        assert_eq!(mem::offset_of!(libc::in_pktinfo, ipi_ifindex), 0);
        // SAFETY: as above.
        let (space, len) = unsafe { (libc::CMSG_SPACE(4), libc::CMSG_LEN(4)) };
        assert_eq!(size_of::<Control<c_int>>(), space as usize);
        assert_eq!(mem::offset_of!(Control<c_int>, value) + 4, len as usize);
    }
}
