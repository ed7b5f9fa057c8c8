//! The harness itself: its hosts reach each other, its taps see, its snapshots compare, and nothing of it remains.

use std::panic::catch_unwind;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use netns_tests::inject::{Injector, v4};
use netns_tests::traffic::{Stream, ping_with, tcp_transfer_marked};
use netns_tests::{
    Host, Lab, Snapshot, Tap, Transfer, in_lab, in_lab_for, observe, ping, process, sandbox, tcp_transfer,
    udp_exchange, wait_until,
};

fn two_hosts(lab: &Lab) -> (Host, Host) {
    let lan = lab.switch("lan");
    let (a, b) = (lab.host("a"), lab.host("b"));
    lab.plug(&a, &lan, &["192.0.2.1/24", "2001:db8::1/64"]);
    lab.plug(&b, &lan, &["192.0.2.2/24", "2001:db8::2/64"]);
    (a, b)
}

#[test]
fn two_hosts_on_a_switch_reach_each_other_over_both_families() {
    in_lab(|lab| {
        let (a, b) = two_hosts(lab);
        for address in ["192.0.2.2", "2001:db8::2"] {
            assert_eq!(ping(&a, address, 3).lost(), 0, "{address}");
            udp_exchange(&a, &b, address, 3, 1000);
            let done = tcp_transfer(&a, &b, address, Transfer::of(5_000_000));
            assert_eq!(done.seen_source.ip().is_ipv4(), !address.contains(':'));
        }
        assert_eq!(ping_with(&a, "192.0.2.2", 1, "-W 1 -M do -s 1472").lost(), 0);
        assert_eq!(ping_with(&a, "192.0.2.2", 1, "-W 1 -M do -s 1473").received, 0);
        assert_eq!(ping(&a, "192.0.2.77", 1).received, 0, "nobody has this address");
        assert_eq!(ping(&a, "203.0.113.1", 1).received, 0, "no route");
        assert_eq!(a.mtu("eth0"), 1500);
        let given = ["192.0.2.1/24", "2001:db8::1/64"].map(|address| address.parse().unwrap());
        assert!(given.iter().all(|address| a.addresses("eth0").contains(address)));
        assert_eq!(a.route_interface("192.0.2.2").as_deref(), Some("eth0"));
        assert_eq!(a.route_interface("203.0.113.1"), None);
    });
}

#[test]
fn a_router_forwards_between_two_cables() {
    in_lab(|lab| {
        let (a, router, b) = (lab.host("a"), lab.router("router"), lab.host("b"));
        lab.cable(&a, &["192.0.2.1/24"], &router, &["192.0.2.254/24"]);
        lab.cable(&b, &["198.51.100.1/24"], &router, &["198.51.100.254/24"]);
        a.ok("ip route add default via 192.0.2.254");
        b.ok("ip route add default via 198.51.100.254");
        assert_eq!(ping(&a, "198.51.100.1", 2).lost(), 0);
        let done = tcp_transfer(&a, &b, "198.51.100.1", Transfer::of(100_000));
        assert_eq!(done.seen_source.ip().to_string(), "192.0.2.1");
    });
}

#[test]
fn a_tap_sees_datagrams_and_markers_on_its_interface_only() {
    in_lab(|lab| {
        let (a, b) = two_hosts(lab);
        let (at_eth0, at_lo) = (Tap::on(&b, "eth0"), Tap::on(&b, "lo"));
        let seen = udp_exchange(&a, &b, "192.0.2.2", 2, 100);
        at_eth0.wait_for(Duration::from_secs(2), "the datagram", |frame| {
            frame.datagram().filter(|d| d.source == seen && d.payload.len() == 100 && !frame.outgoing)
        });
        wait_until(Duration::from_secs(2), "both directions", || {
            at_eth0.udp_between("192.0.2.1", "192.0.2.2").len() == 4
        });
        assert!(at_eth0.udp_between("192.0.2.1", "192.0.2.3").is_empty());
        let marker = b"a marker in the first segment";
        let _ = tcp_transfer_marked(&a, &b, "2001:db8::2", Transfer::of(100_000), marker);
        wait_until(Duration::from_secs(2), "the marker is seen", || at_eth0.contains(marker));
        assert!(at_eth0.packets_with("2001:db8::1") > 0);
        at_eth0.clear();
        assert!(!at_eth0.contains(marker), "forgotten");
        assert!(at_lo.frames().is_empty(), "another interface of the same host");
    });
}

