//! The sockets that a machine opens for a spray, and those of them that it keeps, as the daemon's shell has them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use proto::event::Event;
use proto::id::PeerId;
use proto::path::{Locator, SPRAY_SOCKETS, SocketId};
use proto::time::Instant;

use crate::host::{Host, Sent};
use crate::network::Interface;

/// Where ports of such sockets begin.
const FIRST_PORT: u16 = 20_000;

/// Sockets besides those of the interfaces.
#[derive(Default)]
pub(crate) struct Spray {
    /// Ports of a spray that goes on.
    open: Vec<u16>,
    kept: BTreeMap<SocketId, u16>,
    /// What leaves by the ports of a spray.
    pub(crate) sent: Vec<Sent>,
}

/// Whose a port is.
pub(crate) enum Taken {
    /// A socket's that data comes to.
    By(SocketId),
    /// A spray's; the number is free.
    Guess(SocketId),
    /// Nobody's, any more.
    No,
}

impl Spray {
    pub(crate) fn take(&self, port: u16) -> Taken {
        if let Some((socket, _)) = self.kept.iter().find(|(_, kept)| **kept == port) {
            return Taken::By(*socket);
        }
        let free = (1..=8).map(SocketId).find(|socket| !self.kept.contains_key(socket));
        match free {
            Some(socket) if self.open.contains(&port) => Taken::Guess(socket),
            _ if port >= FIRST_PORT && usize::from(port - FIRST_PORT) < SPRAY_SOCKETS => Taken::No,
            _ => Taken::By(SocketId::MAIN),
        }
    }

    /// The port of a socket, `None` inside for an interface's own; `None`: it is closed.
    pub(crate) fn port_of(&self, socket: SocketId) -> Option<Option<u16>> {
        if socket == SocketId::MAIN { Some(None) } else { self.kept.get(&socket).copied().map(Some) }
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        self.open.iter().chain(self.kept.values()).copied()
    }
}

impl Host {
    /// Where it can be reached at all: its interfaces, and beside the first of IPv4 the ports of sprays.
    pub(crate) fn all_interfaces(&self) -> Cow<'_, [Interface]> {
        if self.spray.open.is_empty() && self.spray.kept.is_empty() {
            return Cow::Borrowed(&self.interfaces);
        }
        let first = self.interfaces.iter().find(|interface| interface.address.is_ipv4()).copied();
        let beside =
            |port| first.map(|first| Interface { address: SocketAddr::new(first.address.ip(), port), ..first });
        self.interfaces.iter().copied().chain(self.spray.ports().filter_map(beside)).collect()
    }

    pub(crate) fn spray(&mut self, event: &Event, now: Instant) {
        if let Event::SprayWanted { peer, target } = event {
            self.open_spray(*peer, *target, now);
        } else if matches!(event, Event::SprayEnded { .. }) {
            self.spray.open.clear();
        }
    }

    fn open_spray(&mut self, peer: PeerId, target: SocketAddr, now: Instant) {
        let probes = self.node.spray_probes(peer, SPRAY_SOCKETS, now);
        let is_free = |port: &u16| !self.spray.kept.values().any(|kept| kept == port);
        self.spray.open = (FIRST_PORT..).take(SPRAY_SOCKETS).filter(is_free).collect();
        let all = self.spray.open.iter().zip(probes);
        self.spray.sent.extend(all.map(|(port, datagram)| Sent { destination: target, port: Some(*port), datagram }));
    }

    /// What came to one of a spray's sockets; that one is kept if the node takes it for a path.
    pub(crate) fn handle_guess(
        &mut self,
        source: SocketAddr,
        socket: SocketId,
        port: u16,
        datagram: &[u8],
        now: Instant,
    ) {
        self.spray.kept.insert(socket, port);
        self.node.handle_datagram(datagram, Locator { socket, ..Locator::from(source) }, now);
        if self.node.uses_socket(socket, now) {
            self.spray.open.clear();
        } else {
            self.spray.kept.remove(&socket);
        }
    }
}
