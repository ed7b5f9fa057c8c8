//! Default deny: who may talk to whom, and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Endpoint, Kind, Members};
use crate::id::EndpointName;

/// Why two endpoints may talk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Both are members of this community.
    Community(Arc<str>),
    /// One is the connector of the other's cluster.
    OwnConnector,
    /// They hear each other on a LAN, and count the holders of its token as a community.
    Neighbour,
}

/// Whether two endpoints hear each other on a LAN whose token holders count as a community.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nearness {
    /// They do now.
    Near,
    /// They do not, or do not any more, or the token is no community.
    Far,
}

/// Why two endpoints may not talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No community holds both, and neither is the other's connector.
    #[error("no community has both as members")]
    NoCommonCommunity,
    /// Nothing is known of one of them.
    #[error("it is not an endpoint of this mesh")]
    Unknown,
    /// An endpoint does not talk to itself through the mesh.
    #[error("it is this node itself")]
    Itself,
    /// It is invited, and has told no key of its own.
    #[error("it is invited and has not joined yet")]
    Invited,
}

/// The memberships of a mesh, indexed by endpoint.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    endpoints: BTreeMap<EndpointName, Entry>,
    communities: Vec<Arc<str>>,
}

#[derive(Clone, Debug)]
struct Entry {
    kind: Kind,
    /// Ascending indices into `communities`.
    communities: Vec<u32>,
}

impl Policy {
    /// Indexes the memberships. Names of no endpoint are skipped: the configuration has refused them already.
    #[must_use]
    pub fn new(members: &Members) -> Self {
        let entry = |e: &Endpoint| (e.name.clone(), Entry { kind: e.kind, communities: Vec::new() });
        let mut policy = Self { endpoints: members.endpoints.iter().map(entry).collect(), communities: Vec::new() };
        for (index, community) in (0u32..).zip(&members.communities) {
            policy.communities.push(community.name.as_str().into());
            for member in &community.members {
                if let Some(entry) = policy.endpoints.get_mut(member)
                    && entry.communities.last() != Some(&index)
                {
                    entry.communities.push(index);
                }
            }
        }
        policy
    }

    /// Decides for one pair; the order of the two does not matter.
    ///
    /// # Errors
    /// The [`Denial`] that keeps them apart.
    pub fn check(&self, a: &EndpointName, b: &EndpointName) -> Result<Permission, Denial> {
        if a == b {
            return Err(Denial::Itself);
        }
        let (Some(left), Some(right)) = (self.endpoints.get(a), self.endpoints.get(b)) else {
            return Err(Denial::Unknown);
        };
        if let Some(community) = self.common_community(left, right) {
            return Ok(Permission::Community(Arc::clone(community)));
        }
        // A connector serves the edges of its own site; two connectors of one site are peers like any others.
        if a.cluster() == b.cluster() && left.kind != right.kind {
            return Ok(Permission::OwnConnector);
        }
        Err(Denial::NoCommonCommunity)
    }

    /// What a decision of [`Policy::check`], or one that this has widened before, becomes for two that are so near. Only the want of
    /// a common community is made good: both are endpoints, and what else keeps them apart stays.
    ///
    /// # Errors
    /// The [`Denial`] that keeps them apart all the same.
    pub fn among_neighbours(decision: Result<Permission, Denial>, nearness: Nearness) -> Result<Permission, Denial> {
        match (decision, nearness) {
            (Err(Denial::NoCommonCommunity), Nearness::Near) => Ok(Permission::Neighbour),
            (Ok(Permission::Neighbour), Nearness::Far) => Err(Denial::NoCommonCommunity),
            (decision, Nearness::Near | Nearness::Far) => decision,
        }
    }

    fn common_community(&self, left: &Entry, right: &Entry) -> Option<&Arc<str>> {
        let shared = left.communities.iter().find(|index| right.communities.binary_search(index).is_ok())?;
        self.communities.get(*shared as usize)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::id::{MeshId, PublicKey};
    use crate::member::Community;

    pub(crate) fn edge(name: &str, key: u8) -> Endpoint {
        Endpoint {
            name: name.parse().unwrap(),
            kind: Kind::Edge,
            public_key: PublicKey([key; 32]),
            public_addresses: Vec::new(),
            tls_addresses: Vec::new(),
            addresses: Vec::new(),
            subnets: Vec::new(),
            node_subnets: Vec::new(),
            priority: 0,
            relay: None,
            zone: None,
            region: None,
        }
    }

    fn members() -> Members {
        let connector = |name, key| Endpoint { kind: Kind::Connector, ..edge(name, key) };
        let community = |name: &str, members: &[&str]| Community {
            name: name.into(),
            members: members.iter().map(|m| m.parse().unwrap()).collect(),
        };
        Members {
            mesh: MeshId::from_name("test"),
            endpoints: vec![
                connector("beijing.connector", 1),
                edge("beijing.edge1", 2),
                edge("beijing.edge2", 3),
                connector("shanghai.connector", 4),
                edge("shanghai.edge1", 5),
            ],
            communities: vec![
                community("sites", &["beijing.connector", "shanghai.connector"]),
                community("edges", &["beijing.edge1", "shanghai.edge1"]),
            ],
        }
    }

    #[test]
    fn everything_is_denied_but_a_common_community_and_the_own_connector() {
        let policy = Policy::new(&members());
        let check = |a: &str, b: &str| policy.check(&a.parse().unwrap(), &b.parse().unwrap());
        assert_eq!(check("beijing.edge1", "beijing.connector"), Ok(Permission::OwnConnector));
        assert_eq!(check("beijing.connector", "beijing.edge2"), Ok(Permission::OwnConnector));
        assert_eq!(check("beijing.edge1", "beijing.edge2"), Err(Denial::NoCommonCommunity));
        assert_eq!(check("beijing.edge1", "shanghai.edge1"), Ok(Permission::Community("edges".into())));
        assert_eq!(check("beijing.edge1", "shanghai.connector"), Err(Denial::NoCommonCommunity));
        assert_eq!(check("beijing.connector", "shanghai.connector"), Ok(Permission::Community("sites".into())));
        assert_eq!(check("beijing.edge1", "beijing.edge9"), Err(Denial::Unknown));
        assert_eq!(check("beijing.edge1", "beijing.edge1"), Err(Denial::Itself));
    }

    #[test]
    fn being_near_makes_good_the_want_of_a_community_and_nothing_else_and_only_for_as_long() {
        let near = |decision| Policy::among_neighbours(decision, Nearness::Near);
        let far = |decision| Policy::among_neighbours(decision, Nearness::Far);
        assert_eq!(near(Err(Denial::NoCommonCommunity)), Ok(Permission::Neighbour));
        assert_eq!(far(near(Err(Denial::NoCommonCommunity))), Err(Denial::NoCommonCommunity));
        for other in [Err(Denial::Unknown), Err(Denial::Itself), Ok(Permission::OwnConnector)] {
            assert_eq!((near(other.clone()), far(other.clone())), (other.clone(), other));
        }
    }

    #[test]
    fn the_order_of_a_pair_does_not_matter() {
        let members = members();
        let policy = Policy::new(&members);
        for a in &members.endpoints {
            for b in &members.endpoints {
                assert_eq!(policy.check(&a.name, &b.name), policy.check(&b.name, &a.name));
            }
        }
    }
}
