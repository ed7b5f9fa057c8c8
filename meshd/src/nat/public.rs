//! Which addresses can be reached from everywhere.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What only a part of the net knows: RFC 6890's tables as far as a gateway may give such an address out, and class E.
const PRIVATE: [IpNet; 10] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([224, 0, 0, 0], 3),
];

/// All that is handed out of IPv6 (RFC 4291 §2.4, IANA).
const GLOBAL_V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Whether an address may be reached from everywhere; behind a second NAT a gateway's own is not.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !PRIVATE.iter().any(|net| net.contains(&address)),
        IpAddr::V6(v6) => GLOBAL_V6.contains(&v6),
    }
}

const fn v4([a, b, c, d]: [u8; 4], len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_private_and_shared_networks_are_not_public() {
        let told = |text: &str| is_public(text.parse().unwrap());
        for text in ["10.1.2.3", "172.31.0.1", "192.168.1.1", "100.64.0.1", "100.127.255.255", "0.0.0.0", "127.0.0.1"] {
            assert!(!told(text), "{text}");
        }
        for text in ["169.254.1.1", "192.0.0.2", "255.255.255.255", "239.1.1.1", "fe80::1", "fd00::1", "::", "::1"] {
            assert!(!told(text), "{text}");
        }
        for text in ["100.63.255.255", "100.128.0.1", "172.32.0.1", "203.0.113.9", "2001:db8::1"] {
            assert!(told(text), "{text}");
        }
    }
}
