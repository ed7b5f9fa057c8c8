//! Members of a community reach each other: in all directions, with every kind of traffic, over both families inside
//! and outside, and the wire shows ciphertext only.

use std::time::Duration;

use netns_tests::site::{edge, underlay};
use netns_tests::traffic::{ping_with, tcp_transfer_marked};
use netns_tests::{Family, Lab, Site, Tap, Transfer, figure, in_lab, ping, tcp_transfer, udp_exchange, wait_until};

const DIRECTIONS: [(usize, usize); 6] = [(1, 2), (2, 1), (1, 3), (3, 1), (2, 3), (3, 2)];

/// What a ping and a transfer carry when they must not be seen.
const MARKER: &[u8; 16] = b"MESHD-IN-CLEAR-?";

#[test]
fn members_ping_each_other_in_all_directions_over_both_families() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=3);
        let _daemons = site.mesh.up_all();
        for (from, to) in DIRECTIONS {
            for family in Family::BOTH {
                let pinged = ping(site.edge_host(from), &site.address(to, family), 5);
                assert_eq!(pinged.lost(), 0, "edge{from} to edge{to} over {family:?}");
            }
        }
    });
}

#[test]
fn members_exchange_udp_in_all_directions_over_both_families() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=3);
        let _daemons = site.mesh.up_all();
        for (from, to) in DIRECTIONS {
            for family in Family::BOTH {
                for size in [1, 100, 1200] {
                    let address = site.address(to, family);
                    let seen = udp_exchange(site.edge_host(from), site.edge_host(to), &address, 5, size);
                    assert_eq!(seen.ip().to_string(), site.address(from, family), "the source is the member's");
                }
            }
        }
    });
}

#[test]
fn members_transfer_over_tcp_in_all_directions_over_both_families() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=3);
        let _daemons = site.mesh.up_all();
        for (from, to) in DIRECTIONS {
            for family in Family::BOTH {
                let (address, transfer) = (site.address(to, family), Transfer::of(3_000_000));
                let done = tcp_transfer(site.edge_host(from), site.edge_host(to), &address, transfer);
                assert_eq!(done.seen_source.ip().to_string(), site.address(from, family));
            }
        }
    });
}

/// The settings of both sides in one line.
fn told(settings: &[&str; 2]) -> String {
    let told = |settings: &str| settings.lines().last().unwrap_or("the defaults").to_owned();
    settings.map(told).join(" and ")
}

fn transfer_100_mb(lab: &Lab, family: Family, settings: [&str; 2]) {
    let mut site = Site::new(lab, 2).with_members(1..=2);
    let mut daemons = Vec::new();
    for (number, settings) in (1..).zip(settings) {
        site.mesh.settings = settings.to_owned();
        daemons.push(site.mesh.up(&edge(number)));
    }
    for (from, to) in [(1, 2), (2, 1)] {
        let address = site.address(to, family);
        let done = tcp_transfer(site.edge_host(from), site.edge_host(to), &address, Transfer::of(100_000_000));
        let (rate, told) = (done.gigabits_per_second(), told(&settings));
        figure(&format!("100 MB over {family:?} with {told}: {rate:.2} Gbit/s"));
    }
    for daemon in &daemons {
        let status = daemon.status();
        for reason in ["authentication_failed", "replayed", "malformed_datagram", "malformed_packet", "unknown_session"]
        {
            assert_eq!(status.drops(reason), 0, "{reason} at {}", daemon.name());
        }
    }
}

#[test]
fn a_transfer_of_100_mb_arrives_with_an_equal_checksum_over_ipv4() {
    in_lab(|lab| transfer_100_mb(lab, Family::V4, ["", ""]));
}

#[test]
fn a_transfer_of_100_mb_arrives_with_an_equal_checksum_over_ipv6() {
    in_lab(|lab| transfer_100_mb(lab, Family::V6, ["", ""]));
}

#[test]
fn a_transfer_of_100_mb_arrives_without_offloads_on_either_side() {
    in_lab(|lab| transfer_100_mb(lab, Family::V4, ["[dataplane]\noffload = false\n"; 2]));
}

#[test]
fn a_transfer_of_100_mb_arrives_between_a_side_with_offloads_and_one_without() {
    in_lab(|lab| transfer_100_mb(lab, Family::V6, ["[dataplane]\noffload = false\n", ""]));
}

#[test]
fn a_transfer_of_100_mb_arrives_under_either_cipher() {
    in_lab(|lab| transfer_100_mb(lab, Family::V4, ["[dataplane]\ncipher = \"chacha20-poly1305\"\n", ""]));
}

