//! Reads `meshd.toml`, the mesh and the keys, and holds them against each other.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use proto::id::{EndpointName, PresharedKey, PublicKey, SecretKey};

use crate::error::{Fault, Problem, Problems, quote};
use crate::key::{self, KeyFileError};
use crate::mesh::{self, MeshDraft};
use crate::model::{Config, LanMode, Mesh, NodeConfig};
use crate::node::{self, Identity, MAIN_TABLE, NodeFile};
use crate::note::{Origin, Said, Setting};
use crate::outline::Outline;
use crate::read::{Located, Reader};
use crate::settings::Settings;
use crate::source::Place;
use crate::{args, file, invite, lan, shape, show, suggest};

/// Reads everything that a node is configured with.
///
/// Paths in `meshd.toml` are relative to its folder.
///
/// # Errors
/// Everything that is wrong with any of the files, at once.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let parts = read(path, Keys::Read, None)?;
    // Whatever is absent here has been a problem above.
    config(path, parts).ok_or_else(|| Problem::of_file(path, "it is incomplete", None).into())
}

/// Checks `meshd.toml` and the mesh without the keys, as on a machine that is not the node. Returns the warnings.
///
/// # Errors
/// Everything that is wrong with the two files, at once.
pub fn check(path: &Path) -> Result<Vec<String>, Problems> {
    read(path, Keys::Skip, None).map(|parts| parts.mesh.warnings)
}

/// Reads `meshd.toml` and the mesh without opening the keys, as a user may who is not allowed to read them.
///
/// # Errors
/// Everything that is wrong with the two files, at once.
pub fn outline(path: &Path) -> Result<Outline, Problems> {
    let parts = read(path, Keys::Skip, None)?;
    Outline::new(parts.identity, parts.node, parts.mesh)
        .ok_or_else(|| Problem::of_file(path, "it is incomplete", None).into())
}

/// Parses a mesh file. `file` is its name for messages; nothing is opened.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse_mesh(file: &Path, text: &str) -> Result<Mesh, Problems> {
    let read = MeshRead::of_file(file, text, None, None);
    if read.problems.is_empty() { Ok(read.mesh(None)) } else { Err(Problems(read.problems)) }
}

/// Parses a `meshd.toml` as far as that needs no other file. `file` is its name for messages; nothing is opened.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn parse_node(file: &Path, text: &str) -> Result<(), Problems> {
    let mut reader = Reader::new(file, text);
    let root = reader.parse();
    let identity = node::identity(&mut reader, &root, Path::new(""));
    let mut settings = Settings::default();
    if identity.inline {
        let mesh = MeshRead::of_tables(&mut reader, &root, identity.name.as_ref());
        check_own(&mut reader, &identity, &mesh, file, None);
        settings = mesh.settings;
    }
    node::read(&mut reader, &root, Path::new(""), settings);
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

/// Reads a mesh once more, which has been found good, and returns what it has the endpoint `name` set.
///
/// # Errors
/// What has become wrong with the file since.
pub(crate) fn notes_of(file: &Path, name: &EndpointName) -> Result<Vec<Setting>, Problems> {
    let unread = |error: &_| Problem::of_file(file, format!("cannot read it: {}", file::cause(error)), None);
    let text = file::text(file, file::read(file).map_err(|error| unread(&error))?)?;
    let mut reader = Reader::new(file, &text);
    reader.notes = Some(Vec::new());
    let root = reader.parse();
    let mut mesh = MeshRead::of_tables(&mut reader, &root, Some(&Located { value: name.clone(), at: 0 }));
    lan::settle(&mut reader, &mut mesh.settings.lan);
    let notes = reader.notes.take().unwrap_or_default();
    let problems = reader.into_problems();
    if problems.is_empty() { Ok(notes) } else { Err(Problems(problems)) }
}

/// Whether the keys are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keys {
    Read,
    Skip,
}

/// A mesh as far as it could be read.
struct MeshRead {
    draft: MeshDraft,
    own: Own,
    /// What the mesh has this node set.
    settings: Settings,
    /// What its keys came to, where that is asked for; those of an inline mesh stay with its reader.
    notes: Option<Vec<Setting>>,
    warnings: Vec<String>,
    /// What is wrong with a mesh file of its own; the problems of an inline mesh stay with its reader.
    problems: Vec<Problem>,
}

