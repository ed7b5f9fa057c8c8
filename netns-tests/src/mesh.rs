//! A mesh on paper: endpoints with keys, communities, and the two TOML files that every node gets.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use proto::id::{MeshId, PublicKey, SecretKey};
use proto::member::{DEFAULT_PORT, derived_address};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::daemon::{Daemon, Family};
use crate::host::Host;
use crate::lab::Lab;

/// What every node of a mesh is told. Clones share keys and hosts, so a changed clone is a node's false picture.
#[derive(Clone, Debug)]
pub struct Mesh {
    /// The mesh's name, which every handshake binds.
    pub name: String,
    /// In the order of their lines in the file.
    pub endpoints: Vec<Endpoint>,
    /// Names and members.
    pub communities: Vec<(String, Vec<String>)>,
    /// Lines for each node's `meshd.toml` beyond what the harness writes, such as `[session]` and `rekey = "1s"`.
    pub settings: String,
    /// Lines for each node's `[interface]` beyond its name.
    pub interface: String,
    /// The `[log] level` of every node.
    pub log_level: String,
    directory: PathBuf,
}

/// An endpoint, and the host that it runs in.
#[derive(Clone)]
pub struct Endpoint {
    /// `<cluster>.<node>`.
    pub name: String,
    /// `edge` or `connector`.
    pub kind: &'static str,
    /// Where its daemon runs.
    pub host: Host,
    /// Its static key.
    pub key: SecretKey,
    /// Where others dial it: `192.0.2.1:6374`.
    pub public_addresses: Vec<String>,
    /// Where it is reached over TLS: `192.0.2.1:443`.
    pub tls_addresses: Vec<String>,
    /// Its mesh addresses.
    pub addresses: Vec<String>,
    /// Prefixes behind it.
    pub subnets: Vec<String>,
    /// Its place among those that announce a prefix of `subnets` too.
    pub priority: u16,
    /// Its own prefixes outside the mesh.
    pub node_subnets: Vec<String>,
}

impl std::fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// A new private key.
///
/// # Panics
/// When the system has no randomness.
#[must_use]
pub fn new_key() -> SecretKey {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).expect("randomness");
    SecretKey::from_bytes(bytes)
}

impl Endpoint {
    /// Gives it a mesh address.
    pub fn address(&mut self, address: &str) -> &mut Self {
        self.addresses.push(address.to_owned());
        self
    }

    /// Serves TLS there, if it relays.
    pub fn tls(&mut self, address: &str) -> &mut Self {
        self.tls_addresses.push(address.to_owned());
        self
    }

    /// Announces prefixes behind it.
    pub fn subnets(&mut self, subnets: &[&str]) -> &mut Self {
        self.subnets.extend(subnets.iter().map(|&subnet| subnet.to_owned()));
        self
    }

    /// The public half of its key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    fn to_toml(&self) -> String {
        let mut text = format!(
            "[[endpoint]]\nname = {:?}\nkind = {:?}\npublic_key = \"{}\"\npriority = {}\n",
            self.name,
            self.kind,
            self.public_key(),
            self.priority
        );
        let lists = [
            ("public_addresses", &self.public_addresses),
            ("tls_addresses", &self.tls_addresses),
            ("address", &self.addresses),
            ("subnets", &self.subnets),
            ("node_subnets", &self.node_subnets),
        ];
        for (key, values) in lists.into_iter().filter(|(_, values)| !values.is_empty()) {
            // A Rust string list of plain ASCII is a TOML one.
            let _ = writeln!(text, "{key} = {values:?}");
        }
        text
    }
}

