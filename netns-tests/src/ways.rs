//! Edges behind NATs in pairs: by which way each pair should come together, how it did, and how long it took.
//!
//! [`expected`] states the rule; [`Group::meet`] brings the pairs of a group together, each edge with one partner at a time. Three
//! public members are relays for all, and see how the edges look from outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Family};
use crate::lab::Lab;
use crate::mesh::Mesh;
use crate::nat::{Allocation, Behaviour, Class, Filtering, Internet, Mapping, NatKind, Premises, Station, Wall};
use crate::wait::{observe, wait_for};

/// How datagrams of a pair go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From one to the other.
    Direct,
    /// Through a relay, over UDP.
    Relayed,
    /// Through a relay, which one of them at least reaches over TLS only.
    Tls,
}

/// The way that a pair of classes should end at.
#[must_use]
pub fn expected(one: &Class, other: &Class) -> Way {
    if [one, other].into_iter().any(|class| udp(class, Family::V4).or(udp(class, Family::V6)).is_none()) {
        return Way::Tls;
    }
    let meets = |family| udp(one, family).zip(udp(other, family)).is_some_and(|(one, other)| meets(one, other));
    let is_direct = Family::BOTH.into_iter().any(meets) || are_sprayed(one, other);
    if is_direct { Way::Direct } else { Way::Relayed }
}

/// Whether the two meet by many tries only: one keeps its port, and the ports of the other are anybody's guess.
fn are_sprayed(one: &Class, other: &Class) -> bool {
    let (Some(one), Some(other)) = (udp(one, Family::V4), udp(other, Family::V4)) else { return false };
    let is_kept = |nat: Behaviour| nat.mapping == Mapping::EndpointIndependent;
    !meets(one, other) && ((is_kept(one) && !is_known(other)) || (is_kept(other) && !is_known(one)))
}

/// What stands before a class does to UDP of a family; none where it has not that family, or UDP does not pass.
fn udp(class: &Class, family: Family) -> Option<Behaviour> {
    let firewall = |wall| match wall {
        Wall::Open => NatKind::None.behaviour(),
        Wall::Firewall => NatKind::PortRestricted.behaviour(),
    };
    match family {
        Family::V4 => class.v4.and_then(NatKind::behaviour),
        Family::V6 => class.v6.and_then(firewall),
    }
}

/// Whether two NATs let each other's hosts in, once each has sent to where the other may be (RFC 4787 §4.1, §5): each must know the
/// other's outer port, unless its own filter does not ask for ports.
fn meets(one: Behaviour, other: Behaviour) -> bool {
    let is_reached = |one: Behaviour, by: Behaviour| {
        one.mapping == Mapping::EndpointIndependent && (one.filtering < Filtering::EndpointDependent || is_known(by))
    };
    is_reached(one, other) || is_reached(other, one) || (is_known(one) && is_known(other))
}

/// Whether the outer port towards a new destination can be told.
const fn is_known(nat: Behaviour) -> bool {
    match nat.mapping {
        Mapping::EndpointIndependent | Mapping::EndpointDependent(Allocation::Sequential(_)) => true,
        Mapping::AddressDependent | Mapping::EndpointDependent(Allocation::Random) => false,
    }
}

/// What became of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Met {
    /// Who spoke first.
    pub one: Class,
    /// To whom.
    pub other: Class,
    /// The way that both used at the end.
    pub way: Way,
    /// From the first datagram of the first to its arrival, without a session before.
    pub first_byte: Duration,
    /// From the same moment until both sent directly.
    pub direct: Option<Duration>,
    /// Whether they were to meet by tries, and these were spent in vain or before.
    pub is_spent: bool,
}

/// Edges of two lists of classes, up, and in touch with three public members.
struct Meeting<'a> {
    mesh: Mesh,
    ones: Vec<Edge<'a>>,
    others: Vec<Edge<'a>>,
    _hubs: Vec<Daemon>,
}

struct Edge<'a> {
    name: String,
    class: Class,
    _premises: Premises<'a>,
    station: Station,
    daemon: Daemon,
}

