//! What `meshd status --json` says.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

/// One answer of `meshd status --json`. Asking it for a field that it lacks fails the test with the whole answer.
#[derive(Clone, Debug)]
pub struct Status {
    json: Value,
}

/// A peer in a [`Status`].
#[derive(Clone, Debug)]
pub struct Peer {
    json: Value,
}

impl Status {
    /// Reads an answer.
    ///
    /// # Panics
    /// When it is no JSON, or of another version.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let json: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("status: {error}\n{text}"));
        assert_eq!(json["version"], 1, "the version of the status this suite reads");
        Self { json }
    }

    /// The answer as it came.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// The node's interface.
    #[must_use]
    pub fn interface(&self) -> String {
        text(&self.json["node"], "interface").unwrap_or_else(|| panic!("no interface in {self}"))
    }

    /// The library that runs AES-GCM.
    #[must_use]
    pub fn aes_backend(&self) -> String {
        text(&self.json["node"], "aes_backend").unwrap_or_else(|| panic!("no aes_backend in {self}"))
    }

    /// The node's mesh addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(&self.json["node"])
    }

    /// The offloads that the node uses.
    #[must_use]
    pub fn offloads(&self) -> Vec<String> {
        let offloads = self.json["node"]["offloads"].as_array().unwrap_or_else(|| panic!("no offloads in {self}"));
        offloads.iter().filter_map(|offload| offload.as_str().map(str::to_owned)).collect()
    }

    /// Every peer.
    #[must_use]
    pub fn peers(&self) -> Vec<Peer> {
        let peers = self.json["peers"].as_array().unwrap_or_else(|| panic!("no peers in {self}"));
        peers.iter().map(|json| Peer { json: json.clone() }).collect()
    }

    /// The peer of this name; none when the node does not list it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Peer> {
        self.peers().into_iter().find(|peer| peer.name() == name)
    }

    /// The peer of this name.
    ///
    /// # Panics
    /// When the node does not list it.
    #[track_caller]
    #[must_use]
    pub fn peer(&self, name: &str) -> Peer {
        self.find(name).unwrap_or_else(|| panic!("no peer {name} in {self}"))
    }

    /// Whether there is a session with the peer of this name.
    #[must_use]
    pub fn has_session(&self, name: &str) -> bool {
        self.find(name).is_some_and(|peer| peer.session().is_some())
    }

    /// Who carries a prefix that several connectors announce; `None` where nobody does, or it is not shared.
    #[must_use]
    pub fn owner_of(&self, prefix: &str) -> Option<String> {
        let shared = self.json()["shared"].as_array()?.iter().find(|shared| shared["prefix"] == prefix)?;
        shared["owner"].as_str().map(ToOwned::to_owned)
    }

    /// How many packets were dropped for `reason`; a reason that is not listed was never met.
    #[must_use]
    pub fn drops(&self, reason: &str) -> u64 {
        self.json["drops"][reason].as_u64().unwrap_or(0)
    }

    /// How many packets were dropped for all reasons together.
    #[must_use]
    pub fn all_drops(&self) -> u64 {
        self.json["drops"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// What the node takes the NAT before it for; none before enough members have seen it.
    #[must_use]
    pub fn nat_class(&self) -> Option<String> {
        text(&self.json["outside"]["nat"], "class")
    }

    /// The texts of the health section.
    #[must_use]
    pub fn health(&self) -> Vec<String> {
        let entries = self.json["health"].as_array().into_iter().flatten();
        entries.filter_map(|entry| text(entry, "text")).collect()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.json)
    }
}

impl Peer {
    /// `<cluster>.<node>`.
    #[must_use]
    pub fn name(&self) -> String {
        text(&self.json, "name").unwrap_or_else(|| panic!("no name in {:#}", self.json))
    }

    /// Its mesh addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(&self.json)
    }

    /// `idle`, `connecting`, `connected`, `unreachable`, `denied` or `relay_only`.
    #[must_use]
    pub fn state(&self) -> String {
        text(&self.json, "state").unwrap_or_else(|| panic!("no state in {:#}", self.json))
    }

    /// Where its datagrams go.
    #[must_use]
    pub fn path(&self) -> Option<SocketAddr> {
        let path = text(&self.json, "path").filter(|path| !path.starts_with("relay "))?;
        Some(path.parse().unwrap_or_else(|_| panic!("{path} is no socket address")))
    }

    /// By which relay its datagrams go.
    #[must_use]
    pub fn relay(&self) -> Option<SocketAddr> {
        let path = text(&self.json, "path")?;
        let relay = path.strip_prefix("relay ")?;
        Some(relay.parse().unwrap_or_else(|_| panic!("{relay} is no socket address")))
    }

    /// The largest packet that is known to pass the path with the data.
    #[must_use]
    pub fn mtu(&self) -> Option<u64> {
        self.active_path().and_then(|path| path["mtu"].as_u64())
    }

    /// What kind of way its datagrams go: `lan`, `direct`, `relay` or `tls`.
    #[must_use]
    pub fn path_kind(&self) -> Option<String> {
        self.active_path().and_then(|path| text(path, "kind"))
    }

    fn active_path(&self) -> Option<&Value> {
        self.json["paths"].as_array().into_iter().flatten().find(|path| path["state"] == "active")
    }

    /// The session's index.
    #[must_use]
    pub fn session(&self) -> Option<String> {
        text(&self.json, "session")
    }

    /// The session's cipher.
    #[must_use]
    pub fn cipher(&self) -> Option<String> {
        text(&self.json, "cipher")
    }

    /// How often the session's keys were renewed.
    #[must_use]
    pub fn rekeys(&self) -> u64 {
        self.count("rekeys")
    }

    /// Inner packets that came from it and were let in.
    #[must_use]
    pub fn rx_packets(&self) -> u64 {
        self.count("rx_packets")
    }

    /// Inner packets that went to it.
    #[must_use]
    pub fn tx_packets(&self) -> u64 {
        self.count("tx_packets")
    }

    /// Why it is refused or unreachable.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        text(&self.json, "reason")
    }

    /// The count in a field.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn count(&self, field: &str) -> u64 {
        self.json[field].as_u64().unwrap_or_else(|| panic!("no {field} in {:#}", self.json))
    }
}

fn text(json: &Value, field: &str) -> Option<String> {
    json[field].as_str().map(str::to_owned)
}

fn addresses(json: &Value) -> Vec<IpAddr> {
    let texts = json["addresses"].as_array().unwrap_or_else(|| panic!("no addresses in {json:#}"));
    texts.iter().filter_map(|address| address.as_str()?.split('/').next()?.parse().ok()).collect()
}
