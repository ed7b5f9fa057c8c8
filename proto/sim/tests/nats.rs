//! NATs behave as RFC 4787 defines it; shown by plain datagrams, without a node.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use sim::link::Link;
use sim::nat::Behaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};
use sim::nat::{Hairpin, NatPlan, Ports, Udp};
use sim::network::{Interface, SiteId, SitePlan};
use sim::sites::SocketId;
use sim::world::World;

/// Two hosts inside, and outside one address with two ports and another.
struct Lab {
    world: World,
    site: SiteId,
    inside: [SocketId; 2],
    outside: [SocketId; 3],
}

const INSIDE: [([u8; 4], u16); 2] = [([192, 168, 1, 10], 6374), ([192, 168, 1, 11], 6374)];
const OUTSIDE: [([u8; 4], u16); 3] = [([203, 0, 113, 1], 1), ([203, 0, 113, 1], 2), ([203, 0, 113, 2], 1)];

fn outside(n: usize) -> SocketAddr {
    OUTSIDE[n].into()
}

impl Lab {
    fn new(nat: NatPlan) -> Self {
        let mut world = World::new(1, Link::GOOD);
        let site = world.add_site(SitePlan::behind(nat));
        let inside = INSIDE.map(|address| world.add_socket(Interface { site, address: address.into() }));
        let outside = OUTSIDE.map(|address| world.add_socket(Interface::public(address.into())));
        Self { world, site, inside, outside }
    }

    /// One datagram, and the sources that the receiver has seen since the last.
    fn pass(&mut self, from: SocketId, to: (SocketAddr, SocketId)) -> Vec<SocketAddr> {
        self.world.say(from, to.0, b"x".to_vec());
        self.world.run_for(Duration::from_millis(5));
        self.world.take_heard(to.1).into_iter().map(|(source, _)| source).collect()
    }

    /// A host sends out; the external address that it gets.
    fn out(&mut self, host: usize, to: usize) -> SocketAddr {
        self.pass(self.inside[host], (outside(to), self.outside[to]))[0]
    }

    /// Whether a datagram from outside to an external address reaches a host.
    fn is_let_in(&mut self, from: usize, to: SocketAddr, host: usize) -> bool {
        self.pass(self.outside[from], (to, self.inside[host])) == [outside(from)]
    }
}

#[test]
fn a_mapping_is_the_same_for_as_many_remote_endpoints_as_its_behaviour_says() {
    let seen = |mapping| {
        let mut lab = Lab::new(NatPlan { mapping, ports: Ports::Random, ..NatPlan::HOME });
        let ports = [0, 1, 2].map(|to| lab.out(0, to));
        assert_eq!([0, 1, 2].map(|to| lab.out(0, to)), ports, "and it stays what it is");
        assert!(ports.iter().all(|source| source.ip() == lab.world.external(lab.site)));
        [ports[0] == ports[1], ports[0] == ports[2]]
    };
    assert_eq!(seen(EndpointIndependent), [true, true]);
    assert_eq!(seen(AddressDependent), [true, false]);
    assert_eq!(seen(AddressAndPortDependent), [false, false]);
}

#[test]
fn a_filter_lets_in_whom_its_behaviour_says_once_the_host_has_sent() {
    let let_in = |filtering| {
        let mut lab = Lab::new(NatPlan { filtering, ..NatPlan::HOME });
        let external = lab.out(0, 0);
        [0, 1, 2].map(|from| lab.is_let_in(from, external, 0))
    };
    assert_eq!(let_in(EndpointIndependent), [true, true, true]);
    assert_eq!(let_in(AddressDependent), [true, true, false]);
    assert_eq!(let_in(AddressAndPortDependent), [true, false, false]);
}

#[test]
fn nothing_gets_in_where_nobody_has_sent() {
    let mut lab = Lab::new(NatPlan { filtering: EndpointIndependent, ..NatPlan::HOME });
    let external = SocketAddr::new(lab.world.external(lab.site), 6374);
    assert!(!lab.is_let_in(0, external, 0));
    assert!(!lab.is_let_in(0, INSIDE[0].into(), 0), "nor by a private address");
}

