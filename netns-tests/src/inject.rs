//! An attacker's pen: UDP datagrams with any source address and any payload, and ICMP errors, from any host.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use etherparse::{Icmpv4Type, Ipv4HeaderSlice, PacketBuilder, icmpv4};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::host::Host;

/// Sends IPv4 packets with forged headers (raw(7), `IPPROTO_RAW`).
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
        self.send_packet(*destination.ip(), &packet);
    }

    /// Sends the ICMP error to the sender of `quoted`, an IPv4 packet, that no more than `mtu` bytes get through, in the name of
    /// `source`.
    ///
    /// # Panics
    /// When it cannot be sent, or `quoted` is no IPv4 packet.
    #[track_caller]
    pub fn send_fragmentation_needed(&self, source: Ipv4Addr, quoted: &[u8], mtu: u16) {
        let sender = Ipv4HeaderSlice::from_slice(quoted).expect("an IPv4 packet").source_addr();
        let needed = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
        let builder = PacketBuilder::ipv4(source.octets(), sender.octets(), 64)
            .icmpv4(Icmpv4Type::DestinationUnreachable(needed));
        let mut packet = Vec::new();
        builder.write(&mut packet, quoted.get(..128).unwrap_or(quoted)).expect("an error fits");
        self.send_packet(sender, &packet);
    }

    #[track_caller]
    fn send_packet(&self, destination: Ipv4Addr, packet: &[u8]) {
        let destination = SockAddr::from(SocketAddrV4::new(destination, 0));
        self.socket.send_to(packet, &destination).expect("send a forged packet");
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
