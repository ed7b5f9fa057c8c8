//! Ten thousand nodes behind NATs as they are found outside, of some tens of sites that only have their connectors in common: what each
//! holds, what it sends, and what happens when a hub restarts. Virtual time is free; figures are printed, and bounds are generous.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use proto::data::{Published, Worker};
use proto::id::EndpointName;
use proto::member::{Community, Kind, Members};
use proto::peer::PeerState;
use sim::link::Link;
use sim::nat::{Behaviour, Hairpin, NatPlan, Ports};
use sim::network::{Interface, SitePlan};
use sim::trace::Recording;
use sim::world::World;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Nodes that nobody can dial, of each site.
const EDGES: usize = 332;

/// Edges of a community, of one site; each talks to the next.
const FRIENDS: usize = 4;

/// Sites of the whole crowd: 30 connectors and 9,960 edges.
const SITES: usize = 30;

/// How the crowd's links are: some milliseconds, and few losses.
const LINK: Link =
    Link { loss: 2, delay: Duration::from_millis(15), jitter: Duration::from_millis(10), duplication: 1 };

/// A NAT as it is found: most map alike for everybody and let in only whom they know, a fifth cannot be foretold, and lifetimes
/// are what vendors ship.
fn found(number: usize) -> NatPlan {
    let lifetime = Duration::from_secs([30, 30, 60, 60, 90, 120, 180, 180, 300, 300][number / 7 % 10]);
    let strict = NatPlan { lifetime, ..NatPlan::SYMMETRIC };
    let home = NatPlan { lifetime, ..NatPlan::HOME };
    match number % 10 {
        0..6 => home,
        6 => NatPlan { filtering: Behaviour::AddressDependent, hairpin: Hairpin::Dropped, ..home },
        7 => NatPlan { filtering: Behaviour::EndpointIndependent, ports: Ports::Random, ..home },
        8 => NatPlan { ports: Ports::Sequential { delta: 1 }, ..strict },
        _ => strict,
    }
}

struct Crowd {
    world: World,
    /// Connectors, each with its edges.
    sites: Vec<(EndpointName, Vec<EndpointName>)>,
    /// What the nodes of each site are told.
    told: Vec<Members>,
}

/// What nodes sent in a stretch of time, by edge and minute.
struct Cost {
    mean: f64,
    most: u64,
    bytes: f64,
}

impl Crowd {
    /// A started crowd of `count` sites. The members of a site know of each other only.
    fn new(seed: u64, count: usize) -> Self {
        let mut world = World::new(seed, LINK);
        world.recording = Recording::Digest;
        world.keepalive = Some(Duration::from_secs(120));
        let mut crowd = Self { world, sites: Vec::new(), told: Vec::new() };
        for site in 0..count {
            crowd.add_site(site);
        }
        crowd
    }

    fn add_site(&mut self, site: usize) {
        let world = &mut self.world;
        let first = world.members.endpoints.len();
        let connector = world.add_endpoint(&format!("s{site}.hub"), Kind::Connector);
        let edge = |n: usize| {
            let home = world.add_site(SitePlan::behind(found(n)));
            let address = Interface { site: home, address: ([192, 168, 1, 10], 6374).into() };
            world.add_endpoint_at(&format!("s{site}.e{n}"), Kind::Edge, &[address])
        };
        let edges: Vec<_> = (0..EDGES).map(edge).collect();
        let endpoints = world.members.endpoints[first..].to_vec();
        let mut members = Members { mesh: world.members.mesh, endpoints, communities: Vec::new() };
        for (n, friends) in edges.chunks(FRIENDS).enumerate() {
            let community = Community { name: friends[0].as_str().into(), members: friends.into() };
            // What else the site has is nothing to an edge; its connector has to know them all.
            let first = 1 + n * FRIENDS;
            let near = [&members.endpoints[..1], &members.endpoints[first..first + friends.len()]].concat();
            let near = Members { mesh: members.mesh, endpoints: near, communities: vec![community.clone()] };
            friends.iter().for_each(|edge| world.start_with(edge, &near));
            members.communities.push(community);
        }
        world.start_with(&connector, &members);
        world.run_for(Duration::from_millis(100));
        self.sites.push((connector, edges));
        self.told.push(members);
    }

    fn edges(&self) -> Vec<EndpointName> {
        self.sites.iter().flat_map(|(_, edges)| edges.clone()).collect()
    }

    fn sent(&self) -> Vec<(u64, u64)> {
        let edges = self.sites.iter().flat_map(|(_, edges)| edges);
        edges.map(|edge| self.world.load(edge).sent).map(|sent| (sent.datagrams, sent.bytes)).collect()
    }

    /// Lets time pass, and counts what edges send in it.
    fn cost(&mut self, minutes: u32, mut step: impl FnMut(&mut Self)) -> Cost {
        let before = self.sent();
        (0..minutes * 6).for_each(|_| {
            step(self);
            self.world.run_for(Duration::from_secs(10));
        });
        let spent: Vec<_> =
            self.sent().iter().zip(&before).map(|(now, then)| (now.0 - then.0, now.1 - then.1)).collect();
        let per = |sum: u64| sum as f64 / spent.len() as f64 / f64::from(minutes);
        Cost {
            mean: per(spent.iter().map(|sent| sent.0).sum()),
            most: spent.iter().map(|sent| sent.0).max().unwrap() / u64::from(minutes),
            bytes: per(spent.iter().map(|sent| sent.1).sum()),
        }
    }

