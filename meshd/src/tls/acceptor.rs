//! The relay's side: takes connections, and gives each a socket of this machine that talks to the daemon's own port.
//!
//! A connection reaches nothing but that port, and from an address that stands for nobody else: what comes through it is treated
//! as what comes from any stranger over UDP. It costs a place for as long as the daemon has not answered, which it does to members
//! only, and then for as long as it is used.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Surroundings;
use super::connect;
use super::crypto;
use super::limit::{Limit, Place, Source};
use super::local::Local;
use super::pump::{self, End, Patience};
use crate::log_limit::LogLimit;

/// How long a TLS handshake may take: a few round trips of a bad link.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A client closes an idle connection after 60 s; what is left is of one that is gone.
const PATIENCE: Patience = Patience { idle: Duration::from_secs(70), proof: Some(Duration::from_secs(10)) };

/// Connections that the kernel has accepted and we have not.
const BACKLOG: i32 = 64;

/// Between two attempts to accept when the system has no descriptors left.
const EXHAUSTED: Duration = Duration::from_millis(200);

/// A socket that listens, and from which nothing is taken yet.
pub(super) struct Bound {
    at: SocketAddr,
    tls: TlsAcceptor,
    listener: std::net::TcpListener,
    /// The same socket, for its options.
    socket: std::net::TcpListener,
    port: u16,
}

/// Takes connections until it is dropped; those that it took go on.
pub(super) struct Acceptor {
    task: AbortHandle,
    socket: std::net::TcpListener,
}

impl Acceptor {
    fn share_port(&self, sharing: Sharing) -> io::Result<()> {
        SockRef::from(&self.socket).set_reuse_port(sharing == Sharing::Port)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whether a socket lets another one of this user listen at its port (`SO_REUSEPORT`, socket(7)).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// No: who tries is told that the port is taken.
    Nothing,
    /// Where the other does too.
    Port,
}

impl Bound {
    /// Listens, beside those that have the port now and are to give it up: they go on until then, so nothing is to be put back
    /// where that does not come to be.
    ///
    /// # Errors
    /// Those of listening: `EADDRINUSE`, `EACCES` below port 1024 without `CAP_NET_BIND_SERVICE`.
    pub(super) fn at(at: SocketAddr, around: &Surroundings, beside: &[&Acceptor]) -> io::Result<Self> {
        let share = |sharing| beside.iter().try_for_each(|other| other.share_port(sharing));
        share(Sharing::Port)?;
        let listener = listen(at, around, if beside.is_empty() { Sharing::Nothing } else { Sharing::Port });
        share(Sharing::Nothing)?;
        let listener = listener?;
        let socket = listener.try_clone()?;
        Ok(Self { at, tls: crypto::acceptor()?, listener, socket, port: around.port })
    }

    /// Takes connections from now on.
    pub(super) fn start(self, handle: &Handle) -> Acceptor {
        let Self { at, tls, listener, socket, port } = self;
        let task = handle.spawn(async move {
            if let Err(error) = accept(listener, tls, port).await {
                tracing::error!(address = %at, %error, "TLS connections are not taken any more");
            }
        });
        tracing::info!(address = %at, "taking TLS connections");
        Acceptor { task: task.abort_handle(), socket }
    }
}

fn listen(at: SocketAddr, around: &Surroundings, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    match bind(at, around, sharing) {
        // A machine without IPv6.
        Err(error) if at.ip() == Ipv6Addr::UNSPECIFIED && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            bind((Ipv4Addr::UNSPECIFIED, at.port()).into(), around, sharing)
        }
        bound => bound,
    }
}

fn bind(at: SocketAddr, around: &Surroundings, sharing: Sharing) -> io::Result<std::net::TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(at), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if at.is_ipv6() && at.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // Connections of the run before linger; a socket that listens is refused all the same.
    socket.set_reuse_address(true)?;
    if let Some(mark) = around.mark {
        socket.set_mark(mark.get())?;
    }
    socket.set_reuse_port(sharing == Sharing::Port)?;
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    socket.set_reuse_port(false)?;
    Ok(socket.into())
}

async fn accept(listener: std::net::TcpListener, tls: TlsAcceptor, port: u16) -> io::Result<()> {
    let (listener, limit) = (TcpListener::from_std(listener)?, Limit::default());
    let mut log = LogLimit::new();
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        // Without a place it is closed at once, before anything was read or made.
        let Some(place) = limit.admit(Source::from(client.ip())) else {
            if let Some(left_out) = log.pass(client.ip()) {
                tracing::debug!(address = %client, left_out, "too many TLS connections");
            }
            continue;
        };
        let (tls, left_out) = (tls.clone(), log.pass(client.ip()));
        tokio::spawn(async move {
            let ended = serve(stream, &tls, &place, port).await;
            if let Some(left_out) = left_out {
                let error = ended.err().map(tracing::field::display);
                tracing::debug!(address = %client, error, left_out, "TLS connection ended");
            }
        });
    }
}

async fn serve(stream: TcpStream, tls: &TlsAcceptor, place: &Place, port: u16) -> io::Result<End> {
    connect::set_up(&stream)?;
    let stream = timeout(HANDSHAKE, tls.accept(stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    let local = Local::new(Local::bind(place.stand_in, port)?)?;
    pump::run(stream, &local, PATIENCE).await
}
