//! What the API says of one peer in full, and of what this node relays.

use serde::{Deserialize, Serialize};

use super::model::{Health, PeerLine};

/// `GET /v1/peers/NAME`, by the peer's name, by one of its mesh addresses, or by an address behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerReport {
    /// Version of this shape: 1.
    pub(crate) version: u32,
    /// As in the status; its `paths` are every candidate, those too that were not tried.
    pub(crate) peer: PeerLine,
    /// Whether it carries datagrams for others.
    pub(crate) is_relay: bool,
    /// Prefixes behind it, its own outside the mesh included.
    pub(crate) subnets: Vec<String>,
    pub(crate) session: Option<SessionLine>,
    /// The handshake that waits for its answer, or the last one if that had none.
    pub(crate) handshake: Option<HandshakeLine>,
    /// What this node carries for it, where this node relays.
    pub(crate) relayed: Option<CarriedLine>,
    /// The last spray between this node and it: many tries against a NAT whose ports are random.
    pub(crate) spray: Option<SprayLine>,
    /// What happened with it, oldest first; only the newest few are kept.
    pub(crate) history: Vec<HistoryLine>,
    /// What of the status' health concerns it.
    pub(crate) health: Vec<Health>,
}

/// The session in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SessionLine {
    pub(crate) age_seconds: f64,
    /// Whether this node began it.
    pub(crate) is_initiator: bool,
}

/// A handshake without an answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HandshakeLine {
    /// Since its first initiation.
    pub(crate) seconds: f64,
    pub(crate) initiations: u32,
    /// Since it was given up; absent while it goes on.
    pub(crate) given_up_seconds_ago: Option<f64>,
}

/// A spray.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct SprayLine {
    /// `opens` sockets, or `probes` ports.
    pub(crate) side: String,
    /// Since its begin.
    pub(crate) seconds_ago: f64,
    /// Sockets opened, or probes sent, of `budget`.
    pub(crate) count: usize,
    pub(crate) budget: usize,
    /// `met`, `missed` or `broken off`; absent while it goes on.
    pub(crate) end: Option<String>,
    /// All of it in words.
    pub(crate) text: String,
}

/// Something that happened with a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HistoryLine {
    pub(crate) seconds_ago: f64,
    pub(crate) event: String,
}

/// What a relay does for others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RelayingLine {
    /// What it carries at most for all members together.
    pub(crate) rate_bits_per_second: u64,
    /// What it carries at most for each, by what that sends.
    pub(crate) member_rate_bits_per_second: u64,
    /// Pairs of members.
    pub(crate) channels: usize,
    pub(crate) members: Vec<MemberLine>,
    /// Since the start, members that have left included.
    pub(crate) total: CarriedLine,
}

/// A member that a relay serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    pub(crate) name: String,
    /// To how many others.
    pub(crate) channels: usize,
    #[serde(flatten)]
    pub(crate) carried: CarriedLine,
}

/// What a relay carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CarriedLine {
    /// Taken from members for others.
    pub(crate) rx_datagrams: u64,
    pub(crate) rx_bytes: u64,
    /// Sent on to members.
    pub(crate) tx_datagrams: u64,
    pub(crate) tx_bytes: u64,
    /// Kept back by one of the two limits.
    pub(crate) limited_datagrams: u64,
}
