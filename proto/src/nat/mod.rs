//! What a node behind a NAT learns of how it looks from outside.

mod awaited;
mod class;
mod lifetime;
mod stun;

#[cfg(test)]
mod tests;

pub use awaited::Awaited;
pub(crate) use class::Sightings;
pub use class::{Forecast, NatClass};
pub(crate) use lifetime::{Lifetime, Silence};
pub use stun::{MAX_SERVERS, Stun, StunEvent};
