//! The configuration is loaded anew while the daemon runs: what changed takes effect, all else goes on, and a bad file changes nothing.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use std::fs::{self, File};
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use netns_tests::site::{Site, edge};
use netns_tests::{
    Daemon, Done, Family, Host, Lab, Mesh, Snapshot, Stream, Transfer, figure, in_lab, in_lab_for, ping, tcp_transfer,
    wait_until,
};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Within which a change must show.
const SHOWN: Duration = Duration::from_secs(5);

/// Two members with a session between them, and a third that runs.
fn three(lab: &Lab, settings: &str) -> (Site, Vec<Daemon>) {
    let mut site = Site::new(lab, 3).with_members(1..=3);
    site.mesh.settings = settings.to_owned();
    let daemons = (1..=3).map(|number| site.mesh.up(&edge(number))).collect::<Vec<_>>();
    for number in [2, 3] {
        assert_eq!(ping(site.edge_host(1), &site.address(number, Family::V4), 2).lost(), 0);
        daemons[0].wait_connected(&edge(number));
    }
    (site, daemons)
}

/// Writes the files of the first edge and has its daemon load them.
#[track_caller]
fn reload(mesh: &Mesh, daemon: &Daemon) -> Value {
    mesh.write(daemon.name());
    let answer = daemon.meshd(&["reload", "--json"]).text();
    serde_json::from_str(&answer).expect("JSON")
}

fn texts(report: &Value, field: &str) -> Vec<String> {
    let list = report[field].as_array().expect("a list").iter();
    list.map(|text| text.as_str().expect("a text").to_owned()).collect()
}

fn session(daemon: &Daemon, peer: &str) -> Option<String> {
    daemon.status().find(peer).and_then(|peer| peer.session())
}

fn last_reload(daemon: &Daemon) -> Value {
    daemon.status().json()["last_reload"].clone()
}

fn has_route(host: &Host, prefix: &str) -> bool {
    host.ok(&format!("ip route show {prefix}")).contains("mesh0")
}

#[test]
fn two_hundred_reloads_under_traffic_lose_no_packet_and_keep_the_session() {
    in_lab_for(Duration::from_secs(240), |lab| {
        let (mut site, daemons) = three(lab, "");
        let (a, b) = (site.edge_host(1).clone(), site.edge_host(2).clone());
        let (one, address) = (&daemons[0], site.address(2, Family::V4));
        let before = session(one, &edge(2));
        let drops = |host: &Host| -> u64 {
            let link = &host.json("ip -j -s link show mesh0")[0]["stats64"];
            ["rx", "tx"].iter().map(|side| link[*side]["dropped"].as_u64().unwrap_or(0)).sum()
        };
        let dropped = [drops(&a), drops(&b)];
        let there = Stream::start(&a, &b, &address, 500);
        let back = Stream::start(&b, &a, &site.address(1, Family::V6), 500);
        let paced = Transfer { bytes: 30_000_000, pace: Some(1_500_000) };
        let (with, mut without) = (site.mesh.clone(), site.mesh.clone());
        without.forget(&edge(3));
        let began = Instant::now();
        std::thread::scope(|scope| {
            let transfer = scope.spawn(|| tcp_transfer(&a, &b, &address, paced));
            for round in 0..200 {
                let is_there = round % 2 == 1;
                let report = reload(if is_there { &with } else { &without }, one);
                let counted = if is_there { "endpoints: 1 added" } else { "endpoints: 1 removed" };
                assert_eq!(texts(&report, "applied")[0], counted, "round {round}");
            }
            figure(&format!("200 reloads by the command: {} ms each", began.elapsed().as_millis() / 200));
            assert_eq!(transfer.join().expect("the transfer ends well").bytes, paced.bytes);
        });
        there.stop_without_loss();
        back.stop_without_loss();
        assert_eq!(session(one, &edge(2)), before, "the session's index");
        assert_eq!([drops(&a), drops(&b)], dropped, "what the interfaces dropped");
        site.mesh = with;
        assert_eq!(ping(&a, &site.address(3, Family::V4), 3).lost(), 0, "a member that was added again");
    });
}

