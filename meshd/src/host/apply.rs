//! From plan to machine: interface, addresses, routes, rules, forwarding, in this order.

use std::io;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use super::Host;
use super::error::{During as _, HostError};
use super::journal::{Kernel, LinkBefore};
use super::neighbours::is_direct;
use super::netlink::{
    ADDRESS_MODE_NONE, Address, LOCAL_TABLE, Link, LinkSettings, Route, RouteKind, RouteRequest, RouteSpec, RuleSpec,
};
use super::plan::{DEFAULT_NUMBER, HostNote, MAIN_TABLE, Plan, ROUTE_PROTOCOL};
use super::routes::{Action, Change, Desired, MainRoute, Present, changes, desired_routes, in_mesh};
use crate::underlay::Ways;

/// How often, and how far apart, to look for the local routes of new addresses: half a second in all, after which it is better to
/// start without one than not at all.
const ADDRESS_TRIES: u32 = 250;
const ADDRESS_WAIT: Duration = Duration::from_millis(2);

impl Host {
    pub(super) async fn apply(&mut self, plan: Plan) -> Result<(), HostError> {
        let links = self.links().await?;
        let Some(link) = links.iter().find(|link| link.name == self.settings.interface) else {
            return Err(HostError::NoInterface(self.settings.interface.clone()));
        };
        self.remember(link)?;
        self.set_link(link, &plan).await?;
        self.apply_above_link(plan, &links, link.index).await
    }

    /// As [`Host::apply`], but someone who sets our interface down has a reason.
    pub(super) async fn apply_again(&mut self, plan: Plan) -> Result<(), HostError> {
        let links = self.links().await?;
        match links.iter().find(|link| link.name == self.settings.interface) {
            Some(link) if link.is_up => {
                self.remember(link)?;
                self.apply_above_link(plan, &links, link.index).await
            }
            Some(_) | None => {
                self.notes = vec![HostNote::InterfaceDown { interface: self.settings.interface.clone() }];
                Ok(())
            }
        }
    }

    async fn apply_above_link(&mut self, mut plan: Plan, links: &[Link], index: u32) -> Result<(), HostError> {
        self.notes.clear();
        plan.routes.extend(self.neighbours.routes.iter().cloned());
        let has_ipv6 = self.sysctls.has_ipv6(&self.settings.interface);
        if !has_ipv6 && plan.has_ipv6() {
            plan.remove_ipv6();
            self.notes.push(HostNote::Ipv6Off { interface: self.settings.interface.clone() });
        }
        self.set_addresses(&plan, index).await?;
        self.set_routes(&plan, links, index).await?;
        self.set_rules(has_ipv6).await?;
        self.set_forwarding(false, plan.forward_v4)?;
        self.set_forwarding(true, plan.forward_v6)
    }

    async fn links(&self) -> Result<Vec<Link>, HostError> {
        self.netlink.links().await.during("list", "interfaces")
    }

    /// Journals the interface as it is found, and that routes and rules will follow.
    fn remember(&mut self, link: &Link) -> Result<(), HostError> {
        self.undo.kernel = Kernel::current();
        self.undo.table = self.settings.table;
        self.undo.interface.clone_from(&self.settings.interface);
        if self.undo.link.as_ref().is_none_or(|before| before.index != link.index) {
            self.undo.link = Some(LinkBefore { index: link.index, is_up: link.is_up, settings: link.settings.clone() });
            self.undo.addresses.clear();
        }
        self.write_journal()
    }

    async fn set_link(&self, link: &Link, plan: &Plan) -> Result<(), HostError> {
        let (name, has) = (&link.name, &link.settings);
        let differs = |has: Option<u32>, wanted: u32| Some(wanted).filter(|_| has != Some(wanted));
        let settings = LinkSettings {
            mtu: differs(has.mtu, plan.mtu),
            txqueuelen: differs(has.txqueuelen, plan.txqueuelen),
            ..LinkSettings::default()
        };
        if settings != LinkSettings::default() {
            self.netlink.set_link(link.index, &settings).await.during("set MTU and queue length of", name)?;
        }
        // Both only spare work: without them there are more sends, or a link-local address.
        let segments = plan.gso_max_segs.and_then(|wanted| differs(has.gso_max_segs, wanted));
        let mode = Some(ADDRESS_MODE_NONE).filter(|mode| has.address_mode.is_some_and(|has| has != *mode));
        for settings in [
            LinkSettings { gso_max_segs: segments, ..LinkSettings::default() },
            LinkSettings { address_mode: mode, ..LinkSettings::default() },
        ] {
            if settings != LinkSettings::default()
                && let Err(error) = self.netlink.set_link(link.index, &settings).await
            {
                tracing::debug!(interface = name, ?settings, %error, "the kernel refused a link setting");
            }
        }
        if link.is_up { Ok(()) } else { self.netlink.set_up(link.index, true).await.during("set up", name) }
    }

