//! The Noise handshake.
pub(crate) mod crypto;
