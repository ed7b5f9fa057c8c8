//! How to reach a peer: where it may be ([`Origin`] says who told us), which of these places answer, and which of them carries the
//! data.
//!
//! A *candidate* is a [`Locator`] that may become a path; a *path* is one that has answered a probe inside the session, which
//! proves that the peer receives and sends there. Nothing is sent to a candidate but handshakes and probes, and of those a
//! bounded number, so that whoever names a victim's address as a candidate floods nobody.

mod agent;
mod allowance;
mod locator;
mod mtu;
mod punch;
mod quality;
#[cfg(test)]
mod tests;

pub(crate) use agent::{Change, Paths};
pub use agent::{PathState, PathStatus};
pub(crate) use allowance::Allowance;
pub use locator::{Channel, Locator, Origin, PathKind};
pub use mtu::{Fit, Fragments, LEAST_V6};
pub(crate) use punch::{Punching, VOLLEY};
