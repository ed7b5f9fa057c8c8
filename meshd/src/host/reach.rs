//! Which prefixes this machine has a way into by its own routes.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::Host;
use super::error::{During as _, HostError};
use super::netlink::{Link, Route, RouteKind};
use super::plan::MAIN_TABLE;

impl Host {
    /// Those of `prefixes` into which table main has a route by an interface that is up, has a carrier and is not ours.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn routed(&self, prefixes: &[IpNet]) -> Result<BTreeSet<IpNet>, HostError> {
        let links = self.netlink.links().await.during("list", "interfaces")?;
        let routes = self.netlink.routes(MAIN_TABLE).await.during("list", "routes of table main")?;
        Ok(routed(prefixes, &routes, &links, &self.settings.interface))
    }
}

/// A default route leads everywhere and says nothing of a prefix, unless that is the prefix.
fn routed(prefixes: &[IpNet], routes: &[Route], links: &[Link], own: &str) -> BTreeSet<IpNet> {
    let usable = links.iter().filter(|link| link.is_up && link.has_carrier && link.name != own);
    let usable: BTreeSet<u32> = usable.map(|link| link.index).collect();
    let leads = |route: &&Route| {
        route.kind == RouteKind::Unicast && route.interfaces.iter().any(|interface| usable.contains(interface))
    };
    let live: Vec<IpNet> = routes.iter().filter(leads).map(|route| route.prefix).collect();
    let is_into =
        |prefix: &IpNet, route: &IpNet| prefix.contains(route) || (route.contains(prefix) && route.prefix_len() > 0);
    prefixes.iter().copied().filter(|prefix| live.iter().any(|route| is_into(prefix, route))).collect()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::LinkSettings;
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn link(index: u32, name: &str, has_carrier: bool) -> Link {
        let settings = LinkSettings::default();
        Link { index, name: name.to_owned(), is_up: true, has_carrier, is_multicast: true, is_tun: false, settings }
    }

    fn route(prefix: &str, interface: u32) -> Route {
        Route {
            prefix: net(prefix),
            table: MAIN_TABLE,
            protocol: 2,
            kind: RouteKind::Unicast,
            interfaces: vec![interface],
            has_gateway: false,
            gateways: Vec::new(),
            metric: 0,
            source: None,
        }
    }

    #[test]
    fn a_prefix_is_routed_by_a_live_link_that_is_not_the_default_route_or_ours() {
        let links = [link(1, "mesh0", true), link(2, "eth0", true), link(3, "eth1", false)];
        let is_routed = |prefix: &str, routes: &[Route]| !routed(&[net(prefix)], routes, &links, "mesh0").is_empty();
        assert!(is_routed("10.50.0.0/16", &[route("10.50.0.0/16", 2)]));
        assert!(is_routed("10.50.0.0/16", &[route("10.50.7.0/24", 2)]), "a part of it");
        assert!(is_routed("10.50.0.0/16", &[route("10.0.0.0/8", 2)]), "around it");
        assert!(!is_routed("10.50.0.0/16", &[route("10.50.0.0/16", 3)]), "without a carrier");
        assert!(!is_routed("10.50.0.0/16", &[route("10.50.0.0/16", 1)]), "into the mesh");
        assert!(!is_routed("10.50.0.0/16", &[route("0.0.0.0/0", 2), route("10.51.0.0/16", 2)]));
        assert!(is_routed("0.0.0.0/0", &[route("0.0.0.0/0", 2)]));
        let refused = Route { kind: RouteKind::Refuse, ..route("10.50.0.0/16", 2) };
        assert!(!is_routed("10.50.0.0/16", &[refused]));
    }
}
