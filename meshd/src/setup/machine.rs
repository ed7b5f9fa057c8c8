//! What the machine tells of itself, and what follows from that for a new node: its name, where it is reached, which port and
//! which addresses are free.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::Path;

use ipnet::{IpNet, Ipv4Net};
use nix::net::if_::if_nametoindex;
use proto::id::{EndpointName, NameError};
use proto::member::DEFAULT_PORT;

use super::files::DEFAULT_FOLDER;
use super::{Error, random};
use crate::host::{Host, HostSettings};
use crate::underlay::Underlay;

/// The mesh's interface, whose addresses are no places to reach the node at.
pub(crate) const INTERFACE: &str = "mesh0";

/// Longest part of a name (RFC 1035 §2.3.4).
const LABEL: usize = 63;

/// Ports that are looked at, from the default on.
const PORTS: u16 = 16;

/// Interfaces that are looked at.
const INTERFACES: u8 = 64;

/// Networks that are drawn, for one of them to be free.
const DRAWS: usize = 32;

/// Second bytes of 10/8 that networks are drawn from: below and above are most sites' own numbers, and the defaults of
/// Kubernetes (10.96, 10.233, 10.244), OpenShift (10.128) and Docker's overlays.
const SECOND: std::ops::RangeInclusive<u8> = 16..=95;

/// What k3s takes for pods and services, within those.
const TAKEN: [u8; 2] = [42, 43];

/// How others reach this machine.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Addresses that lead here from anywhere.
    pub(crate) global: Vec<IpAddr>,
    /// Addresses that lead here from within a network.
    pub(crate) private: Vec<IpAddr>,
}

impl Places {
    /// Whether the machine has the address.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.global.contains(&ip) || self.private.contains(&ip)
    }
}

/// A network for a new mesh, and where this machine is reached.
///
/// # Errors
/// When the kernel does not tell its addresses and routes.
pub(crate) async fn look() -> Result<(Places, Option<Ipv4Net>), Error> {
    // It only looks, so it needs no place for a journal.
    let host = Host::new(HostSettings::new(INTERFACE, ""), Underlay::default())?;
    let mut seen = BTreeSet::new();
    let all = host.addresses().await?.into_iter().filter(|ip| seen.insert(*ip));
    let (global, private) = all.partition(|ip| is_global(*ip));
    let drawn: Vec<IpNet> = random::<DRAWS>()?.into_iter().zip(random::<DRAWS>()?).filter_map(network).collect();
    let routed = host.routed(&drawn).await?;
    let free = drawn.into_iter().find_map(|net| match net {
        IpNet::V4(v4) if !routed.contains(&net) => Some(v4),
        IpNet::V4(_) | IpNet::V6(_) => None,
    });
    Ok((Places { global, private }, free))
}

fn network((second, third): (u8, u8)) -> Option<IpNet> {
    let second = SECOND.start() + second % (SECOND.end() - SECOND.start() + 1);
    let net = Ipv4Net::new(Ipv4Addr::new(10, second, third, 0), 24).ok()?;
    (!TAKEN.contains(&second)).then_some(IpNet::V4(net))
}

/// Whether a prefix has addresses other than those of private networks: all of one such network begin and end in it.
pub(crate) fn is_public(net: &IpNet) -> bool {
    is_global(net.network()) || is_global(net.broadcast())
}

/// Whether an address leads here from other networks: none of RFC 1918, RFC 6598 and RFC 4193.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let is_shared = matches!(v4.octets(), [100, 64..=127, ..]);
            !(v4.is_private() || is_shared)
        }
        IpAddr::V6(v6) => !v6.is_unique_local(),
    }
}

/// The first interface from `mesh0` on that neither exists nor is the one of the machine's own node, which may not run now.
pub(crate) fn free_interface() -> String {
    let is_first_taken = Path::new(DEFAULT_FOLDER).join("meshd.toml").exists();
    let names = (0..INTERFACES).map(|number| format!("mesh{number}")).skip(usize::from(is_first_taken));
    let is_free = |name: &String| if_nametoindex(name.as_str()).is_err();
    names.into_iter().find(is_free).unwrap_or_else(|| INTERFACE.to_owned())
}

/// The first UDP port from the default on that no program has.
///
/// # Errors
/// When none of a few is free, or the system refuses.
pub(crate) fn free_port() -> io::Result<u16> {
    let taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
    for port in DEFAULT_PORT..DEFAULT_PORT + PORTS {
        let everywhere: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        // A machine without IPv6 refuses the one for another reason.
        if !everywhere.into_iter().any(|ip| UdpSocket::bind((ip, port)).is_err_and(|error| taken(&error))) {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("UDP ports {DEFAULT_PORT} and {} more are taken", PORTS - 1)))
}

/// A name for this machine in a mesh: `<mesh>.<hostname>`, both made valid.
///
/// # Errors
/// When even that is none.
pub(crate) fn own_name(mesh: &str) -> Result<EndpointName, NameError> {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name_of(mesh, &hostname)
}

fn name_of(mesh: &str, hostname: &str) -> Result<EndpointName, NameError> {
    let first = hostname.trim().split('.').next().unwrap_or_default();
    let node = label(first).filter(|node| node != "localhost").unwrap_or_else(|| "one".to_owned());
    format!("{}.{node}", label(mesh).unwrap_or_else(|| "mesh".to_owned())).parse()
}

/// A text as part of a name; `None` where nothing of it is left.
fn label(text: &str) -> Option<String> {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let all: String = text.chars().map(valid).take(LABEL).collect();
    let label = all.trim_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_mesh_and_hostname_make_a_name() {
        for (mesh, hostname, name) in [
            ("lab", "one", "lab.one"),
            ("Our Lab", "Shop_7.example.com\n", "our-lab.shop-7"),
            ("工厂", "localhost", "mesh.one"),
            ("-", "", "mesh.one"),
        ] {
            assert_eq!(name_of(mesh, hostname).unwrap().as_str(), name);
        }
        assert!(name_of(&"a".repeat(64), &"-b".repeat(64)).is_ok());
    }

    #[test]
    fn networks_are_drawn_where_few_have_theirs() {
        for bytes in (0..=255).flat_map(|second| [(second, 0), (second, 255)]) {
            let Some(IpNet::V4(net)) = network(bytes) else { continue };
            let [ten, second, ..] = net.network().octets();
            assert!(ten == 10 && SECOND.contains(&second) && !TAKEN.contains(&second) && net.prefix_len() == 24);
        }
    }

    #[test]
    fn addresses_of_networks_within_are_told_from_global_ones() {
        for (text, global) in [
            ("203.0.113.7", true),
            ("192.168.1.2", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("fd00::1", false),
            ("2001:db8::1", true),
        ] {
            assert_eq!(is_global(text.parse().unwrap()), global, "{text}");
        }
        for (text, public) in [
            ("10.1.0.0/16", false),
            ("10.0.0.0/8", false),
            ("10.0.0.0/7", true),
            ("0.0.0.0/0", true),
            ("192.168.7.1/32", false),
            ("1.1.1.0/24", true),
            ("fd00:1::/48", false),
            ("::/0", true),
        ] {
            assert_eq!(is_public(&text.parse().unwrap()), public, "{text}");
        }
    }

    #[test]
    fn a_port_that_a_program_has_is_passed_by() {
        let first = free_port().unwrap();
        let _held = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, first)).unwrap();
        assert_ne!(free_port().unwrap(), first);
    }
}
