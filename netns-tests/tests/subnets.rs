//! Hosts in subnets behind two connectors of two clusters reach each other through one session, with their own
//! addresses; what was not announced is dropped.

use std::collections::BTreeSet;
use std::time::Duration;

use netns_tests::{Daemon, Host, Lab, Mesh, Tap, Transfer, in_lab, ping, tcp_transfer, udp_exchange, wait_until};

const BEIJING: &str = "beijing.connector";
const SHANGHAI: &str = "shanghai.connector";

/// Announced behind each connector: one prefix per family.
const ANNOUNCED: [(&str, [&str; 2]); 2] =
    [(BEIJING, ["10.233.0.0/18", "fd00:233::/48"]), (SHANGHAI, ["10.234.0.0/18", "fd00:234::/48"])];

/// A host behind Beijing's connector and one behind Shanghai's, per family.
const INSIDE: [(&str, &str); 2] = [("10.233.0.10", "10.234.0.10"), ("fd00:233::10", "fd00:234::10")];

/// In Beijing's site, not announced.
const SILENT_BEIJING: &str = "10.251.0.10";
/// In Shanghai's site, not announced.
const SILENT_SHANGHAI: &str = "10.250.0.10";

/// Two sites across a router: `10.233.0.10 - beijing.connector - router - shanghai.connector - 10.234.0.10`.
struct Sites {
    mesh: Mesh,
    beijing: Host,
    shanghai: Host,
    connectors: [Host; 2],
}

impl Sites {
    fn new(lab: &Lab) -> Self {
        let router = lab.router("router");
        let (bj, sh) = (lab.host("bj-connector"), lab.host("sh-connector"));
        let (beijing, shanghai) = (lab.host("bj-host"), lab.host("sh-host"));
        lab.cable(&bj, &["192.0.2.1/24"], &router, &["192.0.2.254/24"]);
        lab.cable(&sh, &["198.51.100.1/24"], &router, &["198.51.100.254/24"]);
        bj.ok("ip route add default via 192.0.2.254");
        sh.ok("ip route add default via 198.51.100.254");
        let (at_bj, at_sh) = (format!("{SILENT_BEIJING}/24"), format!("{SILENT_SHANGHAI}/24"));
        lab.cable(
            &bj,
            &["10.233.0.1/24", "fd00:233::1/64", "10.251.0.1/24"],
            &beijing,
            &["10.233.0.10/24", "fd00:233::10/64", &at_bj],
        );
        lab.cable(
            &sh,
            &["10.234.0.1/24", "fd00:234::1/64", "10.250.0.1/24"],
            &shanghai,
            &["10.234.0.10/24", "fd00:234::10/64", &at_sh],
        );
        beijing.ok("ip route add default via 10.233.0.1");
        shanghai.ok("ip route add default via 10.234.0.1");
        beijing.ok("ip -6 route add default via fd00:233::1");
        shanghai.ok("ip -6 route add default via fd00:234::1");
        let mut mesh = Mesh::new(lab, "wan");
        mesh.connector(BEIJING, &bj, "192.0.2.1").address("10.99.0.1");
        mesh.connector(SHANGHAI, &sh, "198.51.100.1").address("10.99.1.1");
        for (name, subnets) in ANNOUNCED {
            mesh.endpoint_mut(name).subnets(&subnets);
        }
        mesh.community("connectors", &[BEIJING, SHANGHAI]);
        Self { mesh, beijing, shanghai, connectors: [bj, sh] }
    }

    fn up(&self) -> (Daemon, Daemon) {
        (self.mesh.up(BEIJING), self.mesh.up(SHANGHAI))
    }
}

