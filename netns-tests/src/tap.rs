//! Captures what passes an interface: packets from the IP header on (packet(7), `SOCK_DGRAM`).

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::host::Host;
use crate::wait::wait_for;

/// `sll_pkttype` of what this host sends (packet(7), `PACKET_OUTGOING`).
const OUTGOING: u8 = 4;

/// How long the thread may hang in a read after it was told to end.
const READ_TIMEOUT_MS: i64 = 50;

/// Room for bursts while the thread does not run, in bytes; the kernel grants what its `rmem_max` allows.
const RECEIVE_BUFFER: usize = 8 << 20;

/// A running capture. It ends when dropped.
#[derive(Debug)]
pub struct Tap {
    frames: Arc<Mutex<Vec<Frame>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    place: String,
}

/// One captured packet.
#[derive(Clone, Debug)]
pub struct Frame {
    /// When the capture saw it.
    pub at: Instant,
    /// Whether the host sent it.
    pub outgoing: bool,
    /// From the IP header on; a TCP or UDP super-packet of segmentation offload is one frame.
    pub packet: Vec<u8>,
}

/// The UDP part of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Where it came from.
    pub source: SocketAddr,
    /// Where it went.
    pub destination: SocketAddr,
    /// What it carried.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Source and destination address; none when this is no IP packet.
    #[must_use]
    pub fn addresses(&self) -> Option<(IpAddr, IpAddr)> {
        match SlicedPacket::from_ip(&self.packet).ok()?.net? {
            NetSlice::Ipv4(v4) => Some((v4.header().source_addr().into(), v4.header().destination_addr().into())),
            NetSlice::Ipv6(v6) => Some((v6.header().source_addr().into(), v6.header().destination_addr().into())),
            NetSlice::Arp(_) => None,
        }
    }

    /// The UDP datagram in it, if any.
    #[must_use]
    pub fn datagram(&self) -> Option<Datagram> {
        let (source, destination) = self.addresses()?;
        let Some(TransportSlice::Udp(udp)) = SlicedPacket::from_ip(&self.packet).ok()?.transport else { return None };
        Some(Datagram {
            source: SocketAddr::new(source, udp.source_port()),
            destination: SocketAddr::new(destination, udp.destination_port()),
            payload: udp.payload().to_vec(),
        })
    }

    /// Whether it is a part of a packet that was cut on its way (IPv4 or IPv6 fragment).
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        let net = SlicedPacket::from_ip(&self.packet).ok().and_then(|sliced| sliced.net);
        net.is_some_and(|net| match net {
            NetSlice::Ipv4(v4) => v4.payload().fragmented,
            NetSlice::Ipv6(v6) => v6.payload().fragmented,
            NetSlice::Arp(_) => false,
        })
    }

    /// Whether `marker` is anywhere in it.
    #[must_use]
    pub fn contains(&self, marker: &[u8]) -> bool {
        self.packet.windows(marker.len()).any(|window| window == marker)
    }
}

impl Tap {
    /// Starts to capture at `interface` of `host`; it sees everything from here on.
    ///
    /// # Panics
    /// When there is no such interface.
    #[track_caller]
    #[must_use]
    pub fn on(host: &Host, interface: &str) -> Self {
        let (socket, index) = host.enter(|| open(interface));
        let (frames, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (frames, end) = (Arc::clone(&frames), Arc::clone(&end));
            move || capture(&socket, index, &frames, &end)
        });
        Self { frames, end, thread: Some(thread), place: format!("{}/{interface}", host.name()) }
    }

    /// Everything captured so far.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        self.lock().clone()
    }

    /// The UDP datagrams captured so far.
    #[must_use]
    pub fn datagrams(&self) -> Vec<Datagram> {
        self.lock().iter().filter_map(Frame::datagram).collect()
    }

    /// The UDP datagrams between two addresses, in both directions.
    ///
    /// # Panics
    /// When one is no address.
    #[must_use]
    pub fn udp_between(&self, a: &str, b: &str) -> Vec<Datagram> {
        let (a, b): (IpAddr, IpAddr) = (a.parse().expect("an address"), b.parse().expect("an address"));
        let between = |d: &Datagram| [(a, b), (b, a)].contains(&(d.source.ip(), d.destination.ip()));
        self.datagrams().into_iter().filter(between).collect()
    }

    /// How many packets captured so far have `address` as source or destination.
    ///
    /// # Panics
    /// When it is no address.
    #[must_use]
    pub fn packets_with(&self, address: &str) -> usize {
        let address: IpAddr = address.parse().expect("an address");
        let with = |frame: &&Frame| frame.addresses().is_some_and(|(from, to)| from == address || to == address);
        self.lock().iter().filter(with).count()
    }

    /// Whether any frame captured so far contains `marker`.
    #[must_use]
    pub fn contains(&self, marker: &[u8]) -> bool {
        self.lock().iter().any(|frame| frame.contains(marker))
    }

    /// Forgets what was captured so far.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Waits until a frame satisfies `look`, and returns what it found.
    ///
    /// # Panics
    /// When none does within `limit`.
    #[track_caller]
    pub fn wait_for<T>(&self, limit: Duration, what: &str, look: impl Fn(&Frame) -> Option<T>) -> T {
        let what = format!("{what} at {}", self.place);
        wait_for(limit, &what, || self.lock().iter().find_map(&look))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Frame>> {
        self.frames.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the capture is a failed test already.
            let _ = thread.join();
        }
    }
}

fn open(interface: &str) -> (OwnedFd, usize) {
    let index = if_nametoindex(interface).unwrap_or_else(|error| panic!("interface {interface}: {error}"));
    // Not bound: an address for bind() cannot be made without unsafe code. It hears every interface; we pick one.
    let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::EthAll))
        .expect("open a packet socket");
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(READ_TIMEOUT_MS)).expect("set a timeout");
    // Best effort: the kernel caps it silently.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
    (socket, usize::try_from(index).expect("an index fits"))
}

fn capture(socket: &OwnedFd, index: usize, frames: &Mutex<Vec<Frame>>, end: &AtomicBool) {
    let mut buffer = vec![0; 1 << 17];
    while !end.load(Ordering::Relaxed) {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, Some(from))) if from.ifindex() == index => {
                let packet = buffer.get(..length).unwrap_or_default().to_vec();
                let frame = Frame { at: Instant::now(), outgoing: from.pkttype() == OUTGOING, packet };
                frames.lock().unwrap_or_else(PoisonError::into_inner).push(frame);
            }
            // ENETDOWN: an interface of the namespace went away; others go on.
            Ok(_) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => {}
            Err(error) => panic!("capture: {error}"),
        }
    }
}
