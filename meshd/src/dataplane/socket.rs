//! The UDP socket of a worker: one system call for many batches where the kernel has segmentation offload, and the same
//! datagrams one by one where it has not.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Instant;

use proto::data::batch::{RECV_SLOTS, RecvBatch, RecvMeta, SLOT_LEN, SLOT_STRIDE, SendBatch};
use proto::data::{Socket, SocketSend};
use proto::path::{Fragments, SocketId};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::sys::udp::{self, KernelAddr, Message, Receiver, Sender, SocketOption};
use crate::underlay::{Reader, Underlay, Way};
use cutting::Cutting;
use egress::{Egress, Request};

mod cutting;
mod egress;
mod extra;

/// A UDP socket for all peers of one worker.
pub(crate) struct UdpSocket {
    socket: StdSocket,
    family: Family,
    underlay: Underlay,
    ways: Reader,
    cutting: Cutting,
    egress: Egress,
    extras: Arc<Extras>,
    /// What is read from instead, by its number.
    reading: Option<(SocketId, Arc<StdSocket>)>,
    sender: Sender,
    receiver: Receiver,
    /// Messages that the next receive may take.
    slots: usize,
    is_drained: bool,
    received: ReceiveStats,
}

/// How to open sockets.
#[derive(Clone, Debug)]
pub(crate) struct SocketOptions {
    /// Use UDP GSO where the kernel has it.
    pub(crate) gso: bool,
    /// Use UDP GRO where the kernel has it.
    pub(crate) gro: bool,
    /// Keeps datagrams out of the mesh where its routes stand in table main.
    pub(crate) underlay: Underlay,
    /// `SO_MARK`, which keeps them out of it where its routes have a table of their own. Needs `CAP_NET_ADMIN`.
    pub(crate) mark: Option<NonZeroU32>,
    /// Bytes that may wait to be read: the queue that a packet stands in under load. Half of it halves the loaded ping and
    /// costs throughput, twice of it doubles the ping and brings nothing (`docs/performance.md`).
    pub(crate) receive_buffer: usize,
    /// Bytes that may wait to be sent: large enough for some sixteen super-packets per turn, small enough to push back.
    pub(crate) send_buffer: usize,
}

impl Default for SocketOptions {
    fn default() -> Self {
        let (receive_buffer, send_buffer) = (3 << 19, 2 << 20);
        Self { gso: true, gro: true, underlay: Underlay::default(), mark: None, receive_buffer, send_buffer }
    }
}

/// What happened on one socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketStats {
    /// Of sending.
    pub(crate) sent: SendStats,
    /// Of receiving.
    pub(crate) received: ReceiveStats,
}

pub(crate) use egress::SendStats;
pub(crate) use extra::Extras;

/// What happened while receiving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiveStats {
    /// Messages, each perhaps of many datagrams.
    pub(crate) messages: u64,
    /// Of these: messages that GRO merged.
    pub(crate) merged: u64,
    /// Messages dropped because a part was cut off, or for want of a source.
    pub(crate) cut_off: u64,
    /// Calls that failed for another reason than that nothing was waiting.
    pub(crate) failed: u64,
}

/// Which addresses a socket deals with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// IPv6, and IPv4 in mapped form.
    Dual,
    /// IPv4 only: the machine has no IPv6.
    V4,
}

impl UdpSocket {
    /// Opens `count` sockets (at least one) that share `port` of all local addresses; for port 0 the kernel chooses one.
    /// A peer's lane `n` comes to socket `n % count`, so that its lanes are opened in parallel and each in order; handshakes and
    /// control come to the first. A kernel that cannot do so (before 4.5) gives all that a peer sends to one of them.
    ///
    /// # Errors
    /// `EADDRINUSE` also where the socket that has the port would share it: two meshd would steal each other's datagrams.
    /// `EPERM` for a mark without `CAP_NET_ADMIN`: without its mark a datagram might be routed into the mesh again.
    pub(crate) fn bind(port: u16, count: usize, options: &SocketOptions) -> io::Result<Vec<Self>> {
        let first = match Self::bind_one(Family::Dual, port, Sharing::Owner, options) {
            Err(e) if is_family_missing(&e) => Self::bind_one(Family::V4, port, Sharing::Owner, options)?,
            other => other?,
        };
        let (family, port) = (first.family, first.local_addr()?.port());
        // Only now, so that nobody else's socket could take part in the first bind.
        socket2::SockRef::from(&first.socket).set_reuse_port(count > 1)?;
        let extras = Arc::clone(&first.extras);
        let mut sockets = vec![first];
        for _ in 1..count {
            let extras = Arc::clone(&extras);
            sockets.push(Self { extras, ..Self::bind_one(family, port, Sharing::Member, options)? });
        }
        if let [first, _, ..] = sockets.as_slice()
            && let Err(error) = udp::steer_by_lane(first.as_fd(), u32::try_from(count).unwrap_or(u32::MAX))
        {
            tracing::debug!(%error, "lanes are not steered to workers: all that a peer sends goes to one of them");
        }
        Ok(sockets)
    }

