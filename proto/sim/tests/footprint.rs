//! What a node takes per configured peer and per live session, counted at the allocator.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::System;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cap::Cap;
use proto::handshake::{Identity, Initiated, Mac1, Offer};
use proto::id::{MeshId, PeerId, PresharedKey, PublicKey, SecretKey, SessionIndex};
use proto::member::{Community, DEFAULT_PORT, Endpoint, Host, Kind, Members, PublicAddress};
use proto::node::{LanPolicy, Node, Settings, WallClock};
use proto::session::Session;
use proto::time::Instant;
use proto::wire::{CONTROL_LANE, Capabilities, DataHeader, Flags, MAX_LANES, MessageType, Response, Suite, Suites};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Held by the test that counts: libtest runs them in parallel.
static COUNTING: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    COUNTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Peers that the mesh configures, and how many of them have sessions.
const CONFIGURED: u32 = 10_000;
const LIVE: u32 = 200;

/// Bytes of the core per configured peer: half of the kilobyte that a daemon may take, which has routes and names besides.
const PER_PEER: usize = 500;

/// Bytes per live session, all included.
const PER_SESSION: usize = 8000;

/// Bytes per session of a peer that uses all of the most lanes that it can announce.
const PER_WIDEST_SESSION: usize = 24_000;

fn endpoint(number: u32, public_key: PublicKey) -> Endpoint {
    let address = |net: u32| IpAddr::from(((net << 24) + number).to_be_bytes());
    Endpoint {
        name: format!("site{}.edge{number}", number / 100).parse().unwrap(),
        kind: Kind::Edge,
        public_key,
        public_addresses: vec![PublicAddress { host: Host::Ip(address(11)), port: DEFAULT_PORT }],
        tls_addresses: Vec::new(),
        addresses: vec![address(10)],
        subnets: Vec::new(),
        node_subnets: Vec::new(),
        priority: 0,
        relay: None,
        zone: None,
        region: None,
    }
}

fn secret(number: u32) -> SecretKey {
    let mut bytes = [9; 32];
    // Not the first byte: X25519 clears its low bits.
    bytes[4..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_bytes(bytes)
}

/// A mesh of endpoint 0 and `count` others in one community. Only those that will have sessions need true keys.
fn members(count: u32) -> Members {
    let key = |number: u32| match number {
        0..=LIVE => secret(number).public_key(),
        _ => PublicKey(*secret(number).as_bytes()),
    };
    let endpoints: Vec<_> = (0..=count).map(|number| endpoint(number, key(number))).collect();
    let names = endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    let communities = vec![Community { name: "all".into(), members: names }];
    Members { mesh: MeshId::from_name("sim"), endpoints, communities }
}

fn offer(lanes: u8) -> Offer {
    Offer { suites: Suites::of(&[Suite::Aes256Gcm]), capabilities: Capabilities::default(), lanes }
}

fn identity(number: u32) -> Identity {
    Identity::new(secret(number), MeshId::from_name("sim"), PresharedKey::NONE)
}

fn node(members: &Members) -> Node {
    let settings = Settings {
        name: members.endpoints[0].name.clone(),
        identity: identity(0),
        offer: offer(1),
        rekey_after: Duration::from_secs(120),
        idle_after: Duration::from_secs(180),
        keepalive: None,
        unselected: Vec::new(),
        port: DEFAULT_PORT,
        punch: true,
        spray: true,
        lan: LanPolicy::default(),
        balance: proto::path::Balance::Best,
        mtu: 1420,
        relay: None,
    };
    let mut node = Node::new(settings, [1; 32], WallClock { unix_at_origin: 0, floor: 0 }, Instant::ORIGIN);
    node.handle_registry(members, Instant::ORIGIN);
    node
}

/// Bytes that `make` leaves allocated, and what it made.
fn allocated<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATOR.allocated();
    let made = make();
    (ALLOCATOR.allocated() - before, made)
}

fn source(number: u32) -> SocketAddr {
    SocketAddr::new(((11 << 24) + number).to_be_bytes().into(), DEFAULT_PORT)
}

