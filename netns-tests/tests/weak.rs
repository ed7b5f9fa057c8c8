//! Weak links: a fifth of all packets lost each way, 300 ms there and back, and cuts of the middle that no link reports.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use std::time::{Duration, Instant};

use netns_tests::link::Udp;
use netns_tests::nat::NatKind;
use netns_tests::sites::{ONE, Running, Sites, TWO};
use netns_tests::traffic::ping_with;
use netns_tests::{Daemon, Stream, Transfer, figure, in_lab, observe, tcp_transfer, wait_until};
use proto::member::DEFAULT_PORT;
use serde_json::Value;

const ROUTED: [NatKind; 2] = [NatKind::PortRestricted, NatKind::PortRestricted];

/// Of 60 requests 38 come back on average where each way loses a fifth, 25 where each way has two such links.
const REQUESTS: u32 = 60;

/// Longer than every timer of a session in use.
const CUT: Duration = Duration::from_secs(12);

/// The target is 3 s; this fails what is far from it.
const RECOVERY: Duration = Duration::from_secs(6);

/// What `status NAME` says of a peer.
fn told(daemon: &Daemon, peer: &str) -> Value {
    serde_json::from_str(&daemon.meshd(&["status", peer, "--json"]).text()).expect("JSON")
}

/// The events of a peer's history that are of this kind.
fn events(daemon: &Daemon, peer: &str, kind: &str) -> usize {
    let told = told(daemon, peer);
    let events = told["history"].as_array().into_iter().flatten().filter_map(|line| line["event"].as_str());
    events.filter(|event| event.starts_with(kind)).count()
}

/// How often the data took another path, by the log: the history keeps eight events.
fn moves(daemon: &Daemon, peer: &str) -> usize {
    let of_peer = format!("peer={peer:?}");
    daemon.log().lines().filter(|line| line.contains("peer moved") && line.contains(&of_peer)).count()
}

/// Pings and sends over weak uplinks; the data must keep to its session, and nearly to its path.
fn endure(sites: &Sites<'_>, running: &Running, name: &str, least: u32) {
    let before = [(&running.one, TWO), (&running.two, ONE)].map(|(daemon, peer)| moves(daemon, peer));
    let (one, two) = (&sites.one.host, &sites.two.host);
    let started = Instant::now();
    let received = ping_with(one, "10.99.0.2", REQUESTS, "-i 0.1 -W 2").received;
    assert!(received >= least, "{name}: {received} of {REQUESTS}");
    let took = tcp_transfer(one, two, "10.99.0.2", Transfer::of(40_000)).took;
    let after = [(&running.one, TWO), (&running.two, ONE)].map(|(daemon, peer)| moves(daemon, peer));
    figure(&format!(
        "20 % loss, {name}: {received} of {REQUESTS} pings, 40 kB over TCP in {:.1} s; {:?} moves in {:.0} s",
        took.as_secs_f64(),
        [after[0] - before[0], after[1] - before[1]],
        started.elapsed().as_secs_f64()
    ));
    for (place, (daemon, peer)) in [(&running.one, TWO), (&running.two, ONE)].into_iter().enumerate() {
        assert_eq!(events(daemon, peer, "disconnected"), 0, "{name}: {:#}", told(daemon, peer)["history"]);
        assert!(after[place] - before[place] <= 6, "{name}: {:#}", told(daemon, peer)["history"]);
    }
}

#[test]
fn a_link_that_loses_a_fifth_each_way_and_is_slow_brings_a_session_up_and_carries_its_traffic() {
    in_lab(|lab| {
        let mut sites = Sites::new(lab, 1, [NatKind::PortRestricted, NatKind::None]);
        let net = sites.two.host.addresses("eth0").into_iter().find(|net| net.addr().is_ipv4()).expect("an address");
        sites.mesh.endpoint_mut(TWO).public_addresses.push(format!("{}:{DEFAULT_PORT}", net.addr()));
        let uplink = &sites.one.premises.uplink;
        uplink.set_delay(Duration::from_millis(150));
        uplink.set_loss(20);
        let running = sites.start();
        sites.meet(&running, "direct");
        endure(&sites, &running, "300 ms, direct", 20);
    });
}

#[test]
fn a_relayed_path_that_loses_a_fifth_each_way_and_is_slow_carries_traffic() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 2, ROUTED);
        sites.keep_apart();
        let uplink = &sites.one.premises.uplink;
        uplink.set_delay(Duration::from_millis(150));
        uplink.set_loss(20);
        let running = sites.start();
        sites.meet(&running, "relay");
        endure(&sites, &running, "300 ms, relayed", 20);
    });
}

#[test]
fn a_cut_in_the_middle_is_told_as_disconnected_since_and_traffic_is_back_soon_after_it() {
    in_lab(|lab| {
        let sites = Sites::new(lab, 1, ROUTED);
        let running = sites.start();
        sites.meet(&running, "direct");
        let (one, two) = (&sites.one.host, &sites.two.host);
        let streams = [Stream::start(one, two, "10.99.0.2", 50), Stream::start(two, one, "10.99.0.1", 50)];
        for stream in &streams {
            wait_until(Duration::from_secs(5), "the stream flows", || stream.arrived() > 50);
        }
        assert!(told(&running.one, TWO)["peer"]["disconnected_seconds"].is_null());
        // Not the link of the host: nothing but silence tells it.
        let cut = Instant::now();
        sites.one.premises.uplink.set_udp(Udp::Dropped);
        observe(CUT);
        for (daemon, peer) in [(&running.one, TWO), (&running.two, ONE)] {
            let since = told(daemon, peer)["peer"]["disconnected_seconds"].as_f64().expect("it is lost");
            assert!(since > 8.0 && since < cut.elapsed().as_secs_f64() + 3.0, "{since} s of {:?}", cut.elapsed());
            let table = daemon.meshd(&["status"]).text();
            let is_told = |line: &str| line.starts_with(peer) && line.contains("disconnected since ");
            assert!(table.lines().any(is_told), "{table}");
            assert!(daemon.meshd(&["status", peer]).text().contains("disconnected since "));
        }
        sites.one.premises.uplink.set_udp(Udp::Passes);
        let over = Instant::now();
        let after = streams.each_ref().map(|stream| stream.wait_next_arrival(over, RECOVERY).as_millis());
        figure(&format!("cut for 12 s: traffic again after {} ms there and {} ms back", after[0], after[1]));
        wait_until(RECOVERY, "nobody is told lost", || {
            let is_found = |daemon: &Daemon, peer| told(daemon, peer)["peer"]["disconnected_seconds"].is_null();
            is_found(&running.one, TWO) && is_found(&running.two, ONE)
        });
        figure(&format!("cut for 12 s: told as connected {} ms after it", over.elapsed().as_millis()));
    });
}
