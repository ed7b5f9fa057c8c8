//! Traffic between hosts, and what became of it: ping, TCP transfers with checksums, UDP exchanges, numbered streams.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ring::digest;

use crate::host::Host;
use crate::wait::{wait_for, wait_until};

/// How long a socket waits for the next byte before the traffic counts as stuck.
const STUCK: Duration = Duration::from_secs(15);

/// The answer to a run of `ping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinged {
    /// Requests sent.
    pub sent: u32,
    /// Replies received.
    pub received: u32,
}

impl Pinged {
    /// Requests without a reply.
    #[must_use]
    pub const fn lost(self) -> u32 {
        self.sent - self.received
    }
}

/// Sends `count` echo requests, 50 ms apart, and waits up to 1 s for the last reply.
///
/// # Panics
/// When `ping` is missing.
#[track_caller]
#[must_use]
pub fn ping(from: &Host, to: &str, count: u32) -> Pinged {
    ping_with(from, to, count, "-i 0.05 -W 1")
}

/// [`ping`] with other options, such as `-M do -s 1392`.
///
/// # Panics
/// When `ping` is missing or writes no statistics.
#[track_caller]
#[must_use]
pub fn ping_with(from: &Host, to: &str, count: u32, options: &str) -> Pinged {
    let done = from.run(&format!("ping -n -c {count} {options} {to}"));
    let statistics = done.stdout.lines().find(|line| line.contains("packets transmitted"));
    // Without a route it says so and exits without statistics: nothing was sent that could be answered.
    let Some(statistics) = statistics else { return Pinged { sent: count, received: 0 } };
    let number = |part: &str| -> u32 {
        let words: Vec<&str> = part.split_whitespace().collect();
        words.iter().find_map(|word| word.parse().ok()).expect("a count")
    };
    let mut parts = statistics.split(',');
    let sent = number(parts.next().unwrap_or_default());
    Pinged { sent: sent.max(count), received: number(parts.next().unwrap_or_default()) }
}

/// A TCP transfer to make.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// How much, in bytes.
    pub bytes: u64,
    /// At most this many bytes per second; none is as fast as it goes.
    pub pace: Option<u64>,
}

impl Transfer {
    /// `bytes`, as fast as it goes.
    #[must_use]
    pub const fn of(bytes: u64) -> Self {
        Self { bytes, pace: None }
    }
}

/// A TCP transfer that came to its end with equal checksums.
#[derive(Clone, Copy, Debug)]
pub struct Transferred {
    /// The sender's address as the receiver saw it.
    pub seen_source: SocketAddr,
    /// From connect to the receiver's last byte.
    pub took: Duration,
    /// How much.
    pub bytes: u64,
}

impl Transferred {
    /// The rate in Gbit/s.
    #[must_use]
    pub fn gigabits_per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let bits = (self.bytes * 8) as f64;
        bits / self.took.as_secs_f64() / 1e9
    }
}

/// Sends `transfer` from `from` over TCP to `address`, which is an address of `to`.
///
/// # Panics
/// When it does not arrive whole and unchanged, or stalls.
#[track_caller]
#[must_use]
pub fn tcp_transfer(from: &Host, to: &Host, address: &str, transfer: Transfer) -> Transferred {
    tcp_transfer_marked(from, to, address, transfer, b"")
}

/// [`tcp_transfer`] whose content begins with `marker`.
///
/// # Panics
/// When it does not arrive whole and unchanged, or stalls.
#[track_caller]
#[must_use]
pub fn tcp_transfer_marked(from: &Host, to: &Host, address: &str, transfer: Transfer, marker: &[u8]) -> Transferred {
    let address: IpAddr = address.parse().expect("an address");
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(address, 0))).expect("listen");
    let target = listener.local_addr().expect("a listener has an address");
    let started = Instant::now();
    let nobody_comes = AtomicBool::new(false);
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&listener, &nobody_comes, transfer.bytes));
        let sender = from.enter(|| TcpStream::connect_timeout(&target, STUCK)).and_then(|s| send(s, transfer, marker));
        nobody_comes.store(sender.is_err(), Ordering::Release);
        (sender, receiver.join().expect("the receiver does not panic"))
    });
    let took = started.elapsed();
    let route = format!("TCP from {} to {} at {target}", from.name(), to.name());
    let sent = sent.unwrap_or_else(|error| panic!("{route}: sender: {error}"));
    let (seen_source, bytes, digest) = received.unwrap_or_else(|error| panic!("{route}: receiver: {error}"));
    assert_eq!(bytes, transfer.bytes, "{route}: bytes received");
    assert_eq!(sent.as_ref(), digest.as_ref(), "{route}: the checksums differ");
    Transferred { seen_source, took, bytes }
}

