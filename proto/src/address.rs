//! Socket addresses in the form that messages carry, and which of them can be another machine's.

use std::net::{IpAddr, SocketAddr};

/// Length of an address in a message: 16 bytes of IPv6, or of IPv4 mapped to it (RFC 4291 §2.5.5.2), and a port.
pub(crate) const ADDRESS_LEN: usize = 18;

/// An address in 16 bytes, IPv4 in its mapped form.
pub(crate) const fn ip_bytes(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address as messages carry it.
pub(crate) fn to_bytes(address: SocketAddr) -> [u8; ADDRESS_LEN] {
    let mut bytes = [0; ADDRESS_LEN];
    bytes[..16].copy_from_slice(&ip_bytes(address.ip()));
    bytes[16..].copy_from_slice(&address.port().to_le_bytes());
    bytes
}

/// Reads what [`to_bytes`] wrote; mapped IPv4 becomes IPv4 again.
pub(crate) fn from_bytes(bytes: &[u8; ADDRESS_LEN]) -> SocketAddr {
    let (mut ip, mut port) = ([0; 16], [0; 2]);
    ip.copy_from_slice(&bytes[..16]);
    port.copy_from_slice(&bytes[16..]);
    SocketAddr::new(IpAddr::from(ip).to_canonical(), u16::from_le_bytes(port))
}

/// Whether an address may be that of one other machine.
pub(crate) fn is_of_one_machine(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_broadcast)
}

/// Whether it may be when somebody else names it: a link-local address of IPv6 means nothing without an interface.
pub(crate) fn is_of_use_to_others(ip: IpAddr) -> bool {
    let is_link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    is_of_one_machine(ip) && !is_link_local
}
