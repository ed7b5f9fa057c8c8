//! Who may talk: without a common community nothing passes between two edges; an edge reaches its own connector.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use netns_tests::site::{CONNECTOR, connector_underlay, edge, underlay};
use netns_tests::{Daemon, Family, Site, Tap, in_lab, ping};

fn three(daemons: Vec<Daemon>) -> [Daemon; 3] {
    daemons.try_into().expect("three daemons")
}

#[test]
fn two_edges_without_a_community_have_no_session_no_route_and_no_datagram_between_them() {
    in_lab(|lab| {
        let site = Site::new(lab, 2);
        let taps = [Tap::on(site.edge_host(1), "eth0"), Tap::on(site.edge_host(2), "eth0")];
        let [_connector, one, two] = three(site.mesh.up_all());
        for (here, there, number) in [(&one, 2, 1), (&two, 1, 2)] {
            for family in Family::BOTH {
                let address = site.address(there, family);
                assert_eq!(ping(site.edge_host(number), &address, 3).received, 0, "{} to {address}", here.name());
                assert_eq!(here.host().route_interface(&address), None, "a route to {address} at {}", here.name());
            }
            let refused = here.meshd(&["ping", &edge(there), "--count", "1", "--timeout", "1s"]);
            assert!(!refused.is_ok() && refused.stderr.contains("communit"), "the reason in words: {refused}");
            let peer = here.status().peer(&edge(there));
            assert_eq!((peer.state().as_str(), peer.session(), peer.path()), ("denied", None, None));
            assert!(peer.reason().is_some_and(|reason| reason.contains("communit")), "{:?}", peer.reason());
        }
        for tap in &taps {
            assert_eq!(tap.udp_between(&underlay(1, Family::V4), &underlay(2, Family::V4)), [], "seen on the wire");
        }
    });
}

#[test]
fn an_edge_and_the_connector_of_its_cluster_reach_each_other_without_a_community() {
    in_lab(|lab| {
        let site = Site::new(lab, 2);
        let tap = Tap::on(site.edge_host(1), "eth0");
        let [connector, one, two] = three(site.mesh.up_all());
        for family in Family::BOTH {
            let address = site.mesh.address(CONNECTOR, family);
            assert_eq!(ping(one.host(), &address, 3).lost(), 0, "edge1 to the connector at {address}");
            assert_eq!(ping(connector.host(), &site.address(2, family), 3).lost(), 0, "the connector to edge2");
        }
        assert!(one.status().has_session(CONNECTOR) && two.status().has_session(CONNECTOR));
        assert!(connector.status().has_session(&edge(1)) && connector.status().has_session(&edge(2)));
        assert!(!one.status().has_session(&edge(2)), "the connector makes no way between its edges");
        assert!(!tap.udp_between(&underlay(1, Family::V4), &connector_underlay(Family::V4)).is_empty());
    });
}

#[test]
fn an_edge_does_not_reach_the_connector_of_another_cluster_without_a_community() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 1);
        let host = lab.host("shanghai");
        lab.plug(&host, &site.lan, &["192.0.2.99/24"]);
        site.mesh.connector("shanghai.connector", &host, "192.0.2.99").address("10.99.1.1");
        let tap = Tap::on(&host, "eth0");
        let [_connector, one, shanghai] = three(site.mesh.up_all());
        assert_eq!(ping(one.host(), "10.99.1.1", 2).received, 0);
        assert_eq!(ping(shanghai.host(), &site.address(1, Family::V4), 2).received, 0);
        assert_eq!(one.status().peer("shanghai.connector").state(), "denied");
        assert_eq!(tap.udp_between(&underlay(1, Family::V4), "192.0.2.99"), []);
    });
}

#[test]
fn a_community_joins_its_members_and_nobody_else() {
    in_lab(|lab| {
        let site = Site::new(lab, 3).with_members(1..=2);
        let tap = Tap::on(site.edge_host(3), "eth0");
        let daemons = site.mesh.up_all();
        for family in Family::BOTH {
            assert_eq!(ping(site.edge_host(1), &site.address(2, family), 2).lost(), 0);
            assert_eq!(ping(site.edge_host(1), &site.address(3, family), 2).received, 0);
            assert_eq!(ping(site.edge_host(3), &site.address(2, family), 2).received, 0);
        }
        let outsider = daemons.last().expect("edge3").status();
        assert!(outsider.peers().iter().filter(|peer| peer.name() != CONNECTOR).all(|peer| peer.state() == "denied"));
        for member in 1..=2 {
            let seen = tap.udp_between(&underlay(member, Family::V4), &underlay(3, Family::V4));
            assert_eq!(seen, [], "between edge{member} and edge3");
        }
    });
}
