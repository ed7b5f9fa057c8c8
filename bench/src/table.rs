//! The results as Markdown.

use std::fmt::Write as _;

use crate::record::{Group, METRICS, Metric, PeerRecord, Record, Round, Setting};
use crate::statistics::Spread;

/// The peer that the others are compared with.
pub(crate) const REFERENCE: &str = "meshd";

const GROUPS: [(Group, &str); 3] = [
    (Group::Throughput, "Throughput (higher is better)"),
    (Group::Cost, "Cost, both daemons for CPU, the sender's for memory (lower is better)"),
    (Group::Latency, "Latency"),
];

/// One line about a round that was just measured.
pub(crate) fn progress(name: &str, round: &Round) -> String {
    let mut line = format!("round {}  {name:14}", round.number);
    for metric in &METRICS {
        if let Some(figure) = (metric.of)(round) {
            let _ = write!(line, "  {} {figure:.*}", metric.title, metric.decimals);
        }
    }
    for error in &round.errors {
        let _ = write!(line, "  FAILED {error}");
    }
    line
}

/// Every table, and below them who is missing or failed.
pub(crate) fn markdown(record: &Record) -> String {
    let mut text = head(&record.setting) + "\n" + &method(&record.setting, REFERENCE);
    for (group, title) in GROUPS {
        let metrics: Vec<&Metric> = METRICS.iter().filter(|metric| metric.group == group).collect();
        let has_figures = |metric: &&Metric| record.peers.iter().any(|peer| peer.medians.contains_key(metric.key));
        if metrics.iter().any(has_figures) {
            let _ = write!(text, "\n{title}\n\n{}", one_table(record, &metrics));
        }
    }
    text + &troubles(record)
}

/// When, where and how it was measured, in one line without its end.
pub(crate) fn head(setting: &Setting) -> String {
    let machine = &setting.machine;
    format!(
        "{} · Linux {} · {} · {} cores · {}{}{}",
        setting.date,
        machine.kernel,
        machine.cpu,
        machine.cores,
        setting.congestion_control,
        if setting.wire { " · link without offloads" } else { "" },
        if setting.user_namespace { " · rootless" } else { "" },
    )
}

/// What stands in a cell, in one line.
pub(crate) fn method(setting: &Setting, reference: &str) -> String {
    let Setting { rounds, tcp_seconds, .. } = setting;
    format!("Medians of {rounds} rounds (min–max) and the ratio to {reference}; TCP runs of {tcp_seconds} s.\n")
}

fn one_table(record: &Record, metrics: &[&Metric]) -> String {
    let titles: Vec<&str> = metrics.iter().map(|metric| metric.title).collect();
    let mut text = format!("| peer | MTU | {} |\n|{}\n", titles.join(" | "), "---|".repeat(metrics.len() + 2));
    let reference = record.peers.iter().find(|peer| peer.name == REFERENCE);
    for peer in &record.peers {
        let cells: Vec<String> = metrics.iter().map(|metric| cell(peer, reference, metric)).collect();
        let _ = writeln!(text, "| {} | {} | {} |", label(peer), peer.mtu, cells.join(" | "));
    }
    text
}

fn label(peer: &PeerRecord) -> String {
    match (&peer.missing, peer.rounds.is_empty()) {
        (Some(_), _) => format!("{} (missing)", peer.name),
        (None, true) => format!("{} (failed)", peer.name),
        (None, false) if peer.is_limit => format!("{} (limit)", peer.name),
        (None, false) => peer.name.to_owned(),
    }
}

fn cell(peer: &PeerRecord, reference: Option<&PeerRecord>, metric: &Metric) -> String {
    let Some(spread) = peer.medians.get(metric.key) else { return "-".to_owned() };
    let base = reference.and_then(|reference| reference.medians.get(metric.key));
    figure(spread, metric.decimals, base)
}

/// `6.84 (6.76–6.90) 1.00x`, the last where there is something to compare with.
pub(crate) fn figure(spread: &Spread, decimals: usize, base: Option<&Spread>) -> String {
    let mut text = format!("{:.decimals$}", spread.median);
    if spread.count > 1 {
        let _ = write!(text, " ({:.decimals$}–{:.decimals$})", spread.min, spread.max);
    }
    if let Some(base) = base.map(|base| base.median).filter(|base| *base > 0.0) {
        let _ = write!(text, " {:.2}x", spread.median / base);
    }
    text
}

fn troubles(record: &Record) -> String {
    let mut text = String::new();
    for peer in &record.peers {
        if let Some(hint) = &peer.missing {
            let _ = write!(text, "\n* {} is missing: {hint}", peer.name);
        }
        for failure in &peer.failures {
            let _ = write!(text, "\n* {} failed: {failure}", peer.name);
        }
    }
    if text.is_empty() { text } else { text + "\n" }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::machine::Machine;
    use crate::record::Tcp;
    use std::collections::BTreeMap;

    fn peer(name: &'static str, rates: &[f64]) -> PeerRecord {
        let run = |gbps: f64| Tcp {
            streams: 1,
            reverse: false,
            gbps,
            retransmits: None,
            cpu_seconds_per_gb: 1.0,
            loaded_ping: None,
        };
        let rounds = rates.iter().map(|rate| Round { tcp: vec![run(*rate)], ..Round::default() }).collect();
        let mut peer = PeerRecord {
            name,
            about: "",
            is_limit: false,
            version: String::new(),
            mtu: 1420,
            missing: None,
            failures: vec![],
            rounds,
            medians: BTreeMap::new(),
        };
        peer.summarise();
        peer
    }

    pub(crate) fn setting() -> Setting {
        Setting {
            date: "2026-11-21T06-03-04Z".to_owned(),
            machine: Machine {
                kernel: "6.18".to_owned(),
                cpu: "A <fast> one & only".to_owned(),
                cores: 2,
                iperf3: String::new(),
                socket_buffer: 0,
                rmem_max: None,
            },
            congestion_control: "cubic".to_owned(),
            wire: false,
            rounds: 3,
            tcp_seconds: 4,
            user_namespace: true,
        }
    }

    pub(crate) fn record() -> Record {
        let missing = PeerRecord { missing: Some("apt-get install tinc".to_owned()), ..peer("tinc", &[]) };
        Record {
            format: 1,
            setting: setting(),
            peers: vec![peer("meshd", &[6.0, 8.0, 7.0]), peer("wireguard-go", &[2.1]), missing],
        }
    }

    #[test]
    fn a_row_has_median_range_and_ratio_and_a_missing_peer_is_named() {
        let text = markdown(&record());
        assert!(text.contains("| meshd | 1420 | 7.00 (6.00–8.00) 1.00x |"), "{text}");
        assert!(text.contains("| wireguard-go | 1420 | 2.10 0.30x |"), "{text}");
        assert!(text.contains("| tinc (missing) |") && text.contains("apt-get install tinc"), "{text}");
    }
}
