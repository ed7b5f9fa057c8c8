//! `meshd trace` tells what becomes of packets, at both ends and at a relay, and ends by itself.
#![allow(clippy::expect_used, clippy::panic, reason = "what the tests share is part of the tests")]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tests::nat::NatKind;
use netns_tests::site::{edge, underlay};
use netns_tests::sites::Sites;
use netns_tests::{Daemon, Done, Family, Site, Transfer, binary, in_lab, observe, ping, tcp_transfer, wait_until};

/// From the start of the command until packets are watched.
const BEGIN: Duration = Duration::from_millis(700);

/// One line of the answer, as JSON text.
struct Line(String);

impl Line {
    fn has(&self, parts: &[&str]) -> bool {
        parts.iter().all(|part| self.0.contains(part))
    }
}

/// Runs a trace, and `traffic` while it runs; returns the lines for packets.
fn traced(daemon: &Daemon, arguments: &[&str], traffic: impl FnOnce()) -> Vec<Line> {
    let done = run(daemon, &[&["trace", "--json"], arguments].concat(), traffic);
    let lines = done.text();
    lines.lines().filter(|line| line.contains("\"kind\":\"packet\"")).map(|line| Line(line.to_owned())).collect()
}

fn run(daemon: &Daemon, arguments: &[&str], traffic: impl FnOnce()) -> Done {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| daemon.meshd(arguments));
        observe(BEGIN);
        traffic();
        done.join().expect("the command ends")
    })
}

fn count(lines: &[Line], parts: &[&str]) -> usize {
    lines.iter().filter(|line| line.has(parts)).count()
}

#[test]
fn a_trace_sees_a_ping_both_ways_with_its_peer_session_and_path() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let daemons = site.mesh.up_all();
        let (one, address) = (&daemons[1], site.address(2, Family::V4));
        let first = traced(one, &["--host", &address, "--for", "2s"], || {
            assert_eq!(ping(one.host(), &address, 1).lost(), 0);
        });
        assert_eq!(
            count(&first, &["\"out\"", "\"punted\"", "\"no_session\""]),
            1,
            "what waits for a handshake is told"
        );
        let name = format!("\"peer\":\"{}\"", edge(2));
        let path = underlay(2, Family::V4);
        let lines = traced(one, &["--peer", &edge(2), "--proto", "icmp", "--count", "6"], || {
            assert_eq!(ping(one.host(), &address, 3).lost(), 0);
        });
        for (direction, verdict) in [("\"out\"", "\"sent\""), ("\"in\"", "\"delivered\"")] {
            let parts = [direction, verdict, &name, &path, "\"counter\":", "\"length\":84"];
            assert_eq!(count(&lines, &parts), 3, "{direction}");
        }
        let none = traced(one, &["--port", "7", "--for", "1s"], || assert_eq!(ping(one.host(), &address, 3).lost(), 0));
        assert!(none.is_empty());
        let text = run(one, &["trace", "--count", "2"], || assert_eq!(ping(one.host(), &address, 3).lost(), 0)).text();
        assert!(text.contains("icmp echo request") && text.contains(&format!("to {} over ", edge(2))), "{text}");
    });
}

#[test]
fn a_packet_that_policy_keeps_back_and_one_with_a_stolen_source_are_told_with_the_reason() {
    in_lab(|lab| {
        let site = Site::new(lab, 4).with_members([1, 3, 4]);
        let mut picture = site.mesh.clone();
        let stolen = site.address(4, Family::V4);
        picture.endpoint_mut(&edge(3)).addresses = vec![stolen.clone()];
        picture.endpoint_mut(&edge(4)).addresses = vec!["10.99.0.104".to_owned()];
        let (one, forger) = (site.mesh.up(&edge(1)), picture.up(&edge(3)));
        let denied = site.address(2, Family::V4);
        one.host().ok(&format!("ip route add {denied}/32 dev mesh0"));
        let lines = traced(&one, &["--drops", "--for", "3s"], || {
            assert_eq!(ping(one.host(), &denied, 2).received, 0);
            assert_eq!(ping(forger.host(), &site.address(1, Family::V4), 2).received, 0);
        });
        assert_eq!(count(&lines, &["\"out\"", "\"reason\":\"denied\"", &denied, "policy keeps the two apart"]), 2);
        let (peer, source) = (format!("\"peer\":\"{}\"", edge(3)), format!("\"source\":\"{stolen}\""));
        assert_eq!(count(&lines, &["\"in\"", "\"reason\":\"forged_source\"", &peer, &source]), 2);
        assert_eq!(count(&lines, &["\"sent\""]), 0);
    });
}

