//! Puts the parts of a running node together, in an order that can be undone.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use config::{Baseline, Config, Offload};
use proto::data::Published;
use proto::node::{Node, WallClock};
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::api::exporter::Exporter;
use crate::clock::Clock;
use crate::dataplane::device::TunDevice;
use crate::dataplane::socket::{SocketOptions, UdpSocket};
use crate::dataplane::worker;
use crate::door::Door;
use crate::driver::{Driver, Outer};
use crate::health::Health;
use crate::host::{Host, HostSettings, Watch};
use crate::lan::Lan;
use crate::log_limit::LogLimit;
use crate::nat::{Nat, Port};
use crate::report::Reporter;
use crate::resolver::Resolver;
use crate::resume::Resume;
use crate::settings::{self, ETHERNET, Facts};
use crate::spray::Spray;
use crate::state::TimestampFile;
use crate::tls::{Surroundings, Tls};
use crate::trace;
use crate::underlay::Underlay;

type Error = Box<dyn std::error::Error>;

/// A start that failed, with what must be put back.
type Failure = Box<(Host, Error)>;

/// Punts that wait for the core, from all workers. It takes some 10 us each, so a full queue is a few milliseconds of work;
/// what does not fit would only wait longer than its sender does.
const MAX_PUNTS: usize = 256;

/// A node that is put together, and its workers.
pub(crate) type Assembled = (Driver, Workers);

/// The threads that carry packets; they end when this is dropped.
type Workers = Vec<worker::Handle>;

/// Opens device and sockets, configures the machine, starts the workers. What fails is put back.
///
/// # Errors
/// What went wrong; the machine is as it was then, or the journal says what is left.
pub(crate) async fn assemble(config: Config, clock: Clock, exporter: Exporter) -> Result<Assembled, Error> {
    std::fs::create_dir_all(&config.state.dir)
        .map_err(|e| format!("cannot make the state folder {}: {e}", config.state.dir.display()))?;
    let settings = HostSettings {
        table: config.interface.table,
        mark: config.interface.mark,
        ..HostSettings::new(config.interface.name.clone(), config.state.dir.clone())
    };
    let underlay = Underlay::default();
    let mut host = Host::new(settings, underlay.clone())?;
    host.recover().await?;
    match attempt(config, underlay, host, clock, exporter).await {
        Ok(assembled) => Ok(assembled),
        Err(failure) => {
            let (mut host, error) = *failure;
            // The cause is the news; what of it stays behind is in the journal.
            if let Err(error) = host.revert().await {
                tracing::error!(%error, "the machine could not be put back; the next start tries again");
            }
            Err(error)
        }
    }
}

async fn attempt(
    config: Config,
    underlay: Underlay,
    mut host: Host,
    clock: Clock,
    exporter: Exporter,
) -> Result<Assembled, Failure> {
    let mut parts = match open(&config, underlay) {
        Ok(parts) => parts,
        Err(error) => return Err(Box::new((host, error))),
    };
    if config.interface.mtu.is_none() {
        parts.facts.mtu = match host.widest_link().await {
            Ok(widest) => settings::mtu_over(widest),
            Err(error) => return Err(Box::new((host, error.into()))),
        };
    }
    // Before the first look at the machine, so that no change falls between them.
    let watch = match Watch::new(&config.interface.name, config.interface.table) {
        Ok(watch) => watch,
        Err(error) => return Err(Box::new((host, error.into()))),
    };
    if let Err(error) = host.configure(&settings::plan(&config, parts.facts.mtu)).await {
        return Err(Box::new((host, error.into())));
    }
    match start(config, parts, clock, exporter) {
        Ok((driver, workers)) => Ok((driver(host, watch), workers)),
        Err(error) => Err(Box::new((host, error))),
    }
}

/// What is open before anything runs.
struct Parts {
    devices: Vec<TunDevice>,
    sockets: Vec<UdpSocket>,
    facts: Facts,
    underlay: Underlay,
}

