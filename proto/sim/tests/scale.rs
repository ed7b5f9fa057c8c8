//! A node with many peers.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use proto::handshake::{Identity, Offer};
use proto::id::{MeshId, PeerId, PresharedKey, PublicKey, SecretKey};
use proto::member::{Community, Endpoint, Kind, Members};
use proto::node::{LanPolicy, Node, Settings, WallClock};
use proto::time::Instant;
use proto::wire::{Capabilities, Suites};

/// More than any fixed bound on queues in the core.
const COUNT: u32 = 5_000;

fn endpoint(number: u32, public_key: PublicKey) -> Endpoint {
    Endpoint {
        name: format!("site.edge{number}").parse().unwrap(),
        kind: Kind::Edge,
        public_key,
        public_addresses: Vec::new(),
        tls_addresses: Vec::new(),
        addresses: vec![std::net::IpAddr::from(((10 << 24) + number).to_be_bytes())],
        subnets: Vec::new(),
        node_subnets: Vec::new(),
        priority: 0,
        relay: None,
        zone: None,
        region: None,
    }
}

/// A node with `COUNT` peers in its community.
fn hub() -> (Node, Members) {
    let secret = SecretKey::from_bytes([1; 32]);
    let mesh = MeshId::from_name("sim");
    let key = |number: u32| {
        let mut bytes = [9; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        PublicKey(bytes)
    };
    let mut endpoints: Vec<_> = (1..=COUNT).map(|number| endpoint(number, key(number))).collect();
    endpoints.push(endpoint(0, secret.public_key()));
    let names = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let members = Members { mesh, endpoints, communities: vec![Community { name: "all".into(), members: names }] };
    let settings = Settings {
        name: "site.edge0".parse().unwrap(),
        identity: Identity::new(secret, mesh, PresharedKey::NONE),
        offer: Offer { suites: Suites::DEFAULT, capabilities: Capabilities::default(), lanes: 1 },
        rekey_after: Duration::from_secs(120),
        idle_after: Duration::from_secs(180),
        keepalive: None,
        unselected: Vec::new(),
        port: 6374,
        punch: true,
        spray: true,
        lan: LanPolicy::default(),
        balance: proto::path::Balance::Best,
        mtu: 1420,
        relay: None,
    };
    let clock = WallClock { unix_at_origin: 0, floor: 0 };
    (Node::new(settings, [1; 32], clock, Instant::ORIGIN), members)
}

#[test]
fn after_a_long_pause_every_one_of_thousands_of_peers_gets_its_initiation() {
    let (mut node, members) = hub();
    node.handle_registry(&members, Instant::ORIGIN);
    for id in 0..COUNT {
        node.handle_candidates(PeerId(id), vec!["192.0.2.1:1".parse().unwrap()], Instant::ORIGIN);
        node.probe(PeerId(id), Instant::ORIGIN).unwrap();
        assert!(node.poll_transmit().is_some());
    }
    node.handle_timeout(Instant::ORIGIN + Duration::from_millis(700));
    let sent = std::iter::from_fn(|| node.poll_transmit()).count();
    assert_eq!(sent, COUNT as usize);
}
