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
use crate::note::{Origin, Said, Value};
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
#[derive(Debug)]
pub(crate) struct LanTable {
    pub(crate) config: LanConfig,
    /// Where the token stands, if there is one.
    pub(crate) token_at: Option<Origin>,
    /// Where a `ttl` stands, if there is one.
    ttl_at: Option<Origin>,
    /// What is legal but odd.
    pub(crate) odd: Vec<Said<String>>,
}

impl Default for LanTable {
    fn default() -> Self {
        let config = LanConfig {
            token: None,
            group4: GROUP4,
            group6: GROUP6,
            interval: INTERVAL,
            ttl: TTL,
            interfaces: vec![InterfacePattern(WildMatch::new("*"))],
            mode: LanMode::Encrypted,
            implicit_community: false,
        };
        Self { config, token_at: None, ttl_at: None, odd: Vec::new() }
    }
}

/// Reads `[lan]` over what it is, all but the token.
pub(crate) fn read(reader: &mut Reader<'_>, root: &DeTable<'_>, lan: &mut LanTable) {
    let section = reader.section(root, &shape::LAN);
    let config = &mut lan.config;
    reader.set(section, "multicast_address", &mut config.group4, group4, Value::text);
    reader.set(section, "multicast_address6", &mut config.group6, group6, Value::text);
    let interval = |value: &_| scalar::period(value, &INTERVAL_RANGE);
    reader.set(section, "interval", &mut config.interval, interval, scalar::show_period);
    let ttl = |value: &_| scalar::period(value, &TTL_RANGE);
    if let Some(at) = reader.set(section, "ttl", &mut config.ttl, ttl, scalar::show_period) {
        lan.ttl_at = Some(reader.origin(at));
    }
    let patterns = interfaces(reader, section);
    reader.put(section, "interfaces", &mut config.interfaces, patterns, |patterns| {
        Value::List(patterns.iter().map(|pattern| pattern.0.to_string()).collect())
    });
    let mode = |value: &_| scalar::choice(value, &MODES);
    reader.set(section, "mode", &mut config.mode, mode, |mode| Value::word(mode, &MODES));
    reader.set(section, "implicit_community", &mut config.implicit_community, scalar::switch, scalar::show_switch);
}

/// Reads the token, which only `meshd.toml` itself may hold, after all the rest.
pub(crate) fn finish(reader: &mut Reader<'_>, root: &DeTable<'_>, lan: &mut LanTable) {
    let section = reader.again(root, &shape::LAN);
    let token = reader.optional(section, "multicast_token", token);
    lan.odd.extend(token.as_ref().and_then(|token| odd_token(reader, token)));
    lan.token_at = token.as_ref().map(|token| reader.origin(token.at));
    let read = token.map(|Located { value, at }| Located { value: Some(value), at });
    reader.put(section, "multicast_token", &mut lan.config.token, read, |token| {
        token.as_ref().map_or(Value::Absent, |_| Value::Secret)
    });
    settle(reader, lan);
}

/// Settles what depends on several keys, once all have been read.
pub(crate) fn settle(reader: &mut Reader<'_>, lan: &mut LanTable) {
    let least = 2 * lan.config.interval;
    if lan.config.ttl < least {
        lan.config.ttl = least;
        reader.amend("lan", "ttl", || scalar::show_period(&least));
        let value = format!("[lan] ttl: {} is used, twice the interval", Period(least));
        lan.odd.extend(lan.ttl_at.take().map(|origin| Said { value, origin }));
    }
}

/// Never repeats the text: it is a secret.
fn token(value: &DeValue<'_>) -> Result<Token, Fault> {
    let Some(text) = value.as_str() else {
        return Err(Fault::new(format!("must be a text, not {}", scalar::article(value))).help("put it in quotes"));
    };
    text.parse().map_err(|error: TokenError| Fault::new(error.to_string()).help(MAKE_TOKEN))
}

fn odd_token(reader: &Reader<'_>, token: &Located<Token>) -> Option<Said<String>> {
    let is_short = token.value.strength() == Strength::Short;
    let value = format!("[lan] multicast_token: eight hex digits can be guessed in days; {MAKE_TOKEN}");
    is_short.then(|| Said { value, origin: reader.origin(token.at) })
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

fn interfaces(reader: &mut Reader<'_>, section: Section<'_>) -> Option<Located<Vec<InterfacePattern>>> {
    const KEY: &str = "interfaces";
    let value = section.value(KEY)?;
    let at = value.span().start;
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        let fault = Fault::new("names no interface");
        let help = "write [\"*\"] for all, or remove multicast_token to switch LAN discovery off";
        reader.report_key(section, KEY, at, fault.help(help));
        return None;
    }
    let patterns = reader.list(section, KEY, interface).into_iter().map(|pattern| pattern.value).collect();
    Some(Located { value: patterns, at })
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