fn open(config: &Config, underlay: Underlay) -> Result<Parts, Error> {
    let suites = settings::suites(config)?;
    let interface = &config.interface;
    let workers = usize::from(config.dataplane.workers);
    let (devices, info) = TunDevice::open(&interface.name, workers, settings::offload_level(&config.dataplane))
        .map_err(|e| {
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
    let facts = Facts { offload: info.offload, port, mtu: interface.mtu.unwrap_or(ETHERNET), suites };
    Ok(Parts { devices, sockets, facts, underlay })
}

/// Starts what runs beside the machine's own state, which the driver gets last.
fn start(
    config: Config,
    parts: Parts,
    clock: Clock,
    mut exporter: Exporter,
) -> Result<(impl FnOnce(Host, Watch) -> Driver, Workers), Error> {
    let facts = parts.facts;
    let timestamps = TimestampFile::open(&config.state.dir);
    let mut node = new_node(&config, clock, &timestamps, &facts)?;
    node.handle_registry(&config.members, clock.now());
    node.handle_invitations(&config.invited, config::unix_now(), clock.now());
    let published = node.publish();
    let resolver = Resolver::start(config.members.endpoints.iter(), |name| node.peer_id(name));
    let warnings = settings::warnings(&config, &facts);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let status = settings::node_status(&config, &facts);
    let reporter = Reporter::new(status, &config, warnings, clock.started());
    let (socket, device) = parts.sockets.first().zip(parts.devices.first()).ok_or("no worker")?;
    let (sender, device) = (socket.try_clone_sender()?, device.try_clone_writer()?);
    let nat = start_nat(&config, &parts, &published, clock)?;
    let lan = Lan::start(settings::lan(&config, facts.port, settings::seed()?), node.drops(), clock);
    let health = Health::start(&config.health);
    let resume = Resume::new()?;
    let surroundings = Surroundings {
        underlay: parts.underlay.clone(),
        mark: NonZeroU32::new(config.interface.mark),
        port: facts.port,
    };
    let (punt, punts) = mpsc::channel(MAX_PUNTS);
    let (end, ended) = mpsc::channel(1);
    let mut workers = Vec::new();
    for ((lane, device), socket) in (0..).zip(parts.devices).zip(parts.sockets) {
        let (published, drops, punts) = (published.clone(), node.drops(), punt.clone());
        let parts = worker::Parts { lane, device, socket, published, drops, punts, clock };
        workers.push(worker::Handle::spawn(parts, end.clone())?);
    }
    let tls = start_tls(&config, surroundings, &node)?;
    let spray = Spray::new(sender.extras(), clock.now());
    exporter.serve(exporter.prepare(config.metrics.listen)?);
    let name = &config.node.name;
    tracing::info!(node = %name, interface = config.interface.name, port = facts.port, "up");
    // From here on everybody has what it needs of the mesh.
    let baseline = Baseline::of(config);
    let (outer, pings) = (Outer::default(), BTreeMap::new());
    let driver = move |host, watch| Driver {
        node,
        published,
        clock,
        punts,
        ended,
        sender,
        device,
        host,
        watch,
        resume,
        resolver,
        nat,
        lan,
        health,
        outer,
        spray,
        tls,
        timestamps,
        reporter,
        exporter,
        pings,
        door: Door::default(),
        trace: trace::Slot::default(),
        often: LogLimit::new(),
        baseline,
        facts,
    };
    Ok((driver, workers))
}

fn new_node(config: &Config, clock: Clock, timestamps: &TimestampFile, facts: &Facts) -> Result<Node, Error> {
    let seed = Zeroizing::new(settings::seed()?);
    let settings = settings::node(config, facts).ok_or("the mesh does not have this node")?;
    let wall = WallClock { unix_at_origin: clock.unix_at_origin(), floor: timestamps.floor() };
    Ok(Node::new(settings, *seed, wall, clock.now()))
}

/// Knows the relays that serve TLS, and serves it where this node is one.
fn start_tls(config: &Config, surroundings: Surroundings, node: &Node) -> Result<Tls, Error> {
    let mut tls = Tls::new(surroundings);
    tls.know(config.members.endpoints.iter(), |name| node.peer_id(name));
    let prepared = tls.prepare(&settings::tls_places(config));
    let prepared = prepared.map_err(|(at, error)| settings::tls_error(at, &error))?;
    tls.serve(prepared);
    Ok(tls)
}

/// Asks gateways and servers, as far as configured, how this node can be reached from outside.
fn start_nat(config: &Config, parts: &Parts, published: &Arc<Published>, clock: Clock) -> Result<Nat, Error> {
    let socket = parts.sockets.first().ok_or("no worker")?;
    let port = Port { sender: socket.try_clone_sender()?, awaited: published.load().awaited.clone(), clock };
    Ok(Nat::start(settings::nat(config, parts.facts.port, settings::seed()?), port))
}
