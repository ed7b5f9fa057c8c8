//! `meshd events` tells what happened, in order, and a follower misses nothing.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use netns_tests::nat::NatKind;
use netns_tests::sites::{ONE, Sites, TWO};
use netns_tests::{Daemon, binary, in_lab, ping, wait_until};

/// How long what happens may take to be seen: a restart, a handshake, a lost path.
const SEEN: Duration = Duration::from_secs(25);

/// A client that follows, and writes what it is told into a file.
struct Follower {
    child: Child,
    file: std::path::PathBuf,
}

impl Follower {
    fn start(daemon: &Daemon, folder: &Path) -> Self {
        let file = folder.join("events");
        let mut command = Command::new(binary::meshd());
        command.args(["events", "--follow", "--json"]).env("MESHD_SOCKET", folder.join("meshd.sock"));
        command.stdout(File::create(&file).expect("make the file"));
        Self { child: daemon.host().spawn(&mut command), file }
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.file).expect("read the file");
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until these have been told in this order, others in between allowed; each is told by all of its parts.
    fn wait_order(&self, expected: &[&[&str]]) {
        wait_until(SEEN, &format!("{expected:?} are told in this order"), || {
            let lines = self.lines();
            let mut rest = lines.iter();
            expected.iter().all(|parts| rest.any(|line| parts.iter().all(|part| line.contains(part))))
        });
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what was told ---\n{}", self.lines().join("\n"));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn numbers(lines: &[String]) -> Vec<u64> {
    let number = |line: &String| {
        let (_, rest) = line.split_once("\"seq\":").expect("a number");
        rest.split(',').next().and_then(|number| number.parse().ok()).expect("a number")
    };
    lines.iter().map(number).collect()
}

#[test]
fn connects_moves_and_restarts_are_told_in_order_to_who_follows_past_a_restart_of_the_daemon() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, [NatKind::PortRestricted; 2]);
        let mut running = sites.start();
        let folder = sites.mesh.folder(ONE);
        let follower = Follower::start(&running.one, &folder);
        sites.meet(&running, "direct");
        let peer = format!("\"peer\":\"{TWO}\"");
        let started: &[&str] = &["\"kind\":\"started\"", ONE];
        let connected: &[&str] = &["\"kind\":\"connected\"", &peer];
        let moved: &[&str] = &["from relay hub.connector0 to direct", &peer];
        follower.wait_order(&[started, connected, moved]);

        running.two.stop();
        running.two = sites.mesh.up(TWO);
        wait_until(SEEN, "they talk again", || ping(&sites.one.host, "10.99.0.2", 1).lost() == 0);
        let disconnected: &[&str] = &["\"kind\":\"disconnected\"", &peer, "closed by the peer"];
        follower.wait_order(&[started, connected, moved, disconnected, connected]);

        running.one.stop();
        running.one = sites.mesh.up(ONE);
        wait_until(SEEN, "they talk again", || ping(&sites.one.host, "10.99.0.2", 1).lost() == 0);
        follower.wait_order(&[disconnected, started, connected]);
        let seen = follower.lines();
        assert!(numbers(&seen).is_sorted_by(|a, b| a < b), "each is told once");

        let since_start = running.one.meshd(&["events", "--json"]).text();
        assert!(since_start.lines().next().is_some_and(|line| line.contains("started")), "{since_start}");
        let of_peer = running.one.meshd(&["events", "--peer", TWO, "--since", "5m"]).text();
        assert!(!of_peer.is_empty() && of_peer.lines().all(|line| line.contains(TWO)), "{of_peer}");
    });
}

#[test]
fn a_cut_path_and_other_addresses_of_the_machine_are_told() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, [NatKind::PortRestricted; 2]);
        let running = sites.start();
        let follower = Follower::start(&running.one, &sites.mesh.folder(ONE));
        sites.meet(&running, "direct");
        sites.keep_apart();
        sites.meet(&running, "relay");
        let peer = format!("\"peer\":\"{TWO}\"");
        let lost: &[&str] = &["\"kind\":\"path_lost\"", &peer, "to relay hub.connector0, for the other does not"];
        follower.wait_order(&[lost]);
        sites.one.host.add_address("eth0", "172.30.0.77/24");
        follower.wait_order(&[lost, &["\"kind\":\"addresses\"", "new 172.30.0.77"]]);
    });
}
