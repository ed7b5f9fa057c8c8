//! What a ruleset of nftables does with a packet, as far as that can be told from outside (libnftables-json(5)).
//!
//! A rule matches, does not, or may. Only what is dropped for certain counts as dropped.

use serde_json::Value;

/// Jumps within jumps that are followed: nftables allows 16.
const MAX_DEPTH: usize = 16;

/// What kind of packet is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// UDP to this port.
    Udp(u16),
    /// The first of a TCP connection, to any port.
    Tcp,
    /// ICMP of any type.
    Icmp,
    /// Of all kinds.
    Any,
}

impl Kind {
    /// Its protocol, as rulesets name it.
    pub(super) const fn protocol(self) -> Option<&'static str> {
        match self {
            Self::Udp(_) => Some("udp"),
            Self::Tcp => Some("tcp"),
            Self::Icmp => Some("icmp"),
            Self::Any => None,
        }
    }
}

/// What is known of the packet that is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'p> {
    pub(super) kind: Kind,
    /// The interface that it comes by; `None`: any that is neither loopback nor the mesh's.
    pub(super) from: Option<&'p str>,
    /// The interface that it leaves by; `None`: any that is neither loopback nor the mesh's.
    pub(super) to: Option<&'p str>,
    /// The mesh's interface.
    pub(super) mesh: &'p str,
}

/// A chain that drops a packet for certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Drop {
    pub(super) family: String,
    pub(super) table: String,
    pub(super) chain: String,
    /// Whether a rule says so, rather than the chain's policy.
    pub(super) is_rule: bool,
}

/// The chains of one hook that drop `packet`, whatever else is true of it. Chains of IPv6 alone are not asked.
pub(super) fn drops(ruleset: &Value, hook: &str, packet: &Packet<'_>) -> Vec<Drop> {
    let bases = items(ruleset, "chain").filter(|chain| {
        chain["hook"] == hook && chain["type"] == "filter" && matches!(chain["family"].as_str(), Some("ip" | "inet"))
    });
    bases.filter_map(|base| judge_base(ruleset, base, packet)).collect()
}

/// What may become of a packet in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// No rule ends its way for certain.
    GoesOn,
    Passes,
    Dropped,
    /// A rule may let it pass.
    Unclear,
}

/// Whether a rule is for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Yes,
    No,
    Maybe,
}

fn judge_base(ruleset: &Value, base: &Value, packet: &Packet<'_>) -> Option<Drop> {
    let is_rule = match walk(ruleset, base, packet, 0) {
        Fate::Passes | Fate::Unclear => return None,
        Fate::Dropped => true,
        Fate::GoesOn if base["policy"] == "drop" => false,
        Fate::GoesOn => return None,
    };
    let text = |key: &str| base[key].as_str().unwrap_or_default().to_owned();
    Some(Drop { family: text("family"), table: text("table"), chain: text("name"), is_rule })
}

fn items<'r>(ruleset: &'r Value, kind: &'static str) -> impl Iterator<Item = &'r Value> {
    ruleset["nftables"].as_array().into_iter().flatten().filter_map(move |item| item.get(kind))
}

fn walk(ruleset: &Value, chain: &Value, packet: &Packet<'_>, depth: usize) -> Fate {
    let is_of_chain = |rule: &&Value| {
        rule["family"] == chain["family"] && rule["table"] == chain["table"] && rule["chain"] == chain["name"]
    };
    for rule in items(ruleset, "rule").filter(is_of_chain) {
        match apply(ruleset, chain, rule, packet, depth) {
            RuleEnd::Next => {}
            RuleEnd::Return => return Fate::GoesOn,
            RuleEnd::Fate(fate) => return fate,
        }
    }
    Fate::GoesOn
}

/// What a rule does to the way through its chain.
enum RuleEnd {
    Next,
    Return,
    Fate(Fate),
}

fn apply(ruleset: &Value, chain: &Value, rule: &Value, packet: &Packet<'_>, depth: usize) -> RuleEnd {
    let mut matched = Match::Yes;
    for statement in rule["expr"].as_array().into_iter().flatten() {
        let Some((name, body)) = statement.as_object().and_then(|object| object.iter().next()) else { continue };
        match name.as_str() {
            "match" => match is_match(body, packet) {
                Match::Yes => {}
                Match::No => return RuleEnd::Next,
                Match::Maybe => matched = Match::Maybe,
            },
            "accept" if matched == Match::Yes => return RuleEnd::Fate(Fate::Passes),
            "accept" | "queue" | "vmap" => return RuleEnd::Fate(Fate::Unclear),
            "drop" | "reject" if matched == Match::Yes => return RuleEnd::Fate(Fate::Dropped),
            "drop" | "reject" => return RuleEnd::Next,
            "return" if matched == Match::Yes => return RuleEnd::Return,
            // What follows in this chain may not be reached.
            "return" => return RuleEnd::Fate(Fate::Unclear),
            "jump" | "goto" => return follow(ruleset, chain, body, packet, (depth, matched, name == "goto")),
            "counter" | "log" | "mangle" | "ct" | "notrack" | "flow" => {}
            // Limits, sets and what else is not known here.
            _ => matched = Match::Maybe,
        }
    }
    RuleEnd::Next
}

