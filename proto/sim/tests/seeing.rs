//! What a node tells its operator: what was tried to reach a peer and how it failed, and who sees the node where.

use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use proto::node::{Answer, PeerDetail};
use proto::path::Origin;
use proto::peer::PeerState;
use proto::wire::RelayRefusal;
use sim::link::Link;
use sim::world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A connector, an edge that finds it, and an edge without an address that does not run.
fn lonely(seed: u64) -> (World, [EndpointName; 3]) {
    let mut world = World::new(seed, Link::GOOD);
    world.keepalive = Some(seconds(25));
    let names = [("hub.connector", Kind::Connector), ("hub.one", Kind::Edge), ("hub.two", Kind::Edge)];
    let names = names.map(|(name, kind)| world.add_endpoint(name, kind));
    world.add_community("edges", &names[1..]);
    let mut told = world.members.clone();
    told.endpoints.iter_mut().filter(|known| known.kind == Kind::Edge).for_each(|edge| edge.public_addresses.clear());
    for name in &names[..2] {
        world.start_with(name, &told);
        world.step(name);
    }
    world.run_for(seconds(2));
    (world, names)
}

fn detail(world: &mut World, at: &EndpointName, of: &EndpointName) -> Option<PeerDetail> {
    let (peer, now) = (world.peer(at, of), world.now());
    world.host(at).node.peer_detail(peer, now)
}

#[test]
fn what_the_relay_said_of_a_peer_that_is_not_there_is_known_after_the_handshake_is_given_up() {
    let (mut world, [hub, one, two]) = lonely(1);
    world.send(&one, &two, 1);
    world.run_for(seconds(2));
    let during = detail(&mut world, &one, &two).unwrap();
    let hub_id = world.peer(&one, &hub);
    let refused = |detail: &PeerDetail| {
        detail.asked.iter().any(|asked| asked.relay == hub_id && asked.answer == Answer::Refused(RelayRefusal::Absent))
    };
    assert!(refused(&during) && during.tries.as_ref().is_some_and(|tries| tries.ended.is_none()), "{during:?}");
    world.run_for(seconds(120));
    let after = detail(&mut world, &one, &two).unwrap();
    let tries = after.tries.as_ref().unwrap();
    assert!(refused(&after) && tries.count >= 3 && tries.ended.is_some(), "{after:?}");
    assert_eq!((after.session, after.places.len(), after.relays.clone()), (None, 0, vec![hub_id]));
}

#[test]
fn a_peer_that_is_cut_off_is_told_lost_since_its_last_sign_of_life_and_not_any_more_when_it_is_back() {
    let (mut world, names) = World::mesh(5, Link::GOOD, 2);
    let (one, two) = (names[0].clone(), names[1].clone());
    let since = |world: &mut World| {
        let peer = world.peer(&one, &two);
        world.host(&one).node.peer_status(peer).unwrap().disconnected_since
    };
    let talk = |world: &mut World, times: u64| {
        for number in 0..times {
            world.send(&one, &two, number);
            world.run_for(Duration::from_millis(250));
        }
    };
    talk(&mut world, 1);
    assert_eq!(since(&mut world), None);
    talk(&mut world, 20);
    let before = world.now();
    world.set_cut(&two, true);
    talk(&mut world, 20);
    let lost = since(&mut world).expect("it is lost after 5 s");
    assert!(lost <= before && before - lost < seconds(2), "{lost:?} {before:?}");
    talk(&mut world, 100);
    assert_eq!(since(&mut world), Some(lost));
    world.set_cut(&two, false);
    talk(&mut world, 12);
    assert_eq!(since(&mut world), None, "three seconds after it is back");
}

#[test]
fn a_session_is_told_with_its_age_its_probes_and_where_the_peer_sees_us() {
    let (mut world, [hub, one, _]) = lonely(2);
    let detail = detail(&mut world, &one, &hub).unwrap();
    let session = detail.session.unwrap();
    assert!(session.is_initiator && detail.tries.is_none(), "{detail:?}");
    let path = detail.paths.iter().find(|path| path.origin == Origin::Public).unwrap();
    assert!(path.probes > 0 && path.probed_at.is_some() && path.answered_at >= path.probed_at, "{path:?}");
    let (hub_id, home) = (world.peer(&one, &hub), world.home(&one));
    let node = &world.host(&one).node;
    assert!(node.observed().any(|seen| seen.by == hub_id && seen.address == home));
    assert_eq!((node.relays(), node.own_relays()), (&[hub_id][..], vec![hub_id]));
    assert_eq!(node.relay_at(path.locator.address), Some(hub_id));
}

#[test]
fn a_session_for_relaying_is_told_from_one_that_policy_allows() {
    let mut world = World::new(3, Link::GOOD);
    world.keepalive = Some(seconds(25));
    let hub = world.add_endpoint("hub.connector", Kind::Connector);
    let one = world.add_endpoint("away.one", Kind::Edge);
    let mut told = world.members.clone();
    told.endpoints.iter_mut().filter(|known| known.kind == Kind::Edge).for_each(|edge| edge.public_addresses.clear());
    for name in [&hub, &one] {
        world.start_with(name, &told);
        world.step(name);
    }
    world.run_for(seconds(2));
    for (at, of) in [(&one, &hub), (&hub, &one)] {
        let peer = world.peer(at, of);
        assert_eq!(world.host(at).node.peer_status(peer).unwrap().state, PeerState::RelayOnly);
    }
}

#[test]
fn a_relay_tells_for_whom_it_carries_and_how_much_and_keeps_the_sum_when_they_leave() {
    let (mut world, [hub, one, two]) = lonely(4);
    assert_eq!(world.host(&one).node.relaying().map(|relaying| relaying.channels), None, "an edge");
    let mut told = world.members.clone();
    told.endpoints.iter_mut().filter(|known| known.kind == Kind::Edge).for_each(|edge| edge.public_addresses.clear());
    world.start_with(&two, &told);
    world.step(&two);
    world.run_for(seconds(2));
    world.send(&one, &two, 1);
    world.run_for(seconds(1));
    let relaying = world.host(&hub).node.relaying().unwrap();
    let ids = [world.peer(&hub, &one), world.peer(&hub, &two)];
    let mut members: Vec<_> = relaying.members.iter().map(|member| (member.peer, member.channels)).collect();
    members.sort_unstable();
    assert_eq!((relaying.channels, members), (1, ids.map(|id| (id, 1)).to_vec()));
    let of = |id| relaying.members.iter().find(|member| member.peer == id).unwrap().account;
    let (first, second) = (of(ids[0]), of(ids[1]));
    assert!(first.sent.datagrams >= 2 && first.sent.bytes >= 152, "handshake and packet: {first:?}");
    assert_eq!((first.sent, first.received), (second.received, second.sent));
    assert_eq!(relaying.all.sent, relaying.all.received);
    let before = relaying.all;
    world.kill(&one);
    world.kill(&two);
    world.run_for(seconds(600));
    let after = world.host(&hub).node.relaying().unwrap();
    assert!(after.channels == 0 && after.members.is_empty(), "{after:?}");
    assert!(after.all.sent.datagrams >= before.sent.datagrams, "{after:?}");
}