#[test]
fn a_member_that_is_removed_leaves_nothing_and_one_that_is_added_is_reached() {
    in_lab(|lab| {
        let (mut site, daemons) = three(lab, "");
        let (one, host) = (&daemons[0], site.edge_host(1).clone());
        let (third, whole) = (site.address(3, Family::V4), site.mesh.clone());
        let third_host = &whole.endpoint(&edge(3)).host;
        assert!(has_route(&host, &third));
        site.mesh.forget(&edge(3));
        let report = reload(&site.mesh, one);
        assert_eq!(texts(&report, "applied"), ["endpoints: 1 removed", "communities: 1 changed"]);
        let pings_of_third = || ping(third_host, &whole.address(&edge(1), Family::V4), 1).received;
        wait_until(SHOWN, "nothing is left of it", || {
            one.status().find(&edge(3)).is_none() && !has_route(&host, &third)
        });
        let told = format!("peer={:?}", edge(3));
        let is_told = |line: &str| line.contains("disconnected") && line.contains(&told);
        wait_until(SHOWN, "the log tells of it by its name", || one.log().lines().any(is_told));
        wait_until(SHOWN, "it was told", || !daemons[2].status().has_session(&edge(1)));
        assert_eq!(ping(&host, &third, 1).received, 0);
        // The other side of the same: a member in whose picture nothing changed dials, and is refused.
        assert_eq!(pings_of_third(), 0);
        let report = reload(&whole, one);
        assert_eq!(texts(&report, "applied"), ["endpoints: 1 added", "communities: 1 changed"]);
        assert_eq!(ping(&host, &third, 3).lost(), 0);
    });
}

#[test]
fn a_member_with_another_key_or_without_a_community_is_cut_off_at_once() {
    in_lab(|lab| {
        let (site, daemons) = three(lab, "");
        let one = &daemons[0];
        let mut mesh = site.mesh.clone();
        mesh.endpoint_mut(&edge(3)).key = netns_tests::mesh::new_key();
        assert_eq!(texts(&reload(&mesh, one), "applied"), ["endpoints: 1 changed"]);
        wait_until(SHOWN, "the key's session is over", || !one.status().has_session(&edge(3)));
        assert_eq!(ping(site.edge_host(3), &site.address(1, Family::V4), 1).received, 0);
        let mut mesh = site.mesh.clone();
        mesh.communities[0].1.retain(|name| *name != edge(3));
        reload(&mesh, one);
        wait_until(SHOWN, "it is denied", || one.status().peer(&edge(3)).state() == "denied");
        assert!(!has_route(site.edge_host(1), &site.address(3, Family::V4)));
        assert!(one.status().has_session(&edge(2)), "the others stay");
    });
}

#[test]
fn what_is_the_same_changes_nothing_and_what_needs_a_restart_is_named() {
    in_lab(|lab| {
        let (mut site, daemons) = three(lab, "");
        let one = &daemons[0];
        site.mesh.write(&edge(1));
        assert_eq!(one.meshd(&["reload"]).text(), "nothing changed\n");
        assert_eq!(last_reload(one)["cause"], "call");
        site.mesh.interface = "mtu = 1400\n".to_owned();
        site.mesh.settings =
            "[session]\nkeepalive = \"20s\"\n[dataplane]\nworkers = 2\n[relay]\nrate = \"64 kbit/s\"\n".to_owned();
        site.mesh.log_level = "warn".to_owned();
        let report = reload(&site.mesh, one);
        assert_eq!(texts(&report, "applied"), ["relay.rate", "log.level", "session.keepalive"]);
        assert_eq!(texts(&report, "needs_restart"), ["dataplane.workers", "interface.mtu"]);
        assert_eq!(site.edge_host(1).mtu("mesh0"), 1420, "as it was");
        let again = reload(&site.mesh, one);
        assert_eq!(texts(&again, "applied"), [""; 0]);
        assert_eq!(texts(&again, "needs_restart"), ["dataplane.workers", "interface.mtu"], "still");
        let told = one.meshd(&["status"]).text();
        assert!(told.contains("needs a restart: dataplane.workers, interface.mtu"), "{told}");
        let said = one.log().matches("configuration loaded anew").count();
        assert_eq!(said, 1, "the first only, for the second has silenced what is no warning");
        assert!(one.meshd(&["log", "debug"]).is_ok());
        site.mesh.log_level = "error".to_owned();
        let report = reload(&site.mesh, one);
        assert_eq!(texts(&report, "applied"), ["log.level"]);
        assert!(texts(&report, "notes")[0].starts_with("log.level does not show before"), "{report}");
    });
}

