//! The daemon: whether it lives, and what it has.

use super::facts::{Alive, Facts, Life, PortHolder};
use super::files;
use super::finding::{Check, Finding};

/// Descriptors that the daemon should be allowed: a spray takes 256, the API 64, and each member over TLS one.
const DESCRIPTORS: u64 = 1024;

const DAEMON: Check = Check("daemon");
const OFFLOADS: Check = Check("offloads");
const FILES: Check = Check("files");
const PORT: Check = Check("port");

pub(super) fn daemon(facts: &Facts) -> Vec<Finding> {
    let socket = facts.daemon.socket.display();
    match &facts.daemon.life {
        Life::Barred => {
            let fix = "run this as root or as a member of the socket's group";
            vec![DAEMON.skipped(format!("{socket} may not be opened by this user"), fix)]
        }
        Life::Absent if facts.daemon.has_socket_file => {
            let found = format!("no daemon listens on {socket}, though the file is there: it was killed");
            vec![DAEMON.warn(found, "start it: systemctl start meshd, or `meshd up`")]
        }
        Life::Absent => {
            let found = format!("no daemon listens on {socket}");
            vec![DAEMON.warn(found, "start it: systemctl start meshd, or `meshd up`")]
        }
        Life::Silent { pid } => {
            let process = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let found = format!("the daemon{process} listens on {socket} and does not answer: it hangs or is stopped");
            vec![DAEMON.fail(found, "restart it: systemctl restart meshd")]
        }
        Life::Alive(alive) => alive_findings(alive),
    }
}

fn alive_findings(alive: &Alive) -> Vec<Finding> {
    let pid = alive.pid.map_or_else(|| "in another namespace".to_owned(), |pid| format!("pid {pid}"));
    let own = env!("CARGO_PKG_VERSION");
    let mut findings = vec![if alive.version == own {
        DAEMON.ok(format!("it answers: version {own}, {pid}"))
    } else {
        let found = format!("it is version {}, and this program {own}", alive.version);
        DAEMON.warn(found, "restart it: systemctl restart meshd")
    }];
    if let Some(first) = alive.health.first() {
        let more = alive.health.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        findings.push(DAEMON.warn(format!("it reports: {first}{more}"), "meshd status"));
    }
    findings
}

pub(super) fn offloads(facts: &Facts) -> Vec<Finding> {
    let Life::Alive(alive) = &facts.daemon.life else { return Vec::new() };
    if alive.is_resting {
        return vec![rests(OFFLOADS, facts)];
    }
    let wanted = ["tun-tcp", "tun-udp", "udp-gso", "udp-gro"];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !alive.offloads.iter().any(|has| has == name)).collect();
    let is_chosen = facts.config.good().is_some_and(|outline| {
        let without = |name: &str| outline.dataplane.without.iter().any(|offload| offload.as_str() == name);
        !outline.dataplane.offload || missing.iter().all(|name| without(name))
    });
    vec![match missing.as_slice() {
        [] => OFFLOADS.ok(alive.offloads.join(", ")),
        _ if is_chosen => OFFLOADS.ok(format!("{} off, as configured", missing.join(", "))),
        _ => OFFLOADS.warn(
            format!("{} off: large transfers cost more CPU", missing.join(", ")),
            "see the line of the kernel above, and [dataplane] offload and without in meshd.toml",
        ),
    }]
}

pub(super) fn descriptors(facts: &Facts) -> Vec<Finding> {
    let Life::Alive(alive) = &facts.daemon.life else { return Vec::new() };
    let Ok(process) = &alive.process else { return Vec::new() };
    let limit = process.descriptor_limit;
    let used = process.descriptors.as_ref().copied().unwrap_or_default();
    let fix = "set LimitNOFILE=4096 in its unit, or `ulimit -n 4096` before `meshd up`";
    vec![if limit < DESCRIPTORS {
        FILES.warn(format!("the daemon may open {limit} files: a spray or many members over TLS take more"), fix)
    } else if used as u64 > limit / 10 * 8 {
        FILES.warn(format!("the daemon has {used} of {limit} files open"), fix)
    } else {
        FILES.ok(format!("the daemon may open {limit} files and has {used}"))
    }]
}

pub(super) fn port(facts: &Facts) -> Vec<Finding> {
    let Some(outline) = facts.config.good() else {
        return vec![PORT.skipped("the configuration does not say which", "mend the configuration first")];
    };
    let port = outline.listen.port;
    if let Life::Alive(alive) = &facts.daemon.life {
        return vec![if alive.is_resting {
            rests(PORT, facts)
        } else if port != 0 && alive.port != port {
            let found = format!("the daemon listens on UDP port {}, and {port} is configured", alive.port);
            PORT.warn(found, "restart it: systemctl restart meshd")
        } else {
            PORT.ok(format!("the daemon listens on UDP port {}", alive.port))
        }];
    }
    let holders = match &facts.port_holders {
        Err(reason) => return vec![PORT.skipped(reason, format!("ss -ulnp 'sport = :{port}'"))],
        Ok(holders) => holders,
    };
    vec![match (holders.first(), &facts.daemon.life) {
        (None, _) => PORT.ok(if port == 0 { "any free one".to_owned() } else { format!("UDP port {port} is free") }),
        (Some(_), Life::Silent { .. } | Life::Barred) => PORT.ok(format!("somebody listens on UDP port {port}")),
        (Some(holder), Life::Absent | Life::Alive(_)) => PORT.fail(
            format!("UDP port {port} is taken by {}", name(holder)),
            "stop that program, or choose another [listen] port and tell the peers",
        ),
    }]
}

/// Said of what only a node has.
fn rests(check: Check, facts: &Facts) -> Finding {
    let fix = facts.config.good().map_or_else(|| "mend the configuration first".to_owned(), files::select);
    check.skipped("not selected: nothing runs", fix)
}

fn name(holder: &PortHolder) -> String {
    match &holder.process {
        Some((pid, name)) => format!("{name} (pid {pid})"),
        None => format!("a process of user {}", holder.uid),
    }
}
