//! The tables of a mesh: its endpoints and communities, as they are written, before they are held against each other.

use std::collections::HashSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use proto::id::{EndpointName, MeshId, PublicKey};
use proto::invitation::{Invited, UnixTime};
use proto::member::{Community, Endpoint, Kind, Members, PublicAddress};
use toml::de::{DeTable, DeValue};

use crate::error::{Fault, quote};
use crate::label::{self, Label};
use crate::note::Value;
use crate::read::{Located, Reader, Section};
use crate::source::Source;
use crate::{address, invite, node, scalar, shape};

const MESH_NAME: &str = "default";
pub(crate) const KINDS: [(&str, Kind); 2] = [("edge", Kind::Edge), ("connector", Kind::Connector)];

/// The lowest is preferred.
const PRIORITY_RANGE: RangeInclusive<u32> = 0..=u16::MAX as u32;

/// A mesh as it is written; what was refused is absent.
pub(crate) struct MeshDraft {
    pub(crate) name: String,
    pub(crate) endpoints: Vec<EndpointDraft>,
    pub(crate) communities: Vec<CommunityDraft>,
    /// The labels that select an endpoint; none select all.
    pub(crate) selector: Vec<Located<Label>>,
}

/// An endpoint as it is written.
pub(crate) struct EndpointDraft {
    /// Offset of its header.
    pub(crate) at: usize,
    /// Its name for messages and comparisons, even if it is none; empty where it is absent.
    pub(crate) label: Located<String>,
    pub(crate) name: Option<EndpointName>,
    pub(crate) kind: Kind,
    pub(crate) public_key: Option<Located<PublicKey>>,
    pub(crate) public_addresses: Vec<Located<PublicAddress>>,
    pub(crate) tls_addresses: Vec<Located<PublicAddress>>,
    pub(crate) addresses: Vec<Located<IpAddr>>,
    pub(crate) subnets: Vec<Located<IpNet>>,
    pub(crate) node_subnets: Vec<Located<IpNet>>,
    pub(crate) priority: u16,
    pub(crate) relay: Option<bool>,
    pub(crate) zone: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) labels: Vec<Located<Label>>,
    /// Until when it is invited; `None` where it is a member.
    pub(crate) invited_until: Option<UnixTime>,
}

/// A community as it is written.
pub(crate) struct CommunityDraft {
    pub(crate) name: Option<Located<String>>,
    /// Offset of its list of members, or of its header.
    pub(crate) members_at: usize,
    pub(crate) members: Vec<Located<String>>,
}

/// Reads the tables of a mesh.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> MeshDraft {
    let mesh = reader.section(root, &shape::MESH);
    let name = reader.value_or(mesh, "name", MESH_NAME.to_owned(), scalar::label, Value::text);
    let endpoints = reader.sections(root, &shape::ENDPOINT);
    let communities = reader.sections(root, &shape::COMMUNITY);
    MeshDraft {
        name,
        endpoints: endpoints.into_iter().map(|section| endpoint(reader, section)).collect(),
        communities: communities.into_iter().map(|section| community(reader, section)).collect(),
        selector: label::selector(reader, root),
    }
}

impl MeshDraft {
    /// The names of the endpoints that are not selected.
    pub(crate) fn unselected(&self) -> Vec<EndpointName> {
        let names = self.endpoints.iter().filter(|endpoint| !self.selects(endpoint));
        names.filter_map(|endpoint| endpoint.name.clone()).collect()
    }

    /// Whether the selector selects an endpoint: it has all labels.
    pub(crate) fn selects(&self, endpoint: &EndpointDraft) -> bool {
        self.selector.iter().all(|wanted| endpoint.labels.iter().any(|label| label.value == wanted.value))
    }

    /// Those who are invited, of what was not refused, each with its place.
    pub(crate) fn invited(&self) -> Vec<Located<Invited>> {
        let one = |draft: &EndpointDraft| {
            let (name, key, until) = (draft.name.clone()?, draft.public_key.as_ref()?.value, draft.invited_until?);
            Some(Located { value: Invited { name, key, until }, at: draft.label.at })
        };
        self.endpoints.iter().filter_map(one).collect()
    }

    /// The members, of what was not refused, without those that are `left_out`. Who is invited is none, in no community either.
    pub(crate) fn members(mut self, left_out: &HashSet<&EndpointName>) -> Members {
        let guests: HashSet<EndpointName> = self.invited().into_iter().map(|guest| guest.value.name).collect();
        self.endpoints.retain(|endpoint| endpoint.invited_until.is_none());
        let is_in = |name: &EndpointName| !left_out.contains(name) && !guests.contains(name);
        let community = |draft: CommunityDraft| {
            let members = draft.members.iter().filter_map(|member| member.value.parse().ok()).filter(is_in).collect();
            Some(Community { name: draft.name?.value, members })
        };
        let endpoints = self.endpoints.into_iter().filter_map(EndpointDraft::endpoint);
        Members {
            mesh: MeshId::from_name(&self.name),
            endpoints: endpoints.filter(|endpoint| is_in(&endpoint.name)).collect(),
            communities: self.communities.into_iter().filter_map(community).collect(),
        }
    }
}

impl EndpointDraft {
    /// How a message names it: by its name, or as the one without.
    pub(crate) fn title(&self) -> String {
        if self.label.value.is_empty() { "an endpoint without name".to_owned() } else { quote(&self.label.value) }
    }

