//! The default gateways of this machine, as its own routes name them.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use super::error::{During as _, HostError};
use super::netlink::{Address, Netlink, Route, RouteKind};
use super::plan::MAIN_TABLE;
use crate::sys::heap;

/// A default gateway, and how we look to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    /// The interface that it is behind.
    pub(crate) interface: String,
    /// That interface's number, by which link-local addresses are told apart.
    pub(crate) index: u32,
    /// Its address.
    pub(crate) address: IpAddr,
    /// Our address on that interface: any IPv4, or a global IPv6 one.
    pub(crate) own: IpAddr,
}

/// The best default gateway of each family and interface. Needs no privilege.
///
/// # Errors
/// When the kernel does not tell its routes.
pub(crate) async fn gateways() -> Result<Vec<Gateway>, HostError> {
    // The list has every prefix of the mesh in it. A thread has a heap of its own, which is left empty; in the main one what
    // stays would lie scattered among what goes.
    let listed = tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.during("start", "a thread")?.block_on(list())
    });
    let found = listed.await.map_err(io::Error::other).during("list", "gateways")?;
    heap::trim();
    found
}

async fn list() -> Result<Vec<Gateway>, HostError> {
    let netlink = Netlink::open().during("open", "a netlink socket")?;
    let routes = netlink.routes(MAIN_TABLE).await.during("list", "routes")?;
    let addresses = netlink.addresses().await.during("list", "addresses")?;
    let name = |index: u32| nix::net::if_::if_indextoname(index).ok()?.into_string().ok();
    Ok(choose(&routes, &addresses, name))
}

fn choose(routes: &[Route], addresses: &[Address], name: impl Fn(u32) -> Option<String>) -> Vec<Gateway> {
    let mut best: BTreeMap<(bool, u32), (u32, IpAddr, Option<IpAddr>)> = BTreeMap::new();
    for route in routes.iter().filter(|route| route.prefix.prefix_len() == 0 && route.kind == RouteKind::Unicast) {
        for &(index, address) in &route.gateways {
            let known = best.entry((address.is_ipv6(), index)).or_insert((route.metric, address, route.source));
            if route.metric < known.0 {
                *known = (route.metric, address, route.source);
            }
        }
    }
    let gateway = |((_, index), (_, address, source)): ((bool, u32), (u32, IpAddr, Option<IpAddr>))| {
        let own = own(address, source, addresses.iter().filter(|own| own.index == index).map(|own| own.address))?;
        Some(Gateway { interface: name(index)?, index, address, own })
    };
    best.into_iter().filter_map(gateway).collect()
}

/// Which of our addresses a gateway sees: the one that the route prefers, else one on the gateway's network, else the first.
fn own(gateway: IpAddr, source: Option<IpAddr>, ours: impl Iterator<Item = IpNet> + Clone) -> Option<IpAddr> {
    /// What is handed out (RFC 4291 §2.4): to map any other address leads nowhere.
    const GLOBAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
    let fits = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => gateway.is_ipv4(),
        IpAddr::V6(v6) => gateway.is_ipv6() && GLOBAL.contains(v6),
    };
    let near = ours.clone().filter(|net| net.contains(&gateway)).map(|net| net.addr());
    source.into_iter().chain(near).chain(ours.map(|net| net.addr())).find(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(prefix: &str, metric: u32, gateways: &[(u32, &str)]) -> Route {
        Route {
            prefix: prefix.parse().unwrap(),
            table: MAIN_TABLE,
            protocol: 3,
            kind: RouteKind::Unicast,
            interfaces: gateways.iter().map(|(index, _)| *index).collect(),
            gateways: gateways.iter().map(|(index, address)| (*index, address.parse().unwrap())).collect(),
            has_gateway: true,
            metric,
            source: None,
        }
    }

    fn address(index: u32, address: &str) -> Address {
        Address { index, address: address.parse().unwrap() }
    }

    #[test]
    fn the_best_default_route_of_each_family_and_interface_counts() {
        let routes = [
            route("0.0.0.0/0", 600, &[(2, "192.168.1.254")]),
            route("0.0.0.0/0", 100, &[(2, "192.168.1.1")]),
            route("0.0.0.0/0", 100, &[(3, "192.168.1.1")]),
            route("10.0.0.0/8", 0, &[(4, "10.0.0.1")]),
            route("0.0.0.0/0", 0, &[]),
            route("::/0", 1_024, &[(2, "fe80::1")]),
            route("::/0", 1_024, &[(3, "fe80::1")]),
        ];
        let addresses = [
            address(2, "192.168.7.2/24"),
            address(2, "192.168.1.2/24"),
            address(3, "192.168.1.3/24"),
            address(2, "fe80::2/64"),
            address(2, "fd00::2/64"),
            address(2, "2001:db8::2/64"),
            address(3, "fe80::3/64"),
        ];
        let found = choose(&routes, &addresses, |index| Some(format!("eth{index}")));
        let told: Vec<_> = found.iter().map(|g| format!("{} {} {}", g.interface, g.address, g.own)).collect();
        let expected = ["eth2 192.168.1.1 192.168.1.2", "eth3 192.168.1.1 192.168.1.3", "eth2 fe80::1 2001:db8::2"];
        assert_eq!(told, expected);
    }
}
