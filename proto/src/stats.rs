//! Counters: why things were dropped, and what each peer has sent and received. Written by the fast path, read by anyone.

mod direction;
mod relayed;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::time::Instant;
pub use direction::Direction;
pub use relayed::Relayed;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $name:literal,)*) => {
        /// Why a packet or datagram went no further. Drops are not errors: they are counted, and logged at TRACE only.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason's name in status output and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// Outbound: not an IP packet, or its lengths disagree.
    MalformedPacket => "malformed_packet",
    /// Outbound: no endpoint owns the destination.
    NoRoute => "no_route",
    /// Outbound: a multicast or broadcast, which the mesh does not carry. Kernels send some by themselves.
    Multicast => "multicast",
    /// Outbound: policy keeps the destination's owner from us.
    Denied => "denied",
    /// Outbound: the source is not an address of ours, so the receiver would refuse it.
    ForeignSource => "foreign_source",
    /// Outbound: no session yet, and the queue of waiting packets is full.
    StagingFull => "no_session_staging_full",
    /// Outbound: larger than the path to the peer carries. Its sender was told, as far as such errors may be sent.
    TooLong => "too_long",
    /// Outbound: the peer did not answer in time.
    Unreachable => "unreachable",
    /// Outbound: the session may seal no more; a new one is on its way.
    SessionExhausted => "session_exhausted",
    /// Outbound: the network refused the datagrams.
    SendFailed => "send_failed",
    /// To the core: its queue is full.
    PuntFull => "punt_full",
    /// Inbound: no message type of ours.
    UnknownType => "unknown_type",
    /// Inbound: too short, or its parts disagree.
    MalformedDatagram => "malformed_datagram",
    /// Inbound: the receiver index names no session.
    UnknownSession => "unknown_session",
    /// Inbound: seen before, or older than the window.
    Replayed => "replayed",
    /// Inbound: not what the peer sealed.
    AuthenticationFailed => "authentication_failed",
    /// Inbound: authentic, but not an IP packet.
    MalformedInner => "malformed_inner",
    /// Inbound: the inner source does not route back to the peer that sent it.
    ForgedSource => "forged_source",
    /// Inbound: the inner destination is not ours, nor in a subnet that we announce.
    NotAnnounced => "not_announced",
    /// Inbound: the device did not take the packet.
    DeviceFull => "device_full",
    /// Inbound: an answer to a STUN request that nothing of ours waits for.
    StunUnexpected => "stun_unexpected",
    /// Handshake: mac1 is wrong.
    BadMac => "bad_mac",
    /// Handshake: the source has had its share of initiations.
    HandshakeRateLimited => "handshake_rate_limited",
    /// Handshake: it does not decrypt, or agrees on nothing.
    HandshakeFailed => "handshake_failed",
    /// Handshake: the initiator's key is no member's.
    HandshakeUnknownKey => "handshake_unknown_key",
    /// Handshake: the initiator is a member that policy keeps from us.
    HandshakeNotAllowed => "handshake_not_allowed",
    /// Handshake: the timestamp is not newer than the last one.
    HandshakeReplayed => "handshake_replayed",
    /// Handshake: a response or cookie that nothing of ours waits for.
    HandshakeUnexpected => "handshake_unexpected",
    /// Relay: it does not come from the member whose channel it names.
    RelayForeign => "relay_foreign",
    /// Relay: its member has had its share.
    RelayLimited => "relay_limited",
    /// Relay: all members together have had their share.
    RelayTotalLimited => "relay_total_limited",
    /// Relay: the socket is full.
    RelayFull => "relay_full",
    /// Beacon: not of the one size, type and version, or from or with what is no address of one machine.
    BeaconMalformed => "beacon_malformed",
    /// Beacon: the source, or everybody together, has had its share.
    BeaconRateLimited => "beacon_rate_limited",
    /// Beacon: it does not open; its sender has another token, or none.
    BeaconNotOpened => "beacon_not_opened",
    /// Beacon: the sender is in another mesh.
    BeaconOtherMesh => "beacon_other_mesh",
    /// Beacon: its timestamp is far from our clock: a replay, or one of the two clocks is wrong.
    BeaconClock => "beacon_clock",
    /// Beacon: seen before, or older than what its sender said since.
    BeaconReplayed => "beacon_replayed",
    /// Beacon: there are as many neighbours as are remembered.
    BeaconNeighboursFull => "beacon_neighbours_full",
}

/// One counter per [`DropReason`].
#[derive(Debug)]
pub struct DropCounters([AtomicU64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts `n` drops.
    pub fn add(&self, reason: DropReason, n: u64) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// All reasons that occurred, with their counts.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(DropReason, u64)> {
        DropReason::ALL.iter().map(|reason| (*reason, self.get(*reason))).filter(|(_, count)| *count > 0).collect()
    }
}

/// What came of the handshakes with a peer. Written by the core, read by anyone.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    /// Led to a session, whoever began.
    pub completed: AtomicU32,
    /// Begun by this node, and given up without an answer.
    pub unanswered: AtomicU32,
    /// Begun by the peer, and refused.
    pub refused: AtomicU32,
}

