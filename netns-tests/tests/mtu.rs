//! Paths narrower or wider than Ethernet: whatever their size, and whether or not anybody tells of it, everything arrives.

use std::time::Duration;

use netns_tests::inject::Injector;
use netns_tests::link::Link;
use netns_tests::traffic::ping_with;
use netns_tests::{
    Daemon, Family, Host, Lab, Mesh, Tap, Transfer, in_lab, ping, tcp_transfer, udp_exchange, wait_until,
};

const ONE: &str = "here.one";
const TWO: &str = "there.two";
const HUB: &str = "hub.connector";

const MIB: Transfer = Transfer::of(1 << 20);

/// Two members on both sides of a router, and a link on the far side of it that can be narrowed.
struct Road {
    mesh: Mesh,
    one: Host,
    two: Host,
    link: Link,
}

impl Road {
    /// Over this family outside, all links at first of `mtu` bytes.
    fn new(lab: &Lab, family: Family, mtu: usize) -> Self {
        let router = lab.router("router");
        let [one, two] = ["one", "two"].map(|name| lab.host(name));
        let [near, near_gate, far, far_gate] = match family {
            Family::V4 => ["192.0.2.1", "192.0.2.254", "198.51.100.1", "198.51.100.254"],
            Family::V6 => ["2001:db8:1::1", "2001:db8:1::fe", "2001:db8:2::1", "2001:db8:2::fe"],
        };
        let length = if family == Family::V4 { 24 } else { 64 };
        let with = |address: &str| format!("{address}/{length}");
        let (near_end, gate_end) = lab.cable(&one, &[&with(near)], &router, &[&with(near_gate)]);
        let link = Link::between(lab, "link", [(&router, &[&with(far_gate)]), (&two, &[&with(far)])]);
        one.ok(&format!("ip link set {near_end} mtu {mtu}"));
        router.ok(&format!("ip link set {gate_end} mtu {mtu}"));
        link.set_silent_mtu(mtu);
        link.set_mtu(mtu);
        for (host, gate) in [(&one, near_gate), (&two, far_gate)] {
            host.ok(&format!("ip route add default via {gate}"));
        }
        let mut mesh = Mesh::new(lab, "road");
        mesh.edge(ONE, &one, near).address("10.99.0.1");
        mesh.edge(TWO, &two, far).address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        Self { mesh, one, two, link }
    }

    fn address(&self, family: Family) -> String {
        self.mesh.address(TWO, family)
    }

    /// Everything arrives, from the first byte of the first connection on.
    fn assert_carries(&self) {
        for family in Family::BOTH {
            let address = self.address(family);
            let _ = tcp_transfer(&self.one, &self.two, &address, MIB);
            let _ = tcp_transfer(&self.two, &self.one, &self.mesh.address(ONE, family), MIB);
        }
        // Until sizes are known, everything is carried in fragments; from then on IPv6 senders learn by the loss of a packet.
        netns_tests::wait::observe(Duration::from_millis(1_500));
        let _ = ping_with(&self.one, &self.address(Family::V6), 2, "-i 0.2 -W 1 -s 4000");
        for family in Family::BOTH {
            udp_exchange(&self.one, &self.two, &self.address(family), 3, 8000);
            // As large as every link must carry, whatever the path outside.
            udp_exchange(&self.one, &self.two, &self.address(family), 3, 1280 - 48);
        }
    }
}

fn wait_mtu(daemon: &Daemon, peer: &str, mtu: u64) {
    wait_until(Duration::from_secs(10), &format!("an MTU of {mtu} to {peer}"), || {
        daemon.status().peer(peer).mtu() == Some(mtu)
    });
}

/// Nobody says so where `silently`: the packets vanish.
fn crosses(lab: &Lab, family: Family, mtu: usize, silently: bool) {
    let road = Road::new(lab, family, 1500);
    if silently {
        road.link.set_silent_mtu(mtu);
    } else {
        road.link.set_mtu(mtu);
    }
    let daemons = road.mesh.up_all();
    road.assert_carries();
    wait_mtu(&daemons[0], TWO, mtu as u64);
    wait_mtu(&daemons[1], ONE, mtu as u64);
}

#[test]
fn everything_arrives_over_an_underlay_of_1280_bytes() {
    in_lab(|lab| crosses(lab, Family::V4, 1280, false));
}

#[test]
fn everything_arrives_over_an_ipv6_underlay_of_1280_bytes() {
    in_lab(|lab| crosses(lab, Family::V6, 1280, false));
}

#[test]
fn everything_arrives_over_an_underlay_of_1300_bytes() {
    in_lab(|lab| crosses(lab, Family::V4, 1300, false));
}

#[test]
fn everything_arrives_over_an_underlay_of_1400_bytes() {
    in_lab(|lab| crosses(lab, Family::V4, 1400, false));
}

#[test]
fn everything_arrives_over_an_underlay_of_1400_bytes_that_nobody_tells_of() {
    in_lab(|lab| crosses(lab, Family::V4, 1400, true));
}

#[test]
fn everything_arrives_over_an_ipv6_underlay_of_1400_bytes_that_nobody_tells_of() {
    in_lab(|lab| crosses(lab, Family::V6, 1400, true));
}

