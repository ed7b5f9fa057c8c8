//! What the core and the parts around it tell, as events in an operator's words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::event::{Event, Refusal};
use proto::id::{EndpointName, PeerId};
use proto::nat::NatClass;
use proto::node::Node;
use proto::path::{Locator, PathState};
use proto::time::Instant;

use super::events::{EventKind, EventLog, Following};
use super::{Reporter, disconnect_text, paths, shared, spray_text};
use crate::api::events::EventLine;
use crate::api::stream::Lease;
use crate::host::HostNote;
use crate::nat::NatEvent;

/// Refusals of one source and reason that are events: one a minute.
const REFUSED_AGAIN: Duration = Duration::from_secs(60);

/// Sources whose refusals are remembered; more at a time than these are counted with the next one that is told.
const MAX_REFUSED: usize = 64;

/// The log of events, and what it takes to say what has changed.
pub(super) struct Happenings {
    log: EventLog,
    /// Of those peers that are connected.
    sessions: BTreeMap<EndpointName, Connection>,
    refused: BTreeMap<IpAddr, Instant>,
    /// Refusals that were not told since the last one that was.
    untold: u64,
    nat: Option<NatClass>,
    addresses: Option<BTreeSet<IpAddr>>,
    withheld: BTreeSet<String>,
    mapped: BTreeSet<SocketAddr>,
}

/// A connection since it is up.
struct Connection {
    since: Instant,
    locator: Locator,
    path: Box<str>,
    rekeys: u32,
}

impl Reporter {
    /// Notes what happened, and to which peer if to one.
    pub(crate) fn note(&mut self, kind: EventKind, peer: Option<&EndpointName>, text: impl Into<Box<str>>) {
        self.happenings.log.note(kind, peer, text);
    }

    /// What happened after the event `since`, oldest first.
    pub(crate) fn events(&self, since: Option<u64>) -> Vec<EventLine> {
        self.happenings.log.since(since)
    }

    /// What happened after the event `since`, and what happens from now on.
    ///
    /// # Errors
    /// Where as many follow as may.
    pub(crate) fn follow(&mut self, since: Option<u64>, lease: Lease) -> Result<Following, String> {
        self.happenings.log.follow(since, lease)
    }

    /// The names of all peers.
    pub(crate) fn names(&self, node: &Node) -> BTreeMap<PeerId, EndpointName> {
        self.addresses.keys().filter_map(|name| Some((node.peer_id(name)?, name.clone()))).collect()
    }

    /// Notes what the NAT before this node does, where that is news.
    pub(crate) fn note_nat_class(&mut self, class: Option<NatClass>) {
        self.happenings.note_nat_class(class);
    }

    /// Notes what a gateway or a server says, where that is news.
    pub(crate) fn note_mapping(&mut self, event: &NatEvent) {
        self.happenings.note_mapping(event);
    }

    /// Notes the addresses by which the machine may be reached, where they have changed.
    pub(crate) fn note_addresses(&mut self, addresses: &[IpAddr]) {
        self.happenings.note_addresses(addresses);
    }

    /// Notes which routes are withheld from the machine, and why, where that has changed.
    pub(crate) fn note_withheld(&mut self, notes: &[HostNote]) {
        self.happenings.note_withheld(notes);
    }
}

impl Happenings {
    pub(super) fn new() -> Self {
        Self {
            log: EventLog::new(),
            sessions: BTreeMap::new(),
            refused: BTreeMap::new(),
            untold: 0,
            nat: None,
            addresses: None,
            withheld: BTreeSet::new(),
            mapped: BTreeSet::new(),
        }
    }

    /// Notes an event of the core.
    pub(super) fn note_event(&mut self, node: &Node, event: &Event, now: Instant) {
        let name = |peer: &PeerId| node.peer_name(*peer).cloned();
        match event {
            Event::Connected { peer, remote } => {
                let Some(name) = name(peer) else { return };
                let path: Box<str> = paths::text(node, *peer, *remote, now).into();
                self.log.note(EventKind::Connected, Some(&name), format!("over {path}"));
                self.sessions.insert(name, Connection { since: now, locator: *remote, path, rekeys: 0 });
            }
            Event::Rekeyed { peer } => {
                if let Some(connection) = name(peer).and_then(|name| self.sessions.get_mut(&name)) {
                    connection.rekeys += 1;
                }
            }
            Event::Moved { peer, remote } => self.note_move(node, *peer, *remote, now),
            Event::Unreachable { peer } => {
                self.log.note(EventKind::Unreachable, name(peer).as_ref(), "does not answer handshakes");
            }
            Event::Disconnected { name, reason, .. } => {
                let told = self.sessions.remove(name).map(|connection| connection.told(now)).unwrap_or_default();
                let text = format!("{}{told}", disconnect_text(*reason));
                self.log.note(EventKind::Disconnected, Some(name), text);
            }
            Event::Refused { peer, source, reason } => {
                self.note_refusal(peer.and_then(|peer| node.peer_name(peer)), source, reason, now);
            }
            Event::OwnerChanged { prefix, owner, before, condition } => {
                let owner = owner.and_then(|owner| name(&owner));
                let owner = owner.as_ref().map_or("nobody", EndpointName::as_str);
                let reason = shared::reason(*condition, now).map(|reason| format!(": {reason}")).unwrap_or_default();
                let text = format!("{prefix} goes to {owner} instead{reason}");
                self.log.note(EventKind::Owner, name(before).as_ref(), text);
            }
            Event::SprayEnded { peer, status } => {
                self.log.note(EventKind::Spray, name(peer).as_ref(), spray_text(status));
            }
            Event::NeighbourRoutes
            | Event::CarrierWanted { .. }
            | Event::SprayWanted { .. }
            | Event::ProbeReply { .. }
            | Event::WhyAsked { .. }
            | Event::EnrolWanted { .. }
            | Event::EnrolAnswered { .. } => {}
        }
    }