#[test]
fn a_packet_as_large_as_the_mtu_crosses_whole_and_a_larger_one_is_refused_at_once() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let (one, two) = (site.edge_host(1), site.edge_host(2));
        one.without_segment_offload("eth0");
        two.without_segment_offload("eth0");
        let wire = Tap::on(two, "eth0");
        let _daemons = site.mesh.up_all();
        // IPv4 20 + ICMP 8, IPv6 40 + ICMPv6 8 bytes of headers.
        for (family, headers) in [(Family::V4, 28), (Family::V6, 48)] {
            let (address, largest) = (site.address(2, family), one.mtu("mesh0") - headers);
            let whole = ping_with(one, &address, 3, &format!("-i 0.05 -W 1 -M do -s {largest}"));
            assert_eq!(whole.lost(), 0, "{family:?} with {largest} bytes");
            let larger = ping_with(one, &address, 1, &format!("-W 1 -M do -s {}", largest + 1));
            assert_eq!(larger.received, 0, "{family:?} with a byte more than the MTU and no fragments allowed");
            // UDP has a header of 8 bytes too.
            udp_exchange(one, two, &address, 3, largest);
        }
        let frames = wire.frames();
        assert!(frames.iter().all(|frame| frame.packet.len() <= 1500 && !frame.is_fragment()), "no fragments outside");
        let longest = frames.iter().map(|frame| frame.packet.len()).max();
        assert!(longest > Some(1400), "the MTU of the mesh uses the wire's: the longest packet is {longest:?}");
    });
}

#[test]
fn a_packet_larger_than_the_mtu_crosses_in_fragments_of_its_own() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let _daemons = site.mesh.up_all();
        for family in Family::BOTH {
            udp_exchange(site.edge_host(1), site.edge_host(2), &site.address(2, family), 3, 8000);
        }
    });
}

#[test]
fn the_first_packet_of_a_flow_is_not_lost() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=3);
        let daemons = site.mesh.up_all();
        let one = &daemons[1];
        for (to, family) in [(2, Family::V4), (3, Family::V6)] {
            assert!(!one.status().has_session(&edge(to)), "no session before there is traffic");
            assert_eq!(ping(one.host(), &site.address(to, family), 1).lost(), 0, "the packet that starts the session");
            assert!(one.status().has_session(&edge(to)));
        }
    });
}

#[test]
fn a_node_receives_over_both_families_as_soon_as_it_answers_status() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let _one = site.mesh.up(&edge(1));
        for round in 1..=20 {
            let two = site.mesh.up(&edge(2));
            // The kernel takes an IPv6 address at once, but makes its local route later, from a work queue: a packet
            // that is let in before is answered with "no route".
            for family in [Family::V6, Family::V4] {
                let route = two.host().run(&format!("ip -j route get {}", site.address(2, family))).text();
                assert!(route.contains("\"type\":\"local\""), "round {round}, {family:?}: {route}");
                let pinged = ping(site.edge_host(1), &site.address(2, family), 1);
                assert_eq!(pinged.lost(), 0, "round {round}, {family:?}");
            }
            two.stop();
        }
    });
}

#[test]
fn the_wire_shows_ciphertext_only() {
    in_lab(|lab| {
        let site = Site::new(lab, 2).with_members(1..=2);
        let (one, two) = (site.edge_host(1), site.edge_host(2));
        let wires = [Tap::on(one, "eth0"), Tap::on(two, "eth0")];
        let _daemons = site.mesh.up_all();
        let inside = Tap::on(two, "mesh0");
        let pattern: String = MARKER.iter().map(|byte| format!("{byte:02x}")).collect();
        for family in Family::BOTH {
            let address = site.address(2, family);
            inside.clear();
            assert_eq!(ping_with(one, &address, 3, &format!("-i 0.05 -W 1 -s 200 -p {pattern}")).lost(), 0);
            wait_until(Duration::from_secs(2), "the marker of the ping arrives", || inside.contains(MARKER));
            inside.clear();
            let _ = tcp_transfer_marked(one, two, &address, Transfer::of(1_000_000), MARKER);
            wait_until(Duration::from_secs(2), "the marker of the transfer arrives", || inside.contains(MARKER));
        }
        for wire in &wires {
            assert!(wire.udp_between(&underlay(1, Family::V4), &underlay(2, Family::V4)).len() > 20);
            assert!(!wire.contains(MARKER), "the marker in clear");
            for (number, family) in [(1, Family::V4), (2, Family::V4), (1, Family::V6), (2, Family::V6)] {
                let address = site.address(number, family);
                assert_eq!(wire.packets_with(&address), 0, "{address} in clear");
            }
        }
    });
}

#[test]
fn members_reach_each_other_over_an_ipv6_underlay() {
    in_lab(|lab| {
        let site = Site::over(lab, 2, Family::V6).with_members(1..=2);
        let wire = Tap::on(site.edge_host(2), "eth0");
        let daemons = site.mesh.up_all();
        let (one, two) = (site.edge_host(1), site.edge_host(2));
        for family in Family::BOTH {
            assert_eq!(ping(one, &site.address(2, family), 3).lost(), 0);
            assert_eq!(ping(two, &site.address(1, family), 3).lost(), 0);
            let headers = if family == Family::V4 { 28 } else { 48 };
            let largest = format!("-i 0.05 -W 1 -M do -s {}", one.mtu("mesh0") - headers);
            assert_eq!(ping_with(one, &site.address(2, family), 3, &largest).lost(), 0, "as large as the MTU");
            let _ = tcp_transfer(one, two, &site.address(2, family), Transfer::of(20_000_000));
        }
        let path = daemons[1].status().peer(&edge(2)).path().expect("a path");
        assert_eq!(path.ip().to_string(), underlay(2, Family::V6));
        assert!(!wire.udp_between(&underlay(1, Family::V6), &underlay(2, Family::V6)).is_empty());
        assert!(wire.frames().iter().all(|frame| !frame.is_fragment()), "no fragments outside");
    });
}
