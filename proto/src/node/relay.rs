//! Relays: asking one for a channel to a peer that may not be reached directly; and being one.
//!
//! A relay sees who talks to whom, and how much; what they say it cannot open. It carries between members that have a session
//! with it, whether or not policy lets them talk to the relay itself.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::rand_core::Rng as _;
use ring::digest;

use super::Node;
use crate::account::{Account, AccountStatus};
use crate::data::ChannelRow;
use crate::id::{EndpointName, PeerId, PublicKey};
use crate::member::Kind;
use crate::path::{Channel, Locator, Origin};
use crate::stats::Meter;
use crate::time::Instant;
use crate::wire::{Control, RelayRefusal};

/// Relays that are asked for one peer: enough that one may be down and another far away.
const MAX_RELAYS: usize = 3;

/// Relays that a node without a connector of its own keeps in touch with, for others to find it there, and to learn from what they
/// see what its NAT does.
const HOME_RELAYS: usize = 3;

/// How long an unanswered question to a relay is not repeated.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long a relay that refused is not asked again.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// Channels of one member at this relay: a site's gateway that talks to a thousand edges.
const MAX_OF_MEMBER: usize = 1024;

/// Channels of all members at this relay: a few MB.
const MAX_CHANNELS: usize = 32_768;

/// One direction between two members, at the relay.
pub(super) struct Leg {
    from: PeerId,
    to: PeerId,
    /// The channel of the other direction.
    back: Channel,
}

/// What a node does for others.
#[derive(Default)]
pub(super) struct Relaying {
    pub(super) legs: BTreeMap<Channel, Leg>,
    pub(super) by_pair: BTreeMap<(PeerId, PeerId), Channel>,
    pub(super) accounts: BTreeMap<PeerId, Arc<Account>>,
    /// Those of members that have left, together.
    pub(super) left: AccountStatus,
    /// What all members together may have carried; made with the first channel.
    total: Option<Arc<Meter>>,
}

/// What became of asking a relay for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Whom.
    pub relay: PeerId,
    /// When it was asked, or when it answered.
    pub at: Instant,
    /// What it said.
    pub answer: Answer,
}

/// What a relay says when it is asked for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet; it may not even be connected.
    Awaited,
    /// The channel is there.
    Opened,
    /// There is none, or no longer.
    Refused(RelayRefusal),
}

impl Asked {
    pub(super) fn is_of(&self, relay: PeerId) -> bool {
        self.relay == relay
    }
}

impl Node {
    /// Asks relays for channels to a peer, those first that the peer is likely to be connected to.
    pub(super) fn seek_relays(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer(id) else { return };
        let (name, key) = (peer.name.clone(), peer.key);
        let relays = self.relays_for(id, &name);
        for relay in relays {
            let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
            let pause =
                |asked: &Asked| if matches!(asked.answer, Answer::Refused(_)) { REFUSED_FOR } else { ASK_AGAIN };
            if live.asked.iter().any(|asked| asked.relay == relay && now - asked.at < pause(asked)) {
                continue;
            }
            live.asked.retain(|asked| asked.relay != relay);
            live.asked.push(Asked { relay, at: now, answer: Answer::Awaited });
            if self.peer(relay).is_some_and(|relay| relay.current().is_some()) {
                self.send_control(relay, &Control::RelayOpen { target: key }, now);
                self.question_relay(relay, now);
            } else {
                // Asked as soon as it is connected.
                self.dial(relay, now);
            }
        }
    }

    /// A session with a relay came up: what was to be asked of it is asked now.
    pub(super) fn ask_relay(&mut self, relay: PeerId, now: Instant) {
        let waits = |id: &PeerId| {
            let live = self.peer(*id).and_then(|peer| peer.live.as_ref());
            live.is_some_and(|live| live.asked.iter().any(|asked| asked.relay == relay))
        };
        let waiting: Vec<PeerId> = self.live.iter().copied().filter(waits).collect();
        for id in waiting {
            if let Some(target) = self.peer(id).map(|peer| peer.key) {
                self.send_control(relay, &Control::RelayOpen { target }, now);
            }
        }
    }

    /// Asks a relay for a channel to a peer at one of its places.
    pub(super) fn open_channel_at(&mut self, relay: PeerId, id: PeerId, place: Locator, now: Instant) {
        if let Some(target) = self.peer(id).map(|peer| peer.key) {
            self.send_control_to(relay, &Control::RelayOpen { target }, place, now);
        }
    }

