//! Flows over two paths at once: both carry, and when one is cut the other has all.
#![allow(clippy::unwrap_used, reason = "what the tests share is part of the tests")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::id::EndpointName;
use proto::member::{Host, Kind, PublicAddress};
use proto::path::{Balance, PathState};
use sim::link::Link;
use sim::network::Interface;
use sim::packets;
use sim::world::World;

const TICK: Duration = Duration::from_millis(100);

/// Flows, each of which sends a packet in every tick.
const FLOWS: u64 = 32;

fn second(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An edge and a connector, each with an IPv4 and an IPv6 link, and a subnet behind the connector whose hosts make the flows.
struct Pair {
    world: World,
    edge: EndpointName,
    connector: EndpointName,
    /// The connector's addresses, by which it is dialled.
    links: [SocketAddr; 2],
    sent: u64,
}

impl Pair {
    fn new(seed: u64, balance: Balance) -> Self {
        let mut world = World::new(seed, Link::GOOD);
        world.balance = balance;
        let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let links = [address("192.0.2.1:6374"), address("[2001:db8::1]:6374")];
        let home = ["198.51.100.1:6374", "[2001:db8::2]:6374"].map(|text| Interface::public(address(text)));
        let connector = world.add_endpoint_at("site.connector", Kind::Connector, &links.map(Interface::public));
        let edge = world.add_endpoint_at("far.edge", Kind::Edge, &home);
        world.add_community("all", &[edge.clone(), connector.clone()]);
        let record = &mut world.members.endpoints[0];
        record.public_addresses =
            links.iter().map(|link| PublicAddress { host: Host::Ip(link.ip()), port: link.port() }).collect();
        record.subnets = vec!["10.50.0.0/16".parse().unwrap()];
        world.start_all();
        Self { world, edge, connector, links, sent: 0 }
    }

    /// Sends for a time; returns how many packets were sent and arrived, and how many datagrams with data went to each link.
    fn send_for(&mut self, duration: Duration) -> (u64, u64, [usize; 2]) {
        let (from, wire) = (self.sent, self.world.wire.len());
        let end = self.world.now() + duration;
        while self.world.now() < end {
            for flow in 0..FLOWS {
                self.sent += 1;
                let destination = IpAddr::from([10, 50, 0, flow as u8]);
                let packet = packets::numbered(self.world.inner(&self.edge), destination, self.sent, 100);
                self.world.host(&self.edge).send_packet(packet);
            }
            self.world.step(&self.edge.clone());
            self.world.run_for(TICK);
        }
        let arrived = self.world.numbers(&self.connector).into_iter().filter(|number| *number > from).count();
        let to = |link: SocketAddr| {
            self.world.wire[wire..].iter().filter(|(_, _, to, bytes)| *to == link && bytes[0] == 4).count()
        };
        (self.sent - from, arrived as u64, self.links.map(to))
    }
}

#[test]
fn flows_take_both_paths_and_the_loss_of_one_moves_its_flows_within_three_seconds() {
    for seed in 0..6 {
        let mut pair = Pair::new(seed, Balance::Flow { workers: 1 });
        pair.send_for(second(12));
        let (sent, arrived, carried) = pair.send_for(second(3));
        assert_eq!(arrived, sent, "seed {seed}");
        assert!(carried.iter().all(|link| *link as u64 >= sent / 4), "seed {seed}: {carried:?} of {sent}");
        pair.world.run_for(Duration::from_millis(seed * 137));
        let link = pair.world.host(&pair.connector).interfaces.remove(0);
        let (sent, arrived, _) = pair.send_for(second(3));
        assert!(arrived >= sent / 4, "seed {seed}: the flows on the other path go on: {arrived} of {sent}");
        let (sent, arrived, carried) = pair.send_for(second(3));
        assert_eq!((arrived, carried[0]), (sent, 0), "seed {seed}: all by the other path");
        pair.world.host(&pair.connector).interfaces.insert(0, link);
        pair.send_for(second(15));
        let (sent, arrived, carried) = pair.send_for(second(3));
        assert_eq!(arrived, sent, "seed {seed}");
        assert!(carried[0] as u64 >= sent / 4, "seed {seed}: it carries again: {carried:?}");
    }
}

#[test]
fn without_balance_one_path_carries_all_and_the_other_stands_by() {
    let mut pair = Pair::new(7, Balance::Best);
    pair.send_for(second(12));
    let (sent, arrived, carried) = pair.send_for(second(3));
    assert_eq!((arrived, carried.iter().filter(|link| **link > 0).count()), (sent, 1));
    let (peer, now) = (pair.world.peer(&pair.edge.clone(), &pair.connector.clone()), pair.world.now());
    let paths = pair.world.host(&pair.edge).node.peer_paths(peer, now);
    assert_eq!(paths.iter().filter(|path| path.state == PathState::Active).count(), 1);
}

#[test]
fn each_path_has_a_lane_of_its_own_so_that_a_slow_one_is_not_behind_the_replay_window_of_a_fast_one() {
    let mut pair = Pair::new(8, Balance::Flow { workers: 1 });
    pair.send_for(second(12));
    let wire = pair.world.wire.len();
    pair.send_for(second(1));
    let data = pair.world.wire[wire..].iter().filter(|(.., bytes)| bytes[0] == 4);
    let used: BTreeSet<(SocketAddr, u8)> = data.map(|(_, _, to, bytes)| (*to, bytes[2])).collect();
    assert_eq!(used.iter().map(|(to, _)| to).collect::<BTreeSet<_>>().len(), 2, "{used:?}");
    assert_eq!(used.iter().map(|(_, lane)| lane).collect::<BTreeSet<_>>().len(), 2, "{used:?}");
    assert_eq!(used.len(), 2, "{used:?}");
}
