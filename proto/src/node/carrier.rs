//! Carriers: reaching relays over TLS where a network blocks UDP.
//!
//! What carries is the shell's: to the node a carrier is a socket of this machine, and what is sent there comes to the relay.
//! Nothing goes there while UDP answers, for the first datagram opens a connection. Channels of the relay are used through it as
//! they are, so a peer that was reached through the relay stays in its session when the relay is reached another way.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::Node;
use crate::event::Event;
use crate::id::PeerId;
use crate::path::{Channel, Locator, Origin};
use crate::peer::Carrier;
use crate::time::Instant;
use crate::timer::Timer;

/// How long UDP has the field to itself when a relay is dialled: longer than most round trips, and short enough that first
/// packets over TLS, with its two round trips more, arrive before anybody has noticed.
const CARRY_AFTER: Duration = Duration::from_millis(120);

impl Node {
    /// Takes the address of the socket that is carried to a relay over TLS, as [`Event::CarrierWanted`] asked for. `None`: there
    /// is none any more.
    pub fn handle_carrier(&mut self, id: PeerId, address: Option<SocketAddrV4>, now: Instant) {
        let Some(peer) = self.peer_mut(id).filter(|peer| peer.carrier != Carrier::None) else { return };
        peer.carrier = address.map_or(Carrier::Closed, Carrier::Open);
        if let Some(live) = &mut peer.live {
            live.paths.retain(Origin::Tls, |locator| Some(locator.address) == address.map(SocketAddr::V4));
        }
        if address.is_some() {
            self.carry(id, now);
            self.tend_paths(id, now);
        }
    }

    /// A connection of a carrier was lost: the relay may have been too, and its session with it.
    pub fn handle_carrier_lost(&mut self, id: PeerId, now: Instant) {
        let place = self.carried_place(id);
        if place.is_some() && self.peer(id).is_some_and(|peer| peer.remote == place) {
            self.question_relay(id, now);
        }
    }

    /// A handshake begins: if it is one with a relay that serves TLS, that is tried when UDP has had its time.
    pub(super) fn schedule_carry(&mut self, id: PeerId, now: Instant) {
        if self.peer(id).is_some_and(|peer| peer.carrier != Carrier::None) {
            self.timers.set(now + CARRY_AFTER, Timer::Carry(id));
        }
    }

    /// UDP has had its time.
    pub(super) fn handle_carry_due(&mut self, id: PeerId, now: Instant) {
        let attempt = self.peer(id).and_then(|peer| peer.live.as_ref()?.attempt.as_ref());
        if attempt.is_some_and(|attempt| now - attempt.since >= CARRY_AFTER) {
            self.carry(id, now);
        }
    }

    /// Tries a relay over TLS: by one more path of its session, or by the initiation that waits for its answer.
    pub(super) fn carry(&mut self, id: PeerId, now: Instant) {
        let Some(peer) = self.peer(id) else { return };
        let address = match peer.carrier {
            Carrier::None => return,
            Carrier::Closed => return self.emit(Event::CarrierWanted { peer: id }),
            Carrier::Open(address) => SocketAddr::V4(address),
        };
        let attempt = peer.live.as_ref().and_then(|live| live.attempt.as_ref());
        let waiting = attempt.map(|attempt| attempt.message.clone()).filter(|message| !message.is_empty());
        if peer.current().is_none() {
            return waiting.into_iter().for_each(|message| self.transmit(address.into(), message));
        }
        if let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) {
            live.paths.add(address.into(), Origin::Tls, now);
        }
    }

    /// Where an initiation goes over TLS when UDP has not answered.
    pub(super) fn carried_place(&self, id: PeerId) -> Option<Locator> {
        match self.peer(id)?.carrier {
            Carrier::Open(address) => Some(SocketAddr::V4(address).into()),
            Carrier::None | Carrier::Closed => None,
        }
    }

    /// A path does not answer: asks whether the relays still do that could carry around it, before they are needed.
    pub(super) fn question_relays(&mut self, id: PeerId, now: Instant) {
        let Some(name) = self.peer(id).filter(|_| self.has_carriers).map(|peer| peer.name.clone()) else { return };
        for relay in self.relays_for(id, &name) {
            if self.peer(relay).is_some_and(|relay| relay.carrier != Carrier::None) {
                self.question_relay(relay, now);
            }
        }
    }

    /// Asks a relay whether its path works: one that has restarted knows nothing of the session, and what it is asked for would be
    /// unanswered until new keys are due.
    pub(super) fn question_relay(&mut self, relay: PeerId, now: Instant) {
        let Some(peer) = self.peer_mut(relay) else { return };
        let live = peer.live.as_mut().filter(|live| live.current.is_some());
        // Relays are each other's relays: only a new question goes further.
        if live.is_some_and(|live| live.paths.question(now)) {
            self.tend_paths(relay, now);
        }
    }

    /// A relay answers over TLS: its channels can be used there, and what it was asked for and did not answer is asked there.
    pub(super) fn handle_carried(&mut self, relay: PeerId, source: Locator, now: Instant) {
        let Some(peer) = self.peer(relay).filter(|peer| peer.is_relay) else { return };
        if let Some(before) = peer.remote.filter(|before| *before != source) {
            self.readdress(relay, before.address, source, now);
        }
    }

    /// A relay is reached at another address: so are the channels that it has opened.
    pub(super) fn readdress(&mut self, relay: PeerId, from: SocketAddr, to: Locator, now: Instant) {
        let live: Vec<PeerId> = self.live.iter().copied().filter(|id| *id != relay).collect();
        for id in live {
            let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { continue };
            let of_relay = |(origin, known): (Origin, Locator)| {
                known.channel.filter(|_| origin == Origin::Relay && known.address == from)
            };
            let channels: Vec<Channel> = live.paths.candidates().filter_map(of_relay).collect();
            for channel in &channels {
                live.paths.add(Locator { channel: Some(*channel), ..to }, Origin::Relay, now);
            }
            let waits = live.asked.iter().any(|asked| asked.is_of(relay));
            if !channels.is_empty() {
                self.tend_paths(id, now);
            } else if waits {
                self.open_channel_at(relay, id, to, now);
            }
        }
    }

    /// Data goes through a relay over TLS: the session with the relay is in use as well, so that a better way to it is looked for.
    pub(super) fn touch_relay(&mut self, id: PeerId, now: Instant) {
        let paths = self.peer(id).and_then(|peer| peer.live.as_ref()).map(|live| &live.paths);
        let Some(carried) = paths.and_then(|paths| paths.carried_channel(now)) else { return };
        let is_there = |relay: &PeerId| self.peer(*relay).is_some_and(|peer| peer.remote == Some(carried));
        let relay = self.relays.iter().copied().find(is_there);
        let Some(relay) = relay else { return };
        if let Some(live) = self.peer_mut(relay).and_then(|peer| peer.live.as_mut()) {
            live.paths.touch(now);
        }
        self.watch(relay, now);
    }
}
