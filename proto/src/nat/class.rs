//! What the NAT before this node does to its ports, told from where several members see the node's one socket.
//!
//! IPv4 only, where NATs are: each observer is another destination, and so another mapping where mappings depend on destinations
//! (RFC 4787 §4.1). Destinations are numbered in the order in which they were first sent to, for that is the order in which a
//! NAT with a counter gave out ports.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroI16;
use std::time::Duration;

use crate::time::Instant;

/// Observers at different addresses that a verdict takes: of two, a NAT that keeps ports where it can may be seen alike by chance.
const LEAST_OBSERVERS: usize = 3;

/// Observers that are remembered; the one that is heard of least recently is forgotten for a new one.
const MAX_OBSERVERS: usize = 16;

/// Destinations that keep their numbers; the first is forgotten for a new one, and counts as new when it is met again.
const MAX_DESTINATIONS: usize = 512;

/// A verdict is made of sightings this close to the newest: older ones may be of a mapping that is no more. Sessions are renewed,
/// and their paths probed, about as often.
const TOGETHER: Duration = Duration::from_secs(130);

/// Widest step between the ports of two mappings in a row that is taken for a counter's.
const MAX_STEP: i32 = 8;

/// So many ports further may a counter be because other hosts behind the same NAT use it too.
const OTHERS: i32 = 32;

/// What a NAT does to the ports of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatClass {
    /// There is none: others see an address of the machine itself.
    Open,
    /// The same port for all destinations (RFC 4787 §4.1).
    EndpointIndependent,
    /// Another port for each destination, this much after the one before.
    Sequential(NonZeroI16),
    /// Another port for each destination, and nobody can tell which.
    Random,
}

impl NatClass {
    /// Its name in status output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::EndpointIndependent => "endpoint-independent",
            Self::Sequential(_) => "sequential",
            Self::Random => "random",
        }
    }
}

/// Where the next mappings of a NAT with a counter will be: `first`, and from there every `step` ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// The outer address of the mapping that the next new destination gets.
    pub first: SocketAddr,
    /// From one mapping to the next.
    pub step: NonZeroI16,
}

impl Forecast {
    /// The outer addresses of mappings, from the next on, every `stride`-th; those below 1024, which NATs do not give out, are
    /// left out.
    pub(crate) fn addresses(self, stride: u16) -> impl Iterator<Item = SocketAddr> {
        let step = i64::from(self.step.get()) * i64::from(stride);
        let port = move |number: i64| (i64::from(self.first.port()) + number * step).rem_euclid(1 << 16);
        // Whoever told the step may have chosen one that leads nowhere.
        let ports = (0..1 << 16).map(port).filter_map(|port| u16::try_from(port).ok());
        ports.filter(|port| *port >= 1024).map(move |port| SocketAddr::new(self.first.ip(), port))
    }
}

/// Who sees this node where, and in which order it sent to whom.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// The newest of each observer, the oldest news first.
    seen: Vec<Sighting>,
    /// Numbers of destinations, from 1 in the order of the first datagrams to them.
    destinations: BTreeMap<SocketAddr, u32>,
    /// The number of the last destination.
    last: u32,
    class: Option<NatClass>,
}

#[derive(Clone, Copy, Debug)]
struct Sighting {
    observer: IpAddr,
    address: SocketAddr,
    /// The observer's number as a destination.
    number: u32,
    at: Instant,
}

impl Sightings {
    /// A datagram goes out.
    pub(crate) fn note_sent(&mut self, destination: SocketAddr) {
        if !is_natted(destination) || self.destinations.contains_key(&destination) {
            return;
        }
        if self.destinations.len() >= MAX_DESTINATIONS
            && let Some(first) = self.destinations.iter().min_by_key(|(_, number)| **number).map(|(known, _)| *known)
        {
            self.destinations.remove(&first);
        }
        self.last = self.last.saturating_add(1);
        self.destinations.insert(destination, self.last);
    }

    /// A member, at `observer`, says that what it got from this node came from `address`; `local` are the machine's own addresses.
    pub(crate) fn note_seen(&mut self, observer: SocketAddr, address: SocketAddr, local: &[IpAddr], now: Instant) {
        let Some(number) = self.destinations.get(&observer).copied().filter(|_| is_natted(address)) else { return };
        self.seen.retain(|known| known.observer != observer.ip());
        if self.seen.len() >= MAX_OBSERVERS {
            self.seen.remove(0);
        }
        self.seen.push(Sighting { observer: observer.ip(), address, number, at: now });
        let together: Vec<Sighting> = self.seen.iter().filter(|seen| now - seen.at < TOGETHER).copied().collect();
        if together.len() >= LEAST_OBSERVERS {
            self.class = Some(classify(together, local));
        }
    }

