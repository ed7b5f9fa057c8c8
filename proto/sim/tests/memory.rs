//! What is held no longer than it is of use.

use std::sync::Arc;
use std::time::Duration;

use proto::member::Kind;
use sim::link::Link;
use sim::world::World;

#[test]
fn a_worker_that_goes_on_working_lets_go_of_the_keys_of_ended_sessions() {
    let mut world = World::new(401, Link::GOOD);
    let names: Vec<_> = (0..3).map(|n| world.add_endpoint(&format!("site.edge{n}"), Kind::Edge)).collect();
    world.add_community("all", &names);
    world.start_all();
    for number in 0..5 {
        world.send(&names[0], &names[1], number);
        world.run_for(Duration::from_secs(1));
    }
    let peer = world.peer(&names[0], &names[1]);
    let session = Arc::downgrade(&world.host(&names[0]).table().peer(peer).unwrap().session);
    assert!(session.upgrade().is_some());
    for number in 0..300 {
        world.send(&names[0], &names[2], number);
        world.run_for(Duration::from_secs(1));
    }
    assert!(session.upgrade().is_none());
}
