//! A question to a gateway by UDP, asked until it is answered: PCP and NAT-PMP share port and manner.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{MapError, Pace};
use crate::host::Gateway;

/// Where gateways listen (RFC 6886 §3.1, RFC 6887 §19.4).
const PORT: u16 = 5351;

/// The longest message of PCP (RFC 6887 §7), in bytes.
const MAX_ANSWER: usize = 1_100;

/// Sends `request` until `read` makes something of an answer. Answers of which it makes nothing are ignored, those of others than
/// the gateway are not seen.
pub(super) async fn ask<T>(
    gateway: &Gateway,
    pace: Pace,
    request: &[u8],
    read: impl Fn(&[u8]) -> Option<Result<T, MapError>>,
) -> Result<T, MapError> {
    let socket = open(gateway)?;
    socket.connect(server(gateway)).await?;
    let mut answer = [0; MAX_ANSWER];
    let mut wait = pace.first_wait;
    for _ in 0..pace.tries {
        socket.send(request).await?;
        let due = Instant::now() + wait;
        while let Ok(received) = tokio::time::timeout_at(due, socket.recv(&mut answer)).await {
            // An error is the gateway's word that nobody listens there.
            if let Some(read) = read(answer.get(..received?).unwrap_or_default()) {
                return read;
            }
        }
        wait *= 2;
    }
    Err(MapError::Silent)
}

/// A UDP socket on the gateway's network, with the address that is to be mapped.
pub(super) fn open(gateway: &Gateway) -> Result<UdpSocket, MapError> {
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(gateway.own, 0)),
        Type::DGRAM.nonblocking(),
        Some(Protocol::UDP),
    )?;
    // Keeps the question out of the mesh and on this link, also where two gateways have one address. Kernels before 5.7 let
    // only root do so; without it the routes decide.
    let _ = socket.bind_device(Some(gateway.interface.as_bytes()));
    socket.bind(&SockAddr::from(SocketAddr::new(gateway.own, 0)))?;
    Ok(UdpSocket::from_std(socket.into())?)
}

fn server(gateway: &Gateway) -> SocketAddr {
    match gateway.address {
        IpAddr::V4(address) => SocketAddr::from((address, PORT)),
        // Routers announce themselves by link-local addresses, which mean nothing without the link.
        IpAddr::V6(address) => SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, gateway.index)),
    }
}