#[test]
fn another_identity_is_said_and_nothing_of_it_is_applied() {
    in_lab(|lab| {
        let (site, daemons) = three(lab, "");
        let one = &daemons[0];
        let mut mesh = site.mesh.clone();
        mesh.name = "another".to_owned();
        mesh.forget(&edge(3));
        let report = reload(&mesh, one);
        assert_eq!(texts(&report, "applied"), [""; 0]);
        assert_eq!(texts(&report, "needs_restart"), ["mesh.name"]);
        assert!(texts(&report, "notes")[0].contains("restart meshd"), "{report}");
        assert!(one.status().has_session(&edge(3)));
        let mut mesh = site.mesh.clone();
        mesh.endpoint_mut(&edge(1)).key = netns_tests::mesh::new_key();
        assert_eq!(texts(&reload(&mesh, one), "needs_restart"), ["node.key_file"]);
        let events = one.meshd(&["events"]).text();
        assert!(events.contains("held back") && events.contains("needs a restart: mesh.name"), "{events}");
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 3).lost(), 0);
    });
}

#[test]
fn an_own_address_and_a_subnet_change_in_place() {
    in_lab(|lab| {
        let (site, daemons) = three(lab, "");
        let (one, two) = (&daemons[0], &daemons[1]);
        let (host, there) = (site.edge_host(1), site.edge_host(2));
        let sessions = (session(one, &edge(2)), session(two, &edge(1)));
        let mut mesh = site.mesh.clone();
        let own = mesh.endpoint_mut(&edge(1));
        own.addresses = vec!["10.99.7.7".to_owned()];
        own.subnets(&["10.200.0.0/16"]);
        host.add_address("lo", "10.200.0.1/32");
        for daemon in [one, two] {
            reload(&mesh, daemon);
        }
        let addresses: Vec<String> = host.addresses("mesh0").iter().map(|net| net.addr().to_string()).collect();
        assert!(
            addresses.contains(&"10.99.7.7".to_owned()) && !addresses.contains(&"10.99.0.1".to_owned()),
            "{addresses:?}"
        );
        assert_eq!(one.address(Family::V4), "10.99.7.7");
        for address in ["10.99.7.7", "10.200.0.1"] {
            assert_eq!(ping(there, address, 3).lost(), 0, "{address}");
        }
        assert_eq!(ping(there, "10.99.0.1", 1).received, 0, "the old address");
        assert_eq!(ping(host, &site.address(2, Family::V4), 3).lost(), 0, "from the new one");
        assert_eq!((session(one, &edge(2)), session(two, &edge(1))), sessions);
        assert_eq!(host.sysctl("net/ipv4/ip_forward"), "1", "for the subnet");
        for daemon in [one, two] {
            reload(&site.mesh, daemon);
        }
        assert_eq!(host.sysctl("net/ipv4/ip_forward"), "0");
        assert_eq!(ping(there, "10.99.0.1", 3).lost(), 0, "and back");
    });
}

