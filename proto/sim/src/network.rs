//! The network: the internet, sites behind routers in it and in each other, and a datagram's way through them.
//!
//! A datagram goes up from the sender's site, through one NAT after the other, until it is where its destination is
//! known, and from there down through those of the receiver. It is translated when it passes, so a table that is
//! flushed or expires in between loses it, as it does outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::time::Instant;
use rand_chacha::ChaCha20Rng;

use crate::link::Link;
use crate::nat::{Hairpin, Nat, NatPlan};

/// A place where addresses are unique: the internet, or what is behind one router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SiteId(usize);

impl SiteId {
    /// Where public addresses are.
    pub const INTERNET: Self = Self(0);
}

/// An address at which a host is reached, and where that address counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface {
    /// Where it is plugged in.
    pub site: SiteId,
    /// Address and port of the host's socket there.
    pub address: SocketAddr,
}

impl Interface {
    /// One on the internet.
    #[must_use]
    pub const fn public(address: SocketAddr) -> Self {
        Self { site: SiteId::INTERNET, address }
    }
}

/// What a site is like. Its router carries IPv4; IPv6 stays inside.
#[derive(Clone, Copy, Debug)]
pub struct SitePlan {
    /// Where its router's external address is: the internet, or a carrier's site.
    pub uplink: SiteId,
    /// What its router does.
    pub nat: NatPlan,
    /// What happens to datagrams from one host in it to another.
    pub lan: Link,
    /// Time that the cable to the uplink takes, each way.
    pub distance: Duration,
}

impl SitePlan {
    /// A site at the internet, with a quick network and a short cable.
    #[must_use]
    pub const fn behind(nat: NatPlan) -> Self {
        Self { uplink: SiteId::INTERNET, nat, lan: Link::GOOD, distance: Duration::ZERO }
    }
}

/// Who has an address: a number of the world's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A machine with a node.
    Machine(usize),
    /// A socket without one.
    Socket(usize),
}

#[derive(Default)]
struct Site {
    owners: BTreeMap<SocketAddr, Owner>,
    /// Sites whose routers have their external addresses here.
    inner: BTreeMap<IpAddr, SiteId>,
    /// The internet has none.
    router: Option<Router>,
}

struct Router {
    plan: SitePlan,
    external: IpAddr,
    nat: Nat,
    is_cut: bool,
}

/// How far a datagram got on its way up.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    /// Its source as it was seen last.
    pub(crate) source: SocketAddr,
    turn: Option<Turn>,
}

/// Where it turns to go down.
#[derive(Clone, Copy)]
struct Turn {
    site: SiteId,
    destination: SocketAddr,
    distance: Duration,
}

struct Flight {
    site: SiteId,
    /// Where it came down from; it was asked there, when it was sent, whether its receiver is cut off.
    turned_at: SiteId,
    source: SocketAddr,
    destination: SocketAddr,
    datagram: Vec<u8>,
}

/// A datagram at its receiver.
pub(crate) struct Arrival {
    pub(crate) owner: Owner,
    pub(crate) source: SocketAddr,
    /// The receiver's port.
    pub(crate) port: u16,
    pub(crate) datagram: Vec<u8>,
}

