//! Why packets get to an address, or do not: the core's explanation, the kernel's part in it, and words for both.

mod room;
mod steps;
mod story;
#[cfg(test)]
mod tests;
mod verdict;

use std::net::IpAddr;

use ipnet::IpNet;
use proto::explain::{Explanation, Heard};
use proto::id::{EndpointName, PeerId};
use proto::nat::NatClass;
use proto::node::{Inquiry, Node};
use proto::peer::PeerStatus;
use proto::stats::DropReason;
use proto::time::Instant;
use proto::wire::{MachineView, RouteView, WhyQuestion};

use super::names::Unclear;
use super::{MeshAddresses, Reporter, paths, shared};
use crate::api::why::{WhyQuery, WhyReport};
use crate::host::{Host, Way};
use story::{Miss, Missing, Role, Story, Tried};

/// Drops that say something of packets between two members. What the network sends and strangers try is none of it.
const TELLING: [DropReason; 10] = [
    DropReason::ForeignSource,
    DropReason::StagingFull,
    DropReason::TooLong,
    DropReason::SessionExhausted,
    DropReason::SendFailed,
    DropReason::PuntFull,
    DropReason::Replayed,
    DropReason::AuthenticationFailed,
    DropReason::ForgedSource,
    DropReason::NotAnnounced,
];

/// What this machine does with packets that a peer asks about.
pub(crate) fn machine_of(node: &Node, host: &Host, asker: PeerId, question: &WhyQuestion) -> MachineView {
    let destination = question.destination;
    match node.route_of(destination) {
        RouteView::Own | RouteView::Behind => {
            let source = question.source.or_else(|| node.mesh_address(asker));
            receiving(host, destination, source, node.route_of(destination))
        }
        RouteView::Peer | RouteView::Nobody | RouteView::Withheld | RouteView::Untold => {
            sending(node, host, destination).0
        }
    }
}

/// What the machine does with packets of the mesh that are for it, or for what is behind it.
fn receiving(host: &Host, destination: IpAddr, source: Option<IpAddr>, route: RouteView) -> MachineView {
    let leads_elsewhere = |source: IpAddr| matches!(host.way(source), Way::By(_) | Way::Nowhere(_));
    if route == RouteView::Behind && !host.forwards(destination.is_ipv6()) {
        return MachineView::ForwardingOff;
    }
    match (route, host.way(destination)) {
        (RouteView::Behind, Way::Mesh | Way::Nowhere(_)) => MachineView::NoWay,
        _ if host.is_strict() && source.is_some_and(leads_elsewhere) => MachineView::ReversePath,
        _ => MachineView::Good,
    }
}

/// Where the machine sends packets that are for somebody else.
fn sending(node: &Node, host: &Host, destination: IpAddr) -> (MachineView, Way) {
    let way = host.way(destination);
    let view = match &way {
        Way::Mesh => MachineView::Good,
        // Packets to a neighbour go there as they are.
        Way::By(_) if node.is_passed_by(destination) => MachineView::Good,
        Way::By(_) => MachineView::Shadowed,
        Way::Nowhere(_) => MachineView::RouteMissing,
        Way::Unknown => MachineView::Untold,
    };
    (view, way)
}

impl Reporter {
    /// Goes on with a query, and tells what is known so far.
    pub(crate) fn why(&self, node: &mut Node, host: &Host, query: &mut WhyQuery, now: Instant) -> WhyReport {
        if query.inquiry.is_none() {
            match self.begin(node, query, now) {
                Ok(inquiry) => query.inquiry = Some(inquiry),
                Err(missing) => return missing.report(query, &self.node.name),
            }
            query.drops = node.drops().snapshot();
        }
        let Some(inquiry) = &mut query.inquiry else { return Missing::nobody().report(query, &self.node.name) };
        let (machine, way) = sending(node, host, inquiry.address());
        let told = node.explain(inquiry, machine, now);
        let story = self.story(node, host, query, told, way, now);
        story.report()
    }

    /// The address and the sender that a query means.
    fn begin(&self, node: &Node, query: &WhyQuery, now: Instant) -> Result<Inquiry, Missing> {
        let from = query.from.as_deref().map(|wanted| self.sender(node, wanted)).transpose()?.flatten();
        Ok(Inquiry::new(self.address(&query.target)?, from, now))
    }

    /// The member whose packets are meant; `None` for this node.
    fn sender(&self, node: &Node, wanted: &str) -> Result<Option<PeerId>, Missing> {
        let name = self.member(wanted, Role::Sender)?;
        Ok(node.peer_id(name).filter(|_| name.as_str() != self.node.name))
    }

    fn address(&self, wanted: &str) -> Result<IpAddr, Missing> {
        if let Ok(address) = wanted.parse::<IpAddr>() {
            return Ok(address.to_canonical());
        }
        let name = self.member(wanted, Role::Target)?;
        let address = self.addresses.get(name).and_then(|all| MeshAddresses::iter(all).next());
        address.ok_or_else(|| Missing::unclear(wanted, Role::Target, Unclear::Nobody(None)))
    }

