//! `meshd up`: puts the parts together in an order that can be undone, runs them, and undoes it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::path::Path;
use std::process::ExitCode;

use config::{Config, DataplaneConfig, LanMode, Offload};
use ipnet::IpNet;
use proto::account::RelayRates;
use proto::data::batch::MAX_SEND;
use proto::data::{Published, Spread};
use proto::handshake::{Identity, Offer};
use proto::member::{Endpoint, Host as Dial, Members, Policy};
use proto::node::{LanPolicy, Node, Settings, WallClock};
use proto::packet::MAX_SEGMENTS;
use proto::path::Balance;
use proto::session::{AesBackend, has_fast_aes, supported_suites};
use proto::wire::{Capabilities, OVERHEAD, Suites};
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use zeroize::Zeroizing;

use crate::api::model::NodeStatus;
use crate::api::server::Server;
use crate::clock::Clock;
use crate::dataplane::device::{OffloadLevel, TunDevice};
use crate::dataplane::socket::{SocketOptions, UdpSocket};
use crate::dataplane::worker;
use crate::door::Door;
use crate::driver::{Driver, Outer, Stop};
use crate::health::Health;
use crate::host::{Host, HostSettings, MAIN_TABLE, Plan, PlannedRoute, Watch};
use crate::lan::{Lan, LanSettings};
use crate::nat::{Nat, NatSettings, Pace, Port};
use crate::report::Reporter;
use crate::resolver::Resolver;
use crate::resume::Resume;
use crate::spray::Spray;
use crate::state::TimestampFile;
use crate::sys::heap;
use crate::tls::{Surroundings, Tls};
use crate::underlay::Underlay;

type Error = Box<dyn std::error::Error>;

/// A start that failed, with what must be put back.
type Failure = Box<(Host, Error)>;

/// Punts that wait for the core, from all workers. It takes some 10 us each, so a full queue is a few milliseconds of work;
/// what does not fit would only wait longer than its sender does.
const MAX_PUNTS: usize = 256;

/// Packets that the kernel queues for the TUN device. Measured: less costs throughput, more gains nothing.
const TX_QUEUE: u32 = 500;

/// IPv6 and UDP header, and what a data datagram adds, in bytes.
const OUTER_HEADERS: u32 = 40 + 8 + OVERHEAD as u32;

/// The device's MTU over Ethernet of 1,500 bytes.
const ETHERNET: u16 = 1500 - OUTER_HEADERS as u16;

/// The largest MTU that is chosen without being configured: that over a jumbo frame of 9,000 bytes.
const JUMBO: u16 = 9000 - OUTER_HEADERS as u16;

/// Names looked up at the same time, each by a thread that waits: enough that a few dead name servers do not hold up the
/// rest, few enough for a small machine in a mesh of a thousand names.
const MAX_LOOKUPS: usize = 16;

/// Runs the daemon until a signal stops it.
pub(crate) fn main(path: &Path) -> Result<ExitCode, Error> {
    heap::keep_small();
    let config = load(path)?;
    init_logging(&config);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().max_blocking_threads(MAX_LOOKUPS).build()?;
    let ran = runtime.block_on(run(config));
    // A look-up that waits for a name server can take half a minute, and nobody waits for its answer any more.
    runtime.shutdown_background();
    ran.map(|()| ExitCode::SUCCESS)
}

/// Reads the configuration on a thread of its own, whose heap (glibc's are per thread) is left as good as empty when the mesh
/// has been handed out: in the main heap what stays would lie scattered where the text was parsed, some ten times as large.
fn load(path: &Path) -> Result<Config, Error> {
    let loaded = std::thread::scope(|scope| scope.spawn(|| config::load(path)).join());
    Ok(loaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?)
}

fn init_logging(config: &Config) {
    // RUST_LOG-like fine control without a restart of thought: the configured level is for meshd, warnings for the rest.
    let filter = EnvFilter::try_from_env("MESHD_LOG").unwrap_or_else(|_| {
        EnvFilter::new(format!("warn,meshd={level},proto={level},config={level}", level = config.log.level.as_str()))
    });
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // A log that cannot be written (full disk, closed pipe) cannot be told of in the log: trying would panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    log.log_internal_errors(false).init();
}