    /// The machine has other addresses: it may be behind another NAT.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The verdict; `None` before three members have seen this node.
    pub(crate) const fn class(&self) -> Option<NatClass> {
        self.class
    }

    /// Where this node is seen by everybody, if it is seen alike.
    pub(crate) fn kept(&self) -> Option<SocketAddr> {
        let is_kept = matches!(self.class, Some(NatClass::Open | NatClass::EndpointIndependent));
        self.seen.last().filter(|_| is_kept).map(|seen| seen.address)
    }

    /// Where it was seen last, if its next port is anybody's guess.
    pub(crate) fn random(&self) -> Option<SocketAddr> {
        self.seen.last().filter(|_| self.class == Some(NatClass::Random)).map(|seen| seen.address)
    }

    /// Where the next mappings will be, if there is a counter.
    pub(crate) fn forecast(&self) -> Option<Forecast> {
        let Some(NatClass::Sequential(step)) = self.class else { return None };
        let newest = self.seen.iter().max_by_key(|seen| seen.number)?;
        let ahead = i64::from(self.last - newest.number) + 1;
        let port = (i64::from(newest.address.port()) + ahead * i64::from(step.get())).rem_euclid(1 << 16);
        let first = SocketAddr::new(newest.address.ip(), u16::try_from(port).ok().filter(|port| *port != 0)?);
        Some(Forecast { first, step })
    }
}

fn is_natted(address: SocketAddr) -> bool {
    address.is_ipv4() && !address.ip().is_loopback()
}

fn classify(mut seen: Vec<Sighting>, local: &[IpAddr]) -> NatClass {
    if seen.iter().all(|seen| local.contains(&seen.address.ip())) {
        return NatClass::Open;
    }
    let is_like = |pair: &[Sighting]| matches!(pair, [one, other] if one.address == other.address);
    if seen.windows(2).all(is_like) {
        return NatClass::EndpointIndependent;
    }
    seen.sort_unstable_by_key(|seen| seen.number);
    step(&seen).map_or(NatClass::Random, NatClass::Sequential)
}

/// The step of the counter that gave out these ports, in the order of their numbers; `None` if that was none.
fn step(seen: &[Sighting]) -> Option<NonZeroI16> {
    let (mut of_ports, mut of_numbers, mut direction) = (0, 0, 0);
    for pair in seen.windows(2) {
        let [one, other] = pair else { return None };
        let ports = i32::from(other.address.port()) - i32::from(one.address.port());
        let numbers = i32::try_from(other.number - one.number).ok()?;
        let is_near = ports.abs() <= numbers.saturating_mul(MAX_STEP).saturating_add(OTHERS);
        let turns = direction != 0 && direction != ports.signum();
        if one.address.ip() != other.address.ip() || ports == 0 || !is_near || turns {
            return None;
        }
        direction = ports.signum();
        (of_ports, of_numbers) = (gcd(of_ports, ports.abs()), gcd(of_numbers, numbers));
    }
    // Exact where nobody else uses the counter; where others do, ports skip, and the step is what they have in common.
    let step = (of_ports / of_numbers.max(1)).max(1);
    if step > MAX_STEP { None } else { NonZeroI16::new(i16::try_from(direction * step).ok()?) }
}

