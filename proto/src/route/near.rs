//! Which prefix an address is in, or lies next to: for operators who ask.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{RouteTable, Target};

impl RouteTable {
    /// The longest prefix that covers `address`, and its owner.
    #[must_use]
    pub fn covering(&self, address: IpAddr) -> Option<(IpNet, Target)> {
        let covers = |(net, _): &(IpNet, Target)| net.contains(&address);
        self.all().filter(covers).max_by_key(|(net, _)| net.prefix_len())
    }

    /// The prefix of `address`'s family that has the most leading bits in common with it, and its owner; `None` where they have less
    /// in common than half an IPv4 address, or a third of an IPv6 one, for then it was not meant.
    #[must_use]
    pub fn nearest(&self, address: IpAddr) -> Option<(IpNet, Target)> {
        let least = if address.is_ipv4() { 16 } else { 48 };
        let of_family = self.all().filter(|(net, _)| net.addr().is_ipv4() == address.is_ipv4());
        let common = of_family.map(|(net, target)| (common_bits(net, address), net, target));
        let near = common.filter(|(bits, ..)| *bits >= least).max_by_key(|(bits, ..)| *bits);
        near.map(|(_, net, target)| (net, target))
    }

    fn all(&self) -> impl Iterator<Item = (IpNet, Target)> {
        let v4 = self.v4.iter().map(|(net, target)| (IpNet::V4(net), *target));
        let v6 = self.v6.iter().map(|(net, target)| (IpNet::V6(net), *target));
        let hosts = self.v6_hosts.iter().map(|(bits, target)| (IpNet::from(IpAddr::from(bits.to_be_bytes())), *target));
        v4.chain(v6).chain(hosts)
    }
}

/// Leading bits that an address has in common with a prefix, at most the prefix's length.
fn common_bits(net: IpNet, address: IpAddr) -> u32 {
    let common = match (net.addr(), address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (net.to_bits() ^ address.to_bits()).leading_zeros(),
        (IpAddr::V6(net), IpAddr::V6(address)) => (net.to_bits() ^ address.to_bits()).leading_zeros(),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    common.min(net.prefix_len().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PeerId;

    #[test]
    fn an_address_that_nobody_has_is_told_the_prefix_next_to_it_if_that_is_near() {
        let mut table = RouteTable::default();
        for (id, prefix) in (0..).zip(["10.233.0.0/17", "10.234.0.0/16", "fd01:2:3::/48"]) {
            table.insert(prefix.parse().unwrap(), Target::Peer(PeerId(id)));
        }
        let nearest = |text: &str| table.nearest(text.parse().unwrap()).map(|(net, _)| net.to_string());
        assert_eq!(nearest("10.233.200.1").as_deref(), Some("10.233.0.0/17"));
        assert_eq!(nearest("fd01:2:3::1").as_deref(), Some("fd01:2:3::/48"));
        assert_eq!((nearest("192.168.1.1"), nearest("fd02::1")), (None, None));
        let covering = |text: &str| table.covering(text.parse().unwrap()).map(|(net, _)| net.to_string());
        assert_eq!(covering("10.234.1.2").as_deref(), Some("10.234.0.0/16"));
        assert_eq!(covering("10.235.1.2"), None);
    }
}