    /// The wildcard address and the port.
    ///
    /// # Errors
    /// None that a correct program meets.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What happened so far.
    #[must_use]
    pub(crate) const fn stats(&self) -> SocketStats {
        SocketStats { sent: self.egress.stats(), received: self.received }
    }

    /// A handle by which another thread can send from the same address.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn try_clone_sender(&self) -> io::Result<UdpSender> {
        let (socket, cutting) = (self.socket.try_clone()?, self.cutting.clone());
        let (underlay, extras) = (self.underlay.clone(), Arc::clone(&self.extras));
        Ok(UdpSender { socket, family: self.family, underlay, cutting, extras })
    }

    /// The sockets beside those of its port.
    #[must_use]
    pub(crate) const fn extras(&self) -> &Arc<Extras> {
        &self.extras
    }

    /// Receives from one of the sockets beside it from now on, or from its own again.
    pub(crate) fn read_from(&mut self, socket: SocketId) {
        self.reading = self.extras.get(socket).map(|extra| (socket, extra));
    }

    fn bind_one(family: Family, port: u16, sharing: Sharing, options: &SocketOptions) -> io::Result<Self> {
        let (socket, gso) = open(family, port, sharing, options)?;
        Ok(Self {
            socket,
            family,
            underlay: options.underlay.clone(),
            ways: options.underlay.reader(),
            cutting: Cutting::default(),
            egress: Egress::new(gso),
            extras: Extras::new(family, options)?,
            reading: None,
            sender: Sender::new(),
            receiver: Receiver::new(),
            slots: RECV_SLOTS,
            is_drained: false,
            received: ReceiveStats::default(),
        })
    }
}

/// Opens one socket; says whether it may use segmentation offload.
fn open(family: Family, port: u16, sharing: Sharing, options: &SocketOptions) -> io::Result<(StdSocket, bool)> {
    let (domain, any) = match family {
        Family::Dual => (Domain::IPV6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
        Family::V4 => (Domain::IPV4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
    };
    let socket = socket2::Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark.get())?;
    }
    set_buffers(&socket, options)?;
    if family == Family::Dual {
        socket.set_only_v6(false)?;
    }
    Cutting::forbid(socket.as_fd(), family)?;
    if options.gro {
        // An error means that this kernel has none, and everything works without.
        let _ = udp::set_option(socket.as_fd(), SocketOption::Gro, 1);
    }
    // Asked first, because a kernel without it would send a whole batch as one fragmented datagram.
    let gso = options.gso && udp::set_option(socket.as_fd(), SocketOption::Segment, 0).is_ok();
    socket.set_reuse_port(sharing == Sharing::Member)?;
    socket.bind(&SockAddr::from(any))?;
    Ok((socket.into(), gso))
}

/// Whether a port may be shared when a socket is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// The first of a group: the port must be free.
    Owner,
    /// One more for the same port.
    Member,
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// Beyond the machine's limits where we may, else up to them.
fn set_buffers(socket: &socket2::Socket, options: &SocketOptions) -> io::Result<()> {
    let clamp = |bytes| i32::try_from(bytes).unwrap_or(i32::MAX / 2);
    if udp::set_option(socket.as_fd(), SocketOption::ReceiveBufferForce, clamp(options.receive_buffer)).is_err() {
        socket.set_recv_buffer_size(options.receive_buffer)?;
    }
    if udp::set_option(socket.as_fd(), SocketOption::SendBufferForce, clamp(options.send_buffer)).is_err() {
        socket.set_send_buffer_size(options.send_buffer)?;
    }
    Ok(())
}

