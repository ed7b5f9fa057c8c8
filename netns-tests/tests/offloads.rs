//! Without an offload everything still works and nothing is lost; and what the offloads leave to the kernel is done before
//! a packet is on a wire: checksums and segments are right where it leaves by an interface that can neither.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use netns_tests::site::edge;
use netns_tests::tap::Frame;
use netns_tests::traffic::{Numbered, udp_numbered_whole};
use netns_tests::{Family, Host, Lab, Mesh, Site, Tap, Transfer, in_lab, ping, tcp_transfer};

/// Traffic both ways over both families: TCP whole, and UDP without loss, alone and in super-packets.
fn assert_carries(site: &Site, what: &str) {
    for family in Family::BOTH {
        for (from, to) in [(1, 2), (2, 1)] {
            let (source, target, address) = (site.edge_host(from), site.edge_host(to), site.address(to, family));
            assert_eq!(ping(source, &address, 1).lost(), 0, "{what}: {family:?} from {from} to {to}");
            let _ = tcp_transfer(source, target, &address, Transfer::of(3_000_000));
            for group in [1, 16] {
                udp_numbered_whole(source, target, &address, Numbered { count: 640, size: 1_100, group });
            }
        }
    }
}

/// Runs two members, the first with `settings`, the second too if `both`, and traffic between them.
fn assert_works(lab: &Lab, off: &[&str], settings: &str) {
    let mut site = Site::new(lab, 2).with_members(1..=2);
    for both in [true, false] {
        site.mesh.settings = settings.to_owned();
        let one = site.mesh.up(&edge(1));
        site.mesh.settings = if both { settings } else { "" }.to_owned();
        let two = site.mesh.up(&edge(2));
        for (daemon, is_off) in [(&one, true), (&two, both)] {
            let offloads = daemon.status().offloads();
            let used = off.iter().filter(|off| offloads.iter().any(|offload| offload == **off)).count();
            assert_eq!(used, if is_off { 0 } else { off.len() }, "{} uses {offloads:?}", daemon.name());
        }
        assert_carries(&site, &format!("{settings}{}", if both { "on both sides" } else { "on one side" }));
        for daemon in [&one, &two] {
            let status = daemon.status();
            for reason in ["authentication_failed", "replayed", "malformed_packet", "malformed_inner", "device_full"] {
                assert_eq!(status.drops(reason), 0, "{reason} at {}, {settings}", daemon.name());
            }
        }
        one.stop();
        two.stop();
    }
}

fn assert_works_without(lab: &Lab, offload: &str, off: &[&str]) {
    assert_works(lab, off, &format!("[dataplane]\nwithout = [{offload:?}]\n"));
}

#[test]
fn nothing_is_lost_without_any_offload() {
    let all = ["tun-tcp", "tun-udp", "udp-gso", "udp-gro", "coalesce", "partial-checksum"];
    in_lab(|lab| assert_works(lab, &all, "[dataplane]\noffload = false\n"));
}

#[test]
fn nothing_is_lost_without_super_packets_to_the_kernel() {
    in_lab(|lab| assert_works_without(lab, "tun-write", &["tun-tcp", "tun-udp", "coalesce", "partial-checksum"]));
}

#[test]
fn nothing_is_lost_without_tcp_super_packets_from_the_kernel() {
    in_lab(|lab| assert_works_without(lab, "tun-tcp", &["tun-tcp", "tun-udp"]));
}

#[test]
fn nothing_is_lost_without_udp_super_packets_from_the_kernel() {
    in_lab(|lab| assert_works_without(lab, "tun-udp", &["tun-udp"]));
}

#[test]
fn nothing_is_lost_without_udp_gso() {
    in_lab(|lab| assert_works_without(lab, "udp-gso", &["udp-gso"]));
}

#[test]
fn nothing_is_lost_without_udp_gro() {
    in_lab(|lab| assert_works_without(lab, "udp-gro", &["udp-gro"]));
}

#[test]
fn nothing_is_lost_without_coalescing() {
    in_lab(|lab| assert_works_without(lab, "coalesce", &["coalesce"]));
}

#[test]
fn nothing_is_lost_without_partial_checksums() {
    in_lab(|lab| assert_works_without(lab, "partial-checksum", &["partial-checksum"]));
}

/// Offloads of an interface that can nothing: the kernel completes every checksum and cuts every segment before it.
const NOTHING: &str = "tx off sg off tso off gso off tx-udp-segmentation off gro off rx off";

/// Two connectors on one cable, a host behind each: `10.233.0.10 - 10.233.0.1 (one) - (two) 10.234.0.1 - 10.234.0.10`.
/// The interfaces towards the hosts, and those of the hosts, have no offloads.
struct Behind {
    mesh: Mesh,
    hosts: [Host; 2],
}

