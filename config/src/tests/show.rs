//! `show`: every key, the value that the daemon uses, and who said so.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use insta::assert_snapshot;

use super::endpoint;
use crate::{Extent, Shown, shape};

fn files(mesh: &str, node: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mesh = format!("{}{}{mesh}", endpoint("a.one", 1, ""), endpoint("a.two", 2, "labels = [\"edge\"]"));
    std::fs::write(folder.path().join("mesh.toml"), mesh).unwrap();
    std::fs::write(folder.path().join("meshd.toml"), format!("[node]\nname = \"a.one\"\n{node}")).unwrap();
    folder
}

fn lines(folder: &tempfile::TempDir, shown: &Shown) -> String {
    let mut text = String::new();
    for setting in &shown.settings {
        let _ = writeln!(text, "{}.{} = {} # {}", setting.table, setting.key, setting.value, setting.origin);
    }
    text.replace(&format!("{}/", folder.path().display()), "")
}

const MESH: &str = "[defaults.args]\nsession.keepalive = \"25s\"\nlan.interval = \"30s\"\n[node.\"a.one\".args.nat]\nspray = false\n\
    [node.\"a.two\".args]\nlog.level = \"debug\"\n[selector]\nlabels = [\"edge\"]\n";
const NODE: &str =
    "key_file = \"k\"\n[lan]\nmulticast_token = \"000102030405060708090a0b0c0d0e0f\"\n[session]\nidle = \"1h\"\n";

#[test]
fn every_key_is_shown_with_its_value_and_origin_and_secrets_are_not() {
    let folder = files(MESH, NODE);
    let shown = crate::show(&folder.path().join("meshd.toml"), None).unwrap();
    assert_eq!((shown.name.as_str(), &shown.extent, shown.selected), ("a.one", &Extent::Whole, false));
    assert_snapshot!(lines(&folder, &shown), @r#"
    node.name = "a.one" # meshd.toml:2
    node.key_file = "k" # meshd.toml:3
    node.mesh = "mesh.toml" # default
    node.psk_file = (none) # default
    interface.name = "mesh0" # default
    interface.mtu = (none) # default
    interface.table = "main" # default
    interface.mark = 6374 # default
    listen.port = 6374 # default
    listen.tls = (none) # default
    lan.multicast_token = (set) # meshd.toml:5
    lan.multicast_address = "239.40.20.81:18080" # default
    lan.multicast_address6 = "[ff12::ed65:7368]:18080" # default
    lan.interval = "30s" # mesh.toml:11 [defaults.args]
    lan.ttl = "1m" # default
    lan.interfaces = ["*"] # default
    lan.mode = "encrypted" # default
    lan.implicit_community = false # default
    nat.port_mapping = true # default
    nat.stun_servers = [] # default
    nat.punch = true # default
    nat.spray = false # mesh.toml:13 [node."a.one".args]
    paths.balance = "best" # default
    health.probe = [] # default
    relay.rate = "1 Gbit/s" # default
    relay.member_rate = "100 Mbit/s" # default
    invite.accept = false # default
    session.rekey = "2m" # default
    session.idle = "1h" # meshd.toml:7
    session.keepalive = "25s" # mesh.toml:10 [defaults.args]
    dataplane.workers = 1 # default
    dataplane.offload = true # default
    dataplane.without = [] # default
    dataplane.cipher = "auto" # default
    api.socket = "/run/meshd/meshd.sock" # default
    state.dir = "/var/lib/meshd" # default
    log.level = "info" # default
    log.format = "text" # default
    metrics.listen = (none) # default
    reload.watch = false # default
    mesh.name = "default" # default
    endpoint.name = "a.one" # mesh.toml:2
    endpoint.kind = "edge" # default
    endpoint.public_key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=" # mesh.toml:3
    endpoint.public_addresses = [] # default
    endpoint.tls_addresses = [] # default
    endpoint.subnets = [] # default
    endpoint.node_subnets = [] # default
    endpoint.address = ["fd45:c573:6464:6fdf:f890:5f2b:944f:22e4"] # default
    endpoint.priority = 0 # default
    endpoint.relay = false # default
    endpoint.zone = (none) # default
    endpoint.region = (none) # default
    endpoint.labels = [] # default
    endpoint.invited_until = (none) # default
    selector.labels = ["edge"] # mesh.toml:17
    "#);
}

#[test]
fn of_another_node_is_shown_what_the_mesh_tells() {
    let folder = files(MESH, NODE);
    let path = folder.path().join("meshd.toml");
    let shown = crate::show(&path, Some("a.two")).unwrap();
    assert_eq!((&shown.extent, shown.selected), (&Extent::Mesh(folder.path().join("mesh.toml")), true));
    assert_snapshot!(lines(&folder, &shown), @r#"
    lan.multicast_address = "239.40.20.81:18080" # default
    lan.multicast_address6 = "[ff12::ed65:7368]:18080" # default
    lan.interval = "30s" # mesh.toml:11 [defaults.args]
    lan.ttl = "1m" # default
    lan.interfaces = ["*"] # default
    lan.mode = "encrypted" # default
    lan.implicit_community = false # default
    nat.port_mapping = true # default
    nat.stun_servers = [] # default
    nat.punch = true # default
    nat.spray = true # default
    health.probe = [] # default
    relay.rate = "1 Gbit/s" # default
    relay.member_rate = "100 Mbit/s" # default
    session.rekey = "2m" # default
    session.idle = "3m" # default
    session.keepalive = "25s" # mesh.toml:10 [defaults.args]
    log.level = "debug" # mesh.toml:15 [node."a.two".args]
    mesh.name = "default" # default
    endpoint.name = "a.two" # mesh.toml:6
    endpoint.kind = "edge" # default
    endpoint.public_key = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=" # mesh.toml:7
    endpoint.public_addresses = [] # default
    endpoint.tls_addresses = [] # default
    endpoint.subnets = [] # default
    endpoint.node_subnets = [] # default
    endpoint.address = ["fd45:c573:6464:430c:469:8d03:6f7c:c85a"] # default
    endpoint.priority = 0 # default
    endpoint.relay = false # default
    endpoint.zone = (none) # default
    endpoint.region = (none) # default
    endpoint.labels = ["edge"] # mesh.toml:8
    endpoint.invited_until = (none) # default
    selector.labels = ["edge"] # mesh.toml:17
    "#);
    assert_eq!(crate::show(&path, Some("a.one")), crate::show(&path, None), "its own name changes nothing");
    let unknown = crate::show(&path, Some("a.tow")).unwrap_err().to_string();
    assert!(unknown.contains("it has no endpoint \"a.tow\"; did you mean \"a.two\"?"), "{unknown}");
}

#[test]
fn no_key_of_the_files_is_left_out() {
    let folder = files("", "");
    let shown = crate::show(&folder.path().join("meshd.toml"), None).unwrap();
    let shown: BTreeSet<_> = shown.settings.iter().map(|setting| (setting.table, setting.key)).collect();
    // Communities are of the mesh as a whole, and arguments are shown as what they set.
    let apart = [shape::COMMUNITY.name, shape::DEFAULTS.name];
    let tables = shape::ALL_TABLES.iter().filter(|shape| !apart.contains(&shape.name));
    let all: BTreeSet<_> = tables.flat_map(|shape| shape.keys.iter().map(|key| (shape.name, *key))).collect();
    assert_eq!(shown, all);
}
