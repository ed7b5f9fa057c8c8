//! Whether packet filters let the node's datagrams in, and its subnets' packets through.

use serde_json::Value;

use super::facts::{Facts, Life};
use super::filter::{Drop, Kind, Packet, drops};
use super::finding::{Check, Finding};

const FIREWALL: Check = Check("firewall");

pub(super) fn firewall(facts: &Facts) -> Vec<Finding> {
    let mut findings = match &facts.firewall.ruleset {
        Err(reason) => vec![FIREWALL.skipped(reason, "run this as root, with nft installed: nft list ruleset")],
        Ok(ruleset) => judge(facts, ruleset),
    };
    if let Ok(tables) = &facts.firewall.legacy_tables
        && !tables.is_empty()
    {
        let found = format!("the older iptables is in use ({}), which nft does not show", tables.join(", "));
        findings.push(FIREWALL.warn(found, "look yourself: iptables-legacy-save"));
    }
    findings
}

fn judge(facts: &Facts, ruleset: &Value) -> Vec<Finding> {
    let (port, mesh) = (port(facts), facts.config.interface());
    let mut findings: Vec<Finding> = port.into_iter().flat_map(|port| input(ruleset, port, mesh)).collect();
    findings.extend(delivery(ruleset, mesh));
    if facts.config.good().and_then(|outline| outline.own()).is_some_and(|own| !own.subnets.is_empty()) {
        findings.extend(forward(ruleset, mesh));
    }
    if findings.is_empty() {
        let port = port.map_or_else(String::new, |port| format!(" udp dport {port}"));
        findings.push(FIREWALL.ok(format!("no chain of nftables drops{port} for certain")));
    }
    findings
}

/// The port that others send to.
fn port(facts: &Facts) -> Option<u16> {
    let configured = facts.config.good().map(|outline| outline.listen.port);
    match &facts.daemon.life {
        Life::Alive(alive) if !alive.is_resting => Some(alive.port),
        Life::Alive(_) | Life::Absent | Life::Barred | Life::Silent { .. } => configured.filter(|port| *port != 0),
    }
}

fn input(ruleset: &Value, port: u16, mesh: &str) -> Vec<Finding> {
    let packet = Packet { kind: Kind::Udp(port), from: None, to: None, mesh };
    drops(ruleset, "input", &packet)
        .into_iter()
        .map(|drop| {
            let Drop { family, table, chain, is_rule } = drop;
            let why = if is_rule {
                format!("chain {family} {table} {chain} drops udp dport {port} by a rule")
            } else {
                format!(
                    "chain {family} {table} {chain} drops what it does not accept, and no rule accepts udp dport {port}"
                )
            };
            FIREWALL.warn(why, format!("nft insert rule {family} {table} {chain} udp dport {port} accept"))
        })
        .collect()
}

/// What members send to this machine itself.
fn delivery(ruleset: &Value, mesh: &str) -> Vec<Finding> {
    let mut by_chain: Vec<(Drop, Vec<&str>)> = Vec::new();
    for kind in [Kind::Tcp, Kind::Icmp] {
        for drop in drops(ruleset, "input", &Packet { kind, from: Some(mesh), to: None, mesh }) {
            let known = by_chain.iter_mut().find(|(known, _)| *known == drop);
            match known {
                Some((_, protocols)) => protocols.extend(kind.protocol()),
                None => by_chain.push((drop, kind.protocol().into_iter().collect())),
            }
        }
    }
    let told = |(Drop { family, table, chain, is_rule }, protocols): (Drop, Vec<&str>)| {
        let by = if is_rule { "by a rule" } else { "because no rule accepts it" };
        let what = protocols.join(" and ");
        let found =
            format!("chain {family} {table} {chain} drops {what} of members to this machine, from {mesh}, {by}");
        let fix = format!(
            "where they are meant to get through: nft insert rule {family} {table} {chain} iifname \"{mesh}\" accept"
        );
        FIREWALL.warn(found, fix)
    };
    by_chain.into_iter().map(told).collect()
}

/// Both directions between the mesh and the subnets behind this node.
fn forward(ruleset: &Value, mesh: &str) -> Vec<Finding> {
    let ways = [("iifname", "from", Some(mesh), None), ("oifname", "to", None, Some(mesh))];
    ways.into_iter()
        .flat_map(|(key, word, from, to)| {
            let packet = Packet { kind: Kind::Any, from, to, mesh };
            drops(ruleset, "forward", &packet).into_iter().map(move |Drop { family, table, chain, is_rule }| {
                let by = if is_rule { "by a rule" } else { "because no rule accepts it" };
                let found = format!("chain {family} {table} {chain} drops what is forwarded {word} {mesh} {by}");
                FIREWALL.warn(found, format!("nft insert rule {family} {table} {chain} {key} \"{mesh}\" accept"))
            })
        })
        .collect()
}
