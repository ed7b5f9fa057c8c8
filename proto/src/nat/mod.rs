//! What a node behind a NAT learns of how it looks from outside.

mod awaited;
mod class;
mod stun;

#[cfg(test)]
mod tests;

pub use awaited::Awaited;
pub(crate) use class::Sightings;
pub use class::{Forecast, NatClass};
pub use stun::{MAX_SERVERS, Stun, StunEvent};
