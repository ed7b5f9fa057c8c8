//! One subnet behind two connectors: traffic into it goes on without the preferred one, and returns to it.

use std::thread;
use std::time::{Duration, Instant};

use netns_tests::{Daemon, Host, Lab, Mesh, Stream, Transfer, figure, in_lab, ping, tcp_transfer, wait_until};

const EDGE: &str = "far.edge";
const ONE: &str = "site.one";
const TWO: &str = "site.two";
const SUBNET: &str = "10.50.0.0/24";
const INSIDE: &str = "10.50.0.10";
const EDGE_ADDRESS: &str = "10.99.0.1";

/// Within which traffic must flow again.
const RECOVERY: Duration = Duration::from_secs(3);

/// How long an owner that is back must hold.
const HOLD: Duration = Duration::from_secs(5);

/// An edge and two connectors around a router, and a LAN behind the connectors with a host that answers by the second one always,
/// so that replies need not come the way that requests went.
struct Site {
    mesh: Mesh,
    edge: Host,
    one: Host,
    inside: Host,
    lan: Host,
    /// The first connector's port of the LAN's switch, and its own end of that cable.
    cable: (String, String),
}

impl Site {
    fn new(lab: &Lab, settings: &str) -> Self {
        let (router, lan) = (lab.router("router"), lab.switch("lan"));
        let [edge, one, two, inside] = ["edge", "one", "two", "inside"].map(|name| lab.host(name));
        for (host, net) in [(&edge, "192.0.2"), (&one, "198.51.100"), (&two, "203.0.113")] {
            lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        let interface = lab.plug(&one, &lan, &["10.50.0.1/24"]);
        let ports = lan.host.json("ip -j link show master br0");
        let port = ports[0]["ifname"].as_str().unwrap_or_default().to_owned();
        lab.plug(&two, &lan, &["10.50.0.2/24"]);
        lab.plug(&inside, &lan, &[&format!("{INSIDE}/24")]);
        inside.ok("ip route add default via 10.50.0.2");
        let mut mesh = Mesh::new(lab, "wan");
        mesh.settings = settings.to_owned();
        mesh.edge(EDGE, &edge, "192.0.2.1").address(EDGE_ADDRESS);
        mesh.connector(ONE, &one, "198.51.100.1").address("10.99.0.2").subnets(&[SUBNET]);
        mesh.connector(TWO, &two, "203.0.113.1").address("10.99.0.3").subnets(&[SUBNET]).priority = 1;
        mesh.community("all", &[EDGE, ONE, TWO]);
        Self { mesh, edge, one, inside, lan: lan.host, cable: (port, interface) }
    }

    /// Starts all, and a stream into the subnet that runs for a while; the edge's daemon, and the preferred connector's.
    fn up(&self) -> ([Daemon; 3], Stream) {
        let daemons = [EDGE, ONE, TWO].map(|name| self.mesh.up(name));
        assert_eq!(ping(&self.edge, INSIDE, 3).lost(), 0);
        assert_eq!(ping(&self.inside, EDGE_ADDRESS, 3).lost(), 0, "from inside");
        let stream = Stream::start(&self.edge, &self.inside, INSIDE, 200);
        wait_until(Duration::from_secs(5), "the stream flows", || stream.arrived() > 50);
        wait_owner(&daemons[0], ONE);
        wait_until(Duration::from_secs(15), "the other one is known to live", || daemons[0].status().has_session(TWO));
        (daemons, stream)
    }
}

fn wait_owner(edge: &Daemon, name: &str) {
    let what = format!("{name} carries the subnet");
    wait_until(Duration::from_secs(40), &what, || edge.status().owner_of(SUBNET).as_deref() == Some(name));
}

/// Checks that the stream goes on by the second connector, and that it is back with the first one when that has held.
fn check_there_and_back(edge: &Daemon, stream: Stream, lost: Instant, what: &str, restore: impl FnOnce() -> Instant) {
    let after = stream.wait_next_arrival(lost, RECOVERY);
    figure(&format!("{what}: traffic flows again after {after:?}"));
    wait_owner(edge, TWO);
    let restored = restore();
    wait_owner(edge, ONE);
    assert!(restored.elapsed() >= HOLD, "{what}: back too soon");
    let back = stream.sent();
    wait_until(Duration::from_secs(5), "the stream is back", || stream.sent() > back + 100);
    let report = stream.stop();
    assert!(report.longest_gap < RECOVERY + Duration::from_millis(500), "{what}: {report:?}");
}

#[test]
fn a_transfer_into_a_shared_subnet_goes_on_when_the_preferred_connector_is_killed_and_returns_to_it() {
    in_lab(|lab| {
        let site = Site::new(lab, "");
        let ([edge, one, _two], stream) = site.up();
        let paced = Transfer { bytes: 20_000_000, pace: Some(2_000_000) };
        thread::scope(|scope| {
            scope.spawn(|| tcp_transfer(&site.edge, &site.inside, INSIDE, paced));
            thread::sleep(Duration::from_secs(2));
            let killed = Instant::now();
            one.kill9();
            let mut again = None;
            check_there_and_back(&edge, stream, killed, "kill -9", || {
                again = Some(site.mesh.up(ONE));
                Instant::now()
            });
        });
    });
}

#[test]
fn a_connector_whose_cable_into_the_subnet_is_cut_is_left_and_has_it_back_when_that_has_held() {
    in_lab(|lab| {
        let site = Site::new(lab, "");
        let ([edge, _one, _two], stream) = site.up();
        let paced = Transfer { bytes: 16_000_000, pace: Some(2_000_000) };
        thread::scope(|scope| {
            scope.spawn(|| tcp_transfer(&site.edge, &site.inside, INSIDE, paced));
            thread::sleep(Duration::from_secs(2));
            let cut = Instant::now();
            site.lan.ok(&format!("ip link set {} down", site.cable.0));
            check_there_and_back(&edge, stream, cut, "cable cut", || {
                site.lan.ok(&format!("ip link set {} up", site.cable.0));
                Instant::now()
            });
        });
    });
}

#[test]
fn a_connector_that_reaches_nobody_in_the_subnet_is_left_though_its_link_is_up() {
    in_lab(|lab| {
        let site = Site::new(lab, &format!("[health]\nprobe = [\"{INSIDE}\"]\n"));
        let ([edge, _one, _two], stream) = site.up();
        let lost = Instant::now();
        site.one.ok("nft add table netdev wall");
        let hook = format!("{{ type filter hook ingress device {} priority 0; policy drop; }}", site.cable.1);
        site.one.ok(&format!("nft add chain netdev wall in {hook}"));
        site.one.ok(&format!("ip neigh flush dev {}", site.cable.1));
        check_there_and_back(&edge, stream, lost, "nobody answers", || {
            site.one.ok("nft delete table netdev wall");
            Instant::now()
        });
    });
}
