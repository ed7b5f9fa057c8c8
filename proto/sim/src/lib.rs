//! Deterministic simulation: N meshd nodes in one process, on a virtual clock and virtual links, from one seed.
//!
//! What runs here is what runs in the daemon: [`proto::node::Node`] and the fast path's [`proto::data::Worker`]. Only
//! the shell is replaced: sockets by a [`network`] of [`link`]s, TUN devices by queues, time by the [`world::World`]'s
//! event queue. Equal seeds give equal traces; a failing seed is a test case.
//!
//! # Places
//!
//! Machines stand on the internet, each with an address of its own, or in sites. A site is what is behind one router:
//! private addresses that may be the same in other sites, a network in which its hosts reach each other directly, and a
//! [`nat`] towards its uplink, which is the internet or the site of a carrier. A receiver sees the source that the last
//! NAT made of it. Sites can be cut off and their NATs forget; machines can have several interfaces, move, and sleep.
//!
//! ```
//! use sim::link::Link;
//! use sim::nat::NatPlan;
//! use sim::network::{Interface, SitePlan};
//! use sim::world::World;
//! use proto::member::Kind;
//!
//! let mut world = World::new(1, Link::GOOD);
//! let site = world.add_site(SitePlan::behind(NatPlan::HOME));
//! let home = Interface { site, address: ([192, 168, 1, 10], 6374).into() };
//! let edge = world.add_endpoint_at("shop.edge1", Kind::Edge, &[home]);
//! let connector = world.add_endpoint("shop.connector", Kind::Connector);
//! world.start_all();
//! world.send(&edge, &connector, 7);
//! world.run_for(std::time::Duration::from_secs(1));
//! assert_eq!(world.numbers(&connector), [7]);
//! assert_eq!(world.nat_entries(site), 1);
//! ```
//!
//! # Scale
//!
//! A datagram costs a few look-ups in ordered maps, an idle machine nothing. For thousands of nodes set
//! [`World::recording`](world::World::recording) to [`Digest`](trace::Recording::Digest), and start each with the
//! members that it may talk to ([`World::start_with`](world::World::start_with)): all in all of them would be
//! quadratic.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a scenario that is wrong should stop at once")]

pub mod host;
pub mod link;
pub mod nat;
pub mod network;
pub mod packets;
mod run;
pub mod sites;
mod spray;
pub mod trace;
pub mod world;
