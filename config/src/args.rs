//! Arguments that nodes take from the mesh: `[defaults.args]` for all, `[node."<cluster>.<node>".args]` for one.

use std::collections::HashSet;

use proto::id::EndpointName;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::check::SUGGESTIONS;
use crate::error::{Fault, quote};
use crate::mesh::EndpointDraft;
use crate::read::Reader;
use crate::scalar::article;
use crate::settings::{self, Settings};
use crate::shape::{self, Shape};
use crate::{node, suggest};

/// The tables that arguments may set: what makes sense from afar and is taken over without a restart.
pub(crate) static TABLES: [&Shape; 6] =
    [&shape::LAN, &shape::NAT, &shape::HEALTH, &shape::RELAY, &shape::SESSION, &shape::LOG];

/// The keys of these tables that arguments may not set all the same, and why.
const WITHHELD: [(&Shape, &str, &str); 2] = [
    (&shape::LAN, "multicast_token", "it is a secret, and the mesh file is read by many"),
    (&shape::LOG, "format", "the log is opened at the start and has to suit whoever reads it on the machine"),
];

/// Why the other tables of `meshd.toml` are the node's own.
const OWN: [(&Shape, &str); 10] = [
    (&shape::NODE, "who a node is and where its keys lie is its own matter"),
    (&shape::INTERFACE, "the interface is made at the start and has to suit the machine"),
    (&shape::LISTEN, "ports are opened at the start and have to be free on the machine"),
    (&shape::DATAPLANE, "threads, offloads and ciphers are set up at the start and have to suit the machine"),
    (&shape::API, "the socket is a file of the machine"),
    (&shape::STATE, "the folder is one of the machine"),
    (&shape::PATHS, "lanes for several paths are set up at the start"),
    (&shape::RELOAD, "when its files are read anew is a node's own matter"),
    (&shape::INVITE, "whom a node lets in is its own matter"),
    (&shape::METRICS, "ports are those of the machine"),
];

/// What stands in front of the tables of arguments that all nodes take.
const FOR_ALL: &str = "defaults.args";
const ARGS: &str = "args";

/// Whether arguments of the mesh may set a key of `meshd.toml`, such as `session` and `keepalive`.
#[must_use]
pub fn is_arg(table: &str, key: &str) -> bool {
    let is_withheld = WITHHELD.iter().any(|(shape, withheld, _)| (shape.name, *withheld) == (table, key));
    !is_withheld && TABLES.iter().any(|shape| shape.name == table && shape.keys.contains(&key))
}

/// Whether arguments may set anything in a table.
pub(crate) fn may_have(table: &str) -> bool {
    TABLES.iter().any(|shape| shape.name == table)
}

/// Whether a key of `[node]` is the name of a node of the mesh, rather than a setting of this one.
pub(crate) fn is_for_node(shape: &Shape, key: &str) -> bool {
    shape.name == shape::NODE.name && key.contains('.')
}

/// Whether what is being read is for every node.
pub(crate) fn is_for_all(reader: &Reader<'_>) -> bool {
    reader.within.strip_suffix('.') == Some(FOR_ALL)
}

/// Reads the arguments of all nodes, and returns the settings with those of `own`. All are checked, whomever they are for.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    root: &DeTable<'_>,
    endpoints: &[EndpointDraft],
    own: Option<&EndpointName>,
) -> Settings {
    let (mut settings, mut others) = (Settings::default(), Settings::default());
    let defaults = reader.section(root, &shape::DEFAULTS);
    let nothing = DeTable::default();
    let table = defaults.value(ARGS).and_then(|value| table(reader, value, FOR_ALL)).unwrap_or(&nothing);
    apply(reader, FOR_ALL, table, &mut settings);
    for (name, args) in nodes(reader, root, endpoints) {
        let within = format!("node.{}.{ARGS}", quote(name));
        let Some(args) = table_of(reader, args, &within) else { continue };
        if own.is_some_and(|own| own.as_str() == name) {
            apply(reader, &within, args, &mut settings);
        } else {
            let notes = reader.notes.take();
            apply(reader, &within, args, &mut others);
            reader.notes = notes;
        }
    }
    settings
}

