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
    orders: watch::Sender<Order>,
    events: mpsc::Receiver<NatEvent>,
    answers: mpsc::Sender<(Box<[u8]>, SocketAddr)>,
    status: watch::Receiver<NatStatus>,
    tasks: JoinSet<()>,
}

impl Nat {
    /// Starts asking, on the current tokio runtime.
    pub(crate) fn start(settings: NatSettings, port: Port) -> Self {
        let (orders, ordered) = watch::channel(Order::Ask(0));
        let (sender, events) = mpsc::channel(MAX_EVENTS);
        let (answers, answered) = mpsc::channel(MAX_ANSWERS);
        let (outlet, status) = Outlet::new(sender);
        let mut tasks = JoinSet::new();
        let NatSettings { mapped_port, stun_servers, pace, seed } = settings;
        if let Some(mapped) = mapped_port {
            tasks.spawn(portmap::run(mapped, pace, ordered.clone(), outlet.clone()));
        }
        if !stun_servers.is_empty() {
            let machine = Stun::new(seed, port.awaited);
            let client = stun::Client::new(stun_servers, machine, port.sender, port.clock, pace);
            tasks.spawn(client.run(answered, ordered, outlet));
        }
        Self { orders, events, answers, status, tasks }
    }

    /// The next event. Pends for ever where nothing is asked. Safe to cancel.
    pub(crate) async fn next(&mut self) -> NatEvent {
        match self.events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        }
    }

    /// Asks everybody anew at once: for when links, addresses or routes have changed, or an address is needed fresh.
    pub(crate) fn ask_anew(&self) {
        self.orders.send_modify(|order| {
            if let Order::Ask(number) = order {
                *number = number.wrapping_add(1);
            }
        });
    }

    /// Takes a [`proto::data::Punt::StunAnswer`].
    pub(crate) fn handle_answer(&self, datagram: Box<[u8]>, source: SocketAddr) {
        // Full or nobody there: the request is sent again.
        let _ = self.answers.try_send((datagram, source));
    }

    /// How things stand.
    pub(crate) fn status(&self) -> NatStatus {
        self.status.borrow().clone()
    }

    /// Deletes the mappings, as far as gateways answer within 2 s, and ends the tasks.
    pub(crate) async fn stop(mut self) {
        // Nobody takes events any more, and a task that waits for room would not hear the order.
        self.events.close();
        self.orders.send_replace(Order::Stop);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, ended).await.is_err() {
            tracing::debug!("a gateway did not confirm that its mapping is deleted; it ends by itself");
        }
    }
}
