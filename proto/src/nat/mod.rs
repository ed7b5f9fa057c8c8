//! What a node behind a NAT learns of how it looks from outside.

mod awaited;
mod lifetime;
mod stun;

#[cfg(test)]
mod tests;

pub use awaited::Awaited;
pub(crate) use lifetime::{Lifetime, Silence};
pub use stun::{MAX_SERVERS, Stun, StunEvent};
