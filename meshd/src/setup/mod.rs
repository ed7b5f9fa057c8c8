//! The first minutes of a node, without a daemon: its files, invitations, and joining a mesh by one.

pub(crate) mod enrol;
pub(crate) mod files;
pub(crate) mod invite;
pub(crate) mod machine;
mod text;

use proto::id::SecretKey;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// The community that `init` begins and that who is invited joins.
pub(crate) const COMMUNITY: &str = "all";

type Error = Box<dyn std::error::Error>;

/// A new private key.
///
/// # Errors
/// When the system gives no random bytes.
pub(crate) fn new_key() -> Result<SecretKey, Error> {
    Ok(SecretKey::from_bytes(*Zeroizing::new(random()?)))
}

/// Bytes of the system's generator.
fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| "the system gives no random bytes")?;
    Ok(bytes)
}
