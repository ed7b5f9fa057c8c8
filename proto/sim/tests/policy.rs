//! What must not get in: strangers, members without a community, forgers, replays, floods.

use std::net::SocketAddr;
use std::time::Duration;

use proto::event::{Event, Refusal};
use proto::handshake::Mac1;
use proto::id::EndpointName;
use proto::member::{Denial, Kind};
use proto::peer::PeerState;
use proto::stats::DropReason;
use sim::link::Link;
use sim::packets;
use sim::world::World;

struct Site {
    world: World,
    connector: EndpointName,
    edge1: EndpointName,
    edge2: EndpointName,
    outsider: EndpointName,
}

/// Two edges in a community, one outside it, and their connector.
fn site(seed: u64) -> Site {
    let mut world = World::new(seed, Link::GOOD);
    let connector = world.add_endpoint("site.connector", Kind::Connector);
    let edge1 = world.add_endpoint("site.edge1", Kind::Edge);
    let edge2 = world.add_endpoint("site.edge2", Kind::Edge);
    let outsider = world.add_endpoint("site.edge3", Kind::Edge);
    world.add_community("edges", &[edge1.clone(), edge2.clone()]);
    world.start_all();
    Site { world, connector, edge1, edge2, outsider }
}

impl Site {
    fn drops(&mut self, at: &EndpointName, reason: DropReason) -> u64 {
        self.world.host(at).node.drops().get(reason)
    }

    fn connected(&mut self) {
        let (a, b) = (self.edge1.clone(), self.edge2.clone());
        self.world.send(&a, &b, 1);
        self.world.run_for(Duration::from_secs(1));
        assert_eq!(self.world.numbers(&b), [1]);
    }

    /// Datagrams of a type between two endpoints so far.
    fn captured(&self, from: &EndpointName, to: &EndpointName, kind: u8) -> Vec<Vec<u8>> {
        let (from, to) = (self.world.home(from), self.world.home(to));
        let seen = self.world.wire.iter().filter(|(_, source, destination, _)| *source == from && *destination == to);
        seen.map(|(.., datagram)| datagram.clone()).filter(|datagram| datagram[0] == kind).collect()
    }
}

#[test]
fn edges_without_a_community_exchange_not_one_datagram_and_both_reach_their_connector() {
    let mut site = site(1);
    let (edge, outsider, connector) = (site.edge1.clone(), site.outsider.clone(), site.connector.clone());
    site.world.send(&edge, &outsider, 1);
    site.world.send(&outsider, &edge, 2);
    site.world.run_for(Duration::from_secs(10));
    assert!(site.world.wire.is_empty());
    assert_eq!(site.drops(&edge, DropReason::Denied), 1);
    let peer = site.world.peer(&edge, &outsider);
    assert_eq!(site.world.host(&edge).node.peer_status(peer).unwrap().state, PeerState::Denied);
    site.world.send(&edge, &connector, 3);
    site.world.send(&outsider, &connector, 4);
    site.world.run_for(Duration::from_secs(1));
    assert_eq!(site.world.numbers(&connector), [3, 4]);
}

#[test]
fn a_member_that_claims_a_community_it_is_not_in_is_refused_with_the_reason() {
    let mut site = site(2);
    let mut lie = site.world.members.clone();
    lie.communities[0].members.push(site.outsider.clone());
    let (edge, liar) = (site.edge1.clone(), site.outsider.clone());
    site.world.start_with(&liar, &lie);
    site.world.send(&liar, &edge, 1);
    site.world.run_for(Duration::from_secs(10));
    assert!(site.world.numbers(&edge).is_empty());
    assert!(site.captured(&edge, &liar, 2).is_empty(), "not even a response");
    assert!(site.drops(&edge, DropReason::HandshakeNotAllowed) >= 3);
    let peer = site.world.peer(&edge, &liar);
    let refusal = Refusal::Denied(Denial::NoCommonCommunity);
    let host = site.world.host(&edge);
    let said: Vec<_> = host
        .events
        .iter()
        .filter(|(_, e)| matches!(e, Event::Refused { peer: Some(p), reason, .. } if *p == peer && *reason == refusal))
        .collect();
    assert_eq!(said.len(), 1, "said once, however often it tries");
    assert!(host.node.peer_status(peer).unwrap().refused.unwrap().2 >= 3, "but counted each time");
}

#[test]
fn a_stranger_who_knows_our_key_is_refused_and_remembered() {
    let mut site = site(3);
    let mut lie = site.world.members.clone();
    let (edge, stranger) = (site.edge1.clone(), site.outsider.clone());
    lie.communities[0].members.push(stranger.clone());
    let mut without = site.world.members.clone();
    without.endpoints.retain(|endpoint| endpoint.name != stranger);
    site.world.start_with(&edge, &without);
    site.world.start_with(&stranger, &lie);
    site.world.send(&stranger, &edge, 1);
    site.world.run_for(Duration::from_secs(10));
    assert!(site.captured(&edge, &stranger, 2).is_empty());
    assert!(site.drops(&edge, DropReason::HandshakeUnknownKey) >= 3);
    let strangers = site.world.host(&edge).node.strangers().to_vec();
    assert_eq!(strangers.len(), 1);
    assert!(strangers[0].count >= 3);
}

