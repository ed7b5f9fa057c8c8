//! Threads that carry frames between two interfaces, each frame as long after it came as the link is slow.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::host::Host;

/// Frames that may be under way in a direction; a fuller link drops, as a router does. At 300 ms they are 160 Mbit/s of
/// full frames, and 6 MB.
const DEPTH: usize = 4096;

/// How long a thread may hang in a read after it was told to end.
const READ_TIMEOUT_MS: i64 = 20;

/// Room for bursts while a thread does not run, in bytes; the kernel grants what its `rmem_max` allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// `sll_pkttype` of what this host sends (packet(7), `PACKET_OUTGOING`).
const OUTGOING: u8 = 4;

/// A running delay between two interfaces. It ends when dropped.
#[derive(Debug)]
pub(super) struct Delay {
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// A packet socket, and the one interface that it is for.
struct Port {
    socket: OwnedFd,
    index: usize,
}

/// A frame, and when it goes on.
type Held = (Instant, Vec<u8>);

impl Delay {
    /// Starts to carry frames between two interfaces of `host`.
    pub(super) fn start(host: &Host, interfaces: [&str; 2], delay: Duration) -> Self {
        let [one, two] = interfaces.map(|interface| Arc::new(host.enter(|| Port::open(interface))));
        let end = Arc::<AtomicBool>::default();
        let ways = [(Arc::clone(&one), Arc::clone(&two)), (two, one)];
        let threads = ways.into_iter().flat_map(|(from, to)| {
            let (queue, held) = sync_channel(DEPTH);
            let end = Arc::clone(&end);
            [thread::spawn(move || from.hold(delay, &queue, &end)), thread::spawn(move || to.release(&held))]
        });
        let threads = threads.collect();
        Self { end, threads }
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of a thread shows as a link that carries nothing.
            let _ = thread.join();
        }
    }
}

impl Port {
    fn open(interface: &str) -> Self {
        let mut links = getifaddrs().expect("list the interfaces").filter(|entry| entry.interface_name == interface);
        let address = links.find_map(|entry| entry.address?.as_link_addr().copied());
        let address = address.unwrap_or_else(|| panic!("no interface {interface}"));
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::EthAll))
            .expect("open a packet socket");
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(READ_TIMEOUT_MS)).expect("set a timeout");
        // Best effort: the kernel caps it silently.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        bind(socket.as_raw_fd(), &address).expect("bind to the interface");
        Self { socket, index: address.ifindex() }
    }

    fn hold(&self, delay: Duration, queue: &SyncSender<Held>, end: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        while !end.load(Ordering::Relaxed) {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                // Before it was bound the socket heard every interface.
                Ok((length, Some(from))) if from.ifindex() == self.index && from.pkttype() != OUTGOING => {
                    let frame = buffer.get(..length).unwrap_or_default().to_vec();
                    // A full queue drops, as a router's does.
                    let _ = queue.try_send((Instant::now() + delay, frame));
                }
                // ENETDOWN: the link is cut.
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => panic!("slow link: {error}"),
            }
        }
    }

    fn release(&self, held: &Receiver<Held>) {
        while let Ok((due, frame)) = held.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // A link that was cut meanwhile loses what is under way.
            let _ = send(self.socket.as_raw_fd(), &frame, MsgFlags::empty());
        }
    }
}
