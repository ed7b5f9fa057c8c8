//! A wire that loses, reorders and doubles: nothing is lost that the wire did not lose, nothing comes twice, and TCP
//! arrives whole.
#![allow(clippy::expect_used, reason = "what the tests share is part of the tests")]

use netns_tests::relay::{Node, Relay};
use netns_tests::site::{edge, underlay};
use netns_tests::traffic::{Numbered, udp_numbered, udp_numbered_whole};
use netns_tests::{Family, Host, Lab, Site, Transfer, figure, in_lab, ping, tcp_transfer};

const TRANSFER: Transfer = Transfer::of(4_000_000);

/// Drops so many of a thousand data datagrams (type 4, docs/wire.md) that come in by eth0, and counts them.
fn lose(host: &Host, per_mille: u32) {
    host.ok("nft add table netdev wire");
    host.ok("nft add chain netdev wire in { type filter hook ingress device eth0 priority 0 ; }");
    host.ok(&format!(
        "nft add rule netdev wire in udp dport 6374 @th,64,8 4 numgen random mod 1000 < {per_mille} counter drop"
    ));
}

/// How many were dropped; the wire is whole again afterwards.
fn end_of_loss(host: &Host) -> u64 {
    let table = host.ok("nft list table netdev wire");
    host.ok("nft delete table netdev wire");
    let count = table.split("packets ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    count.expect("nft lists the counter")
}

/// Two members whose kernels cut every batch before it is on the wire, so that a drop there is one datagram.
fn pair_on_a_plain_wire(lab: &Lab) -> Site {
    let site = Site::new(lab, 2).with_members(1..=2);
    for number in 1..=2 {
        site.edge_host(number).without_segment_offload("eth0");
    }
    site
}

fn assert_loses_only_what_the_wire_loses(lab: &Lab, per_mille: u32) {
    let site = pair_on_a_plain_wire(lab);
    let (one, two) = (site.edge_host(1), site.edge_host(2));
    let _daemons = site.mesh.up_all();
    assert_eq!(ping(one, &site.address(2, Family::V4), 2).lost(), 0);
    for (family, group) in [(Family::V4, 1), (Family::V6, 16)] {
        lose(two, per_mille);
        let numbered = Numbered { count: 8_000, size: 200, group };
        let arrivals = udp_numbered(one, two, &site.address(2, family), numbered);
        let dropped = end_of_loss(two);
        assert_eq!(arrivals.lost, dropped, "{family:?}: lost inside, and dropped on the wire");
        assert_eq!((arrivals.duplicates, arrivals.changed), (0, 0), "{family:?}");
        assert!(dropped > 0 || per_mille < 10, "the wire lost nothing");
        figure(&format!("{per_mille} of 1,000 lost, {family:?}: {dropped} of 8,000 on the wire, the same inside"));
    }
    lose(two, per_mille);
    for family in Family::BOTH {
        let _ = tcp_transfer(one, two, &site.address(2, family), TRANSFER);
        let _ = tcp_transfer(two, one, &site.address(1, family), TRANSFER);
    }
}

#[test]
fn a_wire_that_loses_one_of_1000_loses_as_much_inside_and_no_more() {
    in_lab(|lab| assert_loses_only_what_the_wire_loses(lab, 1));
}

#[test]
fn a_wire_that_loses_1_percent_loses_as_much_inside_and_no_more() {
    in_lab(|lab| assert_loses_only_what_the_wire_loses(lab, 10));
}

#[test]
fn a_wire_that_loses_5_percent_loses_as_much_inside_and_no_more() {
    in_lab(|lab| assert_loses_only_what_the_wire_loses(lab, 50));
}

#[test]
fn a_wire_that_reorders_and_doubles_loses_and_doubles_nothing_inside() {
    in_lab(|lab| {
        let mut site = Site::new(lab, 2).with_members(1..=2);
        let between = lab.host("between");
        lab.plug(&between, &site.lan, &["192.0.2.101/24", "192.0.2.102/24"]);
        let node = |number: usize| {
            let stand_in = format!("192.0.2.{}:6374", 100 + number);
            site.mesh.endpoint_mut(&edge(number)).public_addresses = vec![stand_in.clone()];
            let at = format!("{}:6374", underlay(number, Family::V4));
            Node { at: at.parse().expect("an address"), stand_in: stand_in.parse().expect("an address") }
        };
        let relay = Relay::start(&between, [1, 2].map(node), 6374);
        let (one, two) = (site.edge_host(1), site.edge_host(2));
        // They would tell each other where they are, and leave this wire for a better one.
        for (host, other) in [(one, 2), (two, 1)] {
            host.ok("nft add table inet only-the-wire");
            host.ok("nft add chain inet only-the-wire in { type filter hook input priority 0; }");
            host.ok(&format!("nft add rule inet only-the-wire in ip saddr {} drop", underlay(other, Family::V4)));
        }
        let daemons = site.mesh.up_all();
        assert_eq!(ping(one, &site.address(2, Family::V4), 2).lost(), 0);
        for (family, group) in [(Family::V4, 1), (Family::V6, 16)] {
            for (from, to, number) in [(one, two, 2), (two, one, 1)] {
                udp_numbered_whole(
                    from,
                    to,
                    &site.address(number, family),
                    Numbered { count: 5_000, size: 200, group },
                );
            }
        }
        let replayed: u64 = daemons.iter().map(|daemon| daemon.status().drops("replayed")).sum();
        let (doubled, late) = (relay.doubled(), relay.late());
        assert!(doubled > 500 && late > 500, "the wire doubled {doubled} and held back {late}");
        assert!(replayed > 500, "{replayed} of {doubled} doubles were refused as replayed");
        figure(&format!("20,000 datagrams, {late} late and {doubled} doubled on the wire: all arrived, once each"));
        for family in Family::BOTH {
            let _ = tcp_transfer(one, two, &site.address(2, family), TRANSFER);
            let _ = tcp_transfer(two, one, &site.address(1, family), TRANSFER);
        }
    });
}
