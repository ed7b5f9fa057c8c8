//! No prefix has two owners, unless connectors share it: a sorted sweep over every subnet, node subnet and mesh address.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proto::id::{MeshId, PublicKey};
use proto::member::{Kind, derived_address};

use crate::error::Fault;
use crate::mesh::{EndpointDraft, MeshDraft};
use crate::read::Reader;

/// A prefix that an endpoint claims.
#[derive(Clone, Copy, Debug)]
struct Claim {
    net: IpNet,
    /// Position of the endpoint in the file.
    endpoint: usize,
    /// The first endpoint of the same name: one owner, even if it is written twice.
    owner: usize,
    at: usize,
    origin: Origin,
}

/// Which key of an endpoint makes a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Address,
    Derived,
    NodeSubnet,
    Subnet,
}

impl Origin {
    const fn key(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Derived => "public_key",
            Self::NodeSubnet => "node_subnets",
            Self::Subnet => "subnets",
        }
    }

    const fn is_address(self) -> bool {
        matches!(self, Self::Address | Self::Derived)
    }
}

impl Claim {
    /// The claim behind its own key.
    fn text(&self) -> String {
        match self.origin {
            Origin::Address => self.net.addr().to_string(),
            Origin::Derived => format!("its address {}", self.net.addr()),
            Origin::NodeSubnet | Origin::Subnet => self.net.to_string(),
        }
    }

    /// The claim behind another key.
    fn named(&self) -> String {
        if self.origin.is_address() { format!("address {}", self.net.addr()) } else { self.net.to_string() }
    }
}

/// Reports every prefix that overlaps one of another owner. `shared` keys are reported already.
pub(super) fn check(reader: &mut Reader<'_>, mesh: &MeshDraft, owners: &[usize], shared: &HashSet<PublicKey>) {
    let id = MeshId::from_name(&mesh.name);
    let mut claims = Vec::with_capacity(mesh.endpoints.len() * 2);
    for (endpoint, (draft, owner)) in mesh.endpoints.iter().zip(owners).enumerate() {
        claims_of(draft, &id, shared, |net, at, origin| {
            claims.push(Claim { net, endpoint, owner: *owner, at, origin });
        });
    }
    for (a, b) in sweep(&claims).pairs {
        let (Some(a), Some(b)) = (claims.get(a), claims.get(b)) else { continue };
        // The later of the two is the addition that went wrong.
        let (first, second) = if a.at <= b.at { (a, b) } else { (b, a) };
        let (Some(left), Some(right)) = (mesh.endpoints.get(second.endpoint), mesh.endpoints.get(first.endpoint))
        else {
            continue;
        };
        if !is_shared((first, right), (second, left)) {
            report(reader, (second, left), (first, right));
        }
    }
}

/// Whether both are connectors that announce the very same prefix: each of them is a way to it.
fn is_shared((a, left): (&Claim, &EndpointDraft), (b, right): (&Claim, &EndpointDraft)) -> bool {
    let announces =
        |claim: &Claim, draft: &EndpointDraft| claim.origin == Origin::Subnet && draft.kind == Kind::Connector;
    a.net == b.net && announces(a, left) && announces(b, right)
}

fn report(reader: &mut Reader<'_>, (claim, owner): (&Claim, &EndpointDraft), (other, rival): (&Claim, &EndpointDraft)) {
    let key = claim.origin.key();
    let (title, titled) = (owner.title(), rival.titled_at(&reader.source, other.at));
    let fault = if claim.net == other.net && claim.origin.is_address() && other.origin.is_address() {
        Fault::new(format!("[[endpoint]] {key}: {} of {title} is also the address of {titled}", claim.text()))
            .help("give each endpoint its own")
    } else {
        Fault::new(format!("[[endpoint]] {key}: {} of {title} overlaps {} of {titled}", claim.text(), other.named()))
            .help("a prefix has one owner, or connectors that all announce the very same one: narrow or remove one of the two")
    };
    reader.report(claim.at, format!("endpoint.{key}"), fault);
}

fn claims_of(
    draft: &EndpointDraft,
    mesh: &MeshId,
    shared: &HashSet<PublicKey>,
    mut claim: impl FnMut(IpNet, usize, Origin),
) {
    for address in &draft.addresses {
        claim(IpNet::from(address.value), address.at, Origin::Address);
    }
    if let Some(key) = &draft.public_key
        && !shared.contains(&key.value)
        && !draft.addresses.iter().any(|address| address.value.is_ipv6())
    {
        claim(IpNet::from(IpAddr::V6(derived_address(mesh, &key.value))), key.at, Origin::Derived);
    }
    for net in &draft.node_subnets {
        claim(net.value, net.at, Origin::NodeSubnet);
    }
    for net in &draft.subnets {
        claim(net.value, net.at, Origin::Subnet);
    }
}

/// Overlapping claims by position, and what it cost to find them.
struct Sweep {
    pairs: Vec<(usize, usize)>,
    /// Comparisons of two prefixes after sorting.
    #[cfg_attr(not(test), expect(dead_code, reason = "tests bound the cost by it"))]
    steps: usize,
}

/// A prefix that contains the current one, with the first claim to it and the first by another owner.
struct Level {
    net: IpNet,
    first: usize,
    other: Option<usize>,
}

