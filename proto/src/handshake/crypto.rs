//! Key arithmetic outside a handshake state.

use snow::resolvers::{CryptoResolver as _, DefaultResolver};

use crate::id::{PublicKey, SecretKey};

/// The X25519 public key of `secret` (RFC 7748 §6.1).
pub(crate) fn public_key(secret: &SecretKey) -> PublicKey {
    let mut bytes = [0; 32];
    if let Some(mut dh) = DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519) {
        dh.set(secret.as_bytes());
        bytes.copy_from_slice(dh.pubkey());
    }
    PublicKey(bytes)
}
