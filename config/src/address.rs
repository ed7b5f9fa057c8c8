//! Addresses and prefixes as an operator writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proto::member::{DEFAULT_PORT, Host, PublicAddress, TLS_PORT};

use crate::error::{Fault, quote};

/// Ranges that never lie behind a node, with what they are; a prefix that touches one would capture it.
const SPECIAL: [(IpNet, &str); 10] = [
    (v4([0, 0, 0, 0], 8), "unspecified"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([255, 255, 255, 255], 32), "broadcast"),
    (v6(0, 0, 128), "unspecified"),
    (v6(0, 1, 128), "loopback"),
    (v6(0, 0xffff_0000_0000, 96), "IPv4-mapped"),
    (v6(0xfe80 << 112, 0, 10), "link-local"),
    (v6(0xff00 << 112, 0, 8), "multicast"),
];

const fn v4([a, b, c, d]: [u8; 4], len: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), len))
}

const fn v6(high: u128, low: u128, len: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from_bits(high | low), len))
}

/// Parses one of `subnets`: a prefix with its length.
pub(crate) fn subnet(text: &str) -> Result<IpNet, Fault> {
    match text.parse::<IpAddr>() {
        Ok(address) => {
            let fault = Fault::new(format!("{} has no prefix length", quote(text)));
            Err(fault.help(format!("write \"{}\" for this address alone", IpNet::from(address))))
        }
        Err(_) => prefix(text),
    }
}

/// Parses one of `node_subnets`: a prefix, or an address alone.
pub(crate) fn node_subnet(text: &str) -> Result<IpNet, Fault> {
    match text.parse::<IpAddr>() {
        Ok(address) => ordinary(IpNet::from(address)),
        Err(_) => prefix(text),
    }
}

/// Parses a mesh address.
pub(crate) fn mesh_address(text: &str) -> Result<IpAddr, Fault> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return ordinary(IpNet::from(address)).map(|_| address);
    }
    match text.parse::<IpNet>() {
        Ok(net) => {
            let fault = Fault::new(format!("{} is a prefix, not an address", quote(text)));
            Err(fault.help(format!("write \"{}\"", net.addr())))
        }
        Err(_) => {
            Err(Fault::new(format!("{} is not an IP address", quote(text))).help("write \"10.99.0.1\" or \"fd00::1\""))
        }
    }
}

fn prefix(text: &str) -> Result<IpNet, Fault> {
    let net: IpNet = text.parse().map_err(|_| {
        Fault::new(format!("{} is not a prefix", quote(text))).help("write \"10.1.0.0/16\" or \"fd00:1::/48\"")
    })?;
    if net.addr() != net.network() {
        let fault = Fault::new(format!("{} has host bits set", quote(text)));
        return Err(fault.help(format!("write \"{}\"", net.trunc())));
    }
    ordinary(net)
}

/// Refuses prefixes that would capture what belongs to every machine itself.
fn ordinary(net: IpNet) -> Result<IpNet, Fault> {
    if net.prefix_len() == 0 {
        let fault = Fault::new(format!("{net} is everything"));
        return Err(fault.help("a default route cannot be announced; name the prefixes behind the endpoint"));
    }
    for (special, what) in SPECIAL {
        if special.contains(&net) {
            return Err(Fault::new(format!("{net} is {what}")).help("name only what lies behind the endpoint"));
        }
        if net.contains(&special) {
            let fault = Fault::new(format!("{net} contains {special}, which is {what}"));
            return Err(fault.help("use longer prefixes without it"));
        }
    }
    Ok(net)
}

/// Parses one of `public_addresses`: `IP`, `IP:port`, `[v6]:port`, a DNS name, or a DNS name and port.
pub(crate) fn public_address(text: &str) -> Result<PublicAddress, Fault> {
    const FORMS: &str = "write \"192.0.2.1\", \"192.0.2.1:6374\", \"[2001:db8::1]:6374\" or \"host.example:6374\"";
    address_with(text, DEFAULT_PORT, FORMS)
}

/// Parses one of `tls_addresses`, in the forms of a public address.
pub(crate) fn tls_address(text: &str) -> Result<PublicAddress, Fault> {
    const FORMS: &str = "write \"192.0.2.1\", \"192.0.2.1:443\", \"[2001:db8::1]:443\" or \"relay.example:443\"";
    address_with(text, TLS_PORT, FORMS)
}