/// Finds overlaps in O(n log n): sorted by address and then by length, a prefix is preceded by all that contain it,
/// and those still open form a stack of at most 129 levels. Reports a claim once per owner that it collides with.
fn sweep(claims: &[Claim]) -> Sweep {
    let mut order: Vec<(usize, &Claim)> = claims.iter().enumerate().collect();
    order.sort_unstable_by_key(|(index, claim)| (claim.net, *index));
    let owner = |index: usize| claims.get(index).map(|claim| claim.owner);
    let (mut stack, mut pairs, mut steps): (Vec<Level>, _, _) = (Vec::new(), Vec::new(), 0);
    for (index, claim) in order {
        while stack.pop_if(|level| !level.net.contains(&claim.net)).is_some() {
            steps += 1;
        }
        let mut rivals = Vec::new();
        for level in stack.iter().rev() {
            steps += 1;
            let rival = [Some(level.first), level.other].into_iter().flatten().find(|i| owner(*i) != Some(claim.owner));
            if let Some(rival) = rival
                && !rivals.contains(&owner(rival))
            {
                rivals.push(owner(rival));
                pairs.push((index, rival));
            }
        }
        match stack.last_mut().filter(|level| level.net == claim.net) {
            Some(level) if owner(level.first) == Some(claim.owner) => {}
            Some(level) => level.other = level.other.or(Some(index)),
            None => stack.push(Level { net: claim.net, first: index, other: None }),
        }
    }
    Sweep { pairs, steps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claims(nets: &[(&str, usize)]) -> Vec<Claim> {
        let claim = |(at, (net, owner)): (usize, &(&str, usize))| Claim {
            net: net.parse().unwrap(),
            endpoint: *owner,
            owner: *owner,
            at,
            origin: Origin::Subnet,
        };
        nets.iter().enumerate().map(claim).collect()
    }

    fn pairs(nets: &[(&str, usize)]) -> Vec<(usize, usize)> {
        let mut pairs: Vec<_> = sweep(&claims(nets)).pairs.into_iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        pairs.sort_unstable();
        pairs
    }

    #[test]
    fn only_overlaps_of_different_owners_are_found() {
        assert_eq!(pairs(&[("10.0.0.0/8", 0), ("10.1.0.0/16", 0), ("11.0.0.0/8", 1), ("fd00::/8", 1)]), []);
        assert_eq!(pairs(&[("10.1.0.0/16", 0), ("10.0.0.0/8", 1)]), [(0, 1)]);
        assert_eq!(pairs(&[("10.0.0.0/8", 0), ("10.0.0.0/8", 1)]), [(0, 1)]);
        // An owner's own prefix in between hides nothing.
        assert_eq!(pairs(&[("10.0.0.0/8", 0), ("10.1.0.0/16", 1), ("10.1.1.0/24", 1)]), [(0, 1), (0, 2)]);
        // Neither does the first of two claims to one prefix.
        assert_eq!(pairs(&[("10.0.0.0/8", 0), ("10.0.0.0/8", 1), ("10.1.0.0/16", 0)]), [(0, 1), (1, 2)]);
        assert_eq!(
            pairs(&[("10.0.0.0/8", 0), ("10.1.0.0/16", 1), ("10.2.0.0/16", 0), ("10.128.0.0/9", 2)]),
            [(0, 1), (0, 3)]
        );
    }

    #[test]
    fn ten_thousand_endpoints_cost_a_few_steps_each() {
        let net = |i: usize| format!("10.{}.{}.0/24", i / 256, i % 256);
        let nets: Vec<_> = (0..10_000).map(|i| (net(i), i)).collect();
        let mut nets: Vec<_> = nets.iter().map(|(net, owner)| (net.as_str(), *owner)).collect();
        let found = sweep(&claims(&nets));
        assert!(found.pairs.is_empty() && found.steps <= 2 * nets.len(), "{} steps", found.steps);
        // The worst order for a naive search: everyone inside everyone's prefix.
        nets.iter_mut().for_each(|(net, _)| *net = "10.0.0.0/8");
        let found = sweep(&claims(&nets));
        assert_eq!(found.pairs.len(), nets.len() - 1);
        assert!(found.steps <= 2 * nets.len(), "{} steps", found.steps);
    }

    proptest! {
        #[test]
        fn a_claim_is_found_exactly_if_a_naive_search_finds_it(
            nets in prop::collection::vec((0u32..64, 26u8..=32, 0usize..4), 0..12)
        ) {
            let claims: Vec<_> = nets.iter().enumerate().map(|(at, (low, len, owner))| Claim {
                net: IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 | low).into(), *len).unwrap().trunc(),
                endpoint: *owner, owner: *owner, at, origin: Origin::Subnet,
            }).collect();
            let mut naive = HashSet::new();
            for (i, a) in claims.iter().enumerate() {
                for b in &claims[..i] {
                    if a.owner != b.owner && (a.net.contains(&b.net) || b.net.contains(&a.net)) {
                        naive.insert((a.owner.min(b.owner), a.owner.max(b.owner)));
                    }
                }
            }
            let pairs = sweep(&claims).pairs;
            let mut found = HashSet::new();
            for (a, b) in pairs {
                let (a, b) = (&claims[a], &claims[b]);
                prop_assert!(a.owner != b.owner && (a.net.contains(&b.net) || b.net.contains(&a.net)));
                found.insert((a.owner.min(b.owner), a.owner.max(b.owner)));
            }
            prop_assert_eq!(found.is_empty(), naive.is_empty());
            prop_assert!(found.is_subset(&naive));
        }
    }
}
