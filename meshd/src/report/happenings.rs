//! What the core and the parts around it tell, as events in an operator's words.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::event::{Disconnect, Event, Refusal};
use proto::id::{EndpointName, PeerId};
use proto::nat::NatClass;
use proto::node::Node;
use proto::path::{Locator, PathState};
use proto::time::Instant;

use super::events::{EventKind, EventLog, Following};
use super::often::{OftenByPeer, others};
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
    sessions: BTreeMap<PeerId, Connection>,
    /// The names of those who are gone from the mesh, as long as something may still be said of them.
    gone: BTreeMap<PeerId, EndpointName>,
    often: OftenByPeer,
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
    /// The core has forgotten it when it tells that a member that was removed is disconnected.
    name: EndpointName,
    /// Whether it was told; if not, neither is what becomes of it.
    is_told: bool,
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

    /// A peer's name, also of one that has just gone from the mesh.
    pub(crate) fn name_of<'a>(&'a self, node: &'a Node, peer: PeerId) -> Option<&'a EndpointName> {
        self.happenings.name(node, peer)
    }

    /// Notes what the NAT before this node does, where that is news.
    pub(crate) fn note_nat_class(&mut self, class: Option<NatClass>) {
        self.happenings.note_nat_class(class);
    }

    /// Notes what a gateway or a server says, where that is news.
    pub(crate) fn note_mapping(&mut self, event: &NatEvent) {
        self.happenings.note_mapping(event);
    }

    /// Notes that no gateway maps a port to this node any more, for none is asked, or all are asked anew.
    pub(crate) fn forget_mapped(&mut self) {
        self.happenings.forget_mapped();
    }

    /// Notes the addresses by which the machine may be reached, where they have changed.
    pub(crate) fn note_addresses(&mut self, addresses: &[IpAddr]) {
        self.happenings.note_addresses(addresses);
    }

    /// Notes which routes are withheld from the machine, and why, where that has changed. Returns what is new of it, which the log is
    /// told of.
    pub(crate) fn note_withheld(&mut self, notes: &[HostNote]) -> Vec<String> {
        let new = self.happenings.note_withheld(notes);
        new.iter().for_each(|note| tracing::warn!("{note}"));
        new
    }

    /// Gives its log of events for another: that of the daemon goes on when the node does not.
    pub(crate) fn swap_events(&mut self, log: &mut EventLog) {
        std::mem::swap(&mut self.happenings.log, log);
    }
}

impl Happenings {
    pub(super) fn new() -> Self {
        Self {
            log: EventLog::new(),
            sessions: BTreeMap::new(),
            gone: BTreeMap::new(),
            often: OftenByPeer::default(),
            refused: BTreeMap::new(),
            untold: 0,
            nat: None,
            addresses: None,
            withheld: BTreeSet::new(),
            mapped: BTreeSet::new(),
        }
    }

    /// Forgets those who are gone from the mesh, and what was told of others than those that are to be kept.
    pub(super) fn renew(&mut self, is_kept: impl Fn(&EndpointName) -> bool) {
        self.gone.clear();
        self.often.keep(is_kept);
    }

    /// Notes an event of the core. Returns whether the log should tell of it too: if so, how many like it were left out before.
    pub(super) fn note_event(&mut self, node: &Node, event: &Event, now: Instant) -> Option<u64> {
        match event {
            Event::Connected { peer, remote } => return self.note_connected(node, *peer, *remote, now),
            Event::Rekeyed { peer } => {
                if let Some(connection) = self.sessions.get_mut(peer) {
                    connection.rekeys += 1;
                }
            }
            Event::Moved { peer, remote } => return self.note_move(node, *peer, *remote, now),
            Event::Unreachable { peer } => {
                let name = node.peer_name(*peer)?;
                let left_out = self.often.pass(name, now)?;
                let text = format!("does not answer handshakes{}", others(left_out));
                self.log.note(EventKind::Unreachable, Some(name), text);
                return Some(left_out);
            }
            Event::Disconnected { peer, reason } => return self.note_disconnected(node, *peer, *reason, now),
            Event::Refused { peer, source, reason } => {
                self.note_refusal(peer.and_then(|peer| node.peer_name(peer)), source, reason, now);
            }
            Event::OwnerChanged { prefix, owner, before, condition } => {
                let owner = owner.and_then(|owner| node.peer_name(owner));
                let owner = owner.map_or("nobody", EndpointName::as_str);
                let reason = shared::reason(*condition, now).map(|reason| format!(": {reason}")).unwrap_or_default();
                let text = format!("{prefix} goes to {owner} instead{reason}");
                let before = self.name(node, *before).cloned();
                self.log.note(EventKind::Owner, before.as_ref(), text);
            }
            Event::SprayEnded { peer, status } => {
                self.log.note(EventKind::Spray, node.peer_name(*peer), spray_text(status));
            }
            Event::NeighbourRoutes
            | Event::CarrierWanted { .. }
            | Event::SprayWanted { .. }
            | Event::ProbeReply { .. }
            | Event::WhyAsked { .. }
            | Event::EnrolWanted { .. }
            | Event::EnrolAnswered { .. } => {}
        }
        Some(0)
    }