/// What a mesh says of this node.
#[derive(Default)]
struct Own {
    /// Whether it is certain that the mesh does not have it, and the nearest name.
    absent: Option<Option<String>>,
    /// Its public key, and the line of that.
    public_key: Option<(PublicKey, Place)>,
    /// Whether others can dial it.
    is_public: bool,
    /// Whether it names addresses to be reached at over TLS.
    has_tls: bool,
    /// What it announces.
    subnets: Vec<IpNet>,
}

impl MeshRead {
    fn of_file(file: &Path, text: &str, own: Option<&Located<EndpointName>>, notes: Option<Vec<Setting>>) -> Self {
        let mut reader = Reader::new(file, text);
        reader.notes = notes;
        let root = reader.parse();
        reader.root(&root, &shape::MESH_FILE_TABLES, &shape::NODE_TABLES);
        args::check_names(&mut reader, &root);
        let mut read = Self::of_tables(&mut reader, &root, own);
        read.notes = reader.notes.take();
        read.problems = reader.into_problems();
        read
    }

    fn of_tables(reader: &mut Reader<'_>, root: &toml::de::DeTable<'_>, own: Option<&Located<EndpointName>>) -> Self {
        let draft = mesh::read(reader, root);
        let settings = args::read(reader, root, &draft.endpoints, own.map(|own| &own.value));
        if reader.is_whole() {
            crate::check::mesh(reader, &draft);
        }
        let mut warnings = crate::check::oddities(&reader.source, &draft);
        warnings.extend(invite::expired(&reader.source, &draft.invited(), invite::unix_now()));
        if let Some(own) = own {
            show::note_endpoint(reader, root, &draft, &own.value);
        }
        let own = own.map(|own| find_own(reader, &draft, &own.value)).unwrap_or_default();
        Self { draft, own, settings, notes: None, warnings, problems: Vec::new() }
    }

    /// The mesh as `own` sees it, which is a member of it even where it is not selected.
    fn mesh(self, own: Option<&EndpointName>) -> Mesh {
        let (name, unselected) = (self.draft.name.clone(), self.draft.unselected());
        let left_out = unselected.iter().filter(|name| own != Some(name)).collect();
        let invited = self.draft.invited().into_iter().map(|one| one.value).collect();
        let selector = self.draft.selector.iter().map(|label| label.value.to_string()).collect();
        Mesh { name, members: self.draft.members(&left_out), selector, unselected, invited, warnings: self.warnings }
    }
}

fn find_own(reader: &Reader<'_>, mesh: &MeshDraft, own: &EndpointName) -> Own {
    let names = || mesh.endpoints.iter().map(|endpoint| endpoint.label.value.as_str());
    let Some(endpoint) = mesh.endpoints.iter().find(|endpoint| endpoint.label.value == own.as_str()) else {
        // A mesh without endpoints, or with a part that cannot be read, is reported as that.
        let certain = reader.is_whole() && !mesh.endpoints.is_empty();
        let near = || suggest::nearest(own.as_str(), names()).map(ToOwned::to_owned);
        return Own { absent: certain.then(near), ..Own::default() };
    };
    let public_key = endpoint.public_key.as_ref().map(|key| (key.value, reader.source.place(key.at)));
    let has_tls = !endpoint.tls_addresses.is_empty();
    let subnets = endpoint.subnets.iter().map(|net| net.value).collect();
    Own { absent: None, public_key, is_public: !endpoint.public_addresses.is_empty(), has_tls, subnets }
}

/// What was read, without problems.
pub(crate) struct Parts {
    pub(crate) identity: Identity,
    node: NodeFile,
    pub(crate) mesh: Mesh,
    keys: Option<(SecretKey, PresharedKey)>,
    /// What every key came to; empty unless that was asked for.
    pub(crate) notes: Vec<Setting>,
}

