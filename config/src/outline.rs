//! What a node is configured with, without its secrets: for commands that look at it, perhaps as a user who may not read the keys.

use std::path::PathBuf;

use proto::id::EndpointName;
use proto::member::{Endpoint, Members};

use crate::invite::InviteConfig;
use crate::model::{DataplaneConfig, InterfaceConfig, ListenConfig, Mesh};
use crate::node::{Identity, NodeFile};

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
