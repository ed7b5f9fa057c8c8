//! Two edges that nobody can dial, each behind a NAT of its own, and public connectors that relay: what an edge site has, to be
//! spoilt.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::daemon::Daemon;
use crate::host::Host;
use crate::lab::Lab;
use crate::link::Link;
use crate::mesh::Mesh;
use crate::nat::{Class, Internet, NatKind, Premises, Station};
use crate::traffic::ping;
use crate::wait::wait_until;

/// One edge.
pub const ONE: &str = "here.one";

/// The other.
pub const TWO: &str = "there.two";

/// From the start of the daemons until both edges are in touch with every connector, and until they are in touch the wanted way.
const READY: Duration = Duration::from_secs(20);

/// The network and the mesh.
#[derive(Debug)]
pub struct Sites<'a> {
    /// What everything is linked to.
    pub internet: Internet<'a>,
    /// `hub.connector0` and so on, [`ONE`] and [`TWO`]; the edges are in one community.
    pub mesh: Mesh,
    /// The connectors' hosts, with their links.
    pub hubs: Vec<(Station, Link)>,
    /// Where [`ONE`] is.
    pub one: Place<'a>,
    /// Where [`TWO`] is.
    pub two: Place<'a>,
    lab: &'a Lab,
}

/// Where an edge is.
#[derive(Debug)]
pub struct Place<'a> {
    /// Its LAN, and what is before that.
    pub premises: Premises<'a>,
    /// Its host.
    pub host: Host,
}

/// The daemons of [`Sites`].
#[derive(Debug)]
pub struct Running {
    /// The connectors'.
    pub hubs: Vec<Daemon>,
    /// That of [`ONE`].
    pub one: Daemon,
    /// That of [`TWO`].
    pub two: Daemon,
}

impl<'a> Sites<'a> {
    /// With so many connectors, and the edges behind these NATs. Nothing runs yet.
    #[must_use]
    pub fn new(lab: &'a Lab, hubs: u8, nats: [NatKind; 2]) -> Self {
        let internet = Internet::new(lab);
        let mut mesh = Mesh::new(lab, "sites");
        let hub = |number: u8| {
            let hub = internet.host(&format!("hub{number}"), 1);
            let address = hub.0.v4[0].to_string();
            mesh.connector(&hub_name(number), &hub.0.host, &address).address(&format!("10.98.0.{}", 1 + number));
            hub
        };
        let hubs = (0..hubs).map(hub).collect();
        let [one, two] = [("one", nats[0]), ("two", nats[1])].map(|(name, nat)| {
            let premises = internet.premises(name, Class::v4(nat));
            let host = premises.host(&format!("{name}-edge")).host;
            Place { premises, host }
        });
        mesh.edge(ONE, &one.host, "").address("10.99.0.1");
        mesh.edge(TWO, &two.host, "").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        Self { internet, mesh, hubs, one, two, lab }
    }

    /// Starts everything, and waits until the edges that nobody can dial can be found at every connector.
    ///
    /// # Panics
    /// When that takes longer than 20 s.
    #[track_caller]
    #[must_use]
    pub fn start(&self) -> Running {
        let mut hubs = self.mesh.up_all();
        let two = hubs.pop().expect("a daemon for each endpoint");
        let one = hubs.pop().expect("a daemon for each endpoint");
        // Who can be dialled need not be found.
        for edge in [&one, &two].into_iter().filter(|edge| self.mesh.endpoint(edge.name()).public_addresses.is_empty())
        {
            wait_until(READY, &format!("{} is in touch with every connector", edge.name()), || {
                let status = edge.status();
                (0..).zip(&hubs).all(|(number, _)| status.has_session(&hub_name(number)))
            });
        }
        Running { hubs, one, two }
    }

    /// Keeps the edges from each other's UDP, so that they need a relay.
    pub fn keep_apart(&self) {
        self.internet.block_udp(&self.one.premises.uplink, &self.two.premises.uplink);
    }

    /// The number of the connector that relays for the edges.
    ///
    /// # Panics
    /// When none does.
    #[track_caller]
    #[must_use]
    pub fn relay_in_use(&self, running: &Running) -> usize {
        let relay = running.one.status().peer(TWO).relay().expect("a relay");
        self.hubs.iter().position(|(station, _)| relay.ip() == station.v4[0]).expect("one of the connectors")
    }

    /// Has the edges talk until both send the wanted way: `direct` or `relay`.
    ///
    /// # Panics
    /// When they do not within 20 s.
    #[track_caller]
    pub fn meet(&self, running: &Running, kind: &str) {
        wait_until(READY, &format!("the edges reach each other by {kind}"), || {
            let _ = ping(&self.one.host, "10.99.0.2", 2);
            let is_so = |daemon: &Daemon, peer| daemon.status().peer(peer).path_kind().as_deref() == Some(kind);
            is_so(&running.one, TWO) && is_so(&running.two, ONE)
        });
    }

    /// Pulls the host of [`ONE`] out of its network and plugs it into `to`, where it has another address and gateway.
    pub fn replug_one(&self, to: &Premises<'_>) {
        let own = to.host(&format!("{}-neighbour", to.lan.host.name())).v4[0].octets();
        self.one.host.ok("ip link del eth0");
        let at = |last: u8| Ipv4Addr::new(own[0], own[1], own[2], last);
        let interface = self.lab.plug(&self.one.host, &to.lan, &[&format!("{}/24", at(99))]);
        self.one.host.ok(&format!("ip route add default via {} dev {interface}", at(1)));
    }
}

impl Place<'_> {
    /// The gateway of the host's default route.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn gateway(&self) -> String {
        let route = self.host.json("ip -j -4 route show default");
        route[0]["gateway"].as_str().expect("a default route").to_owned()
    }
}

/// The name of the connector with this number.
#[must_use]
pub fn hub_name(number: u8) -> String {
    format!("hub.connector{number}")
}
