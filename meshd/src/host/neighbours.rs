//! Routes to neighbours on a LAN: those into the tunnel that only nearness permits, and those past it.
//!
//! A direct route stands beside the tunnel's of the same prefix, with a smaller metric: while it is there the kernel uses it, and
//! when it goes the tunnel has the packets, without a moment between. So there is one only for a prefix that the tunnel has.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Host;
use super::error::{During as _, HostError};
use super::netlink::{Route, RouteRequest, RouteSpec};
use super::plan::{DEFAULT_NUMBER, MAIN_TABLE, PlannedRoute, ROUTE_PROTOCOL};
use super::routes::{Action, Desired, without_default};

/// Metric of direct routes: one less than the tunnel's, so that they win over it and nothing else.
const METRIC: u32 = DEFAULT_NUMBER - 1;

/// A LAN that neighbours may be looked for on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LanLink {
    /// Index of the interface.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Our addresses there, link-local ones among them; at least one.
    pub(crate) addresses: Vec<IpAddr>,
}

/// What neighbours add to a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Neighbours {
    /// Through the tunnel, as those of the plan.
    pub(crate) routes: Vec<PlannedRoute>,
    /// Past it.
    pub(crate) direct: Vec<DirectWay>,
}

/// A neighbour that takes packets as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirectWay {
    /// What is behind it; of these the ones of the gateway's family that the tunnel has too.
    pub(crate) prefixes: Vec<IpNet>,
    /// Its address on the LAN.
    pub(crate) gateway: IpAddr,
    /// Index of the interface to the LAN.
    pub(crate) interface: u32,
}

/// A direct route, as the journal has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirectRoute {
    prefix: IpNet,
    gateway: IpAddr,
    interface: u32,
    source: Option<IpAddr>,
}

impl Host {
    /// The LANs that this machine is on: interfaces that are up, have an address, can multicast, and are neither loopback nor ours.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn lan_links(&self) -> Result<Vec<LanLink>, HostError> {
        let links = self.netlink.links().await.during("list", "interfaces")?;
        let addresses = self.netlink.addresses().await.during("list", "addresses")?;
        let is_lan = |link: &&super::netlink::Link| {
            link.is_up && link.has_carrier && link.is_multicast && link.name != self.settings.interface
        };
        let lan = |link: &super::netlink::Link| {
            let own = addresses.iter().filter(|address| address.index == link.index);
            let addresses: Vec<IpAddr> = own.map(|address| address.address.addr()).collect();
            (!addresses.is_empty()).then(|| LanLink { index: link.index, name: link.name.clone(), addresses })
        };
        Ok(links.iter().filter(is_lan).filter_map(lan).collect())
    }

    /// Takes what neighbours add to the plan, in place of what they added before, and makes the machine look so.
    ///
    /// # Errors
    /// As [`Host::reconcile`].
    pub(crate) async fn set_neighbours(&mut self, neighbours: Neighbours) -> Result<(), HostError> {
        if self.neighbours == neighbours {
            return Ok(());
        }
        self.neighbours = neighbours;
        self.reconcile().await
    }

    /// Makes the direct routes those that there should be beside these of the tunnel. `main` is what table main has.
    pub(super) async fn set_direct_routes(&mut self, tunnel: &[Desired], main: &[Route]) -> Result<(), HostError> {
        let wanted =
            if self.settings.has_own_table() { Vec::new() } else { direct_routes(tunnel, &self.neighbours.direct) };
        let gone: Vec<DirectRoute> = self.undo.direct.iter().filter(|route| !wanted.contains(route)).copied().collect();
        let missing: Vec<DirectRoute> = wanted.iter().filter(|route| !route.is_in(main)).copied().collect();
        if gone.is_empty() && missing.is_empty() {
            return Ok(());
        }
        self.remove_direct(&gone).await?;
        self.undo.direct = wanted;
        self.write_journal()?;
        let requests: Vec<RouteRequest> = missing.iter().map(|route| RouteRequest::Add(route.spec())).collect();
        let results = self.netlink.change_routes(&requests).await.during("add direct routes", "of neighbours")?;
        for (route, result) in missing.iter().zip(results) {
            if let Err(error) = result {
                // Its interface may just have gone; the tunnel has the prefix.
                tracing::debug!(prefix = %route.prefix, gateway = %route.gateway, %error, "no direct route");
                self.undo.direct.retain(|known| known != route);
            }
        }
        self.write_journal()
    }

    /// Removes direct routes; those that are gone with their interface are no error.
    pub(super) async fn remove_direct(&self, routes: &[DirectRoute]) -> Result<(), HostError> {
        let requests: Vec<RouteRequest> = routes.iter().map(|route| RouteRequest::RemoveVia(route.spec())).collect();
        let results = self.netlink.change_routes(&requests).await.during("remove direct routes", "of neighbours")?;
        let is_gone = |error: &std::io::Error| {
            matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV | libc::ENETDOWN | libc::ENETUNREACH))
        };
        for (route, result) in routes.iter().zip(results) {
            if let Err(error) = result
                && !is_gone(&error)
            {
                return Err(error).during("remove direct route", route.prefix);
            }
        }
        Ok(())
    }
}

