//! The TUN device of the host: whole packets and super-packets, with what the kernel left undone in them.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use proto::data::{Device, DeviceSend};
use proto::packet::vnet::{self, Accepted, VNET_HEADER_LEN};
use proto::packet::{Gso, MAX_PACKET, Offload, Part};

use crate::sys::tun::{self, OffloadMask, QueueKind};

/// One queue of a TUN interface.
///
/// The interface lives as long as one of its queues is open, unless somebody made it persistent.
pub(crate) struct TunDevice {
    file: File,
    level: OffloadLevel,
    tcp: GsoWrites,
    udp: GsoWrites,
    scratch: Box<[u8]>,
    is_gone: bool,
    stats: DeviceStats,
}

/// The interface that a set of queues belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceInfo {
    /// Its name, as the kernel has it.
    pub(crate) name: String,
    /// Its index.
    pub(crate) index: u32,
    /// What its packets come and go with.
    pub(crate) offload: OffloadLevel,
}

/// What a TUN interface takes off our hands: each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OffloadLevel {
    /// Finished packets both ways.
    Plain,
    /// Finished packets are read; unfinished ones and super-packets may be written.
    Write,
    /// Unfinished packets and TCP super-packets are read too.
    Tcp,
    /// UDP super-packets are read too.
    TcpUdp,
}

/// What happened on one queue. Numbers of packets; a super-packet is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceStats {
    /// Read.
    pub(crate) read: u64,
    /// Of these: super-packets.
    pub(crate) read_super: u64,
    /// Of these: their checksum was of a kind that only the device could complete.
    pub(crate) read_completed: u64,
    /// Read but dropped: the virtio header made no sense.
    pub(crate) read_malformed: u64,
    /// Reads that failed for another reason than that nothing was waiting.
    pub(crate) read_failed: u64,
    /// Written.
    pub(crate) written: u64,
    /// Of these: super-packets.
    pub(crate) written_super: u64,
    /// Super-packets refused, to be written in segments.
    pub(crate) refused: u64,
    /// Dropped: not what its `Offload` said, or a part outside the memory.
    pub(crate) dropped_malformed: u64,
    /// Dropped: the interface is down or gone.
    pub(crate) dropped_down: u64,
    /// Dropped: the kernel had no room, or did not like the packet.
    pub(crate) dropped_other: u64,
}

impl TunDevice {
    /// Opens `queues` queues (at least one) of interface `name`, creating it where it does not exist, at the highest
    /// [`OffloadLevel`] up to `most` that the kernel has. Needs `CAP_NET_ADMIN`.
    ///
    /// Of several queues, the kernel hands a flow's packets to the one through which a packet of that flow was written last, and
    /// chooses by the flow's hash where none was (`tun_automq_select_queue`). Both directions of a flow so stay with one worker.
    ///
    /// An inherited persistent interface is put into the same state as a new one. Its address, MTU and state are the
    /// business of others.
    ///
    /// # Errors
    /// No `/dev/net/tun`, no permission, `EBUSY` where somebody else has the interface, `EINVAL` where it is of another
    /// kind.
    pub(crate) fn open(name: &str, queues: usize, most: OffloadLevel) -> io::Result<(Vec<Self>, DeviceInfo)> {
        let mut error = io::Error::from_raw_os_error(libc::EINVAL);
        for level in OffloadLevel::FROM_THE_TOP.into_iter().filter(|level| *level <= most) {
            match open_at(name, queues, level) {
                Ok(opened) => return Ok(opened),
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => error = e,
                Err(e) => return Err(e),
            }
        }
        Err(error)
    }

    /// A handle by which another thread can write single packets.
    ///
    /// # Errors
    /// `EMFILE` and the like.
    pub(crate) fn try_clone_writer(&self) -> io::Result<TunWriter> {
        Ok(TunWriter { file: self.file.try_clone()?, has_header: self.level != OffloadLevel::Plain })
    }

    /// What happened so far.
    #[must_use]
    pub(crate) const fn stats(&self) -> DeviceStats {
        self.stats
    }

    /// Whether the interface was deleted under us. epoll then reports a failure for ever.
    #[must_use]
    pub(crate) const fn is_gone(&self) -> bool {
        self.is_gone
    }
}

/// Writes finished packets: ICMP errors of the core.
#[derive(Debug)]
pub(crate) struct TunWriter {
    file: File,
    has_header: bool,
}

impl TunWriter {
    /// Writes one packet.
    ///
    /// # Errors
    /// Those of `write(2)` on a TUN queue: the interface is down, or has no room.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<()> {
        let header = [0; VNET_HEADER_LEN];
        let pieces = [IoSlice::new(&header), IoSlice::new(packet)];
        let pieces = pieces.get(usize::from(!self.has_header)..).unwrap_or_default();
        retry_interrupted(|| (&self.file).write_vectored(pieces))
    }
}

