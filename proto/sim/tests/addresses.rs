//! A peer with several addresses.

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::{DEFAULT_PORT, Host, Kind, PublicAddress};
use proto::peer::PeerState;
use sim::link::Link;
use sim::world::World;

/// A pair of which the second has three addresses, and lives at the last.
fn three_addresses(seed: u64) -> (World, EndpointName, EndpointName) {
    let mut world = World::new(seed, Link::GOOD);
    let a = world.add_endpoint("site.edge1", Kind::Edge);
    let b = world.add_endpoint("site.edge2", Kind::Edge);
    world.add_community("all", &[a.clone(), b.clone()]);
    for last in [1, 2] {
        let host = Host::Ip([203, 0, 113, last].into());
        world.members.endpoints[1].public_addresses.push(PublicAddress { host, port: DEFAULT_PORT });
    }
    world.start_all();
    world.host(&b).interfaces[0].address = SocketAddr::from(([203, 0, 113, 2], DEFAULT_PORT));
    (world, a, b)
}

#[test]
fn every_address_of_a_peer_is_tried_as_often_as_an_only_one_would_be() {
    let (mut world, a, b) = three_addresses(106);
    world.set_cut(&b, true);
    world.send(&a, &b, 1);
    world.run_for(Duration::from_millis(900));
    world.set_cut(&b, false);
    world.run_for(Duration::from_millis(1500));
    assert_eq!(world.numbers(&b), [1]);
}

#[test]
fn a_peer_is_called_unreachable_only_after_three_tries_of_every_address() {
    let (mut world, a, b) = three_addresses(107);
    world.set_cut(&b, true);
    world.send(&a, &b, 1);
    world.run_for(Duration::from_secs(2));
    let peer = world.peer(&a, &b);
    assert_eq!(world.host(&a).node.peer_status(peer).unwrap().state, PeerState::Connecting);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.host(&a).node.peer_status(peer).unwrap().state, PeerState::Unreachable);
}

#[test]
fn a_cookie_is_used_at_the_address_that_demanded_it() {
    let mut world = World::new(304, Link::GOOD);
    let a = world.add_endpoint("site.edge1", Kind::Edge);
    let b = world.add_endpoint("site.edge2", Kind::Edge);
    world.add_community("all", &[a.clone(), b.clone()]);
    let dead = PublicAddress { host: Host::Ip([203, 0, 113, 1].into()), port: DEFAULT_PORT };
    world.members.endpoints[1].public_addresses.push(dead);
    world.start_all();
    let (to, key) = (world.home(&b), world.members.endpoints[1].public_key);
    for index in 0..1000u32 {
        let mut junk = vec![1, 0, 0, 0];
        junk.extend(index.to_le_bytes());
        junk.resize(120, index as u8);
        proto::handshake::Mac1::new(&key).append(&mut junk, None);
        world.inject(SocketAddr::from(([198, 51, 100, index as u8], 9)), to, junk);
    }
    world.run_for(Duration::from_millis(5));
    world.send(&a, &b, 1);
    world.run_for(Duration::from_millis(20));
    assert_eq!(world.numbers(&b), [1]);
}