impl Mesh {
    /// An empty mesh whose files lie in the lab's directory.
    #[must_use]
    pub fn new(lab: &Lab, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            endpoints: Vec::new(),
            communities: Vec::new(),
            settings: String::new(),
            interface: String::new(),
            log_level: "debug".to_owned(),
            directory: lab.directory().to_owned(),
        }
    }

    /// Adds an edge in `host`, dialled at `public` (an address, or empty when it can only dial).
    pub fn edge(&mut self, name: &str, host: &Host, public: &str) -> &mut Endpoint {
        self.add(name, "edge", host, public)
    }

    /// Adds a connector in `host`, dialled at `public`.
    pub fn connector(&mut self, name: &str, host: &Host, public: &str) -> &mut Endpoint {
        self.add(name, "connector", host, public)
    }

    fn add(&mut self, name: &str, kind: &'static str, host: &Host, public: &str) -> &mut Endpoint {
        let public_addresses = match public.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => vec![format!("{address}:{DEFAULT_PORT}")],
            Ok(IpAddr::V6(address)) => vec![format!("[{address}]:{DEFAULT_PORT}")],
            Err(_) => vec![],
        };
        self.endpoints.push(Endpoint {
            name: name.to_owned(),
            kind,
            host: host.clone(),
            key: new_key(),
            public_addresses,
            tls_addresses: vec![],
            addresses: vec![],
            subnets: vec![],
            priority: 0,
            node_subnets: vec![],
        });
        self.endpoint_mut(name)
    }

    /// Adds a community.
    pub fn community(&mut self, name: &str, members: &[&str]) -> &mut Self {
        self.communities.push((name.to_owned(), members.iter().map(|&member| member.to_owned()).collect()));
        self
    }

    /// The endpoint of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> &Endpoint {
        self.endpoints.iter().find(|endpoint| endpoint.name == name).unwrap_or_else(|| panic!("no endpoint {name}"))
    }

    /// The endpoint of this name, to change it.
    ///
    /// # Panics
    /// When there is none.
    pub fn endpoint_mut(&mut self, name: &str) -> &mut Endpoint {
        let found = self.endpoints.iter_mut().find(|endpoint| endpoint.name == name);
        found.unwrap_or_else(|| panic!("no endpoint {name}"))
    }

    /// Removes an endpoint, and its memberships: a picture of the mesh in which it does not exist.
    pub fn forget(&mut self, name: &str) {
        self.endpoints.retain(|endpoint| endpoint.name != name);
        for (_, members) in &mut self.communities {
            members.retain(|member| member != name);
        }
    }

    /// The mesh address that `name` has in the family: the first one given, or the one derived from its key.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn address(&self, name: &str, family: Family) -> String {
        let endpoint = self.endpoint(name);
        let given = endpoint.addresses.iter().find(|address| address.contains(':') == (family == Family::V6));
        match (given, family) {
            (Some(address), _) => address.clone(),
            (None, Family::V6) => derived_address(&MeshId::from_name(&self.name), &endpoint.public_key()).to_string(),
            (None, Family::V4) => panic!("{name} has no IPv4 mesh address"),
        }
    }

    /// The folder with the files of `name`.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes `mesh.toml`, `meshd.toml` and the key file of `name`; returns the folder.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn write(&self, name: &str) -> PathBuf {
        let endpoint = self.endpoint(name);
        let folder = self.folder(name);
        fs::create_dir_all(folder.join("state")).expect("make the node's folder");
        fs::write(folder.join("mesh.toml"), self.to_toml()).expect("write mesh.toml");
        fs::write(folder.join("meshd.toml"), self.node_toml(name, &folder)).expect("write meshd.toml");
        let mut options = OpenOptions::new();
        let key = options.write(true).create(true).truncate(true).mode(0o600).open(folder.join("private.key"));
        writeln!(key.expect("make the key file"), "{}", *endpoint.key.to_base64()).expect("write the key");
        folder
    }

    /// The text of `mesh.toml`.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = format!("[mesh]\nname = {:?}\n", self.name);
        for endpoint in &self.endpoints {
            let _ = write!(text, "\n{}", endpoint.to_toml());
        }
        for (name, members) in &self.communities {
            let _ = write!(text, "\n[[community]]\nname = {name:?}\nmembers = {members:?}\n");
        }
        text
    }

    fn node_toml(&self, name: &str, folder: &Path) -> String {
        format!(
            "[node]\nname = {name:?}\nkey_file = {key:?}\nmesh = {mesh:?}\n\n\
             [interface]\nname = \"mesh0\"\n{interface}\n[listen]\nport = {DEFAULT_PORT}\n\n\
             [api]\nsocket = {socket:?}\n\n[state]\ndir = {state:?}\n\n[log]\nlevel = {level:?}\n\n{settings}",
            key = folder.join("private.key"),
            mesh = folder.join("mesh.toml"),
            socket = folder.join("meshd.sock"),
            state = folder.join("state"),
            level = self.log_level,
            settings = self.settings,
            interface = self.interface,
        )
    }

    /// Writes the files of `name` and starts its daemon, without waiting for it.
    ///
    /// # Panics
    /// When there is no such endpoint, or no binary.
    #[must_use]
    pub fn spawn(&self, name: &str) -> Daemon {
        self.spawn_with(name, &[])
    }

    /// The same with more in the daemon's environment.
    ///
    /// # Panics
    /// When there is no such endpoint, or no binary.
    #[must_use]
    pub fn spawn_with(&self, name: &str, environment: &[(&str, &str)]) -> Daemon {
        Daemon::spawn_with(name, &self.endpoint(name).host, &self.write(name), environment)
    }

    /// Writes the files of `name`, starts its daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    #[must_use]
    pub fn up(&self, name: &str) -> Daemon {
        let mut daemon = self.spawn(name);
        daemon.wait_ready();
        daemon
    }

    /// Starts the daemons of all endpoints and waits until each answers; in the order of the endpoints.
    ///
    /// # Panics
    /// When one does not answer.
    #[track_caller]
    #[must_use]
    pub fn up_all(&self) -> Vec<Daemon> {
        let mut daemons: Vec<Daemon> = self.endpoints.iter().map(|endpoint| self.spawn(&endpoint.name)).collect();
        daemons.iter_mut().for_each(Daemon::wait_ready);
        daemons
    }
}
