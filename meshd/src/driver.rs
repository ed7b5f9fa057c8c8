//! The driver: owns the core, feeds it what happens, and carries out what it wants. One task, no locks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::{Baseline, Config};
use proto::data::{Published, Punt};
use proto::event::Event;
use proto::id::PeerId;
use proto::node::{Node, Transmit};
use proto::path::Origin;
use tokio::sync::{mpsc, oneshot};

use crate::api::exporter::Exporter;
use crate::api::model::PingReply;
use crate::api::server::Call;
use crate::clock::Clock;
use crate::daemon::Life;
use crate::dataplane::device::TunWriter;
use crate::dataplane::socket::UdpSender;
use crate::door::Door;
use crate::health::Health;
use crate::host::{Host, Watch};
use crate::lan::Lan;
use crate::log_limit::LogLimit;
use crate::nat::{Nat, NatEvent};
use crate::reload::Cause;
use crate::report::events::EventKind;
use crate::report::{Reporter, Surroundings, disconnect_text, machine_of, reply, spray_text};
use crate::resolver::Resolver;
use crate::resume::{MUCH_TOO_LATE, Resume};
use crate::settings::Facts;
use crate::signals::Order;
use crate::spray::Spray;
use crate::state::TimestampFile;
use crate::supervisor;
use crate::sys::heap;
use crate::tls::Tls;
use crate::trace;

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
    pub(crate) exporter: Exporter,
    pub(crate) pings: BTreeMap<u64, (PeerId, oneshot::Sender<Result<PingReply, String>>)>,
    pub(crate) trace: trace::Slot,
    pub(crate) often: LogLimit<Often>,
    /// What is kept of the configuration, to tell what a later one changes.
    pub(crate) baseline: Baseline,
    pub(crate) facts: Facts,
}

/// Lines of the log that others can cause as often as they like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Often {
    /// A datagram could not be sent there, by error number.
    NotSent(IpAddr, Option<i32>),
    /// An ICMP error could not be written.
    NotWritten,
    /// A handshake from there was refused.
    Refused(IpAddr),
    /// An invited endpoint was not taken.
    Knocked(PeerId),
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

    /// Gateways are asked anew, or not at all.
    pub(crate) fn forget_mapped(&mut self) {
        self.mapped.clear();
    }

    /// So are servers.
    pub(crate) fn forget_seen(&mut self) {
        self.reflexive.clear();
    }

    pub(crate) fn addresses(&self) -> Vec<(Origin, SocketAddr)> {
        let mapped = self.mapped.iter().map(|address| (Origin::Mapped, *address));
        let seen = self.reflexive.values().map(|address| (Origin::Observed, *address));
        mapped.chain(seen).collect()
    }
}

/// Why a node does not run any more.
pub(crate) enum End {
    /// A signal asked for it.
    Stopped,
    /// This configuration takes the place of the one that it ran by, and does not select this machine to run it, or selects it now.
    Other(Box<Config>),
}

