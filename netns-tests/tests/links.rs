//! The harness's links: each fault does what its name says, in both directions, and ends when it is taken back.

use std::time::{Duration, Instant};

use netns_tests::link::{Link, Udp};
use netns_tests::traffic::ping_with;
use netns_tests::{Host, Lab, Transfer, in_lab, ping, tcp_transfer, udp_exchange};

const ADDRESSES: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

fn linked(lab: &Lab) -> (Host, Host, Link) {
    let (a, b) = (lab.host("a"), lab.host("b"));
    let ends: [(&Host, &[&str]); 2] =
        [(&a, &["192.0.2.1/24", "2001:db8::1/64"]), (&b, &["192.0.2.2/24", "2001:db8::2/64"])];
    let link = Link::between(lab, "link", ends);
    (a, b, link)
}

fn assert_whole(a: &Host, b: &Host) {
    for address in ADDRESSES {
        assert_eq!(ping(a, address, 3).lost(), 0, "{address}");
        udp_exchange(a, b, address, 3, 1000);
        let _ = tcp_transfer(a, b, address, Transfer::of(1_000_000));
    }
}

#[test]
fn a_link_carries_everything() {
    in_lab(|lab| {
        let (a, b, _link) = linked(lab);
        assert_whole(&a, &b);
    });
}

#[test]
fn a_cut_link_carries_nothing_and_a_mended_one_everything() {
    in_lab(|lab| {
        let (a, b, link) = linked(lab);
        let before = [a.addresses("eth0"), b.addresses("eth0")];
        link.cut();
        assert!(a.json("ip -j link show eth0")[0]["operstate"] == "DOWN", "no carrier");
        assert_eq!(ping(&a, ADDRESSES[0], 1).received, 0);
        link.mend();
        assert_eq!([a.addresses("eth0"), b.addresses("eth0")], before);
        assert_whole(&a, &b);
    });
}

#[test]
fn a_slow_link_delays_both_directions_and_loses_nothing() {
    in_lab(|lab| {
        let (a, b, link) = linked(lab);
        link.set_delay(Duration::from_millis(600));
        for address in ADDRESSES {
            let started = Instant::now();
            assert_eq!(ping_with(&a, address, 5, "-i 0.01 -W 5").lost(), 0, "{address}");
            assert!(started.elapsed() > Duration::from_millis(1200), "there and back");
        }
        link.set_delay(Duration::from_millis(50));
        for address in ADDRESSES {
            let _ = tcp_transfer(&a, &b, address, Transfer::of(1_000_000));
        }
        link.set_delay(Duration::ZERO);
        let started = Instant::now();
        assert_eq!(ping(&a, ADDRESSES[0], 1).lost(), 0);
        assert!(started.elapsed() < Duration::from_millis(1200), "fast again");
    });
}

#[test]
fn a_lossy_link_loses_about_as_many_as_told_slow_or_not() {
    in_lab(|lab| {
        let (a, b, link) = linked(lab);
        link.set_loss(20);
        for delay in [Duration::ZERO, Duration::from_millis(50)] {
            link.set_delay(delay);
            for address in ADDRESSES {
                // Of 300 exchanges 64 % come back; six standard deviations are 50.
                let came = ping_with(&a, address, 300, "-i 0.002 -W 1").received;
                assert!((142..=242).contains(&came), "{came} of 300 at {delay:?}, {address}");
            }
        }
        link.set_delay(Duration::ZERO);
        link.set_loss(0);
        assert_whole(&a, &b);
    });
}

#[test]
fn a_link_closed_to_udp_still_carries_tcp() {
    in_lab(|lab| {
        let (a, b, link) = linked(lab);
        link.set_udp(Udp::Dropped);
        for address in ADDRESSES {
            let inlet = b.enter(|| std::net::UdpSocket::bind((address, 4000))).unwrap();
            inlet.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let unspecified = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let outlet = a.enter(|| std::net::UdpSocket::bind(unspecified)).unwrap();
            outlet.send_to(b"lost", (address, 4000)).unwrap();
            inlet.recv(&mut [0; 9]).unwrap_err();
            let _ = tcp_transfer(&a, &b, address, Transfer::of(1_000_000));
        }
        link.set_udp(Udp::Passes);
        assert_whole(&a, &b);
    });
}

#[test]
fn a_narrow_link_is_told_of_and_a_black_hole_is_not() {
    in_lab(|lab| {
        let (far, router) = (lab.host("far"), lab.router("router"));
        lab.cable(&far, &["198.51.100.1/24", "2001:db8:1::1/64"], &router, &["198.51.100.254/24", "2001:db8:1::fe/64"]);
        let b = lab.host("b");
        let ends: [(&Host, &[&str]); 2] =
            [(&router, &["192.0.2.1/24", "2001:db8::1/64"]), (&b, &["192.0.2.2/24", "2001:db8::2/64"])];
        let link = Link::between(lab, "link", ends);
        for (host, gateways) in [(&far, ["198.51.100.254", "2001:db8:1::fe"]), (&b, ["192.0.2.1", "2001:db8::1"])] {
            for gateway in gateways {
                host.ok(&format!("ip route add default via {gateway}"));
            }
        }
        link.set_silent_mtu(1400);
        for (address, headers) in [(ADDRESSES[0], 28), (ADDRESSES[1], 48)] {
            let probe = |size: usize| format!("ping -n -c 1 -W 1 -M do -s {} {address}", size - headers);
            assert!(far.run(&probe(1400)).is_ok(), "{address}: fits");
            let swallowed = far.run(&probe(1401));
            assert!(!swallowed.is_ok() && !swallowed.stdout.contains("mtu"), "{address}: {swallowed}");
        }
        link.set_silent_mtu(1500);
        link.set_mtu(1300);
        for (address, headers) in [(ADDRESSES[0], 28), (ADDRESSES[1], 48)] {
            let probe = |size: usize| format!("ping -n -c 1 -W 1 -M do -s {} {address}", size - headers);
            let told = far.run(&probe(1301));
            assert!(!told.is_ok() && format!("{told}").to_lowercase().contains("mtu"), "{address}: {told}");
            assert!(far.run(&probe(1300)).is_ok(), "{address}: fits");
        }
    });
}