#[test]
fn sequential_ports_are_delta_apart() {
    for delta in [1, 3] {
        let ports = Ports::Sequential { delta };
        let mut lab = Lab::new(NatPlan { mapping: AddressAndPortDependent, ports, ..NatPlan::HOME });
        let seen = [0, 1, 2].map(|to| lab.out(0, to).port());
        assert_eq!([seen[1].wrapping_sub(seen[0]), seen[2].wrapping_sub(seen[1])], [delta, delta]);
    }
}

#[test]
fn random_ports_cannot_be_foretold() {
    let mut lab = Lab::new(NatPlan { capacity: 1000, ..NatPlan::SYMMETRIC });
    let (from, to) = (lab.inside[0], SocketAddr::from(([203, 0, 113, 9], 0)));
    for port in 1..=500 {
        lab.world.say(from, SocketAddr::new(to.ip(), port), Vec::new());
    }
    let ports: Vec<_> = lab.world.wire.iter().map(|(_, source, ..)| source.port()).collect();
    let distinct: BTreeSet<_> = ports.iter().collect();
    let steps: BTreeSet<_> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert_eq!(distinct.len(), 500);
    assert!(steps.len() > 450, "{} steps", steps.len());
}

#[test]
fn a_port_is_preserved_until_two_hosts_want_the_same_for_the_same_remote() {
    let mut lab = Lab::new(NatPlan::HOME);
    assert_eq!(lab.out(0, 0).port(), 6374);
    assert_ne!(lab.out(1, 2).port(), 6374, "an endpoint-independent mapping holds its port against everybody");
    let mut lab = Lab::new(NatPlan { mapping: AddressAndPortDependent, ..NatPlan::HOME });
    assert_eq!([lab.out(0, 0).port(), lab.out(0, 1).port(), lab.out(1, 2).port()], [6374; 3]);
    let second = lab.out(1, 0);
    assert_ne!(second.port(), 6374);
    let shared = SocketAddr::new(second.ip(), 6374);
    assert!(lab.is_let_in(0, shared, 0) && lab.is_let_in(2, shared, 1) && lab.is_let_in(0, second, 1));
}

#[test]
fn outgoing_datagrams_keep_a_mapping_alive_and_incoming_ones_do_not() {
    let mut lab = Lab::new(NatPlan { ports: Ports::Random, ..NatPlan::HOME });
    let external = lab.out(0, 0);
    for _ in 0..5 {
        lab.world.run_for(Duration::from_secs(25));
        assert_eq!(lab.out(0, 0), external);
    }
    lab.world.run_for(Duration::from_secs(25));
    assert!(lab.is_let_in(0, external, 0));
    lab.world.run_for(Duration::from_secs(10));
    assert!(!lab.is_let_in(0, external, 0));
    assert_eq!(lab.world.nat_entries(lab.site), 0);
    assert_ne!(lab.out(0, 0), external, "the next is another");
}

#[test]
fn each_remote_is_let_in_for_as_long_as_the_host_goes_on_sending_to_it() {
    let mut lab = Lab::new(NatPlan::HOME);
    let external = lab.out(0, 0);
    lab.world.run_for(Duration::from_secs(20));
    assert_eq!(lab.out(0, 1), external);
    lab.world.run_for(Duration::from_secs(20));
    assert_eq!([0, 1].map(|from| lab.is_let_in(from, external, 0)), [false, true]);
}

#[test]
fn a_full_table_serves_those_it_has_and_others_once_there_is_room() {
    let mut lab = Lab::new(NatPlan { capacity: 2, ..NatPlan::HOME });
    let external = [lab.out(0, 0), lab.out(0, 1)];
    assert_eq!(external[0], external[1]);
    assert!(lab.pass(lab.inside[0], (outside(2), lab.outside[2])).is_empty());
    assert_eq!(lab.out(0, 0), external[0]);
    assert_eq!(lab.world.nat_entries(lab.site), 2);
    lab.world.run_for(Duration::from_secs(31));
    lab.out(0, 2);
}

