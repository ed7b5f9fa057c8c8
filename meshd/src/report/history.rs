//! What happened with each peer, for who looks later.

use std::collections::{BTreeMap, VecDeque};

use proto::event::{Disconnect, Event};
use proto::id::EndpointName;
use proto::node::Node;
use proto::time::Instant;

use super::paths;
use crate::api::detail::HistoryLine;

/// Events that are kept of each peer; those before say little of what is wrong now.
const MAX_EVENTS: usize = 8;

/// The newest events of every peer that had any, by name: a peer's number may go to another one.
#[derive(Default)]
pub(super) struct History(BTreeMap<EndpointName, VecDeque<(Instant, String)>>);

impl History {
    /// Notes an event of the core, as far as it belongs here.
    pub(super) fn note(&mut self, node: &Node, event: &Event, now: Instant) {
        let (peer, text) = match event {
            Event::Connected { peer, remote } => {
                (peer, format!("connected over {}", paths::text(node, *peer, *remote, now)))
            }
            Event::Moved { peer, remote } => (peer, format!("moved to {}", paths::text(node, *peer, *remote, now))),
            Event::Unreachable { peer } => (peer, "does not answer".to_owned()),
            Event::Disconnected { peer, reason } => (peer, format!("disconnected: {}", disconnect_text(*reason))),
            Event::Rekeyed { .. } | Event::Refused { .. } | Event::ProbeReply { .. } => return,
        };
        let Some(name) = node.peer_name(*peer) else { return };
        let events = self.0.entry(name.clone()).or_default();
        if events.len() >= MAX_EVENTS {
            events.pop_front();
        }
        events.push_back((now, text));
    }

    /// A peer's events, oldest first.
    pub(super) fn of(&self, peer: &EndpointName, now: Instant) -> Vec<HistoryLine> {
        let line = |(at, event): &(Instant, String)| HistoryLine {
            seconds_ago: (now - *at).as_secs_f64(),
            event: event.clone(),
        };
        self.0.get(peer).into_iter().flatten().map(line).collect()
    }
}

/// Why a session ended, in words.
pub(crate) const fn disconnect_text(reason: Disconnect) -> &'static str {
    match reason {
        Disconnect::Idle => "idle",
        Disconnect::Expired => "expired",
        Disconnect::Closed => "closed by the peer",
        Disconnect::Removed => "no longer allowed",
    }
}
