//! The three files of a new node: where they are, and how they come there without ever replacing one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use nix::unistd::{Gid, Group, User, geteuid};
use proto::id::{EndpointName, PublicKey, SecretKey};
use proto::invitation::Inviter;
use proto::member::{DEFAULT_PORT, Host, Kind, PublicAddress};

use super::{Error, machine};

/// Where the configuration of the machine's one node is.
pub(crate) const DEFAULT_FOLDER: &str = "/etc/meshd";

/// The user that a packaged daemon runs as, and its group.
const USER: &str = "meshd";

/// The one folder that a packaged daemon may write.
const SERVICE_FOLDER: &str = "/var/lib/meshd";

/// Where a node's files are.
pub(crate) struct Folder {
    folder: PathBuf,
    pub(super) place: Place,
}

/// Whose node it is.
pub(super) enum Place {
    /// The machine's, run by hand: everything but these files is where it is by default.
    Machine,
    /// The machine's, run by the package's daemon. Key and mesh file are in that one's own folder: it has to read the one, and to write
    /// the other when it takes somebody in.
    Service { folder: PathBuf, group: Option<Gid> },
    /// One beside it, which shares no socket, state or interface with it.
    Beside { interface: String },
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
        let place = match (folder == Path::new(DEFAULT_FOLDER), service_folder()) {
            (true, Some(folder)) => {
                Place::Service { folder, group: Group::from_name(USER).ok().flatten().map(|group| group.gid) }
            }
            (true, None) => Place::Machine,
            (false, _) => Place::Beside { interface: machine::free_interface() },
        };
        Self { folder: folder.to_owned(), place }
    }

    pub(crate) fn node(&self) -> PathBuf {
        self.folder.join("meshd.toml")
    }

    pub(crate) fn mesh(&self) -> PathBuf {
        self.kept().join("mesh.toml")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.kept().join("private.key")
    }

    /// The API socket, where that is not the default one.
    pub(crate) fn socket(&self) -> Option<PathBuf> {
        matches!(self.place, Place::Beside { .. }).then(|| self.folder.join("meshd.sock"))
    }

    fn kept(&self) -> &Path {
        match &self.place {
            Place::Service { folder, .. } => folder,
            Place::Machine | Place::Beside { .. } => &self.folder,
        }
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
        let (mesh, own) = (node.mesh_text(), node.node_text(self));
        config::parse_mesh(&self.mesh(), &mesh)?;
        config::parse_node(&self.node(), &own)?;
        config::key::generate_file(&self.key(), secret)?;
        let written = self
            .create(&self.mesh(), &mesh)
            .and_then(|()| self.create(&self.node(), &own).inspect_err(|_| remove(&self.mesh())));
        written.inspect_err(|_| remove(&self.key()))
    }

    fn create(&self, path: &Path, text: &str) -> Result<(), Error> {
        let failed = |error: io::Error| Error::from(format!("cannot write {}: {error}", path.display()));
        // Anew, which follows no link that the folder's user may have put there.
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| self.share(&file, path));
        written.and_then(|()| file.sync_all()).map_err(|error| {
            remove(path);
            failed(error)
        })
    }

    /// Opens a file to the daemon, whatever the umask of who made it, and to nobody else where the daemon has a group of its own.
    fn share(&self, file: &File, path: &Path) -> io::Result<()> {
        let mode = match self.place {
            Place::Service { group: Some(group), .. } => {
                fchown(file, None, Some(group.as_raw()))?;
                0o640
            }
            Place::Service { group: None, .. } | Place::Machine | Place::Beside { .. } => 0o644,
        };
        config::give_to_owner(file, path.parent().unwrap_or(Path::new("/")))?;
        file.set_permissions(Permissions::from_mode(mode))
    }
}

/// The folder of a packaged daemon, where there is one, which is its user's own.
fn service_folder() -> Option<PathBuf> {
    let user = User::from_name(USER).ok().flatten().filter(|_| geteuid().is_root())?;
    let facts = fs::metadata(SERVICE_FOLDER).ok()?;
    (facts.is_dir() && facts.uid() == user.uid.as_raw()).then(|| SERVICE_FOLDER.into())
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
        write_to(&Folder::new(folder))
    }

    fn write_to(folder: &Folder) -> Result<(), Error> {
        let name = "lab.one".parse().unwrap();
        let endpoints = [record("lab.one", 1)];
        let node = NewNode { mesh: "my \"lab\"", name: &name, port: 6374, accepts: true, endpoints: &endpoints };
        folder.write(&node, &SecretKey::from_bytes([1; 32]))
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
    fn what_is_written_is_open_to_the_daemon_whatever_the_umask_but_the_key_to_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        let modes = ["meshd.toml", "mesh.toml", "private.key"]
            .map(|name| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o7777);
        assert_eq!(modes, [0o644, 0o644, 0o600]);
    }

    #[test]
    fn a_node_beside_the_machines_own_shares_neither_socket_nor_state_nor_interface() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder { folder: dir.path().to_owned(), place: Place::Beside { interface: "mesh3".to_owned() } };
        write_to(&folder).unwrap();
        let config = config::load(&folder.node()).unwrap();
        assert_eq!(Some(config.api.socket), folder.socket());
        assert_eq!((config.state.dir, config.interface.name.as_str()), (dir.path().join("state"), "mesh3"));
        let folder = Folder { folder: dir.path().join("default"), place: Place::Machine };
        write_to(&folder).unwrap();
        let config = config::load(&folder.node()).unwrap();
        assert_eq!((config.api.socket.to_str(), folder.socket()), (Some("/run/meshd/meshd.sock"), None));
        assert_eq!((config.state.dir.to_str(), config.interface.name.as_str()), (Some(SERVICE_FOLDER), "mesh0"));
    }

    #[test]
    fn what_the_packages_daemon_is_to_read_and_write_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, state) = (dir.path().join("etc"), dir.path().join("state"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&state).unwrap();
        // Who has no second user has nothing to give away to.
        let is_given = geteuid().is_root() && std::os::unix::fs::chown(&state, Some(6374), Some(6374)).is_ok();
        let group = is_given.then_some(Gid::from_raw(6374));
        let folder = Folder { folder: etc.clone(), place: Place::Service { folder: state.clone(), group } };
        write_to(&folder).unwrap();
        let config = config::load(&etc.join("meshd.toml")).unwrap();
        assert_eq!(config.node.mesh_file, Some(state.join("mesh.toml")));
        assert_eq!(config.node.key_file, state.join("private.key"));
        let facts =
            |path: PathBuf| fs::metadata(path).map(|facts| (facts.uid(), facts.gid(), facts.mode() & 0o777)).unwrap();
        if is_given {
            assert_eq!(facts(folder.node()), (0, 6374, 0o640));
            assert_eq!(facts(folder.mesh()), (6374, 6374, 0o640));
            assert_eq!(facts(folder.key()), (6374, 6374, 0o600));
        }
    }

    #[test]
    fn a_link_in_the_way_is_not_followed() {
        for name in ["mesh.toml", "private.key"] {
            let dir = tempfile::tempdir().unwrap();
            let (etc, state, victim) = (dir.path().join("etc"), dir.path().join("state"), dir.path().join("victim"));
            fs::create_dir(&state).unwrap();
            std::os::unix::fs::symlink(&victim, state.join(name)).unwrap();
            let folder = Folder { folder: etc, place: Place::Service { folder: state, group: None } };
            assert!(write_to(&folder).unwrap_err().to_string().contains(name));
            assert!(folder.create(&folder.kept().join(name), "text").is_err(), "put there after the look");
            assert!(!victim.exists() && !folder.node().exists());
        }
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