async fn run(config: Config) -> Result<(), Error> {
    std::fs::create_dir_all(&config.state.dir)
        .map_err(|e| format!("cannot make the state folder {}: {e}", config.state.dir.display()))?;
    // Before anything is changed: a signal that comes during the start waits until it can be obeyed.
    let mut stop = Stop::new()?;
    // Before anything is changed: a second daemon on the same socket must not disturb the first.
    let server = Server::bind(&config.api.socket)
        .await
        .map_err(|e| format!("cannot listen on the API socket {}: {e}", config.api.socket.display()))?;
    let settings = HostSettings {
        table: config.interface.table,
        mark: config.interface.mark,
        ..HostSettings::new(config.interface.name.clone(), config.state.dir.clone())
    };
    let underlay = Underlay::default();
    let mut host = Host::new(settings, underlay.clone())?;
    host.recover().await?;
    let mut driver = match assemble(&config, underlay, host, server).await {
        Ok(driver) => driver,
        Err(failure) => {
            let (mut host, error) = *failure;
            // The cause is the news; what of it stays behind is in the journal.
            if let Err(error) = host.revert().await {
                tracing::error!(%error, "the machine could not be put back; the next start tries again");
            }
            return Err(error);
        }
    };
    // From here on everybody has what it needs of the mesh.
    let interface = config.interface.name.clone();
    drop(config);
    heap::trim();
    let ran = driver.0.run(&mut stop).await;
    // The workers stop before the machine is put back, so that nothing is carried over routes that are going away.
    drop(driver.1);
    driver.0.nat.stop().await;
    let reverted = driver.0.host.revert().await;
    ran.map_err(|e| format!("{interface}: {e}"))?;
    reverted?;
    tracing::info!("stopped");
    Ok(())
}

/// Opens device and sockets, configures the machine, starts the workers. On failure gives the host back, to be put back.
async fn assemble(
    config: &Config,
    underlay: Underlay,
    mut host: Host,
    server: Server,
) -> Result<(Driver, Vec<worker::Handle>), Failure> {
    let mut parts = match open(config, underlay) {
        Ok(parts) => parts,
        Err(error) => return Err(Box::new((host, error))),
    };
    if config.interface.mtu.is_none() {
        parts.mtu = match host.widest_link().await {
            Ok(widest) => mtu_over(widest),
            Err(error) => return Err(Box::new((host, error.into()))),
        };
    }
    // Before the first look at the machine, so that no change falls between them.
    let watch = match Watch::new(&config.interface.name, config.interface.table) {
        Ok(watch) => watch,
        Err(error) => return Err(Box::new((host, error.into()))),
    };
    if let Err(error) = host.configure(&plan(config, parts.mtu)).await {
        return Err(Box::new((host, error.into())));
    }
    for note in host.notes() {
        tracing::warn!("{note}");
    }
    start(config, parts, host, watch, server)
}

/// What is open before anything runs.
struct Parts {
    devices: Vec<TunDevice>,
    sockets: Vec<UdpSocket>,
    offload: OffloadLevel,
    port: u16,
    /// Of the device, in bytes.
    mtu: u16,
    suites: Suites,
    underlay: Underlay,
}

fn open(config: &Config, underlay: Underlay) -> Result<Parts, Error> {
    let suites = offered(config.dataplane.ciphers, supported_suites())?;
    let interface = &config.interface;
    let workers = usize::from(config.dataplane.workers);
    let (devices, info) = TunDevice::open(&interface.name, workers, offload_level(&config.dataplane)).map_err(|e| {
        format!(
            "cannot open TUN interface {}: {e}{}",
            interface.name,
            match e.raw_os_error() {
                Some(libc::EPERM) => "; meshd needs CAP_NET_ADMIN: run it as root",
                Some(libc::EBUSY) => "; another program has it: choose another [interface] name",
                Some(libc::ENOENT) => "; this kernel has no /dev/net/tun: load the tun module",
                _ => "",
            }
        )
    })?;
    let options = SocketOptions {
        gso: config.dataplane.uses(Offload::UdpGso),
        gro: config.dataplane.uses(Offload::UdpGro),
        underlay: underlay.clone(),
        mark: NonZeroU32::new(interface.mark),
        ..SocketOptions::default()
    };
    let sockets = UdpSocket::bind(config.listen.port, workers, &options).map_err(|e| {
        let hint = if e.kind() == std::io::ErrorKind::AddrInUse {
            "; another program has it: choose another [listen] port, and tell the peers"
        } else {
            ""
        };
        format!("cannot listen on UDP port {}: {e}{hint}", config.listen.port)
    })?;
    let port = sockets.first().map_or(Ok(config.listen.port), |s| s.local_addr().map(|a| a.port()))?;
    let mtu = interface.mtu.unwrap_or(ETHERNET);
    Ok(Parts { devices, sockets, offload: info.offload, port, mtu, suites, underlay })
}