fn send(mut stream: TcpStream, transfer: Transfer, marker: &[u8]) -> io::Result<digest::Digest> {
    stream.set_write_timeout(Some(STUCK))?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut block = vec![0; 64 << 10];
    Content::default().fill(&mut block);
    let (started, mut sent) = (Instant::now(), 0u64);
    while sent < transfer.bytes {
        let room = usize::try_from(transfer.bytes - sent).unwrap_or(usize::MAX).min(block.len());
        let part = block.get_mut(..room).unwrap_or_default();
        // Its place makes every block another, so that none can stand in for another; the marker begins the first.
        let place = sent.to_be_bytes();
        let stamp = if sent == 0 && !marker.is_empty() { marker } else { &place };
        part.iter_mut().zip(stamp).for_each(|(byte, new)| *byte = *new);
        context.update(part);
        stream.write_all(part)?;
        sent += room as u64;
        if let Some(pace) = transfer.pace {
            let due = started + Duration::from_micros(sent.saturating_mul(1_000_000) / pace);
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(context.finish())
}

fn accept(listener: &TcpListener, nobody_comes: &AtomicBool) -> io::Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    loop {
        match listener.accept() {
            Ok((stream, source)) => {
                stream.set_nonblocking(false)?;
                return Ok((stream, source));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !nobody_comes.load(Ordering::Acquire) => {
                thread::sleep(Duration::from_millis(1));
            }
            Err(error) => return Err(error),
        }
    }
}

fn receive(
    listener: &TcpListener,
    nobody_comes: &AtomicBool,
    expected: u64,
) -> io::Result<(SocketAddr, u64, digest::Digest)> {
    let (mut stream, source) = accept(listener, nobody_comes)?;
    stream.set_read_timeout(Some(STUCK))?;
    let (mut context, mut total, mut block) = (digest::Context::new(&digest::SHA256), 0, vec![0; 256 << 10]);
    loop {
        let n = stream.read(&mut block)?;
        if n == 0 || total > expected {
            return Ok((source, total, context.finish()));
        }
        context.update(block.get(..n).unwrap_or_default());
        total += n as u64;
    }
}

/// Content that no compression and no repetition can hide an error in (xorshift64).
struct Content(u64);

impl Default for Content {
    fn default() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }
}

impl Content {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            for (byte, new) in chunk.iter_mut().zip(self.0.to_le_bytes()) {
                *byte = new;
            }
        }
    }
}

/// Sends `count` datagrams of `size` bytes from `from` to `address` (of `to`), each of which must come back unchanged.
///
/// Returns the sender's address as the receiver saw it.
///
/// # Panics
/// When one is lost or changed.
#[track_caller]
pub fn udp_exchange(from: &Host, to: &Host, address: &str, count: usize, size: usize) -> SocketAddr {
    let address: IpAddr = address.parse().expect("an address");
    let echo = to.enter(|| UdpSocket::bind(SocketAddr::new(address, 0))).expect("bind the echo socket");
    let target = echo.local_addr().expect("a bound socket has an address");
    let asker = from.enter(|| UdpSocket::bind(unspecified(address))).expect("bind the asking socket");
    for socket in [&echo, &asker] {
        socket.set_read_timeout(Some(Duration::from_secs(3))).expect("set a timeout");
    }
    let route = format!("UDP from {} to {} at {target}", from.name(), to.name());
    let (mut content, mut seen) = (Content::default(), target);
    for number in 0..count {
        let mut question = vec![0; size];
        content.fill(&mut question);
        let mut buffer = vec![0; size + 1];
        asker.send_to(&question, target).unwrap_or_else(|error| panic!("{route}: send {number}: {error}"));
        let (n, source) = echo.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{route}: {number} is lost: {e}"));
        assert_eq!(buffer.get(..n), Some(question.as_slice()), "{route}: {number} changed on its way");
        echo.send_to(&question, source).unwrap_or_else(|error| panic!("{route}: answer {number}: {error}"));
        let n = asker.recv(&mut buffer).unwrap_or_else(|e| panic!("{route}: the answer to {number} is lost: {e}"));
        assert_eq!(buffer.get(..n), Some(question.as_slice()), "{route}: the answer to {number} changed");
        seen = source;
    }
    seen
}

