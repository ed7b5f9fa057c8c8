//! `meshd netcheck`: what the network around this node lets through, and what follows from it.

mod verdict;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde::Serialize;

use super::text::{NONE, milliseconds, or_none, table};
use super::{Result, SocketArgs, block_on, print};
use crate::api::client::call;
use crate::api::model::{GatewayLine, LanInterfaceLine, LanLine, Mode, NatLine, NeighbourLine};
use crate::api::netcheck::{NetCheck, RelayLine};
use verdict::Verdict;

#[derive(Args)]
pub(super) struct NetcheckArgs {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take; it needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// How long servers, gateways and relays are given to answer: two tries of STUN, and a round trip by satellite.
const MEASURE: Duration = Duration::from_secs(2);

const HEAD: [&str; 5] = ["RELAY", "ROLE", "PATH", "RTT", "USED FOR"];

/// Everything, as JSON.
#[derive(Serialize)]
struct Report<'r> {
    verdict: &'r str,
    hints: &'r [String],
    #[serde(flatten)]
    net: &'r NetCheck,
}

/// Measures, asks, and prints.
pub(super) fn main(args: &NetcheckArgs) -> Result {
    block_on(async {
        let ask =
            async |method| call::<NetCheck>(&args.socket.socket, LIMIT, method, "/v1/netcheck", None::<&()>).await;
        let _: NetCheck = ask(Method::POST).await?;
        tokio::time::sleep(MEASURE).await;
        let net = ask(Method::GET).await?;
        let Verdict { text, hints } = verdict::of(&net, net.outside.nat.as_ref().map(|nat| nat.class.as_str()));
        if args.json {
            let report = Report { verdict: &text, hints: &hints, net: &net };
            print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            print(&render(&text, &hints, &net))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn render(verdict: &str, hints: &[String], net: &NetCheck) -> String {
    let mut out = format!("{verdict}\n");
    if net.mode == Mode::NotSelected {
        return out;
    }
    out.push('\n');
    for (name, value) in facts(net) {
        let _ = writeln!(out, "  {name:<13}  {value}");
    }
    out.push('\n');
    if net.relays.is_empty() {
        out.push_str("no relay in this mesh\n");
    } else {
        let mut rows = vec![HEAD.map(str::to_owned)];
        rows.extend(net.relays.iter().map(relay));
        table(&mut out, &rows);
    }
    if !hints.is_empty() {
        out.push_str("\nhints:\n");
    }
    for hint in hints {
        let _ = writeln!(out, "  {hint}");
    }
    out
}

fn facts(net: &NetCheck) -> Vec<(&'static str, String)> {
    let list = |texts: &[String], none: &str| if texts.is_empty() { none.to_owned() } else { texts.join(" ") };
    let mut facts = vec![
        ("UDP", net.udp.as_ref().map_or_else(|| "nothing answers".to_owned(), |by| format!("passes: {by}"))),
        ("IPv4 outside", outside(net, SocketAddr::is_ipv4)),
        ("IPv6 outside", outside(net, SocketAddr::is_ipv6)),
        ("NAT", net.outside.nat.as_ref().map_or_else(|| "not known yet".to_owned(), nat)),
        ("port mapping", mapping(&net.outside.gateways)),
        ("configured", list(&net.public_addresses, "no public_addresses")),
        ("interfaces", list(&net.local_addresses, "no address that others may reach")),
        ("LAN", net.lan.as_ref().map_or_else(|| "discovery is off".to_owned(), lan)),
    ];
    let failed =
        net.outside.stun_servers.iter().filter_map(|server| Some((&server.server, server.last_error.as_ref()?)));
    facts.extend(failed.map(|(server, error)| ("STUN", format!("{server}: {error}"))));
    facts
}

/// Each address of a family at which this node is seen, and who says so.
fn outside(net: &NetCheck, is_family: fn(&SocketAddr) -> bool) -> String {
    let mut seen: Vec<(SocketAddr, Vec<&str>)> = Vec::new();
    for (address, by) in verdict::sightings(net).filter(|(address, _)| is_family(address)) {
        match seen.iter_mut().find(|(known, _)| *known == address) {
            Some((_, all)) => all.push(by),
            None => seen.push((address, vec![by])),
        }
    }
    let texts: Vec<String> =
        seen.iter().map(|(address, by)| format!("{address} (seen by {})", by.join(", "))).collect();
    if texts.is_empty() { "not seen by anybody".to_owned() } else { texts.join(", ") }
}

fn nat(nat: &NatLine) -> String {
    match (nat.class.as_str(), nat.step) {
        ("open", _) => "none".to_owned(),
        ("endpoint-independent", _) => "one outer port for all destinations".to_owned(),
        ("sequential", Some(step)) => format!("another outer port for each destination, {step} on each time"),
        ("random", _) => "another outer port for each destination, at random".to_owned(),
        (other, _) => other.to_owned(),
    }
}

fn mapping(gateways: &[GatewayLine]) -> String {
    let one = |line: &GatewayLine| {
        let GatewayLine { interface, gateway, protocol, external, is_public, last_error } = line;
        let at = format!("gateway {gateway} on {interface}");
        let protocol = protocol.as_deref().unwrap_or("no protocol");
        match (external, last_error) {
            (Some(external), _) if *is_public => format!("{external} by {protocol}, {at}"),
            (Some(external), _) => format!("{external} by {protocol}, {at}, behind another NAT"),
            (None, Some(error)) => format!("none: {at}: {error}"),
            (None, None) => format!("none: {at} has not answered yet"),
        }
    };
    let texts: Vec<String> = gateways.iter().map(one).collect();
    if texts.is_empty() { "no gateway was asked".to_owned() } else { texts.join("; ") }
}

fn lan(lan: &LanLine) -> String {
    let interface = |of: &LanInterfaceLine| match &of.error {
        None => of.name.clone(),
        Some(error) => format!("{} ({error})", of.name),
    };
    let neighbour =
        |of: &NeighbourLine| format!("{} at {}", of.name.as_deref().unwrap_or("a stranger"), of.addresses.join(" "));
    let interfaces: Vec<String> = lan.interfaces.iter().map(interface).collect();
    let neighbours: Vec<String> = lan.neighbours.iter().map(neighbour).collect();
    let neighbours = if neighbours.is_empty() { "nobody is near".to_owned() } else { neighbours.join(", ") };
    format!("{}; {neighbours}", if interfaces.is_empty() { "no interface".to_owned() } else { interfaces.join(" ") })
}

fn relay(relay: &RelayLine) -> [String; HEAD.len()] {
    let path = relay.path.clone().or_else(|| relay.reason.clone());
    [
        relay.name.clone(),
        if relay.is_own { "own" } else { "other" }.to_owned(),
        path.unwrap_or_else(|| "no session".to_owned()),
        or_none(relay.rtt_us, milliseconds),
        if relay.used_for.is_empty() { NONE.to_owned() } else { relay.used_for.join(" ") },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    pub(super) fn net(observed: &[(&str, &str)]) -> NetCheck {
        let observed: Vec<_> =
            observed.iter().map(|(by, address)| json!({"by": by, "address": address, "seconds_ago": 1.0})).collect();
        serde_json::from_value(json!({
            "version": 1, "name": "here.one", "port": 6374, "udp": "a session with hub.connector", "public_addresses": [],
            "local_addresses": ["192.168.1.4"], "observed": observed,
            "outside": {"gateways": [{"interface": "eth0", "gateway": "192.168.1.1", "protocol": null, "external": null,
                "is_public": false, "last_error": "no answer"}], "stun_servers": []},
            "relays": [{"name": "hub.connector", "path": "direct 203.0.113.1:6374", "rtt_us": 12_345, "is_own": true,
                "used_for": ["there.two"], "reason": null}]}))
        .unwrap()
    }

    #[test]
    fn everything_that_is_known_has_its_line_and_the_verdict_comes_first() {
        let mut net = net(&[("hub.connector", "198.51.100.1:40001"), ("lab.one", "198.51.100.1:40001")]);
        net.outside.nat = serde_json::from_value(json!({"class": "endpoint-independent", "step": null})).unwrap();
        net.lan = serde_json::from_value(json!({
            "interfaces": [{"name": "eth0", "ipv4": true, "ipv6": true, "error": null}], "beacons_heard": 3,
            "beacons_refused": 0,
            "neighbours": [{"name": "here.two", "public_key": "AgIC", "addresses": ["192.168.1.5:6374"]}]}))
        .unwrap();
        let wanted = "All is well.

  UDP            passes: a session with hub.connector
  IPv4 outside   198.51.100.1:40001 (seen by hub.connector, lab.one)
  IPv6 outside   not seen by anybody
  NAT            one outer port for all destinations
  port mapping   none: gateway 192.168.1.1 on eth0: no answer
  configured     no public_addresses
  interfaces     192.168.1.4
  LAN            eth0; here.two at 192.168.1.5:6374

RELAY          ROLE  PATH                     RTT      USED FOR
hub.connector  own   direct 203.0.113.1:6374  12.3 ms  there.two

hints:
  do this
";
        assert_eq!(render("All is well.", &["do this".to_owned()], &net), wanted);
    }

    #[test]
    fn a_daemon_that_knows_neither_nat_nor_lan_is_told_as_such() {
        let text = render("So so.", &[], &net(&[]));
        assert!(
            text.contains("NAT            not known yet\n") && text.contains("LAN            discovery is off\n"),
            "{text}"
        );
    }
}
