//! Which prefix an endpoint might announce for an address that nobody does, so that the mesh file with it is not refused.

use std::net::IpAddr;

use ipnet::IpNet;

/// The usual prefix of `address`, if `owner`, who has `nearest`, may announce it too: it overlaps no claim of others. `None` where
/// the nearest is a member's own address, for next to that is no subnet.
pub(super) fn beside<'n>(
    nearest: IpNet,
    owner: &str,
    address: IpAddr,
    mut claims: impl Iterator<Item = (&'n str, IpNet)>,
) -> Option<IpNet> {
    if nearest.prefix_len() == nearest.max_prefix_len() {
        return None;
    }
    let length = if address.is_ipv4() { 24 } else { 64 };
    let wanted = IpNet::new(address, length).ok()?.trunc();
    let overlaps = |net: &IpNet| net.contains(&wanted) || wanted.contains(net);
    let is_taken = claims.any(|(name, net)| name != owner && overlaps(&net));
    (!is_taken).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_proposed_only_where_no_other_endpoint_has_a_part_of_it() {
        let claims = [
            ("lab.gate", "10.233.0.0/17"),
            ("lab.far", "10.233.201.128/25"),
            ("lab.vm", "10.20.188.1/32"),
            ("lab.till", "10.20.188.2/32"),
            ("lab.gate", "fd01:2:3::/56"),
        ];
        let claims = claims.map(|(name, net)| (name, net.parse::<IpNet>().unwrap()));
        let beside = |nearest: &str, owner, address: &str| {
            let found = beside(nearest.parse().unwrap(), owner, address.parse().unwrap(), claims.into_iter());
            found.map(|net| net.to_string())
        };
        let gate = |address| beside("10.233.0.0/17", "lab.gate", address);
        assert_eq!(gate("10.233.200.1").as_deref(), Some("10.233.200.0/24"));
        assert_eq!(gate("10.233.201.1"), None);
        assert_eq!(beside("10.20.188.2/32", "lab.till", "10.20.188.77"), None);
        let v6 = beside("fd01:2:3::/56", "lab.gate", "fd01:2:3:100::1");
        assert_eq!(v6.as_deref(), Some("fd01:2:3:100::/64"));
    }
}
