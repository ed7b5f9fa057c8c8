//! The world: machines, the network between them, and the clock that jumps from one event to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::handshake::{Identity, Offer};
use proto::id::{EndpointName, MeshId, PeerId, PresharedKey, SecretKey};
use proto::member::{Community, DEFAULT_PORT, Endpoint, Host as Dial, Kind, Members, PublicAddress};
use proto::node::{Node, Settings, WallClock};
use proto::time::Instant;
use proto::wire::{Capabilities, Suites};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::host::Host;
use crate::link::Link;
use crate::packets;

/// Bytes a second that a relay carries for each member.
const RELAY_RATE: u64 = 12_500_000;

/// Everything, from one seed.
pub struct World {
    /// What the network does to datagrams.
    pub link: Link,
    /// The mesh that nodes are given at their start.
    pub members: Members,
    /// Every datagram that was put on the network: when, from, to, bytes. The eavesdropper's view, and the trace.
    pub wire: Vec<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Session age at which initiators rekey.
    pub rekey_after: Duration,
    /// Idle time after which sessions end.
    pub idle_after: Duration,
    /// How often edges say hello to their connector; `None`: never.
    pub keepalive: Option<Duration>,
    /// Ciphers that machines offer which start from now on.
    pub suites: Suites,
    hosts: BTreeMap<EndpointName, Host>,
    secrets: BTreeMap<EndpointName, SecretKey>,
    in_flight: BTreeMap<(Instant, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    now: Instant,
    sequence: u64,
    rng: ChaCha20Rng,
    cut: BTreeSet<SocketAddr>,
}

impl World {
    /// A world without machines.
    #[must_use]
    pub fn new(seed: u64, link: Link) -> Self {
        Self {
            link,
            members: Members { mesh: MeshId::from_name("sim"), endpoints: Vec::new(), communities: Vec::new() },
            wire: Vec::new(),
            rekey_after: Duration::from_secs(120),
            idle_after: Duration::from_secs(180),
            keepalive: None,
            suites: Suites::DEFAULT,
            hosts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            now: Instant::from_nanos(1_000_000_000),
            sequence: 0,
            rng: ChaCha20Rng::seed_from_u64(seed),
            cut: BTreeSet::new(),
        }
    }

    /// A started world of `count` edges in one community, and their names.
    #[must_use]
    pub fn mesh(seed: u64, link: Link, count: usize) -> (Self, Vec<EndpointName>) {
        let mut world = Self::new(seed, link);
        let names: Vec<_> = (0..count).map(|n| world.add_endpoint(&format!("site.edge{n}"), Kind::Edge)).collect();
        world.add_community("all", &names);
        world.start_all();
        (world, names)
    }

    /// Adds an endpoint to the mesh, with a public address of its own; the order of additions numbers the addresses.
    pub fn add_endpoint(&mut self, name: &str, kind: Kind) -> EndpointName {
        let name: EndpointName = name.parse().expect("a scenario's names are valid");
        let secret = SecretKey::from_bytes(self.draw());
        let number = self.members.endpoints.len() as u32 + 1;
        let host = IpAddr::from(((198 << 24 | 18 << 16) + number).to_be_bytes());
        self.members.endpoints.push(Endpoint {
            name: name.clone(),
            kind,
            public_key: secret.public_key(),
            public_addresses: vec![PublicAddress { host: Dial::Ip(host), port: DEFAULT_PORT }],
            addresses: vec![IpAddr::from(((10 << 24 | 99 << 16) + number).to_be_bytes())],
            subnets: Vec::new(),
            node_subnets: Vec::new(),
            relay: None,
            zone: None,
            region: None,
        });
        self.secrets.insert(name.clone(), secret);
        name
    }

    /// Adds a community of endpoints.
    pub fn add_community(&mut self, name: &str, members: &[EndpointName]) {
        self.members.communities.push(Community { name: name.into(), members: members.to_vec() });
    }

    /// Starts, or restarts with nothing remembered, the machine of every endpoint.
    pub fn start_all(&mut self) {
        let names: Vec<_> = self.members.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
        for name in names {
            self.start(&name);
        }
    }

    /// Starts, or restarts with nothing remembered, one machine.
    pub fn start(&mut self, name: &EndpointName) {
        let members = self.members.clone();
        self.start_with(name, &members);
    }

    /// Starts a machine that believes in another mesh than the others: a liar.
    pub fn start_with(&mut self, name: &EndpointName, members: &Members) {
        let secret = self.secrets.get(name).expect("the endpoint was added").clone();
        let settings = Settings {
            name: name.clone(),
            identity: Identity::new(secret, members.mesh, PresharedKey::NONE),
            offer: Offer {
                suites: self.suites,
                capabilities: Capabilities::COAL.and(Capabilities::CSUM_PARTIAL).and(Capabilities::FAST_AES),
                lanes: 1,
            },
            rekey_after: self.rekey_after,
            idle_after: self.idle_after,
            keepalive: self.keepalive,
            port: DEFAULT_PORT,
            relay: members.endpoints.iter().any(|known| known.name == *name && known.relays()).then_some(RELAY_RATE),
        };
        let seed = self.draw();
        let clock = WallClock { unix_at_origin: 1_700_000_000_000_000_000, floor: 0 };
        let mut node = Node::new(settings, seed, clock, self.now);
        node.handle_registry(members, self.now);
        let address = self.home(name);
        self.hosts.insert(name.clone(), Host::new(node, address));
    }

