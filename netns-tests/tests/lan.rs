//! Neighbours on a LAN find each other, and nobody else does: LAN discovery with the real binary.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use netns_tests::inject::Injector;
use netns_tests::lab::Switch;
use netns_tests::{
    Daemon, Family, Host, Lab, Mesh, Tap, Transfer, figure, in_lab, observe, ping, tcp_transfer, wait_until,
};

const ONE: &str = "site.one";
const TWO: &str = "site.two";

/// Random, as `meshd key generate` prints it.
const TOKEN: &str = "h3GgkS0mTzq1yq0bRWcZpY5xJ2uVdL8nEoFfCtKaUwM=";
const OTHER_TOKEN: &str = "Qm9c1xKJ7y2LwVtRz5sUe8DgNaHbPfXi0oMk3GjTqW4=";

/// A beacon a second.
const FAST: &str = "interval = \"1s\"\nttl = \"3s\"\n";

/// Two edges that nobody can dial, on one switch.
struct Neighbourhood {
    mesh: Mesh,
    lan: Switch,
    one: Host,
    two: Host,
}

impl Neighbourhood {
    /// In a community or not, with the given addresses on the LAN.
    fn new(lab: &Lab, addresses: [&[&str]; 2]) -> Self {
        let lan = lab.switch("lan");
        let hosts = ["one", "two"].map(|name| lab.host(name));
        for (host, addresses) in hosts.iter().zip(addresses) {
            lab.plug(host, &lan, addresses);
        }
        let [one, two] = hosts;
        let mut mesh = Mesh::new(lab, "neighbours");
        mesh.edge(ONE, &one, "").address("10.99.0.1");
        mesh.edge(TWO, &two, "").address("10.99.0.2");
        Self { mesh, lan, one, two }
    }

    fn dual(lab: &Lab) -> Self {
        Self::new(lab, [&["192.168.7.1/24"], &["192.168.7.2/24"]])
    }

    fn with_community(mut self) -> Self {
        self.mesh.community("pair", &[ONE, TWO]);
        self
    }

    /// Both with the token, and these lines.
    fn with_lan(mut self, lines: &str) -> Self {
        self.mesh.settings = lan_settings(TOKEN, lines);
        self
    }

    fn assert_apart(&self) {
        for (from, to) in [(&self.one, TWO), (&self.two, ONE)] {
            assert_eq!(ping(from, &self.mesh.address(to, Family::V4), 1).received, 0);
        }
    }
}

fn lan_settings(token: &str, lines: &str) -> String {
    format!("[lan]\nmulticast_token = \"{token}\"\n{FAST}{lines}")
}

fn wait_near(daemon: &Daemon, name: &str) {
    wait_until(Duration::from_secs(5), "the neighbour is heard", || hears(daemon, name));
}

fn hears(daemon: &Daemon, name: &str) -> bool {
    let status = daemon.status();
    status.json()["lan"]["neighbours"].as_array().into_iter().flatten().any(|neighbour| neighbour["name"] == name)
}

/// The kind of the path that carries the data to a peer.
fn active_kind(daemon: &Daemon, peer: &str) -> Option<String> {
    let status = daemon.status();
    let peers = status.json()["peers"].as_array()?.clone();
    let paths = peers.iter().find(|line| line["name"] == peer)?["paths"].as_array()?.clone();
    paths.iter().find(|path| path["state"] == "active")?["kind"].as_str().map(str::to_owned)
}

fn has_direct_route(daemon: &Daemon, peer: &str) -> bool {
    let status = daemon.status();
    let line = status.json()["peers"].as_array().into_iter().flatten().find(|line| line["name"] == peer).cloned();
    line.is_some_and(|line| line["paths"].as_array().into_iter().flatten().any(|path| path["direct_route"] == true))
}

