//! Any sequence of pictures of the mesh leaves a node as if the last had been its first; and settings that change take effect.
#![allow(clippy::unwrap_used, reason = "what the tests share is part of the tests")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use proto::event::{Disconnect, Event};
use proto::handshake::{Identity, Offer};
use proto::id::{EndpointName, MeshId, PresharedKey, PublicKey, SecretKey};
use proto::member::{Community, DEFAULT_PORT, Endpoint, Host as Dial, Kind, Members, PublicAddress};
use proto::node::{LanPolicy, Node, Settings, WallClock};
use proto::path::Balance;
use proto::peer::PeerState;
use proto::route::Target;
use proto::time::Instant;
use proto::wire::{Capabilities, Suites};
use sim::link::Link;
use sim::world::World;

const OWN: &str = "site.own";

/// One endpoint of a picture, in small numbers.
#[derive(Clone, Debug)]
struct Record {
    name: u8,
    key: u8,
    is_connector: bool,
    has_address: bool,
    subnet: Option<u8>,
    is_member: bool,
}

fn record() -> impl Strategy<Value = Record> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (0u8..6, 0u8..8, flags, proptest::option::of(0u8..3)).prop_map(|(name, key, flags, subnet)| Record {
        name,
        key,
        is_connector: flags.0,
        has_address: flags.1,
        subnet,
        is_member: flags.2,
    })
}

/// A picture with the own endpoint, which announces a subnet or not, and others of different names and keys.
fn picture() -> impl Strategy<Value = Members> {
    (proptest::collection::vec(record(), 0..6), proptest::option::of(0u8..3)).prop_map(|(records, subnet)| {
        let mut endpoints = vec![endpoint(OWN, 100, Kind::Connector, subnet)];
        let mut members: Vec<EndpointName> = vec![OWN.parse().unwrap()];
        for record in records {
            let (name, kind) =
                (format!("site.n{}", record.name), if record.is_connector { Kind::Connector } else { Kind::Edge });
            let mut new = endpoint(&name, record.key, kind, record.subnet.filter(|_| record.is_connector));
            if endpoints.iter().any(|known| known.name == new.name || known.public_key == new.public_key) {
                continue;
            }
            if record.has_address {
                let host = Dial::Ip(IpAddr::from([192, 0, 2, record.key]));
                new.public_addresses = vec![PublicAddress { host, port: DEFAULT_PORT }];
            }
            members.extend(Some(new.name.clone()).filter(|_| record.is_member));
            endpoints.push(new);
        }
        let communities = vec![Community { name: "all".into(), members }];
        Members { mesh: MeshId::from_name("sim"), endpoints, communities }
    })
}

fn endpoint(name: &str, key: u8, kind: Kind, subnet: Option<u8>) -> Endpoint {
    Endpoint {
        name: name.parse().unwrap(),
        kind,
        public_key: if name == OWN { own_key().public_key() } else { PublicKey([key + 1; 32]) },
        public_addresses: Vec::new(),
        tls_addresses: Vec::new(),
        addresses: vec![IpAddr::from([10, 99, 0, key])],
        subnets: subnet.map(subnet_of).into_iter().collect(),
        node_subnets: Vec::new(),
        priority: 0,
        relay: None,
        zone: None,
        region: None,
    }
}

fn subnet_of(number: u8) -> IpNet {
    format!("10.{}.0.0/16", 50 + number).parse().unwrap()
}

fn own_key() -> SecretKey {
    SecretKey::from_bytes([77; 32])
}

