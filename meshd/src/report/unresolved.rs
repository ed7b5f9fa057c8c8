//! Names among public addresses that did not resolve, and why.

use std::collections::BTreeMap;

use proto::id::{EndpointName, PeerId};
use proto::member::{Endpoint, Host};

use crate::resolver::Resolved;

/// What the last look-up of each peer's names left open.
#[derive(Default)]
pub(super) struct Unresolved(BTreeMap<PeerId, BTreeMap<String, String>>);

impl Unresolved {
    /// Notes what a look-up brought.
    pub(super) fn note(&mut self, resolved: &Resolved) {
        self.0.insert(resolved.peer, resolved.failures.clone());
    }

    /// Takes the records of another mesh: of the names those are kept that still stand in their peer's.
    pub(super) fn keep(&mut self, endpoints: &[Endpoint], peer_id: impl Fn(&EndpointName) -> Option<PeerId>) {
        if self.0.is_empty() {
            return;
        }
        let of_peer = |endpoint: &Endpoint| {
            let peer = peer_id(&endpoint.name)?;
            let mut failures = self.0.remove(&peer)?;
            failures.retain(|name, _| has_name(endpoint, name));
            Some((peer, failures))
        };
        self.0 = endpoints.iter().filter_map(of_peer).collect();
    }

    /// The names of a peer, each with the reason.
    pub(super) fn of(&self, peer: PeerId) -> impl Iterator<Item = (&String, &String)> {
        self.0.get(&peer).into_iter().flatten()
    }
}

fn has_name(endpoint: &Endpoint, name: &str) -> bool {
    endpoint.public_addresses.iter().any(|address| matches!(&address.host, Host::Name(host) if host == name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::id::PublicKey;
    use proto::member::{Kind, PublicAddress};

    fn endpoint(name: &str, hosts: &[Host]) -> Endpoint {
        let address = |host: &Host| PublicAddress { host: host.clone(), port: 6374 };
        Endpoint {
            name: name.parse().unwrap(),
            kind: Kind::Edge,
            public_key: PublicKey([1; 32]),
            public_addresses: hosts.iter().map(address).collect(),
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

    #[test]
    fn a_name_that_does_not_resolve_is_told_for_as_long_as_it_stands_in_its_peers_record() {
        let names = ["one.example.com", "two.example.com"];
        let mut unresolved = Unresolved::default();
        for peer in [0, 1, 2] {
            let mut resolved = Resolved::empty(PeerId(peer));
            resolved.failures = names.map(|name| (name.to_owned(), "no answer".to_owned())).into();
            unresolved.note(&resolved);
        }
        let [one, two] = names.map(|name| Host::Name(name.into()));
        let mesh = [
            endpoint("site.same", &[one, two.clone()]),
            endpoint("site.one", &[Host::Ip([192, 0, 2, 1].into()), two]),
            endpoint("site.other", &[Host::Ip([192, 0, 2, 2].into())]),
        ];
        // The third peer is gone, and another endpoint has a number of its own.
        let ids = ["site.same", "site.one"];
        let peer_id = |name: &EndpointName| {
            let number = ids.iter().position(|known| *known == name.as_str()).unwrap_or(7);
            Some(PeerId(number as u32))
        };
        unresolved.keep(&mesh, peer_id);
        let told =
            [0, 1, 2, 7].map(|peer| unresolved.of(PeerId(peer)).map(|(name, _)| name.as_str()).collect::<Vec<_>>());
        assert_eq!(told, [names.to_vec(), vec![names[1]], vec![], vec![]]);
        unresolved.keep(&[endpoint("site.one", &[Host::Ip([192, 0, 2, 1].into())])], peer_id);
        assert_eq!(unresolved.of(PeerId(1)).count(), 0);
    }
}
