//! What the daemon counts and logs: it is what happened, it can be read by strict readers, and it is what the documentation says.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use netns_tests::openmetrics::Exposition;
use netns_tests::site::{CONNECTOR, edge, underlay};
use netns_tests::{Daemon, Family, Lab, Site, in_lab, observe, ping, wait_until};

const SOON: Duration = Duration::from_secs(5);

const PORT: &str = "[metrics]\nlisten = \"127.0.0.1:9374\"\n";

fn pair(lab: &Lab) -> Site {
    Site::new(lab, 3).with_members(1..=2)
}

/// The metrics on the API socket.
fn scrape(daemon: &Daemon) -> Exposition {
    let stream = UnixStream::connect(daemon.socket()).expect("the API socket");
    let text = get(stream, "/v1/metrics").expect("200");
    Exposition::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The body of an answer to a GET; none where the answer is no success.
fn get(stream: impl Read + Write, path: &str) -> Option<String> {
    get_of("localhost:9374", stream, path)
}

/// The same, from who calls the server so.
fn get_of(host: &str, mut stream: impl Read + Write, path: &str) -> Option<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    head.starts_with("HTTP/1.1 200 ").then(|| body.to_owned())
}

#[test]
fn counters_grow_with_traffic_and_agree_with_the_status() {
    in_lab(|lab| {
        let site = pair(lab);
        let (one, two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
        let target = site.address(2, Family::V4);
        assert_eq!(ping(site.edge_host(1), &target, 3).lost(), 0);
        let (name, before) = (edge(2), scrape(&one));
        assert_eq!(ping(site.edge_host(1), &target, 5).lost(), 0);
        let (after, status) = (scrape(&one), one.status());
        let of = |exposition: &Exposition, metric: &str| exposition.value(metric, &[("peer", &name)]);
        for (metric, field) in [
            ("meshd_peer_transmit_packets_total", "tx_packets"),
            ("meshd_peer_receive_packets_total", "rx_packets"),
            ("meshd_peer_transmit_bytes_total", "tx_bytes"),
            ("meshd_peer_receive_bytes_total", "rx_bytes"),
        ] {
            let least = if metric.contains("bytes") { 5.0 * 84.0 } else { 5.0 };
            let (early, late) = (of(&before, metric).expect(metric), of(&after, metric).expect(metric));
            assert!(late - early >= least, "{metric}: {early}, then {late}");
            assert_eq!(late as u64, status.peer(&name).count(field), "{metric}");
        }
        let peer = |metric: &str, more: (&str, &str)| after.value(metric, &[("peer", &name), more]);
        assert_eq!(peer("meshd_peer_state", ("state", "connected")), Some(1.0));
        assert_eq!(peer("meshd_peer_handshakes_total", ("result", "completed")), Some(1.0));
        assert_eq!(peer("meshd_path_active", ("kind", "direct")), Some(1.0));
        let rtt = peer("meshd_path_rtt_seconds", ("kind", "direct")).expect("a round trip time");
        assert!(rtt > 0.0 && rtt < 1.0, "{rtt} s");
        let in_session = status.peers().iter().filter(|peer| peer.session().is_some()).count();
        assert_eq!(after.value("meshd_sessions", &[]), Some(in_session as f64));
        two.stop();
    });
}

#[test]
fn what_goes_through_a_relay_is_counted_as_such_and_what_does_not_is_not() {
    in_lab(|lab| {
        let site = pair(lab);
        let daemons = [site.mesh.up(CONNECTOR), site.mesh.up(&edge(1)), site.mesh.up(&edge(2))];
        let (target, name) = (site.address(2, Family::V4), edge(2));
        let sent = |series: &str| scrape(&daemons[1]).value(series, &[("peer", &name)]).expect(series);
        let relayed = || sent("meshd_peer_transmit_relayed_packets_total");
        assert_eq!(ping(site.edge_host(1), &target, 3).lost(), 0);
        assert_eq!(relayed(), 0.0);
        // Datagrams between the two are cut off: only the relay is left.
        for (one, other) in [(1, 2), (2, 1)] {
            site.edge_host(one).ok(&format!("ip route add blackhole {}/32", underlay(other, Family::V4)));
        }
        wait_until(Duration::from_secs(15), "they go on through the relay", || {
            daemons[1].status().peer(&name).relay().is_some() && ping(site.edge_host(1), &target, 1).received == 1
        });
        let before = relayed();
        assert_eq!(ping(site.edge_host(1), &target, 4).lost(), 0);
        assert!(relayed() >= before + 4.0, "{before}, then {}", relayed());
        assert!(relayed() <= sent("meshd_peer_transmit_packets_total") - 3.0);
        let relay = scrape(&daemons[0]);
        assert!(relay.value("meshd_relay_receive_datagrams_total", &[]) >= Some(8.0));
        assert!(relay.value("meshd_relay_member_receive_bytes_total", &[("peer", &name)]) > Some(0.0));
        assert_eq!(relay.value("meshd_relay_channels", &[]), Some(1.0));
    });
}

#[test]
fn packets_that_policy_denies_are_counted_by_reason() {
    in_lab(|lab| {
        let site = pair(lab);
        let one = site.mesh.up(&edge(1));
        let denied = || scrape(&one).value("meshd_drops_total", &[("reason", "denied"), ("direction", "outbound")]);
        assert_eq!(denied(), Some(0.0), "every reason is there from the start");
        // The daemon makes no route to whom policy keeps away.
        one.host().ok(&format!("ip route add {} dev mesh0", site.address(3, Family::V4)));
        assert_eq!(ping(site.edge_host(1), &site.address(3, Family::V4), 3).received, 0);
        assert!(denied() >= Some(3.0), "{:?}", denied());
        assert_eq!(scrape(&one).value("meshd_peer_state", &[("peer", &edge(3)), ("state", "denied")]), Some(1.0));
    });
}

#[test]
fn the_documentation_has_every_metric_with_its_type_and_labels_and_no_other() {
    in_lab(|lab| {
        let mut site = pair(lab);
        site.mesh.settings = "[relay]\nrate = \"1 Gbit/s\"\n".to_owned();
        let daemons = site.mesh.up_all();
        for daemon in &daemons[1..3] {
            assert_eq!(ping(daemon.host(), &site.mesh.address(CONNECTOR, Family::V4), 2).lost(), 0);
        }
        let mut documented = BTreeMap::new();
        for line in include_str!("../../docs/metrics.md").lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            if let ["", name, kind @ ("counter" | "gauge"), labels, meaning, ""] = cells[..] {
                assert!(!meaning.is_empty(), "{name}");
                documented.insert(name.trim_matches('`').to_owned(), (kind.to_owned(), list(labels)));
            }
        }
        let mut seen = BTreeMap::new();
        for exposition in daemons.iter().map(scrape) {
            for family in exposition.families() {
                let before = seen.entry(family.series).or_insert((family.kind, Vec::new()));
                before.1 = if before.1.is_empty() { family.labels } else { before.1.clone() };
            }
        }
        let names = |all: &BTreeMap<String, (String, Vec<String>)>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&seen), names(&documented));
        for (name, (kind, labels)) in &seen {
            let (documented_kind, documented_labels) = &documented[name];
            assert_eq!(kind, documented_kind, "{name}");
            assert!(labels.is_empty() || labels == documented_labels, "{name}: {labels:?}, not {documented_labels:?}");
        }
    });
}

