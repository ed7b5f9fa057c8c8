//! What one configuration changes of another, and when that takes effect.

use std::collections::BTreeSet;

use proto::id::SecretKey;
use proto::invitation::{Invited, UnixTime};

use super::example;
use crate::reload::{RESTART, differences, key};
use crate::{Baseline, Changes, Config, Fixed, Key, shape};

fn changes(old: &Config, new: &Config, baseline: &Baseline) -> Changes {
    let known: BTreeSet<_> = old.members.endpoints.iter().map(|endpoint| endpoint.name.clone()).collect();
    baseline.changes(new, |name| known.contains(name))
}

#[test]
fn every_key_of_the_nodes_tables_is_compared_and_every_listed_one_exists() {
    let compared: BTreeSet<(&str, &str)> =
        differences(&example(""), &example("")).iter().map(|(key, _)| (key.table, key.key)).collect();
    let keys = shape::NODE_TABLES.iter().flat_map(|shape| shape.keys.iter().map(|key| (shape.name, *key)));
    assert_eq!(compared, keys.collect());
    for (table, keys) in RESTART {
        let shape = shape::ALL_TABLES.iter().find(|shape| shape.name == table).unwrap();
        assert!(keys.iter().all(|key| shape.keys.contains(key)), "{table}");
    }
}

#[test]
fn the_same_configuration_changes_nothing() {
    let (old, new) = (example(""), example(""));
    let baseline = Baseline::of(example(""));
    let found = changes(&old, &new, &baseline);
    assert_eq!(found, Changes::default());
    assert!(!found.is_any_hot());
}

#[test]
fn changes_are_told_by_class_and_counted_by_kind() {
    let old = example("");
    let mut new = example("[session]\nkeepalive = \"30s\"\n[interface]\nmtu = 1400\n[listen]\nport = 7000\n");
    let first = new.members.endpoints.iter().position(|endpoint| endpoint.name != new.node.name).unwrap();
    new.members.endpoints[first].zone = Some("elsewhere".to_owned());
    let mut more = new.members.endpoints[first].clone();
    more.name = "new.one".parse().unwrap();
    new.members.endpoints.push(more);
    new.members.communities[0].members.pop();
    let baseline = Baseline::of(example(""));
    let found = changes(&old, &new, &baseline);
    let lines = ["endpoints: 1 added, 1 changed", "communities: 1 changed", "session.keepalive"];
    assert_eq!(found.hot_lines(), lines);
    let restart: Vec<String> = found.restart.iter().map(Key::to_string).collect();
    assert_eq!(restart, ["interface.mtu", "listen.port"]);
    assert_eq!(found.identity, []);
    let settled = Baseline::of(baseline.settle(new));
    assert_eq!((settled.config.interface.mtu, settled.config.listen.port), (None, 6374));
    assert_eq!(settled.config.session.keepalive, Some(std::time::Duration::from_secs(30)));
}

#[test]
fn another_order_of_the_mesh_is_a_change_though_no_record_is() {
    let (old, mut new) = (example(""), example(""));
    new.members.endpoints.reverse();
    assert_eq!(changes(&old, &new, &Baseline::of(example(""))).hot_lines(), ["order or selection of the mesh"]);
}

#[test]
fn invitations_are_counted_apart_from_everything_else() {
    let invited = |name: &str, byte| Invited {
        name: name.parse().unwrap(),
        key: SecretKey::from_bytes([byte; 32]).public_key(),
        until: UnixTime(1_795_348_800),
    };
    let (mut old, mut new) = (example(""), example(""));
    let before = || vec![invited("new.one", 1), invited("new.two", 2)];
    old.invited = before();
    (new.invited, new.warnings) = (vec![invited("new.two", 3), invited("new.three", 4)], Vec::new());
    let mut running = example("");
    running.invited = before();
    let found = changes(&old, &new, &Baseline::of(running));
    assert_eq!(found.hot_lines(), ["invitations: 1 added, 1 removed, 1 changed"]);
}

#[test]
fn another_name_of_the_mesh_is_another_identity() {
    let mut new = example("");
    new.members.mesh = proto::id::MeshId::from_name("another");
    let found = changes(&example(""), &new, &Baseline::of(example("")));
    assert_eq!(found.identity, [key("mesh", "name")]);
    assert_eq!(found.restart, [key("mesh", "name")]);
}

#[test]
fn what_a_process_has_for_life_is_put_into_every_later_configuration_and_named() {
    let fixed = Fixed::of(&example(""));
    let mut new = example("[api]\nsocket = \"/run/other\"\n[log]\nformat = \"json\"\nlevel = \"warn\"\n");
    assert_eq!(fixed.settle(&mut new), [key("api", "socket"), key("log", "format")]);
    let old = example("");
    assert_eq!((&new.api, new.log.format), (&old.api, old.log.format));
    assert_ne!(new.log.level, old.log.level, "all else is as it says");
    assert_eq!(fixed.settle(&mut new), []);
}

#[test]
fn who_was_invited_and_is_a_member_now_is_added_and_hides_no_removal() {
    let mut new = example("");
    let mut enrolled = new.members.endpoints.pop().unwrap();
    assert_ne!(enrolled.name, new.node.name);
    enrolled.name = "new.one".parse().unwrap();
    new.members.endpoints.push(enrolled);
    let found = changes(&example(""), &new, &Baseline::of(example("")));
    assert_eq!(found.endpoints.to_string(), "1 added, 1 removed");
}
