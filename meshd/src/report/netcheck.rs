//! The network around this node, as far as peers, servers, gateways and relays tell of it.

use proto::id::PeerId;
use proto::node::Node;
use proto::path::{PathKind, PathState};
use proto::peer::PeerStatus;
use proto::time::Instant;

use super::{Reporter, Surroundings, around, paths};
use crate::api::model::Mode;
use crate::api::netcheck::{NetCheck, ObservedLine, RelayLine};
use crate::nat::NatStatus;

impl Reporter {
    /// What is known of the network around this node.
    pub(crate) fn netcheck(&self, node: &Node, surroundings: &Surroundings, now: Instant) -> NetCheck {
        let nat = &surroundings.nat;
        let name = |id: PeerId| node.peer_name(id).map(ToString::to_string).unwrap_or_default();
        let observed = node.observed().map(|seen| ObservedLine {
            by: name(seen.by),
            address: seen.address.to_string(),
            seconds_ago: (now - seen.at).as_secs_f64(),
        });
        let own = node.own_relays();
        let peers = node.status();
        let relays = node.relays().iter().map(|id| relay(self, node, &peers, *id, own.contains(id), now));
        NetCheck {
            version: 1,
            name: self.node.name.clone(),
            port: self.node.port,
            udp: udp(node, &peers, nat, now),
            public_addresses: self.public_addresses.clone(),
            local_addresses: node.links().iter().map(ToString::to_string).collect(),
            observed: observed.collect(),
            outside: around::outside(nat, node.nat_class()),
            lan: surroundings.lan.as_ref().map(|picture| around::lan(picture, node, &node.drops().snapshot())),
            relays: relays.collect(),
            mode: Mode::Running,
        }
    }
}

/// What shows that UDP passes: the first peer in session, or the first server that answered.
fn udp(node: &Node, peers: &[PeerStatus], nat: &NatStatus, now: Instant) -> Option<String> {
    let over_udp = |id: &PeerId, status: &PeerStatus| {
        status.unreachable_since.is_none()
            && status.path.is_some_and(|path| paths::kind(node, *id, path, now) != PathKind::Tls)
    };
    let mut known = peers.iter().filter_map(|status| Some((node.peer_id(&status.name)?, status)));
    let peer = known.find(|(id, status)| over_udp(id, status));
    let server = nat.servers.iter().find(|server| server.address.is_some());
    peer.map(|(_, status)| format!("a session with {}", status.name))
        .or_else(|| server.map(|server| format!("an answer of the STUN server {}", server.server)))
}

fn relay(reporter: &Reporter, node: &Node, peers: &[PeerStatus], id: PeerId, is_own: bool, now: Instant) -> RelayLine {
    let status = node.peer_status(id);
    let at = status.as_ref().and_then(|status| status.path);
    let used_by = |peer: &&PeerStatus| {
        peer.path.is_some_and(|path| path.channel.is_some() && node.relay_at(path.address) == Some(id))
    };
    let active = node.peer_paths(id, now).into_iter().find(|path| path.state == PathState::Active);
    let used_for = peers.iter().filter(used_by).map(|peer| peer.name.to_string());
    RelayLine {
        name: node.peer_name(id).map(ToString::to_string).unwrap_or_default(),
        path: at.map(|at| paths::text(node, id, at, now)),
        rtt_us: active.and_then(|path| path.rtt).and_then(|rtt| u64::try_from(rtt.as_micros()).ok()),
        is_own,
        used_for: used_for.collect(),
        reason: status.filter(|status| status.session.is_none()).and_then(|status| reporter.reason(&status, now)),
    }
}
