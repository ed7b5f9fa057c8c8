//! What `meshd config show` shows: every key with its value and where that comes from.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use proto::id::{EndpointName, MeshId};
use proto::member::{PublicAddress, derived_address};
use toml::de::DeTable;

use crate::error::{Problem, Problems};
use crate::load::{self, Keys, Parts};
use crate::mesh::{EndpointDraft, KINDS, MeshDraft};
use crate::note::{Setting, Value};
use crate::read::{Located, Reader};
use crate::shape::{self, Shape};
use crate::{address, args, invite, suggest};

/// What the files say for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The node.
    pub name: String,
    /// How much of it is known here.
    pub extent: Extent,
    /// Whether `[selector]` of the mesh selects it.
    pub selected: bool,
    /// Its keys in the order of the reference, those with defaults included.
    pub settings: Vec<Setting>,
}

/// How much of a node's configuration is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All of it: this is the node.
    Whole,
    /// What the mesh tells, which is in this file: the node's own `meshd.toml` is elsewhere and overrules it.
    Mesh(PathBuf),
}

/// Reads the configuration of the node that `path` is the `meshd.toml` of, or what its mesh tells of the node `name`.
/// No keys are read.
///
/// # Errors
/// Everything that is wrong with the two files, at once; or that the mesh has no `name`.
pub fn show(path: &Path, name: Option<&str>) -> Result<Shown, Problems> {
    let parts = load::read(path, Keys::Skip, Some(Vec::new()))?;
    match (name, parts.identity.name.as_ref().map(|own| own.value.as_str())) {
        (Some(name), own) if own != Some(name) => of_mesh(path, &parts, name),
        (_, own) => {
            let extent = Extent::Whole;
            let settings = sorted(parts.notes, &shape::ALL_TABLES);
            let selected = parts.mesh.unselected.iter().all(|name| Some(name.as_str()) != own);
            Ok(Shown { name: own.unwrap_or_default().to_owned(), extent, selected, settings })
        }
    }
}

fn of_mesh(path: &Path, parts: &Parts, name: &str) -> Result<Shown, Problems> {
    let file = if parts.identity.inline { path } else { &parts.identity.mesh_file.value };
    let unknown = |near: Option<&str>| {
        let help = near.map(|near| format!("did you mean \"{near}\"?"));
        Problems::from(Problem::of_file(file, format!("it has no endpoint \"{name}\""), help))
    };
    let names = || parts.mesh.members.endpoints.iter().map(|endpoint| &endpoint.name).chain(&parts.mesh.unselected);
    let wanted: Option<&EndpointName> = names().find(|known| known.as_str() == name);
    let wanted = wanted.ok_or_else(|| unknown(suggest::nearest(name, names().map(EndpointName::as_str))))?;
    let notes = load::notes_of(file, wanted)?;
    let selected = !parts.mesh.unselected.contains(wanted);
    let is_of_mesh = |setting: &Setting| {
        shape::MESH_TABLES.iter().any(|shape| shape.name == setting.table) || args::is_arg(setting.table, setting.key)
    };
    let settings = sorted(notes.into_iter().filter(is_of_mesh).collect(), &shape::ALL_TABLES);
    Ok(Shown { name: name.to_owned(), extent: Extent::Mesh(file.to_owned()), selected, settings })
}

/// Notes what the keys of the endpoint `name` came to, where that is asked for.
pub(crate) fn note_endpoint(reader: &mut Reader<'_>, root: &DeTable<'_>, mesh: &MeshDraft, name: &EndpointName) {
    let endpoint = mesh.endpoints.iter().find(|endpoint| endpoint.label.value == name.as_str());
    let Some(endpoint) = endpoint.filter(|_| reader.notes.is_some()) else { return };
    let section = reader.that(root, &shape::ENDPOINT, endpoint.at);
    for (key, value) in values(mesh, endpoint) {
        let at = section.value(key).map(|value| value.span().start);
        reader.note(section, key, at, || value);
    }
}

fn values(mesh: &MeshDraft, endpoint: &EndpointDraft) -> [(&'static str, Value); 14] {
    let text = |text: &Option<String>| text.as_ref().map_or(Value::Absent, Value::text);
    let places = |places: &[Located<PublicAddress>]| {
        Value::List(places.iter().map(|place| address::show(&place.value)).collect())
    };
    let mut addresses: Vec<IpAddr> = endpoint.addresses.iter().map(|address| address.value).collect();
    if let (Some(key), false) = (&endpoint.public_key, addresses.iter().any(IpAddr::is_ipv6)) {
        addresses.push(derived_address(&MeshId::from_name(&mesh.name), &key.value).into());
    }
    [
        ("name", Value::text(&endpoint.label.value)),
        ("kind", Value::word(&endpoint.kind, &KINDS)),
        ("public_key", endpoint.public_key.as_ref().map_or(Value::Absent, |key| Value::text(&key.value))),
        ("public_addresses", places(&endpoint.public_addresses)),
        ("tls_addresses", places(&endpoint.tls_addresses)),
        ("subnets", located(&endpoint.subnets)),
        ("node_subnets", located(&endpoint.node_subnets)),
        ("address", Value::list(&addresses)),
        ("priority", Value::Number(endpoint.priority.into())),
        ("relay", Value::Switch(endpoint.relays())),
        ("zone", text(&endpoint.zone)),
        ("region", text(&endpoint.region)),
        ("labels", located(&endpoint.labels)),
        ("invited_until", endpoint.invited_until.map_or(Value::Absent, |until| Value::Text(invite::time_text(until)))),
    ]
}

fn located<T: ToString>(values: &[Located<T>]) -> Value {
    Value::List(values.iter().map(|located| located.value.to_string()).collect())
}

fn sorted(mut notes: Vec<Setting>, tables: &[&Shape]) -> Vec<Setting> {
    notes.sort_by_key(|note| {
        let table = tables.iter().position(|shape| shape.name == note.table);
        let keys = tables.iter().find(|shape| shape.name == note.table).map_or(&[][..], |shape| shape.keys);
        (table, keys.iter().position(|key| *key == note.key))
    });
    notes
}
