//! Neighbours on a LAN: which way the data takes, what they may do, and when they leave packets to their kernels.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use proto::node::LanPolicy;
use proto::path::{PathKind, PathState};
use proto::peer::PeerState;
use sim::link::Link;
use sim::nat::NatPlan;
use sim::network::{Interface, SiteId, SitePlan};
use sim::world::World;

/// Two machines on the internet and on two LANs besides.
struct Pair {
    world: World,
    names: [EndpointName; 2],
    lans: [SiteId; 2],
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Where a machine is on a LAN.
fn at(lan: usize, machine: usize) -> SocketAddr {
    SocketAddr::from(([192, 168, lan as u8 + 1, machine as u8 + 1], 6374))
}

impl Pair {
    fn new(lan: LanPolicy, is_community: bool) -> Self {
        let mut world = World::new(1, Link::GOOD);
        world.lan = lan;
        let lans = [0, 1].map(|_| world.add_site(SitePlan::behind(NatPlan::HOME)));
        let names = ["site.one", "site.two"].map(|name| world.add_endpoint(name, Kind::Edge));
        if is_community {
            world.add_community("pair", &names);
        }
        world.start_all();
        let mut pair = Self { world, names, lans };
        pair.plug(2);
        pair.world.run_for(seconds(1));
        pair
    }

    /// Each hears the other on so many LANs.
    fn hear(&mut self, lans: usize) {
        let now = self.world.now();
        for machine in 0..2 {
            let (name, other) = (self.names[machine].clone(), self.names[1 - machine].clone());
            let peer = self.world.peer(&name, &other);
            let own: Vec<_> = (0..lans).map(|lan| at(lan, machine).ip()).collect();
            let theirs: Vec<_> = (0..lans).map(|lan| at(lan, 1 - machine)).collect();
            let node = &mut self.world.host(&name).node;
            node.handle_lan_addresses(&own, now);
            node.handle_neighbour(peer, &theirs, now);
        }
        for name in self.names.clone() {
            self.world.step(&name);
        }
    }

    fn state(&mut self, machine: usize) -> PeerState {
        let (name, other) = (self.names[machine].clone(), self.names[1 - machine].clone());
        let peer = self.world.peer(&name, &other);
        self.world.host(&name).node.peer_status(peer).unwrap().state
    }

    fn gateways(&mut self, machine: usize) -> Vec<SocketAddr> {
        let (name, other) = (self.names[machine].clone(), self.names[1 - machine].clone());
        let peer = self.world.peer(&name, &other);
        self.world.host(&name).node.direct_gateways(peer)
    }

    fn active(&mut self, machine: usize) -> Option<PathKind> {
        let (name, other) = (self.names[machine].clone(), self.names[1 - machine].clone());
        let (peer, now) = (self.world.peer(&name, &other), self.world.now());
        let paths = self.world.host(&name).node.peer_paths(peer, now);
        paths.iter().find(|path| path.state == PathState::Active).map(|path| path.kind)
    }

    fn send(&mut self, number: u64) {
        let [one, two] = self.names.clone();
        self.world.send(&one, &two, number);
        self.world.run_for(Duration::from_millis(100));
    }

    /// Puts both machines on the internet and on so many LANs, and no others.
    fn plug(&mut self, lans: usize) {
        for (machine, name) in self.names.clone().iter().enumerate() {
            let far = Interface::public(self.world.home(name));
            let sites = self.lans.iter().take(lans).enumerate();
            let near = sites.map(|(lan, site)| Interface { site: *site, address: at(lan, machine) });
            self.world.host(name).interfaces = [far].into_iter().chain(near).collect();
            self.world.step(name);
        }
    }
}

const DIRECT: LanPolicy = LanPolicy { implicit_community: false, direct: true };
const IMPLICIT: LanPolicy = LanPolicy { implicit_community: true, direct: false };

#[test]
fn two_lans_and_a_wan_between_two_nodes_make_no_storm_of_probes() {
    let mut pair = Pair::new(LanPolicy::default(), true);
    pair.hear(2);
    for number in 0..20 {
        pair.send(number);
    }
    assert_eq!((pair.active(0), pair.active(1)), (Some(PathKind::Lan), Some(PathKind::Lan)));
    let before = pair.world.wire.len();
    for number in 20..120 {
        pair.send(number);
    }
    let control = pair.world.wire[before..].iter().filter(|(.., bytes)| bytes[0] == 5).count();
    assert!(control < 100, "{control} control messages in ten seconds");
}

#[test]
fn neighbours_agree_on_the_kernels_way_and_end_it_within_three_seconds_of_the_lans_end() {
    let mut pair = Pair::new(DIRECT, true);
    pair.hear(1);
    assert_eq!(pair.gateways(0), []);
    pair.send(1);
    pair.world.run_for(seconds(2));
    assert_eq!((pair.gateways(0), pair.gateways(1)), (vec![at(0, 1)], vec![at(0, 0)]));
    pair.world.run_for(seconds(600));
    assert_eq!(pair.state(0), PeerState::Connected, "without data the session stays, with new keys");
    assert_eq!(pair.gateways(0), [at(0, 1)]);
    pair.plug(0);
    pair.world.run_for(seconds(3));
    assert_eq!((pair.gateways(0), pair.gateways(1)), (vec![], vec![]));
    pair.send(2);
    pair.world.run_for(seconds(2));
    let two = pair.names[1].clone();
    assert_eq!(pair.world.numbers(&two), [1, 2]);
}

#[test]
fn an_address_that_the_peer_does_not_offer_as_its_own_is_no_gateway() {
    let mut pair = Pair::new(DIRECT, true);
    pair.hear(1);
    // Probes by way of somebody who passes them on would be answered too; but the peer does not know that address.
    let (two, now) = (pair.names[1].clone(), pair.world.now());
    pair.world.host(&two).node.handle_lan_addresses(&[at(1, 1).ip()], now);
    pair.send(1);
    pair.world.run_for(seconds(8));
    assert_eq!((pair.gateways(0), pair.gateways(1)), (vec![], vec![]));
}

#[test]
fn neighbours_without_a_community_are_let_in_while_they_are_heard_and_both_want_it() {
    for policy in [LanPolicy::default(), IMPLICIT] {
        let mut pair = Pair::new(policy, false);
        let two = pair.names[1].clone();
        pair.send(1);
        assert_eq!((pair.state(0), pair.world.numbers(&two)), (PeerState::Denied, vec![]));
        pair.hear(1);
        pair.send(2);
        pair.world.run_for(seconds(1));
        let arrived: &[u64] = if policy == IMPLICIT { &[2] } else { &[] };
        assert_eq!(pair.world.numbers(&two), arrived);
        pair.hear(0);
        pair.send(3);
        pair.world.run_for(seconds(1));
        assert_eq!((pair.state(0), pair.state(1)), (PeerState::Denied, PeerState::Denied));
        assert_eq!(pair.world.numbers(&two), arrived);
    }
}
