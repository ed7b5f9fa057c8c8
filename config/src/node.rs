//! The tables of `meshd.toml`: this node's own settings.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::id::{EndpointName, NameError};
use proto::member::DEFAULT_PORT;
use proto::wire::{Suite, Suites};
use toml::de::{DeTable, DeValue};

use crate::error::{Fault, quote};
use crate::health::{self, HealthTable};
use crate::invite::{self, InviteConfig};
use crate::lan::{self, LanTable};
use crate::model::{
    ApiConfig, DataplaneConfig, InterfaceConfig, ListenConfig, LogConfig, LogLevel, NatConfig, Offload, PathsConfig,
    RelayConfig, SessionConfig, StateConfig,
};
use crate::rate::{self, Rate};
use crate::read::{Located, Reader, Section};
use crate::{address, paths, scalar, shape};

const KEY_FILE: &str = "/var/lib/meshd/private.key";
const MESH_FILE: &str = "mesh.toml";
const INTERFACE: &str = "mesh0";
/// 1280 is the least that IPv6 works with (RFC 8200 §5); 9000 is a jumbo frame.
const MTU_RANGE: RangeInclusive<u32> = 1280..=9000;
/// Mark of the daemon's datagrams, and the routing table that is proposed; the port's number, so that one number is to be remembered.
const ROUTING: u32 = DEFAULT_PORT as u32;
/// The table that is looked at without any rule (`linux/rtnetlink.h`: `RT_TABLE_MAIN`).
pub(crate) const MAIN_TABLE: u32 = 254;
/// The kernel's own routing tables: unspec, default, main, local (`linux/rtnetlink.h`).
const KERNEL_TABLES: [u32; 4] = [0, 253, MAIN_TABLE, 255];
/// New keys at 120 s; a session is refused after 180 s (WireGuard §6.1).
const REKEY: Duration = Duration::from_secs(120);
const REKEY_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(180);
const IDLE: Duration = Duration::from_secs(180);
/// At least 5 s, so that one lost reply does not end a session; at most what a [`Period`](crate::Period) holds.
const IDLE_RANGE: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(365 * 24 * 3600);
/// What "auto" leaves to the node, which learns how long its NATs remember: RFC 4787 §4.3 asks for 2 min, and many wait 30 s.
const KEEPALIVE: Duration = Duration::from_secs(120);
const KEEPALIVE_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// What one core relays without strain.
const RELAY_RATE: Rate = Rate::from_megabits(1000);
/// A tenth of that, so that no member keeps the others from theirs.
const RELAY_MEMBER_RATE: Rate = Rate::from_megabits(100);
const SOCKET: &str = "/run/meshd/meshd.sock";
/// `sun_path` has 108 bytes, one of them the NUL (unix(7)).
const SOCKET_PATH: usize = 107;
const STATE_DIR: &str = "/var/lib/meshd";

/// What `cipher` may name, and what it offers then.
const CIPHERS: [(&str, Suites); 6] = [
    ("auto", Suites::DEFAULT),
    cipher(Suite::Aes256Gcm),
    cipher(Suite::ChaCha20Poly1305),
    cipher(Suite::Aes128Gcm),
    cipher(Suite::Aegis128L),
    cipher(Suite::Aegis128X2),
];
const LEVELS: [(&str, LogLevel); 5] = [
    (LogLevel::Error.as_str(), LogLevel::Error),
    (LogLevel::Warn.as_str(), LogLevel::Warn),
    (LogLevel::Info.as_str(), LogLevel::Info),
    (LogLevel::Debug.as_str(), LogLevel::Debug),
    (LogLevel::Trace.as_str(), LogLevel::Trace),
];

