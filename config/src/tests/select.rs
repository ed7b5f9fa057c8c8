//! Labels and the selector: who takes part in the mesh.

use std::path::Path;

use insta::assert_snapshot;
use proto::id::{EndpointName, SecretKey};

use super::{endpoint, mesh_problems};
use crate::{Config, parse_mesh};

const COMMUNITY: &str = "[[community]]\nname = \"c\"\nmembers = [\"a.one\", \"a.two\", \"a.three\"]\n";

fn mesh(labels: [&str; 3], selector: &str) -> String {
    let endpoints = [("a.one", 1), ("a.two", 2), ("a.three", 3)].into_iter().zip(labels);
    let endpoints = endpoints.map(|((name, key), labels)| endpoint(name, key, &format!("labels = {labels}")));
    format!("{}{COMMUNITY}{selector}", endpoints.collect::<String>())
}

/// The endpoints, the members of the community, and who is left out.
fn selected(labels: [&str; 3], selector: &str) -> (Vec<String>, Vec<String>, Vec<String>) {
    let mesh = parse_mesh(Path::new("mesh.toml"), &mesh(labels, selector)).unwrap();
    let endpoints = mesh.members.endpoints.iter().map(|endpoint| endpoint.name.to_string()).collect();
    let members = mesh.members.communities[0].members.iter().map(ToString::to_string).collect();
    (endpoints, members, mesh.unselected.iter().map(ToString::to_string).collect())
}

#[test]
fn a_node_is_selected_that_has_all_labels() {
    let labels = ["[\"edge\", \"site=beijing\"]", "[\"site=beijing\"]", "[\"edge=\", \"site=shanghai\"]"];
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let all = names(&["a.one", "a.two", "a.three"]);
    assert_eq!(selected(labels, ""), (all.clone(), all.clone(), vec![]));
    assert_eq!(selected(labels, "[selector]\nlabels = []\n").2, names(&[]));
    let edges = names(&["a.one", "a.three"]);
    assert_eq!(selected(labels, "[selector]\nlabels = [\"edge\"]\n"), (edges.clone(), edges, names(&["a.two"])));
    let one = names(&["a.one"]);
    let both = "[selector]\nlabels = [\"site=beijing\", \"edge\"]\n";
    assert_eq!(selected(labels, both), (one.clone(), one, names(&["a.two", "a.three"])));
}

#[test]
fn a_node_that_is_not_selected_knows_it_and_stays_in_its_own_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let secret = SecretKey::from_bytes([9; 32]);
    crate::key::generate_file(&folder.path().join("k"), &secret).unwrap();
    let load = |selector: &str| -> Config {
        let text = mesh(["[]", "[\"on\"]", "[]"], selector).replace(&super::key(1), &secret.public_key().to_string());
        std::fs::write(folder.path().join("mesh.toml"), text).unwrap();
        std::fs::write(folder.path().join("meshd.toml"), "[node]\nname = \"a.one\"\nkey_file = \"k\"\n").unwrap();
        crate::load(&folder.path().join("meshd.toml")).unwrap()
    };
    let config = load("[selector]\nlabels = [\"on\"]\n");
    assert!(!config.selected && config.selector == ["on"]);
    assert_eq!(config.unselected.iter().map(EndpointName::as_str).collect::<Vec<_>>(), ["a.one", "a.three"]);
    let members: Vec<_> = config.members.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    assert_eq!(members, ["a.one", "a.two"]);
    let config = load("");
    assert!(config.selected && config.unselected.is_empty());
}

#[test]
fn a_selector_that_leaves_out_too_much_is_a_warning() {
    let warnings = |selector: &str| {
        let text = mesh(["[\"on\"]", "[]", "[]"], selector);
        parse_mesh(Path::new("mesh.toml"), &text).unwrap().warnings.join("\n")
    };
    assert_snapshot!(warnings("[selector]\nlabels = [\"on\"]\n"), @r#"mesh.toml:15:21: "a.two" and 1 more are not selected, so community "c" does without"#);
    assert_snapshot!(warnings("[selector]\nlabels = [\"off\"]\n"), @"mesh.toml:17:11: [selector] labels: no endpoint has all of them, so nobody is selected");
    assert_eq!(warnings(""), "");
}

#[test]
fn bad_labels_are_refused_and_checks_run_over_those_who_are_not_selected() {
    let said = |labels: [&str; 3], selector: &str| mesh_problems(&mesh(labels, selector)).join("\n");
    assert_snapshot!(said(["[\"-x\"]", "[\"a\", \"a=b\"]", "7"], "[selector]\nlabel = [\"a\"]\n"), @r#"
    mesh.toml:4:11: [[endpoint]] labels: "-x" is no label
        help: write a name or name=value, each 1 to 63 letters, digits and inner '-', '_' and '.', such as "edge" or "site=beijing"
    mesh.toml:8:16: [[endpoint]] labels: "a" stands twice; keep one of the two: a label has one value
    mesh.toml:12:10: [[endpoint]] labels: must be a list, not an integer; write ["…", "…"]
    mesh.toml:17:1: unknown key "label" in [selector]; did you mean "labels"?
    "#);
    let twin = format!("{}{}", mesh(["[]"; 3], "[selector]\nlabels = [\"on\"]\n"), endpoint("a.four", 1, ""));
    assert_eq!(mesh_problems(&twin).len(), 1, "a key that two have");
}