/// Parses a local address to listen on, with its port.
pub(crate) fn listener(text: &str) -> Result<SocketAddr, Fault> {
    let fault = || Fault::new(format!("{} is not an address with a port", quote(text)));
    let address: SocketAddr = text.parse().map_err(|_| fault().help("write \"0.0.0.0:443\" or \"[::]:443\""))?;
    if address.port() == 0 || address.ip().is_multicast() {
        return Err(fault().help("use a local address, and a port of 1 to 65535"));
    }
    Ok(address)
}

/// The port of STUN over UDP (RFC 8489 §18.6).
const STUN_PORT: u16 = 3478;

/// Parses one of `stun_servers`, in the forms of a public address.
pub(crate) fn stun_server(text: &str) -> Result<PublicAddress, Fault> {
    const FORMS: &str = "write \"stun.example:3478\", \"192.0.2.1:3478\" or \"[2001:db8::1]:3478\"";
    address_with(text, STUN_PORT, FORMS)
}

/// Writes what a public address, or one like it, is read from.
pub(crate) fn show(PublicAddress { host, port }: &PublicAddress) -> String {
    match host {
        Host::Ip(ip) => SocketAddr::new(*ip, *port).to_string(),
        Host::Name(name) => format!("{name}:{port}"),
    }
}

fn address_with(text: &str, default_port: u16, forms: &'static str) -> Result<PublicAddress, Fault> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return dialable(text, ip, default_port, default_port);
    }
    if let Ok(socket) = text.parse::<SocketAddr>() {
        if matches!(socket, SocketAddr::V6(v6) if v6.scope_id() != 0) {
            return Err(Fault::new(format!("{} has a zone", quote(text))).help("remove %…: it means nothing elsewhere"));
        }
        return dialable(text, socket.ip(), socket.port(), default_port);
    }
    if let Some(ip) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse::<Ipv6Addr>().ok())
    {
        return dialable(text, IpAddr::V6(ip), default_port, default_port);
    }
    let (name, port) = match text.split_once(':') {
        None => (text, default_port),
        Some((name, port)) => {
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let port = if digits { port.parse().ok() } else { None };
            (name, port.ok_or_else(|| not_dialable(text).help(forms))?)
        }
    };
    let name = dns_name(name).ok_or_else(|| not_dialable(text).help(forms))?;
    with_port(text, Host::Name(name), port, default_port)
}

fn not_dialable(text: &str) -> Fault {
    Fault::new(format!("{} is neither an address nor a DNS name, with or without a port", quote(text)))
}

fn dialable(text: &str, ip: IpAddr, port: u16, default_port: u16) -> Result<PublicAddress, Fault> {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if ip.is_unspecified() || ip.is_multicast() || local {
        return Err(Fault::new(format!("nobody can dial {}", quote(text))).help("write the address of one machine"));
    }
    with_port(text, Host::Ip(ip), port, default_port)
}

fn with_port(text: &str, host: Host, port: u16, default_port: u16) -> Result<PublicAddress, Fault> {
    if port == 0 {
        let fault = Fault::new(format!("{} has port 0", quote(text)));
        return Err(fault.help(format!("use 1 to 65535, or leave the port out for {default_port}")));
    }
    Ok(PublicAddress { host, port })
}