    /// A peer's name, also of one that has just gone from the mesh.
    fn name<'a>(&'a self, node: &'a Node, peer: PeerId) -> Option<&'a EndpointName> {
        node.peer_name(peer).or_else(|| self.gone.get(&peer))
    }

    fn note_connected(&mut self, node: &Node, peer: PeerId, remote: Locator, now: Instant) -> Option<u64> {
        let name = node.peer_name(peer)?;
        let path: Box<str> = paths::text(node, peer, remote, now).into();
        let told = self.often.pass(name, now);
        if let Some(left_out) = told {
            self.log.note(EventKind::Connected, Some(name), format!("over {path}{}", others(left_out)));
        }
        let (name, is_told) = (name.clone(), told.is_some());
        self.sessions.insert(peer, Connection { name, is_told, since: now, locator: remote, path, rekeys: 0 });
        told
    }

    fn note_disconnected(&mut self, node: &Node, peer: PeerId, reason: Disconnect, now: Instant) -> Option<u64> {
        let connection = self.sessions.remove(&peer);
        let name = connection.as_ref().map(|connection| &connection.name).or_else(|| node.peer_name(peer))?.clone();
        // What is said of a connection ends as it began: told, or not.
        let is_told = connection.as_ref().is_none_or(|connection| connection.is_told);
        if is_told {
            let how = connection.map(|connection| connection.told(now)).unwrap_or_default();
            self.log.note(EventKind::Disconnected, Some(&name), format!("{}{how}", disconnect_text(reason)));
        }
        if node.peer_name(peer).is_none() {
            self.gone.insert(peer, name);
        }
        is_told.then_some(0)
    }

    fn note_move(&mut self, node: &Node, peer: PeerId, remote: Locator, now: Instant) -> Option<u64> {
        let to: Box<str> = paths::text(node, peer, remote, now).into();
        let connection = self.sessions.get_mut(&peer)?;
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
        let told = connection.is_told.then(|| self.often.pass(&connection.name, now)).flatten();
        if let Some(left_out) = told {
            let text = format!("from {} to {to}, {why}{}", connection.path, others(left_out));
            self.log.note(kind, Some(&connection.name), text);
        }
        (connection.locator, connection.path) = (remote, to);
        told
    }

    fn note_refusal(&mut self, peer: Option<&EndpointName>, source: &Locator, reason: &Refusal, now: Instant) {
        self.refused.retain(|_, at| now - *at < REFUSED_AGAIN);
        let ip = source.address.ip();
        if self.refused.contains_key(&ip) || self.refused.len() >= MAX_REFUSED {
            self.untold += 1;
            return;
        }
        self.refused.insert(ip, now);
        let others = others(std::mem::take(&mut self.untold));
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
            NatEvent::Unmapped { external } if self.mapped.remove(external) => self.note_unmapped(*external),
            NatEvent::Mapped { .. } | NatEvent::Unmapped { .. } | NatEvent::Reflexive { .. } => {}
        }
    }

    fn forget_mapped(&mut self) {
        for external in std::mem::take(&mut self.mapped) {
            self.note_unmapped(external);
        }
    }

    fn note_unmapped(&mut self, external: SocketAddr) {
        self.log.note(EventKind::PortMapping, None, format!("{external} does not lead here any more"));
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
    fn note_withheld(&mut self, notes: &[HostNote]) -> Vec<String> {
        let now: BTreeSet<String> = notes.iter().map(ToString::to_string).collect();
        let new: Vec<String> = now.difference(&self.withheld).cloned().collect();
        for note in &new {
            self.log.note(EventKind::Routes, None, note.as_str());
        }
        for note in self.withheld.difference(&now) {
            self.log.note(EventKind::Routes, None, format!("no longer: {note}"));
        }
        self.withheld = now;
        new
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
