//! Which of this machine's addresses are worth telling to peers, and how wide its links to them are. Pure functions.

use std::net::IpAddr;

use super::netlink::{Address, Link};

/// How names of interfaces begin that lead nowhere from outside: containers and virtual machines on this machine, and other
/// overlays, over which datagrams would be wrapped twice. Drivers do not tell these from others (a container's own uplink is a
/// veth as well), names do.
const INSIDE: [&str; 18] = [
    "docker",
    "br-",
    "veth",
    "cni",
    "flannel",
    "cali",
    "lxc",
    "lxd",
    "virbr",
    "vnet",
    "podman",
    "kube",
    "cilium",
    "tun",
    "tap",
    "wg",
    "tailscale",
    "zt",
];

/// The addresses of `links` that peers may reach, but for those of `own`, the mesh's interface.
pub(super) fn reachable(links: &[Link], addresses: &[Address], own: &str) -> Vec<IpAddr> {
    let usable: Vec<u32> = usable(links, own).map(|link| link.index).collect();
    let all = addresses.iter().filter(|address| usable.contains(&address.index)).map(|address| address.address.addr());
    all.filter(|ip| is_wide(*ip)).collect()
}

/// The largest MTU of those of `links` that lead to peers, in bytes.
pub(super) fn widest(links: &[Link], own: &str) -> Option<u32> {
    usable(links, own).filter_map(|link| link.settings.mtu).max()
}

/// Whether peers may be reached by `link`.
pub(super) fn leads_out(link: &Link, own: &str) -> bool {
    let is_inside = |name: &str| name == "lo" || name == own || INSIDE.iter().any(|prefix| name.starts_with(prefix));
    link.is_up && link.has_carrier && !is_inside(&link.name)
}

fn usable<'l>(links: &'l [Link], own: &'l str) -> impl Iterator<Item = &'l Link> {
    links.iter().filter(move |link| leads_out(link, own))
}

/// Whether an address means something beyond its link.
fn is_wide(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !is_link_local && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::super::netlink::LinkSettings;
    use super::*;

    #[test]
    fn only_addresses_that_mean_something_outside_are_told() {
        let link = |index, name: &str, is_up, has_carrier| Link {
            index,
            name: name.into(),
            is_up,
            has_carrier,
            is_multicast: true,
            is_tun: false,
            settings: LinkSettings::default(),
        };
        let links = [
            link(1, "lo", true, true),
            link(2, "eth0", true, true),
            link(3, "wlan0", true, false),
            link(4, "docker0", true, true),
            link(5, "mesh0", true, true),
            link(6, "wwan0", true, true),
            link(7, "eth1", false, false),
        ];
        let address = |index, text: &str| Address { index, address: text.parse().unwrap() };
        let addresses = [
            address(1, "127.0.0.1/8"),
            address(2, "192.168.1.5/24"),
            address(2, "fe80::1/64"),
            address(2, "2001:db8::5/64"),
            address(3, "192.168.2.5/24"),
            address(4, "172.17.0.1/16"),
            address(5, "10.99.0.1/32"),
            address(6, "10.64.3.2/30"),
            address(6, "169.254.7.7/16"),
            address(7, "192.168.9.9/24"),
        ];
        let told: Vec<String> = reachable(&links, &addresses, "mesh0").iter().map(ToString::to_string).collect();
        assert_eq!(told, ["192.168.1.5", "2001:db8::5", "10.64.3.2"]);
    }
}
