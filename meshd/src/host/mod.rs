//! Side effects on this machine, each applied and undone in one place.

mod error;
mod journal;
mod netlink;
mod plan;
mod routes;
mod sysctl;
mod watch;
