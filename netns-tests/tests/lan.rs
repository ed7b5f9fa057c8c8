//! Neighbours on a LAN find each other, and nobody else does: LAN discovery with the real binary.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use netns_tests::inject::Injector;
use netns_tests::neighbours::{Neighbourhood, ONE, TOKEN, TWO, active_kind, hears, lan_settings, paths, wait_near};
use netns_tests::{Daemon, Family, Lab, Mesh, Tap, Transfer, figure, in_lab, observe, ping, tcp_transfer, wait_until};

const OTHER_TOKEN: &str = "Qm9c1xKJ7y2LwVtRz5sUe8DgNaHbPfXi0oMk3GjTqW4=";

fn find_each_other(lab: &Lab, addresses: [&[&str]; 2], without: Option<&str>) {
    let site = Neighbourhood::new(lab, addresses).with_community().with_lan("");
    for host in [&site.one, &site.two] {
        if let Some(sysctl) = without {
            host.set_sysctl(sysctl, "1");
        }
    }
    let wire = Tap::on(&site.one, "eth0");
    let daemons = site.mesh.up_all();
    wait_near(&daemons[0], TWO);
    wait_near(&daemons[1], ONE);
    for family in Family::BOTH {
        assert_eq!(ping(&site.one, &site.mesh.address(TWO, family), 3).lost(), 0);
        assert_eq!(ping(&site.two, &site.mesh.address(ONE, family), 3).lost(), 0);
    }
    assert_eq!(active_kind(&daemons[0], TWO).as_deref(), Some("lan"));
    assert!(!wire.contains(TOKEN.as_bytes()) && !wire.contains(TOKEN.trim_end_matches('=').as_bytes()));
}

#[test]
fn two_edges_that_nobody_can_dial_find_each_other_on_an_ipv4_lan_and_the_token_is_not_on_it() {
    in_lab(|lab| {
        find_each_other(lab, [&["192.168.7.1/24"], &["192.168.7.2/24"]], Some("net/ipv6/conf/eth0/disable_ipv6"));
    });
}

#[test]
fn two_edges_that_nobody_can_dial_find_each_other_on_an_ipv6_lan_with_link_local_addresses_only() {
    in_lab(|lab| find_each_other(lab, [&[], &[]], None));
}

#[test]
fn a_lan_that_appears_takes_the_data_over_from_the_wan_and_gives_it_back_without_a_broken_connection() {
    in_lab(|lab| {
        let router = lab.router("router");
        let hosts = ["one", "two"].map(|name| lab.host(name));
        for (host, net) in hosts.iter().zip(["192.0.2", "198.51.100"]) {
            lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        let mut mesh = Mesh::new(lab, "moves");
        mesh.edge(ONE, &hosts[0], "192.0.2.1").address("10.99.0.1");
        mesh.edge(TWO, &hosts[1], "198.51.100.1").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        mesh.settings = lan_settings(TOKEN, "");
        let daemons = mesh.up_all();
        assert_eq!(ping(&hosts[0], "10.99.0.2", 2).lost(), 0);
        assert_eq!(active_kind(&daemons[0], TWO).as_deref(), Some("direct"));
        let transfer = Transfer { bytes: 36_000_000, pace: Some(2_000_000) };
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| tcp_transfer(&hosts[0], &hosts[1], "10.99.0.2", transfer));
            observe(Duration::from_secs(1));
            let lan = lab.switch("lan");
            for (host, address) in hosts.iter().zip(["192.168.7.1/24", "192.168.7.2/24"]) {
                lab.plug(host, &lan, &[address]);
            }
            wait_until(Duration::from_secs(5), "the LAN has the data", || {
                daemons.iter().zip([TWO, ONE]).all(|(daemon, peer)| active_kind(daemon, peer).as_deref() == Some("lan"))
            });
            lan.host.ok("ip link set br0 down");
            wait_until(Duration::from_secs(5), "the WAN has the data", || {
                daemons
                    .iter()
                    .zip([TWO, ONE])
                    .all(|(daemon, peer)| active_kind(daemon, peer).as_deref() == Some("direct"))
            });
            assert_eq!(sent.join().expect("the connection survived").bytes, transfer.bytes);
        });
    });
}

#[test]
fn another_token_connects_nobody() {
    in_lab(|lab| {
        let mut site = Neighbourhood::dual(lab).with_community().with_lan("implicit_community = true\n");
        let one = site.mesh.up(ONE);
        site.mesh.settings = lan_settings(OTHER_TOKEN, "implicit_community = true\n");
        let two = site.mesh.up(TWO);
        wait_until(Duration::from_secs(5), "beacons that do not open", || {
            one.status().drops("beacon_not_opened") > 1 && two.status().drops("beacon_not_opened") > 1
        });
        site.assert_apart();
        assert!(!hears(&one, TWO) && !hears(&two, ONE));
    });
}

