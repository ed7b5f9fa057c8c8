//! The packet filters, as `nft` lists them.

use std::fs;

use serde_json::Value;

use super::super::facts::{FirewallFacts, Look};
use crate::tool;

pub(super) fn firewall() -> FirewallFacts {
    FirewallFacts { ruleset: ruleset(), legacy_tables: legacy_tables() }
}

/// Every chain and rule of nftables, as `nft -j list ruleset` writes them: at most 16 MiB, within five seconds.
pub(crate) fn ruleset() -> Look<Value> {
    let text = tool::run("nft", &["-j", "list", "ruleset"])?;
    serde_json::from_slice(&text).map_err(|error| format!("nft -j list ruleset: {error}"))
}

/// Tables that `iptables-legacy` and `ip6tables-legacy` have made in this namespace.
fn legacy_tables() -> Look<Vec<String>> {
    let mut tables = Vec::new();
    for file in ["/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"] {
        match fs::read_to_string(file) {
            Ok(text) => tables.extend(text.lines().map(str::to_owned)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{file}: {error}")),
        }
    }
    tables.sort();
    tables.dedup();
    Ok(tables)
}
