//! How much the core has on its hands at one moment: for metrics.

use super::Node;

/// What the core keeps and what waits in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Peers in session.
    pub sessions: usize,
    /// Handshakes of this node that wait for their answers.
    pub attempts: usize,
    /// Packets that wait for a session, at most 32 for each peer.
    pub staged_packets: usize,
    /// Their bytes.
    pub staged_bytes: usize,
}

impl Node {
    /// How much it has on its hands. Costs a look at every peer that something goes on with.
    #[must_use]
    pub fn load(&self) -> Load {
        let mut load = Load::default();
        for live in self.live.iter().filter_map(|id| self.peer(*id)?.live.as_ref()) {
            let (packets, bytes) = live.staging.depth();
            load.sessions += usize::from(live.current.is_some());
            load.attempts += usize::from(live.attempt.is_some());
            load.staged_packets += packets;
            load.staged_bytes += bytes;
        }
        load
    }
}
