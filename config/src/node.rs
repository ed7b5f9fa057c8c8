//! The tables of `meshd.toml`: this node's own settings.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::id::{EndpointName, NameError};
use proto::member::{DEFAULT_PORT, PublicAddress};
use proto::wire::{Suite, Suites};
use toml::de::{DeTable, DeValue};

use crate::error::{Fault, quote};
use crate::invite::{self, InviteConfig};
use crate::model::{
    ApiConfig, DataplaneConfig, InterfaceConfig, ListenConfig, LogConfig, LogFormat, LogLevel, MetricsConfig,
    NatConfig, Offload, PathsConfig, RelayConfig, ReloadConfig, SessionConfig, StateConfig,
};
use crate::note::Value;
use crate::rate::{self, Rate};
use crate::read::{Located, Reader, Section};
use crate::settings::{self, Settings};
use crate::{address, args, lan, metrics, paths, reload, scalar, shape};

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
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

/// What holds where nobody says anything.
pub(crate) const NAT: NatConfig = NatConfig { port_mapping: true, stun_servers: Vec::new(), punch: true, spray: true };
pub(crate) const RELAY: RelayConfig = RelayConfig { rate: RELAY_RATE, member_rate: RELAY_MEMBER_RATE };
pub(crate) const SESSION: SessionConfig = SessionConfig { rekey: REKEY, idle: IDLE, keepalive: Some(KEEPALIVE) };
pub(crate) const LOG: LogConfig = LogConfig { level: LogLevel::Info, format: LogFormat::Text };