fn follow(
    ruleset: &Value,
    chain: &Value,
    body: &Value,
    packet: &Packet<'_>,
    (depth, matched, is_goto): (usize, Match, bool),
) -> RuleEnd {
    let target = items(ruleset, "chain").find(|other| {
        other["family"] == chain["family"] && other["table"] == chain["table"] && other["name"] == body["target"]
    });
    let Some(target) = target.filter(|_| depth < MAX_DEPTH) else { return RuleEnd::Fate(Fate::Unclear) };
    match (walk(ruleset, target, packet, depth + 1), matched) {
        (Fate::GoesOn, Match::Yes) if is_goto => RuleEnd::Return,
        (Fate::GoesOn, _) => RuleEnd::Next,
        (fate, Match::Yes) => RuleEnd::Fate(fate),
        // Those that it is not for go on.
        (Fate::Dropped, _) => RuleEnd::Next,
        (Fate::Passes | Fate::Unclear, _) => RuleEnd::Fate(Fate::Unclear),
    }
}

fn is_match(body: &Value, packet: &Packet<'_>) -> Match {
    let found = is_value(&body["left"], &body["right"], packet);
    match (body["op"].as_str(), found) {
        (Some("==" | "in") | None, found) => found,
        (Some("!="), Match::Yes) => Match::No,
        (Some("!="), Match::No) => Match::Yes,
        (Some(_), _) => Match::Maybe,
    }
}

/// Whether the packet has one of the values of `right` where `left` looks.
fn is_value(left: &Value, right: &Value, packet: &Packet<'_>) -> Match {
    if let Some(key) = left["meta"]["key"].as_str() {
        return match key {
            "iif" | "iifname" => interface(right, packet.from, packet.mesh),
            "oif" | "oifname" => interface(right, packet.to, packet.mesh),
            "l4proto" => packet.kind.protocol().map_or(Match::Maybe, |protocol| has_text(right, protocol)),
            "nfproto" => has_text(right, "ipv4"),
            "protocol" => has_text(right, "ip"),
            _ => Match::Maybe,
        };
    }
    if left["ct"]["key"] == "state" {
        // The first packet of a peer is the one that counts.
        return has_text(right, "new");
    }
    let Some(protocol) = left["payload"]["protocol"].as_str() else { return Match::Maybe };
    let own = packet.kind.protocol();
    match (protocol, left["payload"]["field"].as_str(), packet.kind) {
        ("udp" | "th", Some("dport"), Kind::Udp(port)) => number(right, port.into()),
        ("ip6", ..) | ("th", _, Kind::Icmp) => Match::No,
        ("tcp" | "udp" | "icmp" | "icmpv6" | "sctp" | "esp" | "ah", ..) if own.is_some_and(|own| own != protocol) => {
            Match::No
        }
        ("ip", Some("protocol"), _) => own.map_or(Match::Maybe, |own| has_text(right, own)),
        _ => Match::Maybe,
    }
}

fn interface(right: &Value, own: Option<&str>, mesh: &str) -> Match {
    let names: Vec<&str> = texts(right).collect();
    if names.is_empty() {
        return Match::Maybe;
    }
    let fits = |name: &str, of: &str| name.strip_suffix('*').map_or(name == of, |start| of.starts_with(start));
    match own {
        Some(own) if names.iter().any(|name| fits(name, own)) => Match::Yes,
        Some(_) => Match::No,
        // It is any other: these two it is not.
        None if names.iter().all(|name| *name == "lo" || *name == mesh) => Match::No,
        None => Match::Maybe,
    }
}

fn has_text(right: &Value, wanted: &str) -> Match {
    if right.as_str().is_some_and(|text| text.starts_with('@')) {
        return Match::Maybe;
    }
    match texts(right).any(|text| text == wanted) {
        true => Match::Yes,
        false if right.is_number() || right.is_object() && right.get("set").is_none() => Match::Maybe,
        false => Match::No,
    }
}

/// The words of a value, of a list, or of an anonymous set.
fn texts(right: &Value) -> impl Iterator<Item = &str> {
    let list = right.as_array().or_else(|| right["set"].as_array());
    right.as_str().into_iter().chain(list.into_iter().flatten().filter_map(Value::as_str))
}

fn number(right: &Value, wanted: u64) -> Match {
    let ends = |value: &Value| Some((value["range"][0].as_u64()?, value["range"][1].as_u64()?));
    let one = |value: &Value| match (value.as_u64(), ends(value)) {
        (Some(number), _) => (number == wanted).into(),
        (None, Some((first, last))) => (first..=last).contains(&wanted).into(),
        (None, None) => Match::Maybe,
    };
    let Some(set) = right["set"].as_array() else { return one(right) };
    let all: Vec<Match> = set.iter().map(one).collect();
    [Match::Yes, Match::Maybe].into_iter().find(|found| all.contains(found)).unwrap_or(Match::No)
}

impl From<bool> for Match {
    fn from(is: bool) -> Self {
        if is { Self::Yes } else { Self::No }
    }
}
