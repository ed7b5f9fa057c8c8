//! TLS over TCP, for members whose network blocks UDP: relays take connections, members make them.
//!
//! To the core a relay over TLS is a socket address of this machine. What it sends there a [`shim`] carries to the relay, whose
//! [`acceptor`] has one such socket for each connection and hands everything to its own daemon's port, and to nothing else.
//! `frame` puts datagrams into the stream, `pump` moves them, `limit` says who may.
//!
//! TLS is here to look like what networks let pass, and it hides who talks. It authenticates nobody: clients take any certificate,
//! for what they speak inside is the same Noise handshake as over UDP, which only the relay with the right key completes. Whoever
//! stands in between (a proxy that opens TLS) sees what it would see of UDP: sealed datagrams.
//!
//! Everything runs on one thread of its own, so that sealing does not hold up handshakes; there is none until it is needed.

mod acceptor;
mod connect;
mod crypto;
mod frame;
mod limit;
mod local;
mod pump;
mod shim;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;

use proto::id::{EndpointName, PeerId};
use proto::member::{Endpoint, PublicAddress};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

use crate::underlay::Underlay;
use acceptor::{Acceptor, Bound};
use shim::Shim;

/// Names that are looked up at the same time: connections are made when UDP fails, to a relay or two.
const MAX_LOOKUPS: usize = 2;

/// Lost connections that wait to be told: a relay or two.
const MAX_LOST: usize = 16;

/// How sockets to other machines are kept out of the mesh, and where datagrams go on this one.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The ways around the mesh.
    pub(crate) underlay: Underlay,
    /// `SO_MARK` of what goes to other machines.
    pub(crate) mark: Option<NonZeroU32>,
    /// The daemon's own UDP port.
    pub(crate) port: u16,
}

/// The TLS of this daemon: its carriers to relays, and, where it is a relay with addresses for it, its acceptor.
pub(crate) struct Tls {
    surroundings: Surroundings,
    thread: Option<Thread>,
    relays: BTreeMap<PeerId, Vec<PublicAddress>>,
    shims: BTreeMap<PeerId, Shim>,
    acceptors: BTreeMap<SocketAddr, Acceptor>,
    lost: (mpsc::Sender<PeerId>, mpsc::Receiver<PeerId>),
}

impl Tls {
    /// Knows no relay, and serves none.
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        let (relays, shims, acceptors) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { surroundings, thread: None, relays, shims, acceptors, lost: mpsc::channel(MAX_LOST) }
    }

    /// Takes the relays of the mesh and their TLS addresses, which replace those before. Returns the peers whose carrier is gone.
    pub(crate) fn know<'e>(
        &mut self,
        endpoints: impl Iterator<Item = &'e Endpoint>,
        peer_id: impl Fn(&EndpointName) -> Option<PeerId>,
    ) -> Vec<PeerId> {
        let relays = endpoints.filter(|endpoint| endpoint.serves_tls());
        self.relays = relays.filter_map(|relay| Some((peer_id(&relay.name)?, relay.tls_addresses.clone()))).collect();
        let is_gone = |(peer, shim): (&PeerId, &Shim)| {
            let same = self.relays.get(peer).is_some_and(|addresses| *addresses == shim.addresses);
            (!same).then_some(*peer)
        };
        let gone: Vec<PeerId> = self.shims.iter().filter_map(is_gone).collect();
        self.shims.retain(|peer, _| !gone.contains(peer));
        gone
    }

    /// The socket that is carried to a relay, opened now if there is none; `None` for a peer that serves no TLS. No connection is
    /// made before something is sent there.
    ///
    /// # Errors
    /// Those of opening a socket or starting a thread.
    pub(crate) fn open(&mut self, peer: PeerId) -> io::Result<Option<SocketAddrV4>> {
        if let Some(shim) = self.shims.get(&peer) {
            return Ok(Some(shim.address));
        }
        let Some(addresses) = self.relays.get(&peer).cloned() else { return Ok(None) };
        let surroundings = self.surroundings.clone();
        let news = self.lost.0.clone();
        // A full queue says it already: each is a reason to look, and no more.
        let lost = move || {
            let _ = news.try_send(peer);
        };
        let shim = Shim::start(addresses, surroundings, lost, self.handle()?)?;
        let address = shim.address;
        self.shims.insert(peer, shim);
        Ok(Some(address))
    }

    /// The next relay whose connection was lost while it was used.
    pub(crate) async fn lost(&mut self) -> PeerId {
        match self.lost.1.recv().await {
            Some(peer) => peer,
            None => std::future::pending().await,
        }
    }

    /// Makes ready to take connections at these addresses and no others, as far as that can fail; what is served goes on as it is.
    ///
    /// # Errors
    /// The first address that cannot be listened on, and why; and those of starting a thread.
    pub(crate) fn prepare(&mut self, at: &[SocketAddr]) -> Result<Prepared, (SocketAddr, io::Error)> {
        let mut bound = Vec::new();
        for address in at {
            if !self.acceptors.contains_key(address) {
                let listening = self.listen(*address, at);
                bound.push((*address, listening.map_err(|error| (*address, error))?));
            }
        }
        Ok(Prepared { at: at.to_vec(), bound })
    }

    /// Listens there, also where a socket stands in the way that is not of `at` and so goes when this one is served: the one for
    /// everywhere has the port of every address.
    fn listen(&mut self, address: SocketAddr, at: &[SocketAddr]) -> io::Result<Bound> {
        self.handle()?;
        let is_going = |other: &SocketAddr| other.port() == address.port() && !at.contains(other);
        let going = self.acceptors.iter().filter(|(other, _)| is_going(other)).map(|(_, acceptor)| acceptor);
        Bound::at(address, &self.surroundings, &going.collect::<Vec<_>>())
    }

    /// Takes connections there from now on, and nowhere else. Those that were taken go on.
    pub(crate) fn serve(&mut self, prepared: Prepared) {
        let Prepared { at, bound } = prepared;
        self.acceptors.retain(|address, _| at.contains(address));
        let Some(thread) = &self.thread else { return };
        self.acceptors.extend(bound.into_iter().map(|(address, bound)| (address, bound.start(&thread.handle))));
    }

    fn handle(&mut self) -> io::Result<&Handle> {
        let thread = match self.thread.take() {
            Some(thread) => thread,
            None => Thread::start()?,
        };
        Ok(&self.thread.insert(thread).handle)
    }
}

/// Where connections are to be taken, and the sockets for what is new of that.
pub(crate) struct Prepared {
    at: Vec<SocketAddr>,
    bound: Vec<(SocketAddr, Bound)>,
}

/// A thread with a runtime, which ends with everything on it when this is dropped.
struct Thread {
    handle: Handle,
    _end: oneshot::Sender<()>,
}

impl Thread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(MAX_LOOKUPS).build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("tls".to_owned()).spawn(move || {
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, _end: end })
    }
}