    /// Its title and line, for a message about another place of the same file.
    pub(crate) fn titled(&self, source: &Source<'_>) -> String {
        self.titled_at(source, self.label.at)
    }

    /// Its title and the line of one of its values.
    pub(crate) fn titled_at(&self, source: &Source<'_>, at: usize) -> String {
        format!("{} ({})", self.title(), source.line(at))
    }

    /// The cluster in its name.
    pub(crate) fn cluster(&self) -> &str {
        self.name.as_ref().map_or("", EndpointName::cluster)
    }

    /// Whether it carries datagrams between others, as [`Endpoint::relays`] will say.
    pub(crate) fn relays(&self) -> bool {
        self.relay.unwrap_or(self.kind == Kind::Connector)
    }

    fn endpoint(self) -> Option<Endpoint> {
        Some(Endpoint {
            name: self.name?,
            kind: self.kind,
            public_key: self.public_key?.value,
            public_addresses: values(self.public_addresses),
            tls_addresses: values(self.tls_addresses),
            addresses: values(self.addresses),
            subnets: values(self.subnets),
            node_subnets: values(self.node_subnets),
            priority: self.priority,
            relay: self.relay,
            zone: self.zone,
            region: self.region,
        })
    }
}

impl CommunityDraft {
    /// How a message names it.
    pub(crate) fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("community {}", quote(&name.value)),
            None => "a community without name".to_owned(),
        }
    }
}

fn values<T>(located: Vec<Located<T>>) -> Vec<T> {
    located.into_iter().map(|located| located.value).collect()
}

fn endpoint(reader: &mut Reader<'_>, section: Section<'_>) -> EndpointDraft {
    let name = reader.required(section, "name", "name = \"<cluster>.<node>\"", node::name);
    let written = section.value("name").and_then(|value| value.get_ref().as_str()).unwrap_or_default();
    let mut text = |key: &str| reader.optional(section, key, scalar::label).map(|label| label.value);
    let (zone, region) = (text("zone"), text("region"));
    let invited_until = reader.optional(section, "invited_until", invite::until).map(|until| until.value);
    EndpointDraft {
        at: section.at,
        label: Located { value: written.to_owned(), at: section.place_of("name") },
        name: name.map(|name| name.value),
        kind: reader
            .optional(section, "kind", |value| scalar::choice(value, &KINDS))
            .map_or(Kind::Edge, |kind| kind.value),
        public_key: reader.required(
            section,
            "public_key",
            "public_key = \"…\", which `meshd key show` prints on that node",
            public_key,
        ),
        public_addresses: reader.list(section, "public_addresses", address::public_address),
        tls_addresses: reader.list(section, "tls_addresses", address::tls_address),
        addresses: addresses(reader, section),
        subnets: reader.list(section, "subnets", address::subnet),
        node_subnets: reader.list(section, "node_subnets", address::node_subnet),
        priority: reader
            .optional(section, "priority", |value| scalar::integer(value, &PRIORITY_RANGE))
            .and_then(|priority| u16::try_from(priority.value).ok())
            .unwrap_or_default(),
        relay: reader.optional(section, "relay", scalar::switch).map(|relay| relay.value),
        zone,
        region,
        labels: label::read(reader, section),
        invited_until,
    }
}

/// Never repeats the text: it may be a private key that was put in the wrong place.
fn public_key(value: &DeValue<'_>) -> Result<PublicKey, Fault> {
    let Some(text) = value.as_str() else {
        return Err(Fault::new(format!("must be a text, not {}", scalar::article(value))).help("put it in quotes"));
    };
    text.parse().map_err(|_| {
        Fault::new("is not a key: 32 bytes in base64, 44 characters ending in =")
            .help("copy what `meshd key show` prints on that node")
    })
}

/// Reads `address`: one text or a list, at most one of each family.
fn addresses(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<Located<IpAddr>> {
    const KEY: &str = "address";
    let is_text = section.value(KEY).is_some_and(|value| value.get_ref().as_str().is_some());
    let mut addresses = if is_text {
        let one = reader.optional(section, KEY, |value| address::mesh_address(scalar::text(value)?));
        one.into_iter().collect()
    } else {
        reader.list(section, KEY, address::mesh_address)
    };
    let mut seen = [false; 2];
    addresses.retain(|Located { value, at }| {
        let (taken, family) = match (value, &mut seen) {
            (IpAddr::V4(_), [v4, _]) => (v4, "IPv4"),
            (IpAddr::V6(_), [_, v6]) => (v6, "IPv6"),
        };
        if std::mem::replace(taken, true) {
            let fault = Fault::new(format!("{value} is a second {family} address"));
            reader.report_key(section, KEY, *at, fault.help("keep at most one IPv4 and one IPv6 address"));
            return false;
        }
        true
    });
    addresses
}

fn community(reader: &mut Reader<'_>, section: Section<'_>) -> CommunityDraft {
    let name = reader.required(section, "name", "name = \"…\"", scalar::label);
    if section.value("members").is_none() {
        let _absent = reader.required(section, "members", "members = [\"<cluster>.<node>\", …]", |_| Ok(()));
    }
    let members = reader.list(section, "members", |text| match text.parse::<EndpointName>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(node::bad_name(text, error)),
    });
    CommunityDraft { name, members_at: section.place_of("members"), members }
}
