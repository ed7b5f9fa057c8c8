//! Direct mode: neighbours whose packets go as they are, by routes of the kernel, and through the tunnel when the LAN is gone.

use std::time::Duration;

use netns_tests::neighbours::{Neighbourhood, ONE, TOKEN, TWO, active_kind, has_direct_route, lan_settings, wait_near};
use netns_tests::{
    Daemon, Family, Host, Lab, Mesh, Tap, Transfer, figure, in_lab, observe, ping, tcp_transfer, wait_until,
};

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
        assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
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

#[test]
fn direct_mode_works_where_reverse_paths_are_filtered_strictly() {
    in_lab(|lab| {
        let direct = Direct::new(lab);
        for host in [&direct.site.one, &direct.site.two] {
            host.set_sysctl("net/ipv4/conf/all/rp_filter", "1");
        }
        assert_eq!(ping(&direct.site.one, "10.99.0.2", 3).lost(), 0);
        assert_eq!(ping(&direct.site.one, "10.8.2.1", 3).lost(), 0);
        assert!(direct.is_direct());
    });
}