fn open_at(name: &str, queues: usize, level: OffloadLevel) -> io::Result<(Vec<TunDevice>, DeviceInfo)> {
    let kind = QueueKind { vnet_header: level != OffloadLevel::Plain, multi_queue: queues > 1 };
    let (first, name) = tun::open_queue(name, kind)?;
    if kind.vnet_header {
        tun::set_vnet_header(first.as_fd())?;
    }
    tun::set_offload(first.as_fd(), level.mask())?;
    let index = nix::net::if_::if_nametoindex(name.as_str())?;
    let mut devices = vec![TunDevice::new(first, level)];
    for _ in 1..queues {
        devices.push(TunDevice::new(tun::open_queue(&name, kind)?.0, level));
    }
    Ok((devices, DeviceInfo { name, index, offload: level }))
}

impl OffloadLevel {
    const FROM_THE_TOP: [Self; 4] = [Self::TcpUdp, Self::Tcp, Self::Write, Self::Plain];

    const fn mask(self) -> OffloadMask {
        match self {
            Self::Plain | Self::Write => OffloadMask::Nothing,
            Self::Tcp => OffloadMask::Tcp,
            Self::TcpUdp => OffloadMask::TcpUdp,
        }
    }
}

impl AsFd for TunDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Device for TunDevice {
    fn recv(&mut self, buffer: &mut [u8]) -> Option<(usize, Offload)> {
        loop {
            let (header, len) = self.read(buffer)?;
            let accepted = match (header, buffer.get_mut(..len)) {
                (None, Some(_)) => Some(Accepted::As(Offload::default())),
                (Some(header), Some(packet)) => vnet::accept(&header, packet),
                (_, None) => None,
            };
            let offload = match accepted {
                None => {
                    self.stats.read_malformed += 1;
                    continue;
                }
                Some(Accepted::Completed) => {
                    self.stats.read_completed += 1;
                    Offload::default()
                }
                Some(Accepted::As(offload)) => offload,
            };
            self.stats.read += 1;
            self.stats.read_super += u64::from(offload.gso != Gso::None);
            return Some((len, offload));
        }
    }

    fn send(&mut self, memory: &[u8], parts: &[Part], offload: Offload) -> DeviceSend {
        if !self.takes(offload.gso) {
            self.stats.refused += 1;
            return DeviceSend::Refused;
        }
        let Some(first) = parts.first().and_then(|part| bytes_of(memory, part)) else { return self.malformed() };
        if self.level == OffloadLevel::Plain && offload.partial_checksum {
            return self.send_completed(memory, parts);
        }
        let Some(header) = vnet::describe(first, offload) else { return self.malformed() };
        let written = match parts {
            [_] => self.write(&header, &[first]),
            _ if parts.len() <= MAX_PARTS => {
                let mut pieces: [&[u8]; MAX_PARTS] = [&[]; MAX_PARTS];
                for (piece, part) in pieces.iter_mut().zip(parts) {
                    let Some(bytes) = bytes_of(memory, part) else { return self.malformed() };
                    *piece = bytes;
                }
                self.write(&header, pieces.get(..parts.len()).unwrap_or_default())
            }
            _ => {
                let Some(len) = gather(memory, parts, &mut self.scratch) else { return self.malformed() };
                self.write(&header, &[self.scratch.get(..len).unwrap_or_default()])
            }
        };
        self.account(written, offload.gso)
    }
}

/// Parts of the largest run: one per datagram of a GSO batch, and two to spare. More are copied together first.
const MAX_PARTS: usize = 66;

impl TunDevice {
    fn new(file: File, level: OffloadLevel) -> Self {
        let scratch = vec![0; MAX_PACKET].into_boxed_slice();
        let untried = GsoWrites::Untried { refusals: 0 };
        Self { file, level, tcp: untried, udp: untried, scratch, is_gone: false, stats: DeviceStats::default() }
    }

    /// One packet and its virtio header, where there is one. A read that is too short for the header is malformed, and
    /// told as longer than any buffer.
    fn read(&mut self, buffer: &mut [u8]) -> Option<(Option<[u8; VNET_HEADER_LEN]>, usize)> {
        let mut header = [0; VNET_HEADER_LEN];
        loop {
            let read = if self.level == OffloadLevel::Plain {
                self.file.read(buffer).map(|len| (None, len))
            } else {
                let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
                let read = self.file.read_vectored(&mut pieces);
                read.map(|len| (Some(header), len.checked_sub(VNET_HEADER_LEN).unwrap_or(usize::MAX)))
            };
            match read {
                Ok(read) => return Some(read),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return None,
                Err(e) => {
                    self.stats.read_failed += 1;
                    self.is_gone |= e.raw_os_error() == Some(libc::EBADFD);
                    return None;
                }
            }
        }
    }

