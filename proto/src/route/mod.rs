//! Which prefix belongs to whom: longest-prefix match over mesh addresses, node subnets and subnets of every endpoint.

mod near;

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
    /// Those of the peers that announce a shared prefix from which we take packets of it; the prefix leads to one of them, or here.
    shared: BTreeMap<IpNet, Box<[PeerId]>>,
}

impl RouteTable {
    /// Adds a prefix; an equal one is replaced, and returned.
    pub fn insert(&mut self, prefix: IpNet, target: Target) -> Option<Target> {
        match prefix {
            IpNet::V4(net) => self.v4.insert(net.trunc(), target),
            IpNet::V6(net) if net.prefix_len() == net.max_prefix_len() => {
                self.v6_hosts.insert(net.addr().to_bits(), target)
            }
            IpNet::V6(net) => self.v6.insert(net.trunc(), target),
        }
    }

    /// Adds a prefix that several announce: it leads to `target`, and packets with a source in it are taken from each of `owners`.
    pub fn insert_shared(&mut self, prefix: IpNet, target: Target, owners: Box<[PeerId]>) {
        self.insert(prefix, target);
        self.shared.insert(prefix.trunc(), owners);
    }

    /// Whether a packet from `source` may come from a peer: the source is the peer's, or in a prefix that it shares.
    #[inline]
    #[must_use]
    pub fn admits(&self, source: IpAddr, peer: PeerId) -> bool {
        self.lookup(source) == Some(Target::Peer(peer)) || (!self.shared.is_empty() && self.shares(source, peer))
    }

    #[cold]
    fn shares(&self, source: IpAddr, peer: PeerId) -> bool {
        let host = IpNet::from(source);
        let prefix = match source {
            IpAddr::V4(v4) => self.v4.get_lpm(&Ipv4Net::from(v4)).map(|(net, _)| IpNet::V4(net)),
            IpAddr::V6(v6) if self.v6_hosts.contains_key(&v6.to_bits()) => Some(host),
            IpAddr::V6(v6) => self.v6.get_lpm(&Ipv6Net::from(v6)).map(|(net, _)| IpNet::V6(net)),
        };
        let owners = prefix.and_then(|prefix| self.shared.get(&prefix));
        owners.is_some_and(|owners| owners.contains(&peer))
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
    fn packets_of_a_shared_prefix_are_taken_from_all_its_owners_and_lead_to_one() {
        let mut table = RouteTable::default();
        for (prefix, target) in [("10.1.0.0/16", Target::Peer(PeerId(1))), ("fd01::1/128", Target::Local)] {
            let owners = [PeerId(1), PeerId(2)];
            table.insert_shared(prefix.parse().unwrap(), target, owners.into());
            let address = prefix.parse::<IpNet>().unwrap().addr();
            assert_eq!(table.lookup(address), Some(target));
            let admitted = (0..4).filter(|id| table.admits(address, PeerId(*id)));
            assert_eq!(admitted.collect::<Vec<_>>(), [1, 2], "{prefix}");
        }
        // A longer prefix inside is its owner's alone.
        table.insert("10.1.2.3/32".parse().unwrap(), Target::Peer(PeerId(3)));
        let admitted = (0..4).filter(|id| table.admits("10.1.2.3".parse().unwrap(), PeerId(*id)));
        assert_eq!(admitted.collect::<Vec<_>>(), [3]);
        assert!(!table.admits("10.2.0.1".parse().unwrap(), PeerId(1)));
    }

    #[test]
    fn what_belongs_to_a_peer_is_handed_over_whole_and_nothing_else() {
        let mut table = RouteTable::default();
        let prefixes: [IpNet; 3] = ["10.1.0.0/16", "fd01::/16", "fd02::1/128"].map(|text| text.parse().unwrap());
        for prefix in prefixes {
            table.insert(prefix, Target::Denied(PeerId(1)));
        }
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
