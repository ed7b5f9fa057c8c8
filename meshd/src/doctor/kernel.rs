//! What kernel and process can do.

use std::io::ErrorKind;

use super::facts::{Capabilities, Facts, Life};
use super::finding::{Check, Finding};
use crate::dataplane::device::OffloadLevel;

const KERNEL: Check = Check("kernel");
const TUN: Check = Check("tun");
const RIGHTS: Check = Check("rights");

/// The first port that everybody may bind (`net.ipv4.ip_unprivileged_port_start`, by default).
const UNPRIVILEGED_PORT: u16 = 1024;

pub(super) fn kernel(facts: &Facts) -> Vec<Finding> {
    let kernel = &facts.kernel;
    let release = kernel.release.as_deref().unwrap_or("of unknown version");
    let tun = kernel.tun_level.as_ref().copied().map(|level| level == OffloadLevel::TcpUdp);
    let features = [
        ("UDP_SEGMENT (4.18)", kernel.has_udp_segment.as_ref().copied().ok()),
        ("UDP_GRO (5.0)", kernel.has_udp_gro.as_ref().copied().ok()),
        ("TUN USO (6.2)", tun.ok()),
    ];
    let named = |wanted: Option<bool>| -> Vec<&str> {
        features.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect()
    };
    let (has, lacks) = (named(Some(true)), named(Some(false)));
    if lacks.is_empty() {
        return vec![KERNEL.ok(format!("Linux {release} has {}", has.join(", ")))];
    }
    let found = format!("Linux {release} lacks {}: it works, and more slowly", lacks.join(", "));
    vec![KERNEL.warn(found, "use a newer kernel where speed matters; the number is the first that has it")]
}

pub(super) fn tun(facts: &Facts) -> Vec<Finding> {
    vec![match facts.kernel.tun {
        Ok(()) => TUN.ok("/dev/net/tun opens"),
        Err(ErrorKind::NotFound) => {
            TUN.fail("there is no /dev/net/tun", "modprobe tun; in a container pass the device (--device /dev/net/tun)")
        }
        Err(ErrorKind::PermissionDenied) if !facts.is_root => {
            TUN.skipped("/dev/net/tun may not be opened by this user", "run this as root or as the daemon's user")
        }
        Err(kind) => TUN.fail(
            format!("/dev/net/tun does not open: {kind}"),
            "modprobe tun; in a container or a unit allow the device (DeviceAllow=/dev/net/tun rw)",
        ),
    }]
}

pub(super) fn capabilities(facts: &Facts) -> Vec<Finding> {
    let privileged = privileged_port(facts);
    if let Life::Alive(alive) = &facts.daemon.life {
        return vec![match &alive.process {
            Err(reason) => RIGHTS.skipped(format!("of the daemon: {reason}"), "run this as root"),
            Ok(process) => judge("the daemon", process.capabilities, privileged),
        }];
    }
    vec![match &facts.kernel.capabilities {
        Err(reason) => RIGHTS.skipped(reason, "look at CapEff in /proc/self/status"),
        Ok(own) if own.has_net_admin() || facts.is_root => judge("this process", *own, privileged),
        Ok(_) => RIGHTS.skipped("this user has no CAP_NET_ADMIN, which the daemon needs", "run this as root"),
    }]
}

fn judge(who: &str, has: Capabilities, privileged: Option<u16>) -> Finding {
    if !has.has_net_admin() {
        let fix = "run `meshd up` as root, or give its unit AmbientCapabilities=CAP_NET_ADMIN";
        return RIGHTS.fail(format!("{who} lacks CAP_NET_ADMIN: no interface, no routes"), fix);
    }
    match privileged.filter(|_| !has.has_net_bind_service()) {
        Some(port) => RIGHTS.fail(
            format!("{who} lacks CAP_NET_BIND_SERVICE, which port {port} needs"),
            "add CAP_NET_BIND_SERVICE to AmbientCapabilities of its unit, or choose a port from 1024 on",
        ),
        None => RIGHTS.ok(format!("{who} has CAP_NET_ADMIN")),
    }
}

/// A port below 1024 that the node is to listen on.
fn privileged_port(facts: &Facts) -> Option<u16> {
    let outline = facts.config.good()?;
    let own = outline.own().filter(|own| own.serves_tls());
    let tls = match outline.listen.tls {
        Some(at) if own.is_some() => vec![at.port()],
        _ => own.iter().flat_map(|own| &own.tls_addresses).map(|address| address.port).collect(),
    };
    let start = facts.sysctls.get("net/ipv4/ip_unprivileged_port_start");
    let start = start.and_then(|start| start.parse().ok()).unwrap_or(UNPRIVILEGED_PORT);
    std::iter::once(outline.listen.port).chain(tls).find(|port| (1..start).contains(port))
}
