//! What each part of the daemon is told, made of the configuration and of what was found out about the machine at the start.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use config::{Config, DataplaneConfig, LanMode, Offload};
use ipnet::IpNet;
use proto::account::RelayRates;
use proto::data::Spread;
use proto::data::batch::MAX_SEND;
use proto::handshake::{Identity, Offer};
use proto::member::{Endpoint, Host as Dial, Members, Policy};
use proto::node::{LanPolicy, Settings};
use proto::packet::MAX_SEGMENTS;
use proto::path::Balance;
use proto::session::{AesBackend, has_fast_aes, supported_suites};
use proto::wire::{Capabilities, OVERHEAD, Suites};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::api::model::NodeStatus;
use crate::dataplane::device::OffloadLevel;
use crate::host::{MAIN_TABLE, Plan, PlannedRoute};
use crate::lan::LanSettings;
use crate::nat::{NatSettings, Pace};

/// Packets that the kernel queues for the TUN device. Measured: less costs throughput, more gains nothing.
const TX_QUEUE: u32 = 500;

/// IPv6 and UDP header, and what a data datagram adds, in bytes.
const OUTER_HEADERS: u32 = 40 + 8 + OVERHEAD as u32;

/// The device's MTU over Ethernet of 1,500 bytes.
pub(crate) const ETHERNET: u16 = 1500 - OUTER_HEADERS as u16;

/// The largest MTU that is chosen without being configured: that over a jumbo frame of 9,000 bytes.
const JUMBO: u16 = 9000 - OUTER_HEADERS as u16;

/// What was found out when device and sockets were opened, and stays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// What the device takes.
    pub(crate) offload: OffloadLevel,
    /// The UDP port.
    pub(crate) port: u16,
    /// Of the device, in bytes.
    pub(crate) mtu: u16,
    /// The ciphers that are offered.
    pub(crate) suites: Suites,
}

/// What the core is told; `None` where the mesh does not have this node.
pub(crate) fn node(config: &Config, facts: &Facts) -> Option<Settings> {
    let own = own_endpoint(config)?;
    Some(Settings {
        name: config.node.name.clone(),
        identity: Identity::new(config.node.secret_key.clone(), config.members.mesh, config.node.preshared_key.clone()),
        offer: offer(config, facts),
        rekey_after: config.session.rekey,
        idle_after: config.session.idle,
        port: facts.port,
        punch: config.nat.punch,
        spray: config.nat.spray,
        relay: own.relays().then_some(relay_rates(config)),
        lan: lan_policy(config),
        balance: balance(config),
        mtu: facts.mtu,
        // Whoever can be dialled need not keep a way open.
        keepalive: config.session.keepalive.filter(|_| own.public_addresses.is_empty()),
        unselected: config.unselected.clone(),
    })
}

/// What LAN discovery is to do; nothing without a token.
pub(crate) fn lan(config: &Config, port: u16, seed: [u8; 32]) -> Option<LanSettings> {
    let mut lan = config.lan.clone();
    let token = lan.token.take()?;
    let (mesh, public_key) = (config.members.mesh, config.node.secret_key.public_key());
    Some(LanSettings { config: lan, token, mesh, public_key, port, seed })
}

/// Which gateways and servers are to be asked.
pub(crate) fn nat(config: &Config, port: u16, seed: [u8; 32]) -> NatSettings {
    NatSettings {
        mapped_port: NonZeroU16::new(port).filter(|_| config.nat.port_mapping),
        stun_servers: config.nat.stun_servers.clone(),
        pace: Pace::default(),
        seed,
    }
}

/// Where TLS is to be served; nowhere unless this node is a relay with addresses for it.
pub(crate) fn tls_places(config: &Config) -> Vec<SocketAddr> {
    let own = own_endpoint(config).filter(|own| own.serves_tls());
    let ports: BTreeSet<u16> = own.iter().flat_map(|own| &own.tls_addresses).map(|address| address.port).collect();
    let everywhere = |port: &u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port));
    match config.listen.tls.filter(|_| own.is_some()) {
        Some(at) => vec![at],
        None => ports.iter().map(everywhere).collect(),
    }
}

/// Why TLS cannot be served at an address, and what to do.
pub(crate) fn tls_error(at: SocketAddr, error: &std::io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => "another program has it",
        Some(libc::EACCES) => "ports below 1024 need CAP_NET_BIND_SERVICE",
        Some(libc::EADDRNOTAVAIL) => "this machine has no such address",
        _ => "TLS cannot be served there",
    };
    let help = "name another place in [listen] tls, with the port in this node's tls_addresses, or remove those";
    format!("cannot listen on TCP {at} for TLS: {error}; {hint}: {help}")
}

/// What an operator should know of the configuration.
pub(crate) fn warnings(config: &Config, facts: &Facts) -> Vec<String> {
    let ciphers = cipher_warning(config.dataplane.ciphers, facts.suites);
    config.warnings.iter().cloned().chain(ciphers).collect()
}

/// The ciphers to offer: what of the configured ones this CPU runs.
///
/// # Errors
/// Where that is none.
pub(crate) fn suites(config: &Config) -> Result<Suites, String> {
    offered(config.dataplane.ciphers, supported_suites())
}

