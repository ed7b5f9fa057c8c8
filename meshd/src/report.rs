//! The status report: what the core knows, in an operator's words.

mod around;
mod communities;
mod detail;
pub(crate) mod events;
mod happenings;
mod history;
mod names;
mod netcheck;
mod often;
mod paths;
mod shared;
mod unresolved;
mod why;

pub(crate) use history::{disconnect_text, spray_text};
pub(crate) use names::Absence;
pub(crate) use paths::{reply, text as path_text, via};
pub(crate) use why::machine_of;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use config::{Config, time_text};
use ipnet::IpNet;
use proto::id::{EndpointName, PeerId};
use proto::member::{Denial, Endpoint, Host as Dial, Kind, Members, PublicAddress};
use proto::node::Node;
use proto::peer::{PeerState, PeerStatus};
use proto::stats::DropReason;
use proto::time::Instant;

use crate::api::model::{Health, Mode, NodeStatus, PeerLine, Severity, State, Status};
use crate::host::Host;
use crate::lan::LanPicture;
use crate::nat::NatStatus;
use crate::resolver::Resolved;
use communities::Communities;
use happenings::Happenings;
use history::History;
use names::Absent;
use unresolved::Unresolved;

/// Send errors that are remembered, by destination; more destinations than this say nothing new.
const MAX_SEND_ERRORS: usize = 16;

/// How long a send error counts as present trouble.
const SEND_ERROR_AGE: std::time::Duration = std::time::Duration::from_secs(30);

