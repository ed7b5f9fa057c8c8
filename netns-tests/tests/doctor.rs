//! `meshd doctor` names what is wrong on a machine, and `meshd bugreport` packs everything but secrets.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use netns_tests::site::{CONNECTOR, edge};
use netns_tests::{Done, Host, Lab, Site, binary, in_lab};
use serde_json::Value;

/// Runs a command of the binary with the configuration in `folder`, whatever daemon there is.
fn meshd(host: &Host, folder: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::new(binary::meshd());
    host.output(command.args(arguments).arg("--config").arg(folder.join("meshd.toml")))
}

/// What the doctor says of one subject: level and text of each line.
fn doctor(host: &Host, folder: &Path, check: &str) -> (Option<i32>, Vec<(String, String)>) {
    let done = meshd(host, folder, &["doctor", "--json"]);
    let report: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done}"));
    let all = report["checks"].as_array().unwrap_or_else(|| panic!("no checks: {done}"));
    for line in all.iter().filter(|line| line["level"] != "ok") {
        assert!(line["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "something to do: {line}");
    }
    let text = |line: &Value, key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let of_check = all.iter().filter(|line| line["check"] == check);
    (done.code, of_check.map(|line| (text(line, "level"), text(line, "found"))).collect())
}

#[track_caller]
fn assert_says(host: &Host, folder: &Path, (check, level, part): (&str, &str, &str)) {
    let (code, lines) = doctor(host, folder, check);
    assert!(
        lines.iter().any(|(has, found)| has == level && found.contains(part)),
        "{check}: {level} {part}: {lines:?}"
    );
    assert!(level != "fail" || code == Some(1), "{check}: exit code {code:?}");
}

/// A connector that announces a subnet, and an edge in its community.
fn gateway(lab: &Lab) -> Site {
    let mut site = Site::new(lab, 1);
    site.mesh.endpoint_mut(CONNECTOR).subnets(&["10.50.0.0/16"]);
    site.mesh.endpoint_mut(&edge(1)).subnets(&["172.17.0.0/16"]);
    site
}

#[test]
fn nothing_fails_at_a_healthy_gateway_whose_daemon_runs() {
    in_lab(|lab| {
        let site = gateway(lab);
        let daemon = site.mesh.up(CONNECTOR);
        let done = meshd(daemon.host(), &site.mesh.folder(CONNECTOR), &["doctor"]);
        assert!(done.is_ok() && !done.stdout.contains("\nfail"), "{done}");
        assert!(done.stdout.contains("ok       daemon") && done.stdout.contains("ok       firewall"), "{done}");
        assert!(done.stdout.contains("ok       forwarding"), "{done}");
    });
}

#[test]
fn what_is_wrong_around_a_running_daemon_is_named() {
    in_lab(|lab| {
        let site = gateway(lab);
        let daemon = site.mesh.up(CONNECTOR);
        let (host, folder) = (daemon.host(), site.mesh.folder(CONNECTOR));
        host.ok("nft add table inet filter");
        host.ok("nft add chain inet filter input { type filter hook input priority 0 ; policy drop ; }");
        host.ok("nft add rule inet filter input tcp dport 22 accept");
        let dropped = "chain inet filter input drops what it does not accept, and no rule accepts udp dport 6374";
        assert_says(host, &folder, ("firewall", "warn", dropped));
        // What it says to do is what helps.
        host.ok("nft insert rule inet filter input udp dport 6374 accept");
        assert_says(host, &folder, ("firewall", "warn", "drops icmp of members to this machine, from mesh0"));
        host.ok("nft insert rule inet filter input iifname mesh0 accept");
        assert_says(host, &folder, ("firewall", "ok", "6374"));
        host.set_sysctl("net/ipv4/ip_forward", "0");
        assert_says(host, &folder, ("forwarding", "fail", "IPv4 is off"));
        host.set_sysctl("net/ipv4/ip_forward", "1");
        host.ok("ip link add docker0 type bridge");
        host.ok("ip address add 172.17.0.1/16 dev docker0");
        host.ok("ip link set docker0 up");
        let wins =
            "the route for 172.17.0.0/16 of beijing.edge1 is left out: 172.17.0.0/16 at docker0 (container network)";
        assert_says(host, &folder, ("routes", "warn", wins));
        let key = folder.join("private.key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert_says(host, &folder, ("key", "fail", "is open to group or others (mode 0644)"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("chmod");
        assert_says(host, &folder, ("key", "ok", "the one that the mesh knows"));
    });
}

#[test]
fn what_keeps_a_daemon_from_its_start_is_named() {
    in_lab(|lab| {
        let site = gateway(lab);
        let (host, folder) = (site.edge_host(1), site.mesh.write(&edge(1)));
        assert_says(host, &folder, ("daemon", "warn", "no daemon listens on"));
        assert_says(host, &folder, ("port", "ok", "6374 is free"));
        let taken = host.enter(|| UdpSocket::bind("0.0.0.0:6374")).expect("take the port");
        assert_says(host, &folder, ("port", "fail", "UDP port 6374 is taken by"));
        drop(taken);
        let hour = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock") + Duration::from_secs(3605);
        fs::write(folder.join("state/timestamp"), format!("{}\n", hour.as_nanos())).expect("a floor");
        assert_says(host, &folder, ("clock", "warn", "1h00m behind the last handshake"));
        let config = fs::read_to_string(folder.join("meshd.toml")).expect("meshd.toml");
        fs::write(folder.join("meshd.toml"), config.replace("[listen]\nport", "[listen]\nprot")).expect("break it");
        assert_says(host, &folder, ("config", "fail", "unknown key \"prot\""));
    });
}

#[test]
fn what_a_killed_daemon_left_is_named_until_the_next_start_has_undone_it() {
    in_lab(|lab| {
        let site = gateway(lab);
        let (host, folder) = (site.mesh.endpoint(CONNECTOR).host.clone(), site.mesh.folder(CONNECTOR));
        site.mesh.up(CONNECTOR).kill9();
        assert_says(&host, &folder, ("state", "warn", "a daemon was killed"));
        assert_says(&host, &folder, ("daemon", "warn", "it was killed"));
        site.mesh.up(CONNECTOR).stop();
        assert_says(&host, &folder, ("state", "ok", "can be written"));
        assert_eq!(doctor(&host, &folder, "state").1.len(), 1);
    });
}

/// A token of LAN discovery, and one that a comment still has.
const TOKEN: &str = "7fK2mQx9Lw4TzR8vYc3NbH";
const OLD_TOKEN: &str = "5dJ8pWs3Fg6VhM1qXk9BnZ";

/// Plants secrets in every file that a node has.
fn planted(site: &Site, name: &str) -> (std::path::PathBuf, Vec<String>) {
    let folder = site.mesh.write(name);
    let psk = netns_tests::mesh::new_key().to_base64().to_string();
    fs::write(folder.join("mesh.psk"), &psk).expect("a psk");
    fs::set_permissions(folder.join("mesh.psk"), fs::Permissions::from_mode(0o600)).expect("chmod");
    let config = fs::read_to_string(folder.join("meshd.toml")).expect("meshd.toml");
    let config = config.replace("[node]\n", &format!("[node]\npsk_file = {:?}\n", folder.join("mesh.psk")));
    let lan = format!("\n[lan]\nmulticast_token = \"{TOKEN}\" # not {OLD_TOKEN}\n");
    fs::write(folder.join("meshd.toml"), config + &lan).expect("meshd.toml");
    let mesh = fs::read_to_string(folder.join("mesh.toml")).expect("mesh.toml");
    fs::write(folder.join("mesh.toml"), format!("# old token = {OLD_TOKEN}\n{mesh}")).expect("mesh.toml");
    let key = site.mesh.endpoint(name).key.to_base64().to_string();
    (folder, vec![psk, key, TOKEN.to_owned(), OLD_TOKEN.to_owned()])
}

/// Names and texts of what is in a report, unpacked by tar.
fn unpack(lab: &Lab, host: &Host, file: &Path) -> Vec<(String, String)> {
    let folder = lab.directory().join("unpacked");
    fs::create_dir_all(&folder).expect("a folder");
    host.ok(&format!("tar -xf {} -C {}", file.display(), folder.display()));
    let list = host.ok(&format!("tar -tf {}", file.display()));
    list.lines()
        .map(|name| (name.to_owned(), String::from_utf8_lossy(&fs::read(folder.join(name)).expect(name)).into_owned()))
        .collect()
}

#[track_caller]
fn assert_without(secrets: &[String], parts: &[(String, String)]) {
    for (secret, (name, text)) in secrets.iter().flat_map(|secret| parts.iter().map(move |part| (secret, part))) {
        assert!(!text.contains(secret.trim_end_matches('=')), "{secret} is in {name}");
    }
}

#[test]
fn a_report_of_a_running_node_has_everything_and_no_secret() {
    in_lab(|lab| {
        let site = gateway(lab);
        let (folder, secrets) = planted(&site, CONNECTOR);
        let mut daemon = netns_tests::Daemon::spawn(CONNECTOR, &site.mesh.endpoint(CONNECTOR).host, &folder);
        daemon.wait_ready();
        let (host, file) = (daemon.host(), folder.join("report.tar"));
        let done = meshd(host, &folder, &["bugreport", "--out", &file.to_string_lossy()]);
        assert!(done.is_ok() && done.stderr.contains("ublic addresses and names of your mesh are in it"), "{done}");
        assert_eq!(fs::metadata(&file).expect("the report").permissions().mode() & 0o777, 0o600);
        let parts = unpack(lab, host, &file);
        let text = |name: &str| {
            let name = format!("meshd-bugreport/{name}");
            let part = parts.iter().find(|(has, _)| *has == name);
            part.unwrap_or_else(|| panic!("no {name} in {done}")).1.clone()
        };
        for name in [
            "version.json",
            "doctor.json",
            "peers.json",
            "why.json",
            "log.json",
            "config/effective.json",
            "netcheck.json",
            "sysctls.json",
            "nft.json",
        ] {
            assert!(serde_json::from_str::<Value>(&text(name)).is_ok(), "{name}: {}", text(name));
        }
        let status: Value = serde_json::from_str(&text("status.json")).expect("the status");
        assert_eq!(status["node"]["name"], CONNECTOR);
        assert!(text("peers.json").contains(&edge(1)) && text("network.json").contains("mesh0"));
        assert!(text("config/meshd.toml").contains("multicast_token = \"(taken out)\""));
        assert!(text("config/mesh.toml").contains("172.17.0.0/16") && text("system/meminfo").contains("MemTotal"));
        assert!(text("README.txt").contains("status.json"));
        assert_without(&secrets, &parts);
        let again = meshd(host, &folder, &["bugreport", "--out", &file.to_string_lossy()]);
        assert!(
            !again.is_ok() && again.stderr.contains("report.tar exists already"),
            "never over another file: {again}"
        );
    });
}

#[test]
fn a_report_without_a_daemon_or_with_a_broken_configuration_has_the_rest_and_no_secret() {
    in_lab(|lab| {
        let site = gateway(lab);
        let (folder, secrets) = planted(&site, &edge(1));
        let host = site.edge_host(1);
        let config = fs::read_to_string(folder.join("meshd.toml")).expect("meshd.toml");
        for (number, text) in [config.clone(), config.replace("[lan]", "[lan")].into_iter().enumerate() {
            fs::write(folder.join("meshd.toml"), text).expect("meshd.toml");
            let file = folder.join(format!("report{number}.tar"));
            let done = meshd(host, &folder, &["bugreport", "--out", &file.to_string_lossy()]);
            assert!(done.is_ok() && done.stderr.contains("status.json") && done.stderr.contains("not there"), "{done}");
            let parts = unpack(lab, host, &file);
            for name in ["doctor.txt", "config/meshd.toml", "network.json", "system/os-release"] {
                assert!(parts.iter().any(|(has, _)| *has == format!("meshd-bugreport/{name}")), "{name}: {done}");
            }
            assert_without(&secrets, &parts);
        }
    });
}

#[test]
fn a_report_with_a_secret_where_nobody_expects_it_is_not_written() {
    in_lab(|lab| {
        let site = gateway(lab);
        let (folder, _) = planted(&site, &edge(1));
        let host = site.edge_host(1);
        host.ok(&format!("nft add table inet t_{TOKEN}"));
        let file = folder.join("report.tar");
        let done = meshd(host, &folder, &["bugreport", "--out", &file.to_string_lossy()]);
        assert!(!done.is_ok() && done.stderr.contains("nft.json") && !done.stderr.contains(TOKEN), "{done}");
        assert!(!file.exists());
    });
}
