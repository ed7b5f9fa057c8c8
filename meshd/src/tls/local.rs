//! One end of a carrier on this machine: a loopback socket that talks to the daemon's UDP port, and to nothing else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::os::fd::AsFd as _;

use proto::packet::MAX_SEGMENTS;
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::frame::{self, MAX_DATAGRAM};
use crate::sys::udp::{self, KernelAddr, Message, Receiver, SocketOption};

/// Bytes that may wait to be carried, as the kernel counts them. What does not fit is dropped, as by any narrow link: some 100 ms
/// at 20 Mbit/s, so that a slow connection is not made slower by its queue.
const QUEUE: usize = 512 << 10;

/// What one receive may bring: as much as the kernel merges into a message, with its end.
const MESSAGE: usize = 1 << 16;

/// The socket.
pub(super) struct Local {
    socket: UdpSocket,
    daemon: SocketAddrV4,
}

impl Local {
    /// Opens it at `ip`, for a daemon that listens on `port`. Nobody but that daemon is heard: it is connected (`udp(7)`).
    ///
    /// # Errors
    /// Those of opening a socket.
    pub(super) fn bind(ip: Ipv4Addr, port: u16) -> io::Result<StdSocket> {
        let socket = socket2::Socket::new(Domain::IPV4, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(QUEUE)?;
        // Without it the kernel cuts what the daemon sends in one go, and everything works.
        let _ = udp::set_option(socket.as_fd(), SocketOption::Gro, 1);
        socket.bind(&SocketAddr::from((ip, 0)).into())?;
        socket.connect(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        Ok(socket.into())
    }

    /// Takes a socket that [`Local::bind`] opened; on a tokio runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub(super) fn new(socket: StdSocket) -> io::Result<Self> {
        let SocketAddr::V4(daemon) = socket.peer_addr()? else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(Self { socket: UdpSocket::from_std(socket)?, daemon })
    }

    /// Waits until the daemon has sent something.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Appends what the daemon has sent to a stream, until that has `limit` bytes.
    pub(super) fn take(&self, inbox: &mut Inbox, stream: &mut Vec<u8>, limit: usize) {
        while stream.len() < limit {
            let Inbox { receiver, memory } = inbox;
            let receive = || {
                let messages = receiver.receive(self.socket.as_fd(), std::iter::once(&mut **memory))?;
                Ok(messages.last().filter(|message| !message.truncated))
            };
            match self.socket.try_io(Interest::READABLE, receive) {
                Ok(Some(message)) => {
                    let stride = message.stride.unwrap_or(message.len).max(1);
                    let bytes = inbox.memory.get(..message.len).unwrap_or_default();
                    bytes.chunks(stride).for_each(|datagram| frame::push(stream, datagram));
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error of a daemon that is going away, told once.
                Err(error) => tracing::trace!(%error, "loopback"),
            }
        }
    }

    /// Gives datagrams to the daemon: `stride` bytes each but the last, which may be shorter. What it has no room for is lost, as
    /// it would be on the network.
    fn send(&self, bytes: &[u8], stride: usize) {
        let to = KernelAddr::v4(self.daemon);
        let many = u16::try_from(stride).ok().filter(|_| bytes.len() > stride);
        let message = Message { to, interface: None, bytes, stride: many };
        if udp::send(self.socket.as_fd(), &message).is_err() && many.is_some() {
            // A kernel without segmentation offload.
            for datagram in bytes.chunks(stride) {
                let _ = udp::send(self.socket.as_fd(), &Message { bytes: datagram, stride: None, ..message });
            }
        }
    }
}

/// Memory to receive with.
pub(super) struct Inbox {
    receiver: Receiver,
    memory: Box<[u8]>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { receiver: Receiver::new(), memory: vec![0; MESSAGE].into() }
    }
}

/// Datagrams for the daemon, gathered so that those of one length go in one call.
pub(super) struct Outbox<'l> {
    local: &'l Local,
    run: Vec<u8>,
    stride: usize,
    count: usize,
    /// The last was shorter, which ends a run.
    is_closed: bool,
}

impl<'l> Outbox<'l> {
    pub(super) const fn new(local: &'l Local) -> Self {
        Self { local, run: Vec::new(), stride: 0, count: 0, is_closed: false }
    }

    /// Adds a datagram.
    pub(super) fn push(&mut self, datagram: &[u8]) {
        let fits = !self.is_closed
            && datagram.len() <= self.stride
            && self.count < MAX_SEGMENTS
            && self.run.len() + datagram.len() <= MAX_DATAGRAM;
        if !fits {
            self.flush();
            self.stride = datagram.len();
        }
        self.run.extend_from_slice(datagram);
        self.count += 1;
        self.is_closed = datagram.len() < self.stride;
    }

    /// Sends what is there.
    pub(super) fn flush(&mut self) {
        if !self.run.is_empty() {
            self.local.send(&self.run, self.stride);
        }
        self.run.clear();
        (self.stride, self.count, self.is_closed) = (0, 0, false);
    }
}
