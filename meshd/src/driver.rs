//! The driver: owns the core, feeds it what happens, and carries out what it wants. One task, no locks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use proto::data::{Published, Punt};
use proto::event::Event;
use proto::id::PeerId;
use proto::node::{Node, Transmit};
use proto::path::Origin;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::api::model::PingReply;
use crate::api::server::Call;
use crate::clock::Clock;
use crate::dataplane::device::TunWriter;
use crate::dataplane::socket::UdpSender;
use crate::door::Door;
use crate::health::Health;
use crate::host::{Host, Watch};
use crate::lan::Lan;
use crate::nat::{Nat, NatEvent};
use crate::report::{Reporter, Surroundings, disconnect_text, reply, spray_text};
use crate::resolver::Resolver;
use crate::resume::{MUCH_TOO_LATE, Resume};
use crate::spray::Spray;
use crate::state::TimestampFile;
use crate::sys::heap;
use crate::tls::Tls;

/// Punts taken in one go before outputs are drained and other inputs get their turn.
const PUNT_BATCH: usize = 64;

/// Pings that wait for replies. Each is one API call, of which the server lets a few through at a time; those whose
/// callers have gone are swept out when the number is reached.
const MAX_PINGS: usize = 64;

/// Everything that the driver works with.
pub(crate) struct Driver {
    pub(crate) node: Node,
    pub(crate) published: Arc<Published>,
    pub(crate) clock: Clock,
    pub(crate) punts: mpsc::Receiver<Punt>,
    /// Why a worker ended that should not have.
    pub(crate) ended: mpsc::Receiver<std::io::Error>,
    pub(crate) calls: mpsc::Receiver<Call>,
    pub(crate) sender: UdpSender,
    pub(crate) device: TunWriter,
    pub(crate) host: Host,
    pub(crate) watch: Watch,
    pub(crate) resume: Resume,
    pub(crate) resolver: Resolver,
    pub(crate) nat: Nat,
    pub(crate) lan: Lan,
    pub(crate) health: Health,
    pub(crate) outer: Outer,
    pub(crate) door: Door,
    pub(crate) spray: Spray,
    pub(crate) tls: Tls,
    pub(crate) timestamps: TimestampFile,
    pub(crate) reporter: Reporter,
    pub(crate) pings: BTreeMap<u64, oneshot::Sender<Result<PingReply, String>>>,
}

/// How this node is reached from outside, as gateways and servers say.
#[derive(Default)]
pub(crate) struct Outer {
    mapped: BTreeSet<SocketAddr>,
    reflexive: BTreeMap<SocketAddr, SocketAddr>,
}

impl Outer {
    fn note(&mut self, event: NatEvent) {
        match event {
            NatEvent::Mapped { external, .. } => drop(self.mapped.insert(external)),
            NatEvent::Unmapped { external } => drop(self.mapped.remove(&external)),
            NatEvent::Reflexive { server, address } => drop(self.reflexive.insert(server, address)),
        }
    }

    fn addresses(&self) -> Vec<(Origin, SocketAddr)> {
        let mapped = self.mapped.iter().map(|address| (Origin::Mapped, *address));
        let seen = self.reflexive.values().map(|address| (Origin::Observed, *address));
        mapped.chain(seen).collect()
    }
}

/// What asks the daemon to stop. From the moment that it exists no such signal ends the process by itself.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Stop {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            // The terminal is gone: without this the machine would stay as it is.
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

