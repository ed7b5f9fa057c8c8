//! The task around [`proto::nat::Stun`]: names, clock and socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use proto::member::{Host, PublicAddress};
use proto::nat::{Stun, StunEvent};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::portmap::Backoff;
use super::status::Outlet;
use super::{NatEvent, Order, Pace};
use crate::clock::Clock;
use crate::dataplane::socket::UdpSender;
use crate::resolver;

/// Asks at the start, when told to, and again after a while where nobody answered.
pub(super) struct Client {
    servers: Vec<PublicAddress>,
    stun: Stun,
    sender: UdpSender,
    clock: Clock,
    backoff: Backoff,
    /// When to ask again because nobody answered.
    again: Option<Instant>,
}

impl Client {
    pub(super) fn new(servers: Vec<PublicAddress>, stun: Stun, sender: UdpSender, clock: Clock, pace: Pace) -> Self {
        Self { servers, stun, sender, clock, backoff: Backoff::new(pace), again: None }
    }

    /// Runs until it is told to stop.
    pub(super) async fn run(
        mut self,
        mut answers: mpsc::Receiver<(Box<[u8]>, SocketAddr)>,
        mut orders: watch::Receiver<Order>,
        outlet: Outlet,
    ) {
        self.ask(&outlet).await;
        loop {
            self.drain(&outlet).await;
            let next = self.stun.poll_timeout().map(|at| self.clock.at(at));
            tokio::select! {
                changed = orders.changed() => {
                    if changed.is_err() || *orders.borrow_and_update() == Order::Stop {
                        return;
                    }
                    self.backoff.reset();
                    self.ask(&outlet).await;
                }
                Some((datagram, source)) = answers.recv() => self.stun.handle_answer(&datagram, source),
                () = until(next) => self.stun.handle_timeout(self.clock.now()),
                () = until(self.again) => self.ask(&outlet).await,
            }
        }
    }

    async fn ask(&mut self, outlet: &Outlet) {
        // Until somebody answers.
        self.again = Some(Instant::now() + self.backoff.next());
        outlet.hide_servers();
        let mut addresses = Vec::new();
        for PublicAddress { host, port } in &self.servers {
            match host {
                Host::Ip(ip) => addresses.push(SocketAddr::new(*ip, *port)),
                Host::Name(name) => match look_up(name, *port).await {
                    Ok(found) => addresses.extend(found),
                    Err(error) => outlet.show_server(name.clone(), Err(error)),
                },
            }
        }
        self.stun.handle_servers(&addresses, self.clock.now());
    }

    async fn drain(&mut self, outlet: &Outlet) {
        while let Some(transmit) = self.stun.poll_transmit() {
            if let Err(error) = self.sender.send_to(&transmit.datagram, transmit.destination) {
                // A family that this machine has not; the request ends as unanswered.
                tracing::debug!(server = %transmit.destination, %error, "STUN request not sent");
            }
        }
        while let Some(event) = self.stun.poll_event() {
            let (server, result) = match event {
                StunEvent::Reflexive { server, address } => {
                    self.again = None;
                    self.backoff.reset();
                    outlet.tell(NatEvent::Reflexive { server, address }).await;
                    (server, Ok(address))
                }
                StunEvent::Refused { server, code } => (server, Err(format!("refused with code {code}"))),
                StunEvent::Silent { server } => (server, Err("no answer".to_owned())),
            };
            outlet.show_server(server.to_string(), result);
        }
    }
}

/// One address of each family: more are the same server.
async fn look_up(name: &str, port: u16) -> Result<impl Iterator<Item = SocketAddr>, String> {
    /// Longer than any resolver that will still answer; the other servers wait meanwhile.
    const LIMIT: Duration = Duration::from_secs(5);
    let found = tokio::time::timeout(LIMIT, resolver::look_up(name.to_owned(), port)).await;
    let found = found.map_err(|_| "the name did not resolve in time".to_owned())?.map_err(|error| error.to_string())?;
    let by_family: BTreeMap<bool, SocketAddr> = found.into_iter().map(|address| (address.is_ipv6(), address)).collect();
    Ok(by_family.into_values())
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
