//! What becomes of sessions when membership changes.

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Members;
use sim::link::Link;
use sim::world::World;

fn reload(world: &mut World, at: &EndpointName, members: &Members) {
    let now = world.now();
    world.host(at).node.handle_registry(members, now);
    world.step(at);
}

#[test]
fn two_endpoints_that_swap_their_keys_are_both_known_afterwards() {
    let (mut world, names) = World::mesh(201, Link::GOOD, 3);
    let (first, second) = (world.members.endpoints[1].public_key, world.members.endpoints[2].public_key);
    let mut swapped = world.members.clone();
    (swapped.endpoints[1].public_key, swapped.endpoints[2].public_key) = (second, first);
    reload(&mut world, &names[0], &swapped);
    for name in &names[1..] {
        world.send(name, &names[0], 1);
    }
    world.run_for(Duration::from_secs(1));
    assert!(world.host(&names[0]).node.strangers().is_empty());
}

#[test]
fn an_endpoint_that_was_renamed_is_still_known_by_its_key() {
    let (mut world, names) = World::mesh(202, Link::GOOD, 2);
    let mut renamed = world.members.clone();
    let name: EndpointName = "site.another".parse().unwrap();
    renamed.endpoints[1].name = name.clone();
    renamed.communities[0].members[1] = name;
    reload(&mut world, &names[0], &renamed);
    world.send(&names[1], &names[0], 1);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.numbers(&names[0]), [1]);
}

#[test]
fn a_reload_that_leaves_an_endpoint_as_it_was_leaves_its_resolved_addresses() {
    let (mut world, names) = World::mesh(203, Link::GOOD, 2);
    let (peer, now) = (world.peer(&names[0], &names[1]), world.now());
    let resolved: Vec<SocketAddr> = vec!["203.0.113.7:6374".parse().unwrap()];
    world.host(&names[0]).node.handle_candidates(peer, resolved.clone(), now);
    let mut members = world.members.clone();
    members.endpoints[1].zone = Some("north".into());
    reload(&mut world, &names[0], &members);
    assert_eq!(world.host(&names[0]).node.peer_status(peer).unwrap().candidates, resolved);
    members.endpoints[1].public_addresses[0].port = 7000;
    reload(&mut world, &names[0], &members);
    assert_ne!(world.host(&names[0]).node.peer_status(peer).unwrap().candidates, resolved);
}
