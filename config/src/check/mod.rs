//! Holds the parts of a mesh against each other: what is fine alone and wrong together.

mod odd;
mod overlap;

use std::collections::{HashMap, HashSet};

use proto::id::PublicKey;

pub(crate) use odd::oddities;

use crate::error::{Fault, quote};
use crate::mesh::{CommunityDraft, EndpointDraft, MeshDraft};
use crate::read::Reader;
use crate::{shape, suggest};

/// Most unknown members that get a suggestion: each costs a comparison with every endpoint.
pub(crate) const SUGGESTIONS: usize = 20;

/// Reports everything that does not fit together. Call it for a whole file only.
pub(crate) fn mesh(reader: &mut Reader<'_>, mesh: &MeshDraft) {
    if mesh.endpoints.is_empty() {
        let fault = Fault::new("the mesh has no [[endpoint]]").help("add one for every node, this one included");
        reader.report(0, shape::ENDPOINT.name, fault);
    }
    let owners = unique_names(reader, &mesh.endpoints);
    let shared = unique_keys(reader, &mesh.endpoints);
    overlap::check(reader, mesh, &owners, &shared);
    communities(reader, mesh);
}

/// Refuses a second endpoint of a name. Returns for each endpoint the first one of its name.
fn unique_names(reader: &mut Reader<'_>, endpoints: &[EndpointDraft]) -> Vec<usize> {
    let mut first: HashMap<&str, usize> = HashMap::with_capacity(endpoints.len());
    let mut owners = Vec::with_capacity(endpoints.len());
    for (index, endpoint) in endpoints.iter().enumerate() {
        let label = endpoint.label.value.as_str();
        let owner = if label.is_empty() { index } else { *first.entry(label).or_insert(index) };
        owners.push(owner);
        if let Some(other) = endpoints.get(owner).filter(|_| owner != index) {
            let line = reader.source.line(other.label.at);
            let fault = Fault::new(format!("endpoint {} stands twice, first in {line}", quote(label)));
            reader.report(endpoint.label.at, "endpoint.name", fault.help("rename or remove one of the two"));
        }
    }
    owners
}

/// Refuses a second endpoint of a key. Returns the keys that more than one has.
fn unique_keys(reader: &mut Reader<'_>, endpoints: &[EndpointDraft]) -> HashSet<PublicKey> {
    let mut first: HashMap<PublicKey, &EndpointDraft> = HashMap::with_capacity(endpoints.len());
    let mut shared = HashSet::new();
    for endpoint in endpoints {
        let Some(key) = &endpoint.public_key else { continue };
        let other = *first.entry(key.value).or_insert(endpoint);
        if other.at == endpoint.at {
            continue;
        }
        shared.insert(key.value);
        let message =
            format!("[[endpoint]] public_key: {} has the key of {}", endpoint.title(), other.titled(&reader.source));
        let fault = Fault::new(message).help("every node has its own: run `meshd key generate` on one of the two");
        reader.report(key.at, "endpoint.public_key", fault);
    }
    shared
}

fn communities(reader: &mut Reader<'_>, mesh: &MeshDraft) {
    let names: HashSet<&str> = mesh.endpoints.iter().map(|endpoint| endpoint.label.value.as_str()).collect();
    let mut sorted: Vec<&str> = names.iter().copied().collect();
    sorted.sort_unstable();
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut suggestions = SUGGESTIONS;
    for community in &mesh.communities {
        if let Some(name) = &community.name {
            let at = *first.entry(&name.value).or_insert(name.at);
            if at != name.at {
                let line = reader.source.line(at);
                let fault = Fault::new(format!("community {} stands twice, first in {line}", quote(&name.value)));
                reader.report(name.at, "community.name", fault.help("rename one, or merge their members"));
            }
        }
        members(reader, community, &names, &sorted, &mut suggestions);
    }
}

fn members(
    reader: &mut Reader<'_>,
    community: &CommunityDraft,
    names: &HashSet<&str>,
    sorted: &[&str],
    suggestions: &mut usize,
) {
    let mut seen = HashSet::with_capacity(community.members.len());
    let title = community.title();
    for member in &community.members {
        let name = member.value.as_str();
        if !seen.insert(name) {
            let fault = Fault::new(format!("[[community]] members: {} stands twice in {title}", quote(name)));
            reader.report(member.at, "community.members", fault.help("remove one of the two"));
        }
        if names.contains(name) {
            continue;
        }
        let fault =
            Fault::new(format!("[[community]] members: {} in {title} is no endpoint of this mesh", quote(name)));
        let near = if *suggestions > 0 { suggest::nearest(name, sorted.iter().copied()) } else { None };
        *suggestions = suggestions.saturating_sub(1);
        let help = match near {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "add an [[endpoint]] of this name, or remove it".to_owned(),
        };
        reader.report(member.at, "community.members", fault.help(help));
    }
}