/// The highest level of the device that the configuration allows.
fn offload_level(dataplane: &DataplaneConfig) -> OffloadLevel {
    let steps = [
        (Offload::TunWrite, OffloadLevel::Plain),
        (Offload::TunTcp, OffloadLevel::Write),
        (Offload::TunUdp, OffloadLevel::Tcp),
    ];
    let barred = steps.into_iter().find(|(offload, _)| !dataplane.uses(*offload));
    barred.map_or(OffloadLevel::TcpUdp, |(_, level)| level)
}

fn start(
    config: &Config,
    parts: Parts,
    host: Host,
    watch: Watch,
    server: Server,
) -> Result<(Driver, Vec<worker::Handle>), Failure> {
    let clock = Clock::start();
    let timestamps = TimestampFile::open(&config.state.dir);
    let mut node = match new_node(config, clock, &timestamps, &parts) {
        Ok(node) => node,
        Err(error) => return Err(Box::new((host, error))),
    };
    node.handle_registry(&config.members, clock.now());
    node.handle_invitations(&config.invited, clock.now());
    let published = node.publish();
    let resolver = Resolver::start(config.members.endpoints.iter(), |name| node.peer_id(name));
    let mut warnings = config.warnings.clone();
    if let Some(warning) = cipher_warning(config.dataplane.ciphers, parts.suites) {
        tracing::warn!("{warning}");
        warnings.push(warning);
    }
    let reporter = Reporter::new(node_status(config, &parts), &config.members, warnings, clock.now());
    let (sender, punts) = mpsc::channel(MAX_PUNTS);
    let ends = parts.sockets.first().zip(parts.devices.first());
    let ends = ends
        .ok_or_else(|| Error::from("no worker"))
        .and_then(|(socket, device)| Ok((socket.try_clone_sender()?, device.try_clone_writer()?)));
    let (udp, device) = match ends {
        Ok(ends) => ends,
        Err(error) => return Err(Box::new((host, error))),
    };
    let nat = match start_nat(config, &parts, &published, clock) {
        Ok(nat) => nat,
        Err(error) => return Err(Box::new((host, error))),
    };
    let lan = match lan_settings(config, &parts) {
        Ok(settings) => Lan::start(settings, node.drops(), clock),
        Err(error) => return Err(Box::new((host, error))),
    };
    let extras = udp.extras();
    let health = Health::start(&config.health);
    let (tls_port, underlay) = (parts.port, parts.underlay.clone());
    let resume = match Resume::new() {
        Ok(resume) => resume,
        Err(error) => return Err(Box::new((host, error.into()))),
    };
    let door = Door::new(config, parts.mtu);
    let (end, ended) = mpsc::channel(1);
    let mut workers = Vec::new();
    for ((lane, device), socket) in (0..).zip(parts.devices).zip(parts.sockets) {
        let (published, drops, punts) = (published.clone(), node.drops(), sender.clone());
        let parts = worker::Parts { lane, device, socket, published, drops, punts, clock };
        match worker::Handle::spawn(parts, end.clone()) {
            Ok(handle) => workers.push(handle),
            Err(error) => return Err(Box::new((host, error.into()))),
        }
    }
    let tls = match start_tls(config, tls_port, underlay, &node) {
        Ok(tls) => tls,
        Err(error) => return Err(Box::new((host, error))),
    };
    let name = &config.node.name;
    tracing::info!(%name, interface = config.interface.name, port = parts.port, "up");
    let driver = Driver {
        node,
        published,
        clock,
        punts,
        ended,
        calls: server.start(),
        sender: udp,
        device,
        host,
        watch,
        resume,
        resolver,
        nat,
        lan,
        health,
        outer: Outer::default(),
        door,
        spray: Spray::new(extras, clock.now()),
        tls,
        timestamps,
        reporter,
        pings: BTreeMap::new(),
    };
    Ok((driver, workers))
}

