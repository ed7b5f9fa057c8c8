//! The agent against networks of its own: each candidate has a delay, a loss and a time when it works.

use std::collections::BTreeMap;
use std::time::Duration;

use super::agent::{Change, PathState, Paths};
use super::{Channel, Locator, Origin};
use crate::allowance::Allowance;
use crate::stats::Stamps;
use crate::time::Instant;

const START: Instant = Instant::from_nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);

fn direct(host: u8) -> Locator {
    Locator::from(std::net::SocketAddr::from(([192, 0, 2, host], 6374)))
}

fn relay(channel: u32) -> Locator {
    Locator { channel: Some(Channel(channel)), ..direct(200) }
}

/// What the network does on the way to one place and back.
#[derive(Clone, Copy)]
struct Wire {
    rtt: Duration,
    /// Of a hundred round trips, so many get lost.
    loss: u32,
    is_up: bool,
}

struct Network {
    paths: Paths,
    allowance: Allowance,
    wires: BTreeMap<Locator, Wire>,
    now: Instant,
    in_flight: Vec<(Instant, Locator, u64)>,
    tokens: u64,
    random: u32,
    changes: Vec<(Duration, Change)>,
    probes: BTreeMap<Locator, u32>,
    in_use: bool,
    heard: u64,
}

impl Network {
    fn new(wires: &[(Locator, u64)]) -> Self {
        let wire = |ms: u64| Wire { rtt: MS * u32::try_from(ms).unwrap(), loss: 0, is_up: true };
        Self {
            paths: Paths::default(),
            allowance: Allowance::default(),
            wires: wires.iter().map(|(locator, ms)| (*locator, wire(*ms))).collect(),
            now: START,
            in_flight: Vec::new(),
            tokens: 0,
            random: 7,
            changes: Vec::new(),
            probes: BTreeMap::new(),
            in_use: true,
            heard: 0,
        }
    }

    fn wire(&mut self, locator: Locator) -> &mut Wire {
        self.wires.get_mut(&locator).unwrap()
    }

    fn is_lost(&mut self, loss: u32) -> bool {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 16) % 100 < loss
    }

    /// Runs for some time; returns the changes in it, with the time since its beginning.
    fn run(&mut self, time: Duration) -> Vec<(Duration, Change)> {
        let (start, end) = (self.now, self.now + time);
        self.changes.clear();
        let mut used_at = self.now;
        while self.now < end {
            if self.in_use && used_at <= self.now {
                self.talk();
                used_at = self.now + MS * 250;
            }
            let due: Vec<_> = self.in_flight.extract_if(.., |(at, ..)| *at <= self.now).collect();
            for (_, locator, token) in due {
                // As the node does: an answer is a sign of life of the path that it came by.
                if self.paths.active() == Some(locator) {
                    self.heard = self.now.as_millis();
                }
                self.paths.heard(locator, self.now);
                self.paths.answered(locator, token, self.now);
            }
            while let Some(locator) = self.paths.poll_probe(&mut self.allowance, self.now) {
                self.probe(locator);
            }
            if let Some(change) = self.paths.review(self.now) {
                self.changes.push((self.now - start, change));
            }
            let next = self.paths.next_at(self.now).into_iter().chain(self.in_flight.iter().map(|(at, ..)| *at)).min();
            let step = if self.in_use { used_at } else { end };
            self.now = next.unwrap_or(step).min(step).min(end).max(self.now + Duration::from_micros(100));
        }
        std::mem::take(&mut self.changes)
    }

    /// Data goes out, and where the active path works, something comes back.
    fn talk(&mut self) {
        let wire = self.paths.active().and_then(|active| self.wires.get(&active).copied());
        if wire.is_some_and(|wire| wire.is_up && !self.is_lost(wire.loss)) {
            self.heard = self.now.as_millis();
        }
        let (tx, rx) = (self.now.as_millis(), self.heard);
        self.paths.note(Stamps { rx_any: rx, rx_data: rx, tx_any: tx, tx_data: tx }, self.now);
    }

    fn probe(&mut self, locator: Locator) {
        self.tokens += 1;
        *self.probes.entry(locator).or_default() += 1;
        self.paths.sent(locator, self.tokens, self.now);
        let Some(wire) = self.wires.get(&locator).copied() else { return };
        if wire.is_up && !self.is_lost(wire.loss) {
            self.in_flight.push((self.now + wire.rtt, locator, self.tokens));
        }
    }

    fn state(&self, locator: Locator) -> PathState {
        self.paths.status(self.now).iter().find(|path| path.locator == locator).unwrap().state
    }
}

