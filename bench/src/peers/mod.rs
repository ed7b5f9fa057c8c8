//! The peers as data: what each needs, and how it is started and configured. To add one, write a file here and name it in
//! [`PEERS`].

mod easytier;
mod limits;
pub(crate) mod meshd;
mod nebula;
mod openvpn;
mod tinc;
mod veth;
mod vpncloud;
mod wireguard;

use std::process::Command;

use crate::Outcome;
use crate::testbed::Side;

/// A tunnel, or a limit to compare tunnels with.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    /// What it is and how it is set up, for the record.
    pub(crate) about: &'static str,
    /// Not a tunnel that somebody could use, but a bound for those.
    pub(crate) is_limit: bool,
    /// Every program that it needs; the first is the daemon.
    pub(crate) programs: &'static [&'static str],
    pub(crate) install: Install,
    /// The option that makes the daemon tell its version, where it has one.
    pub(crate) version: Option<&'static str>,
    /// The tunnel MTU that it has by default, or that is advised for a link of 1500.
    pub(crate) mtu: u16,
    pub(crate) over: Over,
    /// Once before both sides start: keys and certificates.
    pub(crate) prepare: fn(&[&Side; 2]) -> Outcome,
    /// The daemon's command line, in the foreground; none where there is no daemon.
    pub(crate) start: fn(&Side) -> Outcome<Option<Command>>,
    /// After the start: interface, address and MTU, as far as the daemon leaves them to others.
    pub(crate) configure: fn(&Side) -> Outcome,
}

/// Where traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Through the tunnel's addresses.
    Tunnel,
    /// Straight over the link.
    Link,
}

/// How a peer comes onto the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Install {
    /// Debian packages.
    Debian(&'static [&'static str]),
    /// A package of crates.io and its version; and Debian packages that it needs.
    Crate { package: &'static str, version: &'static str, debian: &'static [&'static str] },
    /// By hand.
    Other(&'static str),
}

impl Install {
    /// What to tell the user.
    pub(crate) fn hint(self) -> String {
        match self {
            Self::Debian(packages) => format!("install: apt-get install {}, or --install", packages.join(" ")),
            Self::Crate { package, version, debian } => {
                let also =
                    if debian.is_empty() { String::new() } else { format!(", apt-get install {}", debian.join(" ")) };
                format!("install: cargo install --locked {package}@{version}{also}, or --install")
            }
            Self::Other(hint) => hint.to_owned(),
        }
    }
}

/// Every peer, in the order of the tables: limits, meshd, the others.
pub(crate) const PEERS: &[&Peer] = &[
    &veth::VETH,
    &limits::FWD_GSO,
    &limits::RTC_NULL,
    &limits::RTC,
    &meshd::MESHD,
    &meshd::MESHD_CHACHA,
    &wireguard::WIREGUARD_GO,
    &wireguard::WIREGUARD_GO_2026,
    &wireguard::BORINGTUN,
    &wireguard::GOTATUN,
    &nebula::NEBULA,
    &nebula::NEBULA_1_11,
    &vpncloud::VPNCLOUD,
    &easytier::EASYTIER,
    &tinc::TINC,
    &openvpn::OPENVPN,
];

/// Every peer, and the variants of meshd, which are measured only when they are asked for by name.
pub(crate) fn all() -> impl Iterator<Item = &'static Peer> {
    PEERS.iter().copied().chain([&meshd::MESHD_BASE]).chain(meshd::VARIANTS)
}

/// For peers without anything to prepare.
fn nothing_to_prepare(_: &[&Side; 2]) -> Outcome {
    Ok(())
}
