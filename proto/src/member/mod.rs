//! Who exists and who may talk to whom: endpoints, communities, and the policy that follows from them.

mod policy;

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use ring::digest;

pub use policy::{Denial, Nearness, Permission, Policy};

use crate::id::{EndpointName, MeshId, PublicKey};

/// The UDP port of a node that names none; 6374 spells MESH on a telephone.
pub const DEFAULT_PORT: u16 = 6374;

/// The TCP port of a relay's TLS that names none: the one that networks let pass which block everything else.
pub const TLS_PORT: u16 = 443;

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An ordinary node of a site.
    Edge,
    /// A site's gateway: announces the site's subnets; every edge of the same cluster may reach it.
    Connector,
}

/// Where others may dial an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicAddress {
    /// An address, or a DNS name that the shell resolves.
    pub host: Host,
    /// UDP port, [`DEFAULT_PORT`] where the configuration names none; of a TLS address the TCP port, [`TLS_PORT`].
    pub port: u16,
}

/// The host part of a [`PublicAddress`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

/// A named member as its record describes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `<cluster>.<node>`.
    pub name: EndpointName,
    /// Edge or connector.
    pub kind: Kind,
    /// The static key that proves its identity.
    pub public_key: PublicKey,
    /// Where to dial it, best first; empty for a node that only dials out.
    pub public_addresses: Vec<PublicAddress>,
    /// Where it takes datagrams over TLS, if it relays, for members whose network blocks UDP; best first.
    pub tls_addresses: Vec<PublicAddress>,
    /// Mesh addresses that the configuration gives it; see [`Endpoint::mesh_addresses`].
    pub addresses: Vec<IpAddr>,
    /// Prefixes behind the endpoint (pods, sites), routed to it as they are.
    pub subnets: Vec<IpNet>,
    /// Its place among the connectors that announce a prefix of `subnets` too: the lowest that works is used.
    pub priority: u16,
    /// Addresses of the node itself outside the mesh (its LAN address), routed to it as they are.
    pub node_subnets: Vec<IpNet>,
    /// Whether it carries datagrams between other members; `None`: as its kind does.
    pub relay: Option<bool>,
    /// Free text for placement, such as `beijing-1`.
    pub zone: Option<String>,
    /// Free text for placement, such as `cn-north`.
    pub region: Option<String>,
}

impl Endpoint {
    /// A record that says no more than who it is.
    #[must_use]
    pub const fn new(name: EndpointName, kind: Kind, public_key: PublicKey) -> Self {
        Self {
            name,
            kind,
            public_key,
            public_addresses: Vec::new(),
            tls_addresses: Vec::new(),
            addresses: Vec::new(),
            subnets: Vec::new(),
            priority: 0,
            node_subnets: Vec::new(),
            relay: None,
            zone: None,
            region: None,
        }
    }

    /// The endpoint's own addresses in the mesh: those given, and an IPv6 ULA from its key where none is given for IPv6.
    #[must_use]
    pub fn mesh_addresses(&self, mesh: &MeshId) -> Vec<IpAddr> {
        let mut addresses = self.addresses.clone();
        if !addresses.iter().any(IpAddr::is_ipv6) {
            addresses.push(IpAddr::V6(derived_address(mesh, &self.public_key)));
        }
        addresses
    }

    /// Whether it carries datagrams between other members: connectors do, unless their record says otherwise.
    #[must_use]
    pub fn relays(&self) -> bool {
        self.relay.unwrap_or(self.kind == Kind::Connector)
    }

    /// Whether it takes datagrams over TLS.
    #[must_use]
    pub fn serves_tls(&self) -> bool {
        self.relays() && !self.tls_addresses.is_empty()
    }

    /// Every prefix that routes to this endpoint: mesh addresses as host routes, then `node_subnets` and `subnets`.
    #[must_use]
    pub fn prefixes(&self, mesh: &MeshId) -> Vec<IpNet> {
        let own = self.mesh_addresses(mesh).into_iter().map(IpNet::from);
        own.chain(self.node_subnets.iter().copied()).chain(self.subnets.iter().copied()).collect()
    }
}

/// The IPv6 address that a key has in a mesh: `fd` + 40 bits of the mesh (RFC 4193 §3.2), then 80 bits of the key's digest.
#[must_use]
pub fn derived_address(mesh: &MeshId, key: &PublicKey) -> Ipv6Addr {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"meshd address v1");
    context.update(&mesh.0);
    context.update(&key.0);
    let digest = context.finish();
    let mut octets = [0u8; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&mesh.0[..5]);
    octets[6..16].copy_from_slice(&digest.as_ref()[..10]);
    Ipv6Addr::from(octets)
}

/// A named set of endpoints that may talk to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Community {
    /// Unique within the mesh.
    pub name: String,
    /// Names of endpoints of this mesh.
    pub members: Vec<EndpointName>,
}

/// One consistent picture of the mesh, as a registry (a file, at first) gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The mesh that all of them are in.
    pub mesh: MeshId,
    /// Every endpoint, this node's own included.
    pub endpoints: Vec<Endpoint>,
    /// Every community.
    pub communities: Vec<Community>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_address_is_a_ula_that_depends_on_mesh_and_key() {
        let (lab, home) = (MeshId::from_name("lab"), MeshId::from_name("home"));
        let address = derived_address(&lab, &PublicKey([1; 32]));
        assert_eq!(address.octets()[0], 0xfd);
        assert_ne!(address, derived_address(&lab, &PublicKey([2; 32])));
        assert_ne!(address, derived_address(&home, &PublicKey([1; 32])));
        assert_eq!(address.octets()[..6], derived_address(&lab, &PublicKey([2; 32])).octets()[..6]);
    }

    #[test]
    fn a_given_ipv6_address_replaces_the_derived_one_and_an_ipv4_one_does_not() {
        let mesh = MeshId::from_name("lab");
        let mut endpoint = policy::tests::edge("a.b", 1);
        endpoint.addresses = vec!["10.99.0.1".parse().unwrap()];
        assert_eq!(endpoint.mesh_addresses(&mesh).len(), 2);
        endpoint.addresses.push("fd00::1".parse().unwrap());
        assert_eq!(endpoint.mesh_addresses(&mesh), endpoint.addresses);
    }
}
