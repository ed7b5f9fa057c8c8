//! The daemon as its unit runs it, a user of its own with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE, does all that root's does, and
//! tells its service manager how it does.

use std::time::Duration;

use netns_tests::neighbours::{Neighbourhood, ONE, TWO, has_direct_route};
use netns_tests::service::{Manager, USER, owns_all_in, process_line};
use netns_tests::site::{CONNECTOR, edge};
use netns_tests::{Daemon, Family, Host, Lab, Mesh, Site, Snapshot, in_service_lab, ping, wait_until};

const LAB: Duration = Duration::from_secs(120);

/// CAP_NET_BIND_SERVICE (10) and CAP_NET_ADMIN (12), as `/proc/<pid>/status` writes them.
const TWO_CAPABILITIES: &str = "0000000000001400";

#[track_caller]
fn assert_is_service(daemon: &Daemon) {
    let users = process_line(daemon.pid(), "Uid");
    assert!(users.split_whitespace().all(|user| user == USER.to_string()), "it runs as {users}");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(process_line(daemon.pid(), set), TWO_CAPABILITIES, "{set}");
    }
    assert_eq!(process_line(daemon.pid(), "NoNewPrivs"), "1");
}

/// A connector with a subnet of each family behind it, and an edge.
fn site_with_subnets(lab: &Lab) -> Site {
    let mut site = Site::new(lab, 1);
    site.mesh.endpoint_mut(CONNECTOR).subnets(&["10.233.0.0/18", "fd00:233::/48"]);
    let behind = lab.host("behind");
    let host = &site.mesh.endpoint(CONNECTOR).host;
    lab.cable(host, &["10.233.0.1/24", "fd00:233::1/64"], &behind, &["10.233.0.10/24", "fd00:233::10/64"]);
    behind.ok("ip route add default via 10.233.0.1");
    behind.ok("ip -6 route add default via fd00:233::1");
    site
}

fn assert_reaches_what_is_behind(host: &Host) {
    wait_until(Duration::from_secs(10), "the subnets are reached", || {
        ["10.233.0.10", "fd00:233::10"].iter().all(|address| ping(host, address, 1).lost() == 0)
    });
}

#[test]
fn without_root_it_forwards_for_subnets_and_puts_the_machine_back_at_a_stop_and_after_kill_9() {
    in_service_lab(LAB, |lab| {
        for table in ["", "table = 6374\n"] {
            lab.clear();
            let mut site = site_with_subnets(lab);
            site.mesh.interface = table.to_owned();
            let host = site.mesh.endpoint(CONNECTOR).host.clone();
            let before = Snapshot::of(&host);
            let one = site.mesh.up(&edge(1));
            for ending in [Daemon::stop, Daemon::kill9, Daemon::stop] {
                let connector = site.mesh.up(CONNECTOR);
                assert_is_service(&connector);
                assert_eq!(host.sysctl("net/ipv4/ip_forward"), "1");
                assert_reaches_what_is_behind(one.host());
                assert_eq!(connector.status().health(), [""; 0]);
                ending(connector);
            }
            before.assert_unchanged(&host, "stopped, killed, started and stopped");
            assert!(owns_all_in(&site.mesh.folder(CONNECTOR).join("state")));
        }
    });
}

#[test]
fn without_root_a_relay_serves_tls_at_port_443() {
    in_service_lab(LAB, |lab| {
        let (one, hub) = (lab.host("one"), lab.host("hub"));
        lab.cable(&one, &["192.0.2.1/24"], &hub, &["192.0.2.254/24"]);
        for rule in ["add table inet wall", "add chain inet wall in { type filter hook input priority 0; }"] {
            hub.ok(&format!("nft {rule}"));
        }
        hub.ok("nft add rule inet wall in meta l4proto udp iifname eth0 drop");
        let mut mesh = Mesh::new(lab, "wan");
        mesh.connector("hub.connector", &hub, "192.0.2.254").address("10.99.0.254").tls("192.0.2.254");
        mesh.edge("here.one", &one, "").address("10.99.0.1");
        mesh.community("all", &["hub.connector", "here.one"]);
        let daemons = mesh.up_all();
        daemons.iter().for_each(assert_is_service);
        wait_until(Duration::from_secs(20), "the relay is reached over TLS", || {
            ping(&one, "10.99.0.254", 1).lost() == 0
        });
        assert_eq!(daemons[1].status().peer("hub.connector").path_kind().as_deref(), Some("tls"));
    });
}

#[test]
fn without_root_direct_mode_sets_its_routes_and_removes_them() {
    in_service_lab(LAB, |lab| {
        let site = Neighbourhood::dual(lab).with_community().with_lan("mode = \"direct\"\n");
        let before = Snapshot::of(&site.one);
        let daemons = site.mesh.up_all();
        wait_until(Duration::from_secs(20), "direct routes on both sides", || {
            ping(&site.one, &site.mesh.address(TWO, Family::V4), 1).lost() == 0
                && has_direct_route(&daemons[0], TWO)
                && has_direct_route(&daemons[1], ONE)
        });
        daemons.into_iter().for_each(Daemon::stop);
        before.assert_unchanged(&site.one, "stopped");
    });
}

/// An edge that reports to `manager`, which wants a sign of life each second.
fn supervised(site: &Site, manager: &Manager) -> Daemon {
    let name = edge(1);
    let folder = site.mesh.write(&name);
    let variables = [("NOTIFY_SOCKET", manager.address()), ("WATCHDOG_USEC", "1000000")];
    Daemon::spawn_with(&name, site.edge_host(1), &folder, &variables)
}

#[test]
fn the_service_manager_is_told_ready_who_is_connected_and_stopping() {
    in_service_lab(LAB, |lab| {
        let site = Site::new(lab, 1);
        let manager = Manager::new(lab.directory());
        let connector = site.mesh.up(CONNECTOR);
        let one = supervised(&site, &manager);
        let first = manager.next(Duration::from_secs(10)).expect("the first message");
        assert_eq!(first.trim(), "READY=1");
        assert!(one.meshd(&["status"]).is_ok(), "who is ready answers");
        let _ = manager.wait("STATUS=0 of 1 peers connected", Duration::from_secs(10));
        assert_eq!(ping(one.host(), &site.mesh.address(CONNECTOR, Family::V4), 2).lost(), 0);
        let told = manager.wait("STATUS=1 of 1 peers connected", Duration::from_secs(10));
        assert!(told.lines().any(|line| line == "WATCHDOG=1"), "{told}");
        one.stop();
        let _ = manager.wait("STOPPING=1", Duration::from_secs(5));
        connector.stop();
    });
}

#[test]
fn a_daemon_that_hangs_gives_no_sign_of_life_and_one_that_goes_on_does() {
    in_service_lab(LAB, |lab| {
        let site = Site::new(lab, 1);
        let manager = Manager::new(lab.directory());
        let one = supervised(&site, &manager);
        for _ in 0..3 {
            let _ = manager.wait("WATCHDOG=1", Duration::from_secs(10));
        }
        one.signal(nix::sys::signal::Signal::SIGSTOP);
        // What was sent before it stopped.
        while manager.next(Duration::from_millis(100)).is_some() {}
        assert_eq!(manager.next(Duration::from_secs(2)), None, "a stopped process says nothing");
        one.signal(nix::sys::signal::Signal::SIGCONT);
        let _ = manager.wait("WATCHDOG=1", Duration::from_secs(10));
        one.stop();
    });
}