    /// Stops a machine without a word.
    pub fn kill(&mut self, name: &EndpointName) {
        self.hosts.remove(name);
    }

    /// Gives a machine a new address; what is sent to the old one is lost.
    pub fn roam(&mut self, name: &EndpointName, address: SocketAddr) {
        self.host(name).address = address;
        let now = self.now;
        self.host(name).node.handle_links(&[], now);
        self.step(name);
    }

    /// Cuts an address off, or connects it again.
    pub fn set_cut(&mut self, name: &EndpointName, is_cut: bool) {
        let address = self.host(name).address;
        if is_cut {
            self.cut.insert(address)
        } else {
            self.cut.remove(&address)
        };
    }

    /// The machine of an endpoint.
    pub fn host(&mut self, name: &EndpointName) -> &mut Host {
        self.hosts.get_mut(name).expect("the machine runs")
    }

    /// The peer number that `name` has at `at`.
    pub fn peer(&mut self, at: &EndpointName, name: &EndpointName) -> PeerId {
        self.host(at).node.peer_id(name).expect("both are endpoints")
    }

    /// The configured public address of an endpoint.
    #[must_use]
    pub fn home(&self, name: &EndpointName) -> SocketAddr {
        let endpoint = self.endpoint(name);
        let Dial::Ip(ip) = endpoint.public_addresses[0].host else { unreachable!("scenarios use literal addresses") };
        SocketAddr::new(ip, DEFAULT_PORT)
    }

    /// The IPv4 mesh address of an endpoint.
    #[must_use]
    pub fn inner(&self, name: &EndpointName) -> IpAddr {
        self.endpoint(name).addresses[0]
    }

    fn endpoint(&self, name: &EndpointName) -> &Endpoint {
        self.members.endpoints.iter().find(|endpoint| endpoint.name == *name).expect("the endpoint was added")
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// An application at `from` sends packet `number` to `to`'s mesh address.
    pub fn send(&mut self, from: &EndpointName, to: &EndpointName, number: u64) {
        let packet = packets::numbered(self.inner(from), self.inner(to), number, 100);
        self.host(from).send_packet(packet);
        self.step(from);
    }

    /// Puts a datagram on the network, from whatever source address.
    pub fn inject(&mut self, source: SocketAddr, destination: SocketAddr, datagram: Vec<u8>) {
        if !self.cut.contains(&source) && !self.cut.contains(&destination) {
            for way in self.link.fates(&mut self.rng) {
                self.sequence += 1;
                self.in_flight.insert((self.now + way, self.sequence), (source, destination, datagram.clone()));
            }
        }
        self.wire.push((self.now, source, destination, datagram));
    }

    /// Lets time pass.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((at, what)) = self.next_event().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            match what {
                Next::Arrival(key) => self.arrive(key),
                Next::Deadline(name) => self.step(&name),
            }
        }
        self.now = end;
    }

    /// Numbers of the packets that `name` received so far, sorted.
    pub fn numbers(&mut self, name: &EndpointName) -> Vec<u64> {
        let mut numbers: Vec<_> = self.host(name).received.iter().filter_map(|p| packets::number(p)).collect();
        numbers.sort_unstable();
        numbers
    }

    fn next_event(&self) -> Option<(Instant, Next)> {
        let arrival = self.in_flight.first_key_value().map(|(key, _)| (key.0, Next::Arrival(*key)));
        let deadlines =
            self.hosts.iter().filter_map(|(name, host)| host.node.poll_timeout().map(|deadline| (deadline.at, name)));
        let deadline = deadlines.min().map(|(at, name)| (at, Next::Deadline(name.clone())));
        match (arrival, deadline) {
            (Some(a), Some(d)) => Some(if d.0 < a.0 { d } else { a }),
            (a, d) => a.or(d),
        }
    }

    fn arrive(&mut self, key: (Instant, u64)) {
        let Some((source, destination, datagram)) = self.in_flight.remove(&key) else { return };
        let receiver = self.hosts.iter_mut().find(|(_, host)| host.address == destination);
        if let Some((name, host)) = receiver {
            host.deliver(source, datagram);
            let name = name.clone();
            self.step(&name);
        }
    }

    /// Lets a machine do what it can do now.
    pub fn step(&mut self, name: &EndpointName) {
        let now = self.now;
        let host = self.host(name);
        let source = host.address;
        for (destination, datagram) in host.run(now) {
            self.inject(source, destination, datagram);
        }
    }

    fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

enum Next {
    Arrival((Instant, u64)),
    Deadline(EndpointName),
}