/// Reads the two files, and notes what every key came to where there is room for `notes`.
pub(crate) fn read(path: &Path, keys: Keys, notes: Option<Vec<Setting>>) -> Result<Parts, Problems> {
    let bytes = file::read(path).map_err(|error| {
        let help = if error.kind() == ErrorKind::NotFound {
            "make one: `meshd init --mesh NAME`, or `meshd join` with an invitation; or name it: --config"
        } else {
            "name the right file"
        };
        Problem::of_file(path, format!("cannot read it: {}", file::cause(&error)), Some(help.to_owned()))
    })?;
    let text = file::text(path, bytes)?;
    let mut reader = Reader::new(path, &text);
    reader.notes = notes;
    let root = reader.parse();
    let folder = path.parent().unwrap_or(Path::new(""));
    let identity = node::identity(&mut reader, &root, folder);
    let mut elsewhere = Vec::new();
    let mut mesh = if identity.inline {
        Some(MeshRead::of_tables(&mut reader, &root, identity.name.as_ref()))
    } else {
        read_mesh_file(&mut reader, &identity, &mut elsewhere)
    };
    let settings = mesh.as_mut().map(|mesh| std::mem::take(&mut mesh.settings)).unwrap_or_default();
    let node = node::read(&mut reader, &root, folder, settings);
    let keys = if keys == Keys::Read { read_keys(&mut reader, &identity) } else { None };
    if let Some(mesh) = &mut mesh {
        let mesh_file = if identity.inline { path } else { &identity.mesh_file.value };
        check_own(&mut reader, &identity, mesh, mesh_file, keys.as_ref().map(|(secret, _)| secret));
        mesh.warnings.extend(odd_settings(&reader, &node, &mesh.own));
        elsewhere.append(&mut mesh.problems);
    }
    let notes = reader.notes.take().unwrap_or_default();
    let mut problems = reader.into_problems();
    problems.append(&mut elsewhere);
    match mesh {
        Some(mesh) if problems.is_empty() => {
            let mesh = mesh.mesh(identity.name.as_ref().map(|name| &name.value));
            Ok(Parts { identity, node, mesh, keys, notes })
        }
        Some(_) | None => Err(Problems(problems)),
    }
}

/// Reads the mesh file that `[node]` names. One that cannot be opened is a problem of the key that names it.
fn read_mesh_file(reader: &mut Reader<'_>, identity: &Identity, elsewhere: &mut Vec<Problem>) -> Option<MeshRead> {
    let Located { value: path, at } = &identity.mesh_file;
    let bytes = match file::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = format!("[node] mesh: cannot read {}: {}", path.display(), file::cause(&error));
            let help = "set it to the mesh file's path, or write the [[endpoint]] tables in this file";
            reader.report(*at, "node.mesh", Fault::new(message).help(help));
            return None;
        }
    };
    match file::text(path, bytes) {
        Ok(text) => {
            let mut mesh = MeshRead::of_file(path, &text, identity.name.as_ref(), reader.notes.take());
            reader.notes = mesh.notes.take();
            Some(mesh)
        }
        Err(problem) => {
            elsewhere.push(problem);
            None
        }
    }
}

fn read_keys(reader: &mut Reader<'_>, identity: &Identity) -> Option<(SecretKey, PresharedKey)> {
    let Located { value: path, at } = &identity.key_file;
    let mut failed = |at: usize, key: &str, error: &KeyFileError| {
        let fault = Fault { message: format!("[node] {key}: {error}"), help: error.help() };
        reader.report(at, format!("node.{key}"), fault);
    };
    let secret = key::read_secret(path).map_err(|error| failed(*at, "key_file", &error)).ok();
    let psk = match &identity.psk_file {
        None => Some(PresharedKey::NONE),
        Some(psk) => key::read_psk(&psk.value).map_err(|error| failed(psk.at, "psk_file", &error)).ok(),
    };
    Some((secret?, psk?))
}