fn find_each_other(lab: &Lab, addresses: [&[&str]; 2], without: Option<&str>) {
    let site = Neighbourhood::new(lab, addresses).with_community().with_lan("");
    for host in [&site.one, &site.two] {
        if let Some(sysctl) = without {
            host.set_sysctl(sysctl, "1");
        }
    }
    let wire = Tap::on(&site.one, "eth0");
    let daemons = site.mesh.up_all();
    wait_near(&daemons[0], TWO);
    wait_near(&daemons[1], ONE);
    for family in Family::BOTH {
        assert_eq!(ping(&site.one, &site.mesh.address(TWO, family), 3).lost(), 0);
        assert_eq!(ping(&site.two, &site.mesh.address(ONE, family), 3).lost(), 0);
    }
    assert_eq!(active_kind(&daemons[0], TWO).as_deref(), Some("lan"));
    assert!(!wire.contains(TOKEN.as_bytes()) && !wire.contains(TOKEN.trim_end_matches('=').as_bytes()));
}

#[test]
fn two_edges_that_nobody_can_dial_find_each_other_on_an_ipv4_lan_and_the_token_is_not_on_it() {
    in_lab(|lab| {
        find_each_other(lab, [&["192.168.7.1/24"], &["192.168.7.2/24"]], Some("net/ipv6/conf/eth0/disable_ipv6"));
    });
}

#[test]
fn two_edges_that_nobody_can_dial_find_each_other_on_an_ipv6_lan_with_link_local_addresses_only() {
    in_lab(|lab| find_each_other(lab, [&[], &[]], None));
}

#[test]
fn a_lan_that_appears_takes_the_data_over_from_the_wan_and_gives_it_back_without_a_broken_connection() {
    in_lab(|lab| {
        let router = lab.router("router");
        let hosts = ["one", "two"].map(|name| lab.host(name));
        for (host, net) in hosts.iter().zip(["192.0.2", "198.51.100"]) {
            lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        let mut mesh = Mesh::new(lab, "moves");
        mesh.edge(ONE, &hosts[0], "192.0.2.1").address("10.99.0.1");
        mesh.edge(TWO, &hosts[1], "198.51.100.1").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        mesh.settings = lan_settings(TOKEN, "");
        let daemons = mesh.up_all();
        assert_eq!(ping(&hosts[0], "10.99.0.2", 2).lost(), 0);
        assert_eq!(active_kind(&daemons[0], TWO).as_deref(), Some("direct"));
        let transfer = Transfer { bytes: 36_000_000, pace: Some(2_000_000) };
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| tcp_transfer(&hosts[0], &hosts[1], "10.99.0.2", transfer));
            observe(Duration::from_secs(1));
            let lan = lab.switch("lan");
            for (host, address) in hosts.iter().zip(["192.168.7.1/24", "192.168.7.2/24"]) {
                lab.plug(host, &lan, &[address]);
            }
            wait_until(Duration::from_secs(5), "the LAN has the data", || {
                daemons.iter().zip([TWO, ONE]).all(|(daemon, peer)| active_kind(daemon, peer).as_deref() == Some("lan"))
            });
            lan.host.ok("ip link set br0 down");
            wait_until(Duration::from_secs(5), "the WAN has the data", || {
                daemons
                    .iter()
                    .zip([TWO, ONE])
                    .all(|(daemon, peer)| active_kind(daemon, peer).as_deref() == Some("direct"))
            });
            assert_eq!(sent.join().expect("the connection survived").bytes, transfer.bytes);
        });
    });
}

#[test]
fn another_token_connects_nobody() {
    in_lab(|lab| {
        let mut site = Neighbourhood::dual(lab).with_community().with_lan("implicit_community = true\n");
        let one = site.mesh.up(ONE);
        site.mesh.settings = lan_settings(OTHER_TOKEN, "implicit_community = true\n");
        let two = site.mesh.up(TWO);
        wait_until(Duration::from_secs(5), "beacons that do not open", || {
            one.status().drops("beacon_not_opened") > 1 && two.status().drops("beacon_not_opened") > 1
        });
        site.assert_apart();
        assert!(!hears(&one, TWO) && !hears(&two, ONE));
    });
}

#[test]
fn a_token_without_a_community_connects_nobody_and_with_implicit_community_on_one_side_neither() {
    in_lab(|lab| {
        let mut site = Neighbourhood::dual(lab).with_lan("");
        let one = site.mesh.up(ONE);
        site.mesh.settings = lan_settings(TOKEN, "implicit_community = true\n");
        let two = site.mesh.up(TWO);
        wait_near(&one, TWO);
        wait_near(&two, ONE);
        site.assert_apart();
        assert!(!one.status().has_session(TWO) && !two.status().has_session(ONE));
    });
}

