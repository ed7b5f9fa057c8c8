//! What the driver does for sprays.

use std::net::SocketAddr;

use proto::id::PeerId;
use proto::path::Locator;

use super::Heard;
use crate::driver::Driver;

impl Driver {
    /// Opens sockets and sends from each.
    pub(crate) fn open_spray(&mut self, peer: PeerId, target: SocketAddr) {
        let count = self.spray.open();
        let probes = self.node.spray_probes(peer, count, self.clock.now());
        self.spray.fire(&probes, target);
    }

    /// A spray is over.
    pub(crate) fn close_spray(&mut self) {
        self.spray.close();
    }

    /// Something came to a socket of a spray: if it is of use that one is kept, and the others are closed.
    pub(crate) fn handle_heard(&mut self, heard: &Heard) {
        let Some(socket) = self.spray.extras.free() else { return };
        // Before the answer goes out, which leaves by it.
        if let Err(error) = self.spray.extras.keep(socket, &heard.socket) {
            tracing::warn!(%error, "a socket cannot be watched");
            return;
        }
        let now = self.clock.now();
        self.node.handle_datagram(&heard.datagram, Locator { socket, ..Locator::from(heard.source) }, now);
        if self.node.uses_socket(socket, now) {
            tracing::debug!(address = %heard.source, "a spray was met");
            self.spray.close();
        } else {
            self.spray.extras.let_go(socket);
        }
    }

    /// Closes the kept sockets that no path goes by any more.
    pub(crate) fn sweep_sockets(&mut self) {
        let now = self.clock.now();
        for socket in self.spray.due(now) {
            if !self.node.uses_socket(socket, now) {
                self.spray.extras.let_go(socket);
                self.node.handle_socket_closed(socket);
            }
        }
    }
}
