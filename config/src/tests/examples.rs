//! The files in `config/examples` are what they claim to be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::settings::Settings;
use crate::{InterfaceConfig, LanConfig, parse_mesh, parse_node, shape};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

#[test]
fn every_example_is_fine_and_without_warnings() {
    let mut seen = 0;
    for entry in path("").read_dir().unwrap() {
        let file = entry.unwrap().path();
        let result = if file.ends_with("mesh.toml") {
            parse_mesh(&file, &std::fs::read_to_string(&file).unwrap()).map(|mesh| mesh.warnings)
        } else {
            crate::check(&file)
        };
        let warnings = result.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(warnings, [""; 0]);
        seen += 1;
    }
    assert_eq!(seen, 4);
}

#[test]
fn the_mesh_example_keeps_edge4_apart() {
    let mesh = parse_mesh(&path("mesh.toml"), &text("mesh.toml")).unwrap();
    let policy = proto::member::Policy::new(&mesh.members);
    let may = |a: &str, b: &str| policy.check(&a.parse().unwrap(), &b.parse().unwrap()).is_ok();
    assert!(may("beijing.edge1", "beijing.edge3"));
    assert!(!may("beijing.edge1", "beijing.edge4"));
    assert!(may("beijing.edge4", "beijing.connector"));
}

/// The reference with the keys that it has commented out.
fn full_reference() -> String {
    let token = "multicast_token = \"000102030405060708090a0b0c0d0e0f\"";
    let text = text("reference.toml").replace("#multicast_token = \"what `meshd key generate` printed\"", token);
    let text = text.replace("\n#tls =", "\ntls =").replace("\n#mtu =", "\nmtu =").replace("\n#listen =", "\nlisten =");
    text.replace("\n#mesh =", "\nmesh =")
        .replace("\n#psk_file =", "\npsk_file =")
        .replace("\n#invited_until", "\ninvited_until")
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let text = full_reference();
    let root = DeTable::parse(&text).unwrap().into_inner();
    for shape in shape::ALL_TABLES {
        let tables: Vec<_> = match root.get(shape.name).map(toml::Spanned::get_ref) {
            Some(DeValue::Table(table)) => vec![table],
            Some(DeValue::Array(array)) => array.iter().filter_map(|value| value.get_ref().as_table()).collect(),
            _ => Vec::new(),
        };
        let keys = tables.iter().flat_map(|t| t.keys()).map(|key| key.get_ref().as_ref());
        let keys: BTreeSet<&str> = keys.filter(|key| !crate::args::is_for_node(shape, key)).collect();
        assert_eq!(keys, shape.keys.iter().copied().collect(), "{shape}");
    }
}

#[test]
fn the_reference_says_of_every_key_when_a_change_takes_effect() {
    let text = text("reference.toml");
    let (mut table, mut marked) = ("", BTreeSet::new());
    for line in text.lines() {
        if line.starts_with('[') {
            table = line.trim_matches(['[', ']']);
        }
        let Some((key, rest)) = line.trim_start_matches('#').split_once(" = ") else { continue };
        let Some((_, class)) = rest.rsplit_once("  # ") else { continue };
        let expected = if crate::class(table, key) == crate::Class::Hot { "hot" } else { "restart" };
        assert_eq!(class, expected, "{table}.{key}");
        marked.insert((table, key));
    }
    // What arguments set is of the class of the key that they set.
    let all = shape::ALL_TABLES.iter().filter(|shape| shape.name != shape::DEFAULTS.name);
    let all = all.flat_map(|shape| shape.keys.iter().map(|key| (shape.name, *key)));
    assert_eq!(marked, all.collect());
}

#[test]
fn whatever_the_mesh_may_set_takes_effect_with_a_reload() {
    let all = shape::ALL_TABLES.iter().flat_map(|shape| shape.keys.iter().map(|key| (shape.name, *key)));
    let args: Vec<_> = all.filter(|(table, key)| crate::is_arg(table, key)).collect();
    assert!(args.contains(&("session", "keepalive")));
    assert!(args.iter().all(|(table, key)| crate::class(table, key) == crate::Class::Hot), "{args:?}");
}

#[test]
fn the_reference_shows_the_defaults() {
    let folder = Path::new("/etc/meshd");
    let read = |text: &str| {
        let mut reader = crate::read::Reader::new(Path::new("meshd.toml"), text);
        let root = reader.parse();
        let identity = crate::node::identity(&mut reader, &root, folder);
        (identity, crate::node::read(&mut reader, &root, folder, Settings::default()))
    };
    let ((shown_identity, shown), (bare_identity, bare)) =
        (read(&full_reference()), read("[node]\nname = \"beijing.edge1\""));
    assert_eq!(shown_identity.key_file.value, bare_identity.key_file.value);
    assert_eq!(shown_identity.mesh_file.value, bare_identity.mesh_file.value);
    let without_mtu = InterfaceConfig { mtu: None, ..shown.interface };
    assert_eq!(without_mtu, bare.interface);
    assert_eq!((shown.listen.port, bare.listen.tls), (bare.listen.port, None));
    assert_eq!((shown.dataplane, shown.api, shown.state), (bare.dataplane, bare.api, bare.state));
    assert_eq!((shown.metrics.listen.map(|at| at.port()), bare.metrics.listen), (Some(9374), None));
    assert_eq!((shown.paths, shown.reload), (bare.paths, bare.reload));
    let (shown, bare) = (shown.settings, bare.settings);
    let without_token = LanConfig { token: None, ..shown.lan.config };
    assert_eq!((without_token, shown.lan.odd.len()), (bare.lan.config, 0));
    assert_eq!((shown.nat, shown.relay, shown.log), (bare.nat, bare.relay, bare.log));
    assert_eq!(shown.health.config(), bare.health.config());
    assert_eq!(shown.session, bare.session);
}

#[test]
fn the_inline_example_needs_no_other_file() {
    assert_eq!(parse_node(&path("inline.toml"), &text("inline.toml")), Ok(()));
}