/// Checks a DNS name (RFC 1123 §2.1) and puts it in lower case. A last label of digits only is a mistyped address.
fn dns_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        let characters = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        characters && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    let digits = last.bytes().all(|b| b.is_ascii_digit());
    (name.len() <= 253 && name.split('.').all(label) && !digits).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
        let Fault { message, help } = result.unwrap_err();
        format!("{message}; {}", help.unwrap_or_default())
    }

    #[test]
    fn a_subnet_is_a_canonical_prefix() {
        assert_eq!(subnet("10.233.0.0/18"), Ok("10.233.0.0/18".parse().unwrap()));
        assert_eq!(said(subnet("10.0.0.1/8")), "\"10.0.0.1/8\" has host bits set; write \"10.0.0.0/8\"");
        assert_eq!(said(subnet("fd00::1/64")), "\"fd00::1/64\" has host bits set; write \"fd00::/64\"");
        assert_eq!(
            said(subnet("10.0.0.1")),
            "\"10.0.0.1\" has no prefix length; write \"10.0.0.1/32\" for this address alone"
        );
        assert!(said(subnet("10.0.0.0/33")).contains("is not a prefix"));
        assert_eq!(node_subnet("192.168.1.4"), Ok("192.168.1.4/32".parse().unwrap()));
        assert_eq!(node_subnet("192.168.1.0/24"), Ok("192.168.1.0/24".parse().unwrap()));
    }

    #[test]
    fn what_belongs_to_every_machine_is_refused() {
        for (text, word) in [
            ("0.0.0.0/0", "everything"),
            ("::/0", "everything"),
            ("127.1.0.0/16", "loopback"),
            ("::1/128", "loopback"),
            ("::/128", "unspecified"),
            ("0.0.0.0/32", "unspecified"),
            ("224.0.0.0/24", "multicast"),
            ("ff02::/16", "multicast"),
            ("169.254.1.0/24", "link-local"),
            ("fe80::/64", "link-local"),
            ("255.255.255.255/32", "broadcast"),
            ("::ffff:10.0.0.0/104", "IPv4-mapped"),
            ("64.0.0.0/2", "loopback"),
            ("128.0.0.0/1", "link-local"),
            ("f000::/4", "link-local"),
        ] {
            let said = said(subnet(text));
            assert!(said.contains(word), "{text}: {said}");
        }
        for text in ["10.0.0.0/8", "100.64.0.0/10", "fc00::/7", "2000::/3", "64:ff9b::/96"] {
            assert!(subnet(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_mesh_address_has_no_length() {
        assert_eq!(mesh_address("fd00::7"), Ok("fd00::7".parse().unwrap()));
        assert_eq!(
            said(mesh_address("10.9.0.1/24")),
            "\"10.9.0.1/24\" is a prefix, not an address; write \"10.9.0.1\""
        );
        assert!(said(mesh_address("127.0.0.1")).contains("loopback"));
        assert!(said(mesh_address("x")).contains("is not an IP address"));
    }

    #[test]
    fn public_addresses_have_six_forms() {
        let ip = |text: &str| Host::Ip(text.parse().unwrap());
        let name = |text: &str| Host::Name(text.into());
        for (text, host, port) in [
            ("60.247.88.194", ip("60.247.88.194"), 6374),
            ("60.247.88.194:7000", ip("60.247.88.194"), 7000),
            ("2001:db8::1", ip("2001:db8::1"), 6374),
            ("[2001:db8::1]", ip("2001:db8::1"), 6374),
            ("[2001:db8::1]:7000", ip("2001:db8::1"), 7000),
            ("Hub.Example.", name("hub.example"), 6374),
            ("hub.example:7000", name("hub.example"), 7000),
            ("localhost", name("localhost"), 6374),
        ] {
            assert_eq!(public_address(text), Ok(PublicAddress { host, port }), "{text}");
        }
        for text in [
            "",
            ":6374",
            "a b",
            "1.2.3",
            "300.1.1.1",
            "x:",
            "x:y",
            "x:70000",
            "x:+1",
            "[::1]:x",
            "-a.b",
            "a..b",
            "https://x",
        ] {
            assert!(said(public_address(text)).contains("is neither an address nor a DNS name"), "{text}");
        }
        assert!(said(public_address("hub.example:0")).contains("port 0"));
        assert!(said(public_address("0.0.0.0")).contains("nobody can dial"));
        assert!(said(public_address("[ff02::1]:5")).contains("nobody can dial"));
        assert!(said(public_address("[fe80::1%3]:5")).contains("zone"));
    }

    #[test]
    fn a_tls_address_has_its_own_default_port_and_a_listener_needs_one() {
        assert_eq!(tls_address("relay.example").unwrap().port, 443);
        assert_eq!(tls_address("192.0.2.1:8443").unwrap().port, 8443);
        assert!(said(tls_address("relay.example:0")).contains("leave the port out for 443"));
        assert_eq!(listener("0.0.0.0:443"), Ok("0.0.0.0:443".parse().unwrap()));
        assert_eq!(listener("[::]:8443"), Ok("[::]:8443".parse().unwrap()));
        for text in ["443", "0.0.0.0", "relay.example:443", "0.0.0.0:0", "224.0.0.1:443"] {
            assert!(said(listener(text)).contains("is not an address with a port"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".*") {
            let _ = (subnet(&text), node_subnet(&text), mesh_address(&text), public_address(&text));
        }
    }
}
