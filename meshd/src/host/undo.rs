//! From machine back to what it was: rules, routes, forwarding, addresses, interface, in this order.

use super::apply::{is_ours, metric};
use super::error::{During as _, HostError};
use super::journal::{Found, Kernel, Undo};
use super::netlink::{Address, LinkSettings, Route, RouteRequest};
use super::plan::{HostNote, MAIN_TABLE, ROUTE_PROTOCOL};
use super::{Host, Journal, Neighbours};

impl Host {
    pub(super) async fn recover_state(&mut self) -> Result<(), HostError> {
        let left = match self.claim()?.load()? {
            Found::Nothing => Undo::default(),
            Found::Undo(undo) => *undo,
            Found::Unreadable { kept, reason } => {
                self.recovery_notes.push(HostNote::JournalUnreadable { kept, reason });
                Undo::default()
            }
        };
        if let Err(error) = self.undo(&left).await {
            // Without a claim nothing can be configured, so this journal is not written over.
            self.journal = None;
            return Err(error);
        }
        self.claim().and_then(Journal::remove)
    }

    pub(super) async fn revert_state(&mut self) -> Result<(), HostError> {
        let done = self.undo.clone();
        self.claim()?;
        self.undo(&done).await?;
        self.undo = Undo::default();
        (self.plan, self.neighbours, self.notes) = (None, Neighbours::default(), Vec::new());
        self.claim().and_then(Journal::remove)
    }

    /// Goes on after a failure, and reports the first.
    async fn undo(&self, undo: &Undo) -> Result<(), HostError> {
        let mut result = Ok(());
        if undo.kernel == Kernel::current() {
            result = self.remove_direct(&undo.direct).await;
        }
        // The journal may be of a run with another table.
        let mut tables = vec![self.settings.table];
        if undo.table != 0 && undo.table != self.settings.table {
            tables.push(undo.table);
        }
        for table in tables {
            if table != MAIN_TABLE {
                result = result.and(self.flush_rules(table).await);
            }
            result = result.and(self.flush_routes(table, &undo.interface).await);
        }
        if undo.kernel == Kernel::current() {
            for forwarding in undo.forward_v6.iter().chain(&undo.forward_v4) {
                self.sysctls.restore(forwarding);
            }
            result = result.and(self.restore_link(undo).await);
        }
        result
    }

    async fn flush_rules(&self, table: u32) -> Result<(), HostError> {
        let rules = self.netlink.rules().await.during("list", "routing rules")?;
        for rule in rules.iter().filter(|rule| rule.spec.protocol == ROUTE_PROTOCOL && rule.spec.table == table) {
            self.netlink.remove_rule(rule).await.during("remove rule for table", table)?;
        }
        Ok(())
    }

    async fn flush_routes(&self, table: u32, interface: &str) -> Result<(), HostError> {
        let links = self.netlink.links().await.during("list", "interfaces")?;
        let own = links.iter().filter(|link| link.name == self.settings.interface || link.name == interface);
        let own: Vec<u32> = own.map(|link| link.index).collect();
        let routes = self.netlink.routes(table).await.during("list routes of table", table)?;
        let ours = routes.into_iter().filter(|route| is_ours(route, table, &own));
        let requests: Vec<_> = ours
            .map(|Route { prefix, .. }| RouteRequest::Remove {
                prefix,
                table,
                protocol: ROUTE_PROTOCOL,
                metric: metric(table),
            })
            .collect();
        for result in self.netlink.change_routes(&requests).await.during("remove routes of table", table)? {
            match result {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                    return Err(error).during("remove routes of table", table);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The interface normally went with its process; one made by an operator stays and gets its settings back.
    async fn restore_link(&self, undo: &Undo) -> Result<(), HostError> {
        let Some(before) = &undo.link else { return Ok(()) };
        let links = self.netlink.links().await.during("list", "interfaces")?;
        // A TUN device in any case, whatever the journal says: no other interface is ever changed.
        let Some(link) = links.iter().find(|l| l.is_tun && l.index == before.index && l.name == undo.interface) else {
            return Ok(());
        };
        let addresses = self.netlink.addresses().await.during("list", "addresses")?;
        for address in addresses.into_iter().filter(|address| address.index == link.index) {
            if undo.addresses.contains(&address.address) {
                let Address { address: object, .. } = address;
                self.netlink.remove_address(&address).await.during("remove address", object)?;
            }
        }
        if link.is_up && !before.is_up {
            self.netlink.set_up(link.index, false).await.during("set down", &link.name)?;
        }
        let (has, was) = (&link.settings, &before.settings);
        let differs = |has: Option<u32>, was: Option<u32>| was.filter(|_| has != was);
        let basic = LinkSettings {
            mtu: differs(has.mtu, was.mtu),
            txqueuelen: differs(has.txqueuelen, was.txqueuelen),
            gso_max_segs: differs(has.gso_max_segs, was.gso_max_segs),
            address_mode: None,
        };
        let mode = was.address_mode.filter(|_| has.address_mode != was.address_mode);
        for settings in [basic, LinkSettings { address_mode: mode, ..LinkSettings::default() }] {
            if settings != LinkSettings::default() {
                self.netlink.set_link(link.index, &settings).await.during("restore settings of", &link.name)?;
            }
        }
        Ok(())
    }
}
