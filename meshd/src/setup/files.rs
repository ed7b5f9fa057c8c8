//! The three files of a new node: their texts, and how they come into their folder without ever replacing one.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::unistd::{User, geteuid};
use proto::id::{EndpointName, PublicKey, SecretKey};
use proto::invitation::Inviter;
use proto::member::{DEFAULT_PORT, Host, Kind, PublicAddress};

use super::{COMMUNITY, Error};

/// The user that a packaged daemon runs as.
const USER: &str = "meshd";

/// Where a node's files are.
pub(crate) struct Folder {
    folder: PathBuf,
}

/// What a new node is configured with.
pub(crate) struct NewNode<'n> {
    pub(crate) mesh: &'n str,
    pub(crate) name: &'n EndpointName,
    pub(crate) port: u16,
    /// Whether it writes who uses its invitations into its mesh file.
    pub(crate) accepts: bool,
    /// The endpoints that it knows, itself included.
    pub(crate) endpoints: &'n [Record],
}

/// An endpoint as the mesh file has it.
pub(crate) struct Record {
    pub(crate) name: EndpointName,
    pub(crate) kind: Kind,
    pub(crate) key: PublicKey,
    pub(crate) public_addresses: Vec<String>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) subnets: Vec<IpNet>,
}

impl From<&Inviter> for Record {
    fn from(inviter: &Inviter) -> Self {
        Self {
            name: inviter.name.clone(),
            kind: inviter.kind,
            key: inviter.key,
            public_addresses: inviter.public_addresses.iter().map(place_text).collect(),
            addresses: inviter.addresses.clone(),
            subnets: inviter.subnets.clone(),
        }
    }
}

impl Folder {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.folder.join("meshd.toml")
    }

    pub(crate) fn mesh(&self) -> PathBuf {
        self.folder.join("mesh.toml")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("private.key")
    }

    /// Refuses a folder in which one of the files is.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn check_free(&self) -> Result<(), Error> {
        let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
        match [self.node(), self.mesh(), self.key()].into_iter().find(is_there) {
            Some(path) => Err(format!(
                "{} exists already and is left as it is; another node on this machine needs a folder of its own: --config DIR",
                path.display()
            )
            .into()),
            None => Ok(()),
        }
    }

    /// Checks the texts of a new node and writes them with its key, all or none.
    ///
    /// # Errors
    /// When one of them is there, is no configuration, or cannot be written.
    pub(crate) fn write(&self, node: &NewNode<'_>, secret: &SecretKey) -> Result<(), Error> {
        self.check_free()?;
        let (mesh, own) = (node.mesh_text(), node.node_text());
        config::parse_mesh(&self.mesh(), &mesh)?;
        config::parse_node(&self.node(), &own)?;
        config::key::generate_file(&self.key(), secret)?;
        let written = own_key(&self.key())
            .and_then(|()| create(&self.mesh(), &mesh))
            .and_then(|()| create(&self.node(), &own).inspect_err(|_| remove(&self.mesh())));
        written.inspect_err(|_| remove(&self.key()))
    }
}

impl NewNode<'_> {
    fn node_text(&self) -> String {
        let mut text = format!(
            "# This node. `meshd config check` finds mistakes.\n\
             [node]\nname = \"{}\"\nkey_file = \"private.key\"\nmesh = \"mesh.toml\"\n\n\
             [interface]\nname = \"mesh0\"\n\n\
             [listen]\nport = {}\n",
            self.name, self.port
        );
        if self.accepts {
            text.push_str(
                "\n[invite]\n# Who uses an invitation of this node in time is written into mesh.toml at once; with false, by hand.\n\
                 accept = true\n",
            );
        }
        text
    }

    fn mesh_text(&self) -> String {
        let mut text = format!("# The mesh as this node knows it.\n[mesh]\nname = {}\n", quoted(self.mesh));
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

/// An address to be dialled, without the port where that is the default.
pub(crate) fn place_text(place: &PublicAddress) -> String {
    match (&place.host, place.port) {
        (Host::Ip(ip), port) => socket_text(SocketAddr::new(*ip, port)),
        (Host::Name(name), DEFAULT_PORT) => name.clone(),
        (Host::Name(name), port) => format!("{name}:{port}"),
    }
}

/// As [`place_text`].
pub(crate) fn socket_text(address: SocketAddr) -> String {
    if address.port() == DEFAULT_PORT { address.ip().to_string() } else { address.to_string() }
}

/// Gives the key to the user that the daemon runs as, where there is one.
fn own_key(path: &Path) -> Result<(), Error> {
    let user = User::from_name(USER).ok().flatten().filter(|_| geteuid().is_root());
    let Some(user) = user else { return Ok(()) };
    let owned = chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()));
    owned.map_err(|error| format!("cannot give {} to the user {USER}: {error}", path.display()).into())
}

fn create(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::from(format!("cannot write {}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|error| {
        remove(path);
        failed(error)
    })
}

fn remove(path: &Path) {
    let _gone = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, byte: u8) -> Record {
        Record {
            name: name.parse().unwrap(),
            kind: Kind::Connector,
            key: SecretKey::from_bytes([byte; 32]).public_key(),
            public_addresses: vec!["192.0.2.1".to_owned(), "hub.example:7000".to_owned()],
            addresses: vec!["10.57.3.1".parse().unwrap()],
            subnets: vec!["10.1.0.0/16".parse().unwrap()],
        }
    }

    fn write(folder: &Path) -> Result<(), Error> {
        let name = "lab.one".parse().unwrap();
        let endpoints = [record("lab.one", 1)];
        let node = NewNode { mesh: "my \"lab\"", name: &name, port: 6374, accepts: true, endpoints: &endpoints };
        Folder::new(folder).write(&node, &SecretKey::from_bytes([1; 32]))
    }

    #[test]
    fn what_is_written_is_a_configuration_of_that_node() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let config = config::load(&dir.path().join("meshd.toml")).unwrap();
        assert_eq!((config.mesh_name.as_str(), config.node.name.as_str()), ("my \"lab\"", "lab.one"));
        assert!(config.invite.accept && config.members.communities[0].members == [config.node.name.clone()]);
        insta::assert_snapshot!(fs::read_to_string(dir.path().join("mesh.toml")).unwrap(), @r#"
        # The mesh as this node knows it.
        [mesh]
        name = "my \"lab\""

        [[endpoint]]
        name = "lab.one"
        kind = "connector"
        public_key = "pOCSkrZRwni5dyxWn1+puxPZBrRqtoyd+dwrRAn4ogk="
        public_addresses = ["192.0.2.1", "hub.example:7000"]
        address = "10.57.3.1"
        subnets = ["10.1.0.0/16"]

        # All of these may talk to each other.
        [[community]]
        name = "all"
        members = ["lab.one"]
        "#);
    }

    #[test]
    fn a_file_that_is_there_is_left_and_nothing_is_written_beside_it() {
        for name in ["meshd.toml", "mesh.toml", "private.key"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), "mine").unwrap();
            let error = write(dir.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("exists already"), "{error}");
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), "mine");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
    }
}
