//! What the kernel can do, by asking it rather than by its version.

use std::fs::{self, OpenOptions};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use super::super::facts::{Capabilities, KernelFacts, Life, Look};
use crate::dataplane::device::{OffloadLevel, TunDevice};
use crate::sys::udp::{SocketOption, set_option};

/// Name of the interface that is made for a moment.
const PROBE: &str = "meshdoctor%d";

pub(super) fn kernel(life: &Life) -> KernelFacts {
    let capabilities = capabilities_of("self");
    let has = |option, value| -> Look<bool> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        Ok(set_option(socket.as_fd(), option, value).is_ok())
    };
    KernelFacts {
        release: fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|text| text.trim().to_owned())
            .map_err(|error| error.to_string()),
        has_udp_segment: has(SocketOption::Segment, 0),
        has_udp_gro: has(SocketOption::Gro, 1),
        tun: OpenOptions::new().read(true).write(true).open("/dev/net/tun").map(drop).map_err(|error| error.kind()),
        tun_level: tun_level(life, capabilities.as_ref().is_ok_and(|own| own.has_net_admin())),
        capabilities,
    }
}

/// Effective capabilities of a process.
pub(super) fn capabilities_of(process: &str) -> Look<Capabilities> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let hex = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = hex.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.map(Capabilities).ok_or_else(|| format!("{path} has no CapEff"))
}

/// What a daemon has found out, or a try with an interface of our own, which is gone when this returns.
fn tun_level(life: &Life, may_try: bool) -> Look<OffloadLevel> {
    let is_used = |name: &str| matches!(life, Life::Alive(alive) if alive.offloads.iter().any(|has| has == name));
    if is_used("tun-udp") {
        return Ok(OffloadLevel::TcpUdp);
    }
    if !may_try {
        return Err("this user may not make interfaces".to_owned());
    }
    let opened = TunDevice::open(PROBE, 1, OffloadLevel::TcpUdp).map_err(|error| error.to_string())?;
    Ok(opened.1.offload)
}
