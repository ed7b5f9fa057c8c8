//! A daemon that was stopped for a while, as by a machine that slept, is back at once when it goes on.
#![allow(clippy::expect_used, reason = "a test")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use netns_tests::site::edge;
use netns_tests::{Daemon, Family, Host, Lab, Site, Stream, figure, in_lab, wait_until};
use nix::sys::signal::Signal;

/// Longer than any path or packet is waited for, shorter than a session lives.
const STOPPED: Duration = Duration::from_secs(30);

/// Within which traffic flows again; about one second is expected on a machine that does nothing else.
const BACK: Duration = Duration::from_secs(3);

/// A TCP connection between two hosts, both ends.
fn connection(from: &Host, to: &Host, address: &str) -> [TcpStream; 2] {
    let address: IpAddr = address.parse().expect("an address");
    let listener = to.enter(|| TcpListener::bind(SocketAddr::new(address, 0))).expect("listen");
    let target = listener.local_addr().expect("a listener has an address");
    let near = from.enter(|| TcpStream::connect_timeout(&target, BACK)).expect("connect");
    let (far, _) = listener.accept().expect("accept");
    for end in [&near, &far] {
        end.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    }
    [near, far]
}

/// Some bytes there and back.
fn exchange(ends: &mut [TcpStream; 2]) {
    for (from, to) in [(0, 1), (1, 0)] {
        ends[from].write_all(b"still there?").expect("write");
        let mut bytes = [0; 12];
        ends[to].read_exact(&mut bytes).expect("read");
        assert_eq!(&bytes, b"still there?");
    }
}

fn two_members(lab: &Lab) -> (Site, Daemon, Daemon) {
    let site = Site::new(lab, 2).with_members(1..=2);
    let (one, two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
    (site, one, two)
}

#[test]
fn traffic_both_ways_and_connections_go_on_when_a_daemon_does_after_30_s() {
    in_lab(|lab| {
        let (site, _one, two) = two_members(lab);
        let (a, b) = (site.edge_host(1), site.edge_host(2));
        let there = Stream::start(a, b, &site.address(2, Family::V4), 100);
        let back = Stream::start(b, a, &site.address(1, Family::V4), 100);
        let mut ends = connection(a, b, &site.address(2, Family::V4));
        exchange(&mut ends);
        wait_until(Duration::from_secs(5), "the streams flow", || there.arrived() > 50 && back.arrived() > 50);
        two.signal(Signal::SIGSTOP);
        std::thread::sleep(STOPPED);
        let resumed = Instant::now();
        two.signal(Signal::SIGCONT);
        for (name, stream) in [("there", &there), ("back", &back)] {
            let after = stream.wait_next_arrival(resumed, BACK);
            figure(&format!("SIGCONT after {} s, traffic {name}: {} ms", STOPPED.as_secs(), after.as_millis()));
        }
        exchange(&mut ends);
        assert!(two.log().contains("going on after a stop"), "{}", two.log());
    });
}
