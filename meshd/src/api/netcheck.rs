//! What the API says of the network around this node.

use serde::{Deserialize, Serialize};

use super::model::{LanLine, Mode, Outside};

/// `GET /v1/netcheck`; `POST` asks gateways, servers and relays anew before, and does not wait for them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetCheck {
    /// Version of this shape: 1.
    pub(crate) version: u32,
    pub(crate) name: String,
    /// UDP port.
    pub(crate) port: u16,
    /// What shows that UDP passes: a peer or a server that answers; absent where nothing does.
    pub(crate) udp: Option<String>,
    /// Where the mesh file says that others may dial this node.
    pub(crate) public_addresses: Vec<String>,
    /// Addresses of this machine's interfaces that others may reach.
    pub(crate) local_addresses: Vec<String>,
    /// Where peers see this node.
    pub(crate) observed: Vec<ObservedLine>,
    pub(crate) outside: Outside,
    /// Who is near; absent where LAN discovery is off.
    #[serde(default)]
    pub(crate) lan: Option<LanLine>,
    /// Every relay of the mesh, by name.
    pub(crate) relays: Vec<RelayLine>,
    /// Whether the node runs; of one that does not, nothing else is known.
    #[serde(default)]
    pub(crate) mode: Mode,
}

impl NetCheck {
    /// Of a node that is not selected nothing is known.
    pub(crate) fn unknown(name: &str) -> Self {
        Self {
            version: 1,
            name: name.to_owned(),
            port: 0,
            udp: None,
            public_addresses: Vec::new(),
            local_addresses: Vec::new(),
            observed: Vec::new(),
            outside: Outside::default(),
            lan: None,
            relays: Vec::new(),
            mode: Mode::NotSelected,
        }
    }
}

/// Where a peer sees this node.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ObservedLine {
    pub(crate) by: String,
    /// UDP address.
    pub(crate) address: String,
    pub(crate) seconds_ago: f64,
}

/// A member that relays.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RelayLine {
    pub(crate) name: String,
    /// Over which it is reached, while a session is up.
    pub(crate) path: Option<String>,
    /// Smoothed round trip time in microseconds.
    pub(crate) rtt_us: Option<u64>,
    /// Whether others look for this node there.
    pub(crate) is_own: bool,
    /// Peers whose data goes through it.
    pub(crate) used_for: Vec<String>,
    /// Why there is no session, where that needs saying.
    pub(crate) reason: Option<String>,
}