/// 32 bytes from the system's generator.
///
/// # Errors
/// When it has none.
pub(crate) fn seed() -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(seed)
}

/// The highest level of the device that the configuration allows.
pub(crate) fn offload_level(dataplane: &DataplaneConfig) -> OffloadLevel {
    let steps = [
        (Offload::TunWrite, OffloadLevel::Plain),
        (Offload::TunTcp, OffloadLevel::Write),
        (Offload::TunUdp, OffloadLevel::Tcp),
    ];
    let barred = steps.into_iter().find(|(offload, _)| !dataplane.uses(*offload));
    barred.map_or(OffloadLevel::TcpUdp, |(_, level)| level)
}

/// What neighbours may do. Rules for a table of our own come before table main, where direct routes would stand.
fn lan_policy(config: &Config) -> LanPolicy {
    LanPolicy {
        implicit_community: config.lan.implicit_community,
        direct: config.lan.mode == LanMode::Direct && config.interface.table == MAIN_TABLE,
    }
}

fn relay_rates(config: &Config) -> RelayRates {
    RelayRates { total: config.relay.rate.bytes(), member: config.relay.member_rate.bytes() }
}

fn offer(config: &Config, facts: &Facts) -> Offer {
    let mut capabilities = Capabilities::default();
    if has_fast_aes() {
        capabilities = capabilities.and(Capabilities::FAST_AES);
    }
    // A device that takes finished packets only would have to undo what these allow.
    let leaves = |left: Offload| facts.offload != OffloadLevel::Plain && config.dataplane.uses(left);
    if leaves(Offload::Coalesce) {
        capabilities = capabilities.and(Capabilities::COAL);
    }
    if leaves(Offload::PartialChecksum) {
        capabilities = capabilities.and(Capabilities::CSUM_PARTIAL);
    }
    let workers = config.dataplane.workers;
    let lanes = match config.paths.balance {
        config::Balance::Best => workers,
        config::Balance::Flow => Spread::lanes(workers),
    };
    Offer { suites: facts.suites, capabilities, lanes }
}

fn balance(config: &Config) -> Balance {
    match config.paths.balance {
        config::Balance::Best => Balance::Best,
        config::Balance::Flow => Balance::Flow { workers: config.dataplane.workers },
    }
}

/// What of the configured ciphers this CPU runs; an error where that is none.
fn offered(configured: Suites, supported: Suites) -> Result<Suites, String> {
    let suites = configured.common(supported);
    if suites.is_empty() {
        let hint = "it has no instructions for AES; add \"auto\" to [dataplane] cipher";
        return Err(format!("this CPU runs none of the configured ciphers ({configured}): {hint}"));
    }
    Ok(suites)
}

/// What an operator should know of configured ciphers that are not offered.
fn cipher_warning(configured: Suites, offered: Suites) -> Option<String> {
    let missing = configured.without(offered);
    let why = "are configured and not offered to peers, for this CPU has no instructions for AES";
    (!missing.is_empty()).then(|| format!("the ciphers {missing} {why}"))
}

/// What the machine is to be given: our addresses, and routes to everything of the peers that policy lets us talk to.
pub(crate) fn plan(config: &Config, mtu: u16) -> Plan {
    let Config { members, .. } = config;
    let Members { mesh, endpoints, .. } = members;
    let policy = Policy::new(members);
    let own = &config.node.name;
    let ours = own_endpoint(config).map(|own| own.subnets.as_slice()).unwrap_or_default();
    let mut plan = Plan {
        mtu: mtu.into(),
        txqueuelen: TX_QUEUE,
        gso_max_segs: Some(gso_max_segs(mtu.min(ETHERNET))),
        ..Plan::default()
    };
    for endpoint in endpoints {
        if endpoint.name == *own {
            plan.addresses = endpoint.mesh_addresses(mesh).into_iter().map(IpNet::from).collect();
            plan.forward_v4 = endpoint.subnets.iter().any(|net| matches!(net, IpNet::V4(_)));
            plan.forward_v6 = endpoint.subnets.iter().any(|net| matches!(net, IpNet::V6(_)));
        } else if policy.check(own, &endpoint.name).is_ok() {
            let route = |prefix| PlannedRoute { prefix, owner: endpoint.name.clone() };
            // What it shares with this node is this node's own.
            let others = endpoint.prefixes(mesh).into_iter().filter(|prefix| !ours.contains(prefix));
            plan.routes.extend(others.map(route));
            let outer = endpoint.public_addresses.iter().chain(&endpoint.tls_addresses);
            plan.underlay.extend(outer.filter_map(|address| match address.host {
                Dial::Ip(ip) => Some(ip),
                Dial::Name(_) => None,
            }));
        }
    }
    plan
}

/// The device's MTU for a machine whose widest link to peers carries packets of so many bytes. Where it is narrower than Ethernet,
/// others may have been meant: what a path really carries is found out for each.
pub(crate) fn mtu_over(widest: Option<u32>) -> u16 {
    let inner = widest.unwrap_or_default().saturating_sub(OUTER_HEADERS);
    u16::try_from(inner).unwrap_or(u16::MAX).clamp(ETHERNET, JUMBO)
}