impl Driver {
    /// Runs until a signal asks to stop, or a reload deselects this machine; then says goodbye to the peers. The machine is put back by
    /// the caller.
    ///
    /// # Errors
    /// When a worker has ended.
    pub(crate) async fn run(&mut self, life: &mut Life) -> std::io::Result<End> {
        let mut punts = Vec::with_capacity(PUNT_BATCH);
        self.reporter.note_withheld(&self.host.notes());
        self.tell_links().await;
        self.tell_lans().await;
        self.tell_reach().await;
        let mut watchdog = supervisor::watchdog();
        life.reloads.tell_ready();
        let end = loop {
            self.drain();
            self.route_neighbours().await;
            self.answer_knocks(&mut life.reloads);
            let deadline = self.node.poll_timeout();
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(self.clock.at(deadline.at)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                order = life.signals.next() => match order {
                    Order::Stop(signal) => {
                        tracing::info!(signal, "stopping");
                        self.reporter.note(EventKind::Stopping, None, format!("on {signal}"));
                        break End::Stopped;
                    }
                    Order::Reload => life.reloads.begin(Cause::Signal, None),
                },
                loaded = life.reloads.loaded() => {
                    if let Some(other) = self.take_over(loaded, &mut life.reloads).await {
                        break End::Other(other);
                    }
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
                Some(call) = life.calls.recv() => self.handle_call(call, life),
                resolved = self.resolver.next() => {
                    self.reporter.resolved(&resolved);
                    self.node.handle_candidates(resolved.peer, resolved.candidates, self.clock.now());
                }
                event = self.nat.next() => {
                    self.reporter.note_mapping(&event);
                    self.outer.note(event);
                    self.node.handle_outer(&self.outer.addresses(), self.clock.now());
                }
                heard = self.spray.heard() => self.handle_heard(&heard),
                news = self.lan.next() => self.handle_lan_news(&news),
                news = self.health.next() => self.handle_host_news(news).await,
                relay = self.tls.lost() => self.node.handle_carrier_lost(relay, self.clock.now()),
                changes = self.watch.changed() => self.handle_changes(changes).await,
                () = watchdog.due() => watchdog.ping(supervisor::Doing::Running(self.node.connected())),
            }
        };
        self.node.handle_shutdown(self.clock.now());
        self.drain();
        Ok(end)
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
                if let Some(left_out) = self.often.pass(Often::NotSent(destination.ip(), error.raw_os_error())) {
                    tracing::debug!(address = %destination, %error, left_out, "not sent");
                }
                self.reporter.send_error(transmit.destination, &error);
            }
        }
        while let Some(packet) = self.node.poll_packet() {
            if let Err(error) = self.device.write(&packet)
                && let Some(left_out) = self.often.pass(Often::NotWritten)
            {
                tracing::debug!(%error, left_out, "ICMP error not written");
            }
        }
        let mut carried = false;
        while let Some(event) = self.node.poll_event() {
            if event == Event::NeighbourRoutes {
                self.note_neighbour_routes();
            } else if let Event::CarrierWanted { peer } = event {
                carried |= self.open_carrier(peer);
            }
            // What waited for it.
            carried |= matches!(event, Event::WhyAsked { .. });
            self.handle_event(&event);
        }
        self.reporter.note_nat_class(self.node.nat_class());
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
        let told = self.reporter.note_event(&self.node, event, self.clock.now());
        let name = |peer: &PeerId| self.reporter.name_of(&self.node, *peer).map_or("?", |name| name.as_str());
        let is_told = told.is_some();
        // Nothing is what is left out mostly, and the field with it.
        let left_out = told.filter(|left_out| *left_out > 0);
        match event {
            Event::Connected { peer, remote } if is_told => {
                tracing::info!(peer = name(peer), path = %remote, left_out, "connected");
            }
            Event::Rekeyed { peer } => tracing::debug!(peer = name(peer), "rekeyed"),
            Event::Moved { peer, remote } if is_told => {
                tracing::info!(peer = name(peer), path = %remote, left_out, "peer moved");
            }
            Event::Unreachable { peer } if is_told => {
                tracing::warn!(peer = name(peer), left_out, "peer is unreachable");
            }
            Event::Disconnected { peer, reason } if is_told => {
                tracing::info!(peer = name(peer), reason = disconnect_text(*reason), "disconnected");
            }
            Event::Connected { .. } | Event::Moved { .. } | Event::Unreachable { .. } | Event::Disconnected { .. } => {}
            Event::Refused { peer, source, reason } => {
                let peer = peer.as_ref().map_or("a stranger", name);
                if let Some(left_out) = self.often.pass(Often::Refused(source.address.ip())) {
                    tracing::warn!(peer, address = %source, %reason, left_out, "handshake refused");
                }
            }
            Event::OwnerChanged { prefix, owner, before, condition } => {
                let (owner, before) = (owner.as_ref().map_or("nobody", name), name(before));
                tracing::warn!(%prefix, owner, before, ?condition, "a shared prefix has another owner");
            }
            Event::NeighbourRoutes => tracing::debug!("routes to neighbours change"),
            Event::SprayWanted { peer, target } => {
                tracing::debug!(peer = name(peer), address = %target, "spray");
                self.open_spray(*peer, *target);
            }
            Event::SprayEnded { peer, status } => {
                tracing::info!(peer = name(peer), spray = %spray_text(status), "spray ended");
                self.close_spray();
            }
            Event::EnrolWanted { .. } => self.door.note(event),
            Event::EnrolAnswered { .. } => {}
            Event::CarrierWanted { peer } => tracing::debug!(peer = name(peer), "trying TLS"),
            Event::WhyAsked { peer, question } => {
                let machine = machine_of(&self.node, &self.host, *peer, question);
                self.node.answer_why(*peer, question, machine, self.clock.now());
            }
            Event::ProbeReply { peer, token, source, rtt } => {
                if let Some((_, answer)) = self.pings.remove(token) {
                    let _ = answer.send(Ok(reply(&self.node, *peer, *source, *rtt, self.clock.now())));
                }
            }
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings { nat: self.nat.status(), lan: self.lan.picture() }
    }

