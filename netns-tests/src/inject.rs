//! An attacker's pen: UDP datagrams with any source address and any payload, from any host.

use std::net::{SocketAddr, SocketAddrV4};

use etherparse::PacketBuilder;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::host::Host;

/// Sends IPv4 UDP datagrams with forged headers (raw(7), `IPPROTO_RAW`).
#[derive(Debug)]
pub struct Injector {
    socket: Socket,
}

impl Injector {
    /// An injector on `host`.
    ///
    /// # Panics
    /// When no raw socket can be opened.
    #[must_use]
    pub fn on(host: &Host) -> Self {
        let raw = Protocol::from(libc::IPPROTO_RAW);
        let socket = host.enter(|| Socket::new(Domain::IPV4, Type::RAW, Some(raw))).expect("open a raw socket");
        Self { socket }
    }

    /// Sends one datagram that claims to come from `source`.
    ///
    /// # Panics
    /// When it cannot be sent, such as for lack of a route.
    #[track_caller]
    pub fn send(&self, source: SocketAddrV4, destination: SocketAddrV4, payload: &[u8]) {
        let builder = PacketBuilder::ipv4(source.ip().octets(), destination.ip().octets(), 64)
            .udp(source.port(), destination.port());
        let mut packet = Vec::with_capacity(builder.size(payload.len()));
        builder.write(&mut packet, payload).expect("a datagram fits");
        let destination = SockAddr::from(SocketAddrV4::new(*destination.ip(), 0));
        self.socket.send_to(&packet, &destination).expect("send a forged datagram");
    }
}

/// The IPv4 socket address in `address`.
///
/// # Panics
/// When it is an IPv6 one.
#[must_use]
pub fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(address) => panic!("{address} is not IPv4"),
    }
}
