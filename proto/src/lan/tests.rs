//! Claims about LAN discovery as a whole: who is believed, what changes nothing, what is bounded.

use super::*;
use crate::wire::BEACON_LEN;

const INTERVAL: Duration = Duration::from_secs(5);
const TTL: Duration = Duration::from_secs(20);
const WALL: WallTime = WallTime(1_700_000_000_000);
const ETH0: u32 = 2;
const MINUTE: u64 = 60_000;

fn lan_of(key: u8, mesh: &str, public_key: u8) -> Lan {
    let settings = Settings {
        key: BeaconKey::from_bytes([key; 32]),
        public_key: PublicKey([public_key; 32]),
        mesh: MeshId::from_name(mesh),
        port: 6374,
        interval: INTERVAL,
        ttl: TTL,
    };
    Lan::new(settings, Arc::default(), [public_key; 32], Instant::ORIGIN)
}

fn lan(public_key: u8) -> Lan {
    lan_of(7, "lab", public_key)
}

/// Source of a datagram of the node with this key.
fn source(public_key: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, public_key], 18080))
}

fn at(seconds: u64) -> Instant {
    Instant::ORIGIN + Duration::from_secs(seconds)
}

fn hear(lan: &mut Lan, datagram: &[u8], from: u8, now: Instant) -> Result<Option<Heard>, DropReason> {
    lan.handle_beacon(datagram, source(from), ETH0, now, WALL)
}

fn keys(lan: &Lan) -> Vec<u8> {
    lan.neighbours().map(|neighbour| neighbour.key.0[0]).collect()
}

/// An authentic beacon that says anything.
fn forge(beacon: &Beacon, salt: u8) -> Vec<u8> {
    BeaconKey::from_bytes([7; 32]).seal(beacon, [salt; 16]).unwrap()
}

fn plain(sender: [u8; 32], timestamp: u64) -> Beacon {
    let mesh = MeshId::from_name("lab");
    Beacon { mesh, sender: PublicKey(sender), timestamp, sequence: 0, port: 6374, addresses: Vec::new() }
}

#[test]
fn a_beacon_gives_the_address_that_it_came_from_with_the_port_that_it_names() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    alice.set_addresses(&["198.51.100.1:7000".parse().unwrap(), "[2001:db8::1]:7000".parse().unwrap()]);
    let heard = hear(&mut bob, &alice.beacon(WALL).unwrap(), 1, at(0)).unwrap().unwrap();
    let candidates: Vec<_> = heard.candidates.iter().map(ToString::to_string).collect();
    assert_eq!(candidates, ["192.0.2.1:6374", "198.51.100.1:7000", "[2001:db8::1]:7000"]);
    assert_eq!((heard.key, heard.interface), (PublicKey([1; 32]), ETH0));
    let found = LanEvent::Found { key: heard.key, address: heard.candidates[0], interface: ETH0 };
    assert_eq!((bob.poll_event(), bob.poll_event()), (Some(found), None));
    assert_eq!(hear(&mut bob, &alice.beacon(WALL).unwrap(), 1, at(1)), Ok(None), "no news");
}

#[test]
fn a_neighbour_on_two_interfaces_and_families_has_a_sighting_for_each() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    let link_local: SocketAddr = "[fe80::1]:18080".parse().unwrap();
    for (source, interface) in [(source(1), 2), (link_local, 2), (link_local, 3), (source(9), 3), (source(8), 3)] {
        let beacon = alice.beacon(WALL).unwrap();
        assert!(bob.handle_beacon(&beacon, source, interface, at(u64::from(interface)), WALL).unwrap().is_some());
    }
    let sightings: Vec<_> = bob.neighbours().flat_map(|n| n.sightings).map(|s| s.address.to_string()).collect();
    assert_eq!(sightings, ["192.0.2.8:6374", "[fe80::1%2]:6374", "[fe80::1%3]:6374", "192.0.2.9:6374"]);
    let found = std::iter::from_fn(|| bob.poll_event()).count();
    assert_eq!(found, 1, "one neighbour");
}