impl Driver {
    /// Runs until a signal asks to stop; then says goodbye to the peers. The machine is put back by the caller.
    ///
    /// # Errors
    /// When a worker has ended.
    pub(crate) async fn run(&mut self, stop: &mut Stop) -> std::io::Result<()> {
        let mut punts = Vec::with_capacity(PUNT_BATCH);
        self.tell_links().await;
        self.tell_lans().await;
        self.tell_reach().await;
        loop {
            self.drain();
            self.route_neighbours().await;
            self.answer_knocks().await;
            let deadline = self.node.poll_timeout();
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(self.clock.at(deadline.at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                signal = stop.wait() => {
                    tracing::info!(signal, "stopping");
                    break;
                }
                Some(error) = self.ended.recv() => return Err(error),
                1.. = self.punts.recv_many(&mut punts, PUNT_BATCH) => {
                    for punt in punts.drain(..) {
                        if let Punt::StunAnswer { datagram, source } = punt {
                            self.nat.handle_answer(datagram, source);
                        } else {
                            self.node.handle_punt(punt, self.clock.now());
                        }
                    }
                }
                () = timer => {
                    let now = self.clock.now();
                    if deadline.is_some_and(|deadline| now - deadline.at >= MUCH_TOO_LATE) {
                        self.handle_resume().await;
                    }
                    self.node.handle_timeout(now);
                }
                () = self.resume.wait() => self.handle_resume().await,
                Some(call) = self.calls.recv() => self.handle_call(call),
                resolved = self.resolver.next() => {
                    self.reporter.resolved(&resolved);
                    self.node.handle_candidates(resolved.peer, resolved.candidates, self.clock.now());
                }
                event = self.nat.next() => {
                    self.outer.note(event);
                    self.node.handle_outer(&self.outer.addresses(), self.clock.now());
                }
                heard = self.spray.heard() => self.handle_heard(&heard),
                news = self.lan.next() => self.handle_lan_news(&news),
                news = self.health.next() => self.handle_host_news(news).await,
                relay = self.tls.lost() => self.node.handle_carrier_lost(relay, self.clock.now()),
                changes = self.watch.changed() => self.handle_changes(changes).await,
            }
        }
        self.node.handle_shutdown(self.clock.now());
        self.drain();
        Ok(())
    }

    /// Carries out what the core wants. The table goes first: a peer may answer a transmit before we come back here, and
    /// the workers must know its session by then.
    pub(crate) fn drain(&mut self) {
        if let Some(table) = self.node.poll_table() {
            self.published.store(table);
        }
        match self.timestamps.cover(self.node.last_timestamp()) {
            Ok(false) => {}
            Ok(true) => self.reporter.state_written(),
            Err(error) => self.reporter.state_error(&error),
        }
        while let Some(transmit) = self.node.poll_transmit() {
            let Transmit { destination, fragments, socket, .. } = transmit;
            if let Err(error) = self.sender.send_by(socket, &transmit.datagram, destination, fragments) {
                if error.raw_os_error() == Some(libc::EMSGSIZE) {
                    self.node.handle_too_long(destination, transmit.datagram.len(), self.clock.now());
                    continue;
                }
                tracing::debug!(destination = %transmit.destination, %error, "not sent");
                self.reporter.send_error(transmit.destination, &error);
            }
        }
        while let Some(packet) = self.node.poll_packet() {
            if let Err(error) = self.device.write(&packet) {
                tracing::debug!(%error, "ICMP error not written");
            }
        }
        let mut carried = false;
        while let Some(event) = self.node.poll_event() {
            if event == Event::NeighbourRoutes {
                self.note_neighbour_routes();
            } else if let Event::CarrierWanted { peer } = event {
                carried |= self.open_carrier(peer);
            }
            self.handle_event(&event);
        }
        self.sweep_sockets();
        if carried {
            // What waited for it.
            self.drain();
        }
    }

    /// Opens a way to a relay over TLS; `false` where there is none.
    fn open_carrier(&mut self, peer: PeerId) -> bool {
        let opened = self.tls.open(peer).unwrap_or_else(|error| {
            tracing::warn!(%error, "TLS to a relay cannot be used");
            None
        });
        if opened.is_some() {
            self.node.handle_carrier(peer, opened, self.clock.now());
        }
        opened.is_some()
    }

    fn handle_event(&mut self, event: &Event) {
        self.reporter.note_event(&self.node, event, self.clock.now());
        let name = |peer: &PeerId| self.node.peer_name(*peer).map_or("?", |name| name.as_str());
        match event {
            Event::Connected { peer, remote } => tracing::info!(peer = name(peer), path = %remote, "connected"),
            Event::Rekeyed { peer } => tracing::debug!(peer = name(peer), "rekeyed"),
            Event::Moved { peer, remote } => tracing::info!(peer = name(peer), path = %remote, "peer moved"),
            Event::Unreachable { peer } => tracing::warn!(peer = name(peer), "peer is unreachable"),
            Event::Disconnected { peer, reason } => {
                tracing::info!(peer = name(peer), reason = disconnect_text(*reason), "disconnected");
            }
            Event::Refused { peer, source, reason } => {
                let peer = peer.as_ref().map_or("a stranger", name);
                tracing::warn!(peer, %source, %reason, "handshake refused");
            }
            Event::OwnerChanged { prefix, owner, before, condition } => {
                let (owner, before) = (owner.as_ref().map_or("nobody", name), name(before));
                tracing::warn!(%prefix, owner, before, ?condition, "a shared prefix has another owner");
            }
            Event::NeighbourRoutes => tracing::debug!("routes to neighbours change"),
            Event::SprayWanted { peer, target } => {
                tracing::debug!(peer = name(peer), %target, "spray");
                self.open_spray(*peer, *target);
            }
            Event::SprayEnded { peer, status } => {
                tracing::info!(peer = name(peer), spray = %spray_text(status), "spray ended");
                self.close_spray();
            }
            Event::EnrolWanted { .. } => self.door.note(event),
            Event::EnrolAnswered { .. } => {}
            Event::CarrierWanted { peer } => tracing::debug!(relay = name(peer), "trying TLS"),
            Event::ProbeReply { peer, token, source, rtt } => {
                if let Some(answer) = self.pings.remove(token) {
                    let _ = answer.send(Ok(reply(&self.node, *peer, *source, *rtt, self.clock.now())));
                }
            }
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { nat: self.nat.status(), lan: self.lan.picture() }
    }

    fn handle_call(&mut self, call: Call) {
        match call {
            Call::Status(answer) => {
                let around = self.surroundings();
                let _ = answer.send(self.reporter.status(&self.node, &self.host, &around, self.clock.now()));
            }
            Call::Peer { name, answer } => {
                let _ = answer.send(self.reporter.peer(&self.node, &name, self.clock.now()));
            }
            Call::NetCheck(answer) => {
                let _ = answer.send(self.reporter.netcheck(&self.node, &self.surroundings(), self.clock.now()));
            }
            Call::Measure => {
                self.nat.ask_anew();
                self.node.remeasure_relays(self.clock.now());
            }
            Call::Ping { name, answer } => self.ping(&name, answer),
        }
    }

    fn ping(&mut self, name: &str, answer: oneshot::Sender<Result<PingReply, String>>) {
        self.pings.retain(|_, waiting| !waiting.is_closed());
        let result = match self.reporter.find(&self.node, name) {
            Err(error) => Err(error),
            Ok(_) if self.pings.len() >= MAX_PINGS => Err("too many pings wait for replies".to_owned()),
            Ok(peer) => self.node.probe(peer, self.clock.now()).map_err(|error| format!("{name}: {error}")),
        };
        match result {
            Ok(token) => {
                self.pings.insert(token, answer);
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Tells the core by which addresses this machine may be reached now.
    async fn tell_links(&mut self) {
        match self.host.addresses().await {
            Ok(addresses) => self.node.handle_links(&addresses, self.clock.now()),
            Err(error) => {
                tracing::warn!(%error, "the machine's addresses are unknown");
                self.node.handle_resume(self.clock.now());
            }
        }
    }

    /// The machine slept, or the daemon was stopped: NATs may have forgotten us, peers may have moved, and so may we.
    async fn handle_resume(&mut self) {
        tracing::info!("going on after a stop: every path is probed anew");
        self.ask_anew().await;
    }

    /// Finds out anew how this machine and its peers are reached.
    async fn ask_anew(&mut self) {
        // What servers saw belonged to the network before.
        self.outer.reflexive.clear();
        self.nat.ask_anew();
        self.tell_links().await;
        self.tell_lans().await;
    }

    async fn handle_changes(&mut self, changes: Result<crate::host::Changes, crate::host::HostError>) {
        match changes {
            Ok(changes) => {
                tracing::debug!(?changes, "the machine's network changed");
                // First: peers should not wait for routes of ours.
                self.tell_reach().await;
                self.drain();
                if let Err(error) = self.host.reconcile().await {
                    tracing::error!(%error, "routes could not be brought up to date");
                }
                // It has listed every route of the machine and the mesh.
                heap::trim();
                if changes.is_underlay() {
                    self.ask_anew().await;
                }
            }
            Err(error) => {
                tracing::error!(%error, "changes of the machine's network are not seen any more");
                // Without this the select would spin on a watch that is broken for good.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}
