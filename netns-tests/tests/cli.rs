//! What an operator sees: the status table and its health section, `meshd ping`, keys, and the check of a configuration.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use netns_tests::site::{CONNECTOR, edge};
use netns_tests::{Done, Family, Host, Site, binary, in_lab, ping, wait_until};
use proto::id::SecretKey;

fn meshd(host: &Host, arguments: &[&str]) -> Done {
    host.output(Command::new(binary::meshd()).args(arguments))
}

#[test]
fn the_status_has_a_line_per_peer_and_says_in_words_what_is_wrong() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=2);
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        assert_eq!(ping(one.host(), &site.address(2, Family::V4), 2).lost(), 0);
        assert_eq!(ping(one.host(), &site.mesh.address(CONNECTOR, Family::V4), 1).received, 0, "it does not run");
        let table = one.meshd(&["status"]).text();
        for peer in [CONNECTOR, &edge(2), &edge(3)] {
            assert!(table.lines().any(|line| line.contains(peer)), "a line for {peer} in\n{table}");
        }
        let connected = table.lines().find(|line| line.contains(&edge(2))).unwrap_or_default();
        assert!(connected.contains("10.99.0.2") && connected.contains("192.0.2.2:6374"), "{connected}");
        wait_until(Duration::from_secs(20), "the connector's absence is told", || {
            one.status().health().iter().any(|text| text.contains(CONNECTOR))
        });
        let status = one.status();
        assert!(status.peer(&edge(3)).reason().is_some_and(|reason| reason.contains("communit")));
        assert!(status.peer(&edge(2)).rx_packets() >= 2 && status.peer(&edge(2)).tx_packets() >= 2);
    });
}

#[test]
fn meshd_ping_answers_for_a_member_and_names_the_reason_for_others() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members([1, 2, 3]);
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        let answered = one.meshd(&["ping", &edge(2), "--count", "3", "--interval", "50ms"]);
        assert!(answered.is_ok() && answered.stdout.contains(&edge(2)), "{answered}");
        for (name, why) in [(edge(3), "is not running"), ("beijing.edge9".to_owned(), "is not in the mesh")] {
            let refused = one.meshd(&["ping", &name, "--count", "1", "--timeout", "1s"]);
            assert!(!refused.is_ok() && refused.to_string().contains(&name), "{name} {why}: {refused}");
        }
    });
}

/// Runs a command of a daemon's client, and interrupts it after some seconds as Ctrl-C does.
fn interrupted(host: &Host, socket: &Path, arguments: &[&str]) -> Done {
    let mut command = Command::new("timeout");
    command.args(["--preserve-status", "--signal=INT", "5"]).arg(binary::meshd()).args(arguments);
    host.output(command.env("MESHD_SOCKET", socket))
}

#[test]
fn what_is_interrupted_sums_up_what_it_did_until_then() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members([1, 2, 3]);
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        let socket = site.mesh.folder(&edge(1)).join("meshd.sock");
        let run = |arguments: &[&str]| interrupted(one.host(), &socket, arguments);
        let answered = run(&["ping", &edge(2), "--count", "9999", "--interval", "100ms", "--timeout", "1m"]);
        assert!(answered.code == Some(0) && answered.stdout.contains("answered; round trip"), "{answered}");
        let silent = run(&["ping", &edge(3), "--count", "9999", "--timeout", "1s"]);
        assert!(silent.code == Some(130) && silent.stdout.contains(" sent, 0 answered\n"), "{silent}");
        let traced = run(&["trace", "--for", "5m", "--host", "10.77.0.0/16"]);
        assert!(traced.code == Some(130) && traced.stderr.contains("0 packets"), "{traced}");
        let unknown = one.meshd(&["events", "--peer", "beijing.edge9"]);
        assert!(!unknown.is_ok() && unknown.stderr.contains("is no endpoint of this mesh"), "{unknown}");
        let idle = one.meshd(&["events", "--peer", &edge(3)]);
        assert!(idle.is_ok(), "{idle}");
        let long = one.meshd(&["trace", "--for", "10m"]);
        assert!(!long.is_ok() && long.stderr.contains("at most 5m"), "{long}");
    });
}

