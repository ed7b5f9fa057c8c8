//! Arguments that nodes take from the mesh: who is heard over whom, what is refused, and in which words.

use insta::assert_snapshot;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{endpoint, mesh_problems, node_problems};
use crate::{Origin, Setting, Shown, Value};

/// The problems of a mesh of two endpoints and `text`, which begins in line 9.
fn said(text: &str) -> String {
    mesh_problems(&format!("{}{}{text}", endpoint("a.one", 1, ""), endpoint("a.two", 2, ""))).join("\n")
}

/// What is shown for `a.one`, whose folder has the two files.
fn shown(mesh: &str, node: &str, name: Option<&str>) -> Shown {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let mesh = format!("{}{}{mesh}", endpoint("a.one", 1, ""), endpoint("a.two", 2, ""));
    std::fs::write(folder.path().join("mesh.toml"), mesh).unwrap();
    std::fs::write(folder.path().join("meshd.toml"), format!("[node]\nname = \"a.one\"\n{node}")).unwrap();
    crate::show(&folder.path().join("meshd.toml"), name).unwrap()
}

fn of(shown: &Shown, table: &str, key: &str) -> (String, String) {
    let Setting { value, origin, .. } =
        shown.settings.iter().find(|setting| (setting.table, setting.key) == (table, key)).unwrap();
    let origin = match origin {
        Origin::Default => "default".to_owned(),
        Origin::File { file, args, .. } => {
            let file = file.file_name().unwrap().to_str().unwrap();
            args.as_ref().map_or_else(|| file.to_owned(), ToOwned::to_owned)
        }
    };
    (value.to_string(), origin)
}

#[test]
fn each_layer_is_heard_over_the_one_below_it() {
    let mesh = "[defaults.args]\nsession.keepalive = \"20s\"\nsession.idle = \"10m\"\nlog.level = \"debug\"\n\
        [node.\"a.one\".args.nat]\nspray = false\n[node.\"a.one\".args]\nsession.idle = \"20m\"\nlog.level = \"warn\"\n";
    let shown = shown(mesh, "[log]\nlevel = \"trace\"\n", None);
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(of(&shown, "session", "rekey"), pair("\"2m\"", "default"));
    assert_eq!(of(&shown, "session", "keepalive"), pair("\"20s\"", "[defaults.args]"));
    assert_eq!(of(&shown, "session", "idle"), pair("\"20m\"", "[node.\"a.one\".args]"));
    assert_eq!(of(&shown, "nat", "spray"), pair("false", "[node.\"a.one\".args]"));
    assert_eq!(of(&shown, "log", "level"), pair("\"trace\"", "meshd.toml"));
}

/// A key of each table that arguments may set, with three values that are not its default, and how each is shown.
const KEYS: [(&str, &str, [&str; 3]); 8] = [
    ("session", "keepalive", ["\"20s\"", "\"off\"", "\"1m\""]),
    ("session", "idle", ["\"1m\"", "\"6s\"", "\"1h\""]),
    ("nat", "stun_servers", ["[\"192.0.2.1:1\"]", "[]", "[\"a.example:3478\", \"[fd00::1]:9\"]"]),
    ("lan", "interval", ["\"7s\"", "\"9s\"", "\"1s\""]),
    ("lan", "interfaces", ["[\"eth*\"]", "[\"wlan?\", \"x\"]", "[\"*\"]"]),
    ("relay", "rate", ["\"2 Gbit/s\"", "\"64 kbit/s\"", "\"1500 kbit/s\""]),
    ("health", "probe", ["[\"10.0.0.1\"]", "[]", "[\"10.0.0.2\", \"fd00::1\"]"]),
    ("log", "level", ["\"warn\"", "\"trace\"", "\"error\""]),
];

