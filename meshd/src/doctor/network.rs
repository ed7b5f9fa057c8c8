//! Sysctls and sizes: what the kernel does with packets before and after meshd has them.

use ipnet::IpNet;
use proto::member::Host;
use proto::wire::OVERHEAD;

use super::facts::{Facts, Life};
use super::finding::{Check, Finding};
use super::routes::planned;
use crate::dataplane::socket::SocketOptions;
use crate::host::SurveyLink;

/// IPv6 and UDP header, and what a data datagram adds, in bytes.
const OUTER_HEADERS: u32 = 40 + 8 + OVERHEAD as u32;

const IPV6: Check = Check("ipv6");
const FORWARDING: Check = Check("forwarding");
const FILTER: Check = Check("rp_filter");
const BUFFERS: Check = Check("buffers");
const MTU: Check = Check("mtu");

/// The value of a sysctl, by its path below `/proc/sys`.
fn sysctl<'f>(facts: &'f Facts, key: &str) -> Option<&'f str> {
    facts.sysctls.get(key).map(String::as_str)
}

/// The links by which peers may be reached.
fn outward(facts: &Facts) -> impl Iterator<Item = &SurveyLink> {
    facts.network.iter().flat_map(|network| &network.links).filter(|link| link.leads_out)
}

pub(super) fn addresses(facts: &Facts) -> Vec<Finding> {
    let interface = facts.config.interface();
    let off = |scope: &str| sysctl(facts, &format!("net/ipv6/conf/{scope}/disable_ipv6")) == Some("1");
    if facts.sysctls.is_empty() {
        return vec![IPV6.skipped("/proc/sys cannot be read", "look at sysctl net.ipv6.conf.all.disable_ipv6")];
    }
    if !facts.sysctls.contains_key("net/ipv6/conf/all/disable_ipv6") {
        return vec![IPV6.warn(
            "this kernel has no IPv6: mesh addresses and routes of IPv6 are left out",
            "remove ipv6.disable=1 from the kernel's command line",
        )];
    }
    let scope = ["all", interface].into_iter().find(|scope| off(scope));
    let scope = scope.or_else(|| (!has_link(facts, interface) && off("default")).then_some("default"));
    vec![match scope {
        Some(scope) => IPV6.warn(
            format!("it is off ({scope}): mesh addresses and routes of IPv6 are left out"),
            format!("sysctl -w net.ipv6.conf.{scope}.disable_ipv6=0"),
        ),
        None => IPV6.ok("on"),
    }]
}

fn has_link(facts: &Facts, name: &str) -> bool {
    facts.network.iter().flat_map(|network| &network.links).any(|link| link.name == name)
}

pub(super) fn forwarding(facts: &Facts) -> Vec<Finding> {
    let Some(own) = facts.config.good().and_then(|outline| outline.own()) else {
        return vec![FORWARDING.skipped("the configuration does not say whether it is needed", "mend it first")];
    };
    let announces = |is_v6: bool| own.subnets.iter().any(|net| matches!(net, IpNet::V6(_)) == is_v6);
    if own.subnets.is_empty() {
        return vec![FORWARDING.ok("not needed: this node announces no subnets")];
    }
    let families = [("IPv4", false, "net/ipv4/ip_forward"), ("IPv6", true, "net/ipv6/conf/all/forwarding")];
    let needed = families.into_iter().filter(|(_, is_v6, _)| announces(*is_v6));
    let mut findings: Vec<Finding> = needed.map(|(family, _, key)| forwarding_of(facts, family, key)).collect();
    findings.extend(advertisements(facts));
    findings
}

fn forwarding_of(facts: &Facts, family: &str, key: &str) -> Finding {
    let set = format!("sysctl -w {}=1", key.replace('/', "."));
    match (sysctl(facts, key), &facts.daemon.life) {
        (Some("1"), _) => FORWARDING.ok(format!("{family} on, for the subnets of this node")),
        (None, _) => FORWARDING.skipped(format!("{family}: no such sysctl"), set),
        (Some(_), Life::Alive(alive)) if alive.is_resting => {
            FORWARDING.ok(format!("{family} off: not selected, so it is not needed"))
        }
        (Some(_), Life::Absent) => FORWARDING.ok(format!("{family} off: `meshd up` turns it on, and off again")),
        (Some(_), Life::Barred | Life::Silent { .. } | Life::Alive(_)) => {
            FORWARDING.fail(format!("{family} is off, and this node announces subnets: nothing gets there"), set)
        }
    }
}

/// Interfaces that lost their default route because forwarding makes the kernel ignore router advertisements.
fn advertisements(facts: &Facts) -> Vec<Finding> {
    let Ok(network) = &facts.network else { return Vec::new() };
    let is_default = |net: &IpNet| net.prefix_len() == 0 && matches!(net, IpNet::V6(_));
    if network.routes.iter().any(|route| is_default(&route.prefix)) {
        return Vec::new();
    }
    let has_address = |link: &SurveyLink| {
        let of_link = network.addresses.iter().filter(|address| address.interface == link.name);
        let is_global = |net: &IpNet| matches!(net, IpNet::V6(v6) if !v6.addr().is_unicast_link_local());
        of_link.map(|address| &address.address).any(is_global)
    };
    let is = |link: &SurveyLink, key: &str| sysctl(facts, &format!("net/ipv6/conf/{}/{key}", link.name)) == Some("1");
    let deaf = outward(facts).filter(|link| has_address(link) && is(link, "forwarding") && is(link, "accept_ra"));
    deaf.map(|link| {
        let name = &link.name;
        let found =
            format!("{name} ignores router advertisements since forwarding is on: there is no IPv6 default route");
        FORWARDING.warn(found, format!("sysctl -w net.ipv6.conf.{}.accept_ra=2", name.replace('.', "/")))
    })
    .collect()
}