#[test]
fn a_member_that_forges_another_ones_inner_source_gets_nothing_in() {
    let mut site = site(4);
    site.connected();
    let (victim, forger, other) = (site.edge2.clone(), site.edge1.clone(), site.connector.clone());
    // A forger's own node would drop this for its foreign source; this one believes that the address is its own.
    let mut lie = site.world.members.clone();
    let stolen = site.world.inner(&other);
    lie.endpoints[0].addresses[0] = "10.99.200.1".parse().unwrap();
    lie.endpoints[1].addresses.push(stolen);
    site.world.start_with(&forger, &lie);
    let packet = packets::numbered(stolen, site.world.inner(&victim), 66, 100);
    site.world.host(&forger).send_packet(packet);
    site.world.step(&forger);
    site.world.send(&forger, &victim, 2);
    site.world.run_for(Duration::from_secs(3));
    assert_eq!(site.world.numbers(&victim), [1, 2]);
    assert_eq!(site.drops(&victim, DropReason::ForgedSource), 1);
}

#[test]
fn a_packet_to_a_prefix_that_was_not_announced_is_dropped_at_the_receiver() {
    let mut site = site(5);
    let (receiver, sender) = (site.edge2.clone(), site.edge1.clone());
    let mut lie = site.world.members.clone();
    lie.endpoints[2].subnets.push("172.16.0.0/16".parse().unwrap());
    site.world.start_with(&sender, &lie);
    let packet = packets::numbered(site.world.inner(&sender), "172.16.0.5".parse().unwrap(), 9, 100);
    site.world.host(&sender).send_packet(packet);
    site.world.step(&sender);
    site.world.run_for(Duration::from_secs(2));
    assert!(site.world.numbers(&receiver).is_empty());
    assert_eq!(site.drops(&receiver, DropReason::NotAnnounced), 1);
}

#[test]
fn replayed_flipped_truncated_and_random_datagrams_change_nothing_and_are_counted() {
    let mut site = site(6);
    site.connected();
    let (a, b) = (site.edge1.clone(), site.edge2.clone());
    for number in 2..10 {
        site.world.send(&a, &b, number);
        site.world.run_for(Duration::from_millis(10));
    }
    let (from, to) = (site.world.home(&a), site.world.home(&b));
    let data = site.captured(&a, &b, 4);
    let attacker: SocketAddr = "203.0.113.66:1".parse().unwrap();
    for datagram in &data {
        site.world.inject(attacker, to, datagram.clone());
        let mut flipped = datagram.clone();
        *flipped.last_mut().unwrap() ^= 1;
        flipped[8] ^= 0x80; // another, unused counter
        site.world.inject(from, to, flipped);
        let mut unknown = datagram.clone();
        unknown[4] ^= 1;
        site.world.inject(from, to, unknown);
        site.world.inject(from, to, datagram[..20].to_vec());
        site.world.inject(from, to, vec![0xee; 100]);
    }
    site.world.run_for(Duration::from_secs(1));
    let n = data.len() as u64;
    assert!(n >= 8);
    assert_eq!(site.drops(&b, DropReason::Replayed), n);
    assert_eq!(site.drops(&b, DropReason::AuthenticationFailed), n);
    assert_eq!(site.drops(&b, DropReason::UnknownSession), n);
    assert_eq!(site.drops(&b, DropReason::MalformedDatagram), n);
    assert_eq!(site.drops(&b, DropReason::UnknownType), n);
    site.world.send(&a, &b, 10);
    site.world.run_for(Duration::from_secs(1));
    assert_eq!(site.world.numbers(&b), (1..=10).collect::<Vec<_>>());
    let peer = site.world.peer(&b, &a);
    assert_eq!(site.world.host(&b).node.peer_status(peer).unwrap().path, Some(from.into()), "nobody was moved");
}

#[test]
fn a_replayed_initiation_is_refused_and_disturbs_nobody() {
    let mut site = site(7);
    site.connected();
    let (a, b) = (site.edge1.clone(), site.edge2.clone());
    let initiation = site.captured(&a, &b, 1).remove(0);
    let attacker: SocketAddr = "203.0.113.66:1".parse().unwrap();
    let to = site.world.home(&b);
    site.world.inject(attacker, to, initiation);
    site.world.run_for(Duration::from_secs(1));
    assert_eq!(site.drops(&b, DropReason::HandshakeReplayed), 1);
    site.world.send(&a, &b, 2);
    site.world.send(&b, &a, 3);
    site.world.run_for(Duration::from_secs(1));
    assert_eq!((site.world.numbers(&b), site.world.numbers(&a)), (vec![1, 2], vec![3]));
}

