//! Whose routes lead into the prefixes of the mesh.

use config::Outline;
use ipnet::IpNet;
use proto::member::Policy;

use super::facts::Facts;
use super::files;
use super::finding::{Check, Finding};
use crate::host::{MAIN_TABLE, SurveyAddress, SurveyRoute, SurveyRule};

/// Overlaps that are told one by one.
const MAX_TOLD: usize = 8;

/// Rules from here on are looked at after table main (`linux/fib_rules.h`).
const MAIN_PRIORITY: u32 = 32_766;

const ROUTES: Check = Check("routes");
const RULES: Check = Check("rules");
const VPN: Check = Check("vpn");

/// Who makes interfaces of such names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Containers,
    Vpn,
    Machines,
    /// A network that the machine is on.
    Network,
}

impl Maker {
    /// By the beginning of a name.
    const NAMES: [(&str, Self); 27] = [
        ("docker", Self::Containers),
        ("br-", Self::Containers),
        ("veth", Self::Containers),
        ("cni", Self::Containers),
        ("flannel", Self::Containers),
        ("cali", Self::Containers),
        ("cilium", Self::Containers),
        ("lxc", Self::Containers),
        ("lxdbr", Self::Containers),
        ("incusbr", Self::Containers),
        ("podman", Self::Containers),
        ("kube", Self::Containers),
        ("nodelocaldns", Self::Containers),
        ("weave", Self::Containers),
        ("wg", Self::Vpn),
        ("tun", Self::Vpn),
        ("tap", Self::Vpn),
        ("ppp", Self::Vpn),
        ("ipsec", Self::Vpn),
        ("tailscale", Self::Vpn),
        ("nebula", Self::Vpn),
        ("zt", Self::Vpn),
        ("wt0", Self::Vpn),
        ("mesh", Self::Vpn),
        ("virbr", Self::Machines),
        ("vnet", Self::Machines),
        ("vmnet", Self::Machines),
    ];

    pub(super) fn of(interface: &str) -> Self {
        let known = Self::NAMES.iter().find(|(prefix, _)| interface.starts_with(prefix));
        known.map_or(Self::Network, |(_, maker)| *maker)
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Containers => "container network",
            Self::Vpn => "another VPN",
            Self::Machines => "virtual machines",
            Self::Network => "a network of this machine",
        }
    }

    fn fix(self, interface: &str) -> String {
        match self {
            Self::Containers if interface.starts_with("docker") || interface.starts_with("br-") => {
                "give docker other networks (default-address-pools in /etc/docker/daemon.json), or the mesh another prefix"
                    .to_owned()
            }
            Self::Containers => "give the containers another network, or the mesh another prefix".to_owned(),
            Self::Vpn => format!("take the prefix out of the VPN at {interface}, or stop that"),
            Self::Machines => "give it another network (virsh net-edit default), or the mesh another prefix".to_owned(),
            Self::Network => format!("where that is not meant, remove it or narrow the subnet in the mesh file: ip route show dev {interface}"),
        }
    }
}

/// The prefixes that this node reaches through the mesh, each with the endpoint that has it.
pub(super) fn planned(outline: &Outline) -> Vec<(IpNet, String)> {
    if !outline.selected {
        return Vec::new();
    }
    let members = &outline.members;
    let policy = Policy::new(members);
    let ours = outline.own().map(|own| own.subnets.as_slice()).unwrap_or_default();
    let others = members.endpoints.iter().filter(|endpoint| endpoint.name != outline.name);
    let reached = others.filter(|endpoint| policy.check(&outline.name, &endpoint.name).is_ok());
    let prefixes = reached.flat_map(|endpoint| {
        let name = endpoint.name.to_string();
        endpoint.prefixes(&members.mesh).into_iter().map(move |prefix| (prefix, name.clone()))
    });
    prefixes.filter(|(prefix, _)| !ours.contains(prefix)).collect()
}

pub(super) fn overlaps(facts: &Facts) -> Vec<Finding> {
    let (Some(outline), Ok(network)) = (facts.config.good(), &facts.network) else {
        return vec![ROUTES.skipped("configuration or routes cannot be read", "mend the configuration first")];
    };
    if !outline.selected {
        return vec![ROUTES.skipped("not selected: nothing runs", files::select(outline))];
    }
    let (planned, own) = (planned(outline), facts.config.interface());
    let is_foreign = |route: &&SurveyRoute| {
        let is_main = route.table == MAIN_TABLE && route.prefix.prefix_len() > 0;
        is_main && !route.is_ours && !route.interfaces.iter().any(|name| name == own)
    };
    let foreign: Vec<&SurveyRoute> = network.routes.iter().filter(is_foreign).collect();
    let mut findings: Vec<Finding> =
        planned.iter().flat_map(|planned| foreign.iter().filter_map(move |route| overlap(planned, route))).collect();
    let own_addresses =
        outline.own().map(|endpoint| endpoint.mesh_addresses(&outline.members.mesh)).unwrap_or_default();
    let elsewhere = network.addresses.iter().filter(|address| address.interface != own);
    findings.extend(elsewhere.filter(|address| own_addresses.contains(&address.address.addr())).map(twice));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings.dedup();
    let more = findings.len().saturating_sub(MAX_TOLD);
    findings.truncate(MAX_TOLD);
    if more > 0 {
        findings.push(ROUTES.warn(format!("and {more} more"), "ip route"));
    }
    if findings.is_empty() {
        findings.push(ROUTES.ok(format!("nobody else has one for any of the mesh's {} prefixes", planned.len())));
    }
    findings
}

