//! Deterministic simulation: N meshd nodes in one process, on a virtual clock and virtual links, from one seed.
//!
//! What runs here is what runs in the daemon: [`proto::node::Node`] and the fast path's [`proto::data::Worker`]. Only the
//! shell is replaced: sockets by [`link`], TUN devices by queues, time by the [`world::World`]'s event queue. Equal seeds
//! give equal traces; a failing seed is a test case.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a scenario that is wrong should stop at once")]

pub mod host;
pub mod link;
pub mod packets;
pub mod world;