/// All sites, and what is on its way.
pub(crate) struct Network {
    sites: Vec<Site>,
    /// Who is cut off by itself.
    cut: BTreeSet<Owner>,
    /// Bounded by what is sent within the greatest delay of a way.
    flights: BTreeMap<(Instant, u64), Flight>,
    sequence: u64,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self { sites: vec![Site::default()], cut: BTreeSet::new(), flights: BTreeMap::new(), sequence: 0 }
    }

    /// Adds a site. Routers get addresses from 11.0.0.0/8 on the internet, from 100.64.0.0/10 (RFC 6598) in other
    /// sites.
    pub(crate) fn add_site(&mut self, plan: SitePlan, rng: &mut ChaCha20Rng) -> SiteId {
        let id = SiteId(self.sites.len());
        let first = if plan.uplink == SiteId::INTERNET { 11u32 << 24 } else { 100 << 24 | 64 << 16 };
        let uplink = self.site_mut(plan.uplink);
        let external = IpAddr::from((first + 1 + uplink.inner.len() as u32).to_be_bytes());
        uplink.inner.insert(external, id);
        let router = Router { plan, external, nat: Nat::new(plan.nat, rng), is_cut: false };
        self.sites.push(Site { router: Some(router), ..Site::default() });
        id
    }

    pub(crate) fn attach(&mut self, owner: Owner, at: Interface) {
        self.site_mut(at.site).owners.insert(at.address, owner);
    }

    /// An address that somebody else has taken meanwhile stays theirs.
    pub(crate) fn detach(&mut self, owner: Owner, at: Interface) {
        let owners = &mut self.site_mut(at.site).owners;
        if owners.get(&at.address) == Some(&owner) {
            owners.remove(&at.address);
        }
    }

    pub(crate) fn set_cut(&mut self, owner: Owner, is_cut: bool) {
        if is_cut {
            self.cut.insert(owner)
        } else {
            self.cut.remove(&owner)
        };
    }

    pub(crate) fn set_site_cut(&mut self, site: SiteId, is_cut: bool) {
        self.router_mut(site).is_cut = is_cut;
    }

    pub(crate) fn external(&self, site: SiteId) -> IpAddr {
        self.site(site).router.as_ref().expect("the site has a router").external
    }

    pub(crate) fn nat(&mut self, site: SiteId) -> &mut Nat {
        &mut self.router_mut(site).nat
    }

    /// The interface of a host that its datagrams to `destination` leave by: the first in whose site the destination
    /// is, or else the first of its family.
    pub(crate) fn interface(&self, of: &[Interface], destination: SocketAddr) -> Option<Interface> {
        let mut able = of.iter().filter(|interface| interface.address.is_ipv4() == destination.is_ipv4());
        let first = able.next()?;
        let is_near = |interface: &&Interface| self.site(interface.site).is_here(destination.ip());
        if is_near(&first) {
            return Some(*first);
        }
        Some(*able.find(is_near).unwrap_or(first))
    }

    /// Takes a datagram as far up as it has to go.
    pub(crate) fn depart(
        &mut self,
        owner: Owner,
        from: Interface,
        to: SocketAddr,
        now: Instant,
        rng: &mut ChaCha20Rng,
    ) -> Course {
        let Interface { mut site, address: mut source } = from;
        let mut distance = Duration::ZERO;
        if self.cut.contains(&owner) {
            return Course { source, turn: None };
        }
        loop {
            let place = self.site_mut(site);
            let is_here = place.is_here(to.ip());
            let Some(router) = place.router.as_mut().filter(|_| !is_here) else {
                return self.turn(source, Turn { site, destination: to, distance });
            };
            let is_hairpin = to.ip() == router.external;
            // Routers have IPv4 addresses only.
            if to.is_ipv6()
                || (router.is_cut && !is_hairpin)
                || (is_hairpin && router.nat.hairpin() == Hairpin::Dropped)
            {
                return Course { source, turn: None };
            }
            let Some(port) = router.nat.outbound(source, to, now, rng) else { return Course { source, turn: None } };
            source = SocketAddr::new(router.external, port);
            if is_hairpin {
                let inside = router.nat.inbound(to.port(), source, now);
                let turn = inside.map(|destination| Turn { site, destination, distance });
                return turn.map_or(Course { source, turn: None }, |turn| self.turn(source, turn));
            }
            distance += router.plan.distance;
            site = router.plan.uplink;
        }
    }

    /// A datagram that comes from nowhere, on the internet.
    pub(crate) fn appear(&self, source: SocketAddr, destination: SocketAddr) -> Course {
        let is_cut = self.site(SiteId::INTERNET).owners.get(&source).is_some_and(|owner| self.cut.contains(owner));
        if is_cut {
            return Course { source, turn: None };
        }
        self.turn(source, Turn { site: SiteId::INTERNET, destination, distance: Duration::ZERO })
    }

    fn turn(&self, source: SocketAddr, turn: Turn) -> Course {
        let owner = self.site(turn.site).owners.get(&turn.destination);
        let is_cut = owner.is_some_and(|owner| self.cut.contains(owner));
        Course { source, turn: (!is_cut).then_some(turn) }
    }

    /// Sends a datagram on its way down, as `link` (that of the internet) or the site's own allows.
    pub(crate) fn launch(
        &mut self,
        course: Course,
        datagram: Vec<u8>,
        link: Link,
        now: Instant,
        rng: &mut ChaCha20Rng,
    ) {
        let Some(Turn { site, destination, distance }) = course.turn else { return };
        let link = self.site(site).router.as_ref().map_or(link, |router| router.plan.lan);
        let flight = |datagram| Flight { site, turned_at: site, source: course.source, destination, datagram };
        match link.fates(rng) {
            [Some(first), Some(second)] => {
                self.fly(now + distance + first, flight(datagram.clone()));
                self.fly(now + distance + second, flight(datagram));
            }
            [Some(way), None] | [None, Some(way)] => self.fly(now + distance + way, flight(datagram)),
            [None, None] => {}
        }
    }

    fn fly(&mut self, at: Instant, flight: Flight) {
        self.sequence += 1;
        self.flights.insert((at, self.sequence), flight);
    }

    /// When the next datagram arrives somewhere.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.flights.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the datagram that arrives next down through the receiver's NATs. `None`: lost, or still under way.
    pub(crate) fn arrive(&mut self, now: Instant) -> Option<Arrival> {
        let (_, mut flight) = self.flights.pop_first()?;
        loop {
            let place = self.site(flight.site);
            if let Some(owner) = place.owners.get(&flight.destination).copied() {
                let is_lost = flight.site != flight.turned_at && self.cut.contains(&owner);
                let (source, port) = (flight.source, flight.destination.port());
                return (!is_lost).then_some(Arrival { owner, source, port, datagram: flight.datagram });
            }
            flight.site = *place.inner.get(&flight.destination.ip())?;
            let router = self.router_mut(flight.site);
            if router.is_cut {
                return None;
            }
            flight.destination = router.nat.inbound(flight.destination.port(), flight.source, now)?;
            let distance = router.plan.distance;
            if !distance.is_zero() {
                self.fly(now + distance, flight);
                return None;
            }
        }
    }

    fn site(&self, id: SiteId) -> &Site {
        self.sites.get(id.0).expect("sites are not removed")
    }

    fn site_mut(&mut self, id: SiteId) -> &mut Site {
        self.sites.get_mut(id.0).expect("sites are not removed")
    }

    fn router_mut(&mut self, id: SiteId) -> &mut Router {
        self.site_mut(id).router.as_mut().expect("the site has a router")
    }
}

impl Site {
    /// Whether some host or router of the site has an address.
    fn is_here(&self, address: IpAddr) -> bool {
        let ports = SocketAddr::new(address, 0)..=SocketAddr::new(address, u16::MAX);
        self.inner.contains_key(&address) || self.owners.range(ports).next().is_some()
    }
}