#[test]
fn a_jumbo_underlay_is_used() {
    in_lab(|lab| {
        let road = Road::new(lab, Family::V4, 9000);
        road.one.without_segment_offload("eth0");
        let wire = Tap::on(&road.two, "eth0");
        let daemons = road.mesh.up_all();
        let _ = ping(&road.one, &road.address(Family::V4), 2);
        wait_until(Duration::from_secs(10), "a jumbo path", || daemons[0].status().peer(TWO).mtu() > Some(8000));
        wire.clear();
        road.assert_carries();
        let large = wire.frames().iter().filter(|frame| frame.packet.len() > 8000).count();
        assert!(large > 100, "{large} packets of more than 8000 bytes");
        assert!(wire.frames().iter().all(|frame| !frame.is_fragment()));
        // Narrowed without a word: what was jumbo goes on as it must.
        road.link.set_silent_mtu(1400);
        let _ = tcp_transfer(&road.one, &road.two, &road.address(Family::V4), MIB);
        wait_mtu(&daemons[0], TWO, 1400);
    });
}

#[test]
fn a_transfer_survives_that_its_path_becomes_a_black_hole_for_what_is_large() {
    in_lab(|lab| {
        let road = Road::new(lab, Family::V4, 1500);
        let daemons = road.mesh.up_all();
        let _ = ping(&road.one, &road.address(Family::V4), 1);
        wait_mtu(&daemons[0], TWO, 1500);
        for family in Family::BOTH {
            let (mtu, transfer) =
                (if family == Family::V4 { 1400 } else { 1300 }, Transfer { bytes: 8 << 20, pace: Some(1 << 21) });
            std::thread::scope(|scope| {
                let sent = scope.spawn(|| tcp_transfer(&road.one, &road.two, &road.address(family), transfer));
                netns_tests::wait::observe(Duration::from_secs(1));
                road.link.set_silent_mtu(mtu);
                let since = std::time::Instant::now();
                wait_mtu(&daemons[0], TWO, mtu as u64);
                assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
                let _ = sent.join().expect("the connection survived");
            });
        }
    });
}

#[test]
fn forged_icmp_errors_change_nothing() {
    in_lab(|lab| {
        let road = Road::new(lab, Family::V4, 1500);
        road.one.without_segment_offload("eth0");
        let wire = Tap::on(&road.one, "eth0");
        let daemons = road.mesh.up_all();
        let _ = tcp_transfer(&road.one, &road.two, &road.address(Family::V4), MIB);
        wait_mtu(&daemons[0], TWO, 1500);
        let is_full = |frame: &&netns_tests::tap::Frame| frame.outgoing && frame.packet.len() > 1400;
        let quoted = wire.frames().iter().find(is_full).expect("a full packet").packet.clone();
        // From the far side, in the name of a router that might be on the way.
        let pen = Injector::on(&road.two);
        for mtu in [68, 600, 1280, 1400] {
            pen.send_fragmentation_needed(std::net::Ipv4Addr::new(198, 51, 100, 7), &quoted, mtu);
        }
        wire.wait_for(Duration::from_secs(2), "the last forged error", |frame| {
            (!frame.outgoing && frame.packet.get(20..22) == Some(&[3, 4])).then_some(())
        });
        wire.clear();
        let _ = tcp_transfer(&road.one, &road.two, &road.address(Family::V4), MIB);
        let frames = wire.frames();
        assert!(
            frames.iter().filter(is_full).count() > 500 && !frames.iter().any(netns_tests::tap::Frame::is_fragment)
        );
        assert_eq!(daemons[0].status().peer(TWO).mtu(), Some(1500));
    });
}

#[test]
fn everything_arrives_through_a_relay_on_narrow_links() {
    in_lab(|lab| {
        let router = lab.router("router");
        let [one, two, hub] = ["one", "two", "hub"].map(|name| lab.host(name));
        for (host, net, mtu) in [(&one, "192.0.2", 1400), (&two, "198.51.100", 1280), (&hub, "203.0.113", 1500)] {
            let (end, gate) = lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
            host.ok(&format!("ip link set {end} mtu {mtu}"));
            router.ok(&format!("ip link set {gate} mtu {mtu}"));
        }
        router.ok("nft add table inet wall");
        router.ok("nft add chain inet wall through { type filter hook forward priority 0; }");
        router.ok("nft add rule inet wall through ip saddr { 192.0.2.1, 198.51.100.1 } ip daddr { 192.0.2.1, 198.51.100.1 } drop");
        let mut mesh = Mesh::new(lab, "wan");
        mesh.connector(HUB, &hub, "203.0.113.1").address("10.99.0.254");
        mesh.edge(ONE, &one, "").address("10.99.0.1");
        mesh.edge(TWO, &two, "").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        let daemons = mesh.up_all();
        for daemon in &daemons[1..] {
            wait_until(Duration::from_secs(5), "a session with the relay", || daemon.status().has_session(HUB));
        }
        // What IPv6 may count on arrives whatever the path carries; of IPv4 what does not fit is lost, and its sender told.
        for (family, largest) in [(Family::V4, 1280 - 68 - 28), (Family::V6, 1280 - 48)] {
            let _ = tcp_transfer(&one, &two, &mesh.address(TWO, family), MIB);
            udp_exchange(&one, &two, &mesh.address(TWO, family), 3, largest);
        }
        wait_mtu(&daemons[1], TWO, 1280);
    });
}
