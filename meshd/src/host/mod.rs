//! Side effects on this machine, each applied and undone in one place.
//!
//! Everything here can be told from what others made: routes and rules by table and route protocol, the rest by the journal.
//! The calls of [`Host`] compare what is with what should be and change only the difference, so each may be repeated.

mod apply;
mod error;
mod gateways;
mod journal;
mod look;
mod neighbours;
mod netlink;
mod plan;
mod reach;
mod reachable;
mod routes;
mod survey;
mod sysctl;
mod undo;
mod watch;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

pub(crate) use error::HostError;
pub(crate) use gateways::{Gateway, gateways};
pub(crate) use look::Way;
pub(crate) use neighbours::{DirectWay, LanLink, Neighbours};
pub(crate) use plan::{HostNote, HostSettings, MAIN_TABLE, Plan, PlannedRoute};
pub(crate) use survey::{Leftover, Survey, SurveyAddress, SurveyLink, SurveyRoute, SurveyRule, leftover, survey};
pub(crate) use watch::{Changes, Watch};

use error::During as _;
use journal::{Journal, Undo};
use netlink::Netlink;
use reachable::reachable;
use sysctl::Sysctls;

use crate::underlay::Underlay;

/// The machine as far as meshd changes it. Dropping it undoes nothing; that is [`Host::revert`], or the next start's [`Host::recover`].
pub(crate) struct Host {
    settings: HostSettings,
    netlink: Netlink,
    sysctls: Sysctls,
    underlay: Underlay,
    /// `None` until claimed.
    journal: Option<Journal>,
    undo: Undo,
    plan: Option<Plan>,
    neighbours: Neighbours,
    notes: Vec<HostNote>,
    /// About the start rather than the present state; kept for the life of the process.
    recovery_notes: Vec<HostNote>,
}

impl Host {
    /// Opens a netlink socket, whose task runs on the current tokio runtime. Changes nothing. From [`Host::configure`] on,
    /// `underlay` will know the ways around the mesh.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub(crate) fn new(settings: HostSettings, underlay: Underlay) -> Result<Self, HostError> {
        let netlink = Netlink::open().during("open", "a netlink socket")?;
        let (notes, recovery_notes) = (Vec::new(), Vec::new());
        let (sysctls, undo) = (Sysctls::new(), Undo::default());
        let (journal, plan, neighbours) = (None, None, Neighbours::default());
        Ok(Self { settings, netlink, sysctls, underlay, journal, undo, plan, neighbours, notes, recovery_notes })
    }

    /// Undoes what a killed predecessor left, and claims journal and table or interface. To be called first, before the TUN device is made.
    ///
    /// # Errors
    /// [`HostError::InUse`] when another meshd is alive; otherwise when something could not be undone, which stays in the journal.
    pub(crate) async fn recover(&mut self) -> Result<(), HostError> {
        self.recover_state().await
    }

    /// Makes the machine look like the plan. May be called again with another plan.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses; [`Host::revert`] undoes what was done until then.
    pub(crate) async fn configure(&mut self, plan: &Plan) -> Result<(), HostError> {
        if self.journal.is_none() {
            self.recover_state().await?;
        }
        self.plan = Some(plan.clone());
        self.apply(plan.clone()).await
    }

    /// Makes the machine look like another plan, or, where that fails, like the one before. The interface itself stays as it is,
    /// as in [`Host::reconcile`], and what is the plan already changes nothing.
    ///
    /// # Errors
    /// As [`Host::configure`].
    pub(crate) async fn reconfigure(&mut self, plan: &Plan) -> Result<(), HostError> {
        let Some(before) = self.plan.clone() else { return self.configure(plan).await };
        if before == *plan {
            return Ok(());
        }
        self.plan = Some(plan.clone());
        let changed = self.reconcile().await;
        if changed.is_err() {
            self.plan = Some(before);
            if let Err(error) = self.reconcile().await {
                tracing::error!(%error, "the machine could not be brought back to what it was before a reload");
            }
        }
        changed
    }

    /// Looks again and applies the difference; to be called when [`Watch::changed`] returns. Does nothing before [`Host::configure`].
    ///
    /// # Errors
    /// As [`Host::configure`], except that an interface that is down or gone is only noted.
    pub(crate) async fn reconcile(&mut self) -> Result<(), HostError> {
        match self.plan.clone() {
            Some(plan) => self.apply_again(plan).await,
            None => Ok(()),
        }
    }

    /// The addresses by which peers near this machine may reach it: those of interfaces that are up, without containers', virtual
    /// machines' and other overlays', which lead nowhere from outside.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) async fn addresses(&self) -> Result<Vec<IpAddr>, HostError> {
        let links = self.netlink.links().await.during("list", "interfaces")?;
        let addresses = self.netlink.addresses().await.during("list", "addresses")?;
        Ok(reachable(&links, &addresses, &self.settings.interface))
    }

    /// The largest MTU of the machine's links that lead to peers, in bytes; `None` where none is up.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub(crate) async fn widest_link(&self) -> Result<Option<u32>, HostError> {
        let links = self.netlink.links().await.during("list", "interfaces")?;
        Ok(reachable::widest(&links, &self.settings.interface))
    }

    /// Undoes everything and forgets the journal and the plan.
    ///
    /// # Errors
    /// When something could not be undone; it goes on with the rest, and the journal stays for the next start.
    pub(crate) async fn revert(&mut self) -> Result<(), HostError> {
        self.revert_state().await
    }

    /// What an operator should read about the present state, and about the start.
    #[must_use]
    pub(crate) fn notes(&self) -> Vec<HostNote> {
        self.recovery_notes.iter().chain(&self.notes).cloned().collect()
    }

    fn claim(&mut self) -> Result<&mut Journal, HostError> {
        let journal = match self.journal.take() {
            Some(journal) => journal,
            None => Journal::claim(&self.settings.state_dir, &self.settings.claim())?,
        };
        Ok(self.journal.insert(journal))
    }

    fn write_journal(&mut self) -> Result<(), HostError> {
        let undo = self.undo.clone();
        self.claim()?.write(&undo)
    }
}
