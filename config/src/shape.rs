//! The tables and keys that the two files know: the one list that reader, suggestions and reference file agree on.

use std::fmt;

/// A kind of table: its name, how often it may stand in a file, and its keys.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) many: bool,
    pub(crate) keys: &'static [&'static str],
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.many { write!(f, "[[{}]]", self.name) } else { write!(f, "[{}]", self.name) }
    }
}

pub(crate) const NODE: Shape = one("node", &["name", "key_file", "mesh", "psk_file"]);
pub(crate) const INTERFACE: Shape = one("interface", &["name", "mtu", "table", "mark"]);
pub(crate) const LISTEN: Shape = one("listen", &["port", "tls"]);
pub(crate) const LAN: Shape = one(
    "lan",
    &[
        "multicast_token",
        "multicast_address",
        "multicast_address6",
        "interval",
        "ttl",
        "interfaces",
        "mode",
        "implicit_community",
    ],
);
pub(crate) const NAT: Shape = one("nat", &["port_mapping", "stun_servers", "punch", "spray"]);
pub(crate) const PATHS: Shape = one("paths", &["balance"]);
pub(crate) const HEALTH: Shape = one("health", &["probe"]);
pub(crate) const RELAY: Shape = one("relay", &["rate", "member_rate"]);
pub(crate) const INVITE: Shape = one("invite", &["accept"]);
pub(crate) const SESSION: Shape = one("session", &["rekey", "idle", "keepalive"]);
pub(crate) const DATAPLANE: Shape = one("dataplane", &["workers", "offload", "without", "cipher"]);
pub(crate) const API: Shape = one("api", &["socket"]);
pub(crate) const STATE: Shape = one("state", &["dir"]);
pub(crate) const LOG: Shape = one("log", &["level", "format"]);
pub(crate) const METRICS: Shape = one("metrics", &["listen"]);
pub(crate) const RELOAD: Shape = one("reload", &["watch"]);
pub(crate) const MESH: Shape = one("mesh", &["name"]);
/// What every node takes from the mesh, unless it is told otherwise.
pub(crate) const DEFAULTS: Shape = one("defaults", &["args"]);
/// The node tables of the mesh: what one node takes from it; their names have a dot.
pub(crate) const NODES: Shape = one("node", &[]);
/// Which endpoints of the mesh take part.
pub(crate) const SELECTOR: Shape = one("selector", &["labels"]);
pub(crate) const ENDPOINT: Shape = Shape {
    name: "endpoint",
    many: true,
    keys: &[
        "name",
        "kind",
        "public_key",
        "public_addresses",
        "tls_addresses",
        "subnets",
        "node_subnets",
        "address",
        "priority",
        "relay",
        "zone",
        "region",
        "labels",
        "invited_until",
    ],
};
pub(crate) const COMMUNITY: Shape = Shape { name: "community", many: true, keys: &["name", "members"] };

/// The tables of `meshd.toml` only.
pub(crate) static NODE_TABLES: [&Shape; 16] = [
    &NODE, &INTERFACE, &LISTEN, &LAN, &NAT, &PATHS, &HEALTH, &RELAY, &INVITE, &SESSION, &DATAPLANE, &API, &STATE, &LOG,
    &METRICS, &RELOAD,
];
/// The tables of a mesh, in a file of its own or in `meshd.toml`. It has a `[node]` for each node besides.
pub(crate) static MESH_TABLES: [&Shape; 5] = [&MESH, &ENDPOINT, &COMMUNITY, &DEFAULTS, &SELECTOR];
/// The tables of a mesh file.
pub(crate) static MESH_FILE_TABLES: [&Shape; 6] = [&MESH, &ENDPOINT, &COMMUNITY, &DEFAULTS, &NODES, &SELECTOR];
/// The tables of a `meshd.toml`, inline mesh included.
pub(crate) static ALL_TABLES: [&Shape; 21] = [
    &NODE, &INTERFACE, &LISTEN, &LAN, &NAT, &PATHS, &HEALTH, &RELAY, &INVITE, &SESSION, &DATAPLANE, &API, &STATE, &LOG,
    &METRICS, &RELOAD, &MESH, &ENDPOINT, &COMMUNITY, &DEFAULTS, &SELECTOR,
];

const fn one(name: &'static str, keys: &'static [&'static str]) -> Shape {
    Shape { name, many: false, keys }
}

/// The only table that has this key; `None` where there is none, or more than one.
pub(crate) fn owner_of(key: &str) -> Option<&'static Shape> {
    let mut owners = ALL_TABLES.into_iter().filter(|shape| shape.keys.contains(&key));
    owners.next().filter(|_| owners.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_several_tables_has_no_owner() {
        assert_eq!(owner_of("mtu").map(ToString::to_string), Some("[interface]".into()));
        assert_eq!(owner_of("subnets").map(ToString::to_string), Some("[[endpoint]]".into()));
        assert!(owner_of("name").is_none());
        assert!(owner_of("colour").is_none());
    }
}
