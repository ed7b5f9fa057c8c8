//! A look at the machine's network that changes nothing: for commands that tell an operator about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use serde::Serialize;

use super::error::{During as _, HostError};
use super::journal::{self, Kernel};
use super::netlink::{LOCAL_TABLE, Link, Netlink, Route, RouteKind};
use super::plan::{MAIN_TABLE, ROUTE_PROTOCOL};
use super::reachable;

/// Most tables that are listed: rules of container networks name a few.
const MAX_TABLES: usize = 32;

/// Links, addresses, routes and rules of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Survey {
    /// Every interface.
    pub(crate) links: Vec<SurveyLink>,
    /// Every address of every interface.
    pub(crate) addresses: Vec<SurveyAddress>,
    /// Every route of table main, and of the first 32 tables that rules name; without those of the kernel's table local.
    pub(crate) routes: Vec<SurveyRoute>,
    /// Every rule that looks up a table.
    pub(crate) rules: Vec<SurveyRule>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SurveyLink {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) is_up: bool,
    /// Whether peers may be reached by it: up, with carrier, and neither loopback, containers', another overlay's nor the mesh's.
    pub(crate) leads_out: bool,
    /// In bytes.
    pub(crate) mtu: Option<u32>,
}

/// An address, with the length of its network's prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SurveyAddress {
    pub(crate) interface: String,
    pub(crate) address: IpNet,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SurveyRoute {
    pub(crate) prefix: IpNet,
    pub(crate) table: u32,
    /// Where it leads; none for those that refuse.
    pub(crate) interfaces: Vec<String>,
    /// The first gateway that it leads by, if it does.
    pub(crate) gateway: Option<IpAddr>,
    /// Its destinations are neighbours.
    pub(crate) is_connected: bool,
    /// Of meshd's making.
    pub(crate) is_ours: bool,
    pub(crate) metric: u32,
}

/// A rule that looks up a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct SurveyRule {
    pub(crate) v6: bool,
    pub(crate) priority: u32,
    pub(crate) table: u32,
    /// Whether it is for some packets only.
    pub(crate) is_selective: bool,
    /// Of meshd's making.
    pub(crate) is_ours: bool,
}

/// What a daemon that was killed left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Leftover {
    /// The interface that it had.
    pub(crate) interface: String,
    /// Whether the kernel still is the one that it changed: its changes end with a boot.
    pub(crate) is_present: bool,
}

/// Looks. `interface` is the mesh's own. Must be called within the runtime; needs no privilege.
///
/// # Errors
/// When the kernel refuses.
pub(crate) async fn survey(interface: &str) -> Result<Survey, HostError> {
    let netlink = Netlink::open().during("open", "a netlink socket")?;
    let links = netlink.links().await.during("list", "interfaces")?;
    let names: BTreeMap<u32, String> = links.iter().map(|link| (link.index, link.name.clone())).collect();
    let addresses = netlink.addresses().await.during("list", "addresses")?;
    let rules = netlink.rules().await.during("list", "routing rules")?;
    let named = rules.iter().map(|rule| rule.spec.table).filter(|table| *table != LOCAL_TABLE);
    let tables: BTreeSet<u32> = named.chain([MAIN_TABLE]).collect();
    let mut routes = Vec::new();
    for table in tables.into_iter().take(MAX_TABLES) {
        let listed = netlink.routes(table).await.during("list routes of table", table)?;
        routes.extend(listed.iter().filter_map(|route| survey_route(route, &names)));
    }
    let name = |index| names.get(&index).cloned().unwrap_or_default();
    Ok(Survey {
        links: links.iter().map(|link| survey_link(link, interface)).collect(),
        addresses: addresses
            .into_iter()
            .map(|address| SurveyAddress { interface: name(address.index), address: address.address })
            .collect(),
        routes,
        rules: rules
            .iter()
            .map(|rule| SurveyRule {
                v6: rule.spec.v6,
                priority: rule.spec.priority,
                table: rule.spec.table,
                is_selective: rule.is_selective(),
                is_ours: rule.spec.protocol == ROUTE_PROTOCOL,
            })
            .collect(),
    })
}

/// What the journal in a state folder says; `None` where there is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn leftover(state_dir: &Path) -> std::io::Result<Option<Leftover>> {
    let undo = journal::peek(state_dir)?;
    Ok(undo.map(|undo| Leftover { is_present: undo.kernel == Kernel::current(), interface: undo.interface }))
}

fn survey_link(link: &Link, own: &str) -> SurveyLink {
    let leads_out = reachable::leads_out(link, own);
    SurveyLink { index: link.index, name: link.name.clone(), is_up: link.is_up, leads_out, mtu: link.settings.mtu }
}

fn survey_route(route: &Route, names: &BTreeMap<u32, String>) -> Option<SurveyRoute> {
    let is_ours = route.protocol == ROUTE_PROTOCOL;
    match route.kind {
        RouteKind::Unicast | RouteKind::Refuse => Some(SurveyRoute {
            prefix: route.prefix,
            table: route.table,
            interfaces: route.interfaces.iter().filter_map(|index| names.get(index).cloned()).collect(),
            gateway: route.gateways.first().map(|(_, gateway)| *gateway),
            is_connected: route.kind == RouteKind::Unicast && !route.has_gateway,
            is_ours,
            metric: route.metric,
        }),
        RouteKind::Throw | RouteKind::Other => None,
    }
}
