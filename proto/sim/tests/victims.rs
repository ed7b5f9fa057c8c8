//! Members that name a victim's addresses as their own: what their peers send there is bounded, however often they do.

use std::net::SocketAddr;
use std::time::Duration;

use proto::id::EndpointName;
use proto::path::Origin;
use sim::link::Link;
use sim::world::World;

/// What one peer sends to places that a member only tells of: in the first minute 96 at once and two a second, in each after it two a
/// second. A scenario's minute may be a second longer.
const MOST: [usize; 2] = [218, 122];

fn victim(number: u8) -> SocketAddr {
    ([203, 0, 113, number], 53).into()
}

/// Twelve addresses of the victim, as many as one message has room for; other ones in every other list.
fn list(turn: u32) -> Vec<(Origin, SocketAddr)> {
    let first = if turn.is_multiple_of(2) { 0 } else { 12 };
    (first..first + 12)
        .map(|number| ([Origin::Mapped, Origin::Observed][usize::from(number % 2)], victim(number)))
        .collect()
}

/// Datagrams to the victim since entry `from` of the wire, and their bytes.
fn sent_to_the_victim(world: &World, from: usize) -> (usize, usize) {
    let is_victims = |to: &SocketAddr| to.port() == 53;
    let hits = world.wire[from..].iter().filter(|(_, _, to, _)| is_victims(to));
    hits.fold((0, 0), |(count, bytes), (.., datagram)| (count + 1, bytes + datagram.len()))
}

/// Three minutes in which `liar` does its worst ten times a second while the two talk; what the peer sent to the victim in each.
fn minutes(seed: u64, mut worst: impl FnMut(&mut World, &EndpointName, u32)) -> Vec<(usize, usize)> {
    let (mut world, names) = World::mesh(seed, Link::GOOD, 2);
    let (honest, liar) = (&names[0], &names[1]);
    world.send(honest, liar, 0);
    world.run_for(Duration::from_secs(1));
    let mut turn = 0;
    let mut minute = |world: &mut World| {
        let from = world.wire.len();
        for _ in 0..600 {
            turn += 1;
            worst(world, liar, turn);
            world.step(liar);
            world.send(honest, liar, u64::from(turn));
            world.run_for(Duration::from_millis(100));
        }
        sent_to_the_victim(world, from)
    };
    (0..3).map(|_| minute(&mut world)).collect()
}

fn assert_bounded(minutes: &[(usize, usize)]) {
    let most = [MOST[0], MOST[1], MOST[1]];
    for ((count, bytes), most) in minutes.iter().zip(most) {
        assert!(*count <= most, "{minutes:?}");
        assert!(*bytes <= most * 152, "{minutes:?}");
    }
}

#[test]
fn a_member_that_names_twelve_victims_has_each_probed_twelve_times() {
    let minutes = minutes(1, |world, liar, turn| {
        let now = world.now();
        if turn == 1 {
            world.host(liar).node.handle_outer(&list(0), now);
        }
    });
    // New keys begin with the addresses anew.
    assert_eq!(minutes[0].0, 12 * 12);
    assert_bounded(&minutes);
}

#[test]
fn a_member_that_names_victims_over_and_over_has_them_sent_a_bounded_number_of_datagrams() {
    assert_bounded(&minutes(2, |world, liar, turn| {
        let now = world.now();
        world.host(liar).node.handle_outer(&list(turn), now);
    }));
}

#[test]
fn a_member_that_ends_its_session_after_every_list_has_them_sent_no_more() {
    let minutes = minutes(3, |world, liar, turn| {
        let now = world.now();
        world.host(liar).node.handle_outer(&list(turn), now);
        if turn.is_multiple_of(5) {
            world.step(liar);
            world.run_for(Duration::from_millis(5));
            let now = world.now();
            world.host(liar).node.handle_shutdown(now);
        }
    });
    assert_bounded(&minutes);
}

#[test]
fn a_member_that_falls_silent_after_its_list_has_no_flood_of_handshakes_sent() {
    let minutes = minutes(4, |world, liar, turn| {
        let now = world.now();
        if turn == 1 {
            world.host(liar).node.handle_outer(&list(0), now);
            world.step(liar);
            world.run_for(Duration::from_millis(50));
        }
        world.host(liar).interfaces.clear();
    });
    assert_bounded(&minutes);
}