proptest! {
    #[test]
    fn a_value_and_its_origin_are_those_of_the_highest_layer_that_has_it(
        layers in prop::array::uniform8(prop::array::uniform3(any::<bool>())),
        dotted in any::<bool>(),
    ) {
        let layer = |number: usize| KEYS.iter().zip(layers).filter(move |(_, has)| has[number]).map(|(key, _)| key);
        let lines = |number: usize, within: &str| -> String {
            layer(number).map(|(table, key, values)| format!("{within}{table}.{key} = {}\n", values[number])).collect()
        };
        // Both forms of TOML: dotted keys at the top of the file, and tables at its end.
        let (all, one) = ("defaults.args", "node.\"a.one\".args");
        let (head, tail) = match dotted {
            true => (lines(0, &format!("{all}.")) + &lines(1, &format!("{one}.")), String::new()),
            false => (String::new(), format!("[{all}]\n{}[{one}]\n{}", lines(0, ""), lines(1, ""))),
        };
        let folder = tempfile::tempdir().unwrap();
        let mesh = format!("{head}{}{}{tail}", endpoint("a.one", 1, ""), endpoint("a.two", 2, ""));
        let own = lines(2, "");
        std::fs::write(folder.path().join("mesh.toml"), mesh).unwrap();
        std::fs::write(folder.path().join("meshd.toml"), format!("{own}[node]\nname = \"a.one\"\n")).unwrap();
        let shown = crate::show(&folder.path().join("meshd.toml"), None).unwrap();
        let bare = self::shown("", "", None);
        for ((table, key, values), has) in KEYS.into_iter().zip(layers) {
            let expected = match has.iter().rposition(|has| *has) {
                None => of(&bare, table, key),
                Some(layer) => {
                    let origin = ["[defaults.args]", "[node.\"a.one\".args]", "meshd.toml"][layer];
                    (values[layer].to_owned(), origin.to_owned())
                }
            };
            prop_assert_eq!(of(&shown, table, key), expected);
        }
    }
}

#[test]
fn the_mesh_in_meshd_toml_has_arguments_too_and_the_nodes_own_tables_are_heard_over_them() {
    let text = format!(
        "[node]\nname = \"a.one\"\n[node.\"a.one\".args]\nlog.level = \"warn\"\n[node.\"a.two\".args]\nlog.level = \"error\"\n\
        [defaults.args.session]\nidle = \"1h\"\nkeepalive = \"9s\"\n[session]\nidle = \"2h\"\n{}{}",
        endpoint("a.one", 1, ""),
        endpoint("a.two", 2, "")
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meshd.toml");
    std::fs::write(&file, &text).unwrap();
    let own = crate::show(&file, None).unwrap();
    let value = |shown: &Shown, table: &str, key: &str| of(shown, table, key).0;
    assert_eq!(["idle", "keepalive"].map(|key| value(&own, "session", key)), ["\"2h\"", "\"9s\""]);
    assert_eq!(value(&own, "log", "level"), "\"warn\"");
    let other = crate::show(&file, Some("a.two")).unwrap();
    assert_eq!(value(&other, "log", "level"), "\"error\"");
    assert_eq!(value(&other, "session", "idle"), "\"1h\"", "what meshd.toml says is for its own node");
}

#[test]
fn arguments_reach_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let secret = proto::id::SecretKey::from_bytes([9; 32]);
    crate::key::generate_file(&folder.path().join("k"), &secret).unwrap();
    let mesh = format!(
        "[[endpoint]]\nname = \"a.one\"\npublic_key = \"{}\"\n[defaults.args]\nsession.rekey = \"9s\"\nlan.interval = \"1m\"\n",
        secret.public_key()
    );
    std::fs::write(folder.path().join("mesh.toml"), mesh).unwrap();
    let node = "[node]\nname = \"a.one\"\nkey_file = \"k\"\n";
    std::fs::write(folder.path().join("meshd.toml"), node).unwrap();
    let config = crate::load(&folder.path().join("meshd.toml")).unwrap();
    assert_eq!((config.session.rekey.as_secs(), config.lan.interval.as_secs(), config.lan.ttl.as_secs()), (9, 60, 120));
    assert_eq!(config.session.idle.as_secs(), 180);
}

#[test]
fn arguments_for_everybody_are_no_reason_to_warn_those_whom_they_do_not_suit() {
    let warned = |table: &str| {
        let public = endpoint("a.one", 1, "public_addresses = [\"192.0.2.1\"]");
        let community = "[[community]]\nname = \"c\"\nmembers = [\"a.one\", \"a.two\"]\n";
        let folder = tempfile::tempdir().unwrap();
        let mesh = format!("{public}{}{community}[{table}]\nsession.keepalive = \"9s\"\n", endpoint("a.two", 2, ""));
        std::fs::write(folder.path().join("mesh.toml"), mesh).unwrap();
        std::fs::write(folder.path().join("meshd.toml"), "[node]\nname = \"a.one\"\n").unwrap();
        crate::check(&folder.path().join("meshd.toml")).unwrap()
    };
    assert_eq!(warned("defaults.args"), [""; 0]);
    let [warning] = &warned("node.\"a.one\".args")[..] else { panic!("one warning") };
    assert!(warning.ends_with("mesh.toml:13:21: [session] keepalive has no effect: this node has public_addresses"));
}

