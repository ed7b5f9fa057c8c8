//! What operators and other programs do to a running daemon: it goes on, or ends and says why, and leaves nothing behind.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netns_tests::mesh::new_key;
use netns_tests::site::{CONNECTOR, connector_underlay, edge};
use netns_tests::{Family, Lab, Site, Snapshot, in_lab, observe, ping, wait_until};
use nix::sys::signal::Signal;

/// Within which a daemon must end after SIGTERM, whatever goes on.
const STOP: Duration = Duration::from_secs(5);

fn pair(lab: &Lab) -> Site {
    Site::new(lab, 2).with_members(1..=2)
}

#[test]
fn rules_routes_and_addresses_that_others_remove_are_back_within_3_s() {
    in_lab(|lab| {
        let main: &[&str] = &["ip route flush proto 109", "ip -6 route flush proto 109"];
        let own: &[&str] = &[
            "ip rule del priority 6374",
            "ip -6 rule del priority 6374",
            "ip route flush table 6374",
            "ip -6 route flush table 6374",
        ];
        let mut site = pair(lab);
        for (table, removals) in [("\"main\"", main), ("6374", own)] {
            site.mesh.interface = format!("table = {table}\n");
            let (host, target) = (site.edge_host(1), site.address(2, Family::V4));
            let (_one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
            assert_eq!(ping(host, &target, 2).lost(), 0);
            let before = Snapshot::of(host);
            for removal in removals.iter().chain(&["ip address flush dev mesh0", "ip link set mesh0 down"]) {
                host.ok(removal);
                if removal.ends_with("down") {
                    host.ok("ip link set mesh0 up");
                }
                wait_until(Duration::from_secs(3), removal, || before.differences(&Snapshot::of(host)).is_empty());
                assert_eq!(ping(host, &target, 2).lost(), 0, "after {removal}");
            }
        }
    });
}

#[test]
fn a_stop_under_a_flood_from_applications_does_not_wait_for_its_end() {
    in_lab(|lab| {
        let site = pair(lab);
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 2).lost(), 0);
        let (end, target) = (AtomicBool::new(false), format!("{}:9", site.address(2, Family::V4)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let socket = site.edge_host(1).enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
                    while !end.load(Ordering::Relaxed) {
                        // Refused once the interface is gone, and that is all right.
                        let _ = socket.send_to(&[0; 60_000], &target);
                    }
                });
            }
            // As on a machine where the worker never catches up.
            for task in fs::read_dir(format!("/proc/{}/task", one.pid())).expect("its threads").flatten() {
                if fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("meshd-data")) {
                    one.host().ok(&format!("renice -n 19 -p {}", task.file_name().display()));
                }
            }
            observe(Duration::from_secs(1));
            let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one.stop()));
            end.store(true, Ordering::Relaxed);
            assert!(stopped.is_ok());
        });
    });
}

#[test]
fn a_stop_during_the_start_leaves_the_machine_as_it_was() {
    in_lab(|lab| {
        let site = pair(lab);
        let host = site.edge_host(1);
        let before = Snapshot::of(host);
        for round in 0..40 {
            let mut daemon = site.mesh.spawn(&edge(1));
            let lock = site.mesh.folder(&edge(1)).join("state/undo.json");
            wait_until(STOP, "it begins to change the machine", || lock.exists());
            observe(Duration::from_millis(round % 8));
            daemon.signal(Signal::SIGTERM);
            let status = daemon.wait_end(STOP);
            before.assert_unchanged(host, &format!("round {round}, stopped during the start: {status}"));
            assert!(!site.mesh.folder(&edge(1)).join("meshd.sock").exists(), "round {round}: the API socket");
        }
    });
}

/// A file system on `folder` with no room for another byte.
fn fill(lab: &Lab, folder: &std::path::Path) {
    let host = lab.host("filler");
    host.ok(&format!("mkdir -p {}", folder.display()));
    host.ok(&format!("mount -t tmpfs -o size=64k tmpfs {}", folder.display()));
    let _ = fs::write(folder.join("junk"), vec![1; 1 << 20]);
}

#[test]
fn a_log_on_a_full_disk_does_not_end_the_daemon() {
    in_lab(|lab| {
        let site = pair(lab);
        let (folder, full) = (site.mesh.write(&edge(1)), lab.directory().join("full"));
        fill(lab, &full);
        fs::write(full.join("log"), "").expect("an empty file needs no room");
        symlink(full.join("log"), folder.join("log")).expect("a link");
        let before = Snapshot::of(site.edge_host(1));
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 2).lost(), 0);
        one.stop();
        before.assert_unchanged(site.edge_host(1), "after the stop");
    });
}

#[test]
fn a_full_state_folder_is_told_and_ends_nothing() {
    in_lab(|lab| {
        let site = pair(lab);
        let before = Snapshot::of(site.edge_host(1));
        let state = site.mesh.write(&edge(1)).join("state");
        lab.host("mounter").ok(&format!("mount -t tmpfs -o size=64k tmpfs {}", state.display()));
        let (one, _two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        let _ = fs::write(state.join("junk"), vec![1; 1 << 20]);
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 2).lost(), 0);
        let told = || one.status().health().iter().any(|text| text.contains("state folder"));
        wait_until(STOP, "status tells of the full disk", told);
        fs::remove_file(state.join("junk")).expect("room again");
        // The next handshake is the next attempt to write.
        assert_eq!(one.meshd(&["ping", CONNECTOR, "--count", "1", "--timeout", "1s"]).code, Some(1));
        wait_until(STOP, "what is over is not told any more", || !told());
        one.stop();
        before.assert_unchanged(site.edge_host(1), "after the stop");
    });
}