/// Refuses what a mesh file has in `[node]` that is not a node's table.
pub(crate) fn check_names(reader: &mut Reader<'_>, root: &DeTable<'_>) {
    let Some(value) = root.get(shape::NODES.name) else { return };
    let Some(tables) = table(reader, value, shape::NODES.name) else { return };
    for (key, value) in tables {
        let name: &str = key.get_ref();
        if name.contains('.') {
            continue;
        }
        let fault = match value.get_ref().as_table() {
            Some(inner) => {
                let node = inner.keys().next().map_or("<node>", |node| node.get_ref());
                let fault = Fault::new(format!("[node.{name}]: {} is not <cluster>.<node>", quote(name)));
                fault.help(format!("put the name in quotes: [node.\"{name}.{node}\".{ARGS}]"))
            }
            None => Fault::new(format!("unknown key {} in [node] of a mesh file", quote(name))).help(format!(
                "it belongs in meshd.toml; what nodes take from here is [node.\"<cluster>.<node>\".{ARGS}]"
            )),
        };
        reader.report(key.span().start, format!("node.{name}"), fault);
    }
}

/// Refuses arguments for nodes in a `meshd.toml` that has no mesh.
pub(crate) fn refuse(reader: &mut Reader<'_>, root: &DeTable<'_>) {
    let tables = root.get(shape::NODES.name).and_then(|value| value.get_ref().as_table());
    for key in tables.into_iter().flat_map(|table| table.keys()).filter(|key| key.get_ref().contains('.')) {
        let name: &str = key.get_ref();
        let fault = Fault::new(format!("[node.{}] is a table of the mesh, and this file has none", quote(name)));
        let help = "write it into the mesh file; what this node itself uses stands in tables such as [session]";
        reader.report(key.span().start, format!("node.{name}"), fault.help(help));
    }
}

/// The nodes' tables, in the order of their names; names that are none and nodes that are not in the mesh are reported.
fn nodes<'d>(
    reader: &mut Reader<'_>,
    root: &'d DeTable<'d>,
    endpoints: &[EndpointDraft],
) -> Vec<(&'d str, &'d Spanned<DeValue<'d>>)> {
    let tables = root.get(shape::NODES.name).and_then(|value| value.get_ref().as_table());
    let tables: Vec<_> = tables.into_iter().flatten().filter(|(key, _)| key.get_ref().contains('.')).collect();
    let is_certain = reader.is_whole() && !endpoints.is_empty() && !tables.is_empty();
    let known: HashSet<&str> = match is_certain {
        true => endpoints.iter().map(|endpoint| endpoint.label.value.as_str()).collect(),
        false => HashSet::new(),
    };
    let mut suggestions = SUGGESTIONS;
    for (key, _) in &tables {
        let name: &str = key.get_ref();
        let fault = match name.parse::<EndpointName>() {
            Err(error) => node::bad_name(name, error),
            Ok(_) if !is_certain || known.contains(name) => continue,
            Ok(_) => stranger(name, endpoints, &mut suggestions),
        };
        let fault = Fault { message: format!("[node.{}]: {}", quote(name), fault.message), help: fault.help };
        reader.report(key.span().start, format!("node.{}", quote(name)), fault);
    }
    tables.into_iter().map(|(key, value)| (key.get_ref().as_ref(), value)).collect()
}

fn stranger(name: &str, endpoints: &[EndpointDraft], suggestions: &mut usize) -> Fault {
    let mut names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.label.value.as_str()).collect();
    names.sort_unstable();
    let near = if *suggestions > 0 { suggest::nearest(name, names) } else { None };
    *suggestions = suggestions.saturating_sub(1);
    let fault = Fault::new("no endpoint of this mesh has this name");
    match near {
        Some(near) => fault.help(format!("did you mean \"{near}\"?")),
        None => fault.help("add an [[endpoint]] of this name, or remove it"),
    }
}