/// Where hubs serve TLS; without it edges whose UDP is blocked are not met, for they would have no way at all.
const TLS: Option<u16> = Some(443);

/// Public members. A verdict on a NAT takes as many.
const HUBS: u8 = 3;

/// From the start of the daemons until everybody is in touch with every hub: all start at once, on few cores.
const READY: Duration = Duration::from_secs(30);

/// The longest that a first datagram may take: some tries of a handshake.
const FIRST_BYTE: Duration = Duration::from_secs(10);

/// The longest that a direct way may take, where there is one.
const DIRECT: Duration = Duration::from_secs(20);

/// A member that has sent so many probes this hour makes no further tries.
const ENOUGH: usize = 768;

/// How long a pair that should be relayed is given to be so.
const RELAYED: Duration = Duration::from_secs(4);

/// Where the first datagram of the first pair goes. Each pair has a port of its own, for what the last one sent may still be under way.
const PORT: u16 = 7000;

impl<'a> Meeting<'a> {
    /// Builds everything and waits until every edge is ready to be met.
    fn new(lab: &'a Lab, distance: Duration, ones: &[Class], others: &[Class]) -> Self {
        let internet = Internet::new(lab);
        let mut mesh = Mesh::new(lab, "ways");
        "info".clone_into(&mut mesh.log_level);
        for number in 0..HUBS {
            let (hub, _link) = internet.host(&format!("hub{number}"), 1);
            let name = hub_name(number);
            let endpoint = mesh.connector(&name, &hub.host, &hub.v4[0].to_string());
            endpoint.address(&format!("10.98.0.{}", 1 + number));
            if let Some(port) = TLS {
                endpoint.tls(&format!("{}:{port}", hub.v4[0]));
            }
            endpoint.public_addresses.push(format!("[{}]:{}", hub.v6[0], proto::member::DEFAULT_PORT));
        }
        let mut build = |side: &str, network: u8, classes: &[Class]| -> Vec<(String, Class, Premises<'a>, Station)> {
            let one = |(number, class): (u8, &Class)| {
                let premises = internet.premises(&format!("{side}{number}"), *class);
                if !distance.is_zero() {
                    premises.uplink.set_delay(distance);
                }
                let station = premises.host(&format!("{side}{number}-edge"));
                let name = format!("hub.{side}{number}");
                mesh.edge(&name, &station.host, "").address(&format!("10.99.{network}.{number}"));
                (name, *class, premises, station)
            };
            (1..).zip(classes).map(one).collect()
        };
        let (ones, others) = (build("one", 1, ones), build("other", 2, others));
        let names: Vec<String> = ones.iter().chain(&others).map(|(name, ..)| name.clone()).collect();
        mesh.community("pairs", &names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut daemons: BTreeMap<String, Daemon> =
            mesh.up_all().into_iter().map(|daemon| (daemon.name().to_owned(), daemon)).collect();
        let mut start = |(name, class, premises, station): (String, Class, Premises<'a>, Station)| {
            let daemon = daemons.remove(&name).expect("every endpoint has a daemon");
            Edge { name, class, _premises: premises, station, daemon }
        };
        let ones: Vec<Edge<'a>> = ones.into_iter().map(&mut start).collect();
        let others: Vec<Edge<'a>> = others.into_iter().map(&mut start).collect();
        ones.iter().chain(&others).for_each(Edge::wait_ready);
        Self { mesh, ones, others, _hubs: daemons.into_values().collect() }
    }

    /// Brings pairs together, given by their places in the two lists, all at once; none may have met before.
    fn meet(&self, pairs: &[(usize, usize)]) -> Vec<Met> {
        thread::scope(|scope| {
            let met = |&(one, other): &(usize, usize)| scope.spawn(move || self.meet_one(one, other));
            let all: Vec<_> = pairs.iter().map(met).collect();
            all.into_iter().map(|met| met.join().expect("the pair met")).collect()
        })
    }

    /// Every pair of the two lists for which `wanted` says so, in rounds in which each edge has one partner at most.
    fn meet_all(&self, wanted: impl Fn(usize, usize) -> bool) -> Vec<Met> {
        let places = self.ones.len().max(self.others.len());
        let round = |shift: usize| {
            let pair = |one: usize| (one, (one + shift) % places);
            let is_there = |&(one, other): &(usize, usize)| other < self.others.len() && wanted(one, other);
            let pairs: Vec<_> = (0..self.ones.len()).map(pair).filter(is_there).collect();
            self.meet(&pairs)
        };
        (0..places).flat_map(round).collect()
    }

    fn meet_one(&self, one: usize, other: usize) -> Met {
        let port = PORT + u16::try_from(one * self.others.len() + other).expect("some hundred pairs");
        let (one, other) = (&self.ones[one], &self.others[other]);
        let pair = format!("{:?} to {:?}", one.class, other.class);
        let address: IpAddr = self.mesh.address(&other.name, Family::V4).parse().expect("an address");
        let receiver = other.station.host.enter(|| UdpSocket::bind((address, port))).expect("bind the receiver");
        let sender = one.station.host.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("bind the sender");
        receiver.set_read_timeout(Some(FIRST_BYTE)).expect("set a timeout");
        let started = Instant::now();
        sender.send_to(b"first", (address, port)).expect("send the first datagram");
        let (_, source) = receiver.recv_from(&mut [0; 16]).unwrap_or_else(|error| {
            panic!("{pair}: the first datagram is lost: {error}\n{}\n---\n{}", one.daemon.log(), other.daemon.log())
        });
        let first_byte = started.elapsed();
        let limit = if expected(&one.class, &other.class) == Way::Direct { DIRECT } else { RELAYED };
        let mut direct = None;
        while direct.is_none() && started.elapsed() < limit {
            // Both talk, as those do for whom the way is.
            let _ = (sender.send_to(b"more", (address, port)), receiver.send_to(b"more", source));
            observe(Duration::from_millis(5));
            direct = (one.way_to(other).max(other.way_to(one)) == Way::Direct).then(|| started.elapsed());
        }
        let way = one.way_to(other).max(other.way_to(one));
        let is_spent = are_sprayed(&one.class, &other.class) && (one.has_spent(other) || other.has_spent(one));
        Met { one: one.class, other: other.class, way, first_byte, direct, is_spent }
    }
}

impl Edge<'_> {
    /// Waits until it can be found at every hub, and has found out what its NAT is.
    fn wait_ready(&self) {
        wait_for(READY, &format!("{} is ready, {:?}", self.name, self.class), || {
            let status = self.daemon.status();
            let is_found = (0..HUBS).all(|hub| status.has_session(&hub_name(hub)));
            let class = verdict(&self.class);
            (is_found && (class.is_none() || status.nat_class().as_deref() == class)).then_some(())
        });
    }

