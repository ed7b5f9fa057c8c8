//! The NAT laboratory: each NAT is what its name says, measured by UDP sockets on both sides of it, and what befalls it
//! changes what it should.
#![allow(clippy::unwrap_used, reason = "what the tests share is part of the tests")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netns_tests::nat::measure::{Reflectors, inner_socket};
use netns_tests::nat::{
    Behaviour, Class, Filtering, Hairpin, Internet, Mapping, NatKind, Ports, Premises, Station, Wall,
};
use netns_tests::{Family, Lab, Transfer, in_lab, observe, tcp_transfer, wait_until};

const UNTRANSLATED: Behaviour = Behaviour {
    mapping: Mapping::EndpointIndependent,
    filtering: Filtering::EndpointIndependent,
    ports: Ports::Preserved,
};

/// Whether a datagram from one socket to `target` arrives at another.
fn arrives(from: &UdpSocket, at: &UdpSocket, target: SocketAddr) -> bool {
    at.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    from.send_to(b"from a peer", target).unwrap();
    at.recv(&mut [0; 64]).is_ok_and(|length| length == 11)
}

/// One host behind a NAT, and who looks at it from outside.
struct Case<'a> {
    premises: Premises<'a>,
    inner: Station,
    reflectors: Reflectors,
    internet: Internet<'a>,
}

impl<'a> Case<'a> {
    fn new(lab: &'a Lab, class: Class) -> Self {
        let internet = Internet::new(lab);
        let (reflectors, premises) = (Reflectors::new(&internet), internet.premises("a", class));
        let inner = premises.host("a1");
        Self { premises, inner, reflectors, internet }
    }
}

fn assert_behaves(lab: &Lab, kind: NatKind) {
    let case = Case::new(lab, Class::v4(kind));
    let (inner, outside) = (&case.inner, case.reflectors.station());
    assert_eq!(case.reflectors.measure(inner, Family::V4), kind.behaviour(), "{kind:?}");
    let done = tcp_transfer(&inner.host, &outside.host, &outside.v4[0].to_string(), Transfer::of(200_000));
    let public = if kind == NatKind::None { inner.v4[0] } else { case.premises.last_gateway().outer() };
    assert_eq!(done.seen_source.ip(), IpAddr::from(public), "{kind:?}");
}

#[test]
fn a_plain_router_translates_and_filters_nothing() {
    in_lab(|lab| assert_behaves(lab, NatKind::None));
}

#[test]
fn a_full_cone_has_one_port_that_everybody_reaches() {
    in_lab(|lab| assert_behaves(lab, NatKind::FullCone));
}

#[test]
fn an_address_restricted_nat_lets_in_the_addresses_that_were_asked() {
    in_lab(|lab| assert_behaves(lab, NatKind::AddressRestricted));
}

#[test]
fn a_port_restricted_nat_lets_in_the_endpoints_that_were_asked() {
    in_lab(|lab| assert_behaves(lab, NatKind::PortRestricted));
}

#[test]
fn a_carriers_nat_has_one_port_that_is_not_the_hosts() {
    in_lab(|lab| assert_behaves(lab, NatKind::Cgn));
}

#[test]
fn a_sequential_nat_has_the_next_port_for_each_destination() {
    in_lab(|lab| assert_behaves(lab, NatKind::SymmetricSequential));
}

#[test]
fn a_random_nat_has_a_random_port_for_each_destination() {
    in_lab(|lab| assert_behaves(lab, NatKind::SymmetricRandom));
}

#[test]
fn a_nat_without_udp_passes_tcp() {
    in_lab(|lab| assert_behaves(lab, NatKind::NoUdp));
}

#[test]
fn two_nats_in_a_row_behave_as_both_together() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let reflectors = Reflectors::new(&internet);
        let doubles = NatKind::ALL.into_iter().filter(|kind| kind.layers().len() > 1);
        for (number, kind) in doubles.enumerate() {
            let premises = internet.premises(&format!("p{number}"), Class::v4(kind));
            let inner = premises.host(&format!("h{number}"));
            assert_eq!(premises.gateways.len(), 2);
            assert_eq!(reflectors.measure(&inner, Family::V4), kind.behaviour(), "{kind:?}");
        }
    });
}