/// Knows the relays that serve TLS, and serves it where this node is one.
fn start_tls(config: &Config, port: u16, underlay: Underlay, node: &Node) -> Result<Tls, Error> {
    let mut tls = Tls::new(Surroundings { underlay, mark: NonZeroU32::new(config.interface.mark), port });
    tls.know(config.members.endpoints.iter(), |name| node.peer_id(name));
    let own = own_endpoint(config).filter(|own| own.serves_tls());
    let ports: BTreeSet<u16> = own.iter().flat_map(|own| &own.tls_addresses).map(|address| address.port).collect();
    let everywhere = |port: &u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
    let at = match config.listen.tls.filter(|_| own.is_some()) {
        Some(at) => vec![at],
        None => ports.iter().map(everywhere).collect(),
    };
    tls.serve(&at).map_err(|(at, error)| {
        let hint = match error.raw_os_error() {
            Some(libc::EADDRINUSE) => "another program has it",
            Some(libc::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE",
            Some(libc::EADDRNOTAVAIL) => "this machine has no such address",
            _ => "TLS cannot be served there",
        };
        let help = "name another place in [listen] tls, with the port in this node's tls_addresses, or remove those";
        format!("cannot listen on TCP {at} for TLS: {error}; {hint}: {help}")
    })?;
    Ok(tls)
}

/// Asks gateways and servers, as far as configured, how this node can be reached from outside.
fn start_nat(config: &Config, parts: &Parts, published: &Published, clock: Clock) -> Result<Nat, Error> {
    let socket = parts.sockets.first().ok_or("no worker")?;
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| "the system gives no random bytes")?;
    let settings = NatSettings {
        mapped_port: NonZeroU16::new(parts.port).filter(|_| config.nat.port_mapping),
        stun_servers: config.nat.stun_servers.clone(),
        pace: Pace::default(),
        seed,
    };
    let awaited = published.load().awaited.clone();
    Ok(Nat::start(settings, Port { sender: socket.try_clone_sender()?, awaited, clock }))
}

/// What LAN discovery is to do; nothing without a token.
fn lan_settings(config: &Config, parts: &Parts) -> Result<Option<LanSettings>, Error> {
    let mut lan = config.lan.clone();
    let Some(token) = lan.token.take() else { return Ok(None) };
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| "the system gives no random bytes")?;
    let (mesh, public_key) = (config.members.mesh, config.node.secret_key.public_key());
    Ok(Some(LanSettings { config: lan, token, mesh, public_key, port: parts.port, seed }))
}

/// What neighbours may do. Rules for a table of our own come before table main, where direct routes would stand.
fn lan_policy(config: &Config) -> LanPolicy {
    LanPolicy {
        implicit_community: config.lan.implicit_community,
        direct: config.lan.mode == LanMode::Direct && config.interface.table == MAIN_TABLE,
    }
}

fn new_node(config: &Config, clock: Clock, timestamps: &TimestampFile, parts: &Parts) -> Result<Node, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| "the system gives no random bytes")?;
    let own = own_endpoint(config).ok_or("the mesh does not have this node")?;
    let settings = Settings {
        name: config.node.name.clone(),
        identity: Identity::new(config.node.secret_key.clone(), config.members.mesh, config.node.preshared_key.clone()),
        offer: offer(config, parts),
        rekey_after: config.session.rekey,
        idle_after: config.session.idle,
        // Whoever can be dialled need not keep a way open.
        port: parts.port,
        punch: config.nat.punch,
        spray: config.nat.spray,
        relay: own.relays().then_some(relay_rates(config)),
        lan: lan_policy(config),
        balance: balance(config),
        mtu: parts.mtu,
        keepalive: config.session.keepalive.filter(|_| own.public_addresses.is_empty()),
    };
    let wall = WallClock { unix_at_origin: clock.unix_at_origin(), floor: timestamps.floor() };
    Ok(Node::new(settings, *seed, wall, clock.now()))
}

fn relay_rates(config: &Config) -> RelayRates {
    RelayRates { total: config.relay.rate.bytes(), member: config.relay.member_rate.bytes() }
}

