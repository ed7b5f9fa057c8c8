//! Tells when links, addresses or routes of this machine changed, once per burst.

use std::io;
use std::time::Duration;

use tokio::time::Instant;

use super::error::{During as _, HostError};
use super::netlink::{Event, EventSocket, MAIN_TABLE};

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
}

impl Changes {
    const ALL: Self = Self { links: true, addresses: true, routes: true };
}

/// A subscription to the kernel's events that leaves out our own interface and our own table.
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
    pub(crate) fn new(interface: &str) -> Result<Self, HostError> {
        let socket = EventSocket::open().during("watch", "links, addresses and routes")?;
        let filter = Filter { interface: interface.to_owned(), index: index_of(interface), is_up: None };
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

/// Knows our own interface, to leave it out.
struct Filter {
    interface: String,
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
            Event::Address { index } => changes.addresses |= self.index != Some(*index),
            Event::Route { table, interfaces } => {
                let is_ours = !interfaces.is_empty() && interfaces.iter().all(|index| self.index == Some(*index));
                changes.routes |= *table == MAIN_TABLE && !is_ours;
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
        let mut filter = Filter { interface: "meshd0".into(), index: None, is_up: None };
        let ours = |is_up| Event::Link { index: 7, name: "meshd0".into(), is_up };
        assert_eq!(told(&mut filter, &ours(true)), Changes::default());
        assert_eq!(told(&mut filter, &ours(true)), Changes::default());
        assert!(told(&mut filter, &ours(false)).links);
        assert!(told(&mut filter, &ours(true)).links);
        assert_eq!(told(&mut filter, &Event::Address { index: 7 }), Changes::default());
        assert!(told(&mut filter, &Event::Address { index: 2 }).addresses);
        let route = |table, interfaces: &[u32]| Event::Route { table, interfaces: interfaces.to_vec() };
        assert_eq!(told(&mut filter, &route(6374, &[2])), Changes::default());
        assert_eq!(told(&mut filter, &route(254, &[7])), Changes::default());
        assert!(told(&mut filter, &route(254, &[2])).routes);
        assert!(told(&mut filter, &route(254, &[])).routes);
    }

    #[test]
    fn lost_events_count_as_everything() {
        let mut filter = Filter { interface: "meshd0".into(), index: None, is_up: None };
        assert_eq!(told(&mut filter, &Event::Lost), Changes::ALL);
    }
}
