//! Edges that nobody can dial meet at a relay and leave it for a direct path, with the real binary.

use std::time::Duration;

use netns_tests::{Daemon, Family, Host, Lab, Mesh, Tap, Transfer, in_lab, ping, tcp_transfer, wait_until};

const HUB: &str = "hub.connector";
const ONE: &str = "here.one";
const TWO: &str = "there.two";

/// Two edges without public addresses on two networks, and a connector on a third, around a router.
struct Wan {
    mesh: Mesh,
    one: Host,
    two: Host,
    hub: Host,
    router: Host,
}

impl Wan {
    fn new(lab: &Lab) -> Self {
        let router = lab.router("router");
        let [one, two, hub] = ["one", "two", "hub"].map(|name| lab.host(name));
        for (host, net) in [(&one, "192.0.2"), (&two, "198.51.100"), (&hub, "203.0.113")] {
            lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        let mut mesh = Mesh::new(lab, "wan");
        mesh.connector(HUB, &hub, "203.0.113.1").address("10.99.0.254");
        mesh.edge(ONE, &one, "").address("10.99.0.1");
        mesh.edge(TWO, &two, "").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        Self { mesh, one, two, hub, router }
    }

    /// Drops what the edges send to each other directly.
    fn keep_apart(&self) {
        self.router.ok("nft add table inet wall");
        self.router.ok("nft add chain inet wall through { type filter hook forward priority 0; }");
        self.router.ok("nft add rule inet wall through ip saddr 192.0.2.1 ip daddr 198.51.100.1 drop");
        self.router.ok("nft add rule inet wall through ip saddr 198.51.100.1 ip daddr 192.0.2.1 drop");
    }

    /// Waits until both edges are where they can be found.
    fn wait_at_the_relay(&self, daemons: &[Daemon]) {
        for daemon in &daemons[1..] {
            wait_until(Duration::from_secs(5), "a session with the relay", || daemon.status().has_session(HUB));
        }
    }

    fn bring_together(&self) {
        self.router.ok("nft delete table inet wall");
    }
}

#[test]
fn edges_that_nobody_can_dial_reach_each_other_through_a_relay_that_reads_nothing() {
    in_lab(|lab| {
        let wan = Wan::new(lab);
        wan.keep_apart();
        let inside = Tap::on(&wan.hub, "eth0");
        let daemons = wan.mesh.up_all();
        wan.wait_at_the_relay(&daemons);
        assert_eq!(ping(&wan.one, "10.99.0.2", 3).lost(), 0, "from the first packet on");
        for family in Family::BOTH {
            let address = wan.mesh.address(TWO, family);
            let marker = b"nothing for the relay to read";
            let _ = netns_tests::traffic::tcp_transfer_marked(
                &wan.one,
                &wan.two,
                &address,
                Transfer::of(3_000_000),
                marker,
            );
            assert!(!inside.contains(marker));
        }
        let relayed: usize = inside.datagrams().iter().map(|datagram| datagram.payload.len()).sum();
        assert!(relayed > 2 * 2 * 3_000_000, "both transfers went to the relay and came from it: {relayed} bytes");
        // The relay carries for them, and is in no community with them.
        assert_eq!(ping(&wan.hub, "10.99.0.1", 2).received, 0);
        assert_eq!(ping(&wan.one, "10.99.0.254", 2).received, 0);
        assert_eq!(ping(&wan.two, "10.99.0.1", 3).lost(), 0);
    });
}

#[test]
fn a_direct_path_is_taken_when_there_is_one_and_the_relay_when_it_is_gone_without_a_broken_connection() {
    in_lab(|lab| {
        let wan = Wan::new(lab);
        let daemons = wan.mesh.up_all();
        wan.wait_at_the_relay(&daemons);
        assert_eq!(ping(&wan.one, "10.99.0.2", 3).lost(), 0);
        let direct = |wanted: bool| {
            let peer = daemons[1].status().peer(TWO);
            if wanted { peer.path().is_some() } else { peer.relay().is_some() }
        };
        wait_until(Duration::from_secs(5), "the direct path", || {
            let _ = ping(&wan.one, "10.99.0.2", 1);
            direct(true)
        });
        let transfer = Transfer { bytes: 12_000_000, pace: Some(2_000_000) };
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| tcp_transfer(&wan.one, &wan.two, "10.99.0.2", transfer));
            netns_tests::wait::observe(Duration::from_secs(1));
            wan.keep_apart();
            wait_until(Duration::from_secs(5), "the relay", || direct(false));
            wan.bring_together();
            let _ = sent.join().expect("the connection survived");
        });
    });
}