/// What `meshd.toml` says, before its keys and its mesh are read. Refused values have their defaults here.
pub(crate) struct NodeFile {
    pub(crate) identity: Identity,
    pub(crate) interface: InterfaceConfig,
    pub(crate) listen: ListenConfig,
    pub(crate) lan: LanTable,
    /// Whether the file names a port, and where.
    pub(crate) port_at: Option<usize>,
    /// Whether the file says where TLS is taken, and where it does.
    pub(crate) tls_at: Option<usize>,
    pub(crate) nat: NatConfig,
    pub(crate) paths: PathsConfig,
    pub(crate) health: HealthTable,
    pub(crate) relay: RelayConfig,
    pub(crate) invite: InviteConfig,
    pub(crate) session: SessionConfig,
    /// Whether the file names a keep-alive, and where.
    pub(crate) keepalive_at: Option<usize>,
    pub(crate) dataplane: DataplaneConfig,
    pub(crate) api: ApiConfig,
    pub(crate) state: StateConfig,
    pub(crate) log: LogConfig,
}

/// `[node]`, its paths resolved; each path with the offset where the file names it, or its table.
pub(crate) struct Identity {
    pub(crate) name: Option<Located<EndpointName>>,
    pub(crate) key_file: Located<PathBuf>,
    pub(crate) psk_file: Option<Located<PathBuf>>,
    /// Whether the file itself holds a mesh.
    pub(crate) inline: bool,
    /// The mesh file to read where it does not.
    pub(crate) mesh_file: Located<PathBuf>,
}

/// Reads the node's tables. Paths are relative to `folder`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path) -> NodeFile {
    reader.root(root, &shape::ALL_TABLES, &[]);
    let (listen, session) = (reader.section(root, &shape::LISTEN), reader.section(root, &shape::SESSION));
    let place = |section: Section<'_>, key: &str| section.value(key).map(|value| value.span().start);
    NodeFile {
        identity: identity(reader, root, folder),
        interface: interface(reader, root),
        listen: listening(reader, listen),
        lan: lan::read(reader, root),
        port_at: place(listen, "port"),
        tls_at: place(listen, "tls"),
        nat: nat(reader, root),
        paths: paths::read(reader, root),
        health: health::read(reader, root),
        relay: relay(reader, root),
        invite: invite::read(reader, root),
        session: sessions(reader, session),
        keepalive_at: place(session, "keepalive"),
        dataplane: dataplane(reader, root),
        api: api(reader, root, folder),
        state: state(reader, root, folder),
        log: log(reader, root),
    }
}

/// Parses an endpoint's name.
pub(crate) fn name(value: &DeValue<'_>) -> Result<EndpointName, Fault> {
    let text = scalar::text(value)?;
    text.parse().map_err(|error| bad_name(text, error))
}

/// Explains why a text is no endpoint's name.
pub(crate) fn bad_name(text: &str, error: NameError) -> Fault {
    let fault = Fault::new(format!("{} is not <cluster>.<node>", quote(text)));
    match error {
        NameError::Form => fault.help("write two parts and one dot, such as \"beijing.edge1\""),
        NameError::Length => fault.help("each part has 1 to 63 characters"),
        NameError::Character => fault.help("use a-z, 0-9 and inner hyphens"),
    }
}

fn identity(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path) -> Identity {
    let section = reader.section(root, &shape::NODE);
    let mut path = |key: &str| {
        let found = reader.optional(section, key, scalar::path);
        found.map(|Located { value, at }| Located { value: folder.join(value), at })
    };
    let (key_file, psk_file, mesh_file) = (path("key_file"), path("psk_file"), path("mesh"));
    let or_default = |found: Option<Located<PathBuf>>, default: &str| {
        found.unwrap_or_else(|| Located { value: folder.join(default), at: section.at })
    };
    let inline = shape::MESH_TABLES.iter().find_map(|shape| root.get_key_value(shape.name));
    if let (Some((first, _)), Some(mesh)) = (inline, section.value("mesh")) {
        let line = reader.source.line(first.span().start);
        let fault = Fault::new(format!("names a mesh file, but this file has the mesh itself ({line})"));
        reader.report_key(section, "mesh", mesh.span().start, fault.help("remove one of the two"));
    }
    Identity {
        name: reader.required(section, "name", "name = \"<cluster>.<node>\", as in the mesh", name),
        key_file: or_default(key_file, KEY_FILE),
        psk_file,
        inline: inline.is_some(),
        mesh_file: or_default(mesh_file, MESH_FILE),
    }
}

