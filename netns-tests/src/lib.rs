//! The harness that drives the real `meshd` binary in network namespaces, rootless and in parallel.
//!
//! A test calls [`in_lab`]: its body then runs in a process of its own, inside fresh user, network, mount and PID
//! namespaces, so nothing it makes can reach the machine or outlive it. Inside, a [`Lab`] gives [`Host`]s (network
//! namespaces) and switches and routers between them, a [`Mesh`] gives keys and configuration files, and a [`Daemon`]
//! is one running `meshd up`.
//!
//! ```no_run
//! use netns_tests::{Family, Site, in_lab, ping};
//!
//! #[test]
//! fn members_ping_each_other() {
//!     in_lab(|lab| {
//!         let site = Site::new(lab, 2).with_members(1..=2);
//!         let _daemons = site.mesh.up_all();
//!         assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 3).lost(), 0);
//!     });
//! }
//! # fn main() {}
//! ```
//!
//! What is between hosts can be bad: a [`Link`](link::Link) is cut, narrow, slow or lossy, or closed to UDP, while
//! traffic runs over it. And hosts can stand behind NATs and firewalls: a [`Class`](nat::Class) says which, an
//! [`Internet`](nat::Internet) builds them out of nftables, [`Reflectors`](nat::measure::Reflectors) tell from outside
//! what they do, and [`Class::pairings`](nat::Class::pairings) is every case of two hosts.
//!
//! ```no_run
//! use netns_tests::nat::{Class, Internet, NatKind, Wall};
//! use netns_tests::in_lab;
//!
//! #[test]
//! fn two_shops_find_each_other() {
//!     in_lab(|lab| {
//!         let internet = Internet::new(lab);
//!         let (connector, _link) = internet.host("connector", 1);
//!         let one = internet.premises("one", Class::v4(NatKind::PortRestricted));
//!         let two = internet.premises("two", Class::dual(NatKind::SymmetricRandom, Wall::Firewall));
//!         let hosts = [one.host("till"), two.host("camera")];
//!         // … daemons in `connector.host` and in the hosts, and then:
//!         one.gateways[0].forget();
//!         one.last_gateway().set_outer("198.18.2.7".parse().unwrap());
//!         two.uplink.set_loss(20);
//!         two.uplink.set_delay(std::time::Duration::from_millis(300));
//!         internet.block_udp(&one.uplink, &two.uplink);
//!     });
//! }
//! # fn main() {}
//! ```
#![forbid(unsafe_code)]
// A harness that cannot go on has only one way to say so: the panic that fails the test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod binary;
pub mod daemon;
pub mod figure;
pub mod host;
pub mod inject;
pub mod lab;
pub mod link;
pub mod mesh;
pub mod nat;
pub mod neighbours;
pub mod openmetrics;
pub mod process;
pub mod relay;
pub mod sandbox;
pub mod service;
pub mod site;
pub mod sites;
pub mod snapshot;
pub mod status;
pub mod tap;
pub mod traffic;
pub mod wait;
pub mod ways;

pub use daemon::{Daemon, Family};
pub use figure::figure;
pub use host::{Done, Host};
pub use lab::{Lab, in_lab, in_lab_for, in_service_lab};
pub use mesh::Mesh;
pub use site::Site;
pub use snapshot::Snapshot;
pub use status::{Peer, Status};
pub use tap::Tap;
pub use traffic::{Stream, Transfer, ping, tcp_transfer, udp_exchange};
pub use wait::{observe, wait_for, wait_until};
