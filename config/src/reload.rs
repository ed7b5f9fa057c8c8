//! What a later configuration changes, and what of that a running daemon can take over.
//!
//! A [`Baseline`] is what is kept of the configuration that runs: everything but the members, of whom there may be thousands, and
//! four bytes for each of these, by which it is told whether a record is another.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use proto::id::EndpointName;
use proto::invitation::Invited;
use proto::member::{Community, Members};

use crate::model::{ApiConfig, Config, LogFormat, ReloadConfig};
use crate::note::Value;
use crate::read::Reader;
use crate::{scalar, shape};

/// The keys that count at the next start only. Every other key takes effect with a reload.
pub(crate) const RESTART: [(&str, &[&str]); 9] = [
    ("node", &["name", "key_file", "psk_file"]),
    ("interface", shape::INTERFACE.keys),
    ("listen", &["port"]),
    ("paths", &["balance"]),
    ("dataplane", shape::DATAPLANE.keys),
    ("api", &["socket"]),
    ("state", &["dir"]),
    ("log", &["format"]),
    ("mesh", &["name"]),
];

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// With a reload.
    Hot,
    /// With the next start.
    Restart,
}

/// The class of a key of `meshd.toml` or of a mesh.
#[must_use]
pub fn class(table: &str, key: &str) -> Class {
    let is_listed = RESTART.iter().any(|(listed, keys)| *listed == table && keys.contains(&key));
    if is_listed { Class::Restart } else { Class::Hot }
}

/// A key of a table that stands in `meshd.toml` once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The table's name.
    pub table: &'static str,
    /// The key's.
    pub key: &'static str,
}

impl Key {
    /// When a change of it takes effect.
    #[must_use]
    pub fn class(&self) -> Class {
        class(self.table, self.key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.table, self.key)
    }
}

/// How many records of a kind are others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// That were not there before.
    pub added: usize,
    /// That are there no more.
    pub removed: usize,
    /// That are there still, and say something else.
    pub changed: usize,
}

impl Tally {
    /// Whether there is none.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.added, "added"), (self.removed, "removed"), (self.changed, "changed")];
        let told = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
        f.write_str(&told.collect::<Vec<_>>().join(", "))
    }
}

/// What one configuration changes of another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Whether the mesh is another in any way, be it in the order of its records, or in those that are no members.
    pub is_mesh_other: bool,
    /// Endpoints of the mesh.
    pub endpoints: Tally,
    /// Communities of the mesh.
    pub communities: Tally,
    /// Invitations into the mesh.
    pub invitations: Tally,
    /// Keys that take effect with a reload.
    pub hot: Vec<Key>,
    /// Keys that take effect with the next start.
    pub restart: Vec<Key>,
    /// Those that make this node another one, so that nothing of the new mesh is meant for the one that runs.
    pub identity: Vec<Key>,
}

impl Changes {
    /// Whether a running daemon has something to take over.
    #[must_use]
    pub fn is_any_hot(&self) -> bool {
        self.is_mesh_other || !self.hot.is_empty()
    }

    /// What takes effect with a reload, a line for each.
    #[must_use]
    pub fn hot_lines(&self) -> Vec<String> {
        let invitations = ("invitations", self.invitations);
        let tallies = [("endpoints", self.endpoints), ("communities", self.communities), invitations];
        let tallies = tallies.iter().filter(|(_, tally)| !tally.is_zero());
        let mut lines: Vec<String> = tallies.map(|(what, tally)| format!("{what}: {tally}")).collect();
        if self.is_mesh_other && lines.is_empty() {
            lines.push("order or selection of the mesh".to_owned());
        }
        lines.extend(self.hot.iter().map(Key::to_string));
        lines
    }
}

/// What is kept of the configuration that runs.
#[derive(Debug)]
pub struct Baseline {
    /// Without endpoints, communities and warnings.
    pub(crate) config: Config,
    members: Digests,
}

impl Baseline {
    /// What is to be kept of a configuration when everybody has what it needs of it.
    #[must_use]
    pub fn of(mut config: Config) -> Self {
        let members = Digests::of(&config);
        (config.members.endpoints, config.members.communities) = Default::default();
        (config.unselected, config.invited, config.warnings) = Default::default();
        Self { config, members }
    }

