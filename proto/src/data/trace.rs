//! Watching packets on their way through the fast path, for an operator and for a while.
//!
//! The two halves of a worker are compiled twice, with and without a [`Tap`], and one look per turn says which runs: who
//! does not trace pays for one relaxed load per turn.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use ipnet::IpNet;

use super::ForwardingTable;
use crate::id::{PeerId, SessionIndex};
use crate::packet::tuple::{FiveTuple, ICMP, ICMP_V6, TCP, UDP};
use crate::path::Locator;
use crate::stats::DropReason;
use crate::time::Instant;

/// What is to be watched, and who is told.
pub struct Trace {
    /// Which packets.
    pub filter: TraceFilter,
    /// How many of a packet's first bytes are copied.
    pub snap: usize,
    /// Who gets them.
    pub sink: Box<dyn TraceSink>,
    matched: AtomicU64,
}

/// Which packets are watched: those that meet all of it.
#[derive(Clone, Debug)]
pub struct TraceFilter {
    /// To or from this peer. What cannot be assigned to a peer counts where it comes from, or goes to, the place of this one.
    pub peer: Option<PeerId>,
    /// Inner source or destination is in here.
    pub host: Option<IpNet>,
    /// Source or destination port of TCP or UDP.
    pub port: Option<u16>,
    /// The inner protocol.
    pub protocol: Option<TraceProtocol>,
    /// What becomes of them.
    pub fate: Fate,
    /// One of so many of those that meet the rest.
    pub sample: NonZeroU64,
}

impl Default for TraceFilter {
    fn default() -> Self {
        Self { peer: None, host: None, port: None, protocol: None, fate: Fate::Any, sample: NonZeroU64::MIN }
    }
}

/// A protocol to watch, of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP and ICMPv6.
    Icmp,
}

/// Which ends are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All.
    Any,
    /// Packets that went no further.
    Dropped,
}

/// Takes what is watched. Called by worker threads in the middle of a turn: it must not wait, and what it has no room for it
/// counts and forgets.
pub trait TraceSink: Send + Sync {
    /// Takes one.
    fn take(&self, traced: Traced);
}

/// One packet or super-packet, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// The beginning of the turn that it was seen in.
    pub at: Instant,
    /// Which way it went.
    pub direction: Direction,
    /// What became of it.
    pub verdict: Verdict,
    /// Its first bytes; empty where the inner packet cannot be read: a datagram that does not open, or that is relayed.
    pub packet: Box<[u8]>,
    /// Bytes of the inner packet, or of the datagram where that cannot be read.
    pub len: usize,
    /// The peer at the other end, where it is known.
    pub peer: Option<PeerId>,
    /// This node's index of the session; on a datagram that belongs to none, what it says.
    pub session: Option<SessionIndex>,
    /// Of the first datagram: the lane in its top byte, its number on the lane below.
    pub counter: Option<u64>,
    /// Where it goes to or came from outside.
    pub path: Option<Locator>,
    /// Where a relayed datagram goes on to.
    pub onward: Option<SocketAddr>,
    /// Datagrams that it is cut into; zero where it was not.
    pub segments: usize,
}

impl Traced {
    /// A packet of `len` bytes of which no more is known.
    #[must_use]
    pub fn new(direction: Direction, verdict: Verdict, len: usize) -> Self {
        Self {
            at: Instant::ORIGIN,
            direction,
            verdict,
            packet: Box::default(),
            len,
            peer: None,
            session: None,
            counter: None,
            path: None,
            onward: None,
            segments: 0,
        }
    }
}

/// Which way a packet goes through this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the device to a peer.
    Out,
    /// From a peer to the device.
    In,
    /// From a member to another, through this relay.
    Relayed,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sealed, and given to the socket with its batch.
    Sent,
    /// Opened, and given to the device.
    Delivered,
    /// Passed on to another member.
    Forwarded,
    /// Handed to the core: there is no session with the peer.
    PuntedNoSession,
    /// Handed to the core: larger than the path to the peer carries.
    PuntedTooLarge,
    /// It went no further.
    Dropped(DropReason),
}