/// The arguments in a node's table, which holds nothing else.
fn table_of<'d>(reader: &mut Reader<'_>, value: &'d Spanned<DeValue<'d>>, within: &str) -> Option<&'d DeTable<'d>> {
    let node = within.strip_suffix(".args").unwrap_or(within);
    let entry = table(reader, value, node)?;
    for (key, _) in entry {
        let name: &str = key.get_ref();
        if name == ARGS {
            continue;
        }
        let fault = Fault::new(format!("unknown key {} in [{node}]", quote(name)));
        let fault = match TABLES.iter().find(|shape| shape.name == name || shape.keys.contains(&name)) {
            Some(_) => fault.help(format!("what the node is to use stands in [{within}]")),
            None => fault.help(format!("known keys: {ARGS}")),
        };
        reader.report(key.span().start, format!("{node}.{name}"), fault);
    }
    table(reader, entry.get(ARGS)?, within)
}

fn table<'d>(reader: &mut Reader<'_>, value: &'d Spanned<DeValue<'d>>, name: &str) -> Option<&'d DeTable<'d>> {
    let table = value.get_ref().as_table();
    if table.is_none() {
        let fault = Fault::new(format!("{name} must be one table, not {}", article(value.get_ref())));
        reader.report(value.span().start, name, fault.help(format!("write [{name}], once")));
    }
    table
}

/// Reads one table of arguments over what the settings are.
fn apply(reader: &mut Reader<'_>, within: &str, args: &DeTable<'_>, settings: &mut Settings) {
    for (key, value) in args {
        let name: &str = key.get_ref();
        if let Some((at, key, fault)) = refusal(within, key, value.get_ref()) {
            reader.report(at, format!("{within}.{name}{key}"), fault);
        }
    }
    reader.within = format!("{within}.");
    settings::read(reader, args, settings);
    reader.within.clear();
}

/// Why arguments may not have what stands at a key of their table, with the offset and the rest of the key that is refused.
fn refusal(
    within: &str,
    key: &Spanned<std::borrow::Cow<'_, str>>,
    value: &DeValue<'_>,
) -> Option<(usize, String, Fault)> {
    let (name, at): (&str, _) = (key.get_ref(), key.span().start);
    let here = |fault| Some((at, String::new(), fault));
    if may_have(name) {
        return WITHHELD.iter().filter(|(shape, ..)| shape.name == name).find_map(|(shape, secret, why)| {
            let (secret, _) = value.as_table()?.get_key_value(*secret)?;
            let fault = Fault::new(format!("[{within}.{name}] {}: the mesh may not set it", secret.get_ref()));
            let help = format!("{why}; write it in {shape} of the node's own meshd.toml");
            Some((secret.span().start, format!(".{}", secret.get_ref()), fault.help(help)))
        });
    }
    if let Some(shape) = shape::NODE_TABLES.iter().find(|shape| shape.name == name) {
        let why = OWN.iter().find(|(own, _)| own.name == name).map_or("it is the machine's own matter", |(_, why)| why);
        let fault = Fault::new(format!("[{within}] {name}: the mesh may not set it"));
        return here(fault.help(format!("{why}; write it in {shape} of the node's own meshd.toml")));
    }
    let fault =
        Fault::new(format!("unknown {} {} in [{within}]", if value.is_table() { "table" } else { "key" }, quote(name)));
    let mut owners = TABLES.iter().filter(|shape| !value.is_table() && shape.keys.contains(&name));
    if let (Some(owner), None) = (owners.next(), owners.next()) {
        return here(fault.help(format!("write {}.{name}", owner.name)));
    }
    if let (false, Some(owner)) = (value.is_table(), shape::owner_of(name)) {
        return here(fault.help(format!("{owner} has it, which arguments may not set")));
    }
    let names = || TABLES.iter().map(|shape| shape.name);
    here(match suggest::nearest(name, names()) {
        Some(near) => fault.help(format!("did you mean \"{near}\"?")),
        None => fault.help(format!("known tables: {}", names().collect::<Vec<_>>().join(", "))),
    })
}