    async fn set_addresses(&mut self, plan: &Plan, index: u32) -> Result<(), HostError> {
        let all = self.netlink.addresses().await.during("list", "addresses")?;
        let present: Vec<IpNet> = all.into_iter().filter(|a| a.index == index).map(|a| a.address).collect();
        let wanted: Vec<IpNet> = plan.addresses.iter().map(|address| IpNet::from(address.addr())).collect();
        let missing: Vec<IpNet> = wanted.iter().copied().filter(|address| !present.contains(address)).collect();
        let stale: Vec<IpNet> =
            self.undo.addresses.iter().copied().filter(|address| !wanted.contains(address)).collect();
        for address in &missing {
            if !self.undo.addresses.contains(address) {
                self.undo.addresses.push(*address);
            }
        }
        self.write_journal()?;
        for address in missing {
            self.netlink.add_address(&Address { index, address }).await.during("add address", address)?;
        }
        for address in stale {
            if present.contains(&address) {
                self.netlink.remove_address(&Address { index, address }).await.during("remove address", address)?;
            }
            self.undo.addresses.retain(|ours| *ours != address);
        }
        self.write_journal()?;
        self.await_addresses(&wanted).await
    }

    /// Waits until the kernel receives on the addresses. It makes the local route of an IPv6 one later, from a work queue
    /// (some 10 ms under load), and a packet that came in before would be answered with "no route".
    async fn await_addresses(&self, wanted: &[IpNet]) -> Result<(), HostError> {
        for _ in 0..ADDRESS_TRIES {
            let local = self.netlink.routes(LOCAL_TABLE).await.during("list", "routes of table local")?;
            if wanted.iter().all(|address| local.iter().any(|route| route.prefix == *address)) {
                break;
            }
            tokio::time::sleep(ADDRESS_WAIT).await;
        }
        Ok(())
    }

    async fn set_routes(&mut self, plan: &Plan, links: &[Link], index: u32) -> Result<(), HostError> {
        let table = self.settings.table;
        let all = self.netlink.routes(MAIN_TABLE).await.during("list", "routes of table main")?;
        let (direct, main): (Vec<Route>, Vec<Route>) = all.into_iter().partition(is_direct);
        let main_routes: Vec<MainRoute> = main.iter().filter_map(|route| main_route(route, links, index)).collect();
        let (mut desired, notes) = desired_routes(plan, &main_routes);
        self.notes.extend(notes);
        self.note_filters(&in_mesh(&plan.underlay, &desired), links, index);
        let present: Vec<Present> = if self.settings.has_own_table() {
            let routes = self.netlink.routes(table).await.during("list routes of table", table)?;
            let (ours, others): (Vec<&Route>, Vec<&Route>) =
                routes.iter().partition(|route| route.protocol == ROUTE_PROTOCOL);
            if !others.is_empty() {
                self.notes.push(HostNote::TableShared { table, others: others.len() });
            }
            ours.into_iter().map(|route| present(route, index)).collect()
        } else {
            // Within one table the longest prefix wins by itself.
            desired.retain(|route| route.action == Action::Mesh);
            // Before the routes: no datagram must follow them.
            self.underlay.publish(ways(&desired, &main, index));
            main.iter().filter(|route| is_ours(route, table, &[index])).map(|route| present(route, index)).collect()
        };
        self.change_routes(&changes(&present, &desired), index).await?;
        self.set_direct_routes(&desired, &direct).await
    }

    fn note_filters(&mut self, outer: &[IpAddr], links: &[Link], own: u32) {
        let Some(address) = outer.iter().copied().find(IpAddr::is_ipv4) else { return };
        let others = links.iter().filter(|link| link.is_up && link.index != own && link.name != "lo");
        let strict = others.filter(|link| self.sysctls.is_strict(&link.name));
        self.notes.extend(strict.map(|link| HostNote::StrictReversePath { interface: link.name.clone(), address }));
    }

    async fn change_routes(&mut self, changes: &[Change], index: u32) -> Result<(), HostError> {
        let table = self.settings.table;
        let requests: Vec<RouteRequest> = changes.iter().map(|change| request(change, table, index)).collect();
        let results = self.netlink.change_routes(&requests).await.during("change routes of table", table)?;
        for (change, result) in changes.iter().zip(results) {
            let Err(error) = result else { continue };
            let prefix = change.prefix();
            match (change, error.raw_os_error()) {
                // Gone with its interface since it was listed.
                (Change::Remove(_), Some(libc::ESRCH)) => {}
                (Change::Add(_), Some(libc::EEXIST)) => self.notes.push(HostNote::RouteTaken { prefix, table }),
                (_, Some(libc::EPERM)) => return Err(error).during("change route", prefix),
                (Change::Add(_) | Change::Replace(_) | Change::Remove(_), _) => {
                    self.notes.push(HostNote::RouteRefused { prefix, reason: error.to_string() });
                }
            }
        }
        Ok(())
    }