    /// The configuration, without endpoints, communities and warnings.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// What `new` changes; `was_known` tells whether a name was that of an endpoint before, and not of one that is invited only.
    #[must_use]
    pub fn changes(&self, new: &Config, was_known: impl Fn(&EndpointName) -> bool) -> Changes {
        let mut changes = Changes { identity: self.identity(new), ..Changes::default() };
        let keys = differences(&self.config, new).into_iter().filter(|(_, differs)| *differs);
        let keys: Vec<Key> = keys.map(|(key, _)| key).chain(changes.identity.iter().copied()).collect();
        (changes.restart, changes.hot) = keys.into_iter().partition(|key| key.class() == Class::Restart);
        changes.restart.sort_unstable();
        changes.restart.dedup();
        changes.is_mesh_other = self.members.all != all(new);
        if changes.is_mesh_other {
            changes.endpoints = self.members.endpoints(&new.members, was_known);
            changes.communities = tally(&self.members.communities, new.members.communities.iter().map(named));
            changes.invitations = tally(&self.members.invited, new.invited.iter().map(invited));
        }
        changes
    }

    /// What runs from now on if `new` is taken over: what needs a restart stays as it was.
    #[must_use]
    pub fn settle(&self, mut new: Config) -> Config {
        let old = &self.config;
        new.interface = old.interface.clone();
        new.listen.port = old.listen.port;
        new.paths = old.paths;
        new.dataplane = old.dataplane.clone();
        (new.api, new.state) = (old.api.clone(), old.state.clone());
        new.log.format = old.log.format;
        new.node.key_file.clone_from(&old.node.key_file);
        new.node.psk_file.clone_from(&old.node.psk_file);
        new
    }