impl Trace {
    /// Watches what `filter` says and tells it to `sink`, with the first `snap` bytes of each packet.
    #[must_use]
    pub fn new(filter: TraceFilter, snap: usize, sink: Box<dyn TraceSink>) -> Self {
        Self { filter, snap, sink, matched: AtomicU64::new(0) }
    }

    fn note(&self, packet: &[u8], mut traced: Traced, table: Option<&ForwardingTable>) {
        if !self.filter.wants(packet, &traced, table) {
            return;
        }
        if !self.matched.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.filter.sample.get()) {
            return;
        }
        traced.packet = packet.get(..self.snap).unwrap_or(packet).into();
        self.sink.take(traced);
    }
}

impl TraceFilter {
    fn wants(&self, packet: &[u8], traced: &Traced, table: Option<&ForwardingTable>) -> bool {
        (self.fate == Fate::Any || matches!(traced.verdict, Verdict::Dropped(_)))
            && self.wants_peer(traced, table)
            && self.wants_inner(packet)
    }

    fn wants_peer(&self, traced: &Traced, table: Option<&ForwardingTable>) -> bool {
        let (Some(wanted), None) = (self.peer, traced.peer) else {
            return self.peer.is_none_or(|p| traced.peer == Some(p));
        };
        let Some(row) = table.and_then(|table| table.peer(wanted)) else { return false };
        let places = [traced.path.map(|path| path.address), traced.onward];
        places.into_iter().flatten().any(|address| row.remote.address == address)
    }

    fn wants_inner(&self, packet: &[u8]) -> bool {
        if self.host.is_none() && self.port.is_none() && self.protocol.is_none() {
            return true;
        }
        let Some(tuple) = FiveTuple::of(packet) else { return false };
        let is_host = |net: IpNet| [tuple.source, tuple.destination].iter().any(|ip: &IpAddr| net.contains(ip));
        let is_port = |port| tuple.ports.is_some_and(|(from, to)| from == port || to == port);
        let is_protocol = |protocol| match protocol {
            TraceProtocol::Tcp => tuple.protocol == TCP,
            TraceProtocol::Udp => tuple.protocol == UDP,
            TraceProtocol::Icmp => matches!(tuple.protocol, ICMP | ICMP_V6),
        };
        self.host.is_none_or(is_host) && self.port.is_none_or(is_port) && self.protocol.is_none_or(is_protocol)
    }
}

/// Where the shell says what is to be watched, and workers look once per turn.
#[derive(Default)]
pub struct TraceSwitch {
    is_on: AtomicBool,
    trace: ArcSwapOption<Trace>,
}

impl TraceSwitch {
    /// Watches from the workers' next turns on; `None`: no more.
    pub fn set(&self, trace: Option<Arc<Trace>>) {
        let is_on = trace.is_some();
        self.trace.store(trace);
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// What is watched now.
    #[inline]
    pub(super) fn get(&self) -> Option<Arc<Trace>> {
        // Only a hint, which may be a turn late; the pointer decides.
        if self.is_on.load(Ordering::Relaxed) { self.trace.load_full() } else { None }
    }
}

/// What a turn tells of packets.
pub(super) trait Tap: Copy {
    /// Whether anybody listens: what is only there to be told is not worked out otherwise.
    const IS_ON: bool;

    /// Tells of a packet, of which `packet` is what can be read.
    fn note(self, packet: &[u8], traced: Traced, table: Option<&ForwardingTable>);
}

/// Nobody listens.
#[derive(Clone, Copy)]
pub(super) struct Untraced;

impl Tap for Untraced {
    const IS_ON: bool = false;

    #[inline(always)]
    fn note(self, _: &[u8], _: Traced, _: Option<&ForwardingTable>) {}
}

/// Somebody listens.
#[derive(Clone, Copy)]
pub(super) struct Tracing<'t> {
    pub(super) trace: &'t Trace,
    pub(super) now: Instant,
}

impl Tap for Tracing<'_> {
    const IS_ON: bool = true;

    fn note(self, packet: &[u8], traced: Traced, table: Option<&ForwardingTable>) {
        self.trace.note(packet, Traced { at: self.now, ..traced }, table);
    }
}
