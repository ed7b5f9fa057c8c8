//! Who is in which community, in four bytes for each membership: a mesh has thousands.

use std::collections::BTreeMap;

use proto::member::Members;

/// The communities of a mesh. Their members are known by the place of their names among all endpoints, sorted.
pub(super) struct Communities(Box<[Community]>);

struct Community {
    name: String,
    /// Ascending.
    members: Box<[u32]>,
}

impl Communities {
    pub(super) fn of(members: &Members) -> Self {
        let mut names: Vec<_> = members.endpoints.iter().map(|endpoint| &endpoint.name).collect();
        names.sort_unstable();
        let numbers: BTreeMap<_, u32> = names.into_iter().zip(0..).collect();
        let community = |community: &proto::member::Community| {
            let mut members: Vec<u32> =
                community.members.iter().filter_map(|name| numbers.get(name).copied()).collect();
            members.sort_unstable();
            Community { name: community.name.clone(), members: members.into() }
        };
        Self(members.communities.iter().map(community).collect())
    }

    /// The names of those communities that have the endpoint of this place.
    pub(super) fn of_number(&self, number: usize) -> Vec<String> {
        let has = |community: &&Community| {
            u32::try_from(number).is_ok_and(|number| community.members.binary_search(&number).is_ok())
        };
        self.0.iter().filter(has).map(|community| community.name.clone()).collect()
    }
}
