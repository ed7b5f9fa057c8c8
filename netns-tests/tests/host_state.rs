//! The machine is as it was: whatever a daemon did to links, addresses, rules, routes, filters and sysctls is undone by
//! its end, or by the end of the next one after `kill -9`.

use std::time::Duration;

use netns_tests::site::{CONNECTOR, edge};
use netns_tests::{Family, Host, Lab, Site, Snapshot, in_lab, in_lab_for, ping, wait_until};

/// How often the daemon is started, stopped and killed.
const ROUNDS: usize = 100;

/// A connector that forwards for subnets, on a host with rules and routes of its own.
fn busy_connector(lab: &Lab) -> (Site, Host) {
    let mut site = Site::new(lab, 2).with_members(1..=2);
    site.mesh.endpoint_mut(CONNECTOR).subnets(&["10.233.0.0/18", "fd00:233::/48"]);
    site.mesh.endpoint_mut(&edge(1)).subnets(&["10.235.0.0/24"]);
    let host = site.mesh.endpoint(CONNECTOR).host.clone();
    let behind = lab.host("behind");
    lab.cable(&host, &["10.233.0.1/24", "fd00:233::1/64"], &behind, &["10.233.0.10/24", "fd00:233::10/64"]);
    host.ok("ip route add default via 192.0.2.1");
    host.ok("ip rule add priority 1000 fwmark 7 table 77");
    host.ok("ip -6 rule add priority 1000 fwmark 7 table 77");
    host.ok("ip route add 10.235.0.0/16 via 192.0.2.2 table 77");
    host.ok("nft add table inet of-the-user");
    (site, host)
}

#[test]
fn starts_stops_and_kills_leave_links_addresses_rules_routes_and_sysctls_as_they_were() {
    in_lab_for(Duration::from_secs(300), |lab| {
        let (site, host) = busy_connector(lab);
        let before = Snapshot::of(&host);
        for round in 1..=ROUNDS {
            let daemon = site.mesh.up(CONNECTOR);
            if round == 1 {
                let differences = before.differences(&Snapshot::of(&host));
                assert!(differences.contains("mesh0"), "a running daemon is seen: {differences}");
            }
            if round % 2 == 0 {
                daemon.stop();
                before.assert_unchanged(&host, &format!("round {round}, stopped"));
            } else {
                daemon.kill9();
                // What kill -9 left is undone by the next start, and must not add to what that one's end undoes.
                site.mesh.up(CONNECTOR).stop();
                before.assert_unchanged(&host, &format!("round {round}, killed, started and stopped"));
            }
        }
    });
}

#[test]
fn a_stop_with_sessions_and_traffic_leaves_the_machine_as_it_was() {
    in_lab(|lab| {
        let (site, host) = busy_connector(lab);
        let edge_host = site.edge_host(1);
        let before = [Snapshot::of(&host), Snapshot::of(edge_host)];
        let (connector, one) = (site.mesh.up(CONNECTOR), site.mesh.up(&edge(1)));
        assert_eq!(ping(edge_host, &site.mesh.address(CONNECTOR, Family::V4), 3).lost(), 0);
        assert_eq!(ping(edge_host, "10.233.0.1", 3).lost(), 0, "the subnet");
        one.stop();
        connector.stop();
        before[0].assert_unchanged(&host, "after the connector's end");
        before[1].assert_unchanged(edge_host, "after the edge's end");
    });
}

#[test]
fn forwarding_that_was_on_before_stays_on() {
    in_lab(|lab| {
        let (site, host) = busy_connector(lab);
        host.set_sysctl("net/ipv4/ip_forward", "1");
        host.set_sysctl("net/ipv6/conf/all/forwarding", "1");
        let before = Snapshot::of(&host);
        site.mesh.up(CONNECTOR).stop();
        before.assert_unchanged(&host, "after a stop");
        site.mesh.up(CONNECTOR).kill9();
        site.mesh.up(CONNECTOR).stop();
        before.assert_unchanged(&host, "after kill -9, a start and a stop");
    });
}

#[test]
fn an_edge_without_subnets_does_not_turn_forwarding_on() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let _daemon = site.mesh.up(&edge(2));
        assert_eq!(site.edge_host(2).sysctl("net/ipv4/ip_forward"), "0");
        assert_eq!(site.edge_host(2).sysctl("net/ipv6/conf/all/forwarding"), "0");
    });
}

#[test]
fn a_daemon_that_cannot_start_leaves_the_machine_as_it_was() {
    in_lab(|lab| {
        let (site, host) = busy_connector(lab);
        let taken = host.enter(|| std::net::UdpSocket::bind("0.0.0.0:6374")).expect("take the port first");
        let before = Snapshot::of(&host);
        let folder = site.mesh.write(CONNECTOR);
        let mut command = std::process::Command::new(netns_tests::binary::meshd());
        let done = host.output(command.args(["up", "--config"]).arg(folder.join("meshd.toml")));
        assert!(!done.is_ok() && done.stderr.contains("6374"), "one clear line: {done}");
        drop(taken);
        before.assert_unchanged(&host, "after the failed start");
        let daemon = site.mesh.up(CONNECTOR);
        wait_until(Duration::from_secs(2), "it runs", || daemon.meshd(&["status"]).is_ok());
    });
}