    fn note_move(&mut self, node: &Node, peer: PeerId, remote: Locator, now: Instant) {
        let Some(name) = node.peer_name(peer) else { return };
        let to: Box<str> = paths::text(node, peer, remote, now).into();
        let Some(connection) = self.sessions.get_mut(name) else { return };
        let known = node.peer_paths(peer, now);
        let before = known.iter().find(|path| path.locator == connection.locator);
        let kind = paths::kind(node, peer, remote, now);
        let is_lesser = before.is_some_and(|before| kind > before.kind);
        let (kind, why) = match before.map(|path| path.state) {
            Some(PathState::Active | PathState::Standby) if is_lesser => {
                (EventKind::PathLost, "for the other does not do well any more")
            }
            Some(PathState::Active | PathState::Standby) => (EventKind::Moved, "which is better"),
            Some(PathState::Probing | PathState::Silent | PathState::Dead) | None => {
                (EventKind::PathLost, "for the other does not answer any more")
            }
        };
        let text = format!("from {} to {to}, {why}", connection.path);
        (connection.locator, connection.path) = (remote, to);
        self.log.note(kind, Some(name), text);
    }

    fn note_refusal(&mut self, peer: Option<&EndpointName>, source: &Locator, reason: &Refusal, now: Instant) {
        self.refused.retain(|_, at| now - *at < REFUSED_AGAIN);
        let ip = source.address.ip();
        if self.refused.contains_key(&ip) || self.refused.len() >= MAX_REFUSED {
            self.untold += 1;
            return;
        }
        self.refused.insert(ip, now);
        let others = match std::mem::take(&mut self.untold) {
            0 => String::new(),
            count => format!("; {count} more before this were not told"),
        };
        let text = format!("refused a handshake from {source}: {reason}{others}");
        self.log.note(EventKind::Refused, peer, text);
    }

    /// Notes what the NAT before this node does, where that is news.
    fn note_nat_class(&mut self, class: Option<NatClass>) {
        if self.nat == class {
            return;
        }
        let text = match (self.nat, class) {
            (_, None) => "what the NAT does to ports is to be found out anew".to_owned(),
            (None, Some(class)) => format!("the NAT's ports are {}", class.name()),
            (Some(before), Some(class)) => format!("the NAT's ports are {}, and were {}", class.name(), before.name()),
        };
        self.nat = class;
        self.log.note(EventKind::Nat, None, text);
    }

    /// Notes a port mapping, where it is news: each is told again at its renewal.
    fn note_mapping(&mut self, event: &NatEvent) {
        match event {
            NatEvent::Mapped { protocol, external, .. } if self.mapped.insert(*external) => {
                self.log.note(EventKind::PortMapping, None, format!("{external} leads here, by {protocol}"));
            }
            NatEvent::Unmapped { external } if self.mapped.remove(external) => {
                self.log.note(EventKind::PortMapping, None, format!("{external} does not lead here any more"));
            }
            NatEvent::Mapped { .. } | NatEvent::Unmapped { .. } | NatEvent::Reflexive { .. } => {}
        }
    }

    /// Notes the addresses by which the machine may be reached, where they have changed.
    fn note_addresses(&mut self, addresses: &[IpAddr]) {
        let now: BTreeSet<IpAddr> = addresses.iter().copied().collect();
        let Some(before) = self.addresses.replace(now.clone()).filter(|before| *before != now) else { return };
        let list = |of: Vec<&IpAddr>| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (come, gone) = (list(now.difference(&before).collect()), list(before.difference(&now).collect()));
        let parts =
            [("new ", come), ("gone ", gone)].map(|(word, list)| (!list.is_empty()).then(|| word.to_owned() + &list));
        let text = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        self.log.note(EventKind::Addresses, None, text);
    }

    /// Notes which routes are withheld from the machine, and why, where that has changed.
    fn note_withheld(&mut self, notes: &[HostNote]) {
        let now: BTreeSet<String> = notes.iter().map(ToString::to_string).collect();
        for note in now.difference(&self.withheld) {
            self.log.note(EventKind::Routes, None, note.as_str());
        }
        for note in self.withheld.difference(&now) {
            self.log.note(EventKind::Routes, None, format!("no longer: {note}"));
        }
        self.withheld = now;
    }
}

impl Connection {
    fn told(&self, now: Instant) -> String {
        let seconds = (now - self.since).as_secs();
        let rekeys = match self.rekeys {
            0 => String::new(),
            1 => ", with one new session in between".to_owned(),
            count => format!(", with {count} new sessions in between"),
        };
        format!(", after {seconds} s, last over {}{rekeys}", self.path)
    }
}
