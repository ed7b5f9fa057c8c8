//! What a node behind a NAT learns of how it looks from outside.

mod awaited;
mod stun;

#[cfg(test)]
mod tests;

pub use awaited::Awaited;
pub use stun::{MAX_SERVERS, Stun, StunEvent};
