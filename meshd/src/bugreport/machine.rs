//! Parts about the machine.

use std::fs;

use serde::Serialize;
use serde_json::json;

use super::archive::Part;
use super::pretty;
use crate::doctor::{Facts, Life};
use crate::tool;

/// Lines of the journal.
const JOURNAL: &str = "2000";

/// Interfaces, addresses, routes, rules, sysctls and packet filters.
pub(super) fn network(facts: &Facts) -> [Part; 3] {
    [
        Part::new("network.json", text(facts.network.as_ref())),
        Part::new("sysctls.json", text(Ok(&facts.sysctls))),
        Part::new("nft.json", text(facts.firewall.ruleset.as_ref())),
    ]
}

fn text(value: Result<&impl Serialize, &String>) -> Result<Vec<u8>, String> {
    serde_json::to_vec_pretty(value.map_err(Clone::clone)?).map_err(|error| error.to_string())
}

/// Memory, CPU, distribution, limits, and the log.
pub(super) fn system(facts: &Facts) -> Vec<Part> {
    let read = |path: &str| fs::read(path).map_err(|error| format!("{path}: {error}"));
    let pid = match &facts.daemon.life {
        Life::Alive(alive) => alive.pid,
        Life::Silent { pid } => *pid,
        Life::Absent | Life::Barred => None,
    };
    let of_daemon = |file: &str| {
        let pid = pid.ok_or_else(|| "there is no daemon, or none that is visible from here".to_owned())?;
        read(&format!("/proc/{pid}/{file}"))
    };
    let journal = tool::run("journalctl", &["-u", "meshd", "-n", JOURNAL, "--no-pager", "-o", "short-iso"]);
    vec![
        Part::new("system/os-release", read("/etc/os-release")),
        Part::new("system/meminfo", read("/proc/meminfo")),
        Part::new("system/cpu.json", cpu()),
        Part::new("system/version", read("/proc/version")),
        Part::new("system/uptime", read("/proc/uptime")),
        Part::new("system/udp-counters", read("/proc/self/net/snmp")),
        Part::new("system/daemon-limits", of_daemon("limits")),
        Part::new("system/daemon-status", of_daemon("status")),
        Part::new("journal.txt", journal),
    ]
}

/// Number, model and instructions of the processors, of the first of them: the others are alike.
fn cpu() -> Result<Vec<u8>, String> {
    let text = fs::read_to_string("/proc/cpuinfo").map_err(|error| format!("/proc/cpuinfo: {error}"))?;
    let field = |names: &[&str]| {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim()).next();
        found.map(str::to_owned)
    };
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    Ok(pretty(&json!({
        "processors": count,
        "model": field(&["model name", "Model", "CPU part"]),
        "flags": field(&["flags", "Features"]),
    })))
}
