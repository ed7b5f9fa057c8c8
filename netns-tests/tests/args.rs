//! Settings that nodes take from the mesh file: they take effect, the node's own file is heard over them, and mistakes are refused.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use netns_tests::site::{CONNECTOR, edge};
use netns_tests::{Daemon, Done, Host, Site, binary, in_lab, observe, wait_until};

/// For all nodes, and for the first edge over that.
const ARGS: &str = "\n[defaults.args]\nlog.level = \"warn\"\nsession.keepalive = \"2s\"\n\
    [node.\"beijing.edge1\".args]\nlog.level = \"debug\"\n";

/// Writes an edge's files, whose `meshd.toml` says nothing but who it is and `own`, and whose mesh file ends in `args`.
fn write(site: &Site, number: usize, own: &str, args: &str) -> PathBuf {
    let folder = site.mesh.write(&edge(number));
    let (node, mesh) = (folder.join("meshd.toml"), folder.join("mesh.toml"));
    let text = fs::read_to_string(&node).expect("meshd.toml");
    let without = text.replace("[log]\nlevel = \"debug\"\n", "");
    assert_ne!(without, text, "the harness writes a level");
    fs::write(&node, without + own).expect("write meshd.toml");
    let text = fs::read_to_string(&mesh).expect("mesh.toml");
    fs::write(&mesh, text + args).expect("write mesh.toml");
    folder
}

fn config(host: &Host, folder: &Path, arguments: &[&str]) -> Done {
    let file = folder.join("meshd.toml");
    host.output(Command::new(binary::meshd()).arg("config").args(arguments).arg("--config").arg(file))
}

fn up(site: &Site, number: usize, folder: &Path) -> Daemon {
    let mut daemon = Daemon::spawn(&edge(number), site.edge_host(number), folder);
    daemon.wait_ready();
    daemon
}

/// UDP datagrams that a host has sent.
fn sent(host: &Host) -> u64 {
    let line = |text: &str| text.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).nth(3);
    let v4 = host.ok("cat /proc/net/snmp").lines().rfind(|text| text.starts_with("Udp:")).and_then(line);
    let v6 = host.ok("cat /proc/net/snmp6");
    let v6 = v6.lines().find_map(|text| text.strip_prefix("Udp6OutDatagrams")?.trim().parse::<u64>().ok());
    v4.expect("a count of IPv4") + v6.expect("a count of IPv6")
}

#[test]
fn settings_of_the_mesh_file_take_effect_and_the_nodes_own_file_overrules_them() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 2);
        for number in [1, 2] {
            // Nodes that others can dial keep nothing alive.
            site.mesh.endpoint_mut(&edge(number)).public_addresses.clear();
        }
        let _connector = site.mesh.up(CONNECTOR);
        let own = "\n[log]\nlevel = \"error\"\n[session]\nkeepalive = \"off\"\n";
        let (one, two) = (up(&site, 1, &write(&site, 1, "", ARGS)), up(&site, 2, &write(&site, 2, own, ARGS)));
        one.wait_connected(CONNECTOR);
        assert!(one.log().contains("DEBUG"), "the mesh asks for it:\n{}", one.log());
        assert!(!two.log().contains("INFO") && !two.log().contains("DEBUG"), "its own file does not:\n{}", two.log());
        // Until both have found their ways.
        observe(Duration::from_secs(5));
        let before = [&one, &two].map(|daemon| sent(daemon.host()));
        observe(Duration::from_secs(12));
        let after = [&one, &two].map(|daemon| sent(daemon.host()));
        let (with, without) = (after[0] - before[0], after[1] - before[1]);
        assert!(with >= 4 && without <= with / 2, "a keep-alive every 2 s: {with}; none: {without}");
    });
}

#[test]
fn config_show_tells_who_said_what() {
    in_lab(|lab| {
        let site = Site::new(lab, 2);
        let folder = write(&site, 1, "\n[session]\nidle = \"1h\"\n", ARGS);
        let shown = config(site.edge_host(1), &folder, &["show", "--effective"]).text();
        let line = |key: &str| shown.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        for (key, value, origin) in [
            ("level", "\"debug\"", " [node.\"beijing.edge1\".args]"),
            ("keepalive", "\"2s\"", " [defaults.args]"),
            ("idle", "\"1h\"", "/meshd.toml:"),
            ("rekey", "\"2m\"", "# default"),
        ] {
            assert!(line(key).contains(value) && line(key).contains(origin), "{key} in\n{shown}");
        }
        let other = config(site.edge_host(1), &folder, &["show", &edge(2), "--json"]).text();
        let other: serde_json::Value = serde_json::from_str(&other).expect("JSON");
        let settings = other["settings"].as_array().expect("settings");
        let level = settings.iter().find(|setting| setting["key"] == "level").expect("a level");
        assert_eq!((&level["value"], &level["args"]), (&"warn".into(), &"[defaults.args]".into()), "{other}");
    });
}

#[test]
fn a_wrong_argument_is_refused_on_every_node_with_its_place() {
    in_lab(|lab| {
        let site = Site::new(lab, 2);
        let args = "\n[node.\"beijing.edge2\".args]\nsession.keepalve = \"2s\"\ninterface.mtu = 1400\n";
        let folder = write(&site, 1, "", args);
        let refused = config(site.edge_host(1), &folder, &["check"]);
        for told in ["did you mean \"keepalive\"?", "[node.\"beijing.edge2\".args] interface: the mesh may not set it"]
        {
            assert!(!refused.is_ok() && refused.stderr.contains(told), "{refused}");
        }
        let mut daemon = Daemon::spawn(&edge(1), site.edge_host(1), &folder);
        assert!(!daemon.wait_end(Duration::from_secs(10)).success(), "it does not start");
    });
}

#[test]
fn a_node_that_the_selector_leaves_out_is_nobodys_peer_and_is_told() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let select = |folder: &Path| {
            let file = folder.join("mesh.toml");
            let text = fs::read_to_string(&file).expect("mesh.toml");
            let labelled = text.replace("name = \"beijing.edge1\"\n", "name = \"beijing.edge1\"\nlabels = [\"on\"]\n");
            assert_ne!(labelled, text);
            fs::write(&file, labelled + "\n[selector]\nlabels = [\"on\"]\n").expect("write mesh.toml");
        };
        let folders = [1, 2].map(|number| write(&site, number, "", ""));
        folders.iter().for_each(|folder| select(folder));
        let told = config(site.edge_host(2), &folders[1], &["check"]);
        assert!(told.is_ok() && told.stderr.contains("beijing.edge2 is not selected"), "{told}");
        assert!(told.stdout.contains("2 not selected"), "{told}");
        let one = up(&site, 1, &folders[0]);
        wait_until(Duration::from_secs(5), "nobody is left", || one.status().peers().is_empty());
    });
}