#[test]
fn a_stop_does_not_wait_for_a_name_server_that_does_not_answer() {
    in_lab(|lab| {
        let mut site = pair(lab);
        let server = connector_underlay(Family::V4);
        let resolv = lab.directory().join("resolv.conf");
        fs::write(&resolv, format!("nameserver {server}\n")).expect("resolv.conf");
        site.edge_host(1).ok(&format!("mount --bind {} /etc/resolv.conf", resolv.display()));
        let silent = site.mesh.endpoint(CONNECTOR).host.enter(|| UdpSocket::bind("0.0.0.0:53")).expect("port 53");
        site.mesh.endpoint_mut(&edge(2)).public_addresses = vec!["two.example.com".to_owned()];
        let daemon = site.mesh.up(&edge(1));
        silent.set_read_timeout(Some(STOP)).expect("a timeout");
        silent.recv(&mut [0; 512]).expect("a query");
        daemon.stop();
    });
}

#[test]
fn a_failed_start_leaves_no_socket_behind() {
    in_lab(|lab| {
        let site = pair(lab);
        let host = site.edge_host(1);
        let _taken = host.enter(|| UdpSocket::bind("0.0.0.0:6374")).expect("take the port first");
        let mut daemon = site.mesh.spawn(&edge(1));
        assert!(!daemon.wait_end(STOP).success());
        assert!(!site.mesh.folder(&edge(1)).join("meshd.sock").exists());
    });
}

#[test]
fn a_daemon_that_does_not_answer_is_not_taken_for_a_dead_one() {
    in_lab(|lab| {
        let site = pair(lab);
        let daemon = site.mesh.up(&edge(1));
        let socket = site.mesh.folder(&edge(1)).join("meshd.sock");
        daemon.signal(Signal::SIGSTOP);
        let asked = Instant::now();
        let status = daemon.meshd(&["status"]);
        assert!(!status.is_ok() && status.stderr.contains("does not answer"), "{status}");
        assert!(asked.elapsed() < Duration::from_secs(15));
        // Callers that nobody serves fill the queue of the socket.
        let mut callers = Vec::new();
        let address = socket.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(
            move || {
                while UnixStream::connect(&address).is_ok_and(|caller| sender.send(caller).is_ok()) {}
            },
        );
        while let Ok(caller) = receiver.recv_timeout(Duration::from_secs(1)) {
            callers.push(caller);
        }
        drop(receiver);
        let mut second = site.mesh.spawn(&edge(1));
        assert!(!second.wait_end(STOP).success());
        assert!(socket.exists(), "the first one's socket");
        daemon.signal(Signal::SIGCONT);
        drop(callers);
        wait_until(STOP, "it answers again", || daemon.meshd(&["status"]).is_ok());
    });
}

#[test]
fn clients_that_connect_and_say_nothing_do_not_keep_others_out() {
    in_lab(|lab| {
        let site = pair(lab);
        let daemon = site.mesh.up(&edge(1));
        let socket = site.mesh.folder(&edge(1)).join("meshd.sock");
        let fds = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).expect("its descriptors").count();
        let before = fds();
        let silent: Vec<UnixStream> = (0..200).map_while(|_| UnixStream::connect(&socket).ok()).collect();
        observe(Duration::from_millis(500));
        assert!(fds() - before <= 100, "{} descriptors for {} silent clients", fds() - before, silent.len());
        wait_until(Duration::from_secs(10), "others are served", || daemon.meshd(&["status"]).is_ok());
    });
}

#[test]
fn a_reader_that_leaves_early_sees_no_panic() {
    in_lab(|lab| {
        let site = pair(lab);
        let daemon = site.mesh.up(&edge(1));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(netns_tests::binary::meshd());
        command.args(["status", "--json"]).env("MESHD_SOCKET", site.mesh.folder(&edge(1)).join("meshd.sock"));
        let child = daemon.host().spawn(command.stdout(writer).stderr(Stdio::piped()));
        let output = child.wait_with_output().expect("its end");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    });
}

#[test]
fn an_interface_that_is_deleted_ends_the_daemon_with_the_reason() {
    in_lab(|lab| {
        let site = pair(lab);
        let host = site.edge_host(1);
        let before = Snapshot::of(host);
        let mut daemon = site.mesh.up(&edge(1));
        host.ok("ip link del mesh0");
        assert!(!daemon.wait_end(STOP).success());
        let log = daemon.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(last.starts_with("meshd: ") && last.contains("mesh0: the TUN interface was deleted"), "{last}");
        before.assert_unchanged(host, "after its end");
    });
}

#[test]
fn nodes_that_disagree_about_mesh_name_or_key_are_told_what_to_compare() {
    in_lab(|lab| {
        let site = pair(lab);
        let (mut renamed, mut rekeyed) = (site.mesh.clone(), site.mesh.clone());
        renamed.name = "elsewhere".to_owned();
        rekeyed.endpoint_mut(&edge(2)).key = new_key();
        for (picture, told) in [(renamed, "mesh name"), (rekeyed, "another public key")] {
            let (one, two) = (picture.up(&edge(1)), site.mesh.up(&edge(2)));
            assert!(!one.meshd(&["ping", &edge(2), "--count", "1", "--timeout", "1s"]).is_ok());
            let health = two.status().health();
            assert!(health.iter().any(|text| text.contains(told)), "{told}: {health:?}");
        }
    });
}