#[test]
fn an_ipv6_host_keeps_its_address_and_a_firewall_lets_in_answers_only() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let reflectors = Reflectors::new(&internet);
        let behind_firewall = Behaviour { filtering: Filtering::EndpointDependent, ..UNTRANSLATED };
        let cases = [
            (Class::v6(Wall::Open), UNTRANSLATED),
            (Class::v6(Wall::Firewall), behind_firewall),
            (Class::dual(NatKind::DoubleNat(&NatKind::PortRestricted, &NatKind::Cgn), Wall::Firewall), behind_firewall),
        ];
        for (number, (class, expected)) in cases.into_iter().enumerate() {
            let inner = internet.premises(&format!("p{number}"), class).host(&format!("h{number}"));
            assert_eq!(reflectors.measure(&inner, Family::V6), Some(expected), "{class:?}");
            let socket = inner_socket(&inner, Family::V6, 4000);
            assert_eq!(reflectors.outer(&socket), Some(SocketAddr::new(inner.v6[0].into(), 4000)));
            assert_eq!(inner.v4.is_empty(), class.v4.is_none());
        }
    });
}

#[test]
fn hosts_behind_one_nat_reach_each_others_outer_ports_only_where_it_hairpins() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let reflectors = Reflectors::new(&internet);
        let on = [NatKind::FullCone, NatKind::AddressRestricted, NatKind::PortRestricted, NatKind::Cgn];
        let classes = [Class::v4(NatKind::FullCone), Class::v4(NatKind::PortRestricted)];
        let classes = classes.into_iter().chain(on.map(|kind| Class::v4(kind).hairpinning()));
        for (number, class) in classes.enumerate() {
            let premises = internet.premises(&format!("p{number}"), class);
            let [one, two] = ["one", "two"].map(|host| premises.host(&format!("p{number}-{host}")));
            let seen = reflectors.hairpin(&one, &two, Family::V4).map(|source| source.ip());
            let outer = IpAddr::from(premises.last_gateway().outer());
            assert_eq!(seen, (class.hairpin == Hairpin::On).then_some(outer), "{class:?}");
        }
    });
}

#[test]
fn two_hosts_with_the_same_port_have_two_outer_ports_that_both_lead_back() {
    in_lab(|lab| {
        let case = Case::new(lab, Class::v4(NatKind::FullCone));
        let two = case.premises.host("a2");
        let sockets = [&case.inner, &two].map(|station| inner_socket(station, Family::V4, 5000));
        let outers = sockets.each_ref().map(|socket| case.reflectors.outer(socket).unwrap());
        assert_ne!(outers[0], outers[1]);
        for (outer, socket) in outers.into_iter().zip(&sockets) {
            assert!(case.reflectors.reaches(2, outer, socket), "{outer}");
            assert_eq!(case.reflectors.outer(socket), Some(outer), "after what came in, too");
        }
    });
}

#[test]
fn a_port_that_was_knocked_at_from_outside_is_still_the_hosts() {
    in_lab(|lab| {
        let case = Case::new(lab, Class::v4(NatKind::PortRestricted));
        let socket = inner_socket(&case.inner, Family::V4, 5000);
        let outer = SocketAddr::new(case.premises.last_gateway().outer().into(), 5000);
        assert!(!case.reflectors.reaches(0, outer, &socket), "nobody was asked");
        assert_eq!(case.reflectors.outer(&socket), Some(outer), "as if nobody had knocked");
    });
}

#[test]
fn a_gateway_that_forgot_lets_nobody_in_and_maps_anew() {
    in_lab(|lab| {
        let case = Case::new(lab, Class::dual(NatKind::Cgn, Wall::Firewall));
        for family in Family::BOTH {
            let socket = inner_socket(&case.inner, family, 5000);
            let before = case.reflectors.outer(&socket).unwrap();
            assert!(case.reflectors.reaches(0, before, &socket), "{family:?}");
            case.premises.gateways[0].forget();
            assert!(!case.reflectors.reaches(0, before, &socket), "{family:?}");
            let after = case.reflectors.outer(&socket).unwrap();
            assert_eq!(after == before, family == Family::V6, "{before} and {after}");
            assert!(case.reflectors.reaches(0, after, &socket), "{family:?}");
        }
    });
}