#[test]
fn the_data_leaves_the_relay_for_a_direct_path_after_three_answers() {
    let mut network = Network::new(&[(relay(1), 60), (direct(1), 40)]);
    network.paths.adopt(relay(1), Origin::Relay, START);
    network.paths.add(direct(1), Origin::Observed, START);
    let changes = network.run(Duration::from_secs(2));
    assert!(matches!(changes[..], [(at, Change::Active(to))] if to == direct(1) && at < 200 * MS), "{changes:?}");
    assert_eq!(network.state(relay(1)), PathState::Standby);
    assert_eq!(network.run(Duration::from_secs(60)), []);
}

#[test]
fn a_candidate_that_never_answers_gets_a_bounded_number_of_probes() {
    let mut network = Network::new(&[(direct(1), 20)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    network.paths.add(direct(66), Origin::Interface, START);
    network.run(Duration::from_secs(600));
    assert_eq!(network.probes[&direct(66)], 12);
    assert_eq!(network.state(direct(66)), PathState::Silent);
}

#[test]
fn a_dead_path_is_left_within_three_seconds_for_one_that_works() {
    for offset in 0..40 {
        let mut network = Network::new(&[(direct(1), 30), (relay(1), 80)]);
        network.paths.adopt(direct(1), Origin::Public, START);
        network.paths.add(relay(1), Origin::Relay, START);
        network.run(Duration::from_secs(12) + MS * 77 * offset);
        network.wire(direct(1)).is_up = false;
        let changes = network.run(Duration::from_secs(5));
        let [(at, Change::Active(to)), ..] = changes[..] else { panic!("{changes:?}") };
        assert!(to == relay(1) && at < Duration::from_secs(3), "{offset}: {changes:?}");
        network.wire(direct(1)).is_up = true;
        let changes = network.run(Duration::from_secs(90));
        assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(1)), "back again: {changes:?}");
    }
}

/// TCP sends again 1.4 s after the first loss, and then not before 3 s.
#[test]
fn a_path_that_lost_nothing_before_is_left_before_tcp_sends_for_the_fourth_time() {
    for offset in [0, 70, 140, 210] {
        let mut network = Network::new(&[(relay(1), 2), (direct(1), 2)]);
        network.paths.adopt(relay(1), Origin::Relay, START);
        network.paths.add(direct(1), Origin::Observed, START);
        network.run(Duration::from_secs(25) + MS * offset);
        network.wire(direct(1)).is_up = false;
        let changes = network.run(Duration::from_secs(5));
        let [(at, Change::Active(to))] = changes[..] else { panic!("{changes:?}") };
        assert!(to == relay(1) && at < 1_400 * MS, "{offset}: {at:?}");
    }
}

#[test]
fn the_only_path_is_told_dead_within_three_seconds_and_is_found_again_when_it_works() {
    let mut network = Network::new(&[(direct(1), 30)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    network.run(Duration::from_secs(20));
    network.wire(direct(1)).is_up = false;
    let changes = network.run(Duration::from_secs(6));
    assert!(matches!(changes[..], [(at, Change::Dead)] if at <= Duration::from_millis(3_100)), "{changes:?}");
    network.wire(direct(1)).is_up = true;
    let changes = network.run(Duration::from_secs(3));
    assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(1)), "{changes:?}");
}

#[test]
fn one_lost_packet_or_twenty_percent_of_them_move_nothing() {
    let mut moved = 0;
    for seed in 0..10 {
        let mut network = Network::new(&[(direct(1), 600), (direct(2), 640)]);
        network.random = seed;
        for host in [1, 2] {
            network.wire(direct(host)).loss = 36;
        }
        network.paths.adopt(direct(1), Origin::Public, START);
        network.paths.add(direct(2), Origin::Observed, START);
        let changes = network.run(Duration::from_secs(120));
        assert!(changes.iter().all(|(_, change)| *change != Change::Dead), "{changes:?}");
        moved += changes.len();
    }
    assert!(moved <= 20, "at most twice in two minutes on average: {moved}");
}

#[test]
fn between_two_alike_the_data_stays_and_a_much_better_one_wins() {
    let mut network = Network::new(&[(direct(1), 50), (direct(2), 46)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    network.paths.add(direct(2), Origin::Observed, START);
    assert_eq!(network.run(Duration::from_secs(60)), []);
    network.wire(direct(2)).rtt = 20 * MS;
    let changes = network.run(Duration::from_secs(120));
    assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(2)), "{changes:?}");
}

