//! Parts about the machine.

use std::fs;

use serde::Serialize;
use serde_json::{Value, json};

use super::archive::Part;
use super::pretty;
use crate::doctor::{Facts, Life};
use crate::tool;

/// Said of the journal where the daemon that runs does not write it.
const STDERR: &str = "the log of the daemon that runs went to its standard error, not to the journal";

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

/// What the journal has of meshd; where it has nothing, `log` tells whether the log goes there at all (the answer of `/v1/log`).
pub(super) fn journal(log: Option<&[u8]>) -> Part {
    let journal = tool::run("journalctl", &["-u", "meshd", "-n", JOURNAL, "--no-pager", "-o", "short-iso"]);
    let log: Value = log.and_then(|log| serde_json::from_slice(log).ok()).unwrap_or_default();
    Part::new("journal.txt", if log["output"] == "stderr" { explained(journal) } else { journal })
}

fn explained(journal: Result<Vec<u8>, String>) -> Result<Vec<u8>, String> {
    match journal {
        Ok(text) if text.is_empty() || text.starts_with(b"-- No entries --") => Err(STDERR.to_owned()),
        Ok(text) => Ok([format!("({STDERR})\n").as_bytes(), &text].concat()),
        Err(reason) => Err(format!("{STDERR}; {reason}")),
    }
}

/// Memory, CPU, distribution and limits.
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
    vec![
        Part::new("system/os-release", read("/etc/os-release")),
        Part::new("system/meminfo", read("/proc/meminfo")),
        Part::new("system/cpu.json", cpu()),
        Part::new("system/version", read("/proc/version")),
        Part::new("system/uptime", read("/proc/uptime")),
        Part::new("system/udp-counters", read("/proc/self/net/snmp")),
        Part::new("system/daemon-limits", of_daemon("limits")),
        Part::new("system/daemon-status", of_daemon("status")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_without_the_daemon_s_log_says_where_that_went() {
        assert_eq!(explained(Ok(b"-- No entries --\n".to_vec())), Err(STDERR.to_owned()));
        assert!(explained(Ok(b"of an earlier one\n".to_vec())).unwrap().ends_with(b")\nof an earlier one\n"));
        assert!(explained(Err("no journalctl".to_owned())).unwrap_err().ends_with("; no journalctl"));
    }
}
