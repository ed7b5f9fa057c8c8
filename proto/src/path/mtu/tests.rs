//! The search against a network that passes packets up to a size, and loses some of them.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

const START: Instant = Instant::from_nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);

fn place() -> Locator {
    Locator::from(SocketAddr::from(([192, 0, 2, 1], 6374)))
}

struct Network {
    search: Search,
    now: Instant,
    /// Larger packets vanish.
    mtu: u16,
    /// The machine itself refuses larger ones.
    link: u16,
    /// Of a hundred round trips, so many get lost.
    loss: u32,
    rtt: Duration,
    random: u32,
    probes: u32,
    device: u16,
    in_flight: Vec<(Instant, u64)>,
    /// Whether large packets are sent all the time.
    is_busy: bool,
}

impl Network {
    fn new(mtu: u16, device: u16) -> Self {
        Self {
            search: Search::default(),
            now: START,
            mtu,
            link: u16::MAX,
            loss: 0,
            rtt: 20 * MS,
            random: 7,
            probes: 0,
            device,
            in_flight: Vec::new(),
            is_busy: true,
        }
    }

    fn is_lost(&mut self) -> bool {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.random >> 16) % 100 < self.loss
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.search.begin(place(), self.device, self.now);
            if self.is_busy {
                let _ = self.search.confirm(self.now);
            }
            let due: Vec<_> = self.in_flight.extract_if(.., |(at, _)| *at <= self.now).collect();
            for (_, token) in due {
                assert!(self.search.answered(token, self.now) || self.probes > 0);
            }
            while let Some(size) = self.search.poll(self.now) {
                self.probes += 1;
                let token = u64::from(self.probes);
                self.search.sent(token, self.now);
                if size > self.link {
                    self.search.too_long(size, self.now);
                } else if size <= self.mtu && !self.is_lost() {
                    self.in_flight.push((self.now + self.rtt, token));
                }
            }
            self.now = self.now + 5 * MS;
        }
    }

    fn fit(&self) -> Fit {
        self.search.fit(place(), self.device)
    }
}

#[test]
fn a_plain_path_is_known_after_one_round_trip_and_nothing_is_ever_refused_before() {
    let mut network = Network::new(1500, 1420);
    assert_eq!(network.fit(), Fit { whole: 0, limit: 1420 });
    network.run(10 * MS);
    assert_eq!(network.probes, 4, "1000, 1280, 1400 and 1500");
    network.run(20 * MS);
    assert_eq!((network.search.size(), network.fit().whole, network.fit().limit), (Some(1500), 1440, 1440));
    network.is_busy = false;
    network.run(Duration::from_secs(2_000));
    assert_eq!(network.probes, 4, "there is nothing more to find");
}

#[test]
fn a_narrow_path_is_found_within_a_second() {
    for mtu in [1280, 1300, 1400, 1492] {
        let mut network = Network::new(mtu, 1420);
        network.run(50 * MS);
        assert_eq!(network.fit().limit, 1420, "nothing is refused before it is known");
        network.run(Duration::from_secs(1));
        assert_eq!((network.search.size(), network.fit().limit), (Some(mtu), mtu - 60));
        assert!(network.probes < 50, "{mtu}: {}", network.probes);
    }
}

#[test]
fn a_jumbo_path_is_used_as_far_as_the_device_asks() {
    let mut network = Network::new(9000, 8920);
    network.run(Duration::from_secs(1));
    assert_eq!(network.fit().limit, 8920);
    let mut network = Network::new(9000, 1420);
    network.run(Duration::from_secs(1));
    assert_eq!(network.search.size(), Some(1500));
}

#[test]
fn a_path_that_shrinks_is_found_out_within_three_seconds_and_one_that_grows_after_ten_minutes() {
    for (before, after) in [(1500, 1300), (1500, 1400), (1400, 1280), (9000, 1500)] {
        let mut network = Network::new(before, 8920);
        network.run(Duration::from_secs(20));
        network.mtu = after;
        network.run(Duration::from_secs(3));
        assert_eq!((network.search.size(), network.fit().limit), (Some(after), after - 60), "{before}");
        network.mtu = 9000;
        network.run(Duration::from_secs(590));
        assert_eq!(network.search.size(), Some(after));
        network.run(Duration::from_secs(20));
        assert_eq!(network.fit().limit, 8920);
    }
}

#[test]
fn a_first_hop_that_refuses_is_known_without_waiting_and_asked_once_for_each_size() {
    let mut network = Network::new(9000, 1420);
    network.link = 1400;
    network.run(60 * MS);
    assert_eq!((network.search.size(), network.fit().limit), (Some(1400), 1340));
    assert!(network.probes < 20, "{}", network.probes);
    network.link = 1300;
    network.run(Duration::from_millis(1_500));
    assert_eq!(network.search.size(), Some(1300));
    assert!(network.probes < 60, "{}", network.probes);
}

#[test]
fn a_path_where_nothing_answers_says_nothing_about_sizes() {
    let mut network = Network::new(0, 1420);
    network.run(Duration::from_secs(5));
    assert_eq!(network.fit(), Fit::unknown(1420));
    let sent = network.probes;
    network.run(Duration::from_secs(100));
    assert!(network.probes < sent + 150, "it is asked again now and then: {}", network.probes);
    network.mtu = 1400;
    network.run(Duration::from_secs(12));
    assert_eq!(network.search.size(), Some(1400));
    network.mtu = 0;
    network.run(Duration::from_secs(30));
    assert_eq!(network.search.size(), Some(1400), "a dead path has no size");
}

#[test]
fn ipv6_is_carried_up_to_its_least_mtu_whatever_the_path() {
    let fit = Fit { whole: 1220, limit: 1220 };
    assert_eq!((fit.most(Version::V4), fit.most(Version::V6)), (1220, 1280));
    assert_eq!(Fit::unknown(1420).most(Version::V6), 1420);
}

proptest! {
    #[test]
    fn the_search_ends_at_the_largest_known_size_below_the_truth_and_never_above(
        mtu in 1000u16..=9100, device in 1280u16..=9000, loss in 0u32..=10, random: u32, rtt in 1u32..=400,
    ) {
        let mut network = Network { loss, random, rtt: MS * rtt, ..Network::new(mtu, device) };
        for _ in 0..30 {
            network.run(Duration::from_millis(500));
            prop_assert!(network.search.size().is_none_or(|size| size <= mtu));
        }
        let wanted = (device + 60).clamp(1500, 9000);
        let best = SIZES.into_iter().chain([wanted]).filter(|size| *size <= mtu.min(wanted)).max();
        if loss == 0 {
            prop_assert_eq!(network.search.size(), best);
        }
        prop_assert!(network.search.size() >= Some(1000));
        prop_assert!(network.fit().limit >= 900);
        prop_assert!(network.probes < 600, "{}", network.probes);
    }
}