#[test]
fn a_gateway_forgets_what_nobody_uses() {
    in_lab(|lab| {
        let internet = Internet::new(lab);
        let reflectors = Reflectors::new(&internet);
        for (name, kind) in [("cone", NatKind::FullCone), ("restricted", NatKind::PortRestricted)] {
            let premises = internet.premises(name, Class::v4(kind));
            let socket = inner_socket(&premises.host(&format!("{name}-host")), Family::V4, 5000);
            premises.gateways[0].set_memory(Duration::from_secs(2));
            let outer = reflectors.outer(&socket).unwrap();
            assert!(reflectors.reaches(0, outer, &socket), "{kind:?}");
            wait_until(Duration::from_secs(60), "it is forgotten", || {
                observe(Duration::from_secs(3));
                !reflectors.reaches(0, outer, &socket)
            });
            assert_eq!(reflectors.outer(&socket), Some(outer), "{kind:?}: anew");
        }
    });
}

#[test]
fn a_gateway_with_another_address_translates_to_that() {
    in_lab(|lab| {
        let case = Case::new(lab, Class::dual(NatKind::FullCone, Wall::Firewall));
        let socket = inner_socket(&case.inner, Family::V4, 5000);
        let before = case.reflectors.outer(&socket).unwrap();
        let other = "198.18.2.77".parse().unwrap();
        assert_ne!(case.premises.last_gateway().outer(), other);
        case.premises.last_gateway().set_outer(other);
        assert_eq!(case.premises.last_gateway().outer(), other);
        assert!(!case.reflectors.reaches(0, before, &socket), "the old address is nobody's");
        let after = case.reflectors.outer(&socket).unwrap();
        assert_eq!(after.ip(), IpAddr::from(other));
        assert!(case.reflectors.reaches(1, after, &socket), "still a full cone");
        let socket = inner_socket(&case.inner, Family::V6, 5000);
        assert!(case.reflectors.outer(&socket).is_some(), "IPv6 goes on");
    });
}

#[test]
fn an_uplink_that_was_cut_leads_out_again_with_the_same_mapping() {
    in_lab(|lab| {
        let case = Case::new(lab, Class::dual(NatKind::Cgn, Wall::Firewall));
        for family in Family::BOTH {
            let socket = inner_socket(&case.inner, family, 5000);
            let outer = case.reflectors.outer(&socket).unwrap();
            case.premises.uplink.cut();
            assert!(!case.reflectors.reaches(0, outer, &socket), "{family:?}: cut");
            case.premises.uplink.mend();
            assert_eq!(case.reflectors.outer(&socket), Some(outer), "{family:?}: mended");
        }
    });
}

#[test]
fn udp_between_two_premises_is_blocked_and_passed_apart_from_all_else() {
    in_lab(|lab| {
        let case = Case::new(lab, Class::dual(NatKind::FullCone, Wall::Open));
        let other = case.internet.premises("b", Class::dual(NatKind::None, Wall::Open));
        let inner = other.host("b1");
        for family in Family::BOTH {
            let [here, there] = [&case.inner, &inner].map(|station| inner_socket(station, family, 5000));
            let target = case.reflectors.outer(&here).unwrap();
            assert!(arrives(&there, &here, target), "{family:?}");
            case.internet.block_udp(&case.premises.uplink, &other.uplink);
            assert!(!arrives(&there, &here, target), "{family:?}");
            assert!(case.reflectors.reaches(1, target, &here), "{family:?}: from elsewhere");
            let address = inner.addresses(family)[0].to_string();
            let _ = tcp_transfer(&case.inner.host, &inner.host, &address, Transfer::of(100_000));
            case.internet.pass_udp(&case.premises.uplink, &other.uplink);
            assert!(arrives(&there, &here, target), "{family:?}");
        }
    });
}

#[test]
fn a_pairing_table_has_each_pair_once_and_every_kind() {
    let (table, pairs) = (Class::table(), Class::pairings());
    assert_eq!(pairs.len(), table.len() * (table.len() + 1) / 2);
    for kind in NatKind::ALL {
        assert!(pairs.contains(&(Class::v4(kind), Class::v4(kind))), "{kind:?}");
    }
    for (number, pair) in pairs.iter().enumerate() {
        let (one, other) = *pair;
        assert!(pairs.iter().skip(number + 1).all(|later| *later != *pair && *later != (other, one)), "{pair:?} twice");
    }
    assert!(!Class::v4(NatKind::None).shares_family_with(&Class::v6(Wall::Open)));
    assert!(Class::v6(Wall::Open).shares_family_with(&Class::dual(NatKind::None, Wall::Firewall)));
}