    /// A relay has opened a channel: one more candidate. An initiation that waits for its answer goes there at once.
    pub(super) fn handle_relay_opened(
        &mut self,
        relay: PeerId,
        channel: Channel,
        (target, seen_at): (&PublicKey, Option<Ipv4Addr>),
        source: Locator,
        now: Instant,
    ) {
        // Over TLS it may answer before the data goes there.
        let carried = Some(source.address).filter(|_| source.is_carried());
        let Some(address) = self.relay_address(relay).map(|address| carried.unwrap_or(address)) else { return };
        let Some(id) = self.by_key.get(&self.peers, target).filter(|id| *id != relay) else { return };
        let locator = Locator { channel: Some(channel), ..Locator::from(address) };
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        live.seen_at = seen_at.or(live.seen_at);
        // The relay's address may have changed, or it has forgotten the channel before.
        live.paths.retain(Origin::Relay, |known| known.address != address || known == locator);
        live.paths.add(locator, Origin::Relay, now);
        note_answer(&mut live.asked, relay, Answer::Opened, now);
        let waiting =
            live.attempt.as_ref().map(|attempt| attempt.message.clone()).filter(|message| !message.is_empty());
        if let Some(message) = waiting {
            self.transmit(locator, message);
        }
        self.send_offer(id, now);
        self.tend_paths(id, now);
    }

    /// A relay has no channel to a peer, or no longer.
    pub(super) fn handle_relay_refused(
        &mut self,
        relay: PeerId,
        target: &PublicKey,
        reason: RelayRefusal,
        now: Instant,
    ) {
        let Some(address) = self.relay_address(relay) else { return };
        let Some(id) = self.by_key.get(&self.peers, target) else { return };
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        live.paths.retain(Origin::Relay, |known| known.address != address);
        note_answer(&mut live.asked, relay, Answer::Refused(reason), now);
        self.tend_paths(id, now);
    }

    /// Whether a peer may have a session with us for relaying only.
    pub(super) fn may_relay(&self, id: PeerId) -> bool {
        let is_relay = self.settings.relay.is_some() || self.peer(id).is_some_and(|peer| peer.is_relay);
        is_relay && !self.is_invited(id)
    }

    /// The relays where a node can be found that has no address to dial: its site's connectors, or a few that everybody finds
    /// alike.
    pub(super) fn home_relays(&self, name: &EndpointName) -> Vec<PeerId> {
        let relays = || self.relays.iter().copied();
        let is_own = |id: &PeerId| self.peer(*id).is_some_and(|peer| peer.name.cluster() == name.cluster());
        let is_connector = |id: &PeerId| self.peer(*id).is_some_and(|peer| peer.kind == Kind::Connector);
        let own: Vec<PeerId> = relays().filter(is_own).filter(is_connector).collect();
        if !own.is_empty() {
            return own;
        }
        // Highest random weight (Thaler and Ravishankar 1998): the same for all, and each relay has its share.
        let mut weighted: Vec<_> = relays().filter_map(|id| Some((weight(name, &self.peer(id)?.name), id))).collect();
        weighted.sort_unstable();
        weighted.into_iter().rev().take(HOME_RELAYS).map(|(_, id)| id).collect()
    }

    pub(super) fn relays_for(&self, id: PeerId, name: &EndpointName) -> Vec<PeerId> {
        let own = self.home_relays(&self.settings.name);
        let mut relays = self.home_relays(name);
        relays.extend(own.into_iter().filter(|relay| !relays.contains(relay)).collect::<Vec<_>>());
        relays.retain(|relay| *relay != id);
        relays.truncate(MAX_RELAYS);
        relays
    }

    /// Where a relay is reached; a relay behind a relay is none.
    pub(super) fn relay_address(&self, relay: PeerId) -> Option<SocketAddr> {
        let relay = self.peer(relay).filter(|peer| peer.is_relay)?;
        relay.remote.filter(|remote| remote.channel.is_none()).map(|remote| remote.address)
    }

    /// A member wants a channel to another.
    pub(super) fn handle_relay_open(&mut self, from: PeerId, target: &PublicKey, asked_at: Locator, now: Instant) {
        match self.open_channel(from, target) {
            Ok((channel, to, back)) => {
                let Some(source) = self.peer(from).map(|peer| peer.key) else { return };
                let (asked, asking) = (self.seen_at(to, now), self.seen_at(from, now));
                let opened = Control::RelayOpened { channel, target: *target, seen_at: asked };
                self.send_control_to(from, &opened, asked_at, now);
                self.send_control(to, &Control::RelayOpened { channel: back, target: source, seen_at: asking }, now);
            }
            Err(reason) => {
                self.send_control_to(from, &Control::RelayRefused { target: *target, reason }, asked_at, now);
            }
        }
    }

