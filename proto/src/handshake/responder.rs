//! The responding side: one message in, one out.

use snow::HandshakeState;

use super::crypto::{noise_state, transport_keys};
use super::{Agreement, HandshakeError, Identity, Offer, choose_suite};
use crate::id::{PublicKey, SessionIndex};
use crate::wire::{Initiation, InitiationPayload, NOISE_RESPONSE_LEN, Response, ResponsePayload};

/// An initiation that decrypted: its sender holds the key `remote`, or replays somebody who did.
pub struct Received {
    state: Box<HandshakeState>,
    /// The initiator's static key.
    pub remote: PublicKey,
    /// What the initiator said; the caller checks that its timestamp is new.
    pub payload: InitiationPayload,
    sender: SessionIndex,
}

impl Received {
    /// Decrypts an initiation. Costs two scalar multiplications: check mac1 and the limits first.
    ///
    /// `seed` makes the ephemeral key of the response: 32 fresh random bytes per call.
    ///
    /// # Errors
    /// [`HandshakeError::Crypto`].
    pub fn open(identity: &Identity, initiation: &Initiation<'_>, seed: [u8; 32]) -> Result<Self, HandshakeError> {
        let mut state = Box::new(noise_state(identity, None, seed)?);
        let mut bytes = [0; 16];
        match state.read_message(initiation.noise, &mut bytes) {
            Ok(16) => {}
            Ok(_) | Err(_) => return Err(HandshakeError::Crypto),
        }
        let remote = state.get_remote_static().and_then(|key| <[u8; 32]>::try_from(key).ok());
        let remote = PublicKey(remote.ok_or(HandshakeError::Crypto)?);
        Ok(Self { state, remote, payload: InitiationPayload::parse(&bytes), sender: initiation.sender })
    }

    /// Answers; returns what was agreed and the message, which still needs its macs.
    ///
    /// # Errors
    /// [`HandshakeError::NoCommonSuite`], or [`HandshakeError::Crypto`] where the initiator's key is unusable.
    pub fn respond(mut self, index: SessionIndex, offer: Offer) -> Result<(Agreement, Vec<u8>), HandshakeError> {
        let suite = choose_suite(offer, self.payload.suites, self.payload.capabilities)?;
        let payload = ResponsePayload { suite, capabilities: offer.capabilities, lanes: offer.lanes };
        let mut noise = [0; NOISE_RESPONSE_LEN];
        self.state.write_message(&payload.to_bytes(), &mut noise).map_err(|_| HandshakeError::Crypto)?;
        let message = Response { sender: index, receiver: self.sender, noise: &noise }.to_bytes();
        let keys = transport_keys(&mut self.state, suite);
        let InitiationPayload { capabilities, lanes, .. } = self.payload;
        Ok((Agreement { keys, suite, capabilities, lanes }, message))
    }
}