/// A mesh address of this node at an interface of others.
fn twice(SurveyAddress { interface, address }: &SurveyAddress) -> Finding {
    let address = address.addr();
    let found = format!("{address}, this node's address in the mesh, is at {interface} too");
    ROUTES.fail(found, format!("take it from one of the two: ip address del {address} dev {interface}"))
}

/// What comes of a prefix of the mesh and a route of others; `None` where they do not meet.
fn overlap((prefix, owner): &(IpNet, String), route: &SurveyRoute) -> Option<Finding> {
    let interface = route.interfaces.first().map_or("no interface", String::as_str);
    let maker = Maker::of(interface);
    let what = match (maker, route.gateway) {
        (Maker::Network, Some(gateway)) => format!("a route by {gateway}"),
        (Maker::Network, None) if !route.is_connected => "a route".to_owned(),
        (maker, _) => maker.text().to_owned(),
    };
    let place = format!("{} at {interface} ({what})", route.prefix);
    if route.prefix == *prefix || (route.is_connected && route.prefix.contains(prefix)) {
        let found = format!("the route for {prefix} of {owner} is left out: {place} wins");
        return Some(ROUTES.warn(found, maker.fix(interface)));
    }
    let found = if prefix.contains(&route.prefix) {
        format!("part of {prefix} of {owner} is not reached through the mesh: {place} wins")
    } else if route.prefix.contains(prefix) && maker == Maker::Vpn {
        format!("{prefix} of {owner} is taken out of {place}: the mesh wins")
    } else {
        return None;
    };
    // That the networks of a site are announced by its connector and connected here is how it should be.
    let is_as_meant = maker == Maker::Network && route.is_connected;
    Some(if is_as_meant { ROUTES.ok(found) } else { ROUTES.warn(found, maker.fix(interface)) })
}

pub(super) fn rules(facts: &Facts) -> Vec<Finding> {
    let Ok(network) = &facts.network else { return Vec::new() };
    let others: Vec<&SurveyRule> = network.rules.iter().filter(|rule| is_before_main(rule)).collect();
    if others.is_empty() {
        return vec![RULES.ok("none but the kernel's")];
    }
    let planned = facts.config.good().map(planned).unwrap_or_default();
    let mut findings: Vec<Finding> =
        others.iter().filter_map(|rule| diversion(rule, &network.routes, &planned)).collect();
    findings.dedup();
    if findings.is_empty() {
        let count = others.len();
        findings
            .push(RULES.ok(format!("{count} of other programs: none leads out of the mesh, each slows all traffic")));
    }
    findings
}

/// Rules that the kernel has from the start look up local first, and main and default last.
fn is_before_main(rule: &SurveyRule) -> bool {
    !rule.is_ours && rule.priority > 0 && rule.priority < MAIN_PRIORITY
}

fn diversion(rule: &SurveyRule, routes: &[SurveyRoute], planned: &[(IpNet, String)]) -> Option<Finding> {
    if rule.table == MAIN_TABLE {
        return None;
    }
    let meets = |route: &SurveyRoute, prefix: &IpNet| route.prefix.contains(prefix) || prefix.contains(&route.prefix);
    let of_table = routes.iter().filter(|route| route.table == rule.table && !route.is_ours);
    let (route, (prefix, owner)) = of_table
        .flat_map(|route| planned.iter().map(move |planned| (route, planned)))
        .find(|(route, (prefix, _))| meets(route, prefix))?;
    let (table, priority) = (rule.table, rule.priority);
    let some = if rule.is_selective { "some packets" } else { "packets" };
    let interface = route.interfaces.first().map_or("no interface", String::as_str);
    let found = format!(
        "rule {priority} sends {some} for {prefix} of {owner} to {} at {interface} (table {table}), before the mesh",
        route.prefix
    );
    let six = if rule.v6 { " -6" } else { "" };
    let fix = format!("ip{six} rule add to {prefix} lookup main priority {}", priority.saturating_sub(1));
    Some(RULES.warn(found, fix))
}

pub(super) fn others(facts: &Facts) -> Vec<Finding> {
    let Ok(network) = &facts.network else { return Vec::new() };
    let own = facts.config.interface();
    let vpns =
        network.links.iter().filter(|link| link.is_up && link.name != own && Maker::of(&link.name) == Maker::Vpn);
    let names: Vec<&str> = vpns.map(|link| link.name.as_str()).collect();
    vec![match names.as_slice() {
        [] => VPN.ok("no other is up"),
        names => VPN.ok(format!("{} is up too: peers are not reached through it", names.join(", "))),
    }]
}
