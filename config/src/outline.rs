//! What a node is configured with, without its secrets: for commands that look at it, perhaps as a user who may not read the keys.

use std::path::{Path, PathBuf};

use proto::id::EndpointName;
use proto::member::{Endpoint, Members};

use crate::error::{Problem, Problems};
use crate::file;
use crate::invite::InviteConfig;
use crate::model::{DataplaneConfig, InterfaceConfig, ListenConfig, Mesh};
use crate::node::{self, Identity, NodeFile};
use crate::read::Reader;

/// Everything of a [`Config`](crate::Config) that tells where the node's things are and who its peers are, and no key.
#[derive(Clone, Debug)]
pub struct Outline {
    /// This node's name in the mesh.
    pub name: EndpointName,
    /// The file that should hold its private key.
    pub key_file: PathBuf,
    /// The file that should hold the mesh's pre-shared key, if one is used.
    pub psk_file: Option<PathBuf>,
    /// The mesh file; `None` where the mesh is written in `meshd.toml` itself.
    pub mesh_file: Option<PathBuf>,
    /// The TUN interface and its routes.
    pub interface: InterfaceConfig,
    /// Where the node listens.
    pub listen: ListenConfig,
    /// The packet workers.
    pub dataplane: DataplaneConfig,
    /// Path of the API socket.
    pub socket: PathBuf,
    /// The state folder.
    pub state: PathBuf,
    /// The name of the mesh.
    pub mesh_name: String,
    /// Who is in the mesh; this node is among them.
    pub members: Members,
    /// Whether the mesh's `[selector]` selects this node.
    pub selected: bool,
    /// What becomes of invitations that are used.
    pub invite: InviteConfig,
    /// What is legal but odd, each with its place.
    pub warnings: Vec<String>,
}

/// Names the private key file of the configuration at `path`, though it be incomplete: its public key is what a mesh needs first. Where
/// there is no configuration, that is the default.
///
/// # Errors
/// When the file cannot be read, is not TOML, or names no key file properly.
pub fn key_file(path: &Path) -> Result<PathBuf, Problems> {
    let unread = |error: &_| Problem::of_file(path, format!("cannot read it: {}", file::cause(error)), None);
    let bytes = match file::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(|error| unread(&error))?,
    };
    let text = file::text(path, bytes)?;
    let mut reader = Reader::new(path, &text);
    let root = reader.parse();
    let identity = node::identity(&mut reader, &root, path.parent().unwrap_or(Path::new("")));
    let is_whole = reader.is_whole();
    let problems = reader.into_problems();
    let about_it: Vec<_> = problems.into_iter().filter(|one| !is_whole || one.key == "node.key_file").collect();
    if about_it.is_empty() { Ok(identity.key_file.value) } else { Err(Problems(about_it)) }
}

impl Outline {
    /// `None` where a part is missing, which has been a problem before.
    pub(crate) fn new(identity: Identity, node: NodeFile, mesh: Mesh) -> Option<Self> {
        let name = identity.name?.value;
        Some(Self {
            selected: !mesh.unselected.contains(&name),
            name,
            key_file: identity.key_file.value,
            psk_file: identity.psk_file.map(|psk| psk.value),
            mesh_file: (!identity.inline).then_some(identity.mesh_file.value),
            interface: node.interface,
            listen: node.listen,
            dataplane: node.dataplane,
            socket: node.api.socket,
            state: node.state.dir,
            mesh_name: mesh.name,
            members: mesh.members,
            invite: node.invite,
            warnings: mesh.warnings,
        })
    }

    /// This node as the mesh describes it.
    #[must_use]
    pub fn own(&self) -> Option<&Endpoint> {
        self.members.endpoints.iter().find(|endpoint| endpoint.name == self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_file_is_told_before_anything_else_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meshd.toml");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            key_file(&path).map_err(|problems| problems.to_string())
        };
        assert_eq!(told("[node]\nname = \"lab.one\"\nkey_file = \"own.key\"\n"), Ok(dir.path().join("own.key")));
        let default = PathBuf::from("/var/lib/meshd/private.key");
        assert_eq!(told("[node]\nmesh = \"none.toml\"\n"), Ok(default.clone()));
        assert!(told("[node]\nkey_file = 7\n").unwrap_err().contains("key_file"));
        assert!(told("[node\nkey_file = \"own.key\"\n").is_err());
        assert_eq!(key_file(Path::new("/nonexistent/meshd.toml")).ok(), Some(default));
    }
}
