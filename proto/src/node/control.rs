//! Control messages inside a session: keepalives, probes, moves, goodbyes.

use std::time::Duration;

use rand_chacha::rand_core::Rng as _;

use super::Node;
use crate::event::{Disconnect, Event};
use crate::id::{PeerId, SessionIndex};
use crate::path::{Locator, SocketId};
use crate::peer::Probe;
use crate::session::OpenError;
use crate::stats::DropReason;
use crate::time::Instant;
use crate::wire::{Control, DataHeader, Flags, HEADER_LEN, MessageType};

/// Probes of one peer that wait for replies; more are refused.
const MAX_PROBES: usize = 32;

/// How long a probe waits for its reply.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a probe was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// There is no such peer.
    #[error("there is no such peer")]
    Unknown,
    /// Policy keeps it from us.
    #[error("not allowed: {0}")]
    Denied(crate::member::Denial),
    /// It has no address that we know.
    #[error("no address is known for it: it has no public_addresses, and has not contacted this node")]
    NoAddress,
    /// Too many probes wait for replies.
    #[error("too many probes wait for replies")]
    Busy,
}

impl Node {
    /// Sends a probe to a peer, after a handshake if there is no session; [`Event::ProbeReply`] answers with the token.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn probe(&mut self, id: PeerId, now: Instant) -> Result<u64, ProbeError> {
        let peer = self.peer(id).ok_or(ProbeError::Unknown)?;
        if let Err(denial) = peer.permission {
            return Err(ProbeError::Denied(denial));
        }
        let is_up = peer.current().is_some();
        if !is_up && self.is_hopeless(id) {
            return Err(ProbeError::NoAddress);
        }
        let token = self.rng.next_u64();
        let live = self.live_mut(id, now).ok_or(ProbeError::Unknown)?;
        if live.probes.len() >= MAX_PROBES {
            return Err(ProbeError::Busy);
        }
        live.probes.push(Probe { token, sent: is_up.then_some(now) });
        if is_up && live.paths.want(now) {
            self.send_candidates(id, now);
            self.tend_paths(id, now);
        }
        if is_up {
            self.send_control(id, &Control::Probe { token }, now);
        } else {
            self.dial(id, now);
        }
        Ok(token)
    }

    /// Says goodbye to every peer in session; for a clean stop. Nothing else should follow but draining the transmits.
    pub fn handle_shutdown(&mut self, now: Instant) {
        let live: Vec<PeerId> = self.live.iter().copied().collect();
        for id in live {
            self.send_control(id, &Control::Close, now);
            self.tear_down(id, now);
        }
    }

    /// Sends a control message on the session in use, to the peer's present address.
    pub(super) fn send_control(&mut self, id: PeerId, message: &Control, now: Instant) {
        if let Some(remote) = self.peer(id).and_then(|peer| peer.remote) {
            self.send_control_to(id, message, remote, now);
        }
    }

    pub(super) fn send_control_to(&mut self, id: PeerId, message: &Control, remote: Locator, now: Instant) {
        self.send_plaintext_to(id, &message.to_bytes(), remote, now);
    }

    /// Sends the bytes of a control message, perhaps padded.
    pub(super) fn send_plaintext_to(&mut self, id: PeerId, plaintext: &[u8], remote: Locator, now: Instant) {
        let Some(peer) = self.peer_mut(id) else { return };
        let activity = peer.activity();
        let current = peer.live.as_mut().and_then(|live| live.current.as_mut());
        let Some(lane) = current.and_then(|current| current.control.as_mut()) else { return };
        if let Ok(datagram) = lane.seal_vec(MessageType::Control, Flags::default(), plaintext) {
            activity.sent(0, 0, now);
            self.transmit(remote, datagram);
        }
    }

    pub(super) fn handle_control(&mut self, datagram: &[u8], source: Locator, now: Instant) -> Result<(), DropReason> {
        let header = DataHeader::parse(datagram).map_err(|_| DropReason::MalformedDatagram)?;
        let row = self.table.session(header.receiver).cloned().ok_or(DropReason::UnknownSession)?;
        let mut bytes = datagram.to_vec();
        let (len, is_newest) = {
            let mut lane = row.session.lane(header.lane).ok_or(DropReason::AuthenticationFailed)?;
            let len = lane.open(&header, &mut bytes).map_err(|error| match error {
                OpenError::Replayed => DropReason::Replayed,
                OpenError::Authentication => DropReason::AuthenticationFailed,
            })?;
            (len, lane.is_newest(header.counter))
        };
        let id = row.session.peer;
        if !row.session.is_confirmed() {
            self.handle_confirmed(header.receiver, source, now);
        }
        let message = bytes.get(HEADER_LEN..HEADER_LEN + len).and_then(Control::parse);
        if self.is_invited(id) {
            self.handle_invited(id, header.receiver, message, now);
            return Ok(());
        }
        let is_of_probing = matches!(message, Some(Control::Probe { .. } | Control::ProbeReply { .. }));
        // What stands by is probed as well: that it works is no sign of life of the path that the data takes.
        if !is_of_probing || self.peer(id).is_some_and(|peer| peer.remote == Some(source)) {
            row.activity.received(0, 0, now);
        }
        if is_of_probing && self.knows_path(id, source) {
            // Probes come by every path: that tells nothing of where the peer is.
            self.handle_probed(id, source, now);
        } else if is_newest || source.socket != SocketId::MAIN {
            self.handle_roamed(header.receiver, source, now);
        }
        match message {
            Some(Control::Probe { token }) => {
                let observed = source.channel.is_none().then_some(source.address);
                self.send_control_to(id, &Control::ProbeReply { token, observed }, source, now);
            }
            Some(Control::ProbeReply { token, observed }) => {
                let is_asked_for = self.handle_probe_reply(id, token, source, now);
                if let Some(address) = observed.filter(|_| is_asked_for) {
                    self.handle_observed(id, address, source, now);
                }
            }
            Some(Control::Echo { token, after }) => self.handle_echo(id, token, after, source, now),
            Some(Control::Close) => self.handle_close(id, header.receiver, now),
            Some(Control::Candidates { addresses }) => self.handle_peer_candidates(id, &addresses, now),
            Some(Control::NextMappings { forecast }) => self.handle_forecast(id, forecast, now),
            Some(Control::RelayOpen { target }) => self.handle_relay_open(id, &target, source, now),
            Some(Control::Spray { step, address }) => self.handle_spray(id, step, address, now),
            Some(Control::RelayOpened { channel, target, seen_at }) => {
                self.handle_relay_opened(id, channel, (&target, seen_at), source, now);
            }
            Some(Control::RelayRefused { target, reason }) => self.handle_relay_refused(id, &target, reason, now),
            Some(Control::DirectOffer { ready, addresses }) => self.handle_direct_offer(id, ready, addresses, now),
            Some(Control::DirectWithdraw) => self.handle_direct_withdraw(id, now),
            Some(Control::ReachQuestion) => self.handle_reach_question(id, now),
            Some(Control::Reach { unreached }) => self.handle_peer_reach(id, &unreached, now),
            Some(Control::WhyQuestion(question)) => self.handle_why_question(id, question, now),
            Some(Control::WhyAnswer(answer)) => self.handle_why_answer(id, answer, now),
            Some(Control::Enrolled { answer }) => self.handle_enrolled(id, answer),
            // Members have enrolled.
            Some(Control::Enrol { .. }) => {}
            // A keepalive has said all by being authentic; an unknown kind is of a later version.
            Some(Control::Keepalive) | None => {}
        }
        Ok(())
    }

    fn handle_close(&mut self, id: PeerId, index: SessionIndex, now: Instant) {
        // Only the session in use speaks for the peer; an older one ends by itself.
        if self.peer(id).and_then(|peer| peer.current()).is_some_and(|current| current.session.local == index) {
            self.disconnect(id, Disconnect::Closed, now);
            self.return_to(id, now);
        }
    }

    /// Returns whether it answers anything that was asked.
    fn handle_probe_reply(&mut self, id: PeerId, token: u64, source: Locator, now: Instant) -> bool {
        if self.handle_path_reply(id, token, source, now) || self.handle_echo_reply(id, token, now) {
            return true;
        }
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return false };
        let Some(position) = live.probes.iter().position(|probe| probe.token == token) else { return false };
        let probe = live.probes.remove(position);
        let rtt = now - probe.sent.unwrap_or(now);
        self.emit(Event::ProbeReply { peer: id, token, source, rtt });
        true
    }

    /// Sends the probes that waited for the session; returns whether there were any.
    pub(super) fn send_waiting_probes(&mut self, id: PeerId, now: Instant) -> bool {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return false };
        let mut tokens = Vec::new();
        for probe in live.probes.iter_mut().filter(|probe| probe.sent.is_none()) {
            probe.sent = Some(now);
            tokens.push(probe.token);
        }
        for token in &tokens {
            self.send_control(id, &Control::Probe { token: *token }, now);
        }
        !tokens.is_empty()
    }

    pub(super) fn expire_probes(&mut self, id: PeerId, now: Instant) {
        let Some(live) = self.peer_mut(id).and_then(|peer| peer.live.as_mut()) else { return };
        let connecting = live.attempt.is_some();
        live.probes.retain(|probe| probe.sent.map_or(connecting, |at| now - at < PROBE_TIMEOUT));
    }
}
