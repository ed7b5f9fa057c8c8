//! `[lan]`: how members on one LAN find each other.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::RangeInclusive;
use std::time::Duration;

use proto::lan::{Strength, Token, TokenError};
use toml::de::{DeTable, DeValue};
use wildmatch::WildMatch;

use crate::duration::Period;
use crate::error::{Fault, quote};
use crate::model::{InterfacePattern, LanConfig, LanMode};
use crate::read::{Located, Reader, Section};
use crate::{scalar, shape};

/// Organisation-local (RFC 2365 §6.2).
const GROUP4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 40, 20, 81), PORT);
/// Link-local and transient (RFC 4291 §2.7), with a group id that is free for all (RFC 3307 §4.3): "mesh" with the top bit set.
const GROUP6: SocketAddrV6 = SocketAddrV6::new(Ipv6Addr::new(0xff12, 0, 0, 0, 0, 0, 0xed65, 0x7368), PORT, 0, 0);
const PORT: u16 = 18080;
const INTERVAL: Duration = Duration::from_secs(5);
/// A beacon a second is as often as receivers take them; at 60 s a neighbour is found no sooner than by other means.
const INTERVAL_RANGE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// Three beacons may be lost: radio links lose multicasts, which nobody acknowledges.
const TTL: Duration = Duration::from_secs(20);
/// At most as long as beacons are told from old ones.
const TTL_RANGE: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(600);
const MODES: [(&str, LanMode); 2] = [("encrypted", LanMode::Encrypted), ("direct", LanMode::Direct)];
const MAKE_TOKEN: &str = "make one with `meshd key generate`, and give it to all that should find each other";

/// `[lan]` as it is written.
pub(crate) struct LanTable {
    pub(crate) config: LanConfig,
    /// Whether the file has a token, and where.
    pub(crate) token_at: Option<usize>,
    /// What is legal but odd.
    pub(crate) odd: Vec<Located<String>>,
}

/// Reads `[lan]`.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>) -> LanTable {
    let section = reader.section(root, &shape::LAN);
    let token = reader.optional(section, "multicast_token", token);
    let mut period = |key: &str, range: &RangeInclusive<Duration>| {
        reader.optional(section, key, |value| scalar::period(value, range))
    };
    let (interval, ttl) = (period("interval", &INTERVAL_RANGE), period("ttl", &TTL_RANGE));
    let interval = interval.map_or(INTERVAL, |interval| interval.value);
    let odd = [token.as_ref().and_then(odd_token), ttl.as_ref().and_then(|ttl| odd_ttl(ttl, interval))];
    let token_at = token.as_ref().map(|token| token.at);
    let config = LanConfig {
        token: token.map(|token| token.value),
        group4: reader.optional(section, "multicast_address", group4).map_or(GROUP4, |group| group.value),
        group6: reader.optional(section, "multicast_address6", group6).map_or(GROUP6, |group| group.value),
        interval,
        ttl: ttl.map_or(TTL, |ttl| ttl.value).max(2 * interval),
        interfaces: interfaces(reader, section),
        mode: reader
            .optional(section, "mode", |value| scalar::choice(value, &MODES))
            .map_or(LanMode::Encrypted, |mode| mode.value),
        implicit_community: reader
            .optional(section, "implicit_community", scalar::switch)
            .is_some_and(|switch| switch.value),
    };
    LanTable { config, token_at, odd: odd.into_iter().flatten().collect() }
}

/// Never repeats the text: it is a secret.
fn token(value: &DeValue<'_>) -> Result<Token, Fault> {
    let Some(text) = value.as_str() else {
        return Err(Fault::new(format!("must be a text, not {}", scalar::article(value))).help("put it in quotes"));
    };
    text.parse().map_err(|error: TokenError| Fault::new(error.to_string()).help(MAKE_TOKEN))
}

fn odd_token(token: &Located<Token>) -> Option<Located<String>> {
    let is_short = token.value.strength() == Strength::Short;
    let text = format!("[lan] multicast_token: eight hex digits can be guessed in days; {MAKE_TOKEN}");
    is_short.then_some(Located { value: text, at: token.at })
}

fn odd_ttl(ttl: &Located<Duration>, interval: Duration) -> Option<Located<String>> {
    let text = format!("[lan] ttl: {} is used, twice the interval", Period(2 * interval));
    (ttl.value < 2 * interval).then_some(Located { value: text, at: ttl.at })
}

fn group4(value: &DeValue<'_>) -> Result<SocketAddrV4, Fault> {
    let group = |text: &str| text.parse().ok().filter(|group: &SocketAddrV4| group.ip().is_multicast());
    of_group(value, "an IPv4 multicast address", GROUP4, group)
}

fn group6(value: &DeValue<'_>) -> Result<SocketAddrV6, Fault> {
    // `ff`, four flags, four bits of scope, of which 2 is link-local (RFC 4291 §2.7).
    let is_link_local = |group: &SocketAddrV6| group.ip().to_bits() >> 112 & 0xff0f == 0xff02;
    let group = |text: &str| text.parse().ok().filter(is_link_local).filter(|group| group.scope_id() == 0);
    of_group(value, "a link-local IPv6 multicast address", GROUP6, group)
}

fn of_group<G: Copy + Into<SocketAddr>>(
    value: &DeValue<'_>,
    what: &str,
    default: G,
    parse: impl Fn(&str) -> Option<G>,
) -> Result<G, Fault> {
    let text = scalar::text(value)?;
    let group = parse(text).filter(|group| (*group).into().port() != 0);
    group.ok_or_else(|| {
        let fault = Fault::new(format!("{} is not {what} with a port", quote(text)));
        fault.help(format!("write \"{}\"", default.into()))
    })
}

fn interfaces(reader: &mut Reader<'_>, section: Section<'_>) -> Vec<InterfacePattern> {
    const KEY: &str = "interfaces";
    let all = || vec![InterfacePattern(WildMatch::new("*"))];
    let Some(value) = section.value(KEY) else { return all() };
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        let fault = Fault::new("names no interface");
        let help = "write [\"*\"] for all, or remove multicast_token to switch LAN discovery off";
        reader.report_key(section, KEY, value.span().start, fault.help(help));
        return all();
    }
    reader.list(section, KEY, interface).into_iter().map(|pattern| pattern.value).collect()
}

fn interface(text: &str) -> Result<InterfacePattern, Fault> {
    // `dev_valid_name` refuses these; a pattern that has one names no interface.
    let is_name = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
    if text.is_empty() || text.len() > 64 || !text.chars().all(is_name) {
        let fault = Fault::new(format!("{} names no interface", quote(text)));
        return Err(fault.help("write a name such as \"eth0\", or a pattern such as \"eth*\""));
    }
    Ok(InterfacePattern(WildMatch::new(text)))
}