#[test]
fn with_implicit_community_on_both_sides_neighbours_talk_while_they_are_heard() {
    in_lab(|lab| {
        let site = Neighbourhood::dual(lab).with_lan("implicit_community = true\n");
        let daemons = site.mesh.up_all();
        wait_near(&daemons[0], TWO);
        wait_near(&daemons[1], ONE);
        for family in Family::BOTH {
            assert_eq!(ping(&site.one, &site.mesh.address(TWO, family), 3).lost(), 0);
        }
        site.lan.host.ok("ip link set br0 down");
        wait_until(Duration::from_secs(8), "the permission ends", || {
            daemons[0].status().peer(TWO).state() == "denied" && site.one.route_interface("10.99.0.2").is_none()
        });
        site.lan.host.ok("ip link set br0 up");
        wait_near(&daemons[0], TWO);
        wait_near(&daemons[1], ONE);
        assert_eq!(ping(&site.one, "10.99.0.2", 3).lost(), 0);
    });
}

#[test]
fn replayed_forged_and_flooded_beacons_change_nothing() {
    in_lab(|lab| {
        let site = Neighbourhood::dual(lab).with_community().with_lan("");
        let attacker = lab.host("attacker");
        lab.plug(&attacker, &site.lan, &["192.168.7.66/24"]);
        // A raw socket of IPv4 finds no way for a group by itself.
        attacker.ok("ip route add 239.0.0.0/8 dev eth0");
        let wire = Tap::on(&attacker, "eth0");
        let daemons = site.mesh.up_all();
        wait_near(&daemons[0], TWO);
        assert_eq!(ping(&site.one, "10.99.0.2", 2).lost(), 0);
        let captured: Vec<Vec<u8>> = beacons(&wire);
        assert!(captured.len() > 1, "{}", captured.len());
        let before = paths(&daemons[0]);
        let pen = Injector::on(&attacker);
        let group: SocketAddrV4 = "239.40.20.81:18080".parse().unwrap();
        let send = |last: u8, payload: &[u8]| {
            pen.send(SocketAddrV4::new([192, 168, 7, last].into(), 18080), group, payload);
        };
        // A source of its own for each, so that none is refused for being too many.
        for (last, beacon) in (100..200).zip(&captured) {
            send(last, beacon);
            let mut forged = beacon.clone();
            forged[100] ^= 1;
            send(last, &forged);
        }
        wait_until(Duration::from_secs(5), "both are refused", || {
            let status = daemons[0].status();
            status.drops("beacon_replayed") > 0 && status.drops("beacon_not_opened") > 0
        });
        let busy = cpu_ticks(&daemons[0]);
        let junk = vec![6, 1, 0, 0].into_iter().chain([0x5a; 252]).collect::<Vec<u8>>();
        let begun = std::time::Instant::now();
        let mut sent = 0u64;
        while begun.elapsed() < Duration::from_secs(5) {
            for last in 70..250 {
                send(last, &junk);
                sent += 1;
            }
        }
        let used = cpu_ticks(&daemons[0]) - busy;
        figure(&format!("{sent} forged beacons within 5 s cost the daemon {} ms of CPU", used * 10));
        assert_eq!(ping(&site.one, "10.99.0.2", 3).lost(), 0);
        let after = paths(&daemons[0]);
        let is_true = |path: &String| path.starts_with("192.168.7.2:") || path.starts_with("[fe80:");
        assert!(before.iter().all(|path| after.contains(path)) && after.iter().all(is_true), "{before:?} {after:?}");
    });
}

/// The beacons that a tap saw.
fn beacons(wire: &Tap) -> Vec<Vec<u8>> {
    let to_group = |address: &SocketAddr| address.port() == 18080 && address.ip().is_multicast();
    let all = wire.datagrams().into_iter().filter(|datagram| to_group(&datagram.destination));
    all.map(|datagram| datagram.payload).collect()
}

/// The places where the other may be reached.
fn paths(daemon: &Daemon) -> Vec<String> {
    let status = daemon.status();
    let peers = status.json()["peers"].as_array().cloned().unwrap_or_default();
    let paths = peers.iter().find(|line| line["name"] == TWO).and_then(|line| line["paths"].as_array().cloned());
    paths.into_iter().flatten().filter_map(|path| path["address"].as_str().map(str::to_owned)).collect()
}