/// The names in a cell such as "`peer`, `state`".
fn list(cell: &str) -> Vec<String> {
    let names = cell.split(',').map(|name| name.trim().trim_matches('`').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn over_tcp_metrics_are_on_loopback_only_and_nothing_else_is_served() {
    in_lab(|lab| {
        let mut site = pair(lab);
        site.mesh.settings = PORT.to_owned();
        let one = site.mesh.up(&edge(1));
        let connect = || one.host().enter(|| TcpStream::connect("127.0.0.1:9374")).expect("the port");
        let tcp = |path: &str| get(connect(), path);
        let text = tcp("/metrics").expect("200");
        assert!(get_of("127.0.0.1:9374", connect(), "/metrics").is_some());
        // A page whose site's name was made to lead to this machine says that name.
        assert_eq!(get_of("rebound.example:9374", connect(), "/metrics"), None);
        let families =
            |exposition: &Exposition| exposition.families().into_iter().map(|f| f.series).collect::<Vec<_>>();
        assert_eq!(families(&Exposition::parse(&text).expect("strict text")), families(&scrape(&one)));
        for other in ["/v1/status", "/v1/metrics", "/"] {
            assert_eq!(tcp(other), None, "{other}");
        }
        for address in ["192.0.2.1:9374", "10.99.0.1:9374"] {
            assert!(one.host().enter(|| TcpStream::connect(address)).is_err(), "{address}");
        }
        site.mesh.settings = PORT.replace("127.0.0.1", "0.0.0.0");
        let mut open = site.mesh.spawn(&edge(2));
        assert!(!open.wait_end(SOON).success());
        assert!(open.log().contains("can be reached from other machines"), "{}", open.log());
    });
}

#[test]
fn a_metrics_port_that_another_program_has_is_told_and_leaves_nothing_behind() {
    in_lab(|lab| {
        let mut site = pair(lab);
        site.mesh.settings = PORT.to_owned();
        let host = site.edge_host(1);
        let _taken = host.enter(|| std::net::TcpListener::bind("127.0.0.1:9374")).expect("take the port first");
        let before = netns_tests::Snapshot::of(host);
        let mut daemon = site.mesh.spawn(&edge(1));
        assert!(!daemon.wait_end(SOON).success());
        assert!(daemon.log().contains("[metrics] listen"), "{}", daemon.log());
        before.assert_unchanged(host, "after a failed start");
    });
}

#[test]
fn a_level_that_is_changed_at_run_time_shows_debug_lines_and_reverts() {
    in_lab(|lab| {
        let mut site = pair(lab);
        site.mesh.log_level = "info".to_owned();
        let one = site.mesh.up(&edge(1));
        let shake = |text: &str| {
            one.host().ok("ip link add veth7 type veth peer name veth8");
            one.host().ok("ip link set veth7 up");
            one.host().ok("ip link del veth7");
            observe(Duration::from_millis(500));
            one.log().lines().filter(|line| line.contains(text)).count()
        };
        let line = "the machine's network changed";
        assert_eq!(shake(line), 0);
        let shown = one.meshd(&["log", "debug", "--for", "3s"]).text();
        assert!(shown.contains("meshd=debug") && shown.contains("reverts     in "), "{shown}");
        let during = shake(line);
        assert!(during > 0, "{}", one.log());
        wait_until(SOON, "it reverts", || one.meshd(&["log"]).text().contains("configured  the same"));
        let over = one.log().matches(line).count();
        assert_eq!(shake(line), over);
        assert!(one.meshd(&["log", "meshd::driver=debug"]).is_ok());
        assert!(shake(line) > over);
        let refused = one.meshd(&["log", "loud"]);
        assert!(!refused.is_ok() && refused.stderr.contains("neither a level"), "{refused}");
        let reset: serde_json::Value =
            serde_json::from_str(&one.meshd(&["log", "reset", "--json"]).text()).expect("JSON");
        assert_eq!((&reset["is_changed"], &reset["output"]), (&false.into(), &"stderr".into()));
    });
}

#[test]
fn lines_are_json_objects_where_that_is_configured() {
    in_lab(|lab| {
        let site = pair(lab);
        let folder = site.mesh.write(&edge(1));
        let text = fs::read_to_string(folder.join("meshd.toml")).expect("the configuration");
        fs::write(folder.join("meshd.toml"), text.replace("[log]\n", "[log]\nformat = \"json\"\n")).expect("written");
        let mut one = Daemon::spawn(&edge(1), site.edge_host(1), &folder);
        one.wait_ready();
        let lines: Vec<serde_json::Value> = one
            .log()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect();
        let up = lines.iter().find(|line| line["message"] == "up").expect("a line");
        assert_eq!((&up["level"], &up["node"]), (&"INFO".into(), &edge(1).into()));
    });
}

#[test]
fn the_journal_gets_entries_with_fields_where_standard_error_is_its_stream() {
    in_lab(|lab| {
        let site = pair(lab);
        fs::create_dir_all("/run/systemd/journal").expect("a folder");
        let journal = UnixDatagram::bind("/run/systemd/journal/socket").expect("the journal's socket");
        journal.set_read_timeout(Some(SOON)).expect("a timeout");
        let folder = site.mesh.write(&edge(1));
        let log = fs::File::create(folder.join("log")).expect("a log");
        let meta = log.metadata().expect("its inode");
        let mut command = Command::new(netns_tests::binary::meshd());
        command.args(["up", "--config"]).arg(folder.join("meshd.toml"));
        command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).stderr(log);
        let mut child = site.edge_host(1).spawn(&mut command);
        let _two = site.mesh.up(&edge(2));
        assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 2).lost(), 0);
        let mut bytes = vec![0; 1 << 16];
        let entry = loop {
            let len = journal.recv(&mut bytes).expect("an entry of the connection");
            let fields = entry_fields(&bytes[..len]);
            if fields.get("MESSAGE").is_some_and(|text| text == "connected") {
                break fields;
            }
        };
        let two = edge(2);
        for (field, value) in [
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "meshd"),
            ("PEER", two.as_str()),
            ("PATH", "192.0.2.2:6374"),
            ("CODE_FILE", "meshd/src/driver.rs"),
        ] {
            assert_eq!(entry.get(field).map(String::as_str), Some(value), "{field} in {entry:?}");
        }
        assert!(entry["CODE_LINE"].parse::<u32>().is_ok(), "{entry:?}");
        child.kill().expect("it runs");
        child.wait().expect("its end");
        assert_eq!(fs::read_to_string(folder.join("log")).expect("its log"), "", "nothing twice");
    });
}