#[test]
fn strangers_other_meshes_and_this_node_itself_are_not_heard() {
    let mut bob = lan(2);
    for (mut other, why) in [
        (lan_of(8, "lab", 1), Err(DropReason::BeaconNotOpened)),
        (lan_of(7, "field", 1), Err(DropReason::BeaconOtherMesh)),
        (lan(2), Ok(None)),
    ] {
        assert_eq!(hear(&mut bob, &other.beacon(WALL).unwrap(), 1, at(0)), why);
    }
    assert_eq!(keys(&bob), []);
    assert_eq!(bob.drops.snapshot(), [(DropReason::BeaconNotOpened, 1), (DropReason::BeaconOtherMesh, 1)]);
}

#[test]
fn a_replay_changes_nothing_while_it_is_fresh_and_none_is_fresh_for_longer_than_it_is_remembered() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    // Alice's clock is ahead by as much as it may be.
    let recorded = alice.beacon(WallTime(WALL.0 + FRESHNESS)).unwrap();
    assert!(hear(&mut bob, &recorded, 1, at(0)).unwrap().is_some());
    for second in 1..3_000 {
        bob.handle_timeout(at(second));
        let wall = WallTime(WALL.0 + 1_000 * second);
        let why = bob.handle_beacon(&recorded, source(66), 9, at(second), wall).unwrap_err();
        assert!(matches!(why, DropReason::BeaconReplayed | DropReason::BeaconClock), "{second}: {why:?}");
        assert_eq!(bob.neighbours().count(), usize::from(second < TTL.as_secs()));
    }
    assert_eq!(std::iter::from_fn(|| bob.poll_event()).count(), 2, "found and lost once each");
}

#[test]
fn beacons_of_one_round_may_come_in_any_order_and_older_ones_count_no_more() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    let old = alice.beacon(WallTime(WALL.0 - 3_000)).unwrap();
    let round: Vec<_> = (0..4).map(|n| alice.beacon(WallTime(WALL.0 + n)).unwrap()).collect();
    for n in [3, 1, 0, 2] {
        let heard = bob.handle_beacon(&round[n], source(1), n as u32, at(0), WALL);
        assert!(heard.unwrap().is_some(), "{n}");
    }
    for datagram in round.iter().chain([&old]) {
        assert_eq!(hear(&mut bob, datagram, 1, at(10)), Err(DropReason::BeaconReplayed));
    }
}

#[test]
fn a_restarted_neighbour_is_heard_at_once_and_answered_soon() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    bob.handle_timeout(at(0) + HASTE);
    for _ in 0..3 {
        hear(&mut bob, &alice.beacon(WALL).unwrap(), 1, at(0)).unwrap();
    }
    let again = lan(1).beacon(WallTime(WALL.0 + 1_000)).unwrap();
    bob.next_round = at(100);
    assert!(hear(&mut bob, &again, 1, at(1)).unwrap().is_some());
    assert!(bob.poll_timeout() <= at(1) + HASTE);
    assert_eq!(std::iter::from_fn(|| bob.poll_event()).count(), 1, "it was there all the time");
}

#[test]
fn clocks_may_differ_by_ten_minutes_and_what_is_beyond_is_counted_as_that() {
    for (difference, is_heard) in [(0, true), (10 * MINUTE, true), (10 * MINUTE + 1, false), (WALL.0, false)] {
        for wall in [WALL.0 - difference, WALL.0 + difference] {
            let (mut alice, mut bob) = (lan(1), lan(2));
            let heard = hear(&mut bob, &alice.beacon(WallTime(wall)).unwrap(), 1, at(0));
            assert_eq!(heard.is_ok(), is_heard, "{difference}");
            assert_eq!(bob.drops.get(DropReason::BeaconClock), u64::from(!is_heard));
        }
    }
}

#[test]
fn a_clock_that_is_set_back_does_not_silence_its_node() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    hear(&mut bob, &alice.beacon(WallTime(WALL.0 + 5 * MINUTE)).unwrap(), 1, at(0)).unwrap();
    assert_eq!(hear(&mut bob, &alice.beacon(WALL).unwrap(), 1, at(1)), Ok(None));
    let (mut carol, mut dave) = (lan(3), lan(4));
    let wrong = carol.beacon(WallTime(WALL.0 + 365 * 24 * 60 * MINUTE)).unwrap();
    assert_eq!(hear(&mut dave, &wrong, 3, at(0)), Err(DropReason::BeaconClock));
    assert!(hear(&mut dave, &carol.beacon(WALL).unwrap(), 3, at(1)).unwrap().is_some());
}