    fn handle_call(&mut self, call: Call, life: &mut Life) {
        match call {
            Call::Status(answer) => {
                let around = self.surroundings();
                let mut status = self.reporter.status(&self.node, &self.host, &around, self.clock.now());
                status.note_reloads(&life.reloads);
                let _ = answer.send(status);
            }
            Call::Reload(answer) => life.reloads.begin(Cause::Call, Some(answer)),
            Call::Peer { name, answer } => {
                let _ = answer.send(self.reporter.peer(&self.node, &name, self.clock.now()));
            }
            Call::Metrics(answer) => drop(answer.send(Ok(self.sample(life)))),
            Call::NetCheck(answer) => {
                let _ = answer.send(self.reporter.netcheck(&self.node, &self.surroundings(), self.clock.now()));
            }
            Call::Measure => {
                self.nat.ask_anew();
                self.node.remeasure_relays(self.clock.now());
            }
            Call::Ping { name, answer } => self.ping(&name, answer),
            Call::Events { since, answer } => {
                let _ = answer.send(self.reporter.events(since));
            }
            Call::Follow { since, lease, answer } => {
                let _ = answer.send(self.reporter.follow(since, lease));
            }
            Call::Trace { request, answer } => {
                let _ = answer.send(self.begin_trace(&request));
            }
            Call::Why { mut query, answer } => {
                let report = self.reporter.why(&mut self.node, &self.host, &mut query, self.clock.now());
                let _ = answer.send((report, query));
            }
        }
    }

    fn ping(&mut self, name: &str, answer: oneshot::Sender<Result<PingReply, String>>) {
        self.pings.retain(|_, (_, waiting)| !waiting.is_closed());
        let result = match self.reporter.find(&self.node, name) {
            Err(error) => Err(error),
            Ok(_) if self.pings.len() >= MAX_PINGS => Err("too many pings wait for replies".to_owned()),
            Ok(peer) => self
                .node
                .probe(peer, self.clock.now())
                .map(|token| (token, peer))
                .map_err(|error| format!("{name}: {error}")),
        };
        match result {
            Ok((token, peer)) => {
                self.pings.insert(token, (peer, answer));
            }
            Err(error) => {
                let _ = answer.send(Err(error));
            }
        }
    }

    /// Tells the core by which addresses this machine may be reached now.
    async fn tell_links(&mut self) {
        match self.host.addresses().await {
            Ok(addresses) => {
                self.reporter.note_addresses(&addresses);
                self.node.handle_links(&addresses, self.clock.now());
            }
            Err(error) => {
                tracing::warn!(%error, "the machine's addresses are unknown");
                self.node.handle_resume(self.clock.now());
            }
        }
    }

    /// The machine slept, or the daemon was stopped: NATs may have forgotten us, peers may have moved, and so may we.
    async fn handle_resume(&mut self) {
        tracing::info!("going on after a stop: every path is probed anew");
        self.reporter.note(
            EventKind::Resume,
            None,
            "the machine slept, or the daemon was stopped; every path is probed anew",
        );
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
                self.reporter.note_withheld(&self.host.notes());
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