#[test]
fn hosts_behind_two_connectors_reach_each_other_with_their_own_addresses() {
    in_lab(|lab| {
        let sites = Sites::new(lab);
        let _daemons = sites.up();
        let (beijing, shanghai) = (&sites.beijing, &sites.shanghai);
        for (at_beijing, at_shanghai) in INSIDE {
            assert_eq!(ping(beijing, at_shanghai, 3).lost(), 0, "{at_beijing} to {at_shanghai}");
            assert_eq!(ping(shanghai, at_beijing, 3).lost(), 0, "{at_shanghai} to {at_beijing}");
            let there = tcp_transfer(beijing, shanghai, at_shanghai, Transfer::of(20_000_000));
            assert_eq!(there.seen_source.ip().to_string(), at_beijing, "the source address is kept");
            let back = tcp_transfer(shanghai, beijing, at_beijing, Transfer::of(20_000_000));
            assert_eq!(back.seen_source.ip().to_string(), at_shanghai, "the source address is kept");
            assert_eq!(udp_exchange(beijing, shanghai, at_shanghai, 5, 1000).ip().to_string(), at_beijing);
            assert_eq!(udp_exchange(shanghai, beijing, at_beijing, 5, 1000).ip().to_string(), at_shanghai);
        }
    });
}

#[test]
fn all_hosts_behind_two_connectors_share_one_session() {
    in_lab(|lab| {
        let sites = Sites::new(lab);
        let wire = Tap::on(&sites.connectors[1], "eth0");
        let (bj, sh) = sites.up();
        for (_, at_shanghai) in INSIDE {
            udp_exchange(&sites.beijing, &sites.shanghai, at_shanghai, 5, 500);
        }
        assert_eq!(ping(&sites.connectors[0], "10.99.1.1", 2).lost(), 0, "the connectors themselves");
        assert!(bj.status().has_session(SHANGHAI) && sh.status().has_session(BEIJING));
        assert_eq!((bj.status().peers().len(), sh.status().peers().len()), (1, 1));
        let flows: BTreeSet<_> = wire
            .datagrams()
            .into_iter()
            .filter(|d| d.destination.ip().to_string() == "198.51.100.1")
            .map(|d| (d.source, d.destination))
            .collect();
        assert_eq!(flows.len(), 1, "one pair of socket addresses carries everything: {flows:?}");
    });
}

#[test]
fn a_packet_to_a_subnet_that_was_not_announced_is_dropped_at_the_receiver() {
    in_lab(|lab| {
        let sites = Sites::new(lab);
        let mut false_picture = sites.mesh.clone();
        false_picture.endpoint_mut(SHANGHAI).subnets(&["10.250.0.0/24"]);
        let (_bj, sh) = (false_picture.up(BEIJING), sites.mesh.up(SHANGHAI));
        let (beijing, shanghai) = (&sites.beijing, &sites.shanghai);
        let behind = Tap::on(shanghai, "eth0");
        assert_eq!(ping(beijing, INSIDE[0].1, 2).lost(), 0, "what is announced");
        assert_eq!(ping(beijing, SILENT_SHANGHAI, 5).received, 0, "what is not announced");
        wait_until(Duration::from_secs(2), "the drops are counted", || sh.status().drops("not_announced") >= 5);
        assert_eq!(behind.packets_with(SILENT_SHANGHAI), 0, "one got through");
        assert_eq!(ping(beijing, INSIDE[0].1, 2).lost(), 0, "what is announced, still");
    });
}

#[test]
fn a_packet_from_a_subnet_that_was_not_announced_is_dropped_at_the_receiver() {
    in_lab(|lab| {
        let sites = Sites::new(lab);
        let mut false_picture = sites.mesh.clone();
        false_picture.endpoint_mut(BEIJING).subnets(&["10.251.0.0/24"]);
        let (_bj, sh) = (false_picture.up(BEIJING), sites.mesh.up(SHANGHAI));
        let behind = Tap::on(&sites.shanghai, "eth0");
        let from_silent = format!("-i 0.05 -W 1 -I {SILENT_BEIJING}");
        let pinged = netns_tests::traffic::ping_with(&sites.beijing, INSIDE[0].1, 5, &from_silent);
        assert_eq!(pinged.received, 0);
        wait_until(Duration::from_secs(2), "the drops are counted", || sh.status().drops("forged_source") >= 5);
        assert_eq!(behind.packets_with(SILENT_BEIJING), 0, "one got through");
        assert_eq!(ping(&sites.beijing, INSIDE[0].1, 2).lost(), 0, "from an announced address");
    });
}

