//! The checked configuration of one node: what the daemon starts from.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::path::PathBuf;
use std::time::Duration;

use proto::id::{EndpointName, PresharedKey, SecretKey};
use proto::invitation::Invited;
use proto::lan::Token;
use proto::member::{Members, PublicAddress};
use proto::wire::Suites;
use wildmatch::WildMatch;

use crate::digest::MeshDigest;
use crate::invite::InviteConfig;
use crate::rate::Rate;

/// Everything that a node is configured with. Every value in it has been checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// The TUN interface and its routes.
    pub interface: InterfaceConfig,
    /// Where the node listens.
    pub listen: ListenConfig,
    /// How it finds members on its LAN.
    pub lan: LanConfig,
    /// How the node makes itself reachable behind a NAT.
    pub nat: NatConfig,
    /// How data takes the ways to a peer.
    pub paths: PathsConfig,
    /// How it finds out whether it reaches what it announces.
    pub health: HealthConfig,
    /// How much the node carries for others, where it relays.
    pub relay: RelayConfig,
    /// What becomes of invitations that are used.
    pub invite: InviteConfig,
    /// How long sessions and their keys live.
    pub session: SessionConfig,
    /// The packet workers.
    pub dataplane: DataplaneConfig,
    /// The local control socket.
    pub api: ApiConfig,
    /// Where the daemon keeps what must survive a restart.
    pub state: StateConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Where metrics are served beside the API socket.
    pub metrics: MetricsConfig,
    /// When it is loaded anew.
    pub reload: ReloadConfig,
    /// The name of the mesh; `members.mesh` is derived from it.
    pub mesh_name: String,
    /// Who is in the mesh; this node is among them, and of the others those that are selected.
    pub members: Members,
    /// Whether the mesh's `[selector]` selects this node; a mesh without one selects everybody.
    pub selected: bool,
    /// The labels that the mesh's `[selector]` asks for.
    pub selector: Vec<String>,
    /// All endpoints of the mesh that are not selected.
    pub unselected: Vec<EndpointName>,
    /// Who is invited into it, expired invitations included.
    pub invited: Vec<Invited>,
    /// Every file that was read: `meshd.toml`, the mesh file where there is one, then the keys.
    pub files: Vec<PathBuf>,
    /// What is legal but odd, each with its place, for the log and for `meshd config check`.
    pub warnings: Vec<String>,
}

impl Config {
    /// The mesh that the node runs in few characters; the same on every node whose mesh file says the same.
    #[must_use]
    pub fn mesh_digest(&self) -> MeshDigest {
        MeshDigest::of(&self.members, &self.unselected)
    }
}

/// `[node]`: who this node is.
#[derive(Clone)]
pub struct NodeConfig {
    /// Its endpoint's name in the mesh.
    pub name: EndpointName,
    /// The file that holds its private key.
    pub key_file: PathBuf,
    /// The private key; its public half is the endpoint's `public_key`.
    pub secret_key: SecretKey,
    /// The file that holds the mesh's pre-shared key, if one is used.
    pub psk_file: Option<PathBuf>,
    /// The pre-shared key; [`PresharedKey::NONE`] without a `psk_file`.
    pub preshared_key: PresharedKey,
    /// The mesh file; `None` where the mesh is written in `meshd.toml` itself.
    pub mesh_file: Option<PathBuf>,
}

impl fmt::Debug for NodeConfig {
    /// Shows everything but the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeConfig")
            .field("name", &self.name)
            .field("key_file", &self.key_file)
            .field("psk_file", &self.psk_file)
            .field("mesh_file", &self.mesh_file)
            .finish_non_exhaustive()
    }
}

/// `[interface]`: the TUN interface and its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Name of the interface, at most 15 bytes (`IFNAMSIZ` less its NUL).
    pub name: String,
    /// Bytes of the longest inner packet, 1280 to 9000; `None`: what the machine's widest link carries.
    pub mtu: Option<u16>,
    /// Routing table for the mesh's routes: the kernel's main (254), or one that is not the kernel's.
    pub table: u32,
    /// Firewall mark of the daemon's own datagrams, by which rules for a table of their own leave them out; not 0.
    pub mark: u32,
}

/// `[listen]`: where the node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenConfig {
    /// UDP port; 0 takes any free one.
    pub port: u16,
    /// Where it takes TLS connections if its endpoint serves TLS; `None`: all addresses, at the ports of its `tls_addresses`.
    pub tls: Option<SocketAddr>,
}

/// `[lan]`: how the node finds members on its LAN.
#[derive(Clone, Debug, PartialEq)]
pub struct LanConfig {
    /// The secret of those that should find each other; `None`: LAN discovery is off.
    pub token: Option<Token>,
    /// The IPv4 group; a multicast address, its port not 0.
    pub group4: SocketAddrV4,
    /// The IPv6 group; a link-local multicast address, its port not 0.
    pub group6: SocketAddrV6,
    /// Longest time from one beacon to the next, 1 s to 60 s.
    pub interval: Duration,
    /// How long a neighbour is believed after its last beacon; at least twice the interval, at most 10 min.
    pub ttl: Duration,
    /// Names of the interfaces to use, of those that can; at least one pattern.
    pub interfaces: Vec<InterfacePattern>,
    /// How packets to neighbours go.
    pub mode: LanMode,
    /// Whether neighbours may talk to this node without a community in common.
    pub implicit_community: bool,
}

impl LanConfig {
    /// Whether an interface of this name is to be used where it can be.
    #[must_use]
    pub fn uses(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|pattern| pattern.0.matches(interface))
    }
}

/// Names of interfaces: one, or many by `*` (any characters) and `?` (any one).
#[derive(Clone, Debug, PartialEq)]
pub struct InterfacePattern(pub(crate) WildMatch);