#[test]
fn a_hang_up_reloads_and_a_watched_file_does_so_by_itself() {
    in_lab(|lab| {
        let (mut site, daemons) = three(lab, "");
        let one = &daemons[0];
        site.mesh.settings = "[reload]\nwatch = true\n".to_owned();
        site.mesh.write(&edge(1));
        one.signal(Signal::SIGHUP);
        wait_until(SHOWN, "SIGHUP reloads", || last_reload(one)["cause"] == "signal");
        assert_eq!(texts(&last_reload(one), "applied"), ["reload.watch"]);
        let mut smaller = site.mesh.clone();
        smaller.forget(&edge(3));
        // As editors do: another file takes the place.
        let folder = site.mesh.folder(&edge(1));
        fs::write(folder.join("mesh.toml.new"), smaller.to_toml()).expect("a new file");
        fs::rename(folder.join("mesh.toml.new"), folder.join("mesh.toml")).expect("in the place of the old");
        wait_until(SHOWN, "the change is seen", || one.status().find(&edge(3)).is_none());
        assert_eq!(last_reload(one)["cause"], "files");
        fs::write(folder.join("mesh.toml"), "nonsense").expect("a bad file");
        wait_until(SHOWN, "what is wrong is told", || last_reload(one)["error"].is_string());
        let check = config_check(site.edge_host(1), &folder);
        let problems = check.stderr.trim().trim_start_matches("meshd: ");
        assert_eq!(last_reload(one)["error"].as_str(), Some(problems), "in the words of the check");
        let first = problems.lines().next().unwrap_or_default();
        assert!(!first.is_empty() && one.log().contains(first), "and in the log, in one line");
        assert!(one.status().has_session(&edge(2)));
        site.mesh.write(&edge(1));
        wait_until(SHOWN, "it is good again", || one.status().find(&edge(3)).is_some());
        // From now on the file is where a link leads, which is told while nothing is changed by it.
        let elsewhere = folder.join("elsewhere");
        fs::create_dir(&elsewhere).expect("a folder");
        fs::rename(folder.join("mesh.toml"), elsewhere.join("mesh.toml")).expect("move");
        std::os::unix::fs::symlink("elsewhere/mesh.toml", folder.join("mesh.toml")).expect("a link");
        wait_until(SHOWN, "the link is seen", || {
            let last = last_reload(one);
            last["error"].is_null() && texts(&last, "applied").is_empty()
        });
        fs::write(elsewhere.join("mesh.toml"), smaller.to_toml()).expect("behind the link");
        wait_until(SHOWN, "what changes behind it is seen", || one.status().find(&edge(3)).is_none());
    });
}

#[test]
fn a_route_that_a_reload_finds_in_the_way_is_told_by_its_answer_the_log_and_an_event() {
    in_lab(|lab| {
        let (site, daemons) = three(lab, "");
        let (one, mut mesh) = (&daemons[0], site.mesh.clone());
        site.edge_host(1).add_address("eth0", "10.50.0.1/16");
        mesh.endpoint_mut(&edge(2)).subnets(&["10.50.0.0/16"]);
        let report = reload(&mesh, one);
        let notes = texts(&report, "notes");
        assert!(notes.len() == 1 && notes[0].contains("10.50.0.0/16"), "{report}");
        assert!(one.log().contains(&notes[0]));
        assert!(one.meshd(&["events"]).text().contains(&notes[0]));
        mesh.endpoint_mut(&edge(3)).subnets(&["10.60.0.0/16"]);
        assert_eq!(texts(&reload(&mesh, one), "notes"), [""; 0], "what is known is not told again");
    });
}

fn config_check(host: &Host, folder: &Path) -> Done {
    let mut command = Command::new(netns_tests::binary::meshd());
    host.output(command.args(["config", "check", "--config"]).arg(folder.join("meshd.toml")))
}