    /// Every `stride`th edge says something to the next of its community.
    fn talk(&mut self, stride: usize, number: u64) {
        for (_, edges) in self.sites.clone() {
            for friends in edges.chunks_exact(FRIENDS) {
                for pair in friends.windows(2).step_by(stride) {
                    self.world.send(&pair[0], &pair[1], number);
                }
            }
        }
    }

    /// Edges that the connector of a site has a session with.
    fn connected(&mut self, site: usize) -> usize {
        let (connector, edges) = self.sites[site].clone();
        let is_up = |edge: &&EndpointName| {
            let peer = self.world.peer(&connector, edge);
            self.world.host(&connector).node.peer_status(peer).unwrap().state == PeerState::Connected
        };
        edges.iter().filter(is_up).count()
    }

    /// Most session indices that an edge holds.
    fn most_indices(&self) -> usize {
        self.sites.iter().flat_map(|(_, edges)| edges).map(|edge| self.world.load(edge).indices).max().unwrap()
    }
}

/// One whole day of a crowd in small: connect, idle, talk, a hub that restarts; the digest at its end.
fn day(seed: u64, count: usize) -> u64 {
    let mut crowd = Crowd::new(seed, count);
    crowd.cost(1, |_| {});
    crowd.talk(1, 1);
    let hub = crowd.sites[0].0.clone();
    let told = crowd.told[0].clone();
    crowd.world.start_with(&hub, &told);
    crowd.cost(2, |_| {});
    crowd.world.digest()
}

#[test]
fn ten_thousand_nodes_hold_and_send_little_and_a_hub_that_restarts_has_them_back_without_a_storm() {
    let before = ALLOCATOR.allocated();
    let mut crowd = Crowd::new(1, SITES);
    let (count, all) = (crowd.edges().len(), crowd.world.members.endpoints.len());
    crowd.world.run_for(Duration::from_secs(20));
    for site in 0..SITES {
        assert_eq!(crowd.connected(site), EDGES, "site {site}");
    }
    let held = (ALLOCATOR.allocated() - before) / all - worker_bytes(&mut crowd);
    println!("crowd of {all}: {held} bytes each, {} indices at most", crowd.most_indices());
    assert!(held < 60_000, "{held} bytes");
    assert!(crowd.most_indices() <= 3);

    let idle = crowd.cost(3, |_| {});
    println!("crowd, idle: {:.1} datagrams ({} at most) and {:.0} bytes a minute", idle.mean, idle.most, idle.bytes);
    assert!(idle.mean < 12.0 && idle.most < 40, "{} {}", idle.mean, idle.most);

    let mut number = 0;
    let busy = crowd.cost(1, |crowd| {
        number += 1;
        crowd.talk(2, number);
    });
    println!("crowd, in use: {:.1} datagrams ({} at most) and {:.0} bytes a minute", busy.mean, busy.most, busy.bytes);
    assert!(busy.most < 400 && crowd.most_indices() <= 16, "{} {}", busy.most, crowd.most_indices());
    let heard = crowd.edges().iter().filter(|edge| !crowd.world.numbers(edge).is_empty()).count();
    assert!(heard * 100 >= count / 2 * 99, "{heard} of {count} heard their friend");

    restart(&mut crowd);
}

/// Bytes that a worker's buffers take, which are a machine's own and not a peer's.
fn worker_bytes(crowd: &mut Crowd) -> usize {
    let hub = crowd.sites[0].0.clone();
    let host = crowd.world.host(&hub);
    let (table, drops) = (host.table(), host.node.drops());
    let published = Published::new(table);
    let before = ALLOCATOR.allocated();
    let worker = Worker::new(0, published, drops);
    let bytes = ALLOCATOR.allocated() - before;
    drop(worker);
    bytes
}

/// Stops the first hub with a goodbye and starts it two seconds later.
fn restart(crowd: &mut Crowd) {
    let hub = crowd.sites[0].0.clone();
    let now = crowd.world.now();
    crowd.world.host(&hub).node.handle_shutdown(now);
    crowd.world.step(&hub);
    crowd.world.kill(&hub);
    crowd.world.run_for(Duration::from_secs(2));
    let told = crowd.told[0].clone();
    crowd.world.start_with(&hub, &told);
    let sent =
        |crowd: &Crowd| -> u64 { crowd.sites[0].1.iter().map(|edge| crowd.world.load(edge).sent.datagrams).sum() };
    let (first, mut last, mut peak, mut back) = (sent(crowd), sent(crowd), 0, None);
    // All but those whose goodbye got lost: they learn by the next late answer that does not come.
    let most = EDGES * 98 / 100;
    for tenth in 1..=200u32 {
        crowd.world.run_for(Duration::from_millis(100));
        let total = sent(crowd);
        (peak, last) = (peak.max(total - last), total);
        if back.is_none() && crowd.connected(0) >= most {
            back = Some(tenth);
        }
    }
    println!(
        "crowd, a hub of {EDGES} restarts: {most} back after {} ms, {:.1} datagrams each in 20 s, {peak} in the worst tenth",
        back.map_or(0, |tenth| tenth * 100),
        (last - first) as f64 / EDGES as f64
    );
    assert!(back.is_some_and(|tenth| tenth <= 150), "{back:?}");
    assert!((last - first) / (EDGES as u64) < 60, "{} datagrams", last - first);
    assert!(peak < EDGES as u64 * 4, "{peak} in a tenth of a second");
    crowd.world.run_for(Duration::from_secs(110));
    assert_eq!(crowd.connected(0), EDGES);
}

#[test]
fn equal_seeds_give_equal_crowds_and_other_seeds_other_ones() {
    let first = day(5, 1);
    assert_eq!(first, day(5, 1));
    assert_ne!(first, day(6, 1));
}
