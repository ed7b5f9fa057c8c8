//! Using an invitation: a short-lived node on two UDP sockets, without a device and without privileges.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proto::event::{Disconnect, Event};
use proto::handshake::{Identity, Offer};
use proto::id::{MeshId, PeerId, PresharedKey, PublicKey};
use proto::invitation::Invitation;
use proto::member::{Community, DEFAULT_PORT, Endpoint, Host, Kind, Members};
use proto::node::{LanPolicy, Node, Settings, WallClock};
use proto::path::{Balance, Locator};
use proto::session::supported_suites;
use proto::wire::{Capabilities, EnrolAnswer};
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use zeroize::Zeroizing;

use super::{COMMUNITY, Error, random};
use crate::clock::Clock;

/// How long the inviter is waited for: four tries of a handshake.
const LIMIT: Duration = Duration::from_secs(6);

/// How long name servers are waited for, all names of an invitation together: whoever made it chose how many.
const LOOKUP: Duration = Duration::from_secs(3);

/// Time between two questions: either may be lost.
const AGAIN: Duration = Duration::from_millis(500);

/// Largest datagram that is looked at: handshakes and short control messages come.
const LARGEST: usize = 2048;

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The inviter said so.
    Answered(EnrolAnswer),
    /// The inviter ended the session before its answer came: it may have accepted.
    Unsure,
    /// Nobody answered, neither at these places nor at names that did not resolve.
    Silent,
}

/// Asks the inviter to let `key` take the place of the one in the invitation.
///
/// # Errors
/// When the machine gives no sockets or no random bytes.
pub(crate) async fn enrol(invitation: &Invitation, key: PublicKey, own: &[SocketAddr]) -> Result<Outcome, Error> {
    let mut guest = Guest::new(invitation).await?;
    guest.node.handle_candidates(guest.by, places(invitation).await, guest.clock.now());
    let outcome = timeout(LIMIT, guest.ask(key, own)).await;
    guest.node.handle_shutdown(guest.clock.now());
    guest.send().await;
    match outcome {
        Ok(outcome) => outcome,
        Err(_) => Ok(Outcome::Silent),
    }
}

/// Where the inviter may be.
async fn places(invitation: &Invitation) -> Vec<SocketAddr> {
    let deadline = Instant::now() + LOOKUP;
    let mut places = Vec::new();
    for address in &invitation.inviter.public_addresses {
        match &address.host {
            Host::Ip(ip) => places.push(SocketAddr::new(*ip, address.port)),
            Host::Name(name) => {
                let found = timeout_at(deadline, lookup_host((name.as_str(), address.port))).await;
                places.extend(found.into_iter().flatten().flatten());
            }
        }
    }
    places
}

struct Guest {
    node: Node,
    by: PeerId,
    clock: Clock,
    /// One for each family that the machine has.
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Guest {
    async fn new(invitation: &Invitation) -> Result<Self, Error> {
        let clock = Clock::start();
        let wall = WallClock { unix_at_origin: clock.unix_at_origin(), floor: 0 };
        let seed = Zeroizing::new(random()?);
        let mut node = Node::new(settings(invitation), *seed, wall, clock.now());
        node.handle_registry(&members(invitation), clock.now());
        let by = node.peer_id(&invitation.inviter.name).ok_or("the invitation names its inviter as the invited")?;
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok();
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).await.ok();
        if v4.is_none() && v6.is_none() {
            return Err("this machine gives no UDP socket".into());
        }
        Ok(Self { node, by, clock, v4, v6 })
    }

    async fn ask(&mut self, key: PublicKey, own: &[SocketAddr]) -> Result<Outcome, Error> {
        let mut again = tokio::time::interval(AGAIN);
        let (mut first, mut second) = ([0; LARGEST], [0; LARGEST]);
        let mut has_met = false;
        loop {
            self.send().await;
            while let Some(event) = self.node.poll_event() {
                if let Event::EnrolAnswered { answer, .. } = event {
                    return Ok(Outcome::Answered(answer));
                }
                if matches!(event, Event::Connected { .. }) {
                    has_met = true;
                    self.node.enrol(self.by, key, own, self.clock.now());
                }
                if has_met && matches!(event, Event::Disconnected { reason: Disconnect::Closed, .. }) {
                    return Ok(Outcome::Unsure);
                }
            }
            self.send().await;
            let due = self.node.poll_timeout().map(|deadline| self.clock.at(deadline.at));
            let timer = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (len, source) = receive(self.v4.as_ref(), &mut first) => self.take(first.get(..len), source),
                (len, source) = receive(self.v6.as_ref(), &mut second) => self.take(second.get(..len), source),
                () = timer => self.node.handle_timeout(self.clock.now()),
                _ = again.tick() => self.node.enrol(self.by, key, own, self.clock.now()),
            }
        }
    }

    fn take(&mut self, datagram: Option<&[u8]>, source: SocketAddr) {
        if let Some(datagram) = datagram {
            self.node.handle_datagram(datagram, Locator::from(source), self.clock.now());
        }
    }

    /// What cannot be sent is sent again by the next try.
    async fn send(&mut self) {
        while let Some(transmit) = self.node.poll_transmit() {
            let socket = if transmit.destination.is_ipv4() { &self.v4 } else { &self.v6 };
            if let Some(socket) = socket {
                let _sent = socket.send_to(&transmit.datagram, transmit.destination).await;
            }
        }
    }
}

/// The next datagram; where there is no socket, none ever.
async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket {
            None => std::future::pending().await,
            Some(socket) => match socket.recv_from(buffer).await {
                Ok(received) => return received,
                // A place that refuses (ICMP); others may answer.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
}

fn settings(invitation: &Invitation) -> Settings {
    let mesh = MeshId::from_name(&invitation.mesh);
    Settings {
        name: invitation.name.clone(),
        identity: Identity::new(invitation.secret.clone(), mesh, PresharedKey::NONE),
        offer: Offer { suites: supported_suites(), capabilities: Capabilities::default(), lanes: 1 },
        rekey_after: Duration::from_secs(120),
        idle_after: Duration::from_secs(180),
        punch: false,
        spray: false,
        relay: None,
        port: DEFAULT_PORT,
        mtu: 1280,
        keepalive: None,
        lan: LanPolicy::default(),
        balance: Balance::Best,
        unselected: Vec::new(),
    }
}

/// The two, so that the one may dial the other.
fn members(invitation: &Invitation) -> Members {
    let inviter = &invitation.inviter;
    let endpoint = |name, kind, key, public_addresses| Endpoint {
        public_addresses,
        relay: Some(false),
        ..Endpoint::new(name, kind, key)
    };
    let names = vec![inviter.name.clone(), invitation.name.clone()];
    Members {
        mesh: MeshId::from_name(&invitation.mesh),
        endpoints: vec![
            endpoint(inviter.name.clone(), inviter.kind, inviter.key, inviter.public_addresses.clone()),
            endpoint(invitation.name.clone(), Kind::Edge, invitation.secret.public_key(), Vec::new()),
        ],
        communities: vec![Community { name: COMMUNITY.to_owned(), members: names }],
    }
}