/// Segments of a TSO packet, so that it fits one UDP GSO send; the kernel's default would need two for every packet. Larger
/// segments than those of Ethernet are fewer by themselves, for a super-packet has 64 KiB at most.
fn gso_max_segs(mtu: u16) -> u32 {
    let fits = MAX_SEND / (usize::from(mtu) + OVERHEAD);
    u32::try_from(fits.min(MAX_SEGMENTS)).unwrap_or(1)
}

fn own_endpoint(config: &Config) -> Option<&Endpoint> {
    config.members.endpoints.iter().find(|endpoint| endpoint.name == config.node.name)
}

/// This node as status output shows it.
pub(crate) fn node_status(config: &Config, facts: &Facts) -> NodeStatus {
    let own = own_endpoint(config);
    let addresses = own.map(|own| own.mesh_addresses(&config.members.mesh)).unwrap_or_default();
    let mut offloads = Vec::new();
    match facts.offload {
        OffloadLevel::Plain => {}
        OffloadLevel::Write => offloads.push(Offload::TunWrite.as_str()),
        OffloadLevel::Tcp => offloads.push(Offload::TunTcp.as_str()),
        OffloadLevel::TcpUdp => offloads.extend([Offload::TunTcp, Offload::TunUdp].map(Offload::as_str)),
    }
    let joined = [Offload::Coalesce, Offload::PartialChecksum];
    let joined = joined.into_iter().filter(|_| facts.offload != OffloadLevel::Plain);
    let others = [Offload::UdpGso, Offload::UdpGro].into_iter().chain(joined);
    offloads.extend(others.filter(|offload| config.dataplane.uses(*offload)).map(Offload::as_str));
    NodeStatus {
        name: config.node.name.to_string(),
        mesh: config.mesh_name.clone(),
        mesh_digest: config.mesh_digest().to_string(),
        public_key: config.node.secret_key.public_key().to_string(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        interface: config.interface.name.clone(),
        port: facts.port,
        daemon: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: 0,
        offloads: offloads.into_iter().map(str::to_owned).collect(),
        aes_backend: Some(AesBackend::detect().name().to_owned()),
    }
}

/// The same of a node that does not run.
pub(crate) fn idle_status(config: &Config) -> NodeStatus {
    let facts = Facts { offload: OffloadLevel::Plain, port: 0, mtu: 0, suites: config.dataplane.ciphers };
    NodeStatus { offloads: Vec::new(), aes_backend: None, ..node_status(config, &facts) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::wire::Suite;

    #[test]
    fn doing_without_an_offload_bars_what_needs_it() {
        let level = |without: &[Offload], offload| {
            let without = without.to_vec();
            offload_level(&DataplaneConfig { workers: 1, offload, without, ciphers: Suites::DEFAULT })
        };
        assert_eq!(level(&[], true), OffloadLevel::TcpUdp);
        assert_eq!(level(&[Offload::TunUdp, Offload::UdpGso], true), OffloadLevel::Tcp);
        assert_eq!(level(&[Offload::TunTcp], true), OffloadLevel::Write);
        assert_eq!(level(&[Offload::TunUdp, Offload::TunWrite], true), OffloadLevel::Plain);
        assert_eq!(level(&[], false), OffloadLevel::Plain);
    }

    #[test]
    fn the_device_is_as_wide_as_the_widest_link_allows() {
        let expected = [(None, 1420), (Some(1280), 1420), (Some(1500), 1420), (Some(9000), 8920), (Some(65_536), 8920)];
        assert!(expected.into_iter().all(|(widest, mtu)| mtu_over(widest) == mtu));
    }

    #[test]
    fn a_tso_packet_of_the_most_segments_fits_one_send() {
        for mtu in [1280, 1420, 1500, 9000] {
            let segments = gso_max_segs(mtu) as usize;
            assert!(segments >= 1 && segments * (usize::from(mtu) + OVERHEAD) <= MAX_SEND);
        }
        assert_eq!(gso_max_segs(1420), 45);
    }

    #[test]
    fn ciphers_that_the_cpu_lacks_are_not_offered_and_said() {
        let aegis = Suites::of(&[Suite::Aegis128L, Suite::Aegis128X2]);
        let (all, without) = (Suites::of(&Suite::ALL), Suites::of(&Suite::ALL).without(aegis));
        assert_eq!(offered(all, all).unwrap(), all);
        assert_eq!(cipher_warning(all, all), None);
        assert_eq!(offered(Suites::DEFAULT.or(aegis), without).unwrap(), Suites::DEFAULT);
        let warning = cipher_warning(Suites::DEFAULT.or(aegis), Suites::DEFAULT).unwrap();
        assert!(warning.starts_with("the ciphers aegis-128x2, aegis-128l are configured"), "{warning}");
        let error = offered(aegis, without).unwrap_err().to_string();
        assert!(error.contains("none of the configured ciphers (aegis-128x2, aegis-128l)"), "{error}");
    }
}