fn interface(reader: &mut Reader<'_>, root: &DeTable<'_>) -> InterfaceConfig {
    let section = reader.section(root, &shape::INTERFACE);
    let mtu = number(reader, section, "mtu", &MTU_RANGE);
    InterfaceConfig {
        name: reader.optional(section, "name", interface_name).map_or_else(|| INTERFACE.to_owned(), |name| name.value),
        mtu: mtu.and_then(|mtu| u16::try_from(mtu).ok()),
        table: reader.optional(section, "table", routing_table).map_or(MAIN_TABLE, |table| table.value),
        mark: number(reader, section, "mark", &(1..=u32::MAX)).unwrap_or(ROUTING),
    }
}

fn listening(reader: &mut Reader<'_>, section: Section<'_>) -> ListenConfig {
    let port = number(reader, section, "port", &(0..=u32::from(u16::MAX)));
    let tls = reader.optional(section, "tls", |value| address::listener(scalar::text(value)?));
    ListenConfig {
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT),
        tls: tls.map(|tls| tls.value),
    }
}

fn number(reader: &mut Reader<'_>, section: Section<'_>, key: &str, range: &RangeInclusive<u32>) -> Option<u32> {
    reader.optional(section, key, |value| scalar::integer(value, range)).map(|number| number.value)
}

/// Checks an interface name as `dev_valid_name` does, and keeps to characters that need no quoting anywhere.
fn interface_name(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = scalar::text(value)?;
    let characters = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let fault = Fault::new(format!("{} is no interface name", quote(text)));
    if text.is_empty() || text.len() > 15 || !characters {
        return Err(fault.help("use 1 to 15 letters, digits, '-', '_' and '.'"));
    }
    // `all` and `default` are not interfaces but folders of /proc/sys/net; `lo` exists already.
    if [".", "..", "lo", "all", "default"].contains(&text) {
        return Err(fault.help("the kernel uses it for something else; choose another"));
    }
    Ok(text.to_owned())
}

fn routing_table(value: &DeValue<'_>) -> Result<u32, Fault> {
    if value.as_str() == Some("main") {
        return Ok(MAIN_TABLE);
    }
    let help = || format!("write \"main\", or the number of a free one, such as {ROUTING}");
    let table = scalar::integer(value, &(0..=u32::MAX)).map_err(|fault| Fault::new(fault.message).help(help()))?;
    if KERNEL_TABLES.contains(&table) {
        let fault = Fault::new(format!("{table} is one of the kernel's own routing tables"));
        return Err(fault.help(help()));
    }
    Ok(table)
}

fn nat(reader: &mut Reader<'_>, root: &DeTable<'_>) -> NatConfig {
    const MOST: usize = NatConfig::MAX_STUN_SERVERS;
    let section = reader.section(root, &shape::NAT);
    let mut on = |key: &str| reader.optional(section, key, scalar::switch).is_none_or(|on| on.value);
    let (port_mapping, punch, spray) = (on("port_mapping"), on("punch"), on("spray"));
    let servers = reader.list(section, "stun_servers", address::stun_server);
    if let Some(extra) = servers.get(MOST) {
        let fault = Fault::new(format!("names more than {MOST} servers"));
        reader.report_key(section, "stun_servers", extra.at, fault.help("keep two or three that answer reliably"));
    }
    NatConfig { port_mapping, stun_servers: servers.into_iter().map(|server| server.value).collect(), punch, spray }
}

fn relay(reader: &mut Reader<'_>, root: &DeTable<'_>) -> RelayConfig {
    let section = reader.section(root, &shape::RELAY);
    let mut rate =
        |key: &str, default: Rate| reader.optional(section, key, rate::read).map_or(default, |rate| rate.value);
    RelayConfig { rate: rate("rate", RELAY_RATE), member_rate: rate("member_rate", RELAY_MEMBER_RATE) }
}