/// User and system time of a daemon, in hundredths of a second (proc_pid_stat(5)).
fn cpu_ticks(daemon: &Daemon) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Neighbours in direct mode, with a subnet behind each; the session is up and the routes stand.
struct Direct {
    site: Neighbourhood,
    daemons: Vec<Daemon>,
}

impl Direct {
    fn new(lab: &Lab) -> Self {
        let mut site = Neighbourhood::dual(lab).with_community().with_lan("mode = \"direct\"\n");
        for (name, host, subnet) in [(ONE, &site.one, "10.8.1"), (TWO, &site.two, "10.8.2")] {
            site.mesh.endpoint_mut(name).subnets(&[&format!("{subnet}.0/24")]);
            let inside = lab.host(&format!("behind-{name}").replace('.', "-"));
            lab.cable(host, &[&format!("{subnet}.254/24")], &inside, &[&format!("{subnet}.1/24")]);
            inside.ok(&format!("ip route add default via {subnet}.254"));
        }
        let daemons = site.mesh.up_all();
        let direct = Self { site, daemons };
        direct.wait_near();
        assert_eq!(ping(&direct.site.one, "10.99.0.2", 2).lost(), 0);
        direct.wait_routes();
        direct
    }

    fn wait_near(&self) {
        wait_near(&self.daemons[0], TWO);
        wait_near(&self.daemons[1], ONE);
    }

    fn wait_routes(&self) {
        wait_until(Duration::from_secs(5), "direct routes on both sides", || {
            has_direct_route(&self.daemons[0], TWO) && has_direct_route(&self.daemons[1], ONE) && self.is_direct()
        });
    }

    /// Whether the kernels of both send past the tunnel, in both families.
    fn is_direct(&self) -> bool {
        let (site, eth0) = (&self.site, Some("eth0".to_owned()));
        let by = |host: &Host, address: &str| host.route_interface(address);
        [Family::V4, Family::V6].into_iter().all(|family| {
            by(&site.one, &site.mesh.address(TWO, family)) == eth0
                && by(&site.two, &site.mesh.address(ONE, family)) == eth0
        }) && by(&site.one, "10.8.2.1") == eth0
    }
}

/// The routes of table main that are neither the tunnel's nor there without a daemon.
fn direct_routes(host: &Host) -> Vec<String> {
    let lines = ["-4", "-6"].map(|family| host.ok(&format!("ip {family} route show table main proto 109")));
    lines.iter().flat_map(|text| text.lines()).filter(|line| line.contains(" via ")).map(str::to_owned).collect()
}

#[test]
fn direct_mode_sends_packets_as_they_are_to_mesh_addresses_and_subnets_and_undoes_it_at_a_stop() {
    in_lab(|lab| {
        let direct = Direct::new(lab);
        let wire = Tap::on(&direct.site.one, "eth0");
        for family in Family::BOTH {
            assert_eq!(ping(&direct.site.one, &direct.site.mesh.address(TWO, family), 3).lost(), 0);
            assert_eq!(ping(&direct.site.two, &direct.site.mesh.address(ONE, family), 3).lost(), 0);
        }
        assert_eq!(ping(&direct.site.one, "10.8.2.1", 3).lost(), 0, "what is behind the neighbour");
        let marker = b"clear as day";
        let sent = netns_tests::traffic::tcp_transfer_marked(
            &direct.site.one,
            &direct.site.two,
            "10.99.0.2",
            Transfer::of(2_000_000),
            marker,
        );
        assert_eq!(sent.bytes, 2_000_000);
        assert!(wire.contains(marker), "the kernel sends it as it is");
        let ours = wire.udp_between("192.168.7.1", "192.168.7.2");
        let of_ours: usize = ours.iter().map(|datagram| datagram.payload.len()).sum();
        assert!(of_ours < 20_000, "probes and offers only: {of_ours} bytes");
        let Direct { site, daemons } = direct;
        for daemon in daemons {
            daemon.stop();
        }
        for host in [&site.one, &site.two] {
            assert_eq!(direct_routes(host), [""; 0]);
        }
    });
}

