//! How to reach a peer: where it may be ([`Origin`] says who told us), which of these places answer, and which of them carries the
//! data.
//!
//! A *candidate* is a [`Locator`] that may become a path; a *path* is one that has answered a probe inside the session, which
//! proves that the peer receives and sends there. Nothing is sent to a candidate but handshakes and probes, and of those a
//! bounded number, so that whoever names a victim's address as a candidate floods nobody.

mod agent;
mod locator;
mod mtu;
mod punch;
mod quality;
mod spray;
#[cfg(test)]
mod tests;

pub use agent::{Balance, MAX_WAYS, PathState, PathStatus};
pub(crate) use agent::{Change, Paths};
pub use locator::{Channel, Locator, Origin, PathKind, SocketId};
pub use mtu::{Fit, Fragments, LEAST_V6};
pub(crate) use punch::{Punching, VOLLEY};
pub(crate) use spray::{
    OFFER_PAUSE, PACE as SPRAY_PACE, SPRAY_PAUSE, SprayAllowance, VOLLEY as SPRAY_VOLLEY, WAIT as SPRAY_WAIT, ports,
};
pub use spray::{SPRAY_PROBES, SPRAY_SOCKETS, SprayEnd, SpraySide, SprayStatus};
