//! Nodes that nobody can dial learn how long their NATs remember, and keep the way to them open with no more than that needs.

use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use proto::peer::PeerState;
use sim::link::Link;
use sim::nat::{Behaviour, NatPlan};
use sim::network::{Interface, SiteId, SitePlan};
use sim::world::World;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A connector, and an edge of its site behind a NAT.
struct Shop {
    world: World,
    connector: EndpointName,
    edge: EndpointName,
    site: SiteId,
}

impl Shop {
    fn new(nat: NatPlan) -> Self {
        let mut world = World::new(1, Link::GOOD);
        world.keepalive = Some(seconds(120));
        let connector = world.add_endpoint("shop.connector", Kind::Connector);
        let site = world.add_site(SitePlan::behind(nat));
        let home = Interface { site, address: ([192, 168, 1, 10], 6374).into() };
        let edge = world.add_endpoint_at("shop.edge", Kind::Edge, &[home]);
        world.start_all();
        Self { world, connector, edge, site }
    }

    /// Datagrams that the edge sends in ten minutes, and in how many of their seconds nobody could get in to it.
    fn ten_minutes(&mut self) -> (u64, u32) {
        let before = self.world.load(&self.edge).sent.datagrams;
        let mut shut = 0;
        for _ in 0..600 {
            self.world.run_for(seconds(1));
            shut += u32::from(self.world.nat_entries(self.site) == 0);
        }
        (self.world.load(&self.edge).sent.datagrams - before, shut)
    }

    fn is_connected(&mut self) -> bool {
        let peer = self.world.peer(&self.connector, &self.edge);
        self.world.host(&self.connector).node.peer_status(peer).is_some_and(|peer| peer.state == PeerState::Connected)
    }
}

#[test]
fn the_way_in_stays_open_whatever_the_nat_remembers_and_costs_less_where_it_remembers_longer() {
    use Behaviour::{AddressAndPortDependent, EndpointIndependent};
    let mut costs = Vec::new();
    for lifetime in [20, 30, 60, 125, 300] {
        for behaviour in [EndpointIndependent, AddressAndPortDependent] {
            let nat =
                NatPlan { lifetime: seconds(lifetime), filtering: behaviour, mapping: behaviour, ..NatPlan::HOME };
            let mut shop = Shop::new(nat);
            // Until it has learnt, it errs on either side, for less than a step each time.
            let mut erred = 0;
            for _ in 0..3 {
                erred += shop.ten_minutes().1;
            }
            assert!(erred <= 40, "{lifetime} s: {erred} s");
            let (sent, shut) = shop.ten_minutes();
            assert_eq!(shut, 0, "{lifetime} s, {behaviour:?}");
            println!("{lifetime} s, {behaviour:?}: {sent} datagrams in ten minutes, {erred} s shut while learning");
            costs.push(sent);
        }
    }
    assert!(costs.windows(2).all(|pair| pair[1] <= pair[0] + 2), "{costs:?}");
    assert!(costs[9] * 2 < costs[0], "{costs:?}");
}

#[test]
fn in_another_network_it_begins_anew() {
    let mut shop = Shop::new(NatPlan { lifetime: seconds(300), ..NatPlan::HOME });
    shop.world.run_for(seconds(1800));
    let hasty = shop.world.add_site(SitePlan::behind(NatPlan { lifetime: seconds(18), ..NatPlan::HOME }));
    shop.world.replug(&shop.edge, vec![Interface { site: hasty, address: ([10, 0, 0, 7], 6374).into() }]);
    shop.site = hasty;
    shop.world.run_for(seconds(120));
    assert_eq!(shop.ten_minutes().1, 0);
}

#[test]
fn a_way_that_closes_early_is_opened_again_and_the_next_silence_is_shorter() {
    let mut shop = Shop::new(NatPlan { lifetime: seconds(300), ..NatPlan::HOME });
    shop.world.run_for(seconds(1800));
    let (before, _) = shop.ten_minutes();
    for _ in 0..4 {
        shop.world.flush_nat(shop.site);
        shop.world.run_for(seconds(95));
    }
    let (after, shut) = shop.ten_minutes();
    assert!(after > before && shut == 0, "{after} after {before}");
}

#[test]
fn a_connector_that_restarts_without_a_word_has_its_edge_back_within_the_longest_silence() {
    let mut shop = Shop::new(NatPlan { lifetime: seconds(300), ..NatPlan::HOME });
    shop.world.run_for(seconds(1800));
    assert!(shop.is_connected());
    let connector = shop.connector.clone();
    shop.world.start(&connector);
    shop.world.run_for(seconds(120));
    assert!(shop.is_connected());
}

#[test]
fn a_session_with_a_relay_lasts_as_long_as_another_goes_through_it() {
    let mut world = World::new(2, Link::GOOD);
    world.keepalive = Some(seconds(120));
    let names = ["a", "b"].map(|shop| {
        world.add_endpoint(&format!("{shop}.connector"), Kind::Connector);
        let site = world.add_site(SitePlan::behind(NatPlan { lifetime: seconds(60), ..NatPlan::SYMMETRIC }));
        let home = Interface { site, address: ([192, 168, 1, 10], 6374).into() };
        world.add_endpoint_at(&format!("{shop}.edge"), Kind::Edge, &[home])
    });
    world.add_community("both", &names);
    world.start_all();
    world.run_for(seconds(5));
    for (number, pause) in (0..).zip([50, 100, 150, 110, 20].repeat(4)) {
        world.send(&names[0], &names[1], number);
        world.run_for(Duration::from_millis(700));
        assert_eq!(world.numbers(&names[1]).len() as u64, number + 1, "the relay had forgotten them");
        world.run_for(seconds(pause));
    }
}
