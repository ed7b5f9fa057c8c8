//! What is said of packet filters, from rulesets as `nft -j list ruleset` (1.0) writes them.

use proptest::prelude::*;
use serde_json::Value;

use super::super::filter::{Drop, Kind, Packet, drops};
use super::*;

/// A base chain of `inet filter`, and its rules.
fn chain(hook: &str, policy: &str, rules: &[Value]) -> Vec<Value> {
    let base = json!({"chain": {"family": "inet", "table": "filter", "name": hook, "handle": 1, "type": "filter",
                                "hook": hook, "prio": 0, "policy": policy}});
    let rules = rules
        .iter()
        .map(|expr| json!({"rule": {"family": "inet", "table": "filter", "chain": hook, "handle": 4, "expr": expr}}));
    std::iter::once(base).chain(rules).collect()
}

fn ruleset(items: Vec<Value>) -> Value {
    let first = json!({"metainfo": {"json_schema_version": 1}});
    json!({"nftables": std::iter::once(first).chain(items).collect::<Vec<_>>()})
}

#[expect(clippy::needless_pass_by_value, reason = "what the json macro makes goes in as it is")]
fn dport(protocol: &str, right: Value) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": protocol, "field": "dport"}}, "right": right}})
}

#[expect(clippy::needless_pass_by_value, reason = "what the json macro makes goes in as it is")]
fn meta(key: &str, right: Value) -> Value {
    json!({"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}})
}

fn input(rules: &[Value]) -> Vec<Drop> {
    let packet = Packet { kind: Kind::Udp(6374), from: None, to: None, mesh: "mesh0" };
    drops(&ruleset(chain("input", "drop", rules)), "input", &packet)
}

const ACCEPT: fn() -> Value = || json!({"accept": null});

/// What a common firewall has before anything of its own.
fn usual() -> Vec<Value> {
    let established =
        json!({"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}});
    vec![
        json!([established, ACCEPT()]),
        json!([meta("iifname", json!("lo")), {"counter": {"packets": 3, "bytes": 9}}, ACCEPT()]),
        json!([dport("tcp", json!({"set": [22, 443]})), ACCEPT()]),
        json!([meta("l4proto", json!("icmp")), ACCEPT()]),
    ]
}

#[test]
fn a_policy_of_drop_without_a_rule_for_the_port_is_told_with_the_rule_to_add() {
    let said = after(|facts| facts.firewall.ruleset = Ok(ruleset(chain("input", "drop", &usual()))));
    assert_snapshot!(said, @r"
    warn     firewall  chain inet filter input drops what it does not accept, and no rule accepts udp dport 6374
                       -> nft insert rule inet filter input udp dport 6374 accept
    ");
}

#[test]
fn every_way_to_let_the_port_in_counts() {
    let ways = [
        json!([dport("udp", json!(6374)), ACCEPT()]),
        json!([dport("udp", json!({"set": [53, {"range": [6000, 7000]}]})), ACCEPT()]),
        json!([dport("th", json!({"range": [6374, 6375]})), ACCEPT()]),
        json!([meta("l4proto", json!({"set": ["tcp", "udp"]})), ACCEPT()]),
        json!([meta("iifname", json!("eth0")), ACCEPT()]),
        json!([dport("udp", json!("@ports")), ACCEPT()]),
        json!([{"vmap": {"key": {"ct": {"key": "state"}}, "data": "@states"}}]),
        json!([{"xt": {"type": "match", "name": "comment"}}, ACCEPT()]),
        json!([{"limit": {"rate": 100, "per": "second"}}, ACCEPT()]),
    ];
    for way in ways {
        let rules: Vec<Value> = usual().into_iter().chain([way.clone()]).collect();
        assert_eq!(input(&rules), [], "{way}");
    }
    assert_eq!(input(&[json!([dport("udp", json!(53)), ACCEPT()])]).len(), 1, "another port");
    assert_eq!(input(&[json!([meta("nfproto", json!("ipv6")), ACCEPT()])]).len(), 1, "another family");
}

#[test]
fn chains_that_are_jumped_to_are_followed_and_loops_end() {
    let sub = |target: &str| json!([{"jump": {"target": target}}]);
    let mut items = chain("input", "drop", &[sub("services"), sub("loop")]);
    for name in ["services", "loop"] {
        items.push(json!({"chain": {"family": "inet", "table": "filter", "name": name, "handle": 9}}));
    }
    let rule =
        |chain: &str, expr: Value| json!({"rule": {"family": "inet", "table": "filter", "chain": chain, "expr": expr}});
    let packet = Packet { kind: Kind::Udp(6374), from: None, to: None, mesh: "mesh0" };
    assert_eq!(drops(&ruleset(items.clone()), "input", &packet).len(), 1);
    let mut open = items.clone();
    open.push(rule("services", json!([dport("udp", json!(6374)), ACCEPT()])));
    assert_eq!(drops(&ruleset(open), "input", &packet), []);
    items.push(rule("loop", sub("loop")));
    assert_eq!(drops(&ruleset(items), "input", &packet), [], "what does not end is unclear");
}

#[test]
fn a_rule_that_drops_the_port_is_told_under_a_policy_of_accept() {
    let said = after(|facts| {
        let rules = [json!([dport("udp", json!(6374)), {"drop": null}])];
        facts.firewall.ruleset = Ok(ruleset(chain("input", "accept", &rules)));
    });
    assert!(said.contains("chain inet filter input drops udp dport 6374 by a rule"), "{said}");
    let some = [json!([meta("mark", json!(7)), dport("udp", json!(6374)), {"drop": null}])];
    let packet = Packet { kind: Kind::Udp(6374), from: None, to: None, mesh: "mesh0" };
    assert_eq!(drops(&ruleset(chain("input", "accept", &some)), "input", &packet), [], "of some packets only");
}

#[test]
fn a_rule_or_a_policy_that_drops_what_members_send_to_this_machine_is_told() {
    let of_mesh = || meta("iifname", json!("mesh0"));
    let said = after(|facts| {
        let rules = [json!([of_mesh(), {"drop": null}])];
        facts.firewall.ruleset = Ok(ruleset(chain("input", "accept", &rules)));
    });
    assert_snapshot!(said, @r#"
    warn     firewall  chain inet filter input drops tcp and icmp of members to this machine, from mesh0, by a rule
                       -> where they are meant to get through: nft insert rule inet filter input iifname "mesh0" accept
    "#);
    let some = |rules: &[Value]| {
        let rules: Vec<Value> =
            [json!([dport("udp", json!(6374)), ACCEPT()])].into_iter().chain(rules.to_vec()).collect();
        after(|facts| facts.firewall.ruleset = Ok(ruleset(chain("input", "drop", &rules))))
    };
    assert!(
        some(&[]).contains("drops tcp and icmp of members to this machine, from mesh0, because no rule accepts it")
    );
    let icmp = some(&[json!([meta("l4proto", json!("icmp")), ACCEPT()])]);
    assert!(icmp.contains("drops tcp of members"), "{icmp}");
    let ssh = some(&[json!([dport("tcp", json!(22)), ACCEPT()])]);
    assert!(ssh.contains("drops icmp of members"), "some of tcp gets through: {ssh}");
    assert!(!some(&[json!([of_mesh(), ACCEPT()])]).contains("firewall"));
}

#[test]
fn what_is_forwarded_from_and_to_the_mesh_is_asked_at_a_gateway_only() {
    let docker = [json!([meta("iifname", json!("docker0")), {"jump": {"target": "DOCKER"}}])];
    let forwarding = ruleset(chain("forward", "drop", &docker));
    let said = after(|facts| facts.firewall.ruleset = Ok(forwarding.clone()));
    let half = chain("forward", "drop", &[json!([meta("iifname", json!("mesh0")), ACCEPT()])]);
    assert!(said.contains("drops what is forwarded from mesh0 because no rule accepts it"), "{said}");
    assert!(said.contains("-> nft insert rule inet filter forward iifname \"mesh0\" accept"), "{said}");
    let said = after(|facts| facts.firewall.ruleset = Ok(ruleset(half)));
    assert!(!said.contains("from mesh0") && said.contains("forwarded to mesh0"), "{said}");
    let edge = NODE.replace(", subnets = [\"10.50.0.0/16\", \"fd00:50::/48\"]", "");
    let said = after(|facts| {
        facts.config.outline = Ok(outline(&edge));
        facts.firewall.ruleset = Ok(forwarding);
    });
    assert!(!said.contains("firewall"), "{said}");
}

#[test]
fn the_older_iptables_is_told_of_and_no_nft_is_no_failure() {
    let said = after(|facts| {
        facts.firewall.legacy_tables = Ok(vec!["filter".into()]);
        facts.firewall.ruleset = Err("nft is not installed".into());
    });
    assert_snapshot!(said, @r"
    skipped  firewall  nft is not installed
                       -> run this as root, with nft installed: nft list ruleset
    warn     firewall  the older iptables is in use (filter), which nft does not show
                       -> look yourself: iptables-legacy-save
    ");
}

/// JSON of any shape, made of words that rulesets have.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "match", "left", "right", "op", "==", "!=", "meta", "key", "iifname", "payload", "udp", "dport", "set",
        "range", "accept", "drop", "jump", "goto", "return", "target", "input", "filter", "inet", "chain", "rule",
        "expr", "policy",
    ]);
    let leaf = prop_oneof![word.clone().prop_map(Value::from), any::<i64>().prop_map(Value::from), Just(Value::Null)];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_ruleset_makes_it_fail(rules in prop::collection::vec(any_json(), 0..6), whole in any_json()) {
        let packet = Packet { kind: Kind::Udp(6374), from: None, to: None, mesh: "mesh0" };
        let _ = drops(&ruleset(chain("input", "drop", &rules)), "input", &packet);
        let _ = drops(&whole, "input", &packet);
    }

    #[test]
    fn a_rule_that_accepts_everything_first_always_lets_the_port_in(rules in prop::collection::vec(any_json(), 0..6)) {
        let rules: Vec<Value> = std::iter::once(json!([ACCEPT()])).chain(rules).collect();
        prop_assert_eq!(input(&rules), vec![]);
    }
}
