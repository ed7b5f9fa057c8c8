//! The meshd protocol as a pure machine.
//!
//! Bytes, events and `now` go in; bytes, events and a next deadline come out. Nothing here reads a clock, opens a
//! socket, spawns a thread or draws randomness of its own: the shell (the `meshd` crate) or the simulator (the `sim`
//! crate) supplies all of it, so equal seeds give equal traces.
#![forbid(unsafe_code)]

pub mod account;
mod address;
mod allowance;
mod bucket;
pub mod data;
pub mod event;
pub mod explain;
pub mod handshake;
pub mod id;
pub mod invitation;
pub mod lan;
pub mod member;
pub mod nat;
pub mod node;
pub mod owner;
pub mod packet;
pub mod path;
pub mod peer;
pub mod route;
pub mod session;
mod staging;
pub mod stats;
pub mod time;
pub mod timer;
pub mod wire;
