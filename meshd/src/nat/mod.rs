//! How this node looks from outside a NAT, and a port of the gateway that leads to it: sources of candidate addresses.
//!
//! Tasks ask the default gateways for a mapping of the UDP port (`portmap/`) and the configured STUN servers for the address
//! that they see (`stun.rs`); what they learn comes out as [`NatEvent`]s, and as a [`NatStatus`] at any time.

mod portmap;
mod public;
mod status;
mod stun;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use proto::member::PublicAddress;
use proto::nat::{Awaited, Stun};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub(crate) use portmap::{Pace, Protocol};
pub(crate) use status::NatStatus;

use crate::clock::Clock;
use crate::dataplane::socket::UdpSender;
use status::Outlet;

/// Events that wait for the driver: some for each of the few gateways and servers. Who finds no room waits.
const MAX_EVENTS: usize = 32;

/// STUN answers that wait: one for each server, and as many again that came twice. More are dropped, and asked for again.
const MAX_ANSWERS: usize = 2 * proto::nat::MAX_SERVERS;

/// How long a stop waits for gateways to delete mappings: one answer in any network that a gateway stands in.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Something learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NatEvent {
    /// From now on a gateway passes what comes to a public address on to our port. Repeated at each renewal.
    Mapped {
        /// How it was asked.
        protocol: Protocol,
        /// The address that others may dial.
        external: SocketAddr,
        /// For how long, unless it is renewed.
        lifetime: Duration,
    },
    /// A gateway no longer does, or we cannot know.
    Unmapped {
        /// The address that others should dial no more.
        external: SocketAddr,
    },
    /// A STUN server sees our port as this address.
    Reflexive {
        /// Which server.
        server: SocketAddr,
        /// Our address as it sees it.
        address: SocketAddr,
    },
}

/// What to ask whom.
pub(crate) struct NatSettings {
    /// The UDP port that we listen on; `None` asks no gateway.
    pub(crate) mapped_port: Option<NonZeroU16>,
    /// Whom to ask for our address.
    pub(crate) stun_servers: Vec<PublicAddress>,
    /// How patiently.
    pub(crate) pace: Pace,
    /// 32 bytes from a cryptographic generator.
    pub(crate) seed: [u8; 32],
}

/// The way of the STUN client to the network: out through a worker's socket, and back as punts.
pub(crate) struct Port {
    /// Sends from the port that is asked about.
    pub(crate) sender: UdpSender,
    /// That of the forwarding table, by which workers know what to punt.
    pub(crate) awaited: Arc<Awaited>,
    /// The daemon's clock.
    pub(crate) clock: Clock,
}

/// What the tasks are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Go on; another number than before means: ask anew, now.
    Ask(u64),
    /// Delete what was made, and end.
    Stop,
}

/// The running tasks; they end when this is dropped, without deleting mappings, which is [`Nat::stop`].
pub(crate) struct Nat {
    gateways: Asker,
    servers: Asker,
    answers: mpsc::Sender<(Box<[u8]>, SocketAddr)>,
}

impl Nat {
    /// Starts asking, on the current tokio runtime.
    pub(crate) fn start(settings: NatSettings, port: Port) -> Self {
        let mut nat = Self { gateways: Asker::new().0, servers: Asker::new().0, answers: mpsc::channel(1).0 };
        nat.ask_gateways(settings.mapped_port, settings.pace);
        nat.ask_servers(settings, port);
        nat
    }

    /// Asks the gateways for a mapping from now on, or no more: what they map is deleted then.
    pub(crate) fn ask_gateways(&mut self, mapped_port: Option<NonZeroU16>, pace: Pace) {
        let (mut asker, ordered, outlet) = Asker::new();
        if let Some(mapped) = mapped_port {
            asker.tasks.spawn(portmap::run(mapped, pace, ordered, outlet));
        }
        let before = std::mem::replace(&mut self.gateways, asker);
        tokio::spawn(before.stop());
    }

    /// Asks other servers from now on.
    pub(crate) fn ask_servers(&mut self, settings: NatSettings, port: Port) {
        let (answers, answered) = mpsc::channel(MAX_ANSWERS);
        let (mut asker, ordered, outlet) = Asker::new();
        if !settings.stun_servers.is_empty() {
            let machine = Stun::new(settings.seed, port.awaited);
            let client = stun::Client::new(settings.stun_servers, machine, port.sender, port.clock, settings.pace);
            asker.tasks.spawn(client.run(answered, ordered, outlet));
        }
        (self.servers, self.answers) = (asker, answers);
    }

    /// The next event. Pends for ever where nothing is asked. Safe to cancel.
    pub(crate) async fn next(&mut self) -> NatEvent {
        tokio::select! {
            event = self.gateways.next() => event,
            event = self.servers.next() => event,
        }
    }

    /// Asks everybody anew at once: for when links, addresses or routes have changed, or an address is needed fresh.
    pub(crate) fn ask_anew(&self) {
        self.gateways.ask_anew();
        self.servers.ask_anew();
    }

    /// Takes a [`proto::data::Punt::StunAnswer`].
    pub(crate) fn handle_answer(&self, datagram: Box<[u8]>, source: SocketAddr) {
        // Full or nobody there: the request is sent again.
        let _ = self.answers.try_send((datagram, source));
    }

    /// How things stand.
    pub(crate) fn status(&self) -> NatStatus {
        let (gateways, servers) = (&self.gateways.status.borrow().gateways, &self.servers.status.borrow().servers);
        NatStatus { gateways: gateways.clone(), servers: servers.clone() }
    }

    /// Deletes the mappings, as far as gateways answer within 2 s, and ends the tasks.
    pub(crate) async fn stop(self) {
        tokio::join!(self.gateways.stop(), self.servers.stop());
    }
}

/// Tasks that ask one kind of helper, and what connects them with the handle.
struct Asker {
    orders: watch::Sender<Order>,
    events: mpsc::Receiver<NatEvent>,
    status: watch::Receiver<NatStatus>,
    tasks: JoinSet<()>,
}

impl Asker {
    /// One without tasks, and the ends for those.
    fn new() -> (Self, watch::Receiver<Order>, Outlet) {
        let (orders, ordered) = watch::channel(Order::Ask(0));
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let (outlet, status) = Outlet::new(sender);
        (Self { orders, events, status, tasks: JoinSet::new() }, ordered, outlet)
    }

    async fn next(&mut self) -> NatEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    fn ask_anew(&self) {
        self.orders.send_modify(|order| {
            if let Order::Ask(number) = order {
                *number = number.wrapping_add(1);
            }
        });
    }

    async fn stop(mut self) {
        // Nobody takes events any more, and a task that waits for room would not hear the order.
        self.events.close();
        self.orders.send_replace(Order::Stop);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::debug!("a gateway did not confirm that its mapping is deleted; it ends by itself");
        }
    }
}
