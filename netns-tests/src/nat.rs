//! NATs, as they stand before real hosts: nftables in router namespaces, around an [`Internet`].
//!
//! A [`Class`] says what stands between a host and the internet, for each family that it has. [`Internet::premises`]
//! builds it: a LAN, gateways, and an uplink that is a [`Link`](crate::link::Link), so it can be cut, narrowed or slow.
//! [`measure`] tells from outside, by plain UDP sockets, what a NAT does (RFC 4787); [`NatKind::behaviour`] is what it
//! should. [`Gateway`]s forget their mappings, get other addresses, and time out sooner.

mod addresses;
mod conntrack;
mod gateway;
mod internet;
pub mod measure;
mod premises;
mod rules;

pub use gateway::Gateway;
pub use internet::Internet;
pub use premises::{Premises, Station};

/// What stands between a host and the internet, for IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    /// A router that translates nothing: the host has a public address.
    None,
    /// One outer port for all destinations, and who knows it gets in (RFC 3489 §5: full cone).
    FullCone,
    /// One outer port for all destinations; in get hosts that were sent to, from any port (RFC 3489 §5: restricted cone).
    AddressRestricted,
    /// One outer port for all destinations; in get endpoints that were sent to (RFC 3489 §5: port restricted cone): what
    /// Linux's own NAT does before one host.
    PortRestricted,
    /// As [`PortRestricted`](Self::PortRestricted), but the outer port is never the inner one: a carrier's, whose
    /// customers share an address (RFC 6888).
    Cgn,
    /// A new outer port for each destination, one more than the last.
    SymmetricSequential,
    /// A new outer port for each destination, at random.
    SymmetricRandom,
    /// As [`PortRestricted`](Self::PortRestricted) for TCP; UDP is dropped both ways, without a word.
    NoUdp,
    /// Two in a row: the host's own, and its provider's.
    DoubleNat(&'static Self, &'static Self),
}

/// What stands between a host and the internet, for IPv6. Nothing translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wall {
    /// A router that lets everything in.
    Open,
    /// A stateful firewall that lets in answers only (RFC 6092).
    Firewall,
}

/// Whether hosts behind one NAT reach each other's outer ports (RFC 4787 §6). What is let in from inside is not filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hairpin {
    /// They do, and see each other's outer ports as sources.
    On,
    /// They do not: as most NATs are.
    #[default]
    Off,
}

/// Where a host stands: what is before it in each family that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class {
    /// IPv4; none for hosts without.
    pub v4: Option<NatKind>,
    /// IPv6; none for hosts without.
    pub v6: Option<Wall>,
    /// Of each gateway, for IPv4.
    pub hairpin: Hairpin,
}

/// Whether a host's outer port depends on whom it sends to (RFC 4787 §4.1), in ascending order of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// It does not.
    EndpointIndependent,
    /// Each address gets another.
    AddressDependent,
    /// Each address and port gets another.
    EndpointDependent(Allocation),
}

/// How a NAT finds the next outer port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allocation {
    /// So many more than the last.
    Sequential(u16),
    /// Nobody can tell.
    Random,
}

/// Who reaches an outer port that is in use (RFC 4787 §5), in ascending order of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filtering {
    /// Everybody.
    EndpointIndependent,
    /// The addresses that it sent to, from any port.
    AddressDependent,
    /// The addresses and ports that it sent to.
    EndpointDependent,
}

/// Whether the first outer port is the inner one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ports {
    /// It is.
    Preserved,
    /// It is not.
    Rewritten,
}

/// What a NAT does to UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Of inner endpoints to outer ones.
    pub mapping: Mapping,
    /// Of what comes back.
    pub filtering: Filtering,
    /// Of the first mapping.
    pub ports: Ports,
}

impl NatKind {
    /// Every kind, and the pairs in a row that are met most: a home router, or a phone, behind a carrier's NAT.
    pub const ALL: [Self; 12] = [
        Self::None,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Cgn,
        Self::SymmetricSequential,
        Self::SymmetricRandom,
        Self::NoUdp,
        Self::DoubleNat(&Self::PortRestricted, &Self::Cgn),
        Self::DoubleNat(&Self::PortRestricted, &Self::SymmetricRandom),
        Self::DoubleNat(&Self::FullCone, &Self::FullCone),
        Self::DoubleNat(&Self::SymmetricSequential, &Self::Cgn),
    ];

