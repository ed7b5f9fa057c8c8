//! Path MTU: sends the probes of sizes that are due, tells the workers what fits, and inner senders what does not.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::id::PeerId;
use crate::packet::icmp;
use crate::packet::layout::Layout;
use crate::path::Fit;
use crate::time::Instant;
use crate::wire::Control;

impl Node {
    /// The machine refused a datagram of `len` bytes to `destination`, which must not be fragmented, as too long for its own
    /// link. A search that asked for this size takes it for an answer.
    pub fn handle_too_long(&mut self, destination: SocketAddr, len: usize, now: Instant) {
        let live: Vec<PeerId> = self.live.iter().copied().collect();
        for id in live {
            let live = self.peer_mut(id).and_then(|peer| peer.live.as_mut());
            if live.is_some_and(|live| live.paths.too_long(destination, len, now)) {
                self.tend_paths(id, now);
            }
        }
    }

    /// How inner packets to a peer fit its path now.
    pub(super) fn fit(&self, id: PeerId) -> Fit {
        let live = self.peer(id).and_then(|peer| peer.live.as_ref());
        live.map_or(Fit::unknown(self.settings.mtu), |live| live.paths.fit(self.settings.mtu))
    }

    /// Sends the probes of sizes that are due, and publishes what came of those before.
    pub(super) fn tend_sizes(&mut self, id: PeerId, now: Instant) {
        let device_mtu = self.settings.mtu;
        let Some(peer) = self.peer_mut(id) else { return };
        let sent = peer.activity().tx_bytes.load(Ordering::Relaxed);
        let Some(live) = peer.live.as_mut().filter(|live| live.current.is_some()) else { return };
        live.paths.tend_sizes(sent, device_mtu, now);
        while let Some(due) =
            self.peer_mut(id).and_then(|peer| peer.live.as_mut()).and_then(|live| live.paths.poll_size(now))
        {
            let token = self.rng.next_u64();
            if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
                live.paths.sent_size(due.locator, token, now);
            }
            let mut plaintext = Control::Probe { token }.to_bytes();
            plaintext.resize(due.plaintext.max(plaintext.len()), 0);
            self.send_plaintext_to(id, &plaintext, due.locator, now);
        }
        let fit = self.fit(id);
        if self.table.peer(id).is_some_and(|row| row.fit != fit) {
            self.publish_row(id);
        }
    }

    /// Tells the sender of a packet how large the largest is that its path carries.
    pub(super) fn answer_too_long(&mut self, packet: &[u8], fit: Fit, now: Instant) {
        let Ok(layout) = Layout::parse(packet) else { return };
        self.answer_sender(packet, |from| icmp::packet_too_big(packet, from, fit.most(layout.version)), now);
    }
}