/// How packets to neighbours on the LAN go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanMode {
    /// Through a session, as to any other peer.
    Encrypted,
    /// As they are, by routes of the kernel.
    Direct,
}

/// `[nat]`: how the node makes itself reachable behind a NAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// Whether to ask the default gateways for a mapping of the UDP port (PCP, NAT-PMP, UPnP-IGD).
    pub port_mapping: bool,
    /// STUN servers that are asked for the node's address as they see it, at most [`NatConfig::MAX_STUN_SERVERS`]; none asks nobody.
    pub stun_servers: Vec<PublicAddress>,
    /// Whether to open ways to peers through NATs on both sides.
    pub punch: bool,
    /// Whether many ports are tried where a NAT gives them out at random; not without `punch`.
    pub spray: bool,
}

impl NatConfig {
    /// Most STUN servers: two tell whether a NAT maps by destination, the others are for when those are away.
    pub const MAX_STUN_SERVERS: usize = 8;
}

/// `[paths]`: how data takes the ways to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathsConfig {
    /// Over how many it goes.
    pub balance: Balance,
}

/// Over how many paths the data to one peer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// The best one.
    Best,
    /// Up to four of the best kind, each flow over one.
    Flow,
}

/// `[health]`: how the node finds out whether it reaches what it announces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthConfig {
    /// Addresses in its subnets that answer to ping, at most [`HealthConfig::MAX_PROBES`].
    pub probe: Vec<IpAddr>,
}

impl HealthConfig {
    /// Most addresses: a few prefixes with two hosts each. Every one costs an echo a second.
    pub const MAX_PROBES: usize = 16;
}

/// `[relay]`: how much the node carries for others, where it relays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// For all members together.
    pub rate: Rate,
    /// For each member, by what it sends.
    pub member_rate: Rate,
}

/// `[session]`: how long sessions and their keys live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// Age at which a session takes new keys, 1 s to 180 s.
    pub rekey: Duration,
    /// Silence after which a session expires, at least 5 s.
    pub idle: Duration,
    /// Longest time between keep-alives, which the node sends as rarely as its NATs allow; `None` sends none. Only nodes without public
    /// addresses send them.
    pub keepalive: Option<Duration>,
}

/// `[dataplane]`: the packet workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneConfig {
    /// Threads that move packets, 1 to 64.
    pub workers: u8,
    /// Whether to use the kernel's segmentation and receive offloads where it has them.
    pub offload: bool,
    /// Offloads to do without all the same.
    pub without: Vec<Offload>,
    /// The ciphers that are offered to peers, any of which may seal packets; at least one.
    pub ciphers: Suites,
}

impl DataplaneConfig {
    /// Whether `offload` is to be used where there is one.
    #[must_use]
    pub fn uses(&self, offload: Offload) -> bool {
        self.offload && !self.without.contains(&offload)
    }
}

/// One offload, by which a fault can be narrowed down when it alone is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offload {
    /// Unfinished packets and super-packets are written to the TUN device; the two below need it.
    TunWrite,
    /// Unfinished packets and TCP super-packets are read from the TUN device; the one below needs it.
    TunTcp,
    /// UDP super-packets are read from the TUN device.
    TunUdp,
    /// Datagrams are sent in batches that the kernel cuts (`UDP_SEGMENT`).
    UdpGso,
    /// Datagrams are received in batches that the kernel joined (`UDP_GRO`).
    UdpGro,
    /// Peers mark segments that continue each other, for them to be joined here.
    Coalesce,
    /// Peers leave inner checksums to be completed here.
    PartialChecksum,
}

impl Offload {
    /// Every offload.
    pub const ALL: [Self; 7] =
        [Self::TunWrite, Self::TunTcp, Self::TunUdp, Self::UdpGso, Self::UdpGro, Self::Coalesce, Self::PartialChecksum];

    /// Its name in the file and in status output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TunWrite => "tun-write",
            Self::TunTcp => "tun-tcp",
            Self::TunUdp => "tun-udp",
            Self::UdpGso => "udp-gso",
            Self::UdpGro => "udp-gro",
            Self::Coalesce => "coalesce",
            Self::PartialChecksum => "partial-checksum",
        }
    }
}

/// `[api]`: the local control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiConfig {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

/// `[state]`: where the daemon keeps what must survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateConfig {
    /// The folder.
    pub dir: PathBuf,
}

/// `[log]`: what is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// The least severe level that is written.
    pub level: LogLevel,
    /// How lines on standard error look; the journal has fields of its own.
    pub format: LogFormat,
}

/// How log lines on standard error look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object on each line.
    Json,
}

/// `[metrics]`: where metrics are served beside the API socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// TCP address, always of the loopback interface; `None`: on the API socket only.
    pub listen: Option<SocketAddr>,
}

/// `[reload]`: when the configuration is loaded anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadConfig {
    /// Whether a change of any of its files is reason enough.
    pub watch: bool,
}

/// Severity of a log line, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// What a user feels.
    Info,
    /// What a developer asks first.
    Debug,
    /// Every packet.
    Trace,
}

impl LogLevel {
    /// The level's name in `meshd.toml` and in log filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// A mesh as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Its name.
    pub name: String,
    /// Its endpoints and communities, without endpoints that are not selected; but the node whose mesh it is stays.
    pub members: Members,
    /// The labels that its `[selector]` asks for.
    pub selector: Vec<String>,
    /// The endpoints that its `[selector]` does not select.
    pub unselected: Vec<EndpointName>,
    /// Who is invited, and no endpoint of `members` yet.
    pub invited: Vec<Invited>,
    /// What is legal but odd, each with its place.
    pub warnings: Vec<String>,
}