/// A way to spoil the files of a node, and what that is called.
type Spoil = (&'static str, fn(&mut Mesh), fn(&Path));

fn nothing(_: &Path) {}

fn in_meshd_toml(folder: &Path, from: &str, to: &str) {
    let file = folder.join("meshd.toml");
    let text = fs::read_to_string(&file).expect("a file");
    assert!(text.contains(from), "{text}");
    fs::write(file, text.replace(from, to)).expect("write");
}

const SPOILS: [Spoil; 10] = [
    ("a syntax error", |_| (), |folder| in_meshd_toml(folder, "[log]", "[log")),
    ("an unknown key", |_| (), |folder| in_meshd_toml(folder, "level =", "levle =")),
    ("an unknown member", |mesh| mesh.communities[0].1.push("beijing.egde1".to_owned()), nothing),
    ("a duplicate name", |mesh| mesh.endpoint_mut("beijing.edge2").name = "beijing.edge3".to_owned(), nothing),
    (
        "overlapping subnets",
        |mesh| {
            mesh.endpoint_mut("beijing.edge2").subnets(&["10.1.0.0/16"]);
            mesh.endpoint_mut("beijing.edge3").subnets(&["10.1.2.0/24"]);
        },
        nothing,
    ),
    ("a bad address", |mesh| mesh.endpoint_mut("beijing.edge2").addresses = vec!["10.99.0.256".to_owned()], nothing),
    ("a missing mesh file", |_| (), |folder| fs::remove_file(folder.join("mesh.toml")).expect("remove")),
    (
        "a wrong own key",
        |_| (),
        |folder| {
            fs::write(folder.join("private.key"), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n").expect("write");
        },
    ),
    (
        "a key file that others may read",
        |_| (),
        |folder| fs::set_permissions(folder.join("private.key"), fs::Permissions::from_mode(0o644)).expect("chmod"),
    ),
    ("a bad duration", |mesh| mesh.settings = "[session]\nidle = \"3 minutes\"\n".to_owned(), nothing),
];

#[test]
fn ten_kinds_of_bad_file_are_refused_in_the_words_of_the_check_and_change_nothing() {
    in_lab(|lab| {
        let (site, daemons) = three(lab, "");
        let (one, host) = (&daemons[0], site.edge_host(1));
        let folder = site.mesh.write(&edge(1));
        let (before, sessions) = (Snapshot::of(host), (session(one, &edge(2)), session(one, &edge(3))));
        let mut told = String::new();
        for (what, spoil, spoil_files) in SPOILS {
            let mut mesh = site.mesh.clone();
            spoil(&mut mesh);
            mesh.write(&edge(1));
            spoil_files(&folder);
            let refused = one.meshd(&["reload"]);
            assert!(!refused.is_ok(), "{what}: {refused}");
            let check = config_check(host, &folder);
            let words = refused.stderr.strip_suffix("nothing was changed: the daemon goes on with what it had\n");
            assert_eq!(words, Some(check.stderr.as_str()), "{what}: the words of the check");
            let health = one.status().json()["health"].to_string();
            assert!(health.contains("the configuration on disk is refused"), "{what}: {health}");
            // What depends on the run: the folder, and keys.
            let text = check.stderr.replace(&format!("{}/", folder.display()), "");
            let text = text.replace(&site.mesh.endpoint(&edge(1)).public_key().to_string(), "(the key of edge1)");
            // Whether help has a line of its own depends on the length of the folder's name.
            told.push_str(&format!("== {what}\n{}", text.replace("\n    help: ", "; ")));
            assert!(last_reload(one)["error"].is_string());
            fs::set_permissions(folder.join("private.key"), fs::Permissions::from_mode(0o600)).expect("chmod");
        }
        before.assert_unchanged(host, "after ten bad files");
        site.mesh.write(&edge(1));
        assert_eq!(one.meshd(&["reload"]).text(), "nothing changed\n");
        assert!(!one.status().json()["health"].to_string().contains("refused"), "a good one ends it");
        assert_eq!((session(one, &edge(2)), session(one, &edge(3))), sessions);
        assert_eq!(ping(host, &site.address(2, Family::V4), 3).lost(), 0);
        insta::assert_snapshot!(told, @r#"
        == a syntax error
        meshd: meshd.toml:18:5: not TOML: unclosed table, expected `]`
        1 problem
        == an unknown key
        meshd: meshd.toml:19:1: unknown key "levle" in [log]; did you mean "level"?
        1 problem
        == an unknown member
        meshd: mesh.toml:38:63: [[community]] members: "beijing.egde1" in community "all-edge-nodes" is no endpoint of this mesh; did you mean "beijing.edge1"?
        1 problem
        == a duplicate name
        meshd: mesh.toml:29:8: endpoint "beijing.edge3" stands twice, first in line 21; rename or remove one of the two
        mesh.toml:38:29: [[community]] members: "beijing.edge2" in community "all-edge-nodes" is no endpoint of this mesh; did you mean "beijing.edge1"?
        2 problems
        == overlapping subnets
        meshd: mesh.toml:36:12: [[endpoint]] subnets: 10.1.2.0/24 of "beijing.edge3" overlaps 10.1.0.0/16 of "beijing.edge2" (line 27); a prefix has one owner, or connectors that all announce the very same one: narrow or remove one of the two
        1 problem
        == a bad address
        meshd: mesh.toml:26:12: [[endpoint]] address: "10.99.0.256" is not an IP address; write "10.99.0.1" or "fd00::1"
        1 problem
        == a missing mesh file
        meshd: meshd.toml:4:8: [node] mesh: cannot read mesh.toml: no such file; set it to the mesh file's path, or write the [[endpoint]] tables in this file
        1 problem
        == a wrong own key
        meshd: meshd.toml:3:12: [node] key_file: the public key of private.key is pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk=, but "beijing.edge1" has (the key of edge1) in mesh.toml:15:14; put into the mesh what `meshd key show` prints here, or name the key file of that endpoint
        1 problem
        == a key file that others may read
        meshd: meshd.toml:3:12: [node] key_file: private.key is open to group or others (mode 0644); chmod 600 private.key
        1 problem
        == a bad duration
        meshd: meshd.toml:22:8: [session] idle: "3 minutes" has an unknown unit; write a whole number and ms, s, m or h, such as "25s"
        1 problem
        "#);
    });
}

#[test]
fn killed_amid_reloads_it_leaves_nothing_once_it_has_run_again() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 3).with_members(1..=3);
        site.mesh.endpoint_mut(&edge(1)).subnets(&["10.200.0.0/16"]);
        let host = site.edge_host(1).clone();
        let before = Snapshot::of(&host);
        let mut smaller = site.mesh.clone();
        smaller.forget(&edge(3));
        smaller.endpoint_mut(&edge(1)).subnets.clear();
        smaller.endpoint_mut(&edge(1)).addresses = vec!["10.99.9.9".to_owned()];
        for round in 0..6 {
            let one = site.mesh.up(&edge(1));
            for turn in 0..3 {
                (if turn % 2 == 0 { &smaller } else { &site.mesh }).write(&edge(1));
                one.signal(Signal::SIGHUP);
                std::thread::sleep(Duration::from_millis(round * 7));
            }
            one.kill9();
        }
        site.mesh.up(&edge(1)).stop();
        before.assert_unchanged(&host, "after a clean run");
    });
}