#[test]
fn an_injected_datagram_arrives_with_its_forged_source() {
    in_lab(|lab| {
        let (a, b) = two_hosts(lab);
        let socket = b.enter(|| std::net::UdpSocket::bind("192.0.2.2:4000")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let forged = "203.0.113.9:9".parse().unwrap();
        Injector::on(&a).send(v4(forged), "192.0.2.2:4000".parse().unwrap(), b"from nobody");
        let mut buffer = [0; 64];
        assert_eq!(socket.recv_from(&mut buffer).unwrap(), (11, forged));
    });
}

#[test]
fn a_stream_counts_what_arrived_and_what_did_not() {
    in_lab(|lab| {
        let (a, b) = two_hosts(lab);
        assert_eq!(ping(&a, "192.0.2.2", 1).lost(), 0);
        let stream = Stream::start(&a, &b, "192.0.2.2", 2000);
        wait_until(Duration::from_secs(5), "it flows", || stream.arrived() > 500);
        assert!(stream.stop_without_loss().longest_gap < Duration::from_secs(1));

        let stream = Stream::start(&a, &b, "192.0.2.2", 1000);
        wait_until(Duration::from_secs(5), "it flows", || stream.arrived() > 100);
        b.ok("nft add table inet wall");
        b.ok("nft add chain inet wall input { type filter hook input priority 0 ; }");
        b.ok("nft add rule inet wall input meta l4proto udp drop");
        observe(Duration::from_millis(300));
        let opened = Instant::now();
        b.ok("nft delete table inet wall");
        stream.wait_next_arrival(opened, Duration::from_secs(2));
        let report = stream.stop();
        assert!(report.lost() > 100 && report.longest_gap > Duration::from_millis(250), "{report:?}");
    });
}

#[test]
fn a_snapshot_equals_itself_and_shows_each_kind_of_change() {
    in_lab(|lab| {
        let (a, _) = two_hosts(lab);
        let before = Snapshot::of(&a);
        before.assert_unchanged(&a, "at once");
        assert_eq!(ping(&a, "192.0.2.2", 1).lost(), 0);
        before.assert_unchanged(&a, "after traffic");
        for (change, undo) in [
            ("ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"),
            ("ip link add tun9 type veth", "ip link del tun9"),
            ("ip address add 10.1.1.1/32 dev lo", "ip address del 10.1.1.1/32 dev lo"),
            ("ip rule add fwmark 7 table 77", "ip rule del fwmark 7 table 77"),
            ("ip -6 rule add fwmark 7 table 77", "ip -6 rule del fwmark 7 table 77"),
            ("ip route add 10.2.0.0/16 dev eth0 table 77", "ip route del 10.2.0.0/16 dev eth0 table 77"),
            ("ip -6 route add fd77::/64 dev eth0", "ip -6 route del fd77::/64 dev eth0"),
            ("nft add table inet left", "nft delete table inet left"),
        ] {
            a.ok(change);
            assert!(!before.differences(&Snapshot::of(&a)).is_empty(), "`{change}` is not seen");
            a.ok(undo);
            before.assert_unchanged(&a, undo);
        }
        a.set_sysctl("net/ipv4/ip_forward", "1");
        assert!(before.differences(&Snapshot::of(&a)).contains("/proc/sys/net/ipv4/ip_forward"));
        a.set_sysctl("net/ipv4/ip_forward", "0");
        before.assert_unchanged(&a, "after the sysctl was restored");
    });
}

#[test]
fn a_process_shows_its_memory_and_cpu_time() {
    in_lab(|lab| {
        let host = lab.host("a");
        let mut sleeper = host.spawn(Command::new("sleep").arg("100"));
        wait_until(Duration::from_secs(2), "it runs", || !process::with_command_line("sleep 100").is_empty());
        assert!((100..10_000).contains(&process::resident_kib(sleeper.id())));
        assert!(process::cpu_ticks(sleeper.id()) < 5);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    });
}

/// The machine's side of a lab that left a process, a namespace and a file behind.
fn assert_nothing_remains(process: &str, host: &str) {
    wait_until(Duration::from_secs(3), "the lab's processes are gone", || {
        process::with_command_line(process).is_empty()
    });
    assert!(!Path::new("/run/netns").join(host).exists(), "the namespace {host} remains");
    assert!(!Path::new("/run/lab").exists(), "the lab's directory remains");
}

#[expect(clippy::zombie_processes, reason = "the lab's end must end it")]
fn leave_things_behind(lab: &Lab, process: &str, host: &str) {
    let mut words = process.split(' ');
    let _ = lab.host(host).spawn(Command::new(words.next().unwrap_or_default()).args(words));
}

#[test]
fn nothing_remains_of_a_lab_that_ended() {
    let (process, host) = ("sleep 86301", "left-by-an-ended-lab");
    in_lab(|lab| leave_things_behind(lab, process, host));
    if !sandbox::is_inside() {
        assert_nothing_remains(process, host);
    }
}

#[test]
fn nothing_remains_of_a_lab_that_failed_and_its_output_is_shown() {
    let (process, host) = ("sleep 86302", "left-by-a-failed-lab");
    let run = || {
        in_lab(|lab| {
            leave_things_behind(lab, process, host);
            panic!("the reason of the failure");
        });
    };
    if sandbox::is_inside() {
        run();
    }
    let failure = *catch_unwind(run).unwrap_err().downcast::<String>().unwrap();
    assert!(failure.contains("the reason of the failure"), "{failure}");
    assert_nothing_remains(process, host);
}

#[test]
fn a_lab_over_its_limit_is_killed_with_everything_in_it() {
    let (process, host) = ("sleep 86303", "left-by-a-hung-lab");
    let run = || {
        in_lab_for(Duration::from_secs(2), |lab| {
            leave_things_behind(lab, process, host);
            println!("the last words");
            observe(Duration::from_secs(60));
        });
    };
    if sandbox::is_inside() {
        run();
    }
    let failure = *catch_unwind(run).unwrap_err().downcast::<String>().unwrap();
    assert!(failure.contains("over its limit of 2s") && failure.contains("the last words"), "{failure}");
    assert_nothing_remains(process, host);
}