/// An endpoint's mesh addresses, of which it has one of each family at most: in place, for there are ten thousand of them.
struct MeshAddresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl MeshAddresses {
    fn of(endpoint: &Endpoint, members: &Members) -> Self {
        let mut addresses = Self { v4: None, v6: None };
        for address in endpoint.mesh_addresses(&members.mesh) {
            match address {
                IpAddr::V4(v4) => addresses.v4 = Some(v4),
                IpAddr::V6(v6) => addresses.v6 = Some(v6),
            }
        }
        addresses
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// What the parts around the core tell of the network around the machine.
pub(crate) struct Surroundings {
    /// How the node looks from outside.
    pub(crate) nat: NatStatus,
    /// Who is near; `None` where nobody is looked for.
    pub(crate) lan: Option<LanPicture>,
}

/// Gathers what the core does not know, and puts it together with what it does.
pub(crate) struct Reporter {
    node: NodeStatus,
    started: Instant,
    addresses: BTreeMap<EndpointName, MeshAddresses>,
    /// Of those endpoints that have some.
    subnets: BTreeMap<EndpointName, Box<[IpNet]>>,
    communities: Communities,
    /// Who is in the mesh file, and no member.
    absent: Absent,
    /// Where the mesh file says that this node may be dialled.
    public_addresses: Vec<String>,
    history: History,
    happenings: Happenings,
    unresolved: Unresolved,
    send_errors: BTreeMap<SocketAddr, (std::time::Instant, String)>,
    state_error: Option<String>,
    warnings: Vec<String>,
}

impl Reporter {
    /// For a node that starts now, in a daemon that `started` earlier. `warnings` are those of the configuration.
    pub(crate) fn new(node: NodeStatus, config: &Config, warnings: Vec<String>, started: Instant) -> Self {
        let members = &config.members;
        let addresses = |e: &Endpoint| (e.name.clone(), MeshAddresses::of(e, members));
        let own = members.endpoints.iter().find(|endpoint| endpoint.name.as_str() == node.name);
        let own_addresses = own.into_iter().flat_map(|own| &own.public_addresses);
        Self {
            public_addresses: own_addresses.map(public_address).collect(),
            node,
            started,
            addresses: members.endpoints.iter().map(addresses).collect(),
            subnets: members.endpoints.iter().filter_map(subnets).collect(),
            communities: Communities::of(members),
            absent: Absent::of(config),
            history: History::default(),
            happenings: Happenings::new(),
            unresolved: Unresolved::default(),
            send_errors: BTreeMap::new(),
            state_error: None,
            warnings,
        }
    }

    /// Takes another mesh. What happened with peers that are still there is kept.
    pub(crate) fn renew(
        &mut self,
        node: NodeStatus,
        config: &Config,
        peer_id: impl Fn(&EndpointName) -> Option<PeerId>,
    ) {
        let renewed = Self::new(node, config, Vec::new(), self.started);
        (self.node, self.public_addresses) = (renewed.node, renewed.public_addresses);
        (self.addresses, self.subnets) = (renewed.addresses, renewed.subnets);
        (self.communities, self.absent) = (renewed.communities, renewed.absent);
        self.history.keep(|name| self.addresses.contains_key(name));
        self.happenings.renew(|name| self.addresses.contains_key(name));
        self.unresolved.keep(&config.members.endpoints, peer_id);
    }

    /// Takes what is odd about the configuration; it replaces what was before. Returns what of it is new, wherever in the files it
    /// stands, which the log is told of.
    pub(crate) fn set_warnings(&mut self, warnings: Vec<String>) -> Vec<String> {
        let before = std::mem::replace(&mut self.warnings, warnings);
        let is_new = |warning: &&String| !before.iter().any(|known| without_place(known) == without_place(warning));
        let new: Vec<String> = self.warnings.iter().filter(is_new).cloned().collect();
        new.iter().for_each(|warning| tracing::warn!("{warning}"));
        new
    }

    /// Whether the mesh has this endpoint: one that is invited only is no member.
    pub(crate) fn is_member(&self, name: &EndpointName) -> bool {
        self.addresses.contains_key(name)
    }

    /// Notes what a look-up brought.
    pub(crate) fn resolved(&mut self, resolved: &Resolved) {
        for (name, error) in &resolved.failures {
            tracing::warn!(host = name, error, "cannot resolve a public address");
        }
        self.unresolved.note(resolved);
    }

    /// Notes that a datagram could not be sent.
    pub(crate) fn send_error(&mut self, destination: SocketAddr, error: &std::io::Error) {
        let now = std::time::Instant::now();
        self.send_errors.retain(|_, (at, _)| now - *at < SEND_ERROR_AGE);
        if self.send_errors.len() < MAX_SEND_ERRORS || self.send_errors.contains_key(&destination) {
            self.send_errors.insert(destination, (now, error.to_string()));
        }
    }

    /// Notes that the state folder can be written.
    pub(crate) fn state_written(&mut self) {
        self.state_error = None;
    }

    /// Notes that the state folder cannot be written; said once.
    pub(crate) fn state_error(&mut self, error: &std::io::Error) {
        let text = error.to_string();
        if self.state_error.as_ref() != Some(&text) {
            tracing::warn!(error = text, "the state folder cannot be written");
            self.state_error = Some(text);
        }
    }

    /// What the node was told about itself at its start.
    pub(crate) const fn about(&self) -> &NodeStatus {
        &self.node
    }

    /// When the daemon started.
    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// The whole report.
    pub(crate) fn status(&self, node: &Node, host: &Host, around: &Surroundings, now: Instant) -> Status {
        let peers = node.status();
        let drops = node.drops().snapshot();
        let mut health = Vec::new();
        for peer in &peers {
            self.peer_health(node, peer, now, &mut health);
        }
        self.stranger_health(node, now, &mut health);
        self.drop_health(&drops, &mut health);
        self.handshake_health(&drops, &mut health);
        self.machine_health(host, &mut health);
        health.sort_by_key(|health| health.severity);
        Status {
            version: 1,
            node: NodeStatus { uptime_seconds: (now - self.started).as_secs(), ..self.node.clone() },
            peers: peers.iter().map(|peer| self.line(node, peer, now)).collect(),
            outside: around::outside(&around.nat, node.nat_class()),
            lan: around.lan.as_ref().map(|picture| around::lan(picture, node, &drops)),
            relaying: detail::relaying(node),
            shared: shared::lines(node, &self.node.name, now),
            drops: drops.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
            health,
            mode: Mode::Running,
            last_reload: None,
        }
    }

    fn line(&self, node: &Node, peer: &PeerStatus, now: Instant) -> PeerLine {
        use std::sync::atomic::Ordering::Relaxed;
        let addresses = self.addresses.get(&peer.name).into_iter().flat_map(MeshAddresses::iter);
        let id = node.peer_id(&peer.name);
        PeerLine {
            name: peer.name.to_string(),
            kind: match peer.kind {
                Kind::Edge => "edge",
                Kind::Connector => "connector",
            }
            .to_owned(),
            public_key: peer.key.to_string(),
            addresses: addresses.map(|address| address.to_string()).collect(),
            state: match peer.state {
                PeerState::Idle => State::Idle,
                PeerState::Connecting => State::Connecting,
                PeerState::Connected => State::Connected,
                PeerState::Unreachable => State::Unreachable,
                PeerState::Denied => State::Denied,
                PeerState::RelayOnly => State::RelayOnly,
            },
            path: peer.path.map(|path| path.to_string()),
            path_kind: id.zip(peer.path).map(|(id, path)| paths::kind(node, id, path, now).name().to_owned()),
            via: peer.path.and_then(|path| paths::via(node, path)),
            paths: id.map(|id| paths::probed_of(node, id, now)).unwrap_or_default(),
            last_handshake_seconds_ago: peer.last_handshake.map(|at| (now - at).as_secs_f64()),
            rx_bytes: peer.activity.rx_bytes.load(Relaxed),
            tx_bytes: peer.activity.tx_bytes.load(Relaxed),
            rx_packets: peer.activity.rx_packets.load(Relaxed),
            tx_packets: peer.activity.tx_packets.load(Relaxed),
            session: peer.session.map(|session| session.to_string()),
            cipher: peer.suite.map(|suite| suite.name().to_owned()),
            rekeys: peer.rekeys,
            reason: self.reason(peer, now),
            disconnected_seconds: peer.disconnected_since.map(|at| (now - at).as_secs_f64()),
            invited_until: self.absent.until(&peer.name).map(time_text),
        }
    }

    /// Why the peer is in the state that it is in.
    fn reason(&self, peer: &PeerStatus, now: Instant) -> Option<String> {
        match (peer.state, &peer.permission) {
            (_, Err(Denial::Invited)) => self.absent.reason(&peer.name).map(|absence| absence.text("it")),
            (PeerState::Denied, Err(denial)) => Some(denial.to_string()),
            (PeerState::RelayOnly, Err(denial)) => Some(format!("a session for relaying only: {denial}")),
            (PeerState::Unreachable, _) if peer.candidates.is_empty() && peer.path.is_none() => {
                Some("it cannot be dialled: it has no public_addresses, and has not contacted this node".to_owned())
            }
            (PeerState::Unreachable, _) => {
                let since = peer.unreachable_since.map_or(0, |since| (now - since).as_secs());
                let list: Vec<_> = peer.candidates.iter().map(ToString::to_string).collect();
                let mut text = format!("no answer from {} for {since} s", list.join(", "));
                if let Some((_, error)) = peer.candidates.iter().find_map(|c| self.send_errors.get(c)) {
                    text.push_str(&format!(" (this machine says: {error})"));
                }
                Some(text)
            }
            (PeerState::Idle | PeerState::Connecting | PeerState::Connected, _)
            | (PeerState::Denied | PeerState::RelayOnly, Ok(_)) => None,
        }
    }

    fn peer_health(&self, node: &Node, peer: &PeerStatus, now: Instant, health: &mut Vec<Health>) {
        let name = &peer.name;
        if peer.state == PeerState::Unreachable {
            let reason = self.reason(peer, now).unwrap_or_default();
            let hint = if peer.candidates.is_empty() {
                "give it public_addresses in the mesh file, or let it dial this node"
            } else {
                "is meshd running there, and is UDP open on the way? If both, `meshd status` there says what it refuses"
            };
            health.push(error(format!("{name} is unreachable: {reason}; {hint}")));
        }
        if let Some((reason, source, count, at)) = &peer.refused {
            let ago = (now - *at).as_secs();
            health.push(warning(format!(
                "refused {count} handshake{} of {name} from {source}, the last {ago} s ago: {reason}",
                plural(*count)
            )));
        }
        for (host, reason) in node.peer_id(name).into_iter().flat_map(|id| self.unresolved.of(id)) {
            health.push(error(format!("cannot resolve {host}, a public address of {name}: {reason}")));
        }
    }

    fn stranger_health(&self, node: &Node, now: Instant, health: &mut Vec<Health>) {
        for stranger in node.strangers() {
            let ago = (now - stranger.at).as_secs();
            health.push(warning(format!(
                "refused {} handshake{} from {}, the last {ago} s ago: its key {} belongs to no endpoint; if it is a \
                 member, put this key into the mesh file of this node; if it joins, its invitation was replaced or \
                 withdrawn: `meshd invite` makes another",
                stranger.count,
                plural(stranger.count),
                stranger.source,
                stranger.key
            )));
        }
    }

    fn drop_health(&self, drops: &[(DropReason, u64)], health: &mut Vec<Health>) {
        for (reason, n) in drops {
            let what = if *reason == DropReason::ForeignSource {
                "left for the mesh from a source that is not this node's in the mesh, and went no further: give the node \
                 an `address` of that family, or announce the source's prefix as `subnets` or `node_subnets`"
            } else if *reason == DropReason::ForgedSource {
                "came from a peer with a source address that is not that peer's, and got no further"
            } else if *reason == DropReason::NotAnnounced {
                "came for a destination that this node does not announce, and got no further"
            } else {
                continue;
            };
            health.push(warning(format!("{n} packet{} {what}", plural(*n))));
        }
    }

    /// What nobody can be blamed for by name, because only who means the same key, mesh and pre-shared key can be read.
    fn handshake_health(&self, drops: &[(DropReason, u64)], health: &mut Vec<Health>) {
        for (reason, n) in drops {
            let text = if *reason == DropReason::BadMac {
                format!(
                    "for another public key than this node's, which is {}: compare it in the mesh files",
                    self.node.public_key
                )
            } else if *reason == DropReason::HandshakeFailed {
                format!(
                    "that cannot be read or agreed on: compare mesh name (here {}), psk_file and cipher with the peers'",
                    self.node.mesh
                )
            } else {
                continue;
            };
            health.push(warning(format!("{n} handshake message{} came {text}", plural(*n))));
        }
    }

    fn machine_health(&self, host: &Host, health: &mut Vec<Health>) {
        health.extend(host.notes().iter().map(|note| warning(note.to_string())));
        health.extend(self.warnings.iter().cloned().map(warning));
        if let Some(text) = &self.state_error {
            health.push(warning(format!("the state folder cannot be written: {text}")));
        }
    }
}

/// A warning without the file, line and column in front of it, which other lines above it change.
fn without_place(warning: &str) -> &str {
    warning.split_once(": ").map_or(warning, |(_, text)| text)
}

fn error(text: String) -> Health {
    Health { severity: Severity::Error, text }
}

fn warning(text: String) -> Health {
    Health { severity: Severity::Warning, text }
}

const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The prefixes behind an endpoint, if it has any.
fn subnets(endpoint: &Endpoint) -> Option<(EndpointName, Box<[IpNet]>)> {
    let all: Vec<IpNet> = endpoint.node_subnets.iter().chain(&endpoint.subnets).copied().collect();
    (!all.is_empty()).then(|| (endpoint.name.clone(), all.into_boxed_slice()))
}

fn public_address(address: &PublicAddress) -> String {
    match &address.host {
        Dial::Ip(ip) => SocketAddr::new(*ip, address.port).to_string(),
        Dial::Name(name) => format!("{name}:{}", address.port),
    }
}