    /// What stands there, the host's own gateway first; never empty, and with [`None`](Self::None) only where it is alone.
    #[must_use]
    pub fn layers(self) -> Vec<Self> {
        let mut layers = self.translators();
        if layers.is_empty() {
            layers.push(Self::None);
        }
        layers
    }

    fn translators(self) -> Vec<Self> {
        match self {
            Self::None => vec![],
            Self::DoubleNat(inner, outer) => [inner.translators(), outer.translators()].concat(),
            Self::FullCone
            | Self::AddressRestricted
            | Self::PortRestricted
            | Self::Cgn
            | Self::SymmetricSequential
            | Self::SymmetricRandom
            | Self::NoUdp => vec![self],
        }
    }

    /// What it should do to UDP; none when nothing passes.
    #[must_use]
    pub fn behaviour(self) -> Option<Behaviour> {
        use Allocation::{Random, Sequential};
        let one = |mapping, filtering, ports| Some(Behaviour { mapping, filtering, ports });
        let cone = |filtering, ports| one(Mapping::EndpointIndependent, filtering, ports);
        let symmetric = |next| one(Mapping::EndpointDependent(next), Filtering::EndpointDependent, Ports::Rewritten);
        match self {
            Self::None | Self::FullCone => cone(Filtering::EndpointIndependent, Ports::Preserved),
            Self::AddressRestricted => cone(Filtering::AddressDependent, Ports::Preserved),
            Self::PortRestricted => cone(Filtering::EndpointDependent, Ports::Preserved),
            Self::Cgn => cone(Filtering::EndpointDependent, Ports::Rewritten),
            Self::SymmetricSequential => symmetric(Sequential(rules::STEP)),
            Self::SymmetricRandom => symmetric(Random),
            Self::NoUdp => None,
            Self::DoubleNat(inner, outer) => Some(inner.behaviour()?.behind(outer.behaviour()?)),
        }
    }
}

impl Behaviour {
    /// What a NAT and another one outside it do together.
    fn behind(self, outer: Self) -> Self {
        let mapping = match (self.mapping, outer.mapping) {
            // The last to choose decides how ports follow each other, and each port inside is a new host to it.
            (_, Mapping::EndpointDependent(next)) => Mapping::EndpointDependent(next),
            (Mapping::EndpointDependent(_), _) if outer.ports == Ports::Rewritten => {
                Mapping::EndpointDependent(Allocation::Random)
            }
            (inner, outer) => inner.max(outer),
        };
        Self { mapping, filtering: self.filtering.max(outer.filtering), ports: self.ports.max(outer.ports) }
    }
}

impl Class {
    /// Hosts without IPv6.
    #[must_use]
    pub const fn v4(nat: NatKind) -> Self {
        Self { v4: Some(nat), v6: None, hairpin: Hairpin::Off }
    }

    /// Hosts without IPv4.
    #[must_use]
    pub const fn v6(wall: Wall) -> Self {
        Self { v4: None, v6: Some(wall), hairpin: Hairpin::Off }
    }

    /// Hosts with both.
    #[must_use]
    pub const fn dual(nat: NatKind, wall: Wall) -> Self {
        Self { v4: Some(nat), v6: Some(wall), hairpin: Hairpin::Off }
    }

    /// The same behind a NAT that hairpins.
    #[must_use]
    pub const fn hairpinning(self) -> Self {
        Self { hairpin: Hairpin::On, ..self }
    }

    /// The classes that tables of pairings are made of: IPv4 behind each of [`NatKind::ALL`], IPv6 behind each wall, and
    /// both behind the worst of either.
    #[must_use]
    pub fn table() -> Vec<Self> {
        let v4 = NatKind::ALL.into_iter().map(Self::v4);
        let v6 = [Self::v6(Wall::Open), Self::v6(Wall::Firewall)];
        let dual = [Self::dual(NatKind::SymmetricRandom, Wall::Firewall)];
        v4.chain(v6).chain(dual).collect()
    }

    /// Every pair of [`table`](Self::table) once, each class with itself included.
    #[must_use]
    pub fn pairings() -> Vec<(Self, Self)> {
        let table = Self::table();
        let later = |from: usize| table.iter().skip(from).copied();
        table.iter().enumerate().flat_map(|(number, &one)| later(number).map(move |other| (one, other))).collect()
    }

    /// Whether hosts of the two classes have a family in common, without which only a relay can connect them.
    #[must_use]
    pub const fn shares_family_with(&self, other: &Self) -> bool {
        self.v4.is_some() && other.v4.is_some() || self.v6.is_some() && other.v6.is_some()
    }
}
