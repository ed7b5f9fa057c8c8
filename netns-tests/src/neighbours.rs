//! Neighbours: two edges that nobody can dial on one switch, which LAN discovery is to bring together.

use std::time::Duration;

use serde_json::Value;

use crate::daemon::{Daemon, Family};
use crate::host::Host;
use crate::lab::{Lab, Switch};
use crate::mesh::Mesh;
use crate::traffic::ping;
use crate::wait::wait_until;

/// One of the two.
pub const ONE: &str = "site.one";

/// The other.
pub const TWO: &str = "site.two";

/// A token, random, as `meshd key generate` prints it.
pub const TOKEN: &str = "h3GgkS0mTzq1yq0bRWcZpY5xJ2uVdL8nEoFfCtKaUwM=";

/// A beacon a second.
const FAST: &str = "interval = \"1s\"\nttl = \"3s\"\n";

/// Two edges on one switch. Nothing runs yet.
#[derive(Debug)]
pub struct Neighbourhood {
    /// Them, in no community.
    pub mesh: Mesh,
    /// The switch.
    pub lan: Switch,
    /// The host of [`ONE`].
    pub one: Host,
    /// The host of [`TWO`].
    pub two: Host,
}

impl Neighbourhood {
    /// With these addresses on the LAN.
    #[must_use]
    pub fn new(lab: &Lab, addresses: [&[&str]; 2]) -> Self {
        let lan = lab.switch("lan");
        let hosts = ["one", "two"].map(|name| lab.host(name));
        for (host, addresses) in hosts.iter().zip(addresses) {
            lab.plug(host, &lan, addresses);
        }
        let [one, two] = hosts;
        let mut mesh = Mesh::new(lab, "neighbours");
        mesh.edge(ONE, &one, "").address("10.99.0.1");
        mesh.edge(TWO, &two, "").address("10.99.0.2");
        Self { mesh, lan, one, two }
    }

    /// With IPv4 addresses, and link-local IPv6 ones.
    #[must_use]
    pub fn dual(lab: &Lab) -> Self {
        Self::new(lab, [&["192.168.7.1/24"], &["192.168.7.2/24"]])
    }

    /// Puts both into one community.
    #[must_use]
    pub fn with_community(mut self) -> Self {
        self.mesh.community("pair", &[ONE, TWO]);
        self
    }

    /// Gives both the token, and these lines in `[lan]`.
    #[must_use]
    pub fn with_lan(mut self, lines: &str) -> Self {
        self.mesh.settings = lan_settings(TOKEN, lines);
        self
    }

    /// Checks that neither reaches the other.
    ///
    /// # Panics
    /// When one does.
    #[track_caller]
    pub fn assert_apart(&self) {
        for (from, to) in [(&self.one, TWO), (&self.two, ONE)] {
            assert_eq!(ping(from, &self.mesh.address(to, Family::V4), 1).received, 0);
        }
    }
}

/// `[lan]` with this token, a beacon a second, and these lines.
#[must_use]
pub fn lan_settings(token: &str, lines: &str) -> String {
    format!("[lan]\nmulticast_token = \"{token}\"\n{FAST}{lines}")
}

/// Waits until a daemon hears the endpoint of this name on the LAN.
///
/// # Panics
/// When it does not within 5 s.
#[track_caller]
pub fn wait_near(daemon: &Daemon, name: &str) {
    wait_until(Duration::from_secs(5), "the neighbour is heard", || hears(daemon, name));
}

/// Whether a daemon hears the endpoint of this name on the LAN.
#[must_use]
pub fn hears(daemon: &Daemon, name: &str) -> bool {
    let status = daemon.status();
    status.json()["lan"]["neighbours"].as_array().into_iter().flatten().any(|neighbour| neighbour["name"] == name)
}

/// Every place where a daemon may reach a peer, as its status has it.
#[must_use]
pub fn paths(daemon: &Daemon, peer: &str) -> Vec<Value> {
    let status = daemon.status();
    let line = status.json()["peers"].as_array().into_iter().flatten().find(|line| line["name"] == peer).cloned();
    line.and_then(|line| line["paths"].as_array().cloned()).unwrap_or_default()
}

/// The kind of the path that carries the data to a peer.
#[must_use]
pub fn active_kind(daemon: &Daemon, peer: &str) -> Option<String> {
    let active = paths(daemon, peer).into_iter().find(|path| path["state"] == "active")?;
    active["kind"].as_str().map(str::to_owned)
}

/// Whether a daemon's packets to a peer go past the tunnel.
#[must_use]
pub fn has_direct_route(daemon: &Daemon, peer: &str) -> bool {
    paths(daemon, peer).iter().any(|path| path["direct_route"] == true)
}
