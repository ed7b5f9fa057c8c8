//! What a run of `ways` leaves behind.

use std::time::Duration;

use netns_tests::nat::{Allocation, Behaviour, Class, Filtering, Mapping, NatKind, Wall};
use netns_tests::ways::{Met, Way, expected};
use serde::Serialize;

use crate::record::Setting;

/// One run, as it is written to its JSON file.
#[derive(Debug, Serialize)]
pub(super) struct WaysRecord {
    /// Raised when a field changes its meaning.
    pub(super) format: u32,
    /// Tells it from the record of a comparison.
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) setting: Setting,
    /// Of every edge, each way.
    pub(super) uplink_ms: u128,
    pub(super) pairs: Vec<PairRecord>,
    pub(super) failures: Vec<String>,
}

/// A pair in a round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PairRecord {
    pub(super) round: u32,
    pub(super) one: String,
    pub(super) other: String,
    /// What the two do to ports, in the terms of RFC 4787: pairs of equal kind make a row of the table.
    pub(super) kind: String,
    pub(super) expected: &'static str,
    pub(super) way: &'static str,
    pub(super) first_byte_ms: f64,
    /// From the same moment; none where the pair stayed with a relay.
    pub(super) direct_ms: Option<f64>,
}

impl PairRecord {
    pub(super) fn of(round: u32, met: &Met) -> Self {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        Self {
            round,
            one: name(&met.one),
            other: name(&met.other),
            kind: kind(&met.one, &met.other),
            expected: way(expected(&met.one, &met.other)),
            way: way(met.way),
            first_byte_ms: millis(met.first_byte),
            direct_ms: met.direct.map(millis),
        }
    }

    /// Whether it ended at the way that the rule says.
    pub(super) fn is_as_expected(&self) -> bool {
        self.way == self.expected
    }
}

const fn way(way: Way) -> &'static str {
    match way {
        Way::Direct => "direct",
        Way::Relayed => "relayed",
        Way::Tls => "tls",
    }
}

fn name(class: &Class) -> String {
    let v4 = class.v4.map(|nat| format!("{nat:?}"));
    let v6 = class.v6.map(|wall| format!("IPv6 {wall:?}"));
    v4.into_iter().chain(v6).collect::<Vec<_>>().join(" + ")
}

/// The better of two comes first, so that a pair is called alike from both sides.
fn kind(one: &Class, other: &Class) -> String {
    if !one.shares_family_with(other) {
        return "no family in common".to_owned();
    }
    let mut names = [one, other].map(ports);
    names.sort_unstable();
    let [(_, one), (_, other)] = names;
    format!("{one} – {other}")
}

fn ports(class: &Class) -> (u8, &'static str) {
    match (class.v4.map(NatKind::behaviour), class.v6) {
        (_, Some(Wall::Open)) => (0, "IPv6, open"),
        (None, Some(Wall::Firewall)) => (1, "IPv6, firewall"),
        (Some(_), Some(Wall::Firewall)) => (2, "both, IPv6 firewall"),
        (None | Some(None), None) => (7, "no UDP"),
        (Some(Some(Behaviour { mapping, filtering, .. })), None) => match (mapping, filtering) {
            (Mapping::EndpointIndependent, Filtering::EndpointIndependent | Filtering::AddressDependent) => {
                (3, "same port, lenient")
            }
            (Mapping::EndpointIndependent, Filtering::EndpointDependent) => (4, "same port, strict"),
            (Mapping::EndpointDependent(Allocation::Sequential(_)), _) => (5, "next port"),
            (Mapping::AddressDependent | Mapping::EndpointDependent(Allocation::Random), _) => (6, "any port"),
        },
    }
}