    /// By what it is, not by what its files are called.
    fn identity(&self, new: &Config) -> Vec<Key> {
        let (old, node) = (&self.config, &new.node);
        let is_same_psk = old.node.preshared_key.as_bytes() == node.preshared_key.as_bytes();
        let parts = [
            (key("node", "name"), old.node.name != node.name),
            (key("node", "key_file"), old.node.secret_key.public_key() != node.secret_key.public_key()),
            (key("node", "psk_file"), !is_same_psk),
            (key("mesh", "name"), old.members.mesh != new.members.mesh),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// What stays for the life of the process, also where a reload stops the node and another starts it: by what it is asked, and the form
/// of its log.
#[derive(Clone, Debug)]
pub struct Fixed {
    api: ApiConfig,
    format: LogFormat,
}

impl Fixed {
    /// What a process that began with this configuration keeps of it.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { api: config.api.clone(), format: config.log.format }
    }

    /// Puts it into a later configuration, and returns the keys that were others there.
    pub fn settle(&self, new: &mut Config) -> Vec<Key> {
        let parts =
            [(key("api", "socket"), self.api != new.api), (key("log", "format"), self.format != new.log.format)];
        (new.api, new.log.format) = (self.api.clone(), self.format);
        parts.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}

/// Members in few bytes.
#[derive(Debug)]
struct Digests {
    /// Of everything, so that no change goes unseen.
    all: u64,
    /// Of each endpoint, ascending: enough to count with.
    endpoints: Box<[u32]>,
    /// Of each community's name, and of all of it.
    communities: Box<[(u32, u32)]>,
    /// The same of each invitation.
    invited: Box<[(u32, u32)]>,
}

impl Digests {
    fn of(config: &Config) -> Self {
        let members = &config.members;
        let mut endpoints: Box<[u32]> = members.endpoints.iter().map(short).collect();
        endpoints.sort_unstable();
        let communities = members.communities.iter().map(named).collect();
        Self { all: all(config), endpoints, communities, invited: config.invited.iter().map(invited).collect() }
    }

    fn endpoints(&self, new: &Members, was_known: impl Fn(&EndpointName) -> bool) -> Tally {
        let (mut tally, mut kept) = (Tally::default(), 0);
        for endpoint in &new.endpoints {
            if !was_known(&endpoint.name) {
                tally.added += 1;
                continue;
            }
            kept += 1;
            tally.changed += usize::from(self.endpoints.binary_search(&short(endpoint)).is_err());
        }
        tally.removed = self.endpoints.len().saturating_sub(kept);
        tally
    }
}

/// Counts what another list of names, each with a digest of all that is said of it, changes of this one.
fn tally(old: &[(u32, u32)], new: impl Iterator<Item = (u32, u32)>) -> Tally {
    let (mut tally, mut kept) = (Tally::default(), 0);
    for (name, digest) in new {
        match old.iter().find(|(known, _)| *known == name) {
            None => tally.added += 1,
            Some((_, before)) => {
                kept += 1;
                tally.changed += usize::from(*before != digest);
            }
        }
    }
    tally.removed = old.len().saturating_sub(kept);
    tally
}

/// Whether each key of the tables that are `meshd.toml`'s own has another value.
pub(crate) fn differences(old: &Config, new: &Config) -> Vec<(Key, bool)> {
    let mut all = vec![
        (key("node", "name"), old.node.name != new.node.name),
        (key("node", "key_file"), old.node.key_file != new.node.key_file),
        (key("node", "psk_file"), old.node.psk_file != new.node.psk_file),
        (key("node", "mesh"), old.node.mesh_file != new.node.mesh_file),
        (key("listen", "port"), old.listen.port != new.listen.port),
        (key("listen", "tls"), old.listen.tls != new.listen.tls),
        (key("paths", "balance"), old.paths.balance != new.paths.balance),
        (key("health", "probe"), old.health.probe != new.health.probe),
        (key("relay", "rate"), old.relay.rate != new.relay.rate),
        (key("relay", "member_rate"), old.relay.member_rate != new.relay.member_rate),
        (key("api", "socket"), old.api.socket != new.api.socket),
        (key("state", "dir"), old.state.dir != new.state.dir),
        (key("log", "level"), old.log.level != new.log.level),
        (key("log", "format"), old.log.format != new.log.format),
        (key("metrics", "listen"), old.metrics.listen != new.metrics.listen),
        (key("invite", "accept"), old.invite.accept != new.invite.accept),
        (key("reload", "watch"), old.reload.watch != new.reload.watch),
    ];
    let (was, is) = (&old.interface, &new.interface);
    all.extend([
        (key("interface", "name"), was.name != is.name),
        (key("interface", "mtu"), was.mtu != is.mtu),
        (key("interface", "table"), was.table != is.table),
        (key("interface", "mark"), was.mark != is.mark),
    ]);
    let (was, is) = (&old.lan, &new.lan);
    all.extend([
        (key("lan", "multicast_token"), was.token != is.token),
        (key("lan", "multicast_address"), was.group4 != is.group4),
        (key("lan", "multicast_address6"), was.group6 != is.group6),
        (key("lan", "interval"), was.interval != is.interval),
        (key("lan", "ttl"), was.ttl != is.ttl),
        (key("lan", "interfaces"), was.interfaces != is.interfaces),
        (key("lan", "mode"), was.mode != is.mode),
        (key("lan", "implicit_community"), was.implicit_community != is.implicit_community),
    ]);
    let (was, is) = (&old.nat, &new.nat);
    all.extend([
        (key("nat", "port_mapping"), was.port_mapping != is.port_mapping),
        (key("nat", "stun_servers"), was.stun_servers != is.stun_servers),
        (key("nat", "punch"), was.punch != is.punch),
        (key("nat", "spray"), was.spray != is.spray),
    ]);
    let (was, is) = (&old.session, &new.session);
    all.extend([
        (key("session", "rekey"), was.rekey != is.rekey),
        (key("session", "idle"), was.idle != is.idle),
        (key("session", "keepalive"), was.keepalive != is.keepalive),
    ]);
    let (was, is) = (&old.dataplane, &new.dataplane);
    all.extend([
        (key("dataplane", "workers"), was.workers != is.workers),
        (key("dataplane", "offload"), was.offload != is.offload),
        (key("dataplane", "without"), was.without != is.without),
        (key("dataplane", "cipher"), was.ciphers != is.ciphers),
    ]);
    all
}

/// `[reload]`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &toml::de::DeTable<'_>) -> ReloadConfig {
    let section = reader.section(root, &shape::RELOAD);
    ReloadConfig { watch: reader.value_or(section, "watch", false, scalar::switch, |on| Value::Switch(*on)) }
}

pub(crate) const fn key(table: &'static str, key: &'static str) -> Key {
    Key { table, key }
}

fn all(config: &Config) -> u64 {
    let invited: Vec<_> = config.invited.iter().map(invited).collect();
    digest(&(&config.members.endpoints, &config.members.communities, &config.unselected, invited))
}

fn named(community: &Community) -> (u32, u32) {
    (short(&community.name), short(community))
}

fn invited(one: &Invited) -> (u32, u32) {
    (short(&one.name), short(&(&one.name, one.key, one.until)))
}

/// The operator's own file is no adversary: a hash without a key is enough.
fn digest(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn short(value: &impl Hash) -> u32 {
    (digest(value) >> 32) as u32
}
