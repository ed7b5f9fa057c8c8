//! The initiating side: one message out, one in.

use snow::HandshakeState;

use super::crypto::{noise_state, transport_keys};
use super::{Agreement, HandshakeError, Identity, Offer};
use crate::id::{PublicKey, SessionIndex};
use crate::wire::{Initiation, InitiationPayload, NOISE_INITIATION_LEN, Response, ResponsePayload};

/// An initiation that waits for its response.
pub struct Initiated {
    // Boxed: the state is over a kilobyte, and peers without a handshake in flight should not carry it.
    state: Box<HandshakeState>,
    offer: Offer,
}

impl Initiated {
    /// Begins a handshake with the holder of `remote`; returns the state and the message, which still needs its macs.
    ///
    /// `seed` makes the ephemeral key: 32 fresh random bytes per call. `timestamp` is greater than in any initiation before.
    ///
    /// # Errors
    /// [`HandshakeError::Crypto`] where `remote` is no usable key.
    pub fn start(
        identity: &Identity,
        remote: &PublicKey,
        index: SessionIndex,
        timestamp: u64,
        offer: Offer,
        seed: [u8; 32],
    ) -> Result<(Self, Vec<u8>), HandshakeError> {
        let mut state = Box::new(noise_state(identity, Some(remote), seed)?);
        let Offer { suites, capabilities, lanes } = offer;
        let payload = InitiationPayload { timestamp, suites, capabilities, lanes };
        let mut noise = [0; NOISE_INITIATION_LEN];
        state.write_message(&payload.to_bytes(), &mut noise).map_err(|_| HandshakeError::Crypto)?;
        let message = Initiation { sender: index, noise: &noise }.to_bytes();
        Ok((Self { state, offer }, message))
    }

    /// Ends the handshake with the response to it.
    ///
    /// # Errors
    /// The state as it was, for the true response may still come, and why this one was none.
    pub fn accept(mut self, response: &Response<'_>) -> Result<Agreement, (Self, HandshakeError)> {
        let mut bytes = [0; 16];
        match self.state.read_message(response.noise, &mut bytes) {
            Ok(16) => {}
            Ok(_) | Err(_) => return Err((self, HandshakeError::Crypto)),
        }
        let chosen = ResponsePayload::parse(&bytes).filter(|payload| self.offer.suites.contains(payload.suite));
        let Some(ResponsePayload { suite, capabilities, lanes }) = chosen else {
            return Err((self, HandshakeError::SuiteNotOffered));
        };
        Ok(Agreement { keys: transport_keys(&mut self.state, suite), suite, capabilities, lanes })
    }
}
