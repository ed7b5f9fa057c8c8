//! The world: machines with their nodes, and the mesh that these are told of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::account::RelayRates;
use proto::data::Spread;
use proto::handshake::{Identity, Offer};
use proto::id::{EndpointName, MeshId, PeerId, PresharedKey, SecretKey};
use proto::member::{Community, DEFAULT_PORT, Endpoint, Host as Dial, Kind, Members, PublicAddress};
use proto::node::{LanPolicy, Node, Settings, WallClock};
use proto::path::Balance;
use proto::time::Instant;
use proto::wire::{Capabilities, Suites};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::host::Host;
use crate::link::Link;
use crate::network::{Interface, Network, Owner};
use crate::sites::Socket;
use crate::trace::{Load, Recording, Trace, Traffic};

/// How much a relay carries.
const RELAY_RATES: RelayRates = RelayRates { total: 125_000_000, member: 12_500_000 };

/// Everything, from one seed.
pub struct World {
    /// What the internet does to datagrams.
    pub link: Link,
    /// The mesh that nodes are given at their start.
    pub members: Members,
    /// Every datagram that was put on the network: when, from (as the network saw it last, so after the sender's NATs),
    /// to, bytes. The eavesdropper's view, and the trace.
    pub wire: Vec<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Whether `wire` is kept. It takes some 200 bytes per datagram, too much for thousands of nodes.
    pub recording: Recording,
    /// Session age at which initiators rekey.
    pub rekey_after: Duration,
    /// Idle time after which sessions end.
    pub idle_after: Duration,
    /// How often edges say hello to their connector; `None`: never.
    pub keepalive: Option<Duration>,
    /// Ciphers that machines offer which start from now on.
    pub suites: Suites,
    /// What neighbours may do, of machines that start from now on.
    pub lan: LanPolicy,
    /// Over how many paths the data to a peer goes, of machines that start from now on.
    pub balance: Balance,
    pub(crate) machines: Vec<Machine>,
    numbers: BTreeMap<EndpointName, usize>,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) network: Network,
    pub(crate) trace: Trace,
    /// Machines that may have changed since their addresses and deadlines were looked at. Emptied before each event.
    pub(crate) touched: Vec<usize>,
    pub(crate) deadlines: BTreeSet<(Instant, usize)>,
    pub(crate) now: Instant,
    pub(crate) rng: ChaCha20Rng,
}

/// A machine, running or not.
pub(crate) struct Machine {
    secret: SecretKey,
    /// What it has at its start.
    home: Vec<Interface>,
    pub(crate) host: Option<Host>,
    /// It sleeps until then.
    pub(crate) asleep: Option<Instant>,
    /// The interfaces that the network knows.
    pub(crate) attached: Vec<Interface>,
    /// The entry in `deadlines`.
    pub(crate) deadline: Option<Instant>,
    pub(crate) sent: Traffic,
}