#[test]
fn a_node_that_is_deselected_puts_the_machine_back_and_starts_again_when_it_is_selected() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let host = site.edge_host(1).clone();
        let _two = site.mesh.up(&edge(2));
        let folder = site.mesh.write(&edge(1));
        let (before, file) = (Snapshot::of(&host), folder.join("mesh.toml"));
        let everybody = fs::read_to_string(&file).expect("mesh.toml");
        let select = || fs::write(&file, &everybody).expect("write mesh.toml");
        let deselect = || {
            fs::write(&file, format!("{everybody}\n[selector]\nlabels = [\"on\"]\n")).expect("write mesh.toml");
        };
        deselect();
        let mut one = Daemon::spawn(&edge(1), &host, &folder);
        one.wait_ready();
        assert_eq!(one.status().json()["mode"], "not_selected");
        assert!(one.meshd(&["status"]).text().contains("not selected"), "in words");
        assert!(!one.meshd(&["ping", &edge(2)]).is_ok());
        before.assert_unchanged(&host, "at rest");
        in_meshd_toml(&folder, "[log]", "[log]\nformat = \"json\"");
        for round in 0..2 {
            select();
            let report = one.meshd(&["reload"]).text();
            assert!(report.contains("the node starts"), "round {round}: {report}");
            assert!(report.contains("log.format"), "the process has its form of the log for life: {report}");
            assert_eq!(one.status().json()["mode"], "running");
            assert_eq!(ping(&host, &site.address(2, Family::V4), 3).lost(), 0, "round {round}");
            deselect();
            let report = one.meshd(&["reload"]).text();
            assert!(report.contains("the node stops"), "round {round}: {report}");
            assert_eq!(one.status().json()["mode"], "not_selected");
            wait_until(SHOWN, "the peer was told", || !_two.status().has_session(&edge(1)));
            before.assert_unchanged(&host, "at rest again");
        }
        wait_until(SHOWN, "the daemon's uptime goes on at rest", || {
            one.status().json()["node"]["uptime_seconds"].as_u64() > Some(0)
        });
        one.stop();
    });
}