#[test]
fn a_direct_route_outlives_its_session_by_no_more_than_three_seconds_and_a_killed_daemon_by_its_next_start() {
    in_lab(|lab| {
        let direct = Direct::new(lab);
        let Direct { site, mut daemons } = direct;
        daemons.remove(1).kill9();
        let killed = std::time::Instant::now();
        wait_until(Duration::from_secs(5), "the routes are withdrawn", || direct_routes(&site.one).is_empty());
        figure(&format!("direct routes withdrawn {} ms after kill -9 of the neighbour", killed.elapsed().as_millis()));
        assert_eq!(site.one.route_interface("10.99.0.2").as_deref(), Some("mesh0"), "the tunnel has it");
        assert!(!direct_routes(&site.two).is_empty(), "nobody could remove these");
        let mut settings = site.mesh.clone();
        settings.settings = String::new();
        let again = settings.up(TWO);
        assert_eq!(direct_routes(&site.two), [""; 0]);
        again.stop();
    });
}

#[test]
fn the_tunnel_takes_over_where_the_lan_of_direct_neighbours_is_cut_without_a_broken_connection() {
    in_lab(|lab| {
        let router = lab.router("router");
        let lan = lab.switch("lan");
        let hosts = ["one", "two"].map(|name| lab.host(name));
        for (host, (address, net)) in
            hosts.iter().zip([("192.168.7.1/24", "192.0.2"), ("192.168.7.2/24", "198.51.100")])
        {
            lab.plug(host, &lan, &[address]);
            lab.cable(host, &[&format!("{net}.1/24")], &router, &[&format!("{net}.254/24")]);
            host.ok(&format!("ip route add default via {net}.254"));
        }
        let mut mesh = Mesh::new(lab, "direct");
        mesh.edge(ONE, &hosts[0], "192.0.2.1").address("10.99.0.1");
        mesh.edge(TWO, &hosts[1], "198.51.100.1").address("10.99.0.2");
        mesh.community("pair", &[ONE, TWO]);
        mesh.settings = lan_settings(TOKEN, "mode = \"direct\"\n");
        let daemons = mesh.up_all();
        assert_eq!(ping(&hosts[0], "10.99.0.2", 2).lost(), 0);
        let leaves_by = |interface: &str| {
            hosts[0].route_interface("10.99.0.2").as_deref() == Some(interface)
                && hosts[1].route_interface("10.99.0.1").as_deref() == Some(interface)
        };
        wait_until(Duration::from_secs(8), "direct routes", || leaves_by("eth0"));
        let transfer = Transfer { bytes: 30_000_000, pace: Some(2_000_000) };
        std::thread::scope(|scope| {
            let sent = scope.spawn(|| tcp_transfer(&hosts[0], &hosts[1], "10.99.0.2", transfer));
            observe(Duration::from_secs(1));
            lan.host.ok("ip link set br0 down");
            let cut = std::time::Instant::now();
            wait_until(Duration::from_secs(5), "the tunnel", || leaves_by("mesh0"));
            figure(&format!("direct routes withdrawn {} ms after the LAN was cut", cut.elapsed().as_millis()));
            wait_until(Duration::from_secs(5), "the WAN", || {
                active_kind(&daemons[0], TWO).as_deref() == Some("direct")
            });
            lan.host.ok("ip link set br0 up");
            wait_until(Duration::from_secs(10), "direct routes again", || leaves_by("eth0"));
            assert_eq!(sent.join().expect("the connection survived").bytes, transfer.bytes);
        });
    });
}

#[test]
fn direct_mode_on_one_side_only_leaves_everything_in_the_session() {
    in_lab(|lab| {
        let mut site = Neighbourhood::dual(lab).with_community().with_lan("mode = \"direct\"\n");
        let one = site.mesh.up(ONE);
        site.mesh.settings = lan_settings(TOKEN, "");
        let two = site.mesh.up(TWO);
        wait_near(&one, TWO);
        wait_near(&two, ONE);
        assert_eq!(ping(&site.one, "10.99.0.2", 2).lost(), 0);
        observe(Duration::from_secs(3));
        assert_eq!((direct_routes(&site.one), direct_routes(&site.two)), (vec![], vec![]));
        assert_eq!(ping(&site.one, "10.99.0.2", 2).lost(), 0);
    });
}