/// The fields of an entry in the journal's native protocol: `NAME=value`, or a name, the length of the value in 8 bytes, and the value.
fn entry_fields(mut entry: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let mut fields = BTreeMap::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let (name, value, rest) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => (&line[..at], &line[at + 1..], rest),
            None => {
                let (len, rest) = rest.split_first_chunk().expect("a length");
                let len = usize::try_from(u64::from_le_bytes(*len)).expect("a short value");
                (line, &rest[..len], &rest[len + 1..])
            }
        };
        fields.insert(text(name), text(value));
        entry = rest;
    }
    fields
}

#[test]
fn no_secret_is_in_a_log_at_the_most_talkative_level() {
    in_lab(|lab| {
        let mut site = pair(lab);
        let token = "c0ffee11c0ffee22c0ffee33c0ffee4401234567";
        site.mesh.log_level = "trace".to_owned();
        site.mesh.settings =
            format!("[lan]\nmulticast_token = \"{token}\"\ninterval = \"1s\"\n[session]\nrekey = \"1s\"\n");
        let daemons = [site.mesh.up(&edge(1)), site.mesh.up(&edge(2))];
        let payload = "5ec2e75ec2e75ec2";
        let target = site.address(2, Family::V4);
        site.edge_host(1).ok(&format!("ping -c 5 -i 0.5 -p {payload} {target}"));
        observe(Duration::from_secs(1));
        for daemon in &daemons {
            let log = daemon.log();
            assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
            let key = site.mesh.endpoint(daemon.name()).key.to_base64();
            let bytes = STANDARD.decode(key.as_bytes()).expect("base64");
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let list: Vec<String> = bytes.iter().take(6).map(ToString::to_string).collect();
            for secret in [key.as_str(), &hex[..16], &list.join(", "), token, payload] {
                assert!(!log.to_lowercase().contains(&secret.to_lowercase()), "{secret} of {}", daemon.name());
            }
        }
    });
}
