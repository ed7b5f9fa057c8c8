//! What metrics are made of: the driver's state at one moment, copied.

use std::time::Duration;

use proto::account::AccountStatus;
use proto::id::PeerId;
use proto::node::{Load, RelayStatus};
use proto::path::{PathState, PathStatus};
use proto::peer::{PeerState, PeerStatus};
use proto::stats::{DropReason, Relayed};

use crate::daemon::Life;
use crate::driver::Driver;
use crate::host::HostNote;
use crate::report::via;

/// Everything, without the process itself.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(super) name: String,
    pub(super) mesh: String,
    pub(super) mesh_digest: String,
    pub(super) version: String,
    pub(super) interface: String,
    /// UDP port.
    pub(super) port: u16,
    pub(super) uptime: Duration,
    pub(super) peers: Vec<PeerSample>,
    pub(super) load: Load,
    pub(super) drops: Vec<(DropReason, u64)>,
    pub(super) relaying: Option<RelaySample>,
    pub(super) punts: Queue,
    pub(super) calls: Queue,
    pub(super) routes_withheld: usize,
    pub(super) nat_class: Option<&'static str>,
    pub(super) port_mappings: usize,
    pub(super) lan: LanSample,
    pub(super) reloads: Reloads,
}

/// How often the configuration was read anew while the daemon ran.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reloads {
    /// It was taken.
    pub(crate) succeeded: u64,
    /// It was refused, and the one before stayed.
    pub(crate) failed: u64,
}

/// A bounded queue towards the driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    pub(super) len: usize,
    pub(super) capacity: usize,
}

#[derive(Debug)]
pub(super) struct PeerSample {
    pub(super) name: String,
    pub(super) state: &'static str,
    /// Whether it may talk to this node, or did.
    pub(super) is_counted: bool,
    pub(super) status: PeerStatus,
    /// At the same moment, for the core counts it on when the data changes its way.
    pub(super) relayed: Relayed,
    pub(super) session_age: Option<Duration>,
    pub(super) disconnected: Option<Duration>,
    pub(super) paths: Vec<PathSample>,
}

/// A path that is probed. Several sockets, or channels, to one place are one path here.
#[derive(Debug)]
pub(super) struct PathSample {
    pub(super) kind: &'static str,
    pub(super) address: String,
    pub(super) relay: String,
    pub(super) status: PathStatus,
}

#[derive(Debug)]
pub(super) struct RelaySample {
    pub(super) status: RelayStatus,
    pub(super) members: Vec<(String, AccountStatus)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LanSample {
    pub(super) neighbours: usize,
    pub(super) heard: u64,
}

impl PathSample {
    pub(super) fn is_active(&self) -> bool {
        self.status.state == PathState::Active
    }
}

impl Driver {
    /// What metrics are made of now.
    pub(crate) fn sample(&self, life: &Life) -> Sample {
        let (now, about) = (self.clock.now(), self.reporter.about());
        let gateways = self.nat.status().gateways;
        let lan = self.lan.picture();
        Sample {
            name: about.name.clone(),
            mesh: about.mesh.clone(),
            mesh_digest: about.mesh_digest.clone(),
            version: about.daemon.clone(),
            interface: about.interface.clone(),
            port: about.port,
            uptime: now - self.reporter.started(),
            peers: self.node.status().into_iter().map(|status| self.sample_peer(status)).collect(),
            load: self.node.load(),
            drops: DropReason::ALL.iter().map(|reason| (*reason, self.node.drops().get(*reason))).collect(),
            relaying: self.sample_relay(),
            punts: Queue { len: self.punts.len(), capacity: self.punts.max_capacity() },
            calls: Queue { len: life.calls.len(), capacity: life.calls.max_capacity() },
            routes_withheld: self.host.notes().iter().filter(|note| is_route_withheld(note)).count(),
            nat_class: self.node.nat_class().map(proto::nat::NatClass::name),
            port_mappings: gateways.iter().filter(|gateway| gateway.external.is_some()).count(),
            lan: lan.map(|lan| LanSample { neighbours: lan.neighbours.len(), heard: lan.heard }).unwrap_or_default(),
            reloads: life.reloads.counts(),
        }
    }

    fn sample_peer(&self, status: PeerStatus) -> PeerSample {
        let now = self.clock.now();
        let state = match status.state {
            PeerState::Idle => "idle",
            PeerState::Connecting => "connecting",
            PeerState::Connected => "connected",
            PeerState::Unreachable => "unreachable",
            PeerState::Denied => "denied",
            PeerState::RelayOnly => "relay_only",
        };
        PeerSample {
            name: status.name.to_string(),
            state,
            is_counted: status.state != PeerState::Denied,
            relayed: status.activity.relayed(),
            session_age: status.last_handshake.filter(|_| status.session.is_some()).map(|at| now - at),
            disconnected: status.disconnected_since.map(|since| now - since),
            paths: self.node.peer_id(&status.name).map(|id| self.sample_paths(id)).unwrap_or_default(),
            status,
        }
    }

    fn sample_paths(&self, peer: PeerId) -> Vec<PathSample> {
        let mut paths: Vec<PathSample> = Vec::new();
        for status in self.node.peer_paths(peer, self.clock.now()) {
            let sample = PathSample {
                kind: status.kind.name(),
                address: status.locator.address.to_string(),
                relay: via(&self.node, status.locator).unwrap_or_default(),
                status,
            };
            let is_same = |other: &&mut PathSample| {
                (other.kind, &other.address, &other.relay) == (sample.kind, &sample.address, &sample.relay)
            };
            match paths.iter_mut().find(is_same) {
                Some(other) if sample.is_active() && !other.is_active() => *other = sample,
                Some(_) => {}
                None => paths.push(sample),
            }
        }
        paths
    }

    fn sample_relay(&self) -> Option<RelaySample> {
        let status = self.node.relaying()?;
        let name = |peer| self.node.peer_name(peer).map(ToString::to_string);
        let members = status.members.iter().filter_map(|member| Some((name(member.peer)?, member.account))).collect();
        Some(RelaySample { status, members })
    }
}

/// Whether a note says that a route of the mesh is not on this machine.
const fn is_route_withheld(note: &HostNote) -> bool {
    matches!(
        note,
        HostNote::Connected { .. }
            | HostNote::LocalRoute { .. }
            | HostNote::RouteTaken { .. }
            | HostNote::RouteRefused { .. }
    )
}