fn unspecified(like: IpAddr) -> SocketAddr {
    let any = if like.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    SocketAddr::new(any, 0)
}

/// A steady one-way stream of numbered UDP datagrams.
#[derive(Debug)]
pub struct Stream {
    route: String,
    end_sending: Arc<AtomicBool>,
    end_receiving: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrivals: Arc<Mutex<Vec<(u64, Instant)>>>,
    sender: Option<JoinHandle<()>>,
    receiver: Option<JoinHandle<()>>,
}

/// What became of a [`Stream`].
#[derive(Clone, Debug)]
pub struct StreamReport {
    /// Datagrams that the sender's kernel took.
    pub sent: u64,
    /// Different datagrams that arrived.
    pub received: u64,
    /// Arrivals of a datagram that had arrived before.
    pub duplicates: u64,
    /// The longest time between two arrivals.
    pub longest_gap: Duration,
    /// The numbers that did not arrive, the first hundred.
    pub missing: Vec<u64>,
}

impl StreamReport {
    /// Datagrams that did not arrive.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.sent - self.received
    }
}

impl Stream {
    /// Starts to send `rate` datagrams a second of 64 bytes from `from` to `address`, which belongs to `to`.
    ///
    /// # Panics
    /// When a socket cannot be opened.
    #[must_use]
    pub fn start(from: &Host, to: &Host, address: &str, rate: u32) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        // Bound to no address: those of a daemon's interface come and go with it.
        let inlet = to.enter(|| UdpSocket::bind(unspecified(address))).expect("bind the receiver");
        inlet.set_read_timeout(Some(Duration::from_millis(20))).expect("set a timeout");
        // Best effort, as far as the machine's rmem_max goes.
        let _ = socket2::SockRef::from(&inlet).set_recv_buffer_size(4 << 20);
        let target = SocketAddr::new(address, inlet.local_addr().expect("an address").port());
        let outlet = from.enter(|| UdpSocket::bind(unspecified(address))).expect("bind the sender");
        let route = format!("stream from {} to {} at {target}", from.name(), to.name());
        let (end_sending, end_receiving) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (sent, arrivals) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let receiver = thread::spawn({
            let (end, arrivals) = (Arc::clone(&end_receiving), Arc::clone(&arrivals));
            move || collect(&inlet, &end, &arrivals)
        });
        let sender = thread::spawn({
            let (end, sent) = (Arc::clone(&end_sending), Arc::clone(&sent));
            move || pour(&outlet, target, rate, &end, &sent)
        });
        Self { route, end_sending, end_receiving, sent, arrivals, sender: Some(sender), receiver: Some(receiver) }
    }

    /// Datagrams sent so far; the next one has this number.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Datagrams that arrived so far.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.lock().len()
    }

    /// Waits for the arrival of a datagram sent from now on, and returns how much later than `moment` it came.
    ///
    /// # Panics
    /// When none arrives within `limit` of `moment`.
    #[track_caller]
    pub fn wait_next_arrival(&self, moment: Instant, limit: Duration) -> Duration {
        let what = format!("an arrival of the {}", self.route);
        // One number more: the sender may be between handing a datagram over and counting it.
        let next = self.sent() + 1;
        let look = || self.lock().iter().find(|(number, _)| *number >= next).map(|(_, at)| *at);
        let arrival = wait_for(limit.saturating_sub(moment.elapsed()), &what, look);
        arrival.duration_since(moment)
    }

    /// Ends the stream, waits for what is under way, and reports.
    #[must_use]
    pub fn stop(mut self) -> StreamReport {
        self.end();
        let arrivals = self.lock();
        let mut numbers: Vec<u64> = arrivals.iter().map(|(number, _)| *number).collect();
        let total = numbers.len() as u64;
        numbers.sort_unstable();
        numbers.dedup();
        let (sent, received) = (self.sent.load(Ordering::Acquire), numbers.len() as u64);
        let missing = (0..sent).filter(|number| numbers.binary_search(number).is_err()).take(100).collect();
        let gaps = arrivals.iter().zip(arrivals.iter().skip(1)).map(|((_, a), (_, b))| b.duration_since(*a));
        let longest_gap = gaps.max().unwrap_or_default();
        StreamReport { sent, received, duplicates: total - received, longest_gap, missing }
    }

    /// Ends the stream, of which nothing may be lost or doubled.
    ///
    /// # Panics
    /// When something is.
    #[track_caller]
    pub fn stop_without_loss(self) -> StreamReport {
        let route = self.route.clone();
        let report = self.stop();
        assert!(report.sent > 0, "{route}: nothing was sent");
        assert_eq!((report.lost(), report.duplicates), (0, 0), "{route}: lost and doubled; {report:?}");
        report
    }

    fn end(&mut self) {
        self.end_sending.store(true, Ordering::Release);
        self.sender.take().map(JoinHandle::join);
        // What is under way arrives within a moment; then silence, or all of it, is the end.
        let (mut last, mut changed) = (self.arrived(), Instant::now());
        wait_until(Duration::from_secs(10), "the stream dries up", || {
            let now = self.arrived();
            if now != last {
                (last, changed) = (now, Instant::now());
            }
            now as u64 >= self.sent.load(Ordering::Acquire) || changed.elapsed() > Duration::from_millis(500)
        });
        self.end_receiving.store(true, Ordering::Release);
        self.receiver.take().map(JoinHandle::join);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Instant)>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end_sending.store(true, Ordering::Release);
        self.end_receiving.store(true, Ordering::Release);
        self.sender.take().map(JoinHandle::join);
        self.receiver.take().map(JoinHandle::join);
    }
}