#[test]
fn a_token_without_a_community_connects_nobody_and_with_implicit_community_on_one_side_neither() {
    in_lab(|lab| {
        let mut site = Neighbourhood::dual(lab).with_lan("");
        let one = site.mesh.up(ONE);
        site.mesh.settings = lan_settings(TOKEN, "implicit_community = true\n");
        let two = site.mesh.up(TWO);
        wait_near(&one, TWO);
        wait_near(&two, ONE);
        site.assert_apart();
        assert!(!one.status().has_session(TWO) && !two.status().has_session(ONE));
    });
}

#[test]
fn with_implicit_community_on_both_sides_neighbours_talk_while_they_are_heard() {
    in_lab(|lab| {
        let site = Neighbourhood::dual(lab).with_lan("implicit_community = true\n");
        let daemons = site.mesh.up_all();
        wait_near(&daemons[0], TWO);
        wait_near(&daemons[1], ONE);
        for family in Family::BOTH {
            assert_eq!(ping(&site.one, &site.mesh.address(TWO, family), 3).lost(), 0);
        }
        site.lan.host.ok("ip link set br0 down");
        wait_until(Duration::from_secs(8), "the permission ends", || {
            daemons[0].status().peer(TWO).state() == "denied" && site.one.route_interface("10.99.0.2").is_none()
        });
        site.lan.host.ok("ip link set br0 up");
        wait_near(&daemons[0], TWO);
        wait_near(&daemons[1], ONE);
        assert_eq!(ping(&site.one, "10.99.0.2", 3).lost(), 0);
    });
}

#[test]
fn replayed_forged_and_flooded_beacons_change_nothing() {
    in_lab(|lab| {
        let site = Neighbourhood::dual(lab).with_community().with_lan("");
        let attacker = lab.host("attacker");
        lab.plug(&attacker, &site.lan, &["192.168.7.66/24"]);
        // A raw socket of IPv4 finds no way for a group by itself.
        attacker.ok("ip route add 239.0.0.0/8 dev eth0");
        let wire = Tap::on(&attacker, "eth0");
        let daemons = site.mesh.up_all();
        wait_near(&daemons[0], TWO);
        assert_eq!(ping(&site.one, "10.99.0.2", 2).lost(), 0);
        let captured: Vec<Vec<u8>> = beacons(&wire);
        assert!(captured.len() > 1, "{}", captured.len());
        let before = places(&daemons[0]);
        let pen = Injector::on(&attacker);
        let group: SocketAddrV4 = "239.40.20.81:18080".parse().unwrap();
        let send = |last: u8, payload: &[u8]| {
            pen.send(SocketAddrV4::new([192, 168, 7, last].into(), 18080), group, payload);
        };
        // A source of its own for each, so that none is refused for being too many.
        for (last, beacon) in (100..200).zip(&captured) {
            send(last, beacon);
            let mut forged = beacon.clone();
            forged[100] ^= 1;
            send(last, &forged);
        }
        wait_until(Duration::from_secs(5), "both are refused", || {
            let status = daemons[0].status();
            status.drops("beacon_replayed") > 0 && status.drops("beacon_not_opened") > 0
        });
        let busy = cpu_ticks(&daemons[0]);
        let junk = vec![6, 1, 0, 0].into_iter().chain([0x5a; 252]).collect::<Vec<u8>>();
        let begun = std::time::Instant::now();
        let mut sent = 0u64;
        while begun.elapsed() < Duration::from_secs(5) {
            for last in 70..250 {
                send(last, &junk);
                sent += 1;
            }
        }
        let used = cpu_ticks(&daemons[0]) - busy;
        figure(&format!("{sent} forged beacons within 5 s cost the daemon {} ms of CPU", used * 10));
        assert_eq!(ping(&site.one, "10.99.0.2", 3).lost(), 0);
        let after = places(&daemons[0]);
        let is_true = |path: &String| path.starts_with("192.168.7.2:") || path.starts_with("[fe80:");
        assert!(before.iter().all(|path| after.contains(path)) && after.iter().all(is_true), "{before:?} {after:?}");
    });
}

/// The beacons that a tap saw.
fn beacons(wire: &Tap) -> Vec<Vec<u8>> {
    let to_group = |address: &SocketAddr| address.port() == 18080 && address.ip().is_multicast();
    let all = wire.datagrams().into_iter().filter(|datagram| to_group(&datagram.destination));
    all.map(|datagram| datagram.payload).collect()
}

/// The places where the other may be reached.
fn places(daemon: &Daemon) -> Vec<String> {
    paths(daemon, TWO).iter().filter_map(|path| path["address"].as_str().map(str::to_owned)).collect()
}

/// User and system time of a daemon, in hundredths of a second (proc_pid_stat(5)).
fn cpu_ticks(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

#[test]
fn neighbours_are_told_to_be_none_any_more_when_discovery_is_switched_off() {
    in_lab(|lab| {
        let mut site =
            Neighbourhood::new(lab, [&["192.168.7.1/24"], &["192.168.7.2/24"]]).with_community().with_lan("");
        let daemons = site.mesh.up_all();
        wait_near(&daemons[0], TWO);
        site.mesh.settings = String::new();
        site.mesh.write(ONE);
        assert!(daemons[0].meshd(&["reload"]).is_ok());
        let told = daemons[0].meshd(&["events"]).text();
        assert!(told.contains("no longer heard on the LAN"), "{told}");
    });
}
