//! Prefixes that several peers announce: finds out which of the owners work, and routes each prefix to the best of them.
//!
//! The owner in use is watched by its session: a path that dies without another, or silence, are seen within three seconds. While
//! it is in use the others are asked every ten seconds, so that it is known beforehand whether they could take over. Whether an
//! owner reaches the prefix only it can know: it says so when that changes, and when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::Node;
use super::relay::weight;
use super::session::IN_USE;
use crate::event::{Disconnect, Event};
use crate::id::PeerId;
use crate::member::Members;
use crate::owner::{Condition, OwnerStatus, SharedStatus, Spell, choose};
use crate::route::Target;
use crate::time::Instant;
use crate::wire::Control;

/// Between two questions to an owner that stands by.
const ASK: Duration = Duration::from_secs(10);

/// The same to one that does not answer, or is back and has to show that it stays.
const ASK_DOUBTFUL: Duration = Duration::from_secs(1);

/// A handshake without an answer for this long: the owner is silent. That is three initiations.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Silence of a session that sends, after which the owner is silent, as a new handshake is due then.
const SILENCE: Duration = Duration::from_secs(2);

/// How often a change is told again, at each look after the peers, for a datagram may be lost.
const REPEATS: u8 = 3;

/// What a node knows of shared prefixes; bounded by the mesh's records.
#[derive(Default)]
pub(super) struct Owners {
    prefixes: BTreeMap<IpNet, SharedPrefix>,
    health: BTreeMap<PeerId, Health>,
    /// Those that this node announces and does not reach.
    unreached: BTreeSet<IpNet>,
    repeats: u8,
}

#[derive(Default)]
struct SharedPrefix {
    is_local: bool,
    /// The other owners, in the order of preference, with their priorities.
    owners: Vec<(u16, PeerId)>,
    chosen: Option<PeerId>,
}

#[derive(Default)]
struct Health {
    silence: Spell,
    /// Prefixes of which it has said that it does not reach them.
    wants: BTreeMap<IpNet, Spell>,
    asked_at: Option<Instant>,
}

impl Owners {
    /// Whether what this node reaches is still to be told again, in case that was lost.
    pub(super) const fn has_to_repeat(&self) -> bool {
        self.repeats > 0
    }

    /// Whether a peer is asked now and then whether it lives, so that its session is to be kept.
    pub(super) fn is_asked(&self, id: PeerId, now: Instant) -> bool {
        self.health.get(&id).and_then(|health| health.asked_at).is_some_and(|at| now - at < ASK + IN_USE)
    }

    fn condition(&self, prefix: &IpNet, id: PeerId, now: Instant) -> Condition {
        let Some(health) = self.health.get(&id) else { return Condition::Works };
        Condition::of(health.silence, health.wants.get(prefix).copied().unwrap_or_default(), now)
    }
}

impl Node {
    /// Takes which of the prefixes that this node announces its machine does not reach; they replace those before.
    pub fn handle_reach(&mut self, unreached: BTreeSet<IpNet>, now: Instant) {
        if self.owners.unreached == unreached {
            return;
        }
        self.owners.unreached = unreached;
        self.owners.repeats = REPEATS;
        self.schedule_sweep(now);
        self.tell_reach(now);
    }

