//! A LAN behind gateways, and hosts in it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU16, Ordering};

use super::addresses::{Addresses, Net, as_strs};
use super::gateway::{Gateway, Parts};
use super::internet::Internet;
use super::{Class, Hairpin, NatKind, Wall};
use crate::daemon::Family;
use crate::host::Host;
use crate::lab::{Lab, Switch};
use crate::link::Link;

/// The last part of the addresses of gateways: towards the LAN and the internet, and towards a gateway outside.
const GATEWAY: u16 = 1;
const INNER_GATEWAY: u16 = 2;

/// The last part of the addresses of the first host in a LAN.
const FIRST_HOST: u16 = 10;

/// A LAN, and the gateways between it and the internet.
#[derive(Debug)]
pub struct Premises<'a> {
    lab: &'a Lab,
    /// What stands between its hosts and the internet.
    pub class: Class,
    /// The hosts' LAN.
    pub lan: Switch,
    /// From the hosts' own outward; at least one, and one that translates nothing where [`Class::v4`] asks for none.
    pub gateways: Vec<Gateway>,
    /// From the last gateway to the internet; the first end is the gateway's.
    pub uplink: Link,
    net: Net,
    hosts: AtomicU16,
}

/// A host, and its addresses.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its namespace.
    pub host: Host,
    /// Its IPv4 addresses; none without IPv4.
    pub v4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses; none without IPv6.
    pub v6: Vec<Ipv6Addr>,
}

impl Station {
    /// Its addresses of a family.
    #[must_use]
    pub fn addresses(&self, family: Family) -> Vec<IpAddr> {
        match family {
            Family::V4 => self.v4.iter().copied().map(IpAddr::from).collect(),
            Family::V6 => self.v6.iter().copied().map(IpAddr::from).collect(),
        }
    }
}

/// A gateway that is not connected outward yet.
struct Router {
    host: Host,
    kind: NatKind,
    /// Inside it.
    net: Net,
    wall: Wall,
    hairpin: Hairpin,
}

impl<'a> Premises<'a> {
    /// A new host in the LAN, with an address of each family that the class has.
    #[must_use]
    pub fn host(&self, name: &str) -> Station {
        let host = self.lab.host(name);
        let own = self.net.at(FIRST_HOST + self.hosts.fetch_add(1, Ordering::Relaxed)).only(&self.class);
        let gateway = self.net.at(GATEWAY).only(&self.class);
        self.lab.plug(&host, &self.lan, &as_strs(&own.with_lengths()));
        gateway.route_default(&host);
        Station { host, v4: own.v4.into_iter().collect(), v6: own.v6.into_iter().collect() }
    }

    /// The gateway that has the public address.
    ///
    /// # Panics
    /// Never: there is one.
    #[must_use]
    pub fn last_gateway(&self) -> &Gateway {
        self.gateways.last().expect("premises have a gateway")
    }

    pub(super) fn build(internet: &Internet<'a>, name: &str, number: u16, class: Class) -> Self {
        let (lab, lan) = (internet.lab, internet.lab.switch(&format!("{name}-lan")));
        let routers = Router::all(lab, name, number, class);
        let (first, last) = (routers.first().expect("a gateway"), routers.last().expect("a gateway"));
        let mut inside = lab.plug(&first.host, &lan, &as_strs(&first.net.at(GATEWAY).with_lengths()));
        let mut gateways = Vec::new();
        for (router, next) in routers.iter().zip(routers.iter().skip(1)) {
            let (here, there) = (next.net.at(INNER_GATEWAY), next.net.at(GATEWAY));
            let ends = [here, there].map(Addresses::with_lengths);
            let (outside, next_inside) = lab.cable(&router.host, &as_strs(&ends[0]), &next.host, &as_strs(&ends[1]));
            there.route_default(&router.host);
            here.route_site(&next.host, number);
            gateways.push(router.finish(&inside, &outside, here));
            inside = next_inside;
        }
        let transit = Net::transit(number);
        let outer = transit.at(GATEWAY);
        let uplink = internet.link(name, transit, &last.host, &outer.with_lengths());
        transit.router().route_default(&last.host);
        outer.route_site(&internet.router, number);
        if first.kind == NatKind::None {
            outer.route_v4(&internet.router, first.net);
        }
        gateways.push(last.finish(&inside, &uplink.ends()[0].interface, outer));
        Self { lab, class, lan, gateways, uplink, net: first.net, hosts: AtomicU16::new(0) }
    }
}

impl Router {
    /// From the hosts' own outward. Only that is a firewall.
    fn all(lab: &Lab, name: &str, number: u16, class: Class) -> Vec<Self> {
        let kinds = class.v4.unwrap_or(NatKind::None).layers();
        let router = |(layer, kind)| {
            let wall = class.v6.filter(|_| layer == 0).unwrap_or(Wall::Open);
            let host = lab.router(&format!("{name}-gateway{layer}"));
            let net = Net::inside(number, layer, kind);
            Self { host, kind, net, wall, hairpin: class.hairpin }
        };
        (0..).zip(kinds).map(router).collect()
    }

    fn finish(&self, inside: &str, outside: &str, outer: Addresses) -> Gateway {
        Gateway::start(Parts {
            host: self.host.clone(),
            inside: inside.to_owned(),
            outside: outside.to_owned(),
            kind: self.kind,
            wall: self.wall,
            hairpin: self.hairpin,
            outer: outer.v4.expect("a gateway has both families"),
        })
    }
}