#[test]
fn a_generated_key_is_private_to_its_owner_and_show_prints_its_public_half() {
    in_lab(|lab| {
        use std::os::unix::fs::PermissionsExt as _;
        let (host, file) = (lab.host("one"), lab.directory().join("private.key"));
        let path = file.to_string_lossy().into_owned();
        assert!(meshd(&host, &["key", "generate", "--out", &path]).is_ok());
        assert_eq!(fs::metadata(&file).expect("the key file").permissions().mode() & 0o777, 0o600);
        let key: SecretKey = fs::read_to_string(&file).expect("the key").parse().expect("a key in base64");
        assert_eq!(meshd(&host, &["key", "show", &path]).text().trim(), key.public_key().to_string());
        let printed: SecretKey = meshd(&host, &["key", "generate"]).text().parse().expect("a key in base64");
        assert_ne!(printed.public_key(), key.public_key(), "each key is new");
    });
}

#[test]
fn key_show_takes_the_key_file_of_the_configuration() {
    in_lab(|lab| {
        let site = Site::new(lab, 1);
        let folder = site.mesh.write(&edge(1));
        let config = folder.join("meshd.toml").to_string_lossy().into_owned();
        let shown = meshd(site.edge_host(1), &["key", "show", "--config", &config]).text();
        let mesh = fs::read_to_string(folder.join("mesh.toml")).expect("mesh.toml");
        assert!(mesh.contains(shown.trim()), "{shown}");
    });
}

#[test]
fn config_check_and_key_do_not_mind_a_reader_that_has_left() {
    in_lab(|lab| {
        let site = Site::new(lab, 1);
        let config = site.mesh.write(&edge(1)).join("meshd.toml").to_string_lossy().into_owned();
        for arguments in [["config", "check", "--config", &config].as_slice(), &["key", "generate"]] {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let mut command = Command::new(binary::meshd());
            command.args(arguments).stdout(writer).stderr(Stdio::piped());
            let child = site.edge_host(1).spawn(&mut command);
            let ended = child.wait_with_output().expect("its end");
            assert!(ended.status.success() && ended.stderr.is_empty(), "{arguments:?}: {ended:?}");
        }
    });
}

#[test]
fn a_wrong_configuration_is_refused_with_file_line_key_and_the_nearest_name() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let (host, folder) = (site.edge_host(1), site.mesh.write(&edge(1)));
        let config = folder.join("meshd.toml").to_string_lossy().into_owned();
        let checked = meshd(host, &["config", "check", "--config", &config]);
        assert!(checked.is_ok(), "{checked}");
        let mesh = fs::read_to_string(folder.join("mesh.toml")).expect("mesh.toml");
        let wrong = mesh.replace("[\"beijing.edge1\", ", "[\"beijing.egde1\", ");
        assert_ne!(wrong, mesh);
        let line = 1 + wrong.lines().position(|line| line.contains("egde1")).expect("the wrong line");
        fs::write(folder.join("mesh.toml"), wrong).expect("write mesh.toml");
        for arguments in [["config", "check", "--config", &config].as_slice(), &["up", "--config", &config]] {
            let refused = meshd(host, arguments);
            let told = [&format!("mesh.toml:{line}"), "beijing.egde1", "beijing.edge1"];
            assert!(!refused.is_ok() && told.iter().all(|part| refused.stderr.contains(*part)), "{refused}");
        }
    });
}

#[test]
fn status_without_a_daemon_says_so_in_one_line() {
    in_lab(|lab| {
        let (host, socket) = (lab.host("one"), lab.directory().join("nobody.sock"));
        let refused = meshd(&host, &["status", "--socket", &socket.to_string_lossy()]);
        assert!(!refused.is_ok() && refused.stderr.trim().lines().count() == 1, "{refused}");
        assert!(refused.stderr.contains("nobody.sock"), "{refused}");
    });
}
