//! What the handshake needs of cryptography: the Noise state with an injected generator, and keyed hashes.

use std::sync::LazyLock;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use ring::{digest, hkdf, hmac};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize as _, Zeroizing};

use super::{HandshakeError, Identity, Keys};
use crate::id::{PublicKey, SecretKey};
use crate::wire::Suite;

/// Names pattern and primitives (Noise §8).
pub(crate) const NOISE_NAME: &str = "Noise_IKpsk2_25519_ChaChaPoly_SHA256";

/// First part of the prologue: the version of this protocol. The mesh id follows it.
pub(crate) const PROLOGUE_LABEL: &[u8] = b"meshd v1";

static PARAMS: LazyLock<Option<NoiseParams>> = LazyLock::new(|| NOISE_NAME.parse().ok());

impl SecretKey {
    /// The public half (RFC 7748 §6.1).
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        if let Some(mut dh) = DefaultResolver.resolve_dh(&DHChoice::Curve25519) {
            dh.set(self.as_bytes());
            bytes.copy_from_slice(dh.pubkey());
        }
        PublicKey(bytes)
    }
}

/// A Noise state for the side that `remote` decides: an initiator knows it, a responder does not.
pub(crate) fn noise_state(
    identity: &Identity,
    remote: Option<&PublicKey>,
    seed: [u8; 32],
) -> Result<HandshakeState, HandshakeError> {
    let params = PARAMS.clone().ok_or(HandshakeError::Crypto)?;
    let mut prologue = PROLOGUE_LABEL.to_vec();
    prologue.extend(identity.mesh.0);
    let builder = Builder::with_resolver(params, Box::new(Resolver { seed: Zeroizing::new(seed) }))
        .local_private_key(identity.secret.as_bytes())
        .and_then(|builder| builder.psk(2, identity.psk.as_bytes()))
        .and_then(|builder| builder.prologue(&prologue))
        .map_err(|_| HandshakeError::Crypto)?;
    match remote {
        Some(key) => builder.remote_public_key(&key.0).and_then(Builder::build_initiator),
        None => builder.build_responder(),
    }
    .map_err(|_| HandshakeError::Crypto)
}

/// Transport keys from a finished handshake: HKDF (RFC 5869) over each half of the split, labelled with suite and direction,
/// so that a raw half is never itself a key, and keys of two suites have nothing in common.
pub(crate) fn transport_keys(state: &mut HandshakeState, suite: Suite) -> Keys {
    let (mut first, mut second) = state.dangerously_get_raw_split();
    let forward = derive(&first, suite, b"initiator to responder");
    let backward = derive(&second, suite, b"responder to initiator");
    first.zeroize();
    second.zeroize();
    if state.is_initiator() {
        Keys { send: forward, receive: backward }
    } else {
        Keys { send: backward, receive: forward }
    }
}

fn derive(half: &[u8; 32], suite: Suite, direction: &[u8]) -> Zeroizing<[u8; 32]> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"meshd v1 transport");
    let mut key = Zeroizing::new([0; 32]);
    let info: &[&[u8]] = &[&[suite.bit()], direction];
    // Neither call can fail: one block of output is asked for, and the buffer has its length.
    if let Ok(okm) = salt.extract(half).expand(info, hkdf::HKDF_SHA256) {
        let _ = okm.fill(key.as_mut_slice());
    }
    key
}

/// HMAC-SHA256 (RFC 2104), cut to 16 bytes.
pub(crate) fn mac(key: &hmac::Key, message: &[u8]) -> [u8; 16] {
    let tag = hmac::sign(key, message);
    let mut mac = [0; 16];
    mac.copy_from_slice(&tag.as_ref()[..16]);
    mac
}

/// An HMAC key from a label and a public key.
pub(crate) fn labelled_key(label: &[u8], key: &PublicKey) -> hmac::Key {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(&key.0);
    hmac::Key::new(hmac::HMAC_SHA256, context.finish().as_ref())
}

/// snow's own primitives with a generator that the core seeds, so that equal seeds give equal handshakes.
struct Resolver {
    seed: Zeroizing<[u8; 32]>,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(ChaCha20Rng::from_seed(*self.seed))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Seeded(ChaCha20Rng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}