/// What `meshd.toml` and the arguments of the mesh say, before the keys are read. Refused values have their defaults here.
pub(crate) struct NodeFile {
    pub(crate) interface: InterfaceConfig,
    pub(crate) listen: ListenConfig,
    /// Whether the file names a port, and where.
    pub(crate) port_at: Option<usize>,
    /// Whether the file says where TLS is taken, and where it does.
    pub(crate) tls_at: Option<usize>,
    pub(crate) settings: Settings,
    pub(crate) invite: InviteConfig,
    pub(crate) dataplane: DataplaneConfig,
    pub(crate) api: ApiConfig,
    pub(crate) state: StateConfig,
    pub(crate) paths: PathsConfig,
    pub(crate) metrics: MetricsConfig,
    pub(crate) reload: ReloadConfig,
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

/// Reads the node's tables other than `[node]`, over the settings that the mesh has for it. Paths are relative to `folder`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path, mut settings: Settings) -> NodeFile {
    let listen = reader.section(root, &shape::LISTEN);
    let place = |key: &str| listen.value(key).map(|value| value.span().start);
    settings::read(reader, root, &mut settings);
    lan::finish(reader, root, &mut settings.lan);
    NodeFile {
        interface: interface(reader, root),
        listen: listening(reader, listen),
        port_at: place("port"),
        tls_at: place("tls"),
        settings,
        invite: invite::read(reader, root),
        dataplane: dataplane(reader, root),
        api: api(reader, root, folder),
        state: state(reader, root, folder),
        paths: paths::read(reader, root),
        metrics: metrics::read(reader, root),
        reload: reload::read(reader, root),
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

/// Reads `[node]`, and refuses tables that no `meshd.toml` has. Paths are relative to `folder`.
pub(crate) fn identity(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path) -> Identity {
    reader.root(root, &shape::ALL_TABLES, &[]);
    let section = reader.section(root, &shape::NODE);
    let inline = shape::MESH_TABLES.iter().find_map(|shape| root.get_key_value(shape.name));
    if let (Some((first, _)), Some(mesh)) = (inline, section.value("mesh")) {
        let line = reader.source.line(first.span().start);
        let fault = Fault::new(format!("names a mesh file, but this file has the mesh itself ({line})"));
        reader.report_key(section, "mesh", mesh.span().start, fault.help("remove one of the two"));
    }
    if inline.is_none() {
        args::refuse(reader, root);
    }
    let name = reader.required(section, "name", "name = \"<cluster>.<node>\", as in the mesh", name);
    let name_at = name.as_ref().map(|name| name.at);
    reader.note(section, "name", name_at, || name.as_ref().map_or(Value::Absent, |name| Value::text(&name.value)));
    let mut path = |key: &'static str, default: Option<&str>| {
        let found = reader.optional(section, key, scalar::path);
        let at = found.as_ref().map(|path| path.at);
        let path = found.map(|path| path.value).or_else(|| default.map(PathBuf::from)).map(|path| folder.join(path));
        reader.note(section, key, at, || path.as_deref().map_or(Value::Absent, show_path));
        path.map(|value| Located { value, at: at.unwrap_or(section.at) })
    };
    let (key_file, psk_file) = (path("key_file", Some(KEY_FILE)), path("psk_file", None));
    let mesh_file = path("mesh", inline.is_none().then_some(MESH_FILE));
    let or_default = |found: Option<Located<PathBuf>>, default: &str| {
        found.unwrap_or_else(|| Located { value: folder.join(default), at: section.at })
    };
    Identity {
        name,
        key_file: or_default(key_file, KEY_FILE),
        psk_file,
        inline: inline.is_some(),
        mesh_file: or_default(mesh_file, MESH_FILE),
    }
}

fn show_path(path: &Path) -> Value {
    Value::text(&path.display())
}

fn interface(reader: &mut Reader<'_>, root: &DeTable<'_>) -> InterfaceConfig {
    let section = reader.section(root, &shape::INTERFACE);
    let mtu = |value: &DeValue<'_>| scalar::integer(value, &MTU_RANGE).map(|mtu| u16::try_from(mtu).ok());
    let table = |table: &u32| if *table == MAIN_TABLE { Value::text(&"main") } else { show_number(table) };
    InterfaceConfig {
        name: reader.value_or(section, "name", INTERFACE.to_owned(), interface_name, Value::text),
        mtu: reader.value_or(section, "mtu", None, mtu, |mtu| mtu.as_ref().map_or(Value::Absent, show_number)),
        table: reader.value_or(section, "table", MAIN_TABLE, routing_table, table),
        mark: reader.value_or(section, "mark", ROUTING, |value| scalar::integer(value, &(1..=u32::MAX)), show_number),
    }
}

fn listening(reader: &mut Reader<'_>, section: Section<'_>) -> ListenConfig {
    let port = |value: &DeValue<'_>| scalar::integer(value, &(0..=u32::from(u16::MAX)));
    let port = reader.value_or(section, "port", u32::from(DEFAULT_PORT), port, show_number);
    let tls = |value: &DeValue<'_>| address::listener(scalar::text(value)?).map(Some);
    ListenConfig {
        port: u16::try_from(port).unwrap_or(DEFAULT_PORT),
        tls: reader.value_or(section, "tls", None, tls, |tls| tls.as_ref().map_or(Value::Absent, Value::text)),
    }
}

fn show_number<N: Copy + Into<u64>>(number: &N) -> Value {
    Value::Number((*number).into())
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

/// Reads `[nat]` over what it is.
pub(crate) fn nat(reader: &mut Reader<'_>, root: &DeTable<'_>, nat: &mut NatConfig) {
    const MOST: usize = NatConfig::MAX_STUN_SERVERS;
    const SERVERS: &str = "stun_servers";
    let section = reader.section(root, &shape::NAT);
    for (key, slot) in [("port_mapping", &mut nat.port_mapping), ("punch", &mut nat.punch), ("spray", &mut nat.spray)] {
        reader.set(section, key, slot, scalar::switch, scalar::show_switch);
    }
    let servers = reader.list(section, SERVERS, address::stun_server);
    if let Some(extra) = servers.get(MOST) {
        let fault = Fault::new(format!("names more than {MOST} servers"));
        reader.report_key(section, SERVERS, extra.at, fault.help("keep two or three that answer reliably"));
    }
    let read = section.value(SERVERS).map(|value| Located {
        value: servers.into_iter().map(|server| server.value).collect(),
        at: value.span().start,
    });
    let show = |servers: &Vec<PublicAddress>| Value::List(servers.iter().map(address::show).collect());
    reader.put(section, SERVERS, &mut nat.stun_servers, read, show);
}

/// Reads `[relay]` over what it is.
pub(crate) fn relay(reader: &mut Reader<'_>, root: &DeTable<'_>, relay: &mut RelayConfig) {
    let section = reader.section(root, &shape::RELAY);
    for (key, slot) in [("rate", &mut relay.rate), ("member_rate", &mut relay.member_rate)] {
        reader.set(section, key, slot, rate::read, Value::text);
    }
}

/// Reads `[session]` over what it is.
pub(crate) fn sessions(reader: &mut Reader<'_>, root: &DeTable<'_>, settings: &mut Settings) {
    let section = reader.section(root, &shape::SESSION);
    let session = &mut settings.session;
    let within = |range| move |value: &DeValue<'_>| scalar::period(value, &range);
    reader.set(section, "rekey", &mut session.rekey, within(REKEY_RANGE), scalar::show_period);
    reader.set(section, "idle", &mut session.idle, within(IDLE_RANGE), scalar::show_period);
    if let Some(at) = reader.set(section, "keepalive", &mut session.keepalive, keepalive, show_keepalive) {
        settings.keepalive_at = (!args::is_for_all(reader)).then(|| reader.origin(at));
    }
}

fn keepalive(value: &DeValue<'_>) -> Result<Option<Duration>, Fault> {
    match value.as_str() {
        Some("off") => Ok(None),
        Some("auto") => Ok(Some(KEEPALIVE)),
        _ => scalar::period(value, &KEEPALIVE_RANGE).map(Some).map_err(|Fault { message, help }| Fault {
            message,
            help: help.map(|help| format!("{help}, \"auto\" or \"off\"")),
        }),
    }
}

fn show_keepalive(keepalive: &Option<Duration>) -> Value {
    match keepalive {
        None => Value::text(&"off"),
        Some(KEEPALIVE) => Value::text(&"auto"),
        Some(period) => scalar::show_period(period),
    }
}

fn dataplane(reader: &mut Reader<'_>, root: &DeTable<'_>) -> DataplaneConfig {
    const WITHOUT: &str = "without";
    let section = reader.section(root, &shape::DATAPLANE);
    let workers = |value: &DeValue<'_>| scalar::integer(value, &(1..=64));
    let workers = reader.value_or(section, "workers", 1, workers, show_number);
    let offloads = Offload::ALL.map(|offload| (offload.as_str(), offload));
    let without = reader.list(section, WITHOUT, |text| scalar::word(text, &offloads));
    let without: Vec<_> = without.into_iter().map(|offload| offload.value).collect();
    let place = |key: &str| section.value(key).map(|value| value.span().start);
    reader.note(section, WITHOUT, place(WITHOUT), || {
        Value::List(without.iter().map(|offload| offload.as_str().to_owned()).collect())
    });
    let ciphers = ciphers(reader, section);
    reader.note(section, "cipher", place("cipher"), || show_ciphers(ciphers));
    DataplaneConfig {
        workers: u8::try_from(workers).unwrap_or(1),
        offload: reader.value_or(section, "offload", true, scalar::switch, scalar::show_switch),
        without,
        ciphers,
    }
}

fn show_ciphers(ciphers: Suites) -> Value {
    let named: Vec<_> = Suite::ALL.into_iter().filter(|suite| ciphers.contains(*suite)).map(Suite::name).collect();
    let word = Value::word(&ciphers, &CIPHERS);
    if word == Value::Absent { Value::list(&named) } else { word }
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
    let socket = |value: &DeValue<'_>| {
        let path = folder.join(scalar::path(value)?);
        let length = path.as_os_str().len();
        if length > SOCKET_PATH {
            let fault = Fault::new(format!("has {length} bytes; a socket's path has at most {SOCKET_PATH}"));
            return Err(fault.help("use a shorter path"));
        }
        Ok(path)
    };
    let default = PathBuf::from(SOCKET);
    ApiConfig { socket: reader.value_or(section, "socket", default, socket, |path| show_path(path)) }
}

fn state(reader: &mut Reader<'_>, root: &DeTable<'_>, folder: &Path) -> StateConfig {
    let section = reader.section(root, &shape::STATE);
    let dir = |value: &DeValue<'_>| scalar::path(value).map(|dir| folder.join(dir));
    StateConfig { dir: reader.value_or(section, "dir", PathBuf::from(STATE_DIR), dir, |path| show_path(path)) }
}

/// Reads `[log]` over what it is.
pub(crate) fn log(reader: &mut Reader<'_>, root: &DeTable<'_>, log: &mut LogConfig) {
    let section = reader.section(root, &shape::LOG);
    let level = |value: &DeValue<'_>| scalar::choice(value, &LEVELS);
    reader.set(section, "level", &mut log.level, level, |level| Value::word(level, &LEVELS));
    let format = |value: &DeValue<'_>| scalar::choice(value, &FORMATS);
    reader.set(section, "format", &mut log.format, format, |format| Value::word(format, &FORMATS));
}