    /// Whether it has probed ports of another in vain, or had too few probes left for it, by what its log says.
    fn has_spent(&self, to: &Self) -> bool {
        if self.class.v6.is_some() && self.daemon.status().nat_class().is_none() {
            // It has met its relays over IPv6 alone, and does not know what its NAT does.
            return true;
        }
        let log = self.daemon.log();
        let ends = || log.lines().filter_map(|line| Some((line, line.split_once("spray ")?.1)));
        let sent = |text: &str| text.split_once(" of ")?.0.rsplit(' ').next()?.parse::<usize>().ok();
        let probes = ends().filter(|(line, _)| line.contains(" probes")).filter_map(|(_, text)| sent(text));
        let is_missed = ends().any(|(line, text)| line.contains(&to.name) && text.contains("missed, "));
        is_missed || probes.sum::<usize>() > ENOUGH
    }

    /// How its datagrams go to another, by what its log says last. Asking the daemon would cost a process each time.
    fn way_to(&self, to: &Self) -> Way {
        let (log, peer) = (self.daemon.log(), format!("peer={:?}", to.name));
        let is_of = |line: &&str| line.split_whitespace().any(|word| word == peer);
        let path = log.lines().filter(is_of).filter_map(|line| Some(line.split_once("path=")?.1)).next_back();
        match path.map(|path| path.strip_prefix("relay ")) {
            Some(None) => Way::Direct,
            // A relay that is reached over TLS is, to the daemon, at a socket of its own machine.
            Some(Some(relay)) if relay.starts_with("127.") || relay.starts_with("[::1]") => Way::Tls,
            _ => Way::Relayed,
        }
    }
}