fn pour(outlet: &UdpSocket, target: SocketAddr, rate: u32, end: &AtomicBool, sent: &AtomicU64) {
    let (started, interval) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut ticks = 0;
    while !end.load(Ordering::Acquire) {
        let mut datagram = [0x5a; 64];
        let number = sent.load(Ordering::Relaxed).to_be_bytes();
        datagram.iter_mut().zip(number).for_each(|(byte, new)| *byte = new);
        // Without a route, as while the daemon restarts, the kernel takes nothing: the number is used again.
        if outlet.send_to(&datagram, target).is_ok() {
            sent.fetch_add(1, Ordering::Release);
        }
        ticks += 1;
        thread::sleep((started + interval * ticks).saturating_duration_since(Instant::now()));
    }
}

fn collect(inlet: &UdpSocket, end: &AtomicBool, arrivals: &Mutex<Vec<(u64, Instant)>>) {
    let mut datagram = [0; 128];
    while !end.load(Ordering::Acquire) {
        let Ok(n) = inlet.recv(&mut datagram) else { continue };
        let number = datagram.get(..8).filter(|_| n == 64).and_then(|bytes| bytes.try_into().ok());
        if let Some(number) = number.map(u64::from_be_bytes) {
            arrivals.lock().unwrap_or_else(PoisonError::into_inner).push((number, Instant::now()));
        }
    }
}

/// Datagrams that may be under way at once: fits the smallest receive buffer and the queue of a TUN interface, so that only
/// the wire can lose any.
const WINDOW: u64 = 64;

/// How long a full window may stand still before the next ones are sent all the same: what is missing is lost.
const STALL: Duration = Duration::from_millis(100);

/// A run of numbered UDP datagrams, sent no faster than they arrive.
#[derive(Clone, Copy, Debug)]
pub struct Numbered {
    /// How many.
    pub count: u64,
    /// Bytes of each, at least 8.
    pub size: usize,
    /// How many are given to the kernel at once (`UDP_SEGMENT`), at most 64.
    pub group: usize,
}

/// What became of [`Numbered`] datagrams.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Datagrams that did not arrive.
    pub lost: u64,
    /// Arrivals of a datagram that had arrived before.
    pub duplicates: u64,
    /// Arrivals that are not what was sent.
    pub changed: u64,
}