#[test]
fn who_holds_the_token_cannot_name_addresses_of_no_machine() {
    let mut bob = lan(2);
    let useless = ["127.0.0.1:1", "0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "192.0.2.3:0", "[fe80::1]:1"];
    let addresses = useless.iter().map(|text| text.parse().unwrap()).collect();
    let heard = hear(&mut bob, &forge(&Beacon { addresses, ..plain([1; 32], WALL.0) }, 1), 1, at(0)).unwrap();
    assert_eq!(heard.unwrap().candidates, ["192.0.2.1:6374".parse().unwrap()]);
    let doubled = ["198.51.100.1:1", "198.51.100.1:1", "192.0.2.1:6374"].map(|text| text.parse().unwrap());
    let beacon = Beacon { addresses: doubled.to_vec(), ..plain([1; 32], WALL.0 + 1) };
    let heard = hear(&mut bob, &forge(&beacon, 2), 1, at(0)).unwrap().unwrap();
    assert_eq!(heard.candidates.len(), 2);
    let beacon = forge(&plain([3; 32], WALL.0), 3);
    for source in ["127.0.0.1:18080", "[ff02::1]:18080", "0.0.0.0:18080"] {
        let heard = bob.handle_beacon(&beacon, source.parse().unwrap(), ETH0, at(0), WALL);
        assert_eq!(heard, Err(DropReason::BeaconMalformed), "{source}");
    }
    assert_eq!(
        hear(&mut bob, &forge(&Beacon { port: 0, ..plain([3; 32], WALL.0) }, 4), 1, at(0)),
        Err(DropReason::BeaconMalformed)
    );
    assert_eq!(keys(&bob), [1]);
}

#[test]
fn a_flood_costs_a_bounded_number_of_openings() {
    let mut bob = lan(2);
    let mut garbage = vec![0; BEACON_LEN];
    garbage[..2].copy_from_slice(&[6, 1]);
    let opened = |bob: &Lan| bob.drops.get(DropReason::BeaconNotOpened);
    for _ in 0..10_000 {
        let _ = hear(&mut bob, &garbage, 1, at(0));
    }
    assert_eq!(opened(&bob), 8, "one source");
    let mut alice = lan(3);
    assert!(hear(&mut bob, &alice.beacon(WALL).unwrap(), 3, at(0)).unwrap().is_some(), "another is not kept out");
    for n in 0..100_000u32 {
        let source = SocketAddr::from((std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(n)), 18080));
        let _ = bob.handle_beacon(&garbage, source, ETH0, at(0), WALL);
    }
    assert_eq!(opened(&bob), u64::from(TOTAL_RATE.burst) - 1, "every source together");
    for _ in 0..10_000 {
        let _ = hear(&mut bob, &garbage[1..], 5, at(1));
    }
    assert_eq!(bob.drops.get(DropReason::BeaconMalformed), 10_000);
    assert!(hear(&mut bob, &alice.beacon(WALL).unwrap(), 5, at(1)).is_ok(), "what is refused by its size has no price");
}

#[test]
fn state_is_bounded_and_believed_neighbours_stay() {
    let mut bob = lan(2);
    let mut now = at(0);
    let from = |n: u16, now: Instant, bob: &mut Lan| {
        let mut key = [0xee; 32];
        key[..2].copy_from_slice(&n.to_be_bytes());
        let source = SocketAddr::from(([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]], 18080));
        bob.handle_beacon(&forge(&plain(key, WALL.0), 1), source, ETH0, now, WALL)
    };
    for n in 0..MAX_NEIGHBOURS as u16 {
        assert!(from(n, now, &mut bob).unwrap().is_some());
    }
    now = now + TTL / 2;
    for n in 300..1300 {
        now = now + Duration::from_millis(5);
        assert_eq!(from(n, now, &mut bob), Err(DropReason::BeaconNeighboursFull));
    }
    assert_eq!(bob.neighbours().count(), MAX_NEIGHBOURS);
    bob.handle_timeout(at(0) + TTL);
    assert_eq!(std::iter::from_fn(|| bob.poll_event()).count(), MAX_EVENTS);
    assert!(from(300, at(0) + TTL, &mut bob).unwrap().is_some(), "silent ones give way");
    assert_eq!(bob.neighbours.iter().count(), 1);
}

