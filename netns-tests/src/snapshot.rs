//! Everything that a daemon may change in a network namespace, as comparable text.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::host::Host;

/// What is asked of iproute2, in words of its own.
const QUESTIONS: [&str; 8] = [
    "ip -j -d link show",
    "ip -j address show",
    "ip -j -4 rule show",
    "ip -j -6 rule show",
    "ip -j -4 route show table all",
    "ip -j -6 route show table all",
    "ip -j -4 maddress show",
    "ip -j -6 maddress show",
];

/// Fields that change by themselves.
const VOLATILE: [&str; 6] = ["valid_life_time", "preferred_life_time", "expires", "used", "age", "users"];

/// Trees of `/proc/sys` whose values belong to the namespace.
const SYSCTLS: [&str; 3] = ["net/ipv4", "net/ipv6", "net/core"];

/// Shown in every namespace, but of the machine: another program's business.
const OF_THE_MACHINE: [&str; 4] = ["rmem_max", "rmem_default", "wmem_max", "wmem_default"];

/// Links, addresses, rules, routes, packet filters and sysctls of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    facts: BTreeMap<String, String>,
}

impl Snapshot {
    /// The host as it is now.
    ///
    /// # Panics
    /// When it cannot be asked.
    #[must_use]
    pub fn of(host: &Host) -> Self {
        let mut facts = BTreeMap::new();
        for question in QUESTIONS {
            for (number, fact) in normalised(host.json(question)).into_iter().enumerate() {
                facts.insert(format!("{question} #{number:03}"), fact);
            }
        }
        facts.insert("nft list ruleset".to_owned(), host.ok("nft list ruleset"));
        facts.extend(host.enter(sysctls));
        Self { facts }
    }

    /// Each fact that differs, one line per side.
    #[must_use]
    pub fn differences(&self, later: &Self) -> String {
        let mut text = String::new();
        for (key, before) in &self.facts {
            match later.facts.get(key) {
                Some(after) if after == before => {}
                Some(after) => text.push_str(&format!("{key}\n  before {before}\n  after  {after}\n")),
                None => text.push_str(&format!("{key}\n  before {before}\n  after  nothing\n")),
            }
        }
        for (key, after) in later.facts.iter().filter(|(key, _)| !self.facts.contains_key(*key)) {
            text.push_str(&format!("{key}\n  before nothing\n  after  {after}\n"));
        }
        text
    }

    /// Compares the host, as it is now, with this earlier picture of it.
    ///
    /// # Panics
    /// When they differ, with the differences.
    #[track_caller]
    pub fn assert_unchanged(&self, host: &Host, when: &str) {
        let differences = self.differences(&Self::of(host));
        assert!(differences.is_empty(), "{when}: {} is not as before:\n{differences}", host.name());
    }
}

/// The entries of a list, without what is volatile, in an order of their own.
fn normalised(answer: Value) -> Vec<String> {
    let Value::Array(entries) = answer else { return vec![answer.to_string()] };
    let mut texts: Vec<String> = entries.into_iter().map(|entry| strip(entry).to_string()).collect();
    texts.sort();
    texts
}

fn strip(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !VOLATILE.contains(&name.as_str()));
            Value::Object(kept.map(|(name, field)| (name, strip(field))).collect())
        }
        Value::Array(entries) => Value::Array(entries.into_iter().map(strip).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

fn sysctls() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for tree in SYSCTLS {
        collect(&Path::new("/proc/sys").join(tree), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if OF_THE_MACHINE.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            // Some can only be written (route/flush), or belong to the machine and cannot be read here.
            found.push((path.to_string_lossy().into_owned(), text.trim().to_owned()));
        }
    }
}
