//! Which prefix belongs to whom: longest-prefix match over mesh addresses, node subnets and subnets of every endpoint.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;

use crate::id::PeerId;

/// Where an inner address lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// On this node, or behind it.
    Local,
    /// At a peer that policy lets us talk to.
    Peer(PeerId),
    /// At a peer that policy keeps from us.
    Denied(PeerId),
}

impl Target {
    fn is_of(self, peer: PeerId) -> bool {
        matches!(self, Self::Peer(id) | Self::Denied(id) if id == peer)
    }
}

/// Prefixes and their owners, for both families. Built when membership changes, then read only.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    v4: PrefixMap<Ipv4Net, Target>,
    v6: PrefixMap<Ipv6Net, Target>,
    /// Single IPv6 addresses, which no longer prefix can cover. Each peer has one, most of them random, and each random one
    /// would be a path of its own through the trie: 26 nodes to follow, and to store about half of.
    v6_hosts: BTreeMap<u128, Target>,
}

impl RouteTable {
    /// Adds a prefix; an equal one is replaced.
    pub fn insert(&mut self, prefix: IpNet, target: Target) {
        match prefix {
            IpNet::V4(net) => {
                self.v4.insert(net.trunc(), target);
            }
            IpNet::V6(net) if net.prefix_len() == net.max_prefix_len() => {
                self.v6_hosts.insert(net.addr().to_bits(), target);
            }
            IpNet::V6(net) => {
                self.v6.insert(net.trunc(), target);
            }
        }
    }

    /// Makes what belongs to a peer lead to `target`.
    pub fn hand_over(&mut self, peer: PeerId, target: Target) {
        let v4 = self.v4.iter_mut().map(|(_, target)| target);
        let v6 = self.v6.iter_mut().map(|(_, target)| target).chain(self.v6_hosts.values_mut());
        for owner in v4.chain(v6).filter(|owner| owner.is_of(peer)) {
            *owner = target;
        }
    }

    /// Every prefix that belongs to a peer, whether policy lets us talk to it or not.
    #[must_use]
    pub fn prefixes_of(&self, peer: PeerId) -> Vec<IpNet> {
        let v4 = self.v4.iter().map(|(net, target)| (IpNet::V4(net), target));
        let v6 = self.v6.iter().map(|(net, target)| (IpNet::V6(net), target));
        let hosts = self.v6_hosts.iter().map(|(bits, target)| (IpNet::from(IpAddr::from(bits.to_be_bytes())), target));
        v4.chain(v6).chain(hosts).filter(|(_, target)| target.is_of(peer)).map(|(net, _)| net).collect()
    }

    /// The owner of the longest prefix that covers `address`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Target> {
        match address {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).map(|(_, target)| *target),
            IpAddr::V6(v6) => match self.v6_hosts.get(&v6.to_bits()) {
                Some(target) => Some(*target),
                None => self.v6.get_lpm(&Ipv6Net::from(v6)).map(|(_, target)| *target),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix() -> impl Strategy<Value = IpNet> {
        // Few distinct bits, so that prefixes nest and addresses hit.
        let v4 = (0u32..32, 0u8..=32)
            .prop_map(|(bits, len)| IpNet::V4(Ipv4Net::new((bits << 27 | bits).into(), len).unwrap().trunc()));
        let v6 = (0u128..32, 0u8..=128)
            .prop_map(|(bits, len)| IpNet::V6(Ipv6Net::new((bits << 123 | bits).into(), len).unwrap().trunc()));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn lookup_agrees_with_a_linear_scan(prefixes in proptest::collection::vec(prefix(), 0..40), probes in proptest::collection::vec(prefix(), 1..40)) {
            let mut table = RouteTable::default();
            let mut scan: Vec<(IpNet, Target)> = Vec::new();
            for (id, prefix) in (0..).zip(prefixes) {
                let target = Target::Peer(PeerId(id));
                table.insert(prefix, target);
                scan.retain(|(other, _)| *other != prefix);
                scan.push((prefix, target));
            }
            for probe in probes {
                let address = probe.addr();
                let longest = scan.iter().filter(|(net, _)| net.contains(&address)).max_by_key(|(net, _)| net.prefix_len());
                prop_assert_eq!(table.lookup(address), longest.map(|(_, target)| *target));
            }
        }
    }

    #[test]
    fn what_belongs_to_a_peer_is_handed_over_whole_and_nothing_else() {
        let mut table = RouteTable::default();
        let prefixes: [IpNet; 3] = ["10.1.0.0/16", "fd01::/16", "fd02::1/128"].map(|text| text.parse().unwrap());
        prefixes.iter().for_each(|prefix| table.insert(*prefix, Target::Denied(PeerId(1))));
        table.insert("10.2.0.0/16".parse().unwrap(), Target::Denied(PeerId(2)));
        table.hand_over(PeerId(1), Target::Peer(PeerId(1)));
        assert_eq!(table.prefixes_of(PeerId(1)), prefixes);
        assert!(prefixes.iter().all(|net| table.lookup(net.addr()) == Some(Target::Peer(PeerId(1)))));
        assert_eq!(table.lookup("10.2.0.1".parse().unwrap()), Some(Target::Denied(PeerId(2))));
    }

    #[test]
    fn a_host_route_wins_over_the_subnet_that_covers_it() {
        let mut table = RouteTable::default();
        table.insert("10.0.0.0/8".parse().unwrap(), Target::Denied(PeerId(1)));
        table.insert("10.1.2.3/32".parse().unwrap(), Target::Local);
        assert_eq!(table.lookup("10.1.2.3".parse().unwrap()), Some(Target::Local));
        assert_eq!(table.lookup("10.1.2.4".parse().unwrap()), Some(Target::Denied(PeerId(1))));
        assert_eq!(table.lookup("11.0.0.1".parse().unwrap()), None);
        assert_eq!(table.lookup("fd00::1".parse().unwrap()), None);
    }
}