#[test]
fn two_nodes_know_each_other_within_one_exchange() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    // Bob has been up and alone for a while; his next round is seconds away.
    let mut now = bob.poll_timeout();
    bob.handle_timeout(now);
    assert!(bob.poll_round() && !bob.poll_round());
    now = now + Duration::from_secs(1);
    assert!(bob.poll_timeout() > now + Duration::from_secs(2));
    hear(&mut bob, &alice.beacon(WALL).unwrap(), 1, now).unwrap();
    let answer = bob.poll_timeout();
    assert!(answer <= now + HASTE);
    bob.handle_timeout(answer);
    assert!(bob.poll_round());
    hear(&mut alice, &bob.beacon(WALL).unwrap(), 2, answer).unwrap();
    assert_eq!((keys(&alice), keys(&bob)), (vec![2], vec![1]));
}

#[test]
fn many_new_neighbours_do_not_make_a_node_chatter() {
    let (mut bob, mut rounds) = (lan(2), 0);
    for millis in 0..10_000 {
        let now = Instant::from_nanos(millis * 1_000_000);
        if millis % 50 == 0 {
            let number = (millis / 50) as u8;
            let key = [number; 32];
            let _ = hear(&mut bob, &forge(&plain(key, WALL.0), 1), number, now);
        }
        bob.handle_timeout(now);
        rounds += u32::from(bob.poll_round());
    }
    assert!((10..=20).contains(&rounds), "{rounds} in ten seconds");
}

#[test]
fn rounds_are_spread_and_never_later_than_the_interval() {
    let mut bob = lan(2);
    let mut times = Vec::new();
    for _ in 0..100 {
        let due = bob.poll_timeout();
        bob.handle_timeout(Instant::from_nanos(due.as_nanos() - 1));
        assert!(!bob.poll_round(), "an early call does nothing");
        bob.handle_timeout(due);
        assert!(bob.poll_round());
        times.push(due);
    }
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (INTERVAL * 4 / 5..=INTERVAL).contains(gap)));
    assert!(gaps.iter().max() > gaps.iter().min());
}

#[test]
fn a_neighbour_is_lost_after_its_time_to_live_which_is_two_intervals_at_least() {
    let (mut alice, mut bob) = (lan(1), lan(2));
    let mut hasty = Lan::new(Settings { ttl: INTERVAL, ..lan(3).settings }, Arc::default(), [3; 32], at(0));
    for (lan, ttl) in [(&mut bob, TTL), (&mut hasty, 2 * INTERVAL)] {
        lan.next_round = at(1000);
        hear(lan, &alice.beacon(WALL).unwrap(), 1, at(1)).unwrap();
        lan.next_round = at(1000);
        assert_eq!(lan.poll_timeout(), at(1) + ttl);
        lan.handle_timeout(at(1) + (ttl - Duration::from_nanos(1)));
        assert_eq!(keys(lan), [1]);
        lan.handle_timeout(at(1) + ttl);
        assert_eq!(keys(lan), []);
        let lost = std::iter::from_fn(|| lan.poll_event()).last();
        assert_eq!(lost, Some(LanEvent::Lost { key: PublicKey([1; 32]) }));
        assert!(hear(lan, &alice.beacon(WALL).unwrap(), 1, at(100)).unwrap().is_some(), "it is back");
    }
}

#[test]
fn equal_seeds_give_equal_beacons() {
    let (mut one, mut two) = (lan(1), lan(1));
    assert_eq!(one.beacon(WALL), two.beacon(WALL));
    assert_ne!(one.beacon(WALL), two.beacon(WallTime(WALL.0 + 1)));
}