/// Sends numbered datagrams from `from` over UDP to `address`, which is an address of `to`.
///
/// # Panics
/// When a socket cannot be opened, or the kernel refuses a datagram.
#[track_caller]
#[must_use]
pub fn udp_numbered(from: &Host, to: &Host, address: &str, numbered: Numbered) -> Arrivals {
    let address: IpAddr = address.parse().expect("an address");
    let inlet = to.enter(|| UdpSocket::bind(SocketAddr::new(address, 0))).expect("bind the receiver");
    inlet.set_read_timeout(Some(Duration::from_millis(10))).expect("set a timeout");
    let target = inlet.local_addr().expect("a bound socket has an address");
    let outlet = from.enter(|| UdpSocket::bind(unspecified(address))).expect("bind the sender");
    let (ended, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive_numbered(&inlet, numbered, &ended, &seen));
        send_numbered(&outlet, target, numbered, &seen);
        ended.store(true, Ordering::Release);
        receiver.join().expect("the receiver does not panic")
    })
}

/// [`udp_numbered`] of which nothing may be lost, doubled or changed.
///
/// # Panics
/// When something is.
#[track_caller]
pub fn udp_numbered_whole(from: &Host, to: &Host, address: &str, numbered: Numbered) {
    let arrivals = udp_numbered(from, to, address, numbered);
    assert_eq!(arrivals, Arrivals::default(), "UDP from {} to {} at {address}", from.name(), to.name());
}

fn numbered_content(number: u64, size: usize) -> Vec<u8> {
    let mut content = number.to_be_bytes().to_vec();
    Content(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).extend(&mut content, size);
    content
}

impl Content {
    fn extend(&mut self, bytes: &mut Vec<u8>, size: usize) {
        let start = bytes.len();
        bytes.resize(size, 0);
        self.fill(bytes.get_mut(start..).unwrap_or_default());
    }
}

/// `seen` is one more than the greatest number that arrived.
fn send_numbered(outlet: &UdpSocket, target: SocketAddr, numbered: Numbered, seen: &AtomicU64) {
    if numbered.group > 1 {
        let size = i32::try_from(numbered.size).expect("a small datagram");
        nix::sys::socket::setsockopt(outlet, nix::sys::socket::sockopt::UdpGsoSegment, &size).expect("UDP_SEGMENT");
    }
    for first in (0..numbered.count).step_by(numbered.group) {
        let last = (first + numbered.group as u64).min(numbered.count);
        let started = Instant::now();
        while last > seen.load(Ordering::Acquire) + WINDOW && started.elapsed() < STALL {
            thread::sleep(Duration::from_micros(200));
        }
        let datagrams: Vec<u8> = (first..last).flat_map(|number| numbered_content(number, numbered.size)).collect();
        outlet.send_to(&datagrams, target).unwrap_or_else(|error| panic!("send {first} to {target}: {error}"));
    }
}

fn receive_numbered(inlet: &UdpSocket, numbered: Numbered, ended: &AtomicBool, seen: &AtomicU64) -> Arrivals {
    let (mut arrivals, mut arrived) = (Arrivals::default(), std::collections::BTreeSet::new());
    let (mut buffer, mut quiet_since) = (vec![0; 1 << 16], Instant::now());
    let is_over = |quiet: Duration| ended.load(Ordering::Acquire) && quiet > Duration::from_millis(300);
    while arrived.len() as u64 != numbered.count && !is_over(quiet_since.elapsed()) {
        let Ok(n) = inlet.recv(&mut buffer) else { continue };
        quiet_since = Instant::now();
        let datagram = buffer.get(..n).unwrap_or_default();
        let number = datagram.first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        if number >= numbered.count || datagram != numbered_content(number, numbered.size) {
            arrivals.changed += 1;
        } else if arrived.insert(number) {
            seen.fetch_max(number + 1, Ordering::AcqRel);
        } else {
            arrivals.duplicates += 1;
        }
    }
    // Duplicates may still be under way.
    let until = Instant::now() + Duration::from_millis(50);
    while Instant::now() < until {
        arrivals.duplicates += u64::from(inlet.recv(&mut buffer).is_ok());
    }
    arrivals.lost = numbered.count - arrived.len() as u64;
    arrivals
}