    /// Writes the whole packet with one call: the queue takes all of it or nothing.
    fn write(&self, header: &[u8; VNET_HEADER_LEN], pieces: &[&[u8]]) -> io::Result<()> {
        if let ([packet], OffloadLevel::Plain) = (pieces, self.level) {
            return retry_interrupted(|| (&self.file).write(packet));
        }
        if let [packet] = pieces {
            // Most packets: no large array to clear.
            return retry_interrupted(|| (&self.file).write_vectored(&[IoSlice::new(header), IoSlice::new(packet)]));
        }
        let mut vector = [IoSlice::new(&[]); 1 + MAX_PARTS];
        let with_header = std::iter::once(header.as_slice()).chain(pieces.iter().copied());
        for (slot, piece) in vector.iter_mut().zip(with_header) {
            *slot = IoSlice::new(piece);
        }
        let skip = usize::from(self.level == OffloadLevel::Plain);
        let vector = vector.get(skip..=pieces.len()).unwrap_or_default();
        retry_interrupted(|| (&self.file).write_vectored(vector))
    }

    /// The plain mode has no header to say that a checksum is partial.
    fn send_completed(&mut self, memory: &[u8], parts: &[Part]) -> DeviceSend {
        let Some(len) = gather(memory, parts, &mut self.scratch) else { return self.malformed() };
        let packet = self.scratch.get_mut(..len).unwrap_or_default();
        if !vnet::complete_checksum(packet) {
            return self.malformed();
        }
        let written = retry_interrupted(|| (&self.file).write(packet));
        self.account(written, Gso::None)
    }

    fn account(&mut self, written: io::Result<()>, gso: Gso) -> DeviceSend {
        let error = match written {
            Ok(()) => {
                self.stats.written += 1;
                if let Some(writes) = self.gso_writes(gso) {
                    *writes = GsoWrites::Work;
                    self.stats.written_super += 1;
                }
                return DeviceSend::Sent;
            }
            Err(error) => error.raw_os_error(),
        };
        if let (Some(libc::EINVAL), Some(writes)) = (error, self.gso_writes(gso)) {
            *writes = writes.after_refusal();
            self.stats.refused += 1;
            return DeviceSend::Refused;
        }
        match error {
            // EIO: down. It says nothing about super-packets: the kernel returns EINVAL for one that it cannot take.
            Some(libc::EIO | libc::ENETDOWN) => self.stats.dropped_down += 1,
            Some(libc::EBADFD) => {
                self.is_gone = true;
                self.stats.dropped_down += 1;
            }
            _ => self.stats.dropped_other += 1,
        }
        DeviceSend::Dropped
    }

    const fn malformed(&mut self) -> DeviceSend {
        self.stats.dropped_malformed += 1;
        DeviceSend::Dropped
    }

    const fn takes(&self, gso: Gso) -> bool {
        match gso {
            Gso::None => true,
            Gso::Tcp => !matches!(self.level, OffloadLevel::Plain) && !matches!(self.tcp, GsoWrites::Off),
            Gso::Udp => !matches!(self.level, OffloadLevel::Plain) && !matches!(self.udp, GsoWrites::Off),
        }
    }

    const fn gso_writes(&mut self, gso: Gso) -> Option<&mut GsoWrites> {
        match gso {
            Gso::None => None,
            Gso::Tcp => Some(&mut self.tcp),
            Gso::Udp => Some(&mut self.udp),
        }
    }
}

/// Whether the kernel takes super-packets of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GsoWrites {
    /// None was ever taken, and so many were refused.
    Untried { refusals: u8 },
    /// One was taken. A refusal after that is that packet's fault: a peer must not be able to switch offload off for all
    /// with a bad packet.
    Work,
    /// None is taken: further ones are refused without a system call.
    Off,
}

impl GsoWrites {
    /// Refusals, before any success, that are enough to believe that the kernel has no such offload.
    const ENOUGH: u8 = 4;

    const fn after_refusal(self) -> Self {
        match self {
            Self::Untried { refusals } if refusals + 1 < Self::ENOUGH => Self::Untried { refusals: refusals + 1 },
            Self::Untried { .. } | Self::Off => Self::Off,
            Self::Work => Self::Work,
        }
    }
}

fn bytes_of<'a>(memory: &'a [u8], part: &Part) -> Option<&'a [u8]> {
    memory.get(part.start..part.start.checked_add(part.len)?)
}

/// Copies the parts together and returns their length; `None`: one is outside `memory`, or they are too long.
fn gather(memory: &[u8], parts: &[Part], scratch: &mut [u8]) -> Option<usize> {
    let mut len = 0_usize;
    for part in parts {
        let end = len.checked_add(part.len)?;
        scratch.get_mut(len..end)?.copy_from_slice(bytes_of(memory, part)?);
        len = end;
    }
    Some(len)
}

fn retry_interrupted(mut write: impl FnMut() -> io::Result<usize>) -> io::Result<()> {
    loop {
        match write() {
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
pub(crate) mod namespace;
#[cfg(test)]
pub(crate) mod tests;