    fn open_channel(&mut self, from: PeerId, target: &PublicKey) -> Result<(Channel, PeerId, Channel), RelayRefusal> {
        let rates = self.settings.relay.ok_or(RelayRefusal::NoRelay)?;
        let to = self.by_key.get(&self.peers, target).filter(|to| *to != from).ok_or(RelayRefusal::Absent)?;
        let is_here = |id| self.peer(id).is_some_and(|peer| peer.current().is_some()) && !self.is_invited(id);
        if !is_here(to) || !is_here(from) {
            return Err(RelayRefusal::Absent);
        }
        let pair = |relaying: &Relaying| {
            let channel = *relaying.by_pair.get(&(from, to))?;
            Some((channel, to, relaying.legs.get(&channel)?.back))
        };
        if let Some(known) = pair(&self.relaying) {
            return Ok(known);
        }
        let of_member = |id| self.relaying.by_pair.range((id, PeerId(0))..=(id, PeerId(u32::MAX))).count();
        if self.relaying.legs.len() >= MAX_CHANNELS
            || of_member(from) >= MAX_OF_MEMBER
            || of_member(to) >= MAX_OF_MEMBER
        {
            return Err(RelayRefusal::Full);
        }
        let channel = self.fresh_channel();
        let back = self.fresh_channel();
        for (id, from, to, back) in [(channel, from, to, back), (back, to, from, channel)] {
            self.relaying.legs.insert(id, Leg { from, to, back });
            self.relaying.by_pair.insert((from, to), id);
            self.relaying.accounts.entry(from).or_insert_with(|| Arc::new(Account::new(rates.member)));
        }
        self.relaying.total.get_or_insert_with(|| Arc::new(Meter::new(rates.total)));
        self.publish_channel(channel);
        self.publish_channel(back);
        Ok((channel, to, back))
    }

    /// A random channel that is nobody's, taken in the table.
    fn fresh_channel(&mut self) -> Channel {
        loop {
            let channel = Channel(self.rng.next_u32());
            if self.table.is_free_channel(channel) {
                self.table.set_channel(channel, None);
                return channel;
            }
        }
    }

    /// Carries as much as the settings say from now on, which may be nothing.
    pub(super) fn renew_rates(&mut self, now: Instant) {
        let Some(rates) = self.settings.relay else {
            let members: Vec<PeerId> = self.relaying.accounts.keys().copied().collect();
            return members.into_iter().for_each(|id| self.close_channels(id, now));
        };
        self.relaying.total.iter().for_each(|total| total.set_rate(rates.total));
        self.relaying.accounts.values().for_each(|account| account.set_rate(rates.member));
    }

    /// A member has left: its channels end, and those at their other ends are told.
    pub(super) fn close_channels(&mut self, id: PeerId, now: Instant) {
        let of_member = self.relaying.by_pair.range((id, PeerId(0))..=(id, PeerId(u32::MAX)));
        let pairs: Vec<(PeerId, Channel)> = of_member.map(|((_, to), channel)| (*to, *channel)).collect();
        if let Some(account) = self.relaying.accounts.remove(&id) {
            self.relaying.left += account.status();
        }
        if pairs.is_empty() {
            return;
        }
        let key = self.peer(id).map(|peer| peer.key);
        for (to, channel) in pairs {
            if let Some(leg) = self.relaying.legs.remove(&channel) {
                self.relaying.legs.remove(&leg.back);
                self.table.remove_channel(leg.back);
            }
            self.table.remove_channel(channel);
            self.relaying.by_pair.remove(&(id, to));
            self.relaying.by_pair.remove(&(to, id));
            if let Some(target) = key {
                self.send_control(to, &Control::RelayRefused { target, reason: RelayRefusal::Absent }, now);
            }
        }
        self.is_table_dirty = true;
    }

    /// A member is reached elsewhere: what it sends comes from there, and what it gets goes there.
    pub(super) fn move_channels(&mut self, id: PeerId) {
        let of_member = self.relaying.by_pair.range((id, PeerId(0))..=(id, PeerId(u32::MAX)));
        let channels: Vec<Channel> = of_member.map(|(_, channel)| *channel).collect();
        for channel in channels {
            let back = self.relaying.legs.get(&channel).map(|leg| leg.back);
            self.publish_channel(channel);
            back.into_iter().for_each(|back| self.publish_channel(back));
        }
    }

    /// Tells the workers how to relay one direction, from what is known of its ends now.
    fn publish_channel(&mut self, channel: Channel) {
        let Some(leg) = self.relaying.legs.get(&channel) else { return };
        let address = |id: PeerId| self.peer(id)?.remote.filter(|r| r.channel.is_none()).map(|r| r.address);
        // A member may send by another path than we do, and while it moves by both.
        let sources = |id: PeerId| Some(self.peer(id)?.live.as_ref()?.paths.sources().collect());
        let row = || {
            let account = |id: PeerId| self.relaying.accounts.get(&id).cloned();
            let (sender, receiver, total) = (account(leg.from)?, account(leg.to)?, self.relaying.total.clone()?);
            let (from, to, channel) = (sources(leg.from)?, address(leg.to)?, leg.back);
            Some(Arc::new(ChannelRow { from, to, channel, sender, receiver, total }))
        };
        let row = row();
        self.table.set_channel(channel, row);
        self.is_table_dirty = true;
    }
}

fn note_answer(all: &mut [Asked], relay: PeerId, answer: Answer, now: Instant) {
    for asked in all.iter_mut().filter(|asked| asked.relay == relay) {
        (asked.at, asked.answer) = (now, answer);
    }
}

pub(super) fn weight(name: &EndpointName, relay: &EndpointName) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(name.as_str().as_bytes());
    context.update(b" at ");
    context.update(relay.as_str().as_bytes());
    context.finish().as_ref().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
