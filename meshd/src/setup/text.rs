//! What stands in the files of a new node.

use std::fmt::Write as _;
use std::path::Path;

use proto::member::Kind;

use super::files::{Folder, NewNode, Place, Record};
use super::{COMMUNITY, machine};

impl NewNode<'_> {
    /// `meshd.toml`.
    pub(super) fn node_text(&self, folder: &Folder) -> String {
        let (key, mesh) = match folder.place {
            Place::Service { .. } => (path_text(&folder.key()), path_text(&folder.mesh())),
            Place::Machine | Place::Beside { .. } => (quoted("private.key"), quoted("mesh.toml")),
        };
        let interface = match &folder.place {
            Place::Beside { interface } => interface,
            Place::Machine | Place::Service { .. } => machine::INTERFACE,
        };
        let mut text = format!(
            "# This node. `meshd config check` finds mistakes.\n\
             [node]\nname = \"{}\"\nkey_file = {key}\nmesh = {mesh}\n\n\
             [interface]\nname = \"{interface}\"\n\n\
             [listen]\nport = {}\n",
            self.name, self.port
        );
        if let Place::Beside { .. } = folder.place {
            text.push_str(
                "\n# Its own, as are the interface and the port: another node of this machine has the default ones.\n\
                 [api]\nsocket = \"meshd.sock\"\n\n[state]\ndir = \"state\"\n",
            );
        }
        if self.accepts {
            text.push_str(
                "\n[invite]\n# Who uses an invitation of this node in time is written into the mesh file at once; with false, by hand.\n\
                 accept = true\n",
            );
        }
        text
    }

    /// The mesh file.
    pub(super) fn mesh_text(&self) -> String {
        let mut text = "# The mesh as this node knows it.\n".to_owned();
        if let Some(inviter) = self.endpoints.iter().find(|endpoint| endpoint.name != *self.name) {
            let _ =
                writeln!(text, "# To reach more members than {}, copy the mesh file of that one here.", inviter.name);
        }
        let _ = write!(text, "[mesh]\nname = {}\n", quoted(self.mesh));
        for endpoint in self.endpoints {
            let _ = write!(text, "\n{}", endpoint.text());
        }
        let members: Vec<&str> = self.endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let _ = write!(
            text,
            "\n# All of these may talk to each other.\n[[community]]\nname = \"{COMMUNITY}\"\nmembers = {members:?}\n"
        );
        text
    }
}

impl Record {
    /// Its table.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("[[endpoint]]\nname = \"{}\"\n", self.name);
        if self.kind == Kind::Connector {
            text.push_str("kind = \"connector\"\n");
        }
        let _ = writeln!(text, "public_key = \"{}\"", self.key);
        if !self.public_addresses.is_empty() {
            let all: Vec<String> = self.public_addresses.iter().map(|address| quoted(address)).collect();
            let _ = writeln!(text, "public_addresses = [{}]", all.join(", "));
        }
        let addresses: Vec<String> = self.addresses.iter().map(|ip| format!("\"{ip}\"")).collect();
        match addresses.as_slice() {
            [] => {}
            [one] => drop(writeln!(text, "address = {one}")),
            more => drop(writeln!(text, "address = [{}]", more.join(", "))),
        }
        if !self.subnets.is_empty() {
            let all: Vec<String> = self.subnets.iter().map(|net| format!("\"{net}\"")).collect();
            let _ = writeln!(text, "subnets = [{}]", all.join(", "));
        }
        text
    }
}

/// A text as a basic string of TOML.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn path_text(path: &Path) -> String {
    quoted(&path.display().to_string())
}