#[test]
fn a_lan_is_preferred_even_where_it_is_slower() {
    let mut network = Network::new(&[(direct(1), 5), (direct(2), 9)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    network.paths.add(direct(2), Origin::Lan, START);
    let changes = network.run(Duration::from_secs(3));
    assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(2)), "{changes:?}");
}

#[test]
fn a_private_address_that_answers_is_preferred_to_the_way_over_the_outside_unless_it_is_much_slower() {
    let inside = Locator::from(std::net::SocketAddr::from(([192, 168, 1, 7], 6374)));
    for (rtt, is_taken) in [(3, true), (40, false)] {
        let mut network = Network::new(&[(direct(1), 2), (inside, rtt)]);
        network.paths.adopt(direct(1), Origin::Seen, START);
        network.paths.add(inside, Origin::Interface, START);
        let changes = network.run(Duration::from_secs(60));
        let moves = [Change::Active(inside)];
        let expected: &[Change] = if is_taken { &moves } else { &[] };
        assert_eq!(changes.iter().map(|(_, change)| *change).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_candidate_that_is_heard_from_is_probed_at_once_and_a_path_that_works_is_not() {
    let mut network = Network::new(&[(relay(1), 30), (direct(1), 30)]);
    network.wire(direct(1)).is_up = false;
    network.paths.adopt(relay(1), Origin::Relay, START);
    network.paths.add(direct(1), Origin::Observed, START);
    network.run(MS * 300);
    network.wire(direct(1)).is_up = true;
    network.paths.heard(direct(1), network.now);
    let changes = network.run(MS * 200);
    assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(1)), "{changes:?}");
    let before = network.tokens;
    for _ in 0..100 {
        network.paths.heard(direct(1), network.now);
        network.paths.heard(relay(1), network.now);
        network.run(MS);
    }
    assert_eq!(network.tokens, before);
}

#[test]
fn a_peer_that_moved_is_followed_at_once_and_one_that_only_prefers_another_path_is_not() {
    for is_gone in [true, false] {
        let mut network = Network::new(&[(direct(1), 30), (direct(2), 30)]);
        network.paths.adopt(direct(1), Origin::Public, START);
        network.run(Duration::from_secs(20));
        network.wire(direct(1)).is_up = !is_gone;
        network.paths.roamed(direct(2), Origin::Seen, network.now);
        let changes = network.run(Duration::from_secs(5));
        if is_gone {
            assert!(
                matches!(changes[..], [(at, Change::Active(to))] if to == direct(2) && at < 250 * MS),
                "{changes:?}"
            );
        } else {
            assert_eq!(changes, []);
        }
    }
}

#[test]
fn a_peer_that_sends_by_two_ways_in_turn_moves_nothing_while_both_work() {
    for rtts in [(30, 28), (30, 5), (2, 1), (600, 560)] {
        let mut network = Network::new(&[(direct(1), rtts.0), (direct(2), rtts.1), (relay(1), 90)]);
        network.paths.adopt(direct(1), Origin::Public, START);
        // One that is better by so much that it would win by that alone is not meant here.
        network.wire(direct(2)).is_up = rtts != (30, 5);
        network.paths.add(direct(2), Origin::Seen, START);
        network.run(Duration::from_secs(20));
        network.wire(direct(2)).is_up = true;
        let mut changes = Vec::new();
        for locator in [direct(2), direct(1)].into_iter().cycle().take(40) {
            if network.paths.active() != Some(locator) {
                network.paths.roamed(locator, Origin::Seen, network.now);
            }
            changes.extend(network.run(MS * 150));
        }
        let most = if rtts == (30, 5) { 1 } else { 0 };
        assert!(changes.len() <= most, "{rtts:?}: {changes:?}");
    }
}

#[test]
fn a_peer_that_names_a_victim_again_and_again_has_it_sent_a_bounded_number_of_probes() {
    let victim = |number: u8| direct(100 + number);
    let mut network = Network::new(&[(direct(1), 20)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    for minute in 0..3 {
        network.probes.clear();
        for list in 0..600_u32 {
            // In turns, so that each comes as one that was not known.
            network.paths.retain(Origin::Observed, |_| false);
            let first = if list.is_multiple_of(2) { 0 } else { 6 };
            for number in first..first + 6 {
                network.paths.add(victim(number), Origin::Observed, network.now);
            }
            network.paths.restart_silent(network.now);
            network.run(MS * 100);
        }
        let sent: u32 = (0..12).filter_map(|number| network.probes.get(&victim(number))).sum();
        assert!(sent <= if minute == 0 { 216 } else { 120 }, "{sent} in minute {minute}");
        assert!(sent >= 100, "{sent}: those who are there are found");
    }
    assert!(network.probes[&direct(1)] < 60 && network.state(direct(1)) == PathState::Active);
}

#[test]
fn a_lost_peer_that_is_heard_again_is_found_at_once() {
    let mut network = Network::new(&[(direct(1), 30)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    network.run(Duration::from_secs(20));
    network.wire(direct(1)).is_up = false;
    network.run(Duration::from_secs(60));
    assert_eq!(network.paths.active(), None);
    network.wire(direct(1)).is_up = true;
    // The session lives, and the peer sends on it.
    network.heard = network.now.as_millis() + 1;
    let changes = network.run(Duration::from_millis(700));
    assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(1)), "{changes:?}");
}

#[test]
fn without_traffic_nothing_is_sent() {
    let mut network = Network::new(&[(direct(1), 30), (relay(1), 80)]);
    network.paths.adopt(direct(1), Origin::Public, START);
    network.paths.add(relay(1), Origin::Relay, START);
    network.run(Duration::from_secs(30));
    network.in_use = false;
    network.run(Duration::from_secs(15));
    let before = network.tokens;
    assert_eq!(network.run(Duration::from_secs(600)), []);
    assert_eq!(network.tokens, before);
    network.in_use = true;
    network.wire(direct(1)).is_up = false;
    let changes = network.run(Duration::from_secs(4));
    assert!(
        matches!(changes[..], [(at, Change::Active(to)), ..] if to == relay(1) && at < Duration::from_secs(3)),
        "{changes:?}"
    );
}

#[test]
fn answers_from_elsewhere_and_to_no_probe_prove_nothing() {
    let mut paths = Paths::default();
    paths.add(direct(1), Origin::Public, START);
    paths.sent(direct(1), 77, START);
    assert_eq!(paths.answered(direct(2), 77, START), None);
    assert_eq!(paths.answered(relay(1), 77, START), None);
    assert_eq!(paths.answered(direct(1), 78, START), None);
    assert_eq!(paths.answered(direct(1), 77, START + 5 * MS), Some(5 * MS));
    assert_eq!(paths.answered(direct(1), 77, START + 6 * MS), None, "one answer for each");
}

#[test]
fn candidates_are_bounded_and_the_oldest_failure_makes_room() {
    let mut paths = Paths::default();
    for host in 0..100 {
        paths.add(direct(host), Origin::Interface, START);
    }
    assert_eq!(paths.status(START).len(), 6);
    for (token, host) in (0..).zip(0..6) {
        paths.sent(direct(host), token, START);
    }
    paths.add(direct(50), Origin::Interface, START + MS);
    assert!(paths.knows(direct(50)) && paths.status(START).len() == 6);
    for (host, origin) in (100..).zip([Origin::Public, Origin::Observed, Origin::Seen].into_iter().cycle()).take(40) {
        paths.add(direct(host), origin, START);
    }
    assert!(paths.status(START).len() <= 16);
}

#[test]
fn who_asks_for_a_peer_behind_a_relay_has_the_silent_candidates_tried_again_and_not_too_often() {
    let mut network = Network::new(&[(relay(1), 60), (direct(1), 40)]);
    network.in_use = false;
    network.wire(direct(1)).is_up = false;
    network.paths.adopt(relay(1), Origin::Relay, START);
    network.paths.add(direct(1), Origin::Observed, START);
    network.run(Duration::from_secs(20));
    let before = network.probes[&direct(1)];
    assert!(network.paths.want(network.now), "the first time");
    assert!(!network.paths.want(network.now), "at once again");
    network.wire(direct(1)).is_up = true;
    let changes = network.run(Duration::from_secs(3));
    assert!(matches!(changes[..], [(_, Change::Active(to))] if to == direct(1)), "{changes:?}");
    assert!(!network.paths.want(network.now + Duration::from_secs(30)), "it is direct");
    let now = network.now;
    let status = network.paths.status(now);
    let direct_path = status.iter().find(|path| path.locator == direct(1)).unwrap();
    assert_eq!(direct_path.probes, network.probes[&direct(1)]);
    assert!(direct_path.probes > before && direct_path.answered_at > Some(START));
}
