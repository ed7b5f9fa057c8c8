//! The handshake: `Noise_IKpsk2_25519_ChaChaPoly_SHA256` by snow, behind mac1, cookies and rate limits.
//!
//! The initiator knows the responder's static key from its records; one round trip later both have a [`Keys`] pair. Noise
//! is used up to the split only: transport keys are derived from it per suite and direction, and snow's own transport is
//! never touched (two users of one key and counter would reuse nonces).
//!
//! **Error contract.** A failed [`Initiated::accept`] gives the state back, as if the message had never come. A failed
//! [`Received::open`] leaves nothing behind.

mod cookie;
mod crypto;
mod initiator;
mod limiter;
mod responder;

use zeroize::Zeroizing;

pub(crate) use crypto::mac;

pub use cookie::{Cookie, CookieSecret, Mac1};
pub use initiator::Initiated;
pub use limiter::{Limiter, Verdict};
pub use responder::Received;

use crate::id::{MeshId, PresharedKey, PublicKey, SecretKey};
use crate::wire::{Capabilities, Suite, Suites};

/// Who this node is in every handshake.
#[derive(Clone)]
pub struct Identity {
    /// Static private key.
    pub secret: SecretKey,
    /// Its public half.
    pub public: PublicKey,
    /// The mesh; bound into the prologue.
    pub mesh: MeshId,
    /// Mixed in by `psk2`; all zeros where none is configured.
    pub psk: PresharedKey,
}

impl Identity {
    /// The identity of the holder of `secret` in `mesh`.
    #[must_use]
    pub fn new(secret: SecretKey, mesh: MeshId, psk: PresharedKey) -> Self {
        let public = secret.public_key();
        Self { secret, public, mesh, psk }
    }
}

/// What a node offers in a handshake and can receive afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Suites, any of which it would use.
    pub suites: Suites,
    /// What its data plane understands.
    pub capabilities: Capabilities,
    /// Lanes on which it may send.
    pub lanes: u8,
}

/// What two nodes agreed upon.
pub struct Agreement {
    /// Transport keys, already bound to suite and direction.
    pub keys: Keys,
    /// The one suite.
    pub suite: Suite,
    /// What the remote can receive.
    pub capabilities: Capabilities,
    /// Lanes on which the remote may send.
    pub lanes: u8,
}

/// Transport keys of one session. Wiped when dropped. A suite with 128-bit keys uses the first half of each.
pub struct Keys {
    /// Seals what we send.
    pub send: Zeroizing<[u8; 32]>,
    /// Opens what we receive.
    pub receive: Zeroizing<[u8; 32]>,
}

/// Why a handshake message led nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The message does not decrypt: it was not made for this node, mesh, version or pre-shared key, or is damaged.
    #[error("the message does not decrypt under this node's key, mesh name and pre-shared key")]
    Crypto,
    /// The two sides offer no suite in common.
    #[error("no cipher in common: this node offers {ours}, the peer {theirs}")]
    NoCommonSuite {
        /// What this node offers.
        ours: Suites,
        /// What the peer offers.
        theirs: Suites,
    },
    /// The responder chose a suite that it was not offered, or several.
    #[error("the responder chose a cipher that it was not offered")]
    SuiteNotOffered,
}

/// The suite that both offers allow and both sides run fastest: the first of [`Suite::ALL`] where both have an instruction
/// set for AES; otherwise ChaCha20-Poly1305 comes before the rest. Bits that this version does not know do not count.
///
/// # Errors
/// [`HandshakeError::NoCommonSuite`].
pub fn choose_suite(ours: Offer, suites: Suites, capabilities: Capabilities) -> Result<Suite, HandshakeError> {
    let common = ours.suites.common(suites);
    let fast_aes = ours.capabilities.contains(Capabilities::FAST_AES) && capabilities.contains(Capabilities::FAST_AES);
    let slow_aes = (!fast_aes).then_some(Suite::ChaCha20Poly1305);
    let mut order = slow_aes.into_iter().chain(Suite::ALL);
    let error = HandshakeError::NoCommonSuite { ours: ours.suites, theirs: suites };
    order.find(|suite| common.contains(*suite)).ok_or(error)
}

#[cfg(test)]
mod tests;