#[test]
fn a_hairpin_shows_the_external_source_and_where_there_is_none_the_datagram_is_lost() {
    for (hairpin, is_back) in [(Hairpin::Returned, true), (Hairpin::Dropped, false)] {
        let mut lab = Lab::new(NatPlan { hairpin, filtering: EndpointIndependent, ..NatPlan::HOME });
        let external = [lab.out(0, 0), lab.out(1, 0)];
        let heard = lab.pass(lab.inside[0], (external[1], lab.inside[1]));
        assert_eq!(heard, if is_back { vec![external[0]] } else { vec![] });
    }
}

#[test]
fn a_hairpin_passes_the_filter_like_anybody_else() {
    let mut lab = Lab::new(NatPlan::HOME);
    let external = [lab.out(0, 0), lab.out(1, 0)];
    assert!(lab.pass(lab.inside[0], (external[1], lab.inside[1])).is_empty());
    assert_eq!(lab.pass(lab.inside[1], (external[0], lab.inside[0])), [external[1]], "the other has sent now");
}

#[test]
fn where_udp_is_blocked_nothing_passes_and_inside_everything() {
    let mut lab = Lab::new(NatPlan { udp: Udp::Blocked, ..NatPlan::HOME });
    assert!(lab.pass(lab.inside[0], (outside(0), lab.outside[0])).is_empty());
    assert_eq!(lab.pass(lab.inside[0], (INSIDE[1].into(), lab.inside[1])), [INSIDE[0].into()]);
    assert_eq!(lab.world.nat_entries(lab.site), 0);
}

#[test]
fn behind_two_nats_both_translate_and_both_filter() {
    let mut world = World::new(2, Link::GOOD);
    let open = NatPlan { filtering: EndpointIndependent, ..NatPlan::HOME };
    let carrier = world.add_site(SitePlan::behind(NatPlan { ports: Ports::Random, ..NatPlan::HOME }));
    let homes = [(), ()].map(|()| world.add_site(SitePlan { uplink: carrier, ..SitePlan::behind(open) }));
    let address: SocketAddr = INSIDE[0].into();
    // The same private address in both homes.
    let inside = homes.map(|site| world.add_socket(Interface { site, address }));
    let outside = OUTSIDE.map(|at| world.add_socket(Interface::public(at.into())));
    let mut lab = Lab { world, site: carrier, inside, outside };
    let external = [lab.out(0, 0), lab.out(1, 0)];
    assert_eq!(external.map(|at| at.ip()), [lab.world.external(carrier); 2]);
    assert_ne!(external[0], external[1]);
    assert!(lab.is_let_in(0, external[0], 0) && lab.is_let_in(0, external[1], 1));
    assert!(!lab.is_let_in(1, external[0], 0), "the carrier filters what the home would let in");
    // Neighbours behind one carrier: by its own network, or by a hairpin at it.
    let near = homes.map(|home| SocketAddr::new(lab.world.external(home), 6374));
    assert_eq!(lab.pass(lab.inside[0], (near[1], lab.inside[1])), [near[0]]);
    assert!(lab.pass(lab.inside[0], (external[1], lab.inside[1])).is_empty());
    assert_eq!(lab.pass(lab.inside[1], (external[0], lab.inside[0])), [external[1]]);
}

#[test]
fn a_flushed_table_lets_nobody_in_and_maps_anew() {
    let mut lab = Lab::new(NatPlan { ports: Ports::Random, ..NatPlan::HOME });
    let external = lab.out(0, 0);
    lab.world.flush_nat(lab.site);
    assert!(!lab.is_let_in(0, external, 0));
    assert_ne!(lab.out(0, 0), external);
}