/// What a peer sent and received, and when last. Stamps are milliseconds of [`Instant`]; zero: never.
#[derive(Debug, Default)]
pub struct Activity {
    /// Inner packets received.
    pub rx_packets: AtomicU64,
    /// Their bytes.
    pub rx_bytes: AtomicU64,
    /// Inner packets sent.
    pub tx_packets: AtomicU64,
    /// Their bytes.
    pub tx_bytes: AtomicU64,
    /// Handshakes with it, by what came of them.
    pub handshakes: HandshakeCounters,
    relayed: relayed::Counter,
    rx_any: AtomicU64,
    rx_data: AtomicU64,
    tx_any: AtomicU64,
    tx_data: AtomicU64,
    /// Zero while the core looks at the stamps by itself; otherwise the millisecond from which on it wants to be told of data.
    tell_from: AtomicU64,
}

/// Between two words to the core that data passes: the first may have found its queue full.
const TELL_AGAIN_MILLIS: u64 = 100;

/// The stamps of an [`Activity`] at one moment, in milliseconds of [`Instant`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Last authentic datagram.
    pub rx_any: u64,
    /// Last authentic inner packet.
    pub rx_data: u64,
    /// Last sealed datagram.
    pub tx_any: u64,
    /// Last sealed inner packet.
    pub tx_data: u64,
}

impl Activity {
    /// Records inner packets received.
    pub fn received(&self, packets: u64, bytes: u64, now: Instant) {
        let millis = now.as_millis();
        self.rx_any.store(millis, Ordering::Relaxed);
        if packets > 0 {
            self.rx_packets.fetch_add(packets, Ordering::Relaxed);
            self.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.rx_data.store(millis, Ordering::Relaxed);
        }
    }

    /// Records inner packets sent.
    pub fn sent(&self, packets: u64, bytes: u64, now: Instant) {
        let millis = now.as_millis();
        self.tx_any.store(millis, Ordering::Relaxed);
        if packets > 0 {
            self.tx_packets.fetch_add(packets, Ordering::Relaxed);
            self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.tx_data.store(millis, Ordering::Relaxed);
        }
    }

    /// Whether the core is to be told now that data passes.
    #[inline]
    #[must_use]
    pub fn must_tell(&self, now: Instant) -> bool {
        let (from, millis) = (self.tell_from.load(Ordering::Relaxed), now.as_millis());
        let next = millis.saturating_add(TELL_AGAIN_MILLIS);
        from != 0
            && millis >= from
            && self.tell_from.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The core looks by itself from now on.
    pub(crate) fn watch(&self) {
        self.tell_from.store(0, Ordering::Relaxed);
    }

    /// The core wants to be told of data from now on.
    pub(crate) fn rest(&self) {
        self.tell_from.store(1, Ordering::Relaxed);
    }

    /// The stamps now.
    #[must_use]
    pub fn stamps(&self) -> Stamps {
        let load = |stamp: &AtomicU64| stamp.load(Ordering::Relaxed);
        Stamps {
            rx_any: load(&self.rx_any),
            rx_data: load(&self.rx_data),
            tx_any: load(&self.tx_any),
            tx_data: load(&self.tx_data),
        }
    }
}

/// What a relay may carry, for one member or for all.
#[derive(Debug)]
pub struct Meter {
    /// Bytes a second.
    rate: AtomicU64,
    /// When all that was taken so far will have been earned, in nanoseconds of [`Instant`] (generic cell rate algorithm, ITU-T
    /// I.371 annex A).
    earned_at: AtomicU64,
}

/// How far ahead of the rate the bytes may be: a few super-packets at 10 Mbit/s.
const METER_BURST_NANOS: u64 = 250_000_000;

impl Meter {
    /// A meter that lets `rate` bytes a second pass, and bursts of a quarter of a second.
    #[must_use]
    pub const fn new(rate: u64) -> Self {
        Self { rate: AtomicU64::new(rate), earned_at: AtomicU64::new(0) }
    }

    /// Lets `rate` bytes a second pass from now on.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Takes `len` bytes if they may pass.
    #[must_use]
    pub fn take(&self, len: u64, now: Instant) -> bool {
        let now = now.as_nanos();
        let cost = len.saturating_mul(1_000_000_000) / self.rate.load(Ordering::Relaxed).max(1);
        let earn =
            |at: u64| Some(at.max(now).saturating_add(cost)).filter(|at| *at <= now.saturating_add(METER_BURST_NANOS));
        self.earned_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, earn).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn a_meter_lets_its_rate_pass_and_a_burst() {
        let (meter, start) = (Meter::new(1_000_000), Instant::from_nanos(5_000_000_000));
        let sent = |from: Instant, ticks: u64| {
            let at = |tick: u64| from + Duration::from_millis(tick);
            (0..ticks).map(|tick| (0..10).filter(|_| meter.take(1_000, at(tick))).count()).sum::<usize>()
        };
        let first = sent(start, 1_000);
        assert!((1_240..=1_251).contains(&first), "{first}");
        assert_eq!(sent(start + Duration::from_secs(10), 20), 200, "rest earns a burst");
    }

    #[test]
    fn every_reason_has_a_name_and_a_counter_of_its_own() {
        let counters = DropCounters::default();
        for (n, reason) in (1..).zip(DropReason::ALL) {
            counters.add(*reason, n);
        }
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        assert!((1..).zip(DropReason::ALL).all(|(n, reason)| counters.get(*reason) == n));
    }
}