#[test]
fn a_route_of_the_mesh_never_shadows_a_connected_prefix() {
    in_lab(|lab| {
        let sites = Sites::new(lab);
        let connector = &sites.connectors[0];
        // Beijing's connector has an interface in a part of what Shanghai announces.
        let neighbour = lab.host("neighbour");
        let (interface, _) = lab.cable(connector, &["10.234.7.1/24"], &neighbour, &["10.234.7.2/24"]);
        let _daemons = sites.up();
        assert_eq!(connector.route_interface("10.234.7.2").as_deref(), Some(interface.as_str()));
        assert_eq!(ping(connector, "10.234.7.2", 2).lost(), 0, "the neighbour");
        assert_eq!(connector.route_interface("10.234.0.10").as_deref(), Some("mesh0"));
        assert_eq!(ping(&sites.beijing, "10.234.0.10", 2).lost(), 0, "the rest of what is announced");
    });
}

/// The two ways in which routes can stand: in table main, and in a table of meshd's own.
const TABLES: [&str; 2] = ["table = \"main\"\n", "table = 6374\n"];

#[test]
fn a_peer_whose_own_network_is_announced_is_dialled_outside_the_mesh_and_reached_inside() {
    in_lab(|lab| {
        let router = lab.router("router");
        let [one, two] = ["one", "two"].map(|name| lab.host(name));
        let nets = [["192.0.2.0/24", "2001:db8:1::/64"], ["198.51.100.0/24", "2001:db8:2::/64"]];
        let outer = [["192.0.2.1", "2001:db8:1::1"], ["198.51.100.1", "2001:db8:2::1"]];
        lab.cable(&one, &["192.0.2.1/24", "2001:db8:1::1/64"], &router, &["192.0.2.254/24", "2001:db8:1::ff/64"]);
        lab.cable(&two, &["198.51.100.1/24", "2001:db8:2::1/64"], &router, &["198.51.100.254/24", "2001:db8:2::ff/64"]);
        for (host, gateways) in
            [(&one, ["192.0.2.254", "2001:db8:1::ff"]), (&two, ["198.51.100.254", "2001:db8:2::ff"])]
        {
            for gateway in gateways {
                host.ok(&format!("ip route add default via {gateway}"));
            }
        }
        for (table, family) in TABLES.into_iter().flat_map(|table| [(table, 0), (table, 1)]) {
            let mut mesh = Mesh::new(lab, "wan");
            mesh.interface = table.to_owned();
            mesh.connector("a.one", &one, outer[0][family]).address("10.99.0.1").subnets(&nets[0]);
            mesh.connector("b.two", &two, outer[1][family]).address("10.99.0.2").subnets(&nets[1]);
            mesh.community("both", &["a.one", "b.two"]);
            let wire = Tap::on(&router, "eth0");
            let _daemons = mesh.up_all();
            let marker = b"the same address means two things";
            for inner in ["10.99.0.2", outer[1][0], outer[1][1]] {
                assert_eq!(one.route_interface(inner).as_deref(), Some("mesh0"), "{table} {inner}");
                assert_eq!(ping(&one, inner, 3).lost(), 0, "{table} {family} {inner}");
                let sent =
                    netns_tests::traffic::tcp_transfer_marked(&one, &two, inner, Transfer::of(5_000_000), marker);
                assert_ne!(sent.seen_source.ip().to_string(), outer[0][family], "from the mesh address");
            }
            assert!(wire.udp_between(outer[0][family], outer[1][family]).len() > 100, "{table} {family}");
            assert!(!wire.contains(marker), "{table} {family}: went past the mesh");
        }
    });
}
