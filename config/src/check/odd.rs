//! What is legal in a mesh but seldom meant.

use std::collections::{HashMap, HashSet};

use proto::member::{Host, Kind};

use crate::error::quote;
use crate::mesh::{EndpointDraft, MeshDraft};
use crate::source::{Place, Source};

/// Lists what is odd, each with its place. Call it for a mesh without problems only.
pub(crate) fn oddities(source: &Source<'_>, mesh: &MeshDraft) -> Vec<String> {
    let mut odd = Vec::new();
    lonely_communities(mesh, &mut odd);
    lonely_endpoints(mesh, &mut odd);
    shared_public_addresses(source, mesh, &mut odd);
    unselected(mesh, &mut odd);
    odd.sort_by_key(|(at, _)| *at);
    let placed = |(at, text)| {
        let Place { line, column } = source.place(at);
        format!("{}:{line}:{column}: {text}", source.file.display())
    };
    odd.into_iter().map(placed).collect()
}

fn lonely_communities(mesh: &MeshDraft, odd: &mut Vec<(usize, String)>) {
    for community in &mesh.communities {
        let what = match community.members.len() {
            0 => "no members",
            1 => "one member",
            _ => continue,
        };
        odd.push((community.members_at, format!("{} has {what}, so it permits nothing", community.title())));
    }
}

fn lonely_endpoints(mesh: &MeshDraft, odd: &mut Vec<(usize, String)>) {
    let members: HashSet<&str> = mesh.communities.iter().flat_map(|c| &c.members).map(|m| m.value.as_str()).collect();
    let mut kinds: HashSet<(&str, Kind)> = HashSet::new();
    for endpoint in &mesh.endpoints {
        kinds.insert((endpoint.cluster(), endpoint.kind));
    }
    for endpoint in &mesh.endpoints {
        let (other, word) = match endpoint.kind {
            Kind::Edge => (Kind::Connector, "connector"),
            Kind::Connector => (Kind::Edge, "edge"),
        };
        let title = endpoint.title();
        if !members.contains(endpoint.label.value.as_str()) && !kinds.contains(&(endpoint.cluster(), other)) {
            let text = format!("{title} is in no community and its cluster has no {word}, so it may talk to nobody");
            odd.push((endpoint.label.at, text));
        }
        if let (Some(address), false) = (endpoint.tls_addresses.first(), endpoint.relays()) {
            odd.push((address.at, format!("{title} has tls_addresses and does not relay, so they are not used")));
        }
        if endpoint.kind == Kind::Connector && endpoint.public_addresses.is_empty() {
            let text = format!("connector {title} has no public_addresses, so nobody can dial it from another site");
            odd.push((endpoint.label.at, text));
        }
    }
}

/// A selector that leaves out more than was meant.
fn unselected(mesh: &MeshDraft, odd: &mut Vec<(usize, String)>) {
    let Some(selector) = mesh.selector.first() else { return };
    let left_out: HashSet<&str> =
        mesh.endpoints.iter().filter(|one| !mesh.selects(one)).map(|one| one.label.value.as_str()).collect();
    if left_out.len() == mesh.endpoints.len() {
        odd.push((selector.at, "[selector] labels: no endpoint has all of them, so nobody is selected".to_owned()));
        return;
    }
    for community in &mesh.communities {
        let mut members = community.members.iter().filter(|member| left_out.contains(member.value.as_str()));
        let Some(first) = members.next() else { continue };
        let others = match members.count() {
            0 => "is".to_owned(),
            count => format!("and {count} more are"),
        };
        let (member, title) = (quote(&first.value), community.title());
        odd.push((first.at, format!("{member} {others} not selected, so {title} does without")));
    }
}

fn shared_public_addresses(source: &Source<'_>, mesh: &MeshDraft, odd: &mut Vec<(usize, String)>) {
    let mut first: HashMap<(&Host, u16), &EndpointDraft> = HashMap::new();
    for endpoint in &mesh.endpoints {
        for address in &endpoint.public_addresses {
            let other = *first.entry((&address.value.host, address.value.port)).or_insert(endpoint);
            if other.at != endpoint.at {
                let text = format!("{} has a public address of {}", endpoint.title(), other.titled(source));
                odd.push((address.at, text + "; give one of them another port"));
            }
        }
    }
}