fn hub_name(number: u8) -> String {
    format!("hub.connector{number}")
}

/// What an edge should take its NAT for; none where nobody is told over IPv4, or hubs may be met over IPv6 alone.
fn verdict(class: &Class) -> Option<&'static str> {
    if class.v6.is_some() {
        return None;
    }
    Some(match udp(class, Family::V4)?.mapping {
        Mapping::EndpointIndependent if class.v4 == Some(NatKind::None) => "open",
        Mapping::EndpointIndependent => "endpoint-independent",
        Mapping::EndpointDependent(Allocation::Sequential(_)) => "sequential",
        Mapping::AddressDependent | Mapping::EndpointDependent(Allocation::Random) => "random",
    })
}

/// The pairs of every two classes that can be met, in four groups that can be met apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// IPv4, and both keep their ports.
    Kept,
    /// IPv4, and one keeps its ports.
    Mixed,
    /// IPv4, and neither does.
    Changing,
    /// One has IPv6, or no UDP.
    Others,
}

impl Group {
    /// Every group.
    pub const ALL: [Self; 4] = [Self::Kept, Self::Mixed, Self::Changing, Self::Others];

    /// Brings all its pairs together, in an internet of their own, where every uplink takes `distance` each way.
    ///
    /// # Panics
    /// When a daemon does not start, an edge finds no relay, or a first datagram does not arrive.
    #[must_use]
    pub fn meet(self, lab: &Lab, distance: Duration) -> Vec<Met> {
        let classes = Class::table().into_iter().filter(|class| TLS.is_some() || udp_passes(class));
        let (plain, special): (Vec<Class>, Vec<Class>) =
            classes.partition(|class| class.v6.is_none() && udp_passes(class));
        let keeps =
            |class: &Class| udp(class, Family::V4).is_some_and(|nat| nat.mapping == Mapping::EndpointIndependent);
        let (kept, changing): (Vec<Class>, Vec<Class>) = plain.iter().copied().partition(keeps);
        let all: Vec<Class> = special.iter().chain(&plain).copied().collect();
        match self {
            Self::Kept => Meeting::new(lab, distance, &kept, &kept).meet_all(|one, other| one <= other),
            Self::Mixed => Meeting::new(lab, distance, &kept, &changing).meet_all(|_, _| true),
            Self::Changing => Meeting::new(lab, distance, &changing, &changing).meet_all(|one, other| one <= other),
            Self::Others => Meeting::new(lab, distance, &special, &all).meet_all(|one, other| one <= other),
        }
    }
}

fn udp_passes(class: &Class) -> bool {
    expected(class, class) != Way::Tls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_says_what_rfc_4787_implies_for_each_pair_of_behaviours() {
        use NatKind::{AddressRestricted, Cgn, NoUdp, PortRestricted, SymmetricRandom, SymmetricSequential};
        let cases = [
            (PortRestricted, Cgn, Way::Direct),
            (AddressRestricted, SymmetricRandom, Way::Direct),
            (PortRestricted, SymmetricSequential, Way::Direct),
            (PortRestricted, SymmetricRandom, Way::Direct),
            (Cgn, SymmetricRandom, Way::Direct),
            (SymmetricSequential, SymmetricSequential, Way::Direct),
            (SymmetricSequential, SymmetricRandom, Way::Relayed),
            (SymmetricRandom, SymmetricRandom, Way::Relayed),
            (NatKind::None, NoUdp, Way::Tls),
        ];
        for (one, other, way) in cases {
            for (one, other) in [(one, other), (other, one)] {
                assert_eq!(expected(&Class::v4(one), &Class::v4(other)), way, "{one:?} {other:?}");
            }
        }
        let dual = Class::dual(SymmetricRandom, Wall::Firewall);
        assert_eq!(expected(&dual, &dual), Way::Direct);
        assert_eq!(expected(&Class::v6(Wall::Open), &Class::v4(NatKind::None)), Way::Relayed);
    }
}
