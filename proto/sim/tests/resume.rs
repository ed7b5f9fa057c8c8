//! A machine that slept, or whose network changed, does not wait for timers that began before.

use std::time::Duration;

use proto::id::EndpointName;
use proto::member::Kind;
use sim::link::Link;
use sim::nat::NatPlan;
use sim::network::{Interface, SiteId, SitePlan};
use sim::world::World;

/// Within which traffic flows again.
const BACK: Duration = Duration::from_secs(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A connector on the internet and an edge of its site behind a NAT, with a session that carried data.
fn shop(seed: u64) -> (World, EndpointName, EndpointName, SiteId) {
    let mut world = World::new(seed, Link::GOOD);
    world.keepalive = Some(seconds(120));
    let connector = world.add_endpoint("shop.connector", Kind::Connector);
    let site = world.add_site(SitePlan::behind(NatPlan::HOME));
    let home = Interface { site, address: ([192, 168, 1, 10], 6374).into() };
    let edge = world.add_endpoint_at("shop.edge", Kind::Edge, &[home]);
    world.start_all();
    world.send(&edge, &connector, 1);
    world.run_for(seconds(20));
    assert_eq!(world.numbers(&connector), [1]);
    (world, connector, edge, site)
}

#[test]
fn a_node_that_slept_is_reached_within_a_second_of_waking_however_long_it_slept() {
    for slept in [5, 30, 150, 200, 3600] {
        let (mut world, connector, edge, _) = shop(slept);
        world.suspend(&edge, seconds(slept));
        // The connector goes on trying, as applications do.
        for second in 0..slept {
            if second % 10 == 0 {
                world.send(&connector, &edge, 1000 + second);
            }
            world.run_for(seconds(1));
        }
        world.run_for(BACK);
        world.send(&connector, &edge, 2);
        world.send(&edge, &connector, 3);
        world.run_for(Duration::from_millis(10));
        assert!(world.numbers(&edge).contains(&2), "after {slept} s: to it");
        assert!(world.numbers(&connector).contains(&3), "after {slept} s: from it");
    }
}

#[test]
fn a_node_that_lost_its_way_for_minutes_is_back_within_a_second_of_being_plugged_in_elsewhere() {
    let (mut world, connector, edge, site) = shop(7);
    world.set_site_cut(site, true);
    world.run_for(seconds(600));
    let elsewhere = world.add_site(SitePlan::behind(NatPlan::HOME));
    world.replug(&edge, vec![Interface { site: elsewhere, address: ([10, 0, 0, 7], 6374).into() }]);
    world.run_for(BACK);
    world.send(&connector, &edge, 2);
    world.run_for(Duration::from_millis(10));
    assert_eq!(world.numbers(&edge), [2]);
}