impl Family {
    /// `address` as this kind of socket has to be told it.
    fn kernel_addr(self, address: SocketAddr) -> Option<KernelAddr> {
        match (self, address) {
            (Self::Dual, _) => Some(KernelAddr::dual(address)),
            (Self::V4, SocketAddr::V4(v4)) => Some(KernelAddr::v4(v4)),
            (Self::V4, SocketAddr::V6(_)) => None,
        }
    }

    /// How to tell the kernel where a datagram goes, and by which interface if not by the one that it finds itself.
    fn place(self, address: SocketAddr, way: Way) -> io::Result<Place> {
        let to = self.kernel_addr(address).ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
        match way {
            Way::Kernel => Ok(Place { to, interface: None }),
            Way::By(interface) => Ok(Place { to, interface: Some(interface) }),
            Way::Nowhere => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
        }
    }
}

/// Where a datagram goes, and by which interface.
#[derive(Clone, Copy)]
struct Place {
    to: KernelAddr,
    interface: Option<NonZeroU32>,
}

impl Place {
    const fn message(self, bytes: &[u8], stride: Option<u16>) -> Message<'_> {
        Message { to: self.to, interface: self.interface, bytes, stride }
    }

    fn batch(self, batch: &SendBatch) -> Message<'_> {
        self.message(batch.bytes(), stride_of(batch))
    }
}

/// The segment size to send a batch with, if it is more than one datagram.
fn stride_of(batch: &SendBatch) -> Option<u16> {
    if batch.count() > 1 { u16::try_from(batch.stride()).ok() } else { None }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Socket for UdpSocket {
    /// After [`SocketSend::Full`] a part of the first batch may have gone already: give it again, unchanged, and only the
    /// rest is sent. Were another batch cut off in between, the first would go again as a whole, and receivers would drop
    /// what they have seen.
    fn send(&mut self, batches: &[SendBatch]) -> SocketSend {
        let Some(first) = batches.first() else { return SocketSend::Sent(0) };
        let by = first.socket();
        let extra = if by == SocketId::MAIN { None } else { self.extras.get(by) };
        if by != SocketId::MAIN && extra.is_none() {
            return self.egress.drop_all(first);
        }
        let fd = extra.as_ref().map_or(self.socket.as_fd(), |extra| extra.as_fd());
        let cutting = if extra.is_some() { self.extras.cutting() } else { &self.cutting };
        let family = self.family;
        let (sender, ways) = (&mut self.sender, &mut self.ways);
        let mut place = |to: SocketAddr| family.place(to, ways.to(to.ip()));
        let Ok(first_place) = place(first.destination()) else { return self.egress.drop_all(first) };
        let result = self.egress.send(batches, Instant::now, |request| match request {
            Request::Together { count } => {
                let alike = batches.iter().take(count).take_while(|batch| batch.socket() == by);
                let places = alike.map_while(|batch| Some((batch, place(batch.destination()).ok()?)));
                sender.send(fd, places.map(|(batch, place)| place.batch(batch)))
            }
            Request::Whole => udp::send(fd, &first_place.batch(first)).map(|()| first.count()),
            Request::Singles { from, fragments } => {
                let messages = || first.datagrams().skip(from).map(|bytes| first_place.message(bytes, None));
                match fragments {
                    Fragments::Never => sender.send(fd, messages()),
                    Fragments::Allowed => {
                        let to = first.destination().ip();
                        cutting.send(fd, family, to, fragments, || sender.send(fd, messages()))
                    }
                }
            }
        });
        // Nobody waits until another than the main one is writable.
        if extra.is_some() && result == SocketSend::Full { self.egress.drop_all(first) } else { result }
    }

    /// A message that had to be dropped leaves an empty slot, which counts.
    fn recv(&mut self, batch: &mut RecvBatch) -> usize {
        let slots = self.slots;
        let mut is_second_try = false;
        loop {
            let memory = batch.memory_mut().chunks_mut(SLOT_STRIDE).take(slots);
            let buffers = memory.filter_map(|slot| slot.get_mut(..SLOT_LEN));
            let (socket, fd) = match &self.reading {
                None => (SocketId::MAIN, self.socket.as_fd()),
                Some((id, extra)) => (*id, extra.as_fd()),
            };
            let error = match self.receiver.receive(fd, buffers) {
                Ok(messages) => {
                    let (stats, mut is_large) = (&mut self.received, false);
                    let filled = batch.set_filled(messages.map(|message| {
                        is_large = message.len > LARGE;
                        meta_of(message, socket, stats)
                    }));
                    self.slots = next_slots(filled, is_large);
                    self.is_drained = filled < slots;
                    return filled;
                }
                Err(error) => error,
            };
            if error.kind() != io::ErrorKind::WouldBlock {
                self.received.failed += 1;
                // What a past datagram met is told once, and hides what is waiting.
                if !is_second_try {
                    is_second_try = true;
                    continue;
                }
            }
            self.is_drained = true;
            return batch.set_filled([]);
        }
    }

    fn is_drained(&self) -> bool {
        self.is_drained
    }
}

/// How many messages to ask for after `filled` came, the last of them large or not. One slot stays in the cache, and a large
/// message is worth a call; many small ones are not. Each slot asked for costs even if it stays empty.
fn next_slots(filled: usize, is_large: bool) -> usize {
    if is_large { 1 } else { (2 * filled).clamp(FEW_SLOTS, RECV_SLOTS) }
}

/// What is asked for where traffic is sparse.
const FEW_SLOTS: usize = 4;

/// A message longer than this is worth a call of its own.
const LARGE: usize = 8_192;

fn meta_of(message: udp::Received, socket: SocketId, stats: &mut ReceiveStats) -> RecvMeta {
    stats.messages += 1;
    match message.source {
        Some(source) if !message.truncated => {
            stats.merged += u64::from(message.stride.is_some_and(|stride| stride < message.len));
            RecvMeta { len: message.len, stride: message.stride.unwrap_or(message.len), source, socket }
        }
        _ => {
            stats.cut_off += 1;
            RecvMeta { len: 0, stride: 1, source: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), socket }
        }
    }
}