impl World {
    /// A world without machines.
    #[must_use]
    pub fn new(seed: u64, link: Link) -> Self {
        Self {
            link,
            members: Members { mesh: MeshId::from_name("sim"), endpoints: Vec::new(), communities: Vec::new() },
            wire: Vec::new(),
            recording: Recording::Full,
            rekey_after: Duration::from_secs(120),
            idle_after: Duration::from_secs(180),
            keepalive: None,
            suites: Suites::DEFAULT,
            lan: LanPolicy::default(),
            balance: Balance::Best,
            machines: Vec::new(),
            numbers: BTreeMap::new(),
            sockets: Vec::new(),
            network: Network::new(),
            trace: Trace::default(),
            touched: Vec::new(),
            deadlines: BTreeSet::new(),
            now: Instant::from_nanos(1_000_000_000),
            rng: ChaCha20Rng::seed_from_u64(seed),
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
        let number = self.members.endpoints.len() as u32 + 1;
        let host = IpAddr::from(((198 << 24 | 18 << 16) + number).to_be_bytes());
        let home = vec![Interface::public(SocketAddr::new(host, DEFAULT_PORT))];
        self.enlist(name, kind, vec![PublicAddress { host: Dial::Ip(host), port: DEFAULT_PORT }], home)
    }

    /// Adds an endpoint without a public address, whose machine has `interfaces` at its start, at least one.
    pub fn add_endpoint_at(&mut self, name: &str, kind: Kind, interfaces: &[Interface]) -> EndpointName {
        self.enlist(name, kind, Vec::new(), interfaces.to_vec())
    }

    fn enlist(
        &mut self,
        name: &str,
        kind: Kind,
        public_addresses: Vec<PublicAddress>,
        home: Vec<Interface>,
    ) -> EndpointName {
        let name: EndpointName = name.parse().expect("a scenario's names are valid");
        let secret = SecretKey::from_bytes(self.draw());
        let number = self.members.endpoints.len() as u32 + 1;
        self.members.endpoints.push(Endpoint {
            name: name.clone(),
            kind,
            public_key: secret.public_key(),
            public_addresses,
            tls_addresses: Vec::new(),
            addresses: vec![IpAddr::from(((10 << 24 | 99 << 16) + number).to_be_bytes())],
            subnets: Vec::new(),
            node_subnets: Vec::new(),
            priority: 0,
            relay: None,
            zone: None,
            region: None,
        });
        self.numbers.insert(name.clone(), self.machines.len());
        let (host, asleep, attached, deadline, sent) = Default::default();
        self.machines.push(Machine { secret, home, host, asleep, attached, deadline, sent });
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
        let number = self.number(name);
        let secret = self.machine(number).secret.clone();
        let settings = Settings {
            name: name.clone(),
            identity: Identity::new(secret, members.mesh, PresharedKey::NONE),
            offer: Offer {
                suites: self.suites,
                capabilities: Capabilities::COAL.and(Capabilities::CSUM_PARTIAL).and(Capabilities::FAST_AES),
                lanes: if self.balance == Balance::Best { 1 } else { Spread::lanes(1) },
            },
            rekey_after: self.rekey_after,
            idle_after: self.idle_after,
            keepalive: self.keepalive,
            unselected: Vec::new(),
            port: DEFAULT_PORT,
            mtu: 1420,
            punch: true,
            spray: true,
            lan: self.lan,
            balance: self.balance,
            relay: members.endpoints.iter().any(|known| known.name == *name && known.relays()).then_some(RELAY_RATES),
        };
        let seed = self.draw();
        let clock = WallClock { unix_at_origin: 1_700_000_000_000_000_000, floor: 0 };
        let mut node = Node::new(settings, seed, clock, self.now);
        node.handle_registry(members, self.now);
        let machine = self.machine(number);
        machine.host = Some(Host::new(node, machine.home.clone()));
        machine.asleep = None;
        self.touched.push(number);
    }

    /// Stops a machine without a word.
    pub fn kill(&mut self, name: &EndpointName) {
        let number = self.number(name);
        self.machine(number).host = None;
        self.touched.push(number);
    }

    /// The machine of an endpoint.
    pub fn host(&mut self, name: &EndpointName) -> &mut Host {
        let number = self.number(name);
        self.touched.push(number);
        self.machine(number).host.as_mut().expect("the machine runs")
    }

    /// What the node of an endpoint costs.
    #[must_use]
    pub fn load(&self, name: &EndpointName) -> Load {
        let machine = self.machines.get(self.number(name)).expect("machines are not removed");
        let indices = machine.host.as_ref().map_or(0, |host| host.table().taken());
        Load { sent: machine.sent, indices }
    }

    /// The peer number that `name` has at `at`.
    pub fn peer(&mut self, at: &EndpointName, name: &EndpointName) -> PeerId {
        self.host(at).node.peer_id(name).expect("both are endpoints")
    }

    /// The first address that the machine of an endpoint has at its start; the configured one, if it has one.
    #[must_use]
    pub fn home(&self, name: &EndpointName) -> SocketAddr {
        let machine = self.machines.get(self.number(name)).expect("machines are not removed");
        machine.home.first().expect("a machine has an interface").address
    }

    /// The IPv4 mesh address of an endpoint.
    #[must_use]
    pub fn inner(&self, name: &EndpointName) -> IpAddr {
        self.endpoint(name).addresses[0]
    }

    fn endpoint(&self, name: &EndpointName) -> &Endpoint {
        let is_it = |endpoint: &&Endpoint| endpoint.name == *name;
        // Where it was added, unless the scenario has changed the list.
        let likely = self.members.endpoints.get(self.number(name)).filter(is_it);
        likely.or_else(|| self.members.endpoints.iter().find(is_it)).expect("the endpoint was added")
    }

    pub(crate) fn number(&self, name: &EndpointName) -> usize {
        *self.numbers.get(name).expect("the endpoint was added")
    }

    pub(crate) fn machine(&mut self, number: usize) -> &mut Machine {
        self.machines.get_mut(number).expect("machines are not removed")
    }

    pub(crate) fn owner(&self, name: &EndpointName) -> Owner {
        Owner::Machine(self.number(name))
    }

    fn draw(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }
}

impl Machine {
    /// When it wants to be run next.
    pub(crate) fn due(&self) -> Option<Instant> {
        let host = self.host.as_ref()?;
        self.asleep.or_else(|| Some(host.node.poll_timeout()?.at))
    }
}
