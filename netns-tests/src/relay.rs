//! A wire that reorders and doubles: a host between two nodes, which each takes for the other.
//!
//! There is no netem on many machines, and for UDP a relay does as well: it has one socket for each node, and what comes to
//! the one leaves by the other.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::host::Host;

/// Most datagrams that may overtake one.
const DEPTH: u64 = 64;

/// One in so many is doubled, and one in so many is held back: 5 % each.
const ONE_IN: u64 = 20;

/// How long the wire may be silent before what is held back goes on, so that nothing is held for ever.
const SILENCE: Duration = Duration::from_millis(5);

/// A running relay. It ends when dropped.
#[derive(Debug)]
pub struct Relay {
    end: Arc<AtomicBool>,
    doubled: Arc<AtomicU64>,
    late: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

/// One end of a [`Relay`].
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Where the node listens.
    pub at: SocketAddr,
    /// Where the relay stands for it.
    pub stand_in: SocketAddr,
}

impl Relay {
    /// Starts to relay on `host` between two nodes, in an order that `seed` decides.
    ///
    /// # Panics
    /// When a socket cannot be opened.
    #[must_use]
    pub fn start(host: &Host, nodes: [Node; 2], seed: u64) -> Self {
        let open = |node: &Node| {
            let socket = host.enter(|| UdpSocket::bind(node.stand_in)).expect("bind the relay");
            socket.set_read_timeout(Some(SILENCE)).expect("set a timeout");
            // Best effort, as far as the machine's rmem_max goes.
            let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20);
            Arc::new(socket)
        };
        let [one, two] = nodes.each_ref().map(open);
        let (end, doubled, late) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::default());
        // What the second node's stand-in hears is from the first node, and goes to the second.
        let ways = [(two.clone(), one.clone(), nodes[1].at), (one, two, nodes[0].at)];
        let threads = (seed..).zip(ways).map(|(seed, (from, by, to))| {
            let mut way = Way::new(by, to, seed, Arc::clone(&doubled), Arc::clone(&late));
            let end = Arc::clone(&end);
            thread::spawn(move || way.run(&from, &end))
        });
        let threads = threads.collect();
        Self { end, doubled, late, threads }
    }

    /// Datagrams that it sent twice so far.
    #[must_use]
    pub fn doubled(&self) -> u64 {
        self.doubled.load(Ordering::Relaxed)
    }

    /// Datagrams that it held back so far until others had overtaken them.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of a way shows as a test without traffic.
            let _ = thread.join();
        }
    }
}

/// One direction.
struct Way {
    by: Arc<UdpSocket>,
    to: SocketAddr,
    random: u64,
    /// Datagrams that came so far.
    count: u64,
    /// What is held back, by the count at which it goes on.
    held: BTreeMap<(u64, u64), Vec<u8>>,
    doubled: Arc<AtomicU64>,
    late: Arc<AtomicU64>,
}

impl Way {
    fn new(by: Arc<UdpSocket>, to: SocketAddr, seed: u64, doubled: Arc<AtomicU64>, late: Arc<AtomicU64>) -> Self {
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { by, to, random, count: 0, held: BTreeMap::new(), doubled, late }
    }

    fn run(&mut self, from: &UdpSocket, end: &AtomicBool) {
        let mut buffer = vec![0; 1 << 16];
        while !end.load(Ordering::Relaxed) {
            match from.recv(&mut buffer) {
                Ok(n) => self.pass(buffer.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.release(u64::MAX),
                // A node that does not listen yet.
                Err(_) => {}
            }
        }
    }

    fn pass(&mut self, datagram: &[u8]) {
        self.count += 1;
        if self.one_in(ONE_IN) {
            self.doubled.fetch_add(1, Ordering::Relaxed);
            self.hold(datagram);
        }
        if self.one_in(ONE_IN) {
            self.late.fetch_add(1, Ordering::Relaxed);
            self.hold(datagram);
        } else {
            self.send(datagram);
        }
        self.release(self.count);
    }

    fn hold(&mut self, datagram: &[u8]) {
        let due = self.count + 1 + self.draw() % DEPTH;
        self.held.insert((due, self.random), datagram.to_vec());
    }

    fn release(&mut self, until: u64) {
        while let Some(entry) = self.held.first_entry().filter(|entry| entry.key().0 <= until) {
            let datagram = entry.remove();
            self.send(&datagram);
        }
    }

    fn send(&self, datagram: &[u8]) {
        // A node that is not there loses what is sent to it, as on any wire.
        let _ = self.by.send_to(datagram, self.to);
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.draw().is_multiple_of(n)
    }

    /// xorshift64.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }
}
