//! Traffic goes on: through new keys, through a peer's death and return, through a change of its address, over many workers.

use std::time::{Duration, Instant};

use netns_tests::site::{edge, underlay};
use netns_tests::{
    Daemon, Family, Host, Lab, Site, Stream, Tap, Transfer, figure, in_lab, ping, tcp_transfer, wait_until,
};
use nix::sys::signal::Signal;

/// Within which traffic must flow again after a restart or a change of address.
const RECOVERY: Duration = Duration::from_secs(3);

/// Two members with a session between them.
fn two_members(lab: &Lab, settings: &str) -> (Site, Daemon, Daemon) {
    let mut site = Site::new(lab, 2).with_members(1..=2);
    site.mesh.settings = settings.to_owned();
    let (one, two) = (site.mesh.up(&edge(1)), site.mesh.up(&edge(2)));
    assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V4), 2).lost(), 0);
    one.wait_connected(&edge(2));
    two.wait_connected(&edge(1));
    (site, one, two)
}

#[test]
fn rekeys_during_a_transfer_lose_no_packet() {
    in_lab(|lab| {
        let (site, one, two) = two_members(lab, "[session]\nrekey = \"1s\"\n");
        let (a, b) = (site.edge_host(1), site.edge_host(2));
        let there = Stream::start(a, b, &site.address(2, Family::V4), 2000);
        let back = Stream::start(b, a, &site.address(1, Family::V6), 2000);
        // Beside the streams, not instead: paced, so that a full queue of the kernel cannot lose their packets.
        let paced = Transfer { bytes: 50_000_000, pace: Some(10_000_000) };
        std::thread::scope(|scope| {
            scope.spawn(|| tcp_transfer(a, b, &site.address(2, Family::V6), paced));
        });
        wait_until(Duration::from_secs(15), "three rekeys on both sides", || {
            one.status().peer(&edge(2)).rekeys() >= 3 && two.status().peer(&edge(1)).rekeys() >= 3
        });
        for (name, stream) in [("there", there), ("back", back)] {
            let report = stream.stop_without_loss();
            figure(&format!(
                "rekey every 1 s, stream {name}: {} sent, longest gap {:?}",
                report.sent, report.longest_gap
            ));
        }
    });
}

#[test]
fn the_session_changes_its_index_with_its_keys() {
    in_lab(|lab| {
        let (site, one, _two) = two_members(lab, "[session]\nrekey = \"1s\"\n");
        let before = one.status().peer(&edge(2)).session();
        let stream = Stream::start(site.edge_host(1), site.edge_host(2), &site.address(2, Family::V4), 100);
        wait_until(Duration::from_secs(10), "another index", || one.status().peer(&edge(2)).session() != before);
        stream.stop_without_loss();
    });
}

/// Kills and restarts edge2 under a stream in one direction; returns when traffic flowed again after the restart.
fn restart_under(lab: &Lab, direction: impl Fn(&Site) -> (Host, Host, String)) -> Duration {
    let (site, _one, two) = two_members(lab, "");
    let (from, to, address) = direction(&site);
    let stream = Stream::start(&from, &to, &address, 200);
    wait_until(Duration::from_secs(5), "the stream flows", || stream.arrived() > 50);
    two.kill9();
    let restarted = Instant::now();
    let _two = site.mesh.spawn(&edge(2));
    let after = stream.wait_next_arrival(restarted, RECOVERY);
    assert_eq!(ping(site.edge_host(1), &site.address(2, Family::V6), 3).lost(), 0, "the other family too");
    after
}

#[test]
fn traffic_to_a_peer_flows_within_3_s_of_its_restart_after_kill_9() {
    in_lab(|lab| {
        let after = restart_under(lab, |site| {
            (site.edge_host(1).clone(), site.edge_host(2).clone(), site.address(2, Family::V4))
        });
        figure(&format!("kill -9 and restart, traffic to the peer: {} ms", after.as_millis()));
    });
}

#[test]
fn traffic_from_a_peer_flows_within_3_s_of_its_restart_after_kill_9() {
    in_lab(|lab| {
        let after = restart_under(lab, |site| {
            (site.edge_host(2).clone(), site.edge_host(1).clone(), site.address(1, Family::V4))
        });
        figure(&format!("kill -9 and restart, traffic from the peer: {} ms", after.as_millis()));
    });
}