#[test]
fn copying_a_peers_newest_datagram_from_elsewhere_does_not_move_it() {
    let mut site = site(8);
    site.connected();
    let (a, b) = (site.edge1.clone(), site.edge2.clone());
    let (from, to) = (site.world.home(&a), site.world.home(&b));
    // The attacker holds the original back and sends the copy first.
    site.world.set_cut(&b, true);
    site.world.send(&a, &b, 2);
    site.world.run_for(Duration::from_millis(10));
    site.world.set_cut(&b, false);
    let newest = site.captured(&a, &b, 4).pop().unwrap();
    let attacker: SocketAddr = "203.0.113.66:1".parse().unwrap();
    site.world.inject(attacker, to, newest);
    site.world.run_for(Duration::from_millis(500));
    // It arrives, for it is authentic; and the attacker is asked whether it is the peer, in one small datagram.
    assert_eq!(site.world.numbers(&b), [1, 2]);
    let to_attacker: Vec<usize> =
        site.world.wire.iter().filter(|(_, _, d, _)| *d == attacker).map(|(.., bytes)| bytes.len()).collect();
    assert!(to_attacker.iter().sum::<usize>() < 140, "no amplification: {to_attacker:?}");
    let peer = site.world.peer(&b, &a);
    assert_eq!(site.world.host(&b).node.peer_status(peer).unwrap().path, Some(from.into()));
}

#[test]
fn under_a_flood_of_initiations_a_cookie_is_demanded_and_a_member_still_gets_in() {
    let mut site = site(9);
    let (a, b) = (site.edge1.clone(), site.edge2.clone());
    let (to, key) = (site.world.home(&b), site.world.members.endpoints[2].public_key);
    let flood = |world: &mut World, n: u32| {
        for index in 0..n {
            let mut junk = vec![1, 0, 0, 0];
            junk.extend(index.to_le_bytes());
            junk.resize(120, index as u8);
            Mac1::new(&key).append(&mut junk, None);
            world.inject(SocketAddr::from(([203, 0, (index >> 8) as u8, index as u8], 9)), to, junk);
        }
    };
    flood(&mut site.world, 1000);
    site.world.run_for(Duration::from_millis(5));
    let cookies = site.world.wire.iter().filter(|(.., bytes)| bytes[0] == 3).count();
    assert!(cookies >= 700, "{cookies} cookie replies");
    site.world.send(&a, &b, 1);
    site.world.run_for(Duration::from_millis(20));
    assert_eq!(site.world.numbers(&b), [1], "with its cookie the member gets in at once");
    assert!(!site.captured(&b, &a, 3).is_empty(), "it was asked for one");
    let answered: usize = site.world.wire.iter().filter(|(_, s, ..)| *s == to).map(|(.., b)| b.len()).sum();
    let asked: usize = site.world.wire.iter().filter(|(_, _, d, _)| *d == to).map(|(.., b)| b.len()).sum();
    assert!(answered < asked, "answers are smaller than questions: {answered} of {asked}");
}

#[test]
fn a_member_that_is_removed_loses_its_session_and_its_route() {
    let mut site = site(10);
    site.connected();
    let (a, b) = (site.edge1.clone(), site.edge2.clone());
    let mut members = site.world.members.clone();
    members.communities[0].members.retain(|member| *member != b);
    let now = site.world.now();
    site.world.host(&a).node.handle_registry(&members, now);
    site.world.step(&a);
    site.world.run_for(Duration::from_millis(10));
    site.world.send(&a, &b, 2);
    site.world.send(&b, &a, 3);
    site.world.run_for(Duration::from_secs(4));
    assert_eq!((site.world.numbers(&b), site.world.numbers(&a)), (vec![1], vec![]));
    assert!(site.drops(&a, DropReason::HandshakeNotAllowed) > 0);
}

#[test]
fn an_unchanged_peer_keeps_its_session_when_others_come_and_go() {
    let mut site = site(11);
    site.connected();
    let (a, b) = (site.edge1.clone(), site.edge2.clone());
    let peer = site.world.peer(&a, &b);
    let before = site.world.host(&a).node.peer_status(peer).unwrap().session;
    let mut members = site.world.members.clone();
    members.endpoints.retain(|endpoint| endpoint.name != site.outsider);
    let now = site.world.now();
    site.world.host(&a).node.handle_registry(&members, now);
    site.world.step(&a);
    assert_eq!(site.world.host(&a).node.peer_status(peer).unwrap().session, before);
    assert!(before.is_some());
    site.world.send(&a, &b, 2);
    site.world.run_for(Duration::from_millis(10));
    assert_eq!(site.world.numbers(&b), [1, 2]);
}
