//! What the API says: shapes shared by server and client, and promised to scripts. Fields are added, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /v1/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Version of this shape: 1.
    pub(crate) version: u32,
    pub(crate) node: NodeStatus,
    pub(crate) peers: Vec<PeerLine>,
    /// Gateways that were asked for a port mapping, and STUN servers; absent from daemons that asked nobody.
    #[serde(default)]
    pub(crate) outside: Outside,
    /// Dropped packets and datagrams by reason, since the start; reasons that never occurred are absent.
    pub(crate) drops: BTreeMap<String, u64>,
    /// What an operator should know, worst first.
    pub(crate) health: Vec<Health>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) mesh: String,
    pub(crate) public_key: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) interface: String,
    /// UDP port.
    pub(crate) port: u16,
    /// Version of the daemon.
    pub(crate) daemon: String,
    pub(crate) uptime_seconds: u64,
    /// Offloads in use: of the device, of the socket, and what peers may leave to us.
    pub(crate) offloads: Vec<String>,
    /// Library that runs AES-GCM: `ring` or `aws-lc`; absent from daemons that had only one.
    pub(crate) aes_backend: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerLine {
    pub(crate) name: String,
    /// `edge` or `connector`.
    pub(crate) kind: String,
    pub(crate) public_key: String,
    pub(crate) addresses: Vec<String>,
    pub(crate) state: State,
    /// UDP address over which the peer is reached, or `relay` and the relay's, while a session is up.
    pub(crate) path: Option<String>,
    /// Every place where it may be reached, and how each does; empty while nothing goes on with it.
    #[serde(default)]
    pub(crate) paths: Vec<PathLine>,
    pub(crate) last_handshake_seconds_ago: Option<f64>,
    pub(crate) rx_bytes: u64,
    pub(crate) tx_bytes: u64,
    pub(crate) rx_packets: u64,
    pub(crate) tx_packets: u64,
    /// Our index of the session in use, in hexadecimal.
    pub(crate) session: Option<String>,
    /// Cipher of the session in use, by its name in `meshd.toml`.
    pub(crate) cipher: Option<String>,
    /// How often a session was replaced by a newer one.
    pub(crate) rekeys: u64,
    /// Why the state is what it is, where that needs saying.
    pub(crate) reason: Option<String>,
}

/// How this node looks from outside a NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    pub(crate) gateways: Vec<GatewayLine>,
    pub(crate) stun_servers: Vec<ServerLine>,
}

/// A gateway that was asked for a port mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GatewayLine {
    pub(crate) interface: String,
    pub(crate) gateway: String,
    /// `PCP`, `NAT-PMP` or `UPnP-IGD`, if one of them worked.
    pub(crate) protocol: Option<String>,
    /// What it maps to our UDP port.
    pub(crate) external: Option<String>,
    /// False where there is another NAT behind it.
    pub(crate) is_public: bool,
    pub(crate) last_error: Option<String>,
}

/// A STUN server that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerLine {
    pub(crate) server: String,
    /// Our address as it sees it.
    pub(crate) address: Option<String>,
    pub(crate) last_error: Option<String>,
}

/// A place where a peer may be reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathLine {
    /// UDP address, or `relay` and the relay's.
    pub(crate) address: String,
    /// `lan`, `direct`, `relay` or `tls`.
    pub(crate) kind: String,
    /// How it became known: `lan`, `public`, `mapped`, `observed`, `interface`, `seen`, `relay` or `tls`.
    pub(crate) origin: String,
    /// `active`: the data goes there; `standby`: it works; `probing`; `silent`: it never answered; `dead`: it did once.
    pub(crate) state: String,
    /// Smoothed round trip time in microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Mean deviation of the round trip time in microseconds.
    pub(crate) jitter_us: u64,
    /// Unanswered probes per thousand.
    pub(crate) loss_per_mille: u32,
}

/// What a peer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Idle,
    Connecting,
    Connected,
    Unreachable,
    Denied,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    pub(crate) severity: Severity,
    pub(crate) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    Error,
    Warning,
}

/// `POST /v1/ping`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PingRequest {
    /// Name of the peer.
    pub(crate) name: String,
    /// How long to wait for the reply.
    pub(crate) timeout_ms: u64,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PingReply {
    /// Round trip time in microseconds, from the probe to its reply, without the handshake before it.
    pub(crate) rtt_us: u64,
    /// UDP address from which the reply came.
    pub(crate) path: String,
}

/// Body of every answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
}
