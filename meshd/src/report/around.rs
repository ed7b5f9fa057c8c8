//! What surrounds the node: gateways, servers and NATs towards the outside, and the LANs that it is in.

use proto::nat::NatClass;
use proto::node::Node;
use proto::stats::DropReason;

use crate::api::model::{GatewayLine, LanInterfaceLine, LanLine, NatLine, NeighbourLine, Outside, ServerLine};
use crate::lan::LanPicture;
use crate::nat::NatStatus;

/// How the node looks from outside.
pub(super) fn outside(nat: &NatStatus, class: Option<NatClass>) -> Outside {
    let gateways = nat.gateways.iter().map(|known| GatewayLine {
        interface: known.interface.clone(),
        gateway: known.gateway.to_string(),
        protocol: known.protocol.map(|protocol| protocol.to_string()),
        external: known.external.map(|external| external.to_string()),
        is_public: known.is_public,
        last_error: known.last_error.clone(),
    });
    let servers = nat.servers.iter().map(|known| ServerLine {
        server: known.server.clone(),
        address: known.address.map(|address| address.to_string()),
        last_error: known.last_error.clone(),
    });
    let class = class.map(|class| NatLine {
        class: class.name().to_owned(),
        step: if let NatClass::Sequential(step) = class { Some(step.get()) } else { None },
    });
    Outside { gateways: gateways.collect(), stun_servers: servers.collect(), nat: class }
}

/// Who is near.
pub(super) fn lan(picture: &LanPicture, node: &Node, drops: &[(DropReason, u64)]) -> LanLine {
    let interfaces = picture.interfaces.iter().map(|interface| LanInterfaceLine {
        name: interface.name.clone(),
        ipv4: interface.v4,
        ipv6: interface.v6,
        error: interface.error.clone(),
    });
    let neighbours = picture.neighbours.iter().map(|(key, places)| NeighbourLine {
        name: node.peer_of_key(key).and_then(|id| node.peer_name(id)).map(ToString::to_string),
        public_key: key.to_string(),
        addresses: places.iter().map(|place| place.address.to_string()).collect(),
    });
    let refused = drops.iter().filter(|(reason, _)| reason.name().starts_with("beacon_")).map(|(_, n)| n);
    LanLine {
        interfaces: interfaces.collect(),
        neighbours: neighbours.collect(),
        beacons_heard: picture.heard,
        beacons_refused: refused.sum(),
    }
}