#[test]
fn a_tcp_connection_survives_the_peers_restart_after_kill_9() {
    in_lab(|lab| {
        let (site, _one, two) = two_members(lab, "");
        let (a, b, address) = (site.edge_host(1), site.edge_host(2), site.address(2, Family::V4));
        let wire = Tap::on(b, "eth0");
        let transfer = Transfer { bytes: 40_000_000, pace: Some(10_000_000) };
        std::thread::scope(|scope| {
            let running = scope.spawn(|| tcp_transfer(a, b, &address, transfer));
            wait_until(Duration::from_secs(5), "the transfer runs", || wire.frames().len() > 500);
            two.kill9();
            let _two = site.mesh.up(&edge(2));
            assert_eq!(running.join().expect("the transfer ends well").bytes, transfer.bytes);
        });
    });
}

/// Gives edge2 another address on the switch, as a new lease does.
fn move_edge2(site: &Site) -> Instant {
    let host = site.edge_host(2);
    host.ok(&format!("ip address del {}/24 dev eth0", underlay(2, Family::V4)));
    host.add_address("eth0", "192.0.2.77/24");
    Instant::now()
}

/// Moves edge2 under streams between the given hosts; each must go on in time.
fn move_under(lab: &Lab, name: &str, directions: &[(usize, usize)]) {
    let (site, one, _two) = two_members(lab, "");
    let start = |&(from, to): &(usize, usize)| {
        Stream::start(site.edge_host(from), site.edge_host(to), &site.address(to, Family::V4), 200)
    };
    let streams: Vec<Stream> = directions.iter().map(start).collect();
    for stream in &streams {
        wait_until(Duration::from_secs(5), "the stream flows", || stream.arrived() > 50);
    }
    let moved = move_edge2(&site);
    for stream in &streams {
        let after = stream.wait_next_arrival(moved, RECOVERY);
        figure(&format!("the peer changes its address, {name}: {} ms", after.as_millis()));
    }
    wait_until(RECOVERY, "the new path is shown", || {
        one.status().peer(&edge(2)).path().is_some_and(|path| path.ip().to_string() == "192.0.2.77")
    });
    for stream in streams {
        assert!(stream.stop().longest_gap < RECOVERY);
    }
}

#[test]
fn traffic_in_both_directions_goes_on_within_3_s_of_a_peers_change_of_address() {
    in_lab(|lab| move_under(lab, "both directions", &[(1, 2), (2, 1)]));
}

#[test]
fn traffic_from_a_peer_goes_on_within_3_s_of_its_change_of_address() {
    in_lab(|lab| move_under(lab, "from the peer only", &[(2, 1)]));
}

#[test]
fn traffic_to_a_peer_that_itself_is_silent_goes_on_within_3_s_of_its_change_of_address() {
    in_lab(|lab| move_under(lab, "to the silent peer only", &[(1, 2)]));
}

/// Packets and super-packets that each worker of a daemon gave to its TUN queue, as it says at its end.
fn written_by_workers(mut daemon: Daemon) -> Vec<u64> {
    daemon.signal(Signal::SIGTERM);
    daemon.wait_end(Duration::from_secs(5));
    let field = |line: &str| line.split_once(" written: ")?.1.split(',').next()?.parse().ok();
    daemon.log().lines().filter(|line| line.contains("worker stopped")).filter_map(field).collect()
}

#[test]
fn streams_between_two_members_use_all_workers_of_both_and_arrive_whole() {
    in_lab(|lab| {
        let (site, one, two) = two_members(lab, "[dataplane]\nworkers = 2\n");
        let (a, b) = (site.edge_host(1), site.edge_host(2));
        let addresses = [Family::V4, Family::V6].map(|family| site.address(2, family));
        // Eight at a time. A flow's worker is drawn by its hash: that one worker gets all of 24 happens once in 8 million times.
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for address in addresses.iter().cycle().take(8) {
                    scope.spawn(|| tcp_transfer(a, b, address, Transfer::of(1_000_000)));
                }
            });
        }
        for (name, daemon) in [("one", one), ("two", two)] {
            let written = written_by_workers(daemon);
            figure(&format!("two workers of {name}: {written:?} packets written"));
            assert!(written.len() == 2 && !written.contains(&0), "{name}: {written:?}");
        }
    });
}
