//! Who has which address around an internet.
//!
//! Each premises and public host has a number `n` there, from 1. Between it and the internet is `198.18.n.0/24` and
//! `2001:db8:n:ffff::/64`. Its hosts' LAN is `192.168.n.0/24`, or `198.19.n.0/24` where nothing is translated, and
//! `2001:db8:n::/64`; a network between two gateways is `100.64+l.n.0/24` and `2001:db8:n:l::/64`, where `l` is how many
//! gateways are before it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Class, NatKind};
use crate::host::Host;

/// The last part of the internet's address in each transit network.
const ROUTER: u16 = 254;

/// What a transit network has for `l`.
const TRANSIT: u16 = 0xffff;

/// A network of both families.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    number: u16,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Lan(NatKind),
    Between(u8),
    Transit,
}

/// An address of each family, or of one, in one network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Net {
    /// Between a gateway or a public host and the internet.
    pub(super) const fn transit(number: u16) -> Self {
        Self { number, place: Place::Transit }
    }

    /// Inside the gateway that has so many others before it, and is of this kind.
    pub(super) const fn inside(number: u16, layer: u8, kind: NatKind) -> Self {
        Self { number, place: if layer == 0 { Place::Lan(kind) } else { Place::Between(layer) } }
    }

    /// The addresses in it that end with `last`.
    pub(super) fn at(self, last: u16) -> Addresses {
        let ([_, number], [_, low]) = (self.number.to_be_bytes(), last.to_be_bytes());
        let (first, second, group) = match self.place {
            Place::Transit => (198, 18, TRANSIT),
            Place::Lan(NatKind::None) => (198, 19, 0),
            Place::Lan(_) => (192, 168, 0),
            Place::Between(layer) => (100, 64 + layer, u16::from(layer)),
        };
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, self.number, group, 0, 0, 0, last);
        Addresses { v4: Some(Ipv4Addr::new(first, second, number, low)), v6: Some(v6) }
    }

    /// The internet's addresses in it, when it is a transit network.
    pub(super) fn router(self) -> Addresses {
        self.at(ROUTER)
    }
}

impl Addresses {
    /// Those of the families that the class has.
    pub(super) fn only(self, class: &Class) -> Self {
        Self { v4: self.v4.filter(|_| class.v4.is_some()), v6: self.v6.filter(|_| class.v6.is_some()) }
    }

    /// As an interface takes them.
    pub(super) fn with_lengths(self) -> Vec<String> {
        let v4 = self.v4.map(|v4| format!("{v4}/24"));
        v4.into_iter().chain(self.v6.map(|v6| format!("{v6}/64"))).collect()
    }

    /// Makes `host` send here all that it has no other route for.
    pub(super) fn route_default(self, host: &Host) {
        for via in self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from)) {
            host.ok(&format!("ip route add default via {via}"));
        }
    }

    /// Makes `host` send here the IPv6 networks of this number that it has no other route for.
    pub(super) fn route_site(self, host: &Host, number: u16) {
        if let Some(via) = self.v6 {
            host.ok(&format!("ip route add 2001:db8:{number:x}::/48 via {via}"));
        }
    }

    /// Makes `host` send the IPv4 part of `net` here.
    pub(super) fn route_v4(self, host: &Host, net: Net) {
        for (via, prefix) in self.v4.into_iter().zip(net.at(0).v4) {
            host.ok(&format!("ip route add {prefix}/24 via {via}"));
        }
    }
}

/// A list as commands take it.
pub(super) fn as_strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}