/// Sends single datagrams from a worker's address: handshakes, probes.
#[derive(Debug)]
pub(crate) struct UdpSender {
    socket: StdSocket,
    family: Family,
    underlay: Underlay,
    cutting: Cutting,
    extras: Arc<Extras>,
}

impl UdpSender {
    /// Another one of the same port.
    ///
    /// # Errors
    /// Those of `fcntl(2)`: no more descriptors.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let (cutting, underlay, extras) = (self.cutting.clone(), self.underlay.clone(), Arc::clone(&self.extras));
        Ok(Self { socket: self.socket.try_clone()?, family: self.family, underlay, cutting, extras })
    }

    /// Sends one datagram, which must not be fragmented. Never blocks.
    ///
    /// # Errors
    /// Those of `sendto(2)`; `EMSGSIZE` where it is larger than the link carries, `EAFNOSUPPORT` for IPv6 on a machine that has none,
    /// `ENETUNREACH` where only the mesh leads there.
    pub(crate) fn send_to(&self, datagram: &[u8], destination: SocketAddr) -> io::Result<()> {
        self.send_as(datagram, destination, Fragments::Never)
    }

    /// As [`send_to`](Self::send_to), for a datagram that may be fragmented.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn send_as(&self, datagram: &[u8], destination: SocketAddr, fragments: Fragments) -> io::Result<()> {
        self.send_by(SocketId::MAIN, datagram, destination, fragments)
    }

    /// The sockets beside it.
    #[must_use]
    pub(crate) fn extras(&self) -> Arc<Extras> {
        Arc::clone(&self.extras)
    }

    /// As [`send_as`](Self::send_as), by a socket beside it.
    ///
    /// # Errors
    /// The same, and `ENOTCONN` where that socket is closed.
    pub(crate) fn send_by(
        &self,
        socket: SocketId,
        datagram: &[u8],
        destination: SocketAddr,
        fragments: Fragments,
    ) -> io::Result<()> {
        let place = self.family.place(destination, self.underlay.to(destination.ip()))?;
        let extra = if socket == SocketId::MAIN { None } else { Some(self.extras.get(socket).ok_or_else(closed)?) };
        let fd = extra.as_ref().map_or(self.socket.as_fd(), |extra| extra.as_fd());
        let cutting = if extra.is_some() { self.extras.cutting() } else { &self.cutting };
        cutting.send(fd, self.family, destination.ip(), fragments, || udp::send(fd, &place.message(datagram, None)))
    }
}

fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOTCONN)
}

#[cfg(test)]
mod tests;