pub(super) fn reverse_path(facts: &Facts) -> Vec<Finding> {
    let value = |name: &str| sysctl(facts, &format!("net/ipv4/conf/{name}/rp_filter"));
    let is_strict = |link: &&SurveyLink| value("all").max(value(&link.name)) == Some("1");
    let Ok(network) = &facts.network else {
        return vec![FILTER.skipped("the interfaces cannot be listed", "sysctl -a | grep rp_filter")];
    };
    let strict: Vec<&SurveyLink> = outward(facts).filter(is_strict).collect();
    let set = |name: &str| {
        format!("sysctl -w net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{}.rp_filter=2", name.replace('.', "/"))
    };
    if let (Some(link), Some(address)) = (strict.first(), outer_inside(facts)) {
        let found =
            format!("{} is strict and drops datagrams of the peer at {address}, inside a mesh prefix", link.name);
        return vec![FILTER.warn(found, set(&link.name))];
    }
    let defaults =
        network.routes.iter().filter(|route| route.prefix.prefix_len() == 0 && route.prefix.addr().is_ipv4());
    let mut ways: Vec<&String> = defaults.flat_map(|route| &route.interfaces).collect();
    ways.sort();
    ways.dedup();
    vec![match strict.iter().find(|link| ways.len() > 1 && ways.contains(&&link.name)) {
        Some(link) => FILTER.warn(
            format!(
                "{} is strict, and there are several default routes: it drops what comes by the others' way",
                link.name
            ),
            set(&link.name),
        ),
        None => FILTER.ok("drops nothing of the mesh"),
    }]
}

/// An outer IPv4 address of a peer that lies in a prefix of the mesh.
fn outer_inside(facts: &Facts) -> Option<std::net::IpAddr> {
    let outline = facts.config.good()?;
    let prefixes = planned(outline);
    let hosts = outline.members.endpoints.iter().flat_map(|endpoint| &endpoint.public_addresses);
    let ips = hosts.filter_map(|address| if let Host::Ip(ip) = address.host { Some(ip) } else { None });
    ips.filter(std::net::IpAddr::is_ipv4).find(|ip| prefixes.iter().any(|(prefix, _)| prefix.contains(ip)))
}

pub(super) fn buffers(facts: &Facts) -> Vec<Finding> {
    let may_exceed = match &facts.daemon.life {
        Life::Alive(alive) => alive.process.as_ref().map(|process| process.capabilities.has_net_admin()),
        Life::Absent | Life::Barred | Life::Silent { .. } => Ok(true),
    };
    let wanted = SocketOptions::default();
    let limits = [("rmem_max", wanted.receive_buffer), ("wmem_max", wanted.send_buffer)];
    let is_below = |key: &str, wanted: usize| {
        let limit = sysctl(facts, &format!("net/core/{key}")).and_then(|limit| limit.parse::<usize>().ok());
        limit.is_some_and(|limit| limit < wanted)
    };
    if may_exceed == Ok(true) {
        return vec![BUFFERS.ok("CAP_NET_ADMIN sets them whatever rmem_max and wmem_max say")];
    }
    let low: Vec<String> = limits
        .iter()
        .filter(|(key, wanted)| is_below(key, *wanted))
        .map(|(key, wanted)| format!("net.core.{key}={wanted}"))
        .collect();
    vec![if low.is_empty() {
        BUFFERS.ok("rmem_max and wmem_max are large enough")
    } else {
        BUFFERS.warn("the socket's buffers are smaller than meshd asks for", format!("sysctl -w {}", low.join(" ")))
    }]
}

pub(super) fn mtu(facts: &Facts) -> Vec<Finding> {
    let Ok(network) = &facts.network else {
        return vec![MTU.skipped("the interfaces cannot be listed", "ip link")];
    };
    let interface = facts.config.interface();
    let actual = network.links.iter().find(|link| link.name == interface).and_then(|link| link.mtu);
    let configured = facts.config.good().and_then(|outline| outline.interface.mtu).map(u32::from);
    if let (Some(actual), Some(configured)) = (actual, configured)
        && actual != configured
    {
        let found = format!("{interface} has {actual}, and {configured} is configured: somebody changed it");
        return vec![MTU.warn(found, format!("ip link set {interface} mtu {configured}"))];
    }
    let Some((mesh, widest)) = actual.or(configured).zip(outward(facts).filter_map(|link| link.mtu).max()) else {
        return vec![MTU.ok("chosen at the start, by the widest link")];
    };
    let fits = widest.saturating_sub(OUTER_HEADERS);
    vec![if mesh <= fits {
        MTU.ok(format!("{mesh} inside fits the {widest} of the widest link"))
    } else {
        let found = format!("{mesh} inside needs {} outside, and the widest link has {widest}", mesh + OUTER_HEADERS);
        let fix = format!("set [interface] mtu = {} in meshd.toml, to spare senders from finding out", fits.max(1280));
        MTU.warn(found, fix)
    }]
}
