//! What the API says: shapes shared by server and client, and promised to scripts. Fields are added, never changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::detail::RelayingLine;
use super::reload::LastReload;
use super::shared::SharedLine;

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
    /// Who is near; absent where LAN discovery is off.
    #[serde(default)]
    pub(crate) lan: Option<LanLine>,
    /// What this node carries for others; absent where it is no relay.
    #[serde(default)]
    pub(crate) relaying: Option<RelayingLine>,
    /// Prefixes that several connectors announce, and who carries each.
    #[serde(default)]
    pub(crate) shared: Vec<SharedLine>,
    /// Dropped packets and datagrams by reason, since the start; reasons that never occurred are absent.
    pub(crate) drops: BTreeMap<String, u64>,
    /// What an operator should know, worst first.
    pub(crate) health: Vec<Health>,
    /// Whether the node runs.
    #[serde(default)]
    pub(crate) mode: Mode,
    /// What came of loading the configuration anew; absent before that was done.
    #[serde(default)]
    pub(crate) last_reload: Option<LastReload>,
}

/// Whether the node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// It does.
    #[default]
    Running,
    /// It does not, for this machine is not selected to run it.
    NotSelected,
    /// It does not, for it could not start when it was selected; that is tried again.
    CannotStart,
}

impl Status {
    /// Of a node that does not run.
    pub(crate) fn idle(node: NodeStatus, mode: Mode, health: Vec<Health>) -> Self {
        Self {
            version: 1,
            node,
            peers: Vec::new(),
            outside: Outside::default(),
            lan: None,
            relaying: None,
            shared: Vec::new(),
            drops: BTreeMap::new(),
            health,
            mode,
            last_reload: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodeStatus {
    pub(crate) name: String,
    pub(crate) mesh: String,
    /// Of the mesh as the node runs it, by which nodes tell whether they run the same; absent from daemons that had none.
    #[serde(default)]
    pub(crate) mesh_digest: String,
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
    /// `lan`, `direct`, `relay` or `tls`, while a session is up.
    #[serde(default)]
    pub(crate) path_kind: Option<String>,
    /// Name of the relay that the path goes through.
    #[serde(default)]
    pub(crate) via: Option<String>,
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
    /// Since the last sign of life of a peer that is lost: in whatever state, nothing gets through to it, though it did. Absent of
    /// others.
    #[serde(default)]
    pub(crate) disconnected_seconds: Option<f64>,
    /// When the invitation of one that has not joined expires, or has: RFC 3339, UTC; absent of members.
    #[serde(default)]
    pub(crate) invited_until: Option<String>,
}

/// How this node looks from outside a NAT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    pub(crate) gateways: Vec<GatewayLine>,
    pub(crate) stun_servers: Vec<ServerLine>,
    /// What the NAT before this node does to IPv4; absent until three members have seen the node.
    pub(crate) nat: Option<NatLine>,
}

/// What a NAT does to the ports of one socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NatLine {
    /// `open`: there is none; `endpoint-independent`: one port for all destinations; `sequential`: the next one for each;
    /// `random`: any for each.
    pub(crate) class: String,
    /// From one port to the next, where they are sequential.
    pub(crate) step: Option<i16>,
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

/// LAN discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LanLine {
    /// Interfaces in use.
    pub(crate) interfaces: Vec<LanInterfaceLine>,
    /// Who is heard.
    pub(crate) neighbours: Vec<NeighbourLine>,
    /// Beacons that counted, since the start.
    pub(crate) beacons_heard: u64,
    /// Beacons that did not, for whatever reason; `drops` tells them apart.
    pub(crate) beacons_refused: u64,
}

/// An interface on which neighbours are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LanInterfaceLine {
    pub(crate) name: String,
    /// Whether the IPv4 group is joined.
    pub(crate) ipv4: bool,
    /// Whether the IPv6 group is joined.
    pub(crate) ipv6: bool,
    /// Why a group could not be joined.
    pub(crate) error: Option<String>,
}

/// Somebody who holds the LAN's token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NeighbourLine {
    /// The endpoint whose key it announces, which nothing proves yet; `None`: not a member.
    pub(crate) name: Option<String>,
    pub(crate) public_key: String,
    /// UDP addresses at which it is heard.
    pub(crate) addresses: Vec<String>,
}

/// A place where a peer may be reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PathLine {
    /// UDP address, or `relay` and the relay's; a DNS name that stands for no address.
    pub(crate) address: String,
    /// Name of the relay that it goes through.
    #[serde(default)]
    pub(crate) via: Option<String>,
    /// `lan`, `direct`, `relay` or `tls`.
    pub(crate) kind: String,
    /// How it became known: `lan`, `public`, `mapped`, `observed`, `interface`, `seen`, `relay` or `tls`.
    pub(crate) origin: String,
    /// `active`: the data goes there; `standby`: it works; `probing`; `silent`: it never answered; `dead`: it did once.
    /// Of what is known of one peer also: `idle`: not tried; `dialling`: a handshake goes there; `asked` and `refused`: a relay
    /// was asked for a channel; `unresolved`: a name.
    pub(crate) state: String,
    /// Whether packets go there as they are, by routes of the kernel (`[lan] mode = "direct"`).
    #[serde(default)]
    pub(crate) direct_route: bool,
    /// Smoothed round trip time in microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Mean deviation of the round trip time in microseconds.
    pub(crate) jitter_us: u64,
    /// Unanswered probes per thousand.
    pub(crate) loss_per_mille: u32,
    /// The largest packet in bytes, IP header included, that is known to pass unfragmented.
    #[serde(default)]
    pub(crate) mtu: Option<u16>,
    /// Probes that were sent there.
    #[serde(default)]
    pub(crate) probes: u32,
    #[serde(default)]
    pub(crate) last_probe_seconds_ago: Option<f64>,
    #[serde(default)]
    pub(crate) last_answer_seconds_ago: Option<f64>,
    /// What is wrong with it, in words.
    #[serde(default)]
    pub(crate) problem: Option<String>,
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
    /// Policy keeps it from us, and a session is up in which one of the two relays for the other.
    RelayOnly,
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
    /// Name of the peer, or an address of it.
    pub(crate) name: String,
    /// How long to wait for the reply.
    pub(crate) timeout_ms: u64,
}

/// Its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PingReply {
    /// Round trip time in microseconds, from the probe to its reply, without the handshake before it.
    pub(crate) rtt_us: u64,
    /// UDP address from which the reply came, or `relay` and the relay's.
    pub(crate) path: String,
    /// `lan`, `direct`, `relay` or `tls`.
    #[serde(default)]
    pub(crate) kind: String,
    /// Name of the relay that it came through.
    #[serde(default)]
    pub(crate) via: Option<String>,
}

/// Body of every answer that is no success.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) error: String,
}