fn offer(config: &Config, parts: &Parts) -> Offer {
    let mut capabilities = Capabilities::default();
    if has_fast_aes() {
        capabilities = capabilities.and(Capabilities::FAST_AES);
    }
    // A device that takes finished packets only would have to undo what these allow.
    let leaves = |left: Offload| parts.offload != OffloadLevel::Plain && config.dataplane.uses(left);
    if leaves(Offload::Coalesce) {
        capabilities = capabilities.and(Capabilities::COAL);
    }
    if leaves(Offload::PartialChecksum) {
        capabilities = capabilities.and(Capabilities::CSUM_PARTIAL);
    }
    let workers = config.dataplane.workers;
    let lanes = match config.paths.balance {
        config::Balance::Best => workers,
        config::Balance::Flow => Spread::lanes(workers),
    };
    Offer { suites: parts.suites, capabilities, lanes }
}

fn balance(config: &Config) -> Balance {
    match config.paths.balance {
        config::Balance::Best => Balance::Best,
        config::Balance::Flow => Balance::Flow { workers: config.dataplane.workers },
    }
}

/// What of the configured ciphers this CPU runs; an error where that is none.
fn offered(configured: Suites, supported: Suites) -> Result<Suites, Error> {
    let suites = configured.common(supported);
    if suites.is_empty() {
        let hint = "it has no instructions for AES; add \"auto\" to [dataplane] cipher";
        return Err(format!("this CPU runs none of the configured ciphers ({configured}): {hint}").into());
    }
    Ok(suites)
}

/// What an operator should know of configured ciphers that are not offered.
fn cipher_warning(configured: Suites, offered: Suites) -> Option<String> {
    let missing = configured.without(offered);
    let why = "are configured and not offered to peers, for this CPU has no instructions for AES";
    (!missing.is_empty()).then(|| format!("the ciphers {missing} {why}"))
}

/// What the machine is to be given: our addresses, and routes to everything of the peers that policy lets us talk to.
pub(crate) fn plan(config: &Config, mtu: u16) -> Plan {
    let Config { members, .. } = config;
    let Members { mesh, endpoints, .. } = members;
    let policy = Policy::new(members);
    let own = &config.node.name;
    let ours = own_endpoint(config).map(|own| own.subnets.as_slice()).unwrap_or_default();
    let mut plan = Plan {
        mtu: mtu.into(),
        txqueuelen: TX_QUEUE,
        gso_max_segs: Some(gso_max_segs(mtu.min(ETHERNET))),
        ..Plan::default()
    };
    for endpoint in endpoints {
        if endpoint.name == *own {
            plan.addresses = endpoint.mesh_addresses(mesh).into_iter().map(IpNet::from).collect();
            plan.forward_v4 = endpoint.subnets.iter().any(|net| matches!(net, IpNet::V4(_)));
            plan.forward_v6 = endpoint.subnets.iter().any(|net| matches!(net, IpNet::V6(_)));
        } else if policy.check(own, &endpoint.name).is_ok() {
            let route = |prefix| PlannedRoute { prefix, owner: endpoint.name.clone() };
            // What it shares with this node is this node's own.
            let others = endpoint.prefixes(mesh).into_iter().filter(|prefix| !ours.contains(prefix));
            plan.routes.extend(others.map(route));
            let outer = endpoint.public_addresses.iter().chain(&endpoint.tls_addresses);
            plan.underlay.extend(outer.filter_map(|address| match address.host {
                Dial::Ip(ip) => Some(ip),
                Dial::Name(_) => None,
            }));
        }
    }
    plan
}

/// The device's MTU for a machine whose widest link to peers carries packets of so many bytes. Where it is narrower than Ethernet,
/// others may have been meant: what a path really carries is found out for each.
fn mtu_over(widest: Option<u32>) -> u16 {
    let inner = widest.unwrap_or_default().saturating_sub(OUTER_HEADERS);
    u16::try_from(inner).unwrap_or(u16::MAX).clamp(ETHERNET, JUMBO)
}

