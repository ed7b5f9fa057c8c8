//! What is told of peers that come and go.

use proto::handshake::{Identity, Offer};
use proto::id::{MeshId, PresharedKey, SecretKey};
use proto::member::{Endpoint, Kind, Members};
use proto::node::{LanPolicy, Settings, WallClock};
use proto::path::Balance;
use proto::wire::{Capabilities, Suites};

use super::*;
use crate::nat::Protocol;

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

fn members(names: &[&str]) -> Members {
    let endpoint = |(name, number): (&&str, u8)| Endpoint {
        name: name.parse().unwrap(),
        kind: Kind::Edge,
        public_key: SecretKey::from_bytes([number; 32]).public_key(),
        public_addresses: Vec::new(),
        tls_addresses: Vec::new(),
        addresses: vec![IpAddr::from([10, 99, 0, number])],
        subnets: Vec::new(),
        node_subnets: Vec::new(),
        priority: 0,
        relay: None,
        zone: None,
        region: None,
    };
    let endpoints = names.iter().zip(1..).map(endpoint).collect();
    Members { mesh: MeshId::from_name("lab"), endpoints, communities: Vec::new() }
}

fn node() -> Node {
    let settings = Settings {
        name: "lab.one".parse().unwrap(),
        identity: Identity::new(SecretKey::from_bytes([1; 32]), MeshId::from_name("lab"), PresharedKey::NONE),
        offer: Offer { suites: Suites::DEFAULT, capabilities: Capabilities::default(), lanes: 1 },
        rekey_after: Duration::from_secs(120),
        idle_after: Duration::from_secs(180),
        punch: false,
        spray: false,
        relay: None,
        port: 6374,
        mtu: 1420,
        unselected: Vec::new(),
        keepalive: None,
        lan: LanPolicy::default(),
        balance: Balance::Best,
    };
    let mut node = Node::new(settings, [1; 32], WallClock { unix_at_origin: 0, floor: 0 }, at(0));
    node.handle_registry(&members(&["lab.one", "lab.two"]), at(0));
    node
}

fn connected(peer: PeerId) -> Event {
    Event::Connected { peer, remote: SocketAddr::from(([192, 0, 2, 2], 6374)).into() }
}

#[test]
fn a_member_that_is_removed_is_told_by_its_name() {
    let (mut node, mut happenings) = (node(), Happenings::new());
    let peer = node.peer_id(&"lab.two".parse().unwrap()).unwrap();
    happenings.note_event(&node, &connected(peer), at(1));
    assert_eq!(node.handle_registry(&members(&["lab.one"]), at(2)), [peer]);
    let left = Event::Disconnected { peer, reason: Disconnect::Removed };
    assert_eq!(happenings.note_event(&node, &left, at(2)), Some(0));
    let lines = happenings.log.since(None);
    assert_eq!((lines.len(), lines[1].kind.as_str(), lines[1].peer.as_deref()), (2, "disconnected", Some("lab.two")));
    assert_eq!(happenings.name(&node, peer).map(EndpointName::as_str), Some("lab.two"), "for the log");
}

#[test]
fn who_connects_and_closes_in_a_loop_does_not_push_out_what_else_happened() {
    let (node, mut happenings) = (node(), Happenings::new());
    let peer = node.peer_id(&"lab.two".parse().unwrap()).unwrap();
    happenings.log.note(EventKind::Started, None, "");
    let mut logged = 0;
    for second in 0..3_600 {
        for event in [connected(peer), Event::Disconnected { peer, reason: Disconnect::Closed }] {
            logged += usize::from(happenings.note_event(&node, &event, at(second)).is_some());
        }
    }
    let lines = happenings.log.since(None);
    assert_eq!((lines[0].kind.as_str(), lines.len()), ("started", 1 + logged));
    let kinds: Vec<&str> = lines[1..].iter().map(|line| line.kind.as_str()).collect();
    assert!(kinds.chunks(2).all(|pair| pair == ["connected", "disconnected"]), "each that is told is told to its end");
    assert!((2 * 60..200).contains(&logged), "{logged}");
    assert!(lines[lines.len() - 2].text.ends_with("; 59 more before this were not told"), "{:?}", lines.last());
}

#[test]
fn a_mapping_that_is_given_up_is_told_once_and_told_again_when_it_is_back() {
    let mut happenings = Happenings::new();
    let (external, lifetime) = ("203.0.113.9:7000".parse().unwrap(), Duration::from_secs(7_200));
    let mapped = NatEvent::Mapped { protocol: Protocol::Pcp, external, lifetime };
    happenings.note_mapping(&mapped);
    happenings.note_mapping(&mapped);
    happenings.forget_mapped();
    happenings.forget_mapped();
    happenings.note_mapping(&NatEvent::Unmapped { external });
    happenings.note_mapping(&mapped);
    let told = happenings.log.since(None).into_iter().map(|event| (event.kind, event.text));
    let (here, gone) = ("203.0.113.9:7000 leads here, by PCP", "203.0.113.9:7000 does not lead here any more");
    let expected = [here, gone, here].map(|text| ("port_mapping".to_owned(), text.to_owned()));
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