const fn gcd(one: i32, other: i32) -> i32 {
    if other == 0 { one } else { gcd(other, one % other) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
    const OUTER: [u8; 4] = [198, 51, 100, 7];
    const LOCAL: [IpAddr; 1] = [IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 10))];

    fn member(number: u8) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, number], 6374))
    }

    /// What is told of ports that members saw, in the order in which they were sent to.
    fn told(ports: &[u16]) -> Sightings {
        let mut sightings = Sightings::default();
        (0..).zip(ports).for_each(|(number, _)| sightings.note_sent(member(number)));
        for (number, port) in (0..).zip(ports) {
            sightings.note_seen(member(number), SocketAddr::from((OUTER, *port)), &LOCAL, NOW);
        }
        sightings
    }

    fn sequential(step: i16) -> Option<NatClass> {
        NonZeroI16::new(step).map(NatClass::Sequential)
    }

    #[test]
    fn a_forecast_that_leads_nowhere_has_an_end() {
        let first = SocketAddr::from(([198, 51, 100, 1], 7));
        let forecast = Forecast { first, step: NonZeroI16::new(i16::MIN).unwrap() };
        assert_eq!(forecast.addresses(2).count(), 0);
        assert_eq!(forecast.addresses(1).take(2).count(), 2);
    }

    #[test]
    fn three_members_tell_the_classes_apart_and_two_tell_nothing() {
        assert_eq!(told(&[7000, 7000]).class(), None);
        assert_eq!(told(&[7000, 7000, 7000]).class(), Some(NatClass::EndpointIndependent));
        assert_eq!(told(&[7000, 7001, 7002]).class(), sequential(1));
        assert_eq!(told(&[7006, 7003, 7000]).class(), sequential(-3));
        assert_eq!(told(&[7000, 52_000, 7001]).class(), Some(NatClass::Random));
        assert_eq!(told(&[7000, 7000, 7001]).class(), Some(NatClass::Random));
        let mut open = told(&[]);
        for number in 0..3 {
            open.note_sent(member(number));
            open.note_seen(member(number), SocketAddr::new(LOCAL[0], 6374), &LOCAL, NOW);
        }
        assert_eq!(open.class(), Some(NatClass::Open));
    }

    #[test]
    fn one_member_at_three_ports_is_one_observer() {
        let mut sightings = Sightings::default();
        for (port, seen) in [(1, 7000), (2, 7001), (3, 7002)] {
            let observer = SocketAddr::new(member(1).ip(), port);
            sightings.note_sent(observer);
            sightings.note_seen(observer, SocketAddr::from((OUTER, seen)), &LOCAL, NOW);
        }
        assert_eq!(sightings.class(), None);
    }

    #[test]
    fn a_forecast_counts_what_was_sent_since() {
        let mut sightings = told(&[7000, 7002, 7004]);
        assert_eq!(sightings.forecast().map(|next| next.first.port()), Some(7006));
        (10..15).for_each(|number| sightings.note_sent(member(number)));
        sightings.note_sent(member(12));
        let next = sightings.forecast().unwrap();
        assert_eq!((next.first.port(), next.step.get()), (7016, 2));
        let ports: Vec<u16> = next.addresses(2).take(3).map(|address| address.port()).collect();
        assert_eq!(ports, [7016, 7020, 7024]);
        sightings.forget();
        assert_eq!((sightings.class(), sightings.forecast()), (None, None));
    }

    #[test]
    fn an_old_sighting_does_not_spoil_the_verdict_on_a_new_mapping() {
        let mut sightings = told(&[7000, 7000, 7000, 7000]);
        let later = NOW + TOGETHER;
        for number in 0..3 {
            sightings.note_seen(member(number), SocketAddr::from((OUTER, 9000)), &LOCAL, later);
            assert_eq!(sightings.class(), Some(NatClass::EndpointIndependent));
        }
    }

    proptest! {
        #[test]
        fn a_counter_is_found_with_its_step_however_many_destinations_lie_between(
            first in 20_000u16..40_000, step in -8i16..=8, gaps in proptest::collection::vec(1u32..40, 2..6),
        ) {
            prop_assume!(step != 0);
            let mut sightings = Sightings::default();
            let mut numbers = vec![1u32];
            gaps.iter().for_each(|gap| numbers.push(numbers.last().unwrap() + gap));
            let destination = |number: u32| SocketAddr::from(([203, 0, 113, number as u8], 9));
            (1..=*numbers.last().unwrap()).for_each(|number| sightings.note_sent(destination(number)));
            let port = |number: u32| (i64::from(first) + i64::from(number) * i64::from(step)) as u16;
            for number in &numbers {
                sightings.note_seen(destination(*number), SocketAddr::from((OUTER, port(*number))), &LOCAL, NOW);
            }
            prop_assert_eq!(sightings.class(), sequential(step));
            prop_assert_eq!(sightings.forecast().unwrap().first.port(), port(numbers.last().unwrap() + 1));
        }

        #[test]
        fn random_ports_are_hardly_ever_taken_for_a_counters(ports in proptest::collection::vec(1024u16.., 3)) {
            prop_assume!(ports.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 100));
            prop_assert_eq!(told(&ports).class(), Some(NatClass::Random));
        }
    }
}