    async fn set_rules(&self, has_ipv6: bool) -> Result<(), HostError> {
        let (table, priority, mark) = (self.settings.table, self.settings.priority, self.settings.mark);
        let rule = |v6| RuleSpec { v6, priority, mark, table, protocol: ROUTE_PROTOCOL };
        let mut wanted = Vec::new();
        if self.settings.has_own_table() {
            wanted.push(rule(false));
            wanted.extend(has_ipv6.then(|| rule(true)));
        }
        let rules = self.netlink.rules().await.during("list", "routing rules")?;
        let ours: Vec<_> =
            rules.iter().filter(|r| r.spec.protocol == ROUTE_PROTOCOL && r.spec.table == table).collect();
        for spec in wanted.iter().filter(|spec| !ours.iter().any(|rule| rule.spec == **spec)) {
            let object = format!("not fwmark {mark:#x} lookup {table}");
            accept_existing(self.netlink.add_rule(spec).await).during("add rule", object)?;
        }
        for rule in ours.iter().filter(|rule| !wanted.contains(&rule.spec)) {
            self.netlink.remove_rule(rule).await.during("remove rule for table", table)?;
        }
        Ok(())
    }

    fn set_forwarding(&mut self, v6: bool, is_wanted: bool) -> Result<(), HostError> {
        let slot = if v6 { &self.undo.forward_v6 } else { &self.undo.forward_v4 };
        let journaled = match (slot.clone(), is_wanted) {
            (Some(_), true) | (None, false) => return Ok(()),
            (Some(done), false) => {
                self.sysctls.restore(&done);
                None
            }
            (None, true) => Some(self.sysctls.plan_forwarding(v6, &self.settings.interface)),
        };
        *(if v6 { &mut self.undo.forward_v6 } else { &mut self.undo.forward_v4 }) = journaled.clone();
        self.write_journal()?;
        let Some(plan) = journaled else { return Ok(()) };
        if let Err(note) = self.sysctls.apply(&plan) {
            // Not in the journal, so that the next reconcile tries again.
            *(if v6 { &mut self.undo.forward_v6 } else { &mut self.undo.forward_v4 }) = None;
            self.notes.push(note);
            self.write_journal()?;
        }
        Ok(())
    }
}

fn accept_existing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// A route of main as far as it matters to ours: `None` for our own interface's, for dead ones and for no destinations.
fn main_route(route: &Route, links: &[Link], own: u32) -> Option<MainRoute> {
    let index = leaves_by(route, own)?;
    let link = links.iter().find(|link| Some(link.index) == index);
    let is_connected = index.is_some() && !route.has_gateway;
    Some(MainRoute { prefix: route.prefix, interface: link.map(|link| link.name.clone()), is_connected })
}

/// By which interface a route of the machine's own leads, or by none where it refuses; `None` for routes that are not.
fn leaves_by(route: &Route, own: u32) -> Option<Option<u32>> {
    match route.kind {
        RouteKind::Unicast => route.interfaces.iter().copied().find(|index| *index != own).map(Some),
        // An operator's or a network plugin's refusal is as local as a route.
        RouteKind::Refuse => Some(None),
        RouteKind::Throw | RouteKind::Other => None,
    }
}

/// Whether a route is of our making. In table main another instance may have some of the same kind, on its own interface.
pub(super) fn is_ours(route: &Route, table: u32, own: &[u32]) -> bool {
    let is_on_own = !route.interfaces.is_empty() && route.interfaces.iter().all(|index| own.contains(index));
    route.protocol == ROUTE_PROTOCOL && (table != MAIN_TABLE || is_on_own)
}

/// The metric of our routes in a table.
pub(super) const fn metric(table: u32) -> Option<u32> {
    if table == MAIN_TABLE { Some(DEFAULT_NUMBER) } else { None }
}

/// The ways around these routes. The kernel lists routes of one prefix by metric, so the first is the one that it uses.
fn ways(desired: &[Desired], main: &[Route], own: u32) -> Ways {
    let mesh = desired.iter().map(|route| route.prefix).collect();
    let others = main
        .iter()
        .filter_map(|route| leaves_by(route, own).map(|index| (route.prefix, index.and_then(NonZeroU32::new))));
    Ways::new(&mesh, others)
}

fn present(route: &Route, own: u32) -> Present {
    let action = match route.kind {
        RouteKind::Unicast if route.interfaces == [own] => Some(Action::Mesh),
        RouteKind::Throw => Some(Action::Throw),
        RouteKind::Unicast | RouteKind::Refuse | RouteKind::Other => None,
    };
    Present { prefix: route.prefix, action, source: route.source }
}

fn request(change: &Change, table: u32, index: u32) -> RouteRequest {
    let spec = |route: &Desired| RouteSpec {
        prefix: route.prefix,
        table,
        protocol: ROUTE_PROTOCOL,
        metric: metric(table),
        interface: (route.action == Action::Mesh).then_some(index),
        gateway: None,
        source: route.source,
    };
    match change {
        Change::Add(route) => RouteRequest::Add(spec(route)),
        Change::Replace(route) => RouteRequest::Replace(spec(route)),
        Change::Remove(prefix) => {
            RouteRequest::Remove { prefix: *prefix, table, protocol: ROUTE_PROTOCOL, metric: metric(table) }
        }
    }
}