    /// The prefixes that this node announces and others too.
    pub fn own_shared_prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.owners.prefixes.iter().filter(|(_, shared)| shared.is_local).map(|(prefix, _)| *prefix)
    }

    /// The prefixes that several members announce, and who carries each, by prefix.
    #[must_use]
    pub fn shared_prefixes(&self, now: Instant) -> Vec<SharedStatus> {
        let status = |(prefix, shared): (&IpNet, &SharedPrefix)| SharedStatus {
            prefix: *prefix,
            is_local: shared.is_local,
            is_unreached: self.owners.unreached.contains(prefix),
            chosen: shared.chosen,
            owners: self.owner_status(prefix, shared, now),
        };
        self.owners.prefixes.iter().map(status).collect()
    }

    /// Takes from the records who shares which of these prefixes.
    pub(super) fn rebuild_owners(&mut self, members: &Members, shared: &BTreeSet<IpNet>, now: Instant) {
        let mut prefixes: BTreeMap<IpNet, SharedPrefix> = BTreeMap::new();
        for endpoint in members.endpoints.iter().filter(|_| !shared.is_empty()) {
            let own = endpoint.prefixes(&members.mesh);
            for prefix in own.into_iter().map(|net| net.trunc()).filter(|net| shared.contains(net)) {
                let entry = prefixes.entry(prefix).or_default();
                match self.peer_id(&endpoint.name) {
                    None => entry.is_local = true,
                    Some(id) if entry.owners.iter().any(|(_, known)| *known == id) => {}
                    Some(id) => entry.owners.push((endpoint.priority, id)),
                }
            }
        }
        for (prefix, entry) in &mut prefixes {
            let name = |id: PeerId| self.peer_name(id).map(|name| weight(&self.settings.name, name));
            entry.owners.sort_by_key(|(priority, id)| (*priority, std::cmp::Reverse(name(*id))));
            let before = self.owners.prefixes.get(prefix).and_then(|known| known.chosen);
            entry.chosen = before.filter(|before| entry.owners.iter().any(|(_, id)| id == before));
        }
        let others = prefixes.values().filter(|entry| !entry.is_local).flat_map(|entry| &entry.owners);
        let owners: BTreeSet<PeerId> = others.map(|(_, id)| *id).collect();
        self.owners.health.retain(|id, _| owners.contains(id));
        for id in owners {
            self.owners.health.entry(id).or_default();
        }
        self.owners.unreached.retain(|prefix| prefixes.get(prefix).is_some_and(|entry| entry.is_local));
        if !prefixes.values().any(|entry| entry.is_local) {
            self.owners.repeats = 0;
        }
        self.owners.prefixes = prefixes;
        self.renew_owners(now);
    }

    /// Chooses anew after a change of what policy allows.
    pub(super) fn renew_owners(&mut self, now: Instant) {
        if self.owners.prefixes.is_empty() {
            return;
        }
        self.choose_owners(now);
        self.publish_owners();
    }

    /// Somebody else has this number from now on.
    pub(super) fn forget_owner(&mut self, id: PeerId) {
        self.owners.health.remove(&id);
        for shared in self.owners.prefixes.values_mut() {
            shared.owners.retain(|(_, owner)| *owner != id);
            shared.chosen.take_if(|chosen| *chosen == id);
        }
    }

    /// Tells once more what this node does not reach, if that is due.
    pub(super) fn repeat_reach(&mut self, now: Instant) {
        if let Some(left) = self.owners.repeats.checked_sub(1) {
            self.owners.repeats = left;
            self.tell_reach(now);
        }
    }

    /// Looks after every shared prefix: who answers, who is to be asked, who carries it.
    pub(super) fn tend_owners(&mut self, now: Instant) {
        if self.owners.prefixes.is_empty() {
            return;
        }
        let owners: Vec<PeerId> = self.owners.health.keys().copied().collect();
        owners.into_iter().for_each(|id| self.note_silence(id, now));
        if self.choose_owners(now) {
            self.publish_owners();
        }
        for id in self.owners_to_ask(now) {
            self.ask_owner(id, now);
        }
    }

    /// A session is up: asks an owner what it reaches.
    pub(super) fn ask_reach(&mut self, id: PeerId, now: Instant) {
        if self.owners.health.contains_key(&id) {
            self.send_control(id, &Control::ReachQuestion, now);
        }
    }

    pub(super) fn handle_reach_question(&mut self, id: PeerId, now: Instant) {
        let is_allowed = self.peer(id).is_some_and(|peer| peer.permission.is_ok());
        if is_allowed && self.own_shared_prefixes().next().is_some() {
            self.send_control(id, &self.reach(), now);
        }
    }

    /// An owner says which prefixes it does not reach; only what it shares counts.
    pub(super) fn handle_peer_reach(&mut self, id: PeerId, unreached: &[IpNet], now: Instant) {
        let Some(health) = self.owners.health.get_mut(&id) else { return };
        let shares = |shared: &SharedPrefix| shared.owners.iter().any(|(_, owner)| *owner == id);
        let mut is_news = false;
        for (prefix, _) in self.owners.prefixes.iter().filter(|(_, shared)| shares(shared)) {
            is_news |= health.wants.entry(*prefix).or_default().set(unreached.contains(prefix), now);
        }
        if is_news {
            self.tend_owners(now);
        }
    }

    /// A session ends. One that carried packets until now was not idle: its peer stops, or is lost. Returns whether that is news.
    pub(super) fn note_owner_gone(&mut self, id: PeerId, reason: Disconnect, now: Instant) -> bool {
        let is_lost = matches!(reason, Disconnect::Closed | Disconnect::Expired) && self.carries(id, now);
        let health = self.owners.health.get_mut(&id).filter(|_| is_lost);
        health.is_some_and(|health| health.silence.set(true, now))
    }

    fn reach(&self) -> Control {
        Control::Reach { unreached: self.owners.unreached.iter().copied().collect() }
    }

    fn tell_reach(&mut self, now: Instant) {
        let told = self.live.iter().copied().filter(|id| self.peer(*id).is_some_and(|peer| peer.permission.is_ok()));
        let (told, reach): (Vec<PeerId>, Control) = (told.collect(), self.reach());
        told.into_iter().for_each(|id| self.send_control(id, &reach, now));
    }

    fn owner_status(&self, prefix: &IpNet, shared: &SharedPrefix, now: Instant) -> Vec<OwnerStatus> {
        let is_denied = |id: PeerId| self.peer(id).is_none_or(|peer| peer.permission.is_err());
        let status = |(priority, id): &(u16, PeerId)| {
            let condition = if is_denied(*id) { Condition::Denied } else { self.owners.condition(prefix, *id, now) };
            OwnerStatus { peer: *id, priority: *priority, condition }
        };
        shared.owners.iter().map(status).collect()
    }

    /// Returns whether anything changed.
    fn choose_owners(&mut self, now: Instant) -> bool {
        let shared = self.owners.prefixes.iter().filter(|(_, shared)| !shared.is_local);
        let choices: Vec<_> = shared
            .map(|(prefix, shared)| {
                let owners = self.owner_status(prefix, shared, now);
                (*prefix, choose(&owners, shared.chosen), owners)
            })
            .collect();
        let mut is_changed = false;
        for (prefix, owner, owners) in choices {
            let Some(shared) = self.owners.prefixes.get_mut(&prefix).filter(|shared| shared.chosen != owner) else {
                continue;
            };
            is_changed = true;
            if let Some(before) = std::mem::replace(&mut shared.chosen, owner) {
                let of_before = owners.iter().find(|owner| owner.peer == before);
                let condition = of_before.map_or(Condition::Works, |owner| owner.condition);
                self.emit(Event::OwnerChanged { prefix, owner, before, condition });
            }
        }
        is_changed
    }

    /// Routes every shared prefix to its choice. Packets that wait for one that lost its prefix go to the new one.
    fn publish_owners(&mut self) {
        let mut routes = Arc::clone(&self.table.routes);
        let table = Arc::make_mut(&mut routes);
        for (prefix, shared) in &self.owners.prefixes {
            let target = match (shared.is_local, shared.chosen, shared.owners.first()) {
                (true, ..) => Target::Local,
                (false, Some(id), _) => Target::Peer(id),
                (false, None, Some((_, id))) => Target::Denied(*id),
                (false, None, None) => continue,
            };
            let allowed = |id: &PeerId| self.peer(*id).is_some_and(|peer| peer.permission.is_ok());
            let owners = shared.owners.iter().map(|(_, id)| *id).filter(allowed);
            table.insert_shared(*prefix, target, owners.collect());
        }
        self.table.routes = routes;
        self.is_table_dirty = true;
        // Neighbours' routes follow who has the prefix.
        if !self.neighbours.is_empty() {
            self.emit(Event::NeighbourRoutes);
        }
    }

    /// Whether packets went to a peer, or came from it, just now, or wait for it.
    fn carries(&self, id: PeerId, now: Instant) -> bool {
        let Some(peer) = self.peer(id) else { return false };
        let stamps = peer.activity.as_ref().map(|activity| activity.stamps()).unwrap_or_default();
        let used = Instant::from_millis(stamps.tx_data.max(stamps.rx_data));
        let is_awaited = peer.live.as_ref().is_some_and(|live| !live.staging.is_empty());
        is_awaited || (used > Instant::ORIGIN && now - used < IN_USE)
    }

    fn note_silence(&mut self, id: PeerId, now: Instant) {
        let before = self.owners.health.get(&id).and_then(|health| health.silence.since());
        let Some(live) = self.peer(id).and_then(|peer| peer.live.as_ref()) else { return };
        let is_vain = live.attempt.as_ref().is_some_and(|attempt| now - attempt.since >= ATTEMPT);
        let is_silent = match (before, &live.current) {
            // Only an answer that is newer than the silence ends it.
            (Some(since), Some(_)) => !live.paths.proven_since(since, now),
            (Some(_), None) => true,
            (None, Some(_)) => !live.paths.has_active() || live.unanswered.is_some_and(|since| now - since >= SILENCE),
            (None, None) => is_vain,
        };
        let is_news = self.owners.health.get_mut(&id).is_some_and(|health| health.silence.set(is_silent, now));
        if is_news && is_silent {
            self.free_staged(id, now);
        }
    }

    /// Sends what waits for an owner that has fallen silent to whoever has its destination then.
    fn free_staged(&mut self, id: PeerId, now: Instant) {
        if self.choose_owners(now) {
            self.publish_owners();
        }
        let mut waiting = Vec::new();
        while let Some(staged) = self.peer_mut(id).and_then(|p| p.live.as_mut()).and_then(|live| live.staging.pop()) {
            waiting.push(staged);
        }
        for staged in waiting {
            self.handle_packet(staged.packet, staged.offload, now);
        }
    }

    /// Owners of prefixes in use that it is time to ask whether they live.
    fn owners_to_ask(&self, now: Instant) -> BTreeSet<PeerId> {
        let mut asked = BTreeSet::new();
        for (prefix, shared) in self.owners.prefixes.iter().filter(|(_, shared)| !shared.is_local) {
            // Replies may come by another owner than requests go to.
            if !shared.owners.iter().any(|(_, id)| self.carries(*id, now)) {
                continue;
            }
            for owner in self.owner_status(prefix, shared, now) {
                let pace = match owner.condition {
                    Condition::Denied => continue,
                    Condition::Works | Condition::Unreached(_) => ASK,
                    Condition::Returning(_) | Condition::Silent(_) => ASK_DOUBTFUL,
                };
                let asked_at = self.owners.health.get(&owner.peer).and_then(|health| health.asked_at);
                if asked_at.is_none_or(|at| now - at >= pace) {
                    asked.insert(owner.peer);
                }
            }
        }
        asked
    }

    fn ask_owner(&mut self, id: PeerId, now: Instant) {
        if let Some(health) = self.owners.health.get_mut(&id) {
            health.asked_at = Some(now);
        }
        // One that has restarted does not know the session any more.
        let is_silent = self.owners.health.get(&id).is_some_and(|health| health.silence.since().is_some());
        if is_silent || self.peer(id).is_none_or(|peer| peer.current().is_none()) {
            self.dial(id, now);
        }
        self.send_control(id, &Control::ReachQuestion, now);
        if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
            live.paths.touch(now);
            live.paths.question(now);
        }
        self.tend_paths(id, now);
    }
}