#[test]
fn a_relay_tells_what_it_passes_on_and_cannot_read_it() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, [NatKind::PortRestricted; 2]);
        sites.keep_apart();
        let running = sites.start();
        sites.meet(&running, "relay");
        let lines = traced(&running.hubs[0], &["--for", "3s"], || {
            assert_eq!(ping(&sites.one.host, "10.99.0.2", 3).lost(), 0);
        });
        let forwarded = ["\"relayed\"", "\"forwarded\"", "\"source\":null", "\"onward\":"];
        assert!(count(&lines, &forwarded) >= 6, "{} lines", lines.len());
    });
}

#[test]
fn a_capture_is_read_back_by_tcpdump_and_says_what_was_dropped() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let daemons = site.mesh.up_all();
        let (one, address) = (&daemons[1], site.address(2, Family::V4));
        assert_eq!(ping(one.host(), &address, 1).lost(), 0);
        one.host().ok("ip route add 10.99.0.77/32 dev mesh0");
        let file = site.mesh.folder(&edge(1)).join("trace.pcapng");
        let name = file.to_str().expect("a path of letters");
        let done = run(one, &["trace", "--proto", "icmp", "--pcap", name, "--for", "3s"], || {
            assert_eq!(ping(one.host(), &address, 3).lost(), 0);
            assert_eq!(ping(one.host(), "10.99.0.77", 1).received, 0);
        });
        assert!(done.is_ok() && done.stderr.contains("packets"), "{done}");
        // Root of a lab cannot become another user, which tcpdump insists on where it is root.
        let text = one.host().ok(&format!("unshare --user --map-user=1000 tcpdump -n -r {name}"));
        let lines = |what: &str| text.lines().filter(|line| line.contains(what) && line.contains(&address)).count();
        assert_eq!((lines("echo request"), lines("echo reply")), (3, 3), "{text}");
        let bytes = std::fs::read(&file).expect("read the capture");
        let comment = b"dropped: nobody in the mesh has the destination";
        assert!(bytes.windows(comment.len()).any(|window| window == comment));
    });
}

#[test]
fn a_trace_ends_with_its_time_with_its_count_and_with_its_client() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let daemons = site.mesh.up_all();
        let one = &daemons[1];
        let started = Instant::now();
        assert!(one.meshd(&["trace", "--for", "1s"]).is_ok());
        assert!((1..5).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        let (started, address) = (Instant::now(), site.address(2, Family::V4));
        let lines = traced(one, &["--count", "2", "--for", "5m"], || {
            assert_eq!(ping(one.host(), &address, 5).lost(), 0);
        });
        assert!(lines.len() == 2 && started.elapsed() < Duration::from_secs(20));

        let mut command = Command::new(binary::meshd());
        let socket = site.mesh.folder(&edge(1)).join("meshd.sock");
        command.args(["trace", "--for", "5m", "--host", "10.77.0.0/16"]).env("MESHD_SOCKET", socket);
        let mut client = one.host().spawn(command.stdout(Stdio::null()).stderr(Stdio::null()));
        wait_until(Duration::from_secs(5), "the trace of another client is refused", || {
            let other = one.meshd(&["trace", "--for", "100ms"]);
            !other.is_ok() && other.stderr.contains("another trace is running")
        });
        client.kill().expect("kill the client");
        client.wait().expect("the client ends");
        wait_until(Duration::from_secs(5), "the trace ends with its client", || {
            one.meshd(&["trace", "--for", "100ms"]).is_ok()
        });
    });
}

#[test]
fn a_transfer_goes_on_while_everything_is_traced_and_what_is_lost_of_the_trace_is_told() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let daemons = site.mesh.up_all();
        let (one, two, address) = (&daemons[1], &daemons[2], site.address(2, Family::V4));
        assert_eq!(ping(one.host(), &address, 1).lost(), 0);
        let done = run(two, &["trace", "--proto", "tcp", "--for", "4s"], || {
            let _ = tcp_transfer(one.host(), two.host(), &address, Transfer::of(30_000_000));
        });
        let lines = done.stdout.lines();
        let told: usize = lines.clone().filter(|line| line.contains("delivered")).count();
        let lost: usize = lines.filter_map(|line| line.strip_prefix("lost ")?.parse::<usize>().ok()).sum();
        // Of 30 MB in packets of at most 1,420 bytes.
        assert!(told > 100 && told + lost > 20_000, "{told} told and {lost} lost");
    });
}