#[test]
fn what_is_the_nodes_own_is_refused_with_the_reason() {
    assert_snapshot!(said("[defaults.args]\ninterface.mtu = 1400\nlisten.port = 7\n[node.\"a.two\".args]\nnode.key_file = \"x\"\ndataplane.workers = 2\napi.socket = \"x\"\nstate.dir = \"x\"\n"), @r#"
    mesh.toml:10:1: [defaults.args] interface: the mesh may not set it
        help: the interface is made at the start and has to suit the machine; write it in [interface] of the node's own meshd.toml
    mesh.toml:11:1: [defaults.args] listen: the mesh may not set it
        help: ports are opened at the start and have to be free on the machine; write it in [listen] of the node's own meshd.toml
    mesh.toml:13:1: [node."a.two".args] node: the mesh may not set it
        help: who a node is and where its keys lie is its own matter; write it in [node] of the node's own meshd.toml
    mesh.toml:14:1: [node."a.two".args] dataplane: the mesh may not set it
        help: threads, offloads and ciphers are set up at the start and have to suit the machine; write it in [dataplane] of the node's own meshd.toml
    mesh.toml:15:1: [node."a.two".args] api: the mesh may not set it
        help: the socket is a file of the machine; write it in [api] of the node's own meshd.toml
    mesh.toml:16:1: [node."a.two".args] state: the mesh may not set it
        help: the folder is one of the machine; write it in [state] of the node's own meshd.toml
    "#);
    assert_snapshot!(said("[defaults.args.lan]\nmulticast_token = \"hunter2hunter2\"\n"), @r"
    mesh.toml:10:1: [defaults.args.lan] multicast_token: the mesh may not set it
        help: it is a secret, and the mesh file is read by many; write it in [lan] of the node's own meshd.toml
    ");
}

#[test]
fn a_wrong_argument_is_told_as_in_meshd_toml_for_whichever_node_it_is() {
    assert_snapshot!(said("[defaults.args]\nsession.keepalve = \"25s\"\nsesion.rekey = \"1m\"\nkeepalive = \"25s\"\ncolour = 1\n"), @r#"
    mesh.toml:10:9: unknown key "keepalve" in [defaults.args.session]; did you mean "keepalive"?
    mesh.toml:11:1: unknown table "sesion" in [defaults.args]; did you mean "session"?
    mesh.toml:12:1: unknown key "keepalive" in [defaults.args]; write session.keepalive
    mesh.toml:13:1: unknown key "colour" in [defaults.args]; known tables: lan, nat, health, relay, session, log
    "#);
    assert_snapshot!(said("[node.\"a.two\".args]\nsession.keepalive = 25\nlog.level = \"verbos\"\n[node.\"a.two\".args.nat]\nstun_servers = \"x\"\nspray = 1\n"), @r#"
    mesh.toml:10:21: [node."a.two".args.session] keepalive: must be a duration with a unit, not an integer
        help: write "25s" for seconds; 1s to 1h are possible, "auto" or "off"
    mesh.toml:11:13: [node."a.two".args.log] level: unknown value "verbos"; use "error", "warn", "info", "debug", "trace"
    mesh.toml:13:16: [node."a.two".args.nat] stun_servers: must be a list, not a text; write ["x"]
    mesh.toml:14:9: [node."a.two".args.nat] spray: must be true or false, not an integer; write true or false, without quotes
    "#);
    assert_snapshot!(said("[defaults.args]\nsession = 5\nmtu = 1400\n"), @r#"
    mesh.toml:10:11: session must be one table, not an integer; write [defaults.args.session], once
    mesh.toml:11:1: unknown key "mtu" in [defaults.args]; [interface] has it, which arguments may not set
    "#);
}

#[test]
fn a_node_that_is_not_in_the_mesh_is_refused_with_the_nearest() {
    assert_snapshot!(said("[node.\"a.tow\".args]\nlog.level = \"debug\"\n[node.\"far.away\".args]\n[node.\"A.one\".args]\n"), @r#"
    mesh.toml:9:7: [node."a.tow"]: no endpoint of this mesh has this name; did you mean "a.two"?
    mesh.toml:11:7: [node."far.away"]: no endpoint of this mesh has this name; add an [[endpoint]] of this name, or remove it
    mesh.toml:12:7: [node."A.one"]: "A.one" is not <cluster>.<node>; use a-z, 0-9 and inner hyphens
    "#);
    assert_snapshot!(said("[node.a.two.args]\nlog.level = \"debug\"\n"), @r#"mesh.toml:9:7: [node.a]: "a" is not <cluster>.<node>; put the name in quotes: [node."a.two".args]"#);
    assert_snapshot!(said("[node.\"a.two\"]\nargz.log.level = \"debug\"\nsession.rekey = \"1m\"\n"), @r#"
    mesh.toml:10:1: unknown key "argz" in [node."a.two"]; known keys: args
    mesh.toml:11:1: unknown key "session" in [node."a.two"]; what the node is to use stands in [node."a.two".args]
    "#);
    assert_snapshot!(said("[node.\"a.two\"]\nargs = 5\n[defaults]\nargs = []\nsession = 1\n"), @r#"
    mesh.toml:10:8: node."a.two".args must be one table, not an integer; write [node."a.two".args], once
    mesh.toml:12:8: defaults.args must be one table, not a list; write [defaults.args], once
    mesh.toml:13:1: unknown key "session" in [defaults]; known keys: args
    "#);
}

#[test]
fn settings_at_the_top_of_a_mesh_file_are_told_where_they_go() {
    assert_snapshot!(said("[session]\nrekey = \"1m\"\n[interface]\nmtu = 1400\n"), @r#"
    mesh.toml:9:2: unknown table "session" at the top of the file
        help: [session] belongs in meshd.toml; for all nodes write [defaults.args.session]
    mesh.toml:11:2: unknown table "interface" at the top of the file; [interface] belongs in meshd.toml
    "#);
    let node = "[node]\nname = \"a.one\"\n[node.\"a.two\".args]\nlog.level = \"debug\"\n";
    assert_snapshot!(node_problems(node).join("\n"), @r#"
    meshd.toml:3:7: [node."a.two"] is a table of the mesh, and this file has none
        help: write it into the mesh file; what this node itself uses stands in tables such as [session]
    "#);
}

#[test]
fn an_older_mistake_reads_as_it_did() {
    assert_snapshot!(said("[[comunity]]\nname = \"c\"\n"), @r#"mesh.toml:9:3: unknown table "comunity" at the top of the file; did you mean "community"?"#);
    assert_snapshot!(said("[[community]]\nname = \"c\"\nmembers = [\"a.one\", \"a.tow\"]\n"), @r#"mesh.toml:11:21: [[community]] members: "a.tow" in community "c" is no endpoint of this mesh; did you mean "a.two"?"#);
    assert_snapshot!(said(&endpoint("a.one", 2, "subnets = [\"10.0.0.1/8\"]\nmtu = 1")), @r#"
    mesh.toml:10:8: endpoint "a.one" stands twice, first in line 2; rename or remove one of the two
    mesh.toml:11:14: [[endpoint]] public_key: "a.one" has the key of "a.two" (line 6)
        help: every node has its own: run `meshd key generate` on one of the two
    mesh.toml:12:12: [[endpoint]] subnets: "10.0.0.1/8" has host bits set; write "10.0.0.0/8"
    mesh.toml:13:1: unknown key "mtu" in [[endpoint]]; it belongs in [interface]
    "#);
    let node = "[node]\nname = \"a.b\"\n[session]\nrekey = \"1h\"\n[interface]\nname = \"lo\"\n[dataplane]\ncipher = \"aes\"\n";
    assert_snapshot!(node_problems(node).join("\n"), @r#"
    meshd.toml:4:9: [session] rekey: "1h" is too long; use 1s to 3m
    meshd.toml:6:8: [interface] name: "lo" is no interface name; the kernel uses it for something else; choose another
    meshd.toml:8:10: [dataplane] cipher: unknown value "aes"
        help: use "auto", "aes-256-gcm", "chacha20-poly1305", "aes-128-gcm", "aegis-128l", "aegis-128x2"
    "#);
}

#[test]
fn what_arguments_may_set_is_what_the_tables_say() {
    assert!(crate::is_arg("session", "keepalive") && crate::is_arg("lan", "interval") && crate::is_arg("log", "level"));
    for (table, key) in [("lan", "multicast_token"), ("interface", "mtu"), ("session", "mtu"), ("node", "name")] {
        assert!(!crate::is_arg(table, key), "{table}.{key}");
    }
    assert_eq!(Value::text(&"a\"b\\c\n").to_string(), "\"a\\\"b\\\\c\\u000A\"");
}
