//! Flows through two relays at once: both carry, and when one is cut the other has all.

use std::thread;
use std::time::{Duration, Instant};

use netns_tests::{Host, Lab, Mesh, Stream, Tap, figure, in_lab, ping, wait_until};

const ONE: &str = "here.one";
const TWO: &str = "there.two";
const RELAYS: [&str; 2] = ["east.relay", "west.relay"];

/// Within which every flow must go on.
const RECOVERY: Duration = Duration::from_secs(3);

/// Two edges that nobody can dial and that a router keeps apart, and two relays.
struct Wan {
    mesh: Mesh,
    one: Host,
    two: Host,
    router: Host,
    taps: [Tap; 2],
    /// The router's end of the second relay's link.
    second: String,
}

impl Wan {
    fn new(lab: &Lab) -> Self {
        let router = lab.router("router");
        let [one, two, east, west] = ["one", "two", "east", "west"].map(|name| lab.host(name));
        let mut ends = Vec::new();
        for (host, net) in [(&one, "192.0.2"), (&two, "198.51.100"), (&east, "203.0.113"), (&west, "100.64.9")] {
            ends.push(lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]).1);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        router.ok("nft add table inet wall");
        router.ok("nft add chain inet wall through { type filter hook forward priority 0; }");
        router.ok("nft add rule inet wall through ip saddr 192.0.2.1 ip daddr 198.51.100.1 drop");
        router.ok("nft add rule inet wall through ip saddr 198.51.100.1 ip daddr 192.0.2.1 drop");
        let mut mesh = Mesh::new(lab, "wan");
        mesh.settings = "[paths]\nbalance = \"flow\"\n".to_owned();
        mesh.connector(RELAYS[0], &east, "203.0.113.1");
        mesh.connector(RELAYS[1], &west, "100.64.9.1");
        mesh.edge(ONE, &one, "").address("10.99.0.1");
        mesh.edge(TWO, &two, "").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        let taps = [2, 3].map(|relay: usize| Tap::on(&router, &ends[relay]));
        Self { mesh, one, two, router, taps, second: ends[3].clone() }
    }

    /// Datagrams with data that were relayed by each relay since the last look: probes and keepalives are left out.
    fn carried(&self) -> [usize; 2] {
        [0, 1].map(|relay: usize| {
            let relayed = |payload: &[u8]| payload.first() == Some(&7) && payload.get(8) == Some(&4);
            let carried = self.taps[relay].datagrams().iter().filter(|seen| relayed(&seen.payload)).count();
            self.taps[relay].clear();
            carried
        })
    }
}

#[test]
fn flows_to_one_peer_go_through_two_relays_and_go_on_when_one_is_cut() {
    in_lab(|lab| {
        let wan = Wan::new(lab);
        let daemons = wan.mesh.up_all();
        for (edge, relay) in [(2, 0), (2, 1), (3, 0), (3, 1)] {
            let what = "a session with each relay";
            wait_until(Duration::from_secs(10), what, || daemons[edge].status().has_session(RELAYS[relay]));
        }
        assert_eq!(ping(&wan.one, "10.99.0.2", 3).lost(), 0);
        // Each has a port of its own, so each is a flow.
        let streams: Vec<Stream> = (0..16).map(|_| Stream::start(&wan.one, &wan.two, "10.99.0.2", 50)).collect();
        wan.carried();
        wait_until(Duration::from_secs(15), "both relays carry", || {
            thread::sleep(Duration::from_millis(500));
            let carried = wan.carried();
            carried.iter().all(|relay| *relay > carried.iter().sum::<usize>() / 8)
        });
        wan.router.ok(&format!("ip link set {} down", wan.second));
        thread::sleep(RECOVERY);
        for stream in &streams {
            stream.wait_next_arrival(Instant::now(), RECOVERY);
        }
        let reports: Vec<_> = streams.into_iter().map(Stream::stop).collect();
        let worst = reports.iter().map(|report| report.longest_gap).max().unwrap_or_default();
        figure(&format!("one of two relays cut: the longest gap of 16 flows is {worst:?}"));
        let spared = reports.iter().filter(|report| report.lost() == 0).count();
        assert!(spared >= 1, "flows through the other relay lose nothing: {reports:?}");
        assert!(worst < RECOVERY, "{reports:?}");
    });
}