fn settings() -> Settings {
    Settings {
        name: OWN.parse().unwrap(),
        identity: Identity::new(own_key(), MeshId::from_name("sim"), PresharedKey::NONE),
        offer: Offer { suites: Suites::DEFAULT, capabilities: Capabilities::default(), lanes: 1 },
        rekey_after: Duration::from_secs(120),
        idle_after: Duration::from_secs(180),
        punch: true,
        spray: true,
        relay: None,
        port: DEFAULT_PORT,
        mtu: 1420,
        unselected: Vec::new(),
        keepalive: Some(Duration::from_secs(25)),
        lan: LanPolicy { implicit_community: true, direct: false },
        balance: Balance::Best,
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn node() -> Node {
    Node::new(settings(), [5; 32], WallClock { unix_at_origin: 1_700_000_000_000_000_000, floor: 0 }, at(1))
}

/// What a node makes of the mesh, in names instead of numbers.
fn view(node: &Node, now: Instant) -> (BTreeMap<String, String>, Vec<String>, Vec<String>) {
    let name = |target: Target| match target {
        Target::Local => "local".to_owned(),
        Target::Peer(id) => format!("{:?}", node.peer_name(id)),
        Target::Denied(id) => format!("denied {:?}", node.peer_name(id)),
    };
    let peers = node.status().into_iter().map(|peer| {
        let text = format!("{:?} {:?} {:?} {:?}", peer.key, peer.kind, peer.permission, peer.candidates);
        (peer.name.to_string(), text)
    });
    let addresses = (0u8..=100).map(|host| IpAddr::from([10, 99, 0, host]));
    let inside = (0u8..3).map(|number| IpAddr::from([10, 50 + number, 1, 1]));
    // Which of several owners that all work has a shared prefix is a matter of what was before.
    let shared: Vec<IpNet> = node.shared_prefixes(now).iter().map(|shared| shared.prefix).collect();
    let routes = addresses.chain(inside).filter(|address| !shared.iter().any(|net| net.contains(address)));
    let routes = routes.map(|address| format!("{address} {:?}", node.route(address).map(name))).collect();
    let owners = node.shared_prefixes(now).into_iter().map(|shared| {
        let owners: Vec<_> = shared
            .owners
            .iter()
            .map(|owner| (node.peer_name(owner.peer), owner.condition == proto::owner::Condition::Denied))
            .collect();
        format!("{} {} {owners:?}", shared.prefix, shared.is_local)
    });
    (peers.collect(), routes, owners.collect())
}

fn drain(node: &mut Node) {
    while node.poll_transmit().is_some() {}
    while node.poll_event().is_some() {}
    let _ = node.poll_table();
}

proptest! {
    #[test]
    fn after_any_pictures_a_node_is_as_one_that_saw_the_last_only(
        pictures in proptest::collection::vec(picture(), 1..8),
        near in 0u8..8,
    ) {
        let mut node = node();
        for (number, members) in (1..).zip(&pictures) {
            let gone = node.handle_registry(members, at(number));
            for id in gone {
                prop_assert!(node.peer_name(id).is_none(), "a number that is gone means nobody yet");
            }
            // Whom the LAN knows is told anew by the shell, with each picture.
            if let Some(id) = node.peer_of_key(&PublicKey([near + 1; 32])) {
                node.handle_neighbour(id, &["192.168.1.7:6374".parse().unwrap()], at(number));
            }
            drain(&mut node);
            node.handle_timeout(at(number));
        }
        let (last, now) = (pictures.last().unwrap(), at(pictures.len() as u64));
        let mut fresh = self::node();
        fresh.handle_registry(last, now);
        if let Some(id) = fresh.peer_of_key(&PublicKey([near + 1; 32])) {
            fresh.handle_neighbour(id, &["192.168.1.7:6374".parse().unwrap()], now);
        }
        prop_assert_eq!(view(&node, now), view(&fresh, now));
    }

    #[test]
    fn sessions_of_peers_that_stay_live_through_any_pictures(
        seed in 0u64..1000,
        pictures in proptest::collection::vec(proptest::collection::btree_set(2usize..6, 0..4), 1..6),
    ) {
        let (mut world, names) = World::mesh(seed, Link::GOOD, 6);
        world.send(&names[0], &names[1], 1);
        world.run_for(Duration::from_secs(1));
        let peer = world.peer(&names[0], &names[1]);
        let session = world.host(&names[0]).node.peer_status(peer).unwrap().session;
        prop_assert!(session.is_some());
        let mut sent = 1;
        for present in &pictures {
            let mut members = world.members.clone();
            let is_kept = |name: &EndpointName| {
                let number = names.iter().position(|known| known == name).unwrap();
                number < 2 || present.contains(&number)
            };
            members.endpoints.retain(|endpoint| is_kept(&endpoint.name));
            members.communities[0].members.retain(|name| is_kept(name));
            let now = world.now();
            world.host(&names[0]).node.handle_registry(&members, now);
            world.step(&names[0]);
            for number in present {
                sent += 1;
                world.send(&names[0], &names[*number], sent);
            }
            sent += 1;
            world.send(&names[0], &names[1], sent);
            world.run_for(Duration::from_millis(400));
            let status = world.host(&names[0]).node.peer_status(peer).unwrap();
            prop_assert_eq!(status.session, session);
            prop_assert_eq!(world.numbers(&names[1]).last().copied(), Some(sent));
            let listed = world.host(&names[0]).node.status().len();
            prop_assert_eq!(listed, 1 + present.len());
        }
    }
}

/// A world of edges in which the first has a session with the second.
fn connected(seed: u64, count: usize) -> (World, Vec<EndpointName>) {
    let (mut world, names) = World::mesh(seed, Link::GOOD, count);
    world.send(&names[0], &names[1], 1);
    world.run_for(Duration::from_secs(1));
    (world, names)
}

fn without(world: &World, name: &EndpointName) -> Members {
    let mut members = world.members.clone();
    members.endpoints.retain(|endpoint| endpoint.name != *name);
    members.communities.iter_mut().for_each(|community| community.members.retain(|member| member != name));
    members
}

#[test]
fn a_member_that_is_removed_is_told_and_its_number_is_not_given_away_at_once() {
    let (mut world, names) = connected(301, 3);
    let (gone, now) = (world.peer(&names[0], &names[1]), world.now());
    let mut members = without(&world, &names[1]);
    let mut other = world.members.endpoints[1].clone();
    other.name = "site.other".parse().unwrap();
    members.endpoints.push(other);
    let node = &mut world.host(&names[0]).node;
    assert_eq!(node.handle_registry(&members, now), [gone]);
    assert!(node.peer_name(gone).is_none());
    let numbers = node.status().iter().map(|peer| node.peer_id(&peer.name).unwrap()).collect::<Vec<_>>();
    assert!(!numbers.contains(&gone), "events of it are still to be told");
    world.step(&names[0]);
    let ended = Event::Disconnected { peer: gone, name: names[1].clone(), reason: Disconnect::Removed };
    let events = &world.host(&names[0]).events;
    assert!(
        events.iter().any(|(_, event)| *event == ended),
        "the event has the name that nobody has any more: {events:?}"
    );
    world.run_for(Duration::from_secs(1));
    let there = world.peer(&names[1], &names[0]);
    assert_eq!(world.host(&names[1]).node.peer_status(there).unwrap().state, PeerState::Idle, "it was told");
}

#[test]
fn a_relay_that_is_removed_is_left_at_once_and_asked_for_nothing() {
    let mut world = World::new(302, Link::GOOD);
    let relays = ["hub.one", "hub.two"].map(|name| world.add_endpoint(name, Kind::Connector));
    let edges = ["far.a", "far.b"].map(|name| world.add_endpoint(name, Kind::Edge));
    let all: Vec<_> = relays.iter().chain(&edges).cloned().collect();
    world.add_community("all", &all);
    // The edges do not find each other but through relays.
    for endpoint in &mut world.members.endpoints[2..] {
        endpoint.public_addresses.clear();
    }
    world.keepalive = Some(Duration::from_secs(5));
    world.start_all();
    world.run_for(Duration::from_secs(3));
    world.send(&edges[0], &edges[1], 1);
    world.run_for(Duration::from_millis(300));
    assert_eq!(world.numbers(&edges[1]), [1]);
    for (round, relay) in relays.iter().enumerate() {
        let (members, now) = (without(&world, relay), world.now());
        let node = &mut world.host(&edges[0]).node;
        node.handle_registry(&members, now);
        let id = node.peer_id(&edges[1]).unwrap();
        let asked = node.peer_detail(id, now).unwrap().asked;
        assert!(asked.iter().all(|asked| node.peer_name(asked.relay).is_some()), "{asked:?}");
        world.step(&edges[0]);
        world.send(&edges[0], &edges[1], 2 + round as u64);
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.numbers(&edges[1]).last(), Some(&(2 + round as u64)), "round {round}");
        let (members, now) = (world.members.clone(), world.now());
        world.host(&edges[0]).node.handle_registry(&members, now);
        world.step(&edges[0]);
        world.run_for(Duration::from_secs(3));
    }
}

#[test]
fn a_peer_with_a_new_public_address_is_probed_there_while_its_session_lives() {
    let (mut world, names) = connected(303, 2);
    let (peer, now) = (world.peer(&names[0], &names[1]), world.now());
    let mut members = world.members.clone();
    let moved: SocketAddr = "198.18.0.77:7000".parse().unwrap();
    members.endpoints[1].public_addresses = vec![PublicAddress { host: Dial::Ip(moved.ip()), port: moved.port() }];
    world.host(&names[0]).node.handle_registry(&members, now);
    world.step(&names[0]);
    world.run_for(Duration::from_millis(100));
    assert!(world.wire.iter().any(|(_, _, to, _)| *to == moved));
    assert!(world.host(&names[0]).node.peer_status(peer).unwrap().session.is_some());
}

#[test]
fn the_last_shared_prefix_that_goes_ends_what_is_told_of_it() {
    let mut node = node();
    let shared = |subnet| {
        let endpoints =
            vec![endpoint(OWN, 100, Kind::Connector, Some(0)), endpoint("site.n1", 1, Kind::Connector, subnet)];
        let members = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        let communities = vec![Community { name: "all".into(), members }];
        Members { mesh: MeshId::from_name("sim"), endpoints, communities }
    };
    node.handle_registry(&shared(Some(0)), at(1));
    node.handle_reach([subnet_of(0)].into(), at(1));
    node.handle_registry(&shared(Some(1)), at(2));
    drain(&mut node);
    for second in 3..10 {
        node.handle_timeout(at(second));
    }
    assert_eq!(node.poll_timeout().map(|deadline| deadline.at), None, "nothing is to be repeated");
}

fn changed(world: &mut World, name: &EndpointName, change: impl FnOnce(&mut Settings)) {
    let mut other = settings();
    change(&mut other);
    let now = world.now();
    world.host(name).node.handle_settings(other, now);
    world.step(name);
}

#[test]
fn other_settings_leave_sessions_and_identity_alone_and_count_at_once() {
    let (mut world, names) = connected(304, 2);
    let peer = world.peer(&names[0], &names[1]);
    let session = world.host(&names[0]).node.peer_status(peer).unwrap().session;
    changed(&mut world, &names[0], |settings| settings.idle_after = Duration::from_secs(8));
    assert_eq!(world.host(&names[0]).node.peer_status(peer).unwrap().session, session);
    world.send(&names[1], &names[0], 9);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.numbers(&names[0]).last(), Some(&9), "the key is the one that it had");
    world.run_for(Duration::from_secs(12));
    assert!(world.host(&names[0]).node.peer_status(peer).unwrap().session.is_none(), "idle after 8 s now");
}

#[test]
fn a_neighbour_without_a_community_loses_its_way_in_with_the_setting() {
    let mut node = node();
    let endpoints = vec![endpoint(OWN, 100, Kind::Edge, None), endpoint("far.n1", 1, Kind::Edge, None)];
    let members = Members { mesh: MeshId::from_name("sim"), endpoints, communities: Vec::new() };
    node.handle_registry(&members, at(1));
    let id = node.peer_id(&"far.n1".parse().unwrap()).unwrap();
    node.handle_neighbour(id, &["192.168.1.7:6374".parse().unwrap()], at(1));
    let there = IpAddr::from([10, 99, 0, 1]);
    assert_eq!(node.route(there), Some(Target::Peer(id)));
    let closed = Settings { lan: LanPolicy::default(), ..settings() };
    node.handle_settings(closed, at(2));
    assert_eq!(node.route(there), Some(Target::Denied(id)));
    node.handle_settings(settings(), at(3));
    assert_eq!(node.route(there), Some(Target::Peer(id)));
    let told = std::iter::from_fn(|| node.poll_event()).filter(|event| *event == Event::NeighbourRoutes).count();
    assert!(told >= 3);
}