#[test]
fn a_selected_node_that_cannot_start_says_why_and_starts_when_it_can_and_its_events_go_on() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let host = site.edge_host(1).clone();
        let folder = site.mesh.write(&edge(1));
        let file = folder.join("mesh.toml");
        let everybody = fs::read_to_string(&file).expect("mesh.toml");
        fs::write(&file, format!("{everybody}\n[selector]\nlabels = [\"on\"]\n")).expect("write mesh.toml");
        let before = Snapshot::of(&host);
        let mut one = Daemon::spawn(&edge(1), &host, &folder);
        one.wait_ready();
        let told = File::create(folder.join("events")).expect("make the file");
        let mut command = Command::new(netns_tests::binary::meshd());
        command.args(["events", "--follow"]).env("MESHD_SOCKET", one.socket()).stdout(told);
        let mut follower = host.spawn(&mut command);
        let port = host.enter(|| UdpSocket::bind("0.0.0.0:6374")).expect("another program's port");
        fs::write(&file, &everybody).expect("write mesh.toml");
        let refused = one.meshd(&["reload"]);
        assert!(!refused.is_ok() && refused.stderr.contains("another program has it"), "{refused}");
        let status = one.status();
        assert_eq!(status.json()["mode"], "cannot_start");
        assert!(status.health()[0].contains("cannot listen on UDP port 6374"), "{:?}", status.health());
        let why = one.meshd(&["why", &edge(2)]);
        assert!(why.stdout.contains("cannot start") && !why.stdout.contains("selected"), "{why}");
        drop(port);
        wait_until(Duration::from_secs(20), "it starts by itself", || one.status().json()["mode"] == "running");
        let order = ["started", "not selected", "refused: ", "cannot start: ", "the node runs"];
        wait_until(SHOWN, "the follower was told all of it", || {
            let text = fs::read_to_string(folder.join("events")).expect("the file");
            let mut lines = text.lines();
            order.iter().all(|part| lines.any(|line| line.contains(part)))
        });
        assert!(follower.try_wait().expect("its state").is_none(), "it follows on");
        follower.kill().expect("kill it");
        let _ = follower.wait();
        one.stop();
        before.assert_unchanged(&host, "after all attempts");
    });
}
