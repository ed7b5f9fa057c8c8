//! `[lan]`: what is refused, what is odd, what is loaded, and what is never shown.

use std::path::Path;
use std::time::Duration;

use proto::id::SecretKey;
use proto::lan::Strength;

use super::node_problems;
use crate::lan::LanTable;
use crate::read::Reader;
use crate::settings::Settings;
use crate::{LanConfig, LanMode};

const TOKEN: &str = "000102030405060708090a0b0c0d0e0f";

/// The problem of a `meshd.toml` whose `[lan]` has this line.
fn refusal(line: &str) -> String {
    let problems = node_problems(&format!("[node]\nname = \"a.b\"\n[lan]\n{line}"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.concat()
}

fn read(lines: &str) -> LanTable {
    let text = format!("[node]\nname = \"a.b\"\n[lan]\n{lines}");
    assert_eq!(node_problems(&text), [""; 0]);
    let mut reader = Reader::new(Path::new("meshd.toml"), &text);
    let root = reader.parse();
    crate::node::read(&mut reader, &root, Path::new("/"), Settings::default()).settings.lan
}

fn lan(lines: &str) -> LanConfig {
    read(lines).config
}

#[test]
fn without_a_token_discovery_is_off_and_the_rest_has_its_defaults() {
    let lan = lan("");
    assert_eq!(lan.token, None);
    assert_eq!(
        (lan.group4.to_string(), lan.group6.to_string()),
        ("239.40.20.81:18080".into(), "[ff12::ed65:7368]:18080".into())
    );
    assert_eq!((lan.interval.as_secs(), lan.ttl.as_secs()), (5, 20));
    assert_eq!((lan.mode, lan.implicit_community), (LanMode::Encrypted, false));
    assert!(lan.uses("eth0") && lan.uses("wlp2s0"));
}

#[test]
fn every_setting_is_taken_over() {
    let lan = lan(&format!(
        "multicast_token = \"{TOKEN}\"\nmulticast_address = \"239.1.2.3:7\"\nmulticast_address6 = \"[ff02::7]:8\"\n\
        interval = \"2s\"\nttl = \"7s\"\ninterfaces = [\"eth*\", \"wlan?\"]\nmode = \"direct\"\nimplicit_community = true\n"
    ));
    assert_eq!(lan.token.as_ref().map(proto::lan::Token::strength), Some(Strength::Good));
    assert_eq!((lan.group4.to_string(), lan.group6.to_string()), ("239.1.2.3:7".into(), "[ff02::7]:8".into()));
    assert_eq!((lan.interval.as_secs(), lan.ttl.as_secs()), (2, 7));
    assert_eq!((lan.mode, lan.implicit_community), (LanMode::Direct, true));
    let used = ["eth0", "eth0.100", "wlan1", "wlan10", "mesh0", "xeth0"].map(|name| lan.uses(name));
    assert_eq!(used, [true, true, true, false, false, false]);
}

#[test]
fn a_neighbour_is_believed_for_two_intervals_at_least_and_the_operator_is_told() {
    let table = read("interval = \"15s\"\nttl = \"20s\"\n");
    assert_eq!(table.config.ttl, Duration::from_secs(30));
    let [odd] = table.odd.as_slice() else { panic!("{:?}", table.odd) };
    assert_eq!(odd.value, "[lan] ttl: 30s is used, twice the interval");
    let table = read("interval = \"1m\"\n");
    assert_eq!((table.config.ttl.as_secs(), table.odd.len()), (120, 0), "the default ttl is nobody's mistake");
}

#[test]
fn eight_hex_digits_are_taken_with_a_warning_and_other_weak_tokens_are_not() {
    let table = read("multicast_token = \"1b1bb567\"\n");
    assert_eq!(table.config.token.map(|token| token.strength()), Some(Strength::Short));
    let [odd] = table.odd.as_slice() else { panic!("{:?}", table.odd) };
    assert!(odd.value.contains("can be guessed in days; make one with `meshd key generate`"), "{}", odd.value);
    for (value, why) in [
        ("\"1b1bb56\"", "is not 32 to 128 hex digits or 22 to 128 characters of base64"),
        ("\"\"", "is not 32 to 128 hex digits or 22 to 128 characters of base64"),
        ("\"our little secret, twice\"", "has characters that are neither hex nor base64"),
        ("\"ourlittlesecretourlittle\"", "does not look random"),
    ] {
        let said = refusal(&format!("multicast_token = {value}"));
        assert!(said.starts_with(&format!("meshd.toml:4:19: [lan] multicast_token: {why}")), "{said}");
        assert!(said.contains("make one with `meshd key generate`"), "{said}");
    }
}

#[test]
fn a_token_is_never_shown() {
    for (value, secret) in [("\"hunter2\"", "hunter2"), ("12345678", "12345678"), ("[\"hunter2\"]", "hunter2")] {
        let said = refusal(&format!("multicast_token = {value}"));
        assert!(!said.contains(secret), "{said}");
    }
    let shown = format!("{:?}", lan(&format!("multicast_token = \"{TOKEN}\"")));
    assert!(!shown.contains(TOKEN), "{shown}");
}

#[test]
fn what_the_command_in_the_help_prints_is_accepted_without_a_warning() {
    let printed = SecretKey::from_bytes(std::array::from_fn(|n| n as u8 * 7)).to_base64();
    assert_eq!(read(&format!("multicast_token = \"{}\"", *printed)).odd.len(), 0);
}

#[test]
fn groups_are_multicast_addresses_with_a_port() {
    for text in ["192.0.2.1:18080", "239.40.20.81", "239.40.20.81:0", "[ff12::1]:18080", "x"] {
        let said = refusal(&format!("multicast_address = \"{text}\""));
        assert!(said.ends_with("write \"239.40.20.81:18080\""), "{said}");
        assert!(said.contains("is not an IPv4 multicast address with a port"), "{said}");
    }
    for text in
        ["[ff05::1]:18080", "[fe80::1]:18080", "[ff02::1]:0", "[ff02::1%3]:18080", "ff02::1", "239.40.20.81:18080"]
    {
        let said = refusal(&format!("multicast_address6 = \"{text}\""));
        assert!(said.ends_with("write \"[ff12::ed65:7368]:18080\""), "{said}");
        assert!(said.contains("is not a link-local IPv6 multicast address with a port"), "{said}");
    }
}

#[test]
fn bounds_words_and_patterns_are_checked() {
    for (line, why) in [
        ("interval = \"999ms\"", "[lan] interval: \"999ms\" is too short; use 1s to 1m"),
        ("interval = \"61s\"", "[lan] interval: \"61s\" is too long; use 1s to 1m"),
        ("ttl = \"1s\"", "[lan] ttl: \"1s\" is too short; use 2s to 10m"),
        ("ttl = \"11m\"", "[lan] ttl: \"11m\" is too long; use 2s to 10m"),
        ("mode = \"encrypt\"", "[lan] mode: unknown value \"encrypt\"; did you mean \"encrypted\"?"),
        ("implicit_community = 1", "[lan] implicit_community: must be true or false, not an integer"),
        ("interfaces = []", "[lan] interfaces: names no interface"),
        ("interfaces = [\"\"]", "[lan] interfaces: \"\" names no interface; write a name such as \"eth0\""),
        ("interfaces = [\"eth 0\"]", "[lan] interfaces: \"eth 0\" names no interface"),
        ("interfaces = \"eth0\"", "[lan] interfaces: must be a list, not a text; write [\"eth0\"]"),
        ("token = \"x\"", "unknown key \"token\" in [lan]"),
    ] {
        let said = refusal(line);
        assert!(said.contains(why), "{said}");
    }
}