/// Makes a session that peer `number` begins, announcing `lanes` and then using `used` of them; nothing of the peer's own
/// end stays allocated.
fn connect(node: &mut Node, number: u32, lanes: u8, used: u8) {
    // Far enough apart that the node is never under load.
    let now = Instant::ORIGIN + Duration::from_millis(10) * number;
    let (ours, index) = (identity(number), SessionIndex(number));
    let start = Initiated::start(&ours, &secret(0).public_key(), index, 1, offer(lanes), [7; 32]);
    let (state, mut initiation) = start.ok().unwrap();
    Mac1::new(&secret(0).public_key()).append(&mut initiation, None);
    node.handle_datagram(&initiation, source(number).into(), now);
    let answer = node.poll_transmit().unwrap().datagram;
    let response = Response::parse(&answer).unwrap();
    let agreement = state.accept(&response).ok().unwrap();
    let session = Session::new(PeerId(0), (index, response.sender), &agreement, true).unwrap();
    let keepalive = session.claim(CONTROL_LANE).unwrap().seal_vec(MessageType::Control, Flags::default(), &[]).unwrap();
    node.handle_datagram(&keepalive, source(number).into(), now);
    let table = node.poll_table().unwrap();
    for lane in 0..used {
        let mut datagram = session.claim(lane).unwrap().seal_vec(MessageType::Data, Flags::default(), &[]).unwrap();
        let header = DataHeader::parse(&datagram).unwrap();
        let row = table.session(header.receiver).unwrap();
        row.session.lane(lane).unwrap().open(&header, &mut datagram).unwrap();
    }
    while node.poll_event().is_some() || node.poll_transmit().is_some() {}
}

/// Bytes of a node for each live session, as a worker with a table and a sending lane sees it.
fn per_session(lanes: u8, used: u8) -> usize {
    let members = members(CONFIGURED);
    let mut node = node(&members);
    let held = |node: &Node| (1..=LIVE).filter_map(|n| node.peer_status(PeerId(n - 1))?.session).count();
    let (bytes, _table) = allocated(|| {
        (1..=LIVE).for_each(|number| connect(&mut node, number, lanes, used));
        node.publish()
    });
    assert_eq!(held(&node), LIVE as usize);
    bytes / LIVE as usize
}

#[test]
fn a_configured_peer_takes_under_half_a_kilobyte() {
    let _alone = alone();
    let (few, many) = (members(1), members(CONFIGURED));
    let (least, _one) = allocated(|| node(&few));
    let (most, _node) = allocated(|| node(&many));
    let each = (most - least) / (CONFIGURED as usize - 1);
    assert!(each < PER_PEER, "{each} bytes per configured peer");
}

#[test]
fn a_live_session_takes_under_8_kilobytes_however_many_lanes_its_peer_announces() {
    let _alone = alone();
    for lanes in [1, MAX_LANES, u8::MAX] {
        let each = per_session(lanes, 1);
        assert!(each < PER_SESSION, "{each} bytes per session of a peer with {lanes} lanes, one used");
    }
}

#[test]
fn a_session_with_every_lane_in_use_is_bounded() {
    let _alone = alone();
    let each = per_session(MAX_LANES, MAX_LANES);
    assert!((PER_SESSION..PER_WIDEST_SESSION).contains(&each), "{each} bytes per session with all lanes used");
}

#[test]
fn a_handshake_in_a_mesh_of_ten_thousand_copies_one_chunk_of_rows() {
    let _alone = alone();
    let members = members(CONFIGURED);
    let mut node = node(&members);
    (1..LIVE).for_each(|number| connect(&mut node, number, 1, 1));
    // Whatever a worker still reads must be copied before it changes.
    let held = node.publish();
    let (bytes, _table) = allocated(|| {
        connect(&mut node, LIVE, 1, 1);
        node.publish()
    });
    assert!(bytes < 16_000, "{bytes} bytes for a handshake");
    drop(held);
}