fn sessions(reader: &mut Reader<'_>, section: Section<'_>) -> SessionConfig {
    let mut period = |key: &str, range: &RangeInclusive<Duration>| {
        reader.optional(section, key, |value| scalar::period(value, range)).map(|period| period.value)
    };
    let rekey = period("rekey", &REKEY_RANGE).unwrap_or(REKEY);
    let idle = period("idle", &IDLE_RANGE).unwrap_or(IDLE);
    let keepalive = reader.optional(section, "keepalive", |value| match value.as_str() {
        Some("off") => Ok(None),
        Some("auto") => Ok(Some(KEEPALIVE)),
        _ => scalar::period(value, &KEEPALIVE_RANGE).map(Some).map_err(|Fault { message, help }| Fault {
            message,
            help: help.map(|help| format!("{help}, \"auto\" or \"off\"")),
        }),
    });
    SessionConfig { rekey, idle, keepalive: keepalive.map_or(Some(KEEPALIVE), |keepalive| keepalive.value) }
}

fn dataplane(reader: &mut Reader<'_>, root: &DeTable<'_>) -> DataplaneConfig {
    let section = reader.section(root, &shape::DATAPLANE);
    let workers = number(reader, section, "workers", &(1..=64));
    let offloads = Offload::ALL.map(|offload| (offload.as_str(), offload));
    let without = reader.list(section, "without", |text| scalar::word(text, &offloads));
    DataplaneConfig {
        workers: workers.and_then(|workers| u8::try_from(workers).ok()).unwrap_or(1),
        offload: reader.optional(section, "offload", scalar::switch).is_none_or(|offload| offload.value),
        without: without.into_iter().map(|offload| offload.value).collect(),
        ciphers: ciphers(reader, section),
    }
}

const fn cipher(suite: Suite) -> (&'static str, Suites) {
    (suite.name(), Suites::of(&[suite]))
}

/// `cipher`: one name, or a list of them.
fn ciphers(reader: &mut Reader<'_>, section: Section<'_>) -> Suites {
    let Some(value) = section.value("cipher").filter(|value| value.get_ref().is_array()) else {
        let one = reader.optional(section, "cipher", |value| scalar::choice(value, &CIPHERS));
        return one.map_or(Suites::DEFAULT, |one| one.value);
    };
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        let fault = Fault::new("names no cipher").help("write [\"auto\"], or leave the key out");
        reader.report_key(section, "cipher", value.span().start, fault);
        return Suites::DEFAULT;
    }
    let named = reader.list(section, "cipher", |text| scalar::word(text, &CIPHERS));
    named.iter().fold(Suites::default(), |all, one| all.or(one.value))
}

fn api(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path) -> ApiConfig {
    let section = reader.section(root, &shape::API);
    let socket = reader.optional(section, "socket", |value| {
        let path = folder.join(scalar::path(value)?);
        let length = path.as_os_str().len();
        if length > SOCKET_PATH {
            let fault = Fault::new(format!("has {length} bytes; a socket's path has at most {SOCKET_PATH}"));
            return Err(fault.help("use a shorter path"));
        }
        Ok(path)
    });
    ApiConfig { socket: socket.map_or_else(|| PathBuf::from(SOCKET), |socket| socket.value) }
}

fn state(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path) -> StateConfig {
    let section = reader.section(root, &shape::STATE);
    let dir = reader.optional(section, "dir", scalar::path);
    StateConfig { dir: dir.map_or_else(|| PathBuf::from(STATE_DIR), |dir| folder.join(dir.value)) }
}

fn log(reader: &mut Reader<'_>, root: &DeTable<'_>) -> LogConfig {
    let section = reader.section(root, &shape::LOG);
    let level = reader.optional(section, "level", |value| scalar::choice(value, &LEVELS));
    LogConfig { level: level.map_or(LogLevel::Info, |level| level.value) }
}
