//! What happened with each peer, for who looks later.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proto::event::{Disconnect, Event};
use proto::id::EndpointName;
use proto::node::Node;
use proto::path::{SprayEnd, SpraySide, SprayStatus};
use proto::time::Instant;

use super::{paths, shared};
use crate::api::detail::HistoryLine;

/// Events that are kept of each peer; those before say little of what is wrong now.
const MAX_EVENTS: usize = 8;

/// Moves that follow each other faster than this are one: two nodes that find several ways to each other at once need some
/// to agree, and these would crowd out what went before.
const ONE_MOVE: Duration = Duration::from_secs(1);

/// The newest events of every peer that had any, by name: a peer's number may go to another one.
#[derive(Default)]
pub(super) struct History(BTreeMap<EndpointName, VecDeque<Entry>>);

struct Entry {
    at: Instant,
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Moved,
    Other,
}

impl History {
    /// Notes an event of the core, as far as it belongs here.
    pub(super) fn note(&mut self, node: &Node, event: &Event, now: Instant) {
        let path = |peer, remote| paths::text(node, peer, remote, now);
        let (peer, kind, text) = match event {
            Event::Connected { peer, remote } => {
                (peer, Kind::Other, format!("connected over {}", path(*peer, *remote)))
            }
            Event::Moved { peer, remote } => (peer, Kind::Moved, format!("moved to {}", path(*peer, *remote))),
            Event::Unreachable { peer } => (peer, Kind::Other, "does not answer".to_owned()),
            Event::Disconnected { peer, reason, .. } => {
                (peer, Kind::Other, format!("disconnected: {}", disconnect_text(*reason)))
            }
            Event::SprayEnded { peer, status } => (peer, Kind::Other, spray_text(status)),
            Event::OwnerChanged { prefix, owner, before, condition } => {
                let owner = owner.and_then(|owner| node.peer_name(owner)).map_or("nobody", EndpointName::as_str);
                let reason = shared::reason(*condition, now).map(|reason| format!(": {reason}")).unwrap_or_default();
                (before, Kind::Other, format!("{prefix} goes to {owner} instead{reason}"))
            }
            Event::Rekeyed { .. }
            | Event::SprayWanted { .. }
            | Event::Refused { .. }
            | Event::ProbeReply { .. }
            | Event::WhyAsked { .. }
            | Event::EnrolWanted { .. }
            | Event::EnrolAnswered { .. }
            | Event::NeighbourRoutes
            | Event::CarrierWanted { .. } => return,
        };
        if let Some(name) = node.peer_name(*peer) {
            self.add(name, Entry { at: now, kind, text });
        }
    }

    /// A peer's events, oldest first.
    pub(super) fn of(&self, peer: &EndpointName, now: Instant) -> Vec<HistoryLine> {
        let line =
            |entry: &Entry| HistoryLine { seconds_ago: (now - entry.at).as_secs_f64(), event: entry.text.clone() };
        self.0.get(peer).into_iter().flatten().map(line).collect()
    }

    /// Forgets all but those that are to be kept.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&EndpointName) -> bool) {
        self.0.retain(|name, _| is_kept(name));
    }

    fn add(&mut self, name: &EndpointName, entry: Entry) {
        let entries = self.0.entry(name.clone()).or_default();
        let is_same =
            |last: &Entry| last.kind == Kind::Moved && entry.kind == Kind::Moved && entry.at - last.at < ONE_MOVE;
        if entries.back().is_some_and(is_same) {
            entries.pop_back();
        }
        if entries.len() >= MAX_EVENTS {
            entries.pop_front();
        }
        entries.push_back(entry);
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

/// What came of a spray, in words.
pub(crate) fn spray_text(status: &SprayStatus) -> String {
    let what = match status.side {
        SpraySide::Opens => "sockets",
        SpraySide::Probes => "probes",
    };
    let end = status.end.map_or("goes on", SprayEnd::name);
    format!("spray {end}, {} of {} {what}", status.count, status.budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves_in_a_row_are_one_and_the_newest_events_stay() {
        let (mut history, name) = (History::default(), "a.b".parse::<EndpointName>().unwrap());
        let mut add = |millis: u64, kind, text: &str| {
            let at = Instant::ORIGIN + Duration::from_millis(millis);
            history.add(&name, Entry { at, kind, text: text.to_owned() });
        };
        add(0, Kind::Other, "connected");
        add(10, Kind::Moved, "moved to x");
        add(20, Kind::Moved, "moved to y");
        add(2_000, Kind::Moved, "moved to z");
        let told = |history: &History| {
            let lines = history.of(&name, Instant::ORIGIN + Duration::from_secs(60));
            lines.into_iter().map(|line| (line.seconds_ago, line.event)).collect::<Vec<_>>()
        };
        let texts = [(60.0, "connected"), (59.98, "moved to y"), (58.0, "moved to z")];
        assert_eq!(told(&history), texts.map(|(ago, text)| (ago, text.to_owned())));
        let mut add = |millis: u64| {
            let at = Instant::ORIGIN + Duration::from_millis(millis);
            history.add(&name, Entry { at, kind: Kind::Other, text: String::new() });
        };
        (0..20).for_each(|number| add(3_000 + number));
        assert_eq!(told(&history).len(), MAX_EVENTS);
    }
}