/// Segments of a TSO packet, so that it fits one UDP GSO send; the kernel's default would need two for every packet. Larger
/// segments than those of Ethernet are fewer by themselves, for a super-packet has 64 KiB at most.
fn gso_max_segs(mtu: u16) -> u32 {
    let fits = MAX_SEND / (usize::from(mtu) + OVERHEAD);
    u32::try_from(fits.min(MAX_SEGMENTS)).unwrap_or(1)
}

fn own_endpoint(config: &Config) -> Option<&Endpoint> {
    config.members.endpoints.iter().find(|endpoint| endpoint.name == config.node.name)
}

fn node_status(config: &Config, parts: &Parts) -> NodeStatus {
    let own = own_endpoint(config);
    let addresses = own.map(|own| own.mesh_addresses(&config.members.mesh)).unwrap_or_default();
    let mut offloads = Vec::new();
    match parts.offload {
        OffloadLevel::Plain => {}
        OffloadLevel::Write => offloads.push(Offload::TunWrite.as_str()),
        OffloadLevel::Tcp => offloads.push(Offload::TunTcp.as_str()),
        OffloadLevel::TcpUdp => offloads.extend([Offload::TunTcp, Offload::TunUdp].map(Offload::as_str)),
    }
    let joined = [Offload::Coalesce, Offload::PartialChecksum];
    let joined = joined.into_iter().filter(|_| parts.offload != OffloadLevel::Plain);
    let others = [Offload::UdpGso, Offload::UdpGro].into_iter().chain(joined);
    offloads.extend(others.filter(|offload| config.dataplane.uses(*offload)).map(Offload::as_str));
    NodeStatus {
        name: config.node.name.to_string(),
        mesh: config.mesh_name.clone(),
        public_key: config.node.secret_key.public_key().to_string(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        interface: config.interface.name.clone(),
        port: parts.port,
        daemon: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: 0,
        offloads: offloads.into_iter().map(str::to_owned).collect(),
        aes_backend: Some(AesBackend::detect().name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::Suite;

    #[test]
    fn doing_without_an_offload_bars_what_needs_it() {
        let level = |without: &[Offload], offload| {
            let without = without.to_vec();
            offload_level(&DataplaneConfig { workers: 1, offload, without, ciphers: Suites::DEFAULT })
        };
        assert_eq!(level(&[], true), OffloadLevel::TcpUdp);
        assert_eq!(level(&[Offload::TunUdp, Offload::UdpGso], true), OffloadLevel::Tcp);
        assert_eq!(level(&[Offload::TunTcp], true), OffloadLevel::Write);
        assert_eq!(level(&[Offload::TunUdp, Offload::TunWrite], true), OffloadLevel::Plain);
        assert_eq!(level(&[], false), OffloadLevel::Plain);
    }

    #[test]
    fn the_device_is_as_wide_as_the_widest_link_allows() {
        let expected = [(None, 1420), (Some(1280), 1420), (Some(1500), 1420), (Some(9000), 8920), (Some(65_536), 8920)];
        assert!(expected.into_iter().all(|(widest, mtu)| mtu_over(widest) == mtu));
    }

    #[test]
    fn a_tso_packet_of_the_most_segments_fits_one_send() {
        for mtu in [1280, 1420, 1500, 9000] {
            let segments = gso_max_segs(mtu) as usize;
            assert!(segments >= 1 && segments * (usize::from(mtu) + OVERHEAD) <= MAX_SEND);
        }
        assert_eq!(gso_max_segs(1420), 45);
    }

    #[test]
    fn ciphers_that_the_cpu_lacks_are_not_offered_and_said() {
        let aegis = Suites::of(&[Suite::Aegis128L, Suite::Aegis128X2]);
        let (all, without) = (Suites::of(&Suite::ALL), Suites::of(&Suite::ALL).without(aegis));
        assert_eq!(offered(all, all).unwrap(), all);
        assert_eq!(cipher_warning(all, all), None);
        assert_eq!(offered(Suites::DEFAULT.or(aegis), without).unwrap(), Suites::DEFAULT);
        let warning = cipher_warning(Suites::DEFAULT.or(aegis), Suites::DEFAULT).unwrap();
        assert!(warning.starts_with("the ciphers aegis-128x2, aegis-128l are configured"), "{warning}");
        let error = offered(aegis, without).unwrap_err().to_string();
        assert!(error.contains("none of the configured ciphers (aegis-128x2, aegis-128l)"), "{error}");
    }
}
