//! What the machine does with a packet, asked of the kernel as an application would: sockets and sysctls, without privileges.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ipnet::IpNet;

use super::{Host, HostNote};

/// Where the machine sends packets for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the mesh.
    Mesh,
    /// By another interface.
    By(String),
    /// Nowhere, in the kernel's words.
    Nowhere(String),
    /// This cannot be told: the node has no mesh address of that family.
    Unknown,
}

/// Any port: nothing is sent.
const DISCARD: u16 = 9;

impl Host {
    /// Where the machine sends packets for `address` now, whatever made it so.
    pub(crate) fn way(&self, address: IpAddr) -> Way {
        if self.plan.as_ref().is_none_or(|plan| plan.source(address.is_ipv6()).is_none()) {
            return Way::Unknown;
        }
        match source_for(address).and_then(|source| Ok((source, interface_of(source)?))) {
            Ok((_, Some(interface))) if interface == self.settings.interface => Way::Mesh,
            Ok((_, Some(interface))) => Way::By(interface),
            Ok((_, None)) => Way::Unknown,
            Err(error) => Way::Nowhere(error.to_string()),
        }
    }

    /// Whether the machine forwards packets of this family. Where sysctls cannot be read, it is taken to do so.
    pub(crate) fn forwards(&self, v6: bool) -> bool {
        let key = if v6 { "net/ipv6/conf/all/forwarding" } else { "net/ipv4/ip_forward" };
        self.sysctls.read(key).is_none_or(|value| value != "0")
    }

    /// Whether packets from the mesh are dropped whose way back would not lead into it.
    pub(crate) fn is_strict(&self) -> bool {
        self.sysctls.is_strict(&self.settings.interface)
    }

    /// What an operator should read about the route of this prefix.
    pub(crate) fn note_of(&self, wanted: IpNet) -> Option<&HostNote> {
        self.notes.iter().find(|note| match note {
            HostNote::Connected { prefix, .. }
            | HostNote::LocalRoute { prefix, .. }
            | HostNote::RouteTaken { prefix, .. }
            | HostNote::RouteRefused { prefix, .. } => *prefix == wanted,
            HostNote::InterfaceDown { .. } => true,
            HostNote::Ipv6Off { .. } => wanted.addr().is_ipv6(),
            HostNote::TableShared { .. }
            | HostNote::StrictReversePath { .. }
            | HostNote::Sysctl { .. }
            | HostNote::JournalUnreadable { .. } => false,
        })
    }
}

/// The address that a packet to `address` would come from, by the kernel's own choice of a route.
fn source_for(address: IpAddr) -> io::Result<IpAddr> {
    let any = if address.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
    socket.connect(SocketAddr::new(address, DISCARD))?;
    Ok(socket.local_addr()?.ip())
}

/// The interface that has this address.
fn interface_of(address: IpAddr) -> io::Result<Option<String>> {
    let has_it = |entry: &nix::ifaddrs::InterfaceAddress| {
        let storage = entry.address.as_ref();
        let v4 = storage.and_then(|storage| storage.as_sockaddr_in()).map(|v4| IpAddr::from(v4.ip()));
        let v6 = storage.and_then(|storage| storage.as_sockaddr_in6()).map(|v6| IpAddr::from(v6.ip()));
        v4.or(v6) == Some(address)
    };
    let mut all = nix::ifaddrs::getifaddrs()?;
    Ok(all.find(has_it).map(|entry| entry.interface_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_to_loopback_leaves_by_loopback() {
        let source = source_for(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(interface_of(source).unwrap().as_deref(), Some("lo"));
    }
}
