//! Tells when links, addresses or routes of this machine changed, once per burst.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{During as _, HostError};
use super::netlink::{Event, EventSocket};
use super::plan::MAIN_TABLE;

/// A cable or a DHCP lease changes many things in a few milliseconds; one report for all of them.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What changed since the last report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// An interface appeared, disappeared, or changed its state; or ours was set up or down.
    pub(crate) links: bool,
    /// An address of another interface came or went.
    pub(crate) addresses: bool,
    /// A route of table main came or went.
    pub(crate) routes: bool,
    /// An address of our interface, a route of ours or a rule for our table was removed. Network managers do that to what they
    /// do not know. Our own removals count too: a look that finds everything in its place costs little.
    pub(crate) ours: bool,
}

impl Changes {
    const ALL: Self = Self { links: true, addresses: true, routes: true, ours: true };

    /// Whether the way to the peers may have changed.
    pub(crate) const fn is_underlay(self) -> bool {
        self.links || self.addresses || self.routes
    }
}

/// A subscription to the kernel's events that leaves out what we add ourselves.
pub(crate) struct Watch {
    socket: EventSocket,
    filter: Filter,
    pending: Changes,
    due: Option<Instant>,
}

impl Watch {
    /// Subscribes; needs no privilege.
    ///
    /// # Errors
    /// When the socket cannot be opened.
    pub(crate) fn new(interface: &str, table: u32) -> Result<Self, HostError> {
        let socket = EventSocket::open().during("watch", "links, addresses and routes")?;
        let filter = Filter { interface: interface.to_owned(), table, index: index_of(interface), is_up: None };
        Ok(Self { socket, filter, pending: Changes::default(), due: None })
    }

    /// Waits until something changed, then 100 ms longer, and tells what. Safe to cancel: nothing is lost.
    ///
    /// # Errors
    /// When the socket fails; lost events are no error but count as changes of everything.
    pub(crate) async fn changed(&mut self) -> Result<Changes, HostError> {
        loop {
            let received = match self.due {
                None => Some(self.socket.receive().await),
                Some(due) => tokio::time::timeout_at(due, self.socket.receive()).await.ok(),
            };
            let Some(received) = received else {
                self.due = None;
                return Ok(std::mem::take(&mut self.pending));
            };
            self.note(received)?;
        }
    }

    fn note(&mut self, received: io::Result<Vec<Event>>) -> Result<(), HostError> {
        for event in received.during("watch", "links, addresses and routes")? {
            self.filter.apply(&event, &mut self.pending);
        }
        if self.pending != Changes::default() && self.due.is_none() {
            self.due = Some(Instant::now() + DEBOUNCE);
        }
        Ok(())
    }
}

fn index_of(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}

/// Knows our own interface and table.
struct Filter {
    interface: String,
    table: u32,
    index: Option<u32>,
    is_up: Option<bool>,
}

impl Filter {
    fn apply(&mut self, event: &Event, changes: &mut Changes) {
        match event {
            Event::Link { index, name, is_up } if *name == self.interface => {
                self.index = Some(*index);
                // Setting our interface down loses its routes and IPv6 addresses, so that is worth a look.
                changes.links |= self.is_up.replace(*is_up).unwrap_or(true) != *is_up;
            }
            Event::Link { .. } => changes.links = true,
            Event::Address { index, is_gone } if self.index == Some(*index) => changes.ours |= *is_gone,
            Event::Address { .. } => changes.addresses = true,
            Event::RuleGone { table } => changes.ours |= *table == self.table,
            // One that an interface took with it needs a look as well: the neighbour may be reached by another.
            Event::Route { is_direct: true, is_gone, .. } => changes.ours |= *is_gone,
            Event::Route { table, interfaces, is_gone, .. } => {
                let is_on_own = !interfaces.is_empty() && interfaces.iter().all(|index| self.index == Some(*index));
                let is_ours = *table == self.table && (is_on_own || *table != MAIN_TABLE);
                changes.ours |= is_ours && *is_gone;
                changes.routes |= *table == MAIN_TABLE && !is_on_own;
            }
            Event::Lost => *changes = Changes::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(filter: &mut Filter, event: &Event) -> Changes {
        let mut changes = Changes::default();
        filter.apply(event, &mut changes);
        changes
    }

    #[test]
    fn our_own_interface_and_other_tables_are_left_out_but_set_down_is_told() {
        let mut filter = Filter { interface: "meshd0".into(), table: 6374, index: None, is_up: None };
        let ours = |is_up| Event::Link { index: 7, name: "meshd0".into(), is_up };
        assert_eq!(told(&mut filter, &ours(true)), Changes::default());
        assert_eq!(told(&mut filter, &ours(true)), Changes::default());
        assert!(told(&mut filter, &ours(false)).links);
        assert!(told(&mut filter, &ours(true)).links);
        let address = |index, is_gone| Event::Address { index, is_gone };
        assert_eq!(told(&mut filter, &address(7, false)), Changes::default());
        assert!(told(&mut filter, &address(2, false)).addresses);
        let route = |table, interfaces: &[u32]| {
            let interfaces = interfaces.to_vec();
            Event::Route { table, interfaces, is_direct: false, is_gone: false }
        };
        assert_eq!(told(&mut filter, &route(6374, &[2])), Changes::default());
        assert_eq!(told(&mut filter, &route(254, &[7])), Changes::default());
        assert!(told(&mut filter, &route(254, &[2])).routes);
        assert!(told(&mut filter, &route(254, &[])).routes);
        let direct = Event::Route { table: 254, interfaces: vec![2], is_direct: true, is_gone: false };
        assert_eq!(told(&mut filter, &direct), Changes::default());
    }

    #[test]
    fn what_others_remove_of_ours_is_told_and_says_nothing_about_the_underlay() {
        let mut filter = Filter { interface: "meshd0".into(), table: 6374, index: Some(7), is_up: None };
        let ours = Changes { ours: true, ..Changes::default() };
        let route = Event::Route { table: 6374, interfaces: vec![7], is_direct: false, is_gone: true };
        let direct = Event::Route { table: 254, interfaces: vec![2], is_direct: true, is_gone: true };
        for event in [Event::Address { index: 7, is_gone: true }, route, direct, Event::RuleGone { table: 6374 }] {
            assert_eq!(told(&mut filter, &event), ours, "{event:?}");
        }
        assert_eq!(told(&mut filter, &Event::RuleGone { table: 77 }), Changes::default());
        assert!(!ours.is_underlay());
    }

    #[test]
    fn lost_events_count_as_everything() {
        let mut filter = Filter { interface: "meshd0".into(), table: 6374, index: None, is_up: None };
        assert_eq!(told(&mut filter, &Event::Lost), Changes::ALL);
    }
}