const BEHIND: [[&str; 2]; 2] = [["10.233.0.10", "fd00:233::10"], ["10.234.0.10", "fd00:234::10"]];

fn behind(lab: &Lab) -> Behind {
    let (routers, hosts) = (["one", "two"].map(|name| lab.host(name)), ["host-1", "host-2"].map(|name| lab.host(name)));
    lab.cable(&routers[0], &["192.0.2.1/24"], &routers[1], &["192.0.2.2/24"]);
    let mut mesh = Mesh::new(lab, "behind");
    for (number, (router, host)) in (1..).zip(routers.iter().zip(&hosts)) {
        let site = 232 + number;
        let (v4, v6) = (format!("10.{site}.0"), format!("fd00:{site}:"));
        let (here, there) = lab.cable(
            router,
            &[&format!("{v4}.1/24"), &format!("{v6}:1/64")],
            host,
            &[&format!("{v4}.10/24"), &format!("{v6}:10/64")],
        );
        router.ok(&format!("ethtool -K {here} {NOTHING}"));
        host.ok(&format!("ethtool -K {there} {NOTHING}"));
        host.ok(&format!("ip route add default via {v4}.1"));
        host.ok(&format!("ip -6 route add default via {v6}:1"));
        let connector = mesh.connector(&format!("site{number}.connector"), router, &format!("192.0.2.{number}"));
        connector.address(&format!("10.99.0.{number}")).subnets(&[&format!("{v4}.0/24"), &format!("{v6}:/64")]);
    }
    mesh.community("connectors", &["site1.connector", "site2.connector"]);
    Behind { mesh, hosts }
}

/// What `etherparse` computes for the checksum of a TCP or UDP packet, and what stands in it; none for other packets.
fn checksums(packet: &[u8]) -> Option<(u16, u16)> {
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let pair = match (sliced.net?, sliced.transport?) {
        (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            (tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).ok()?, tcp.checksum())
        }
        (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            (tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).ok()?, tcp.checksum())
        }
        (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            (udp.to_header().calc_checksum_ipv4(&ip.header().to_header(), udp.payload()).ok()?, udp.checksum())
        }
        (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
            (udp.to_header().calc_checksum_ipv6(&ip.header().to_header(), udp.payload()).ok()?, udp.checksum())
        }
        _ => return None,
    };
    Some(pair)
}

/// Checks what came to `host` from `source`: packets that fit a wire, with right checksums. Returns their number and bytes.
fn assert_finished(frames: &[Frame], source: &str) -> (usize, usize) {
    let source: IpAddr = source.parse().expect("an address");
    let from_source = |frame: &&Frame| !frame.outgoing && frame.addresses().is_some_and(|(from, _)| from == source);
    let (mut count, mut bytes) = (0, 0);
    for frame in frames.iter().filter(from_source) {
        let Some((expected, actual)) = checksums(&frame.packet) else { continue };
        assert_eq!(actual, expected, "the checksum of a packet from {source}: {:02x?}", frame.packet);
        assert!(frame.packet.len() <= 1_420, "{} bytes are more than the tunnel's MTU", frame.packet.len());
        (count, bytes) = (count + 1, bytes + frame.packet.len());
    }
    (count, bytes)
}

#[test]
fn what_is_forwarded_to_an_interface_without_offloads_has_right_checksums() {
    in_lab(|lab| {
        let Behind { mesh, hosts } = behind(lab);
        let _daemons = mesh.up_all();
        for (family, name) in ["IPv4", "IPv6"].into_iter().enumerate() {
            for (from, to) in [(0, 1), (1, 0)] {
                let (source, target, address) = (&hosts[from], &hosts[to], BEHIND[to][family]);
                assert_eq!(ping(source, address, 2).lost(), 0);
                let tap = Tap::on(target, "eth0");
                let _ = tcp_transfer(source, target, address, Transfer::of(4_000_000));
                let tcp = assert_finished(&tap.frames(), BEHIND[from][family]);
                assert!(tcp.1 > 3_000_000, "{name}: only {tcp:?} packets and bytes of TCP were seen");
                tap.clear();
                for (size, group) in [(1_001, 1), (1_300, 16), (333, 50)] {
                    udp_numbered_whole(source, target, address, Numbered { count: 1_000, size, group });
                }
                let udp = assert_finished(&tap.frames(), BEHIND[from][family]);
                assert!(udp.0 > 2_900, "{name}: only {udp:?} packets and bytes of UDP were seen");
            }
        }
    });
}