    fn member(&self, wanted: &str, role: Role) -> Result<&EndpointName, Missing> {
        let name = self.meant(wanted).map_err(|unclear| Missing::unclear(wanted, role, unclear))?;
        match self.absent.reason(name) {
            Some(absence) => Err(Missing { name: name.to_string(), role, miss: Miss::Absent(absence) }),
            None => Ok(name),
        }
    }

    fn story(&self, node: &Node, host: &Host, query: &WhyQuery, told: Explanation, way: Way, now: Instant) -> Story {
        let name = |id: PeerId| node.peer_name(id).map_or_else(|| "?".to_owned(), ToString::to_string);
        let sender = told.from.map_or_else(|| self.node.name.clone(), name);
        let receiver = told.target.map(name).or_else(|| self.is_own(told.address).then(|| self.node.name.clone()));
        let status = told.target.filter(|_| told.from.is_none()).and_then(|id| node.peer_status(id));
        let detail = told.target.filter(|_| told.from.is_none()).and_then(|id| node.peer_detail(id, now));
        let shared = shared::lines(node, &self.node.name, now);
        let prefix = told.prefix.map(|prefix| prefix.to_string());
        Story {
            wanted: query.target.clone(),
            own: self.node.name.clone(),
            mesh: self.node.mesh.clone(),
            interface: self.node.interface.clone(),
            communities: [&sender, receiver.as_ref().unwrap_or(&sender)].map(|name| self.communities_of(name)),
            room: told.nearest.and_then(|nearest| self.room(node, nearest, told.address)),
            nearest: told.nearest.map(|(net, id)| (net.to_string(), id.map_or_else(|| self.node.name.clone(), name))),
            shared: shared.into_iter().find(|line| Some(&line.prefix) == prefix.as_ref()),
            note: told.prefix.and_then(|prefix| host.note_of(prefix)).map(ToString::to_string),
            path: status.as_ref().zip(told.target).and_then(|(s, id)| Some(paths::text(node, id, s.path?, now))),
            others: told.target.map(|id| paths::probed_of(node, id, now)).unwrap_or_default(),
            tried: detail.and_then(|detail| detail.tries).map(|tries| Tried {
                count: tries.count,
                seconds: (tries.ended.unwrap_or(now) - tries.since).as_secs(),
                places: self.places(status.as_ref()),
            }),
            unresolved: told
                .target
                .and_then(|id| self.unresolved.of(id).next())
                .map(|(host, error)| format!("{host}: {error}")),
            helper: told.helper.filter(|helper| helper.near != Heard::Unreached).map(|helper| name(helper.peer)),
            nat: node.nat_class().map(NatClass::name),
            drops: risen(&query.drops, &node.drops().snapshot()),
            key: status.map(|status| status.key.to_string()),
            own_key: self.node.public_key.clone(),
            sender,
            receiver,
            way,
            told,
        }
    }

    fn places(&self, status: Option<&PeerStatus>) -> Vec<String> {
        let place = |address: &std::net::SocketAddr| match self.send_errors.get(address) {
            Some((_, error)) => format!("{address} (this machine says: {error})"),
            None => address.to_string(),
        };
        status.map(|status| status.candidates.iter().map(place).collect()).unwrap_or_default()
    }

    /// What who has the nearest prefix may announce to have the address too.
    fn room(&self, node: &Node, (nearest, owner): (IpNet, Option<PeerId>), address: IpAddr) -> Option<IpNet> {
        let owner = owner.map_or(Some(self.node.name.as_str()), |id| node.peer_name(id).map(EndpointName::as_str))?;
        let hosts = self.addresses.iter().flat_map(|(name, all)| all.iter().map(|ip| (name.as_str(), ip.into())));
        let behind = self.subnets.iter().flat_map(|(name, all)| all.iter().map(|net| (name.as_str(), *net)));
        room::beside(nearest, owner, address, hosts.chain(behind))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.node.addresses.contains(&address.to_string())
    }

    fn communities_of(&self, name: &str) -> Vec<String> {
        let number = self.addresses.keys().position(|known| known.as_str() == name);
        number.map(|number| self.communities.of_number(number)).unwrap_or_default()
    }
}

/// What has been dropped since `before`.
fn risen(before: &[(DropReason, u64)], after: &[(DropReason, u64)]) -> Vec<(String, u64)> {
    let count = |all: &[(DropReason, u64)], reason| all.iter().find(|(of, _)| *of == reason).map_or(0, |(_, n)| *n);
    let rise = TELLING.iter().map(|reason| (*reason, count(after, *reason).saturating_sub(count(before, *reason))));
    rise.filter(|(_, n)| *n > 0).map(|(reason, n)| (reason.name().to_owned(), n)).collect()
}
