//! Connections to relays: names, ways around the mesh, TCP, TLS.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proto::member::{Host, PublicAddress};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Surroundings, crypto};
use crate::underlay::Way;

/// How long one address may take for TCP and TLS together: the first SYN may be lost, and repeated after a second.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a look-up may take before what was known before counts.
const LOOKUP: Duration = Duration::from_secs(2);

/// What was sent and not acknowledged for so long ends a connection (`TCP_USER_TIMEOUT`, RFC 5482): the next may do better.
pub(super) const STALLED: Duration = Duration::from_secs(6);

/// Bytes that wait in the kernel before they are sent (`TCP_NOTSENT_LOWAT`): what is urgent stands behind them.
const UNSENT: u32 = 128 << 10;

/// Makes connections to one relay.
pub(super) struct Dialer {
    addresses: Vec<PublicAddress>,
    surroundings: Surroundings,
    tls: TlsConnector,
    /// What names were last, for when name servers cannot be reached.
    known: BTreeMap<String, Vec<SocketAddr>>,
}

impl Dialer {
    /// # Errors
    /// None that a correct program meets.
    pub(super) fn new(addresses: Vec<PublicAddress>, surroundings: Surroundings) -> io::Result<Self> {
        Ok(Self { addresses, surroundings, tls: crypto::connector()?, known: BTreeMap::new() })
    }

    /// A connection to the first of the relay's addresses that answers, and which it is.
    ///
    /// # Errors
    /// Why the last of them did not.
    pub(super) async fn connect(&mut self) -> io::Result<(TlsStream<TcpStream>, SocketAddr)> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.addresses.clone() {
            let found = match self.resolve(&address).await {
                Ok(found) => found,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            for at in found {
                match timeout(PATIENCE, self.connect_to(at, &address.host)).await {
                    Ok(Ok(stream)) => return Ok((stream, at)),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::ErrorKind::TimedOut.into(),
                }
                tracing::debug!(address = %at, error = %last, "no TLS connection");
            }
        }
        Err(last)
    }

    async fn resolve(&mut self, address: &PublicAddress) -> io::Result<Vec<SocketAddr>> {
        let name = match &address.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, address.port)]),
            Host::Name(name) => name,
        };
        let looked_up = timeout(LOOKUP, tokio::net::lookup_host((name.as_str(), address.port))).await;
        match looked_up.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(found) => {
                let found: Vec<SocketAddr> = found.collect();
                self.known.insert(name.clone(), found.clone());
                Ok(found)
            }
            Err(error) => self.known.get(name).cloned().ok_or(error),
        }
    }

    async fn connect_to(&self, at: SocketAddr, host: &Host) -> io::Result<TlsStream<TcpStream>> {
        let socket = if at.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        keep_out_of_the_mesh(&SockRef::from(&socket), at.ip(), &self.surroundings)?;
        let stream = socket.connect(at).await?;
        set_up(&stream)?;
        // Only a name is sent to the server (RFC 6066 §3).
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            Host::Ip(ip) => ServerName::IpAddress((*ip).into()),
        };
        self.tls.connect(name, stream).await
    }
}

/// What both ends want of TCP.
pub(super) fn set_up(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(STALLED))?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// The connection must not go through the tunnel that it carries.
fn keep_out_of_the_mesh(socket: &SockRef<'_>, to: IpAddr, surroundings: &Surroundings) -> io::Result<()> {
    if let Some(mark) = surroundings.mark {
        socket.set_mark(mark.get())?;
    }
    match surroundings.underlay.to(to) {
        Way::Kernel => Ok(()),
        Way::By(index) => {
            let name = nix::net::if_::if_indextoname(index.get())?;
            socket.bind_device(Some(name.as_bytes()))
        }
        Way::Nowhere => Err(io::ErrorKind::NetworkUnreachable.into()),
    }
}