/// Holds this node against its mesh: it is in it, and its key is the one that the mesh knows.
fn check_own(
    reader: &mut Reader<'_>,
    identity: &Identity,
    mesh: &MeshRead,
    mesh_file: &Path,
    secret: Option<&SecretKey>,
) {
    let Some(name) = &identity.name else { return };
    let (title, mesh_file) = (quote(name.value.as_str()), mesh_file.display());
    if let Some(nearest) = &mesh.own.absent {
        let help = match nearest {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "add an [[endpoint]] of this name to it".to_owned(),
        };
        let fault = Fault::new(format!("[node] name: {title} is no endpoint of {mesh_file}")).help(help);
        reader.report(name.at, "node.name", fault);
    }
    if let (Some((expected, place)), Some(found)) = (&mesh.own.public_key, secret.map(SecretKey::public_key))
        && *expected != found
    {
        let Place { line, column } = place;
        let message = format!(
            "[node] key_file: the public key of {} is {found}, but {title} has {expected} in {mesh_file}:{line}:{column}",
            identity.key_file.value.display()
        );
        let help = "put into the mesh what `meshd key show` prints here, or name the key file of that endpoint";
        reader.report(identity.key_file.at, "node.key_file", Fault::new(message).help(help));
    }
}

/// Settings of this node that contradict what the mesh says of it.
fn odd_settings(reader: &Reader<'_>, node: &NodeFile, own: &Own) -> Vec<String> {
    let mut odd = Vec::new();
    let mut warn = |origin: &Origin, text: &str| odd.push(format!("{}{text}", origin.place()));
    let NodeFile { settings, .. } = node;
    let (lan, place) = (&settings.lan, |at: usize| reader.origin(at));
    if let (true, Some(at), Some(_)) = (own.is_public, &settings.keepalive_at, settings.session.keepalive) {
        warn(at, "[session] keepalive has no effect: this node has public_addresses");
    }
    if let (true, 0, Some(at)) = (own.is_public, node.listen.port, node.port_at) {
        let text = "[listen] port is 0, any free one, but others dial this node at the ports of its public_addresses";
        warn(&place(at), text);
    }
    if let (false, Some(at)) = (own.has_tls, node.tls_at) {
        warn(&place(at), "[listen] tls has no effect: this node has no tls_addresses");
    }
    for Said { value, origin } in &lan.odd {
        warn(origin, value);
    }
    for Said { value, origin } in &settings.health.odd(&own.subnets) {
        warn(origin, value);
    }
    let is_aside = lan.config.mode == LanMode::Direct && node.interface.table != MAIN_TABLE;
    if let (Some(at), true) = (&lan.token_at, is_aside) {
        warn(at, "[lan] mode: \"direct\" has no effect with an [interface] table other than main");
    }
    if let (Some(at), true) = (&lan.token_at, file::is_open_to_all(reader.source.file)) {
        let help = format!("chmod 640 {}", reader.source.file.display());
        warn(at, &format!("[lan] multicast_token: every user of this machine can read it; {help}"));
    }
    odd
}

fn config(path: &Path, Parts { identity, node, mesh, keys, .. }: Parts) -> Option<Config> {
    let (secret_key, preshared_key) = keys?;
    let Identity { name, key_file, psk_file, inline, mesh_file } = identity;
    let psk_file = psk_file.map(|psk| psk.value);
    let mesh_file = (!inline).then_some(mesh_file.value);
    let mut files: Vec<PathBuf> = vec![path.to_owned()];
    files.extend(mesh_file.clone());
    files.push(key_file.value.clone());
    files.extend(psk_file.clone());
    let (name, settings) = (name?.value, node.settings);
    Some(Config {
        selected: !mesh.unselected.contains(&name),
        node: NodeConfig { name, key_file: key_file.value, secret_key, psk_file, preshared_key, mesh_file },
        interface: node.interface,
        listen: node.listen,
        lan: settings.lan.config,
        nat: settings.nat,
        paths: node.paths,
        health: settings.health.config(),
        relay: settings.relay,
        invite: node.invite,
        session: settings.session,
        dataplane: node.dataplane,
        api: node.api,
        state: node.state,
        log: settings.log,
        metrics: node.metrics,
        reload: node.reload,
        mesh_name: mesh.name,
        members: mesh.members,
        selector: mesh.selector,
        unselected: mesh.unselected,
        invited: mesh.invited,
        files,
        warnings: mesh.warnings,
    })
}