impl DirectRoute {
    const fn spec(&self) -> RouteSpec {
        RouteSpec {
            prefix: self.prefix,
            table: MAIN_TABLE,
            protocol: ROUTE_PROTOCOL,
            metric: Some(METRIC),
            interface: Some(self.interface),
            gateway: Some(self.gateway),
            source: self.source,
        }
    }

    fn is_in(&self, main: &[Route]) -> bool {
        let via = [(self.interface, self.gateway)];
        main.iter().any(|route| is_direct(route) && route.prefix == self.prefix && route.gateways == via)
    }
}

/// Whether a route is a direct one, of this daemon or another: no reason to leave the tunnel's out, and no change of the network.
pub(super) fn is_direct(route: &Route) -> bool {
    route.protocol == ROUTE_PROTOCOL && route.metric == METRIC && route.has_gateway
}

/// A direct route for each prefix that the tunnel has and a neighbour of its family; of several neighbours the first.
fn direct_routes(tunnel: &[Desired], ways: &[DirectWay]) -> Vec<DirectRoute> {
    let leads_to = |way: &DirectWay, prefix: IpNet| {
        way.gateway.is_ipv6() == prefix.addr().is_ipv6()
            && way.prefixes.iter().flat_map(|behind| without_default(*behind)).any(|behind| behind == prefix)
    };
    let route = |desired: &Desired| {
        let way = ways.iter().find(|way| leads_to(way, desired.prefix))?;
        let (gateway, interface) = (way.gateway, way.interface);
        Some(DirectRoute { prefix: desired.prefix, gateway, interface, source: desired.source })
    };
    tunnel.iter().filter(|desired| desired.action == Action::Mesh).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_tunnel_has_of_the_neighbours_own_and_of_the_gateways_family_goes_past_it() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mesh = |text| Desired { prefix: net(text), action: Action::Mesh, source: None };
        let throw = Desired { prefix: net("10.3.0.0/16"), action: Action::Throw, source: None };
        let tunnel = [mesh("10.1.0.0/16"), mesh("10.2.0.0/16"), mesh("fd01::/16"), mesh("128.0.0.0/1"), throw];
        let prefixes = ["10.1.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "fd01::/16", "0.0.0.0/0"].map(net).to_vec();
        let way =
            |gateway: &str| DirectWay { prefixes: prefixes.clone(), gateway: gateway.parse().unwrap(), interface: 3 };
        let routes = |ways: &[DirectWay]| -> Vec<String> {
            direct_routes(&tunnel, ways).iter().map(|route| format!("{} via {}", route.prefix, route.gateway)).collect()
        };
        assert_eq!(routes(&[way("192.168.1.2")]), ["10.1.0.0/16 via 192.168.1.2", "128.0.0.0/1 via 192.168.1.2"]);
        assert_eq!(routes(&[way("fe80::1")]), ["fd01::/16 via fe80::1"]);
        assert_eq!(routes(&[]), [""; 0]);
    }
}
