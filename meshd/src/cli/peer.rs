//! `meshd status NAME`: one peer in full, and above all where it may be reached and how each way failed.

use std::fmt::Write as _;
use std::time::Duration;

use super::status::{health, path_text, peer_state, route};
use super::text::{NONE, ago, bytes, count, milliseconds, or_none, percent, span, table};
use crate::api::detail::{CarriedLine, PeerReport, SprayLine};
use crate::api::model::PathLine;

const HEAD: [&str; 10] =
    ["CANDIDATE", "FROM", "STATE", "RTT", "JITTER", "LOSS", "MTU", "PROBES", "ANSWERED", "PROBLEM"];

/// The whole report as text.
pub(super) fn render(report: &PeerReport) -> String {
    let peer = &report.peer;
    let mut out = format!("{} ({}), {}", peer.name, peer.kind, peer_state(peer));
    out.push_str(&path_text(peer).map_or_else(String::new, |path| format!(" over {path}")));
    out.push_str(&peer.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")));
    out.push_str("\n\n");
    for (name, value) in facts(report) {
        let _ = writeln!(out, "  {name:<10}  {value}");
    }
    out.push('\n');
    candidates(&mut out, &peer.paths);
    if !report.history.is_empty() {
        out.push_str("\nhistory:\n");
    }
    for line in &report.history {
        let _ = writeln!(out, "  {:>10}  {}", ago(line.seconds_ago), line.event);
    }
    if !report.health.is_empty() {
        out.push('\n');
        health(&mut out, &report.health);
    }
    out
}

fn facts(report: &PeerReport) -> Vec<(&'static str, String)> {
    let peer = &report.peer;
    let some = |texts: &[String]| Some(texts.join(" ")).filter(|text| !text.is_empty());
    let packets = |number: u64, size: u64| format!("{} in {}", bytes(size), count(number, "packet"));
    let traffic = format!(
        "{} received, {} sent",
        packets(peer.rx_packets, peer.rx_bytes),
        packets(peer.tx_packets, peer.tx_bytes)
    );
    let facts = [
        ("key", Some(peer.public_key.clone())),
        ("addresses", some(&peer.addresses)),
        ("subnets", some(&report.subnets)),
        ("relays", report.is_relay.then(|| "for others".to_owned())),
        ("session", session(report)),
        ("handshake", handshake(report)),
        ("traffic", Some(traffic)),
        ("spray", report.spray.as_ref().map(spray)),
        ("relayed", report.relayed.as_ref().map(relayed)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn session(report: &PeerReport) -> Option<String> {
    let session = report.session.as_ref()?;
    let index = report.peer.session.as_deref().unwrap_or(NONE);
    let cipher = report.peer.cipher.as_deref().unwrap_or(NONE);
    let age = span(Duration::from_secs_f64(session.age_seconds.max(0.0)));
    let by = if session.is_initiator { "this node" } else { "the peer" };
    Some(format!("{index}, {cipher}, {age} old, begun by {by}, {} before", count(report.peer.rekeys, "rekey")))
}

fn handshake(report: &PeerReport) -> Option<String> {
    let tried = report.handshake.as_ref()?;
    let time = span(Duration::from_secs_f64(tried.seconds.max(0.0)));
    let end = tried.given_up_seconds_ago.map_or_else(|| "goes on".to_owned(), |at| format!("given up {}", ago(at)));
    Some(format!("no answer to {} in {time}, {end}", count(tried.initiations.into(), "initiation")))
}

fn spray(line: &SprayLine) -> String {
    format!("{}, begun {}", line.text, ago(line.seconds_ago))
}

fn relayed(carried: &CarriedLine) -> String {
    let CarriedLine { rx_datagrams, rx_bytes, tx_datagrams, tx_bytes, limited_datagrams } = carried;
    format!(
        "{} in {} from it, {} in {} for it, {limited_datagrams} kept back by the limits",
        bytes(*rx_bytes),
        count(*rx_datagrams, "datagram"),
        bytes(*tx_bytes),
        count(*tx_datagrams, "datagram")
    )
}

fn candidates(out: &mut String, paths: &[PathLine]) {
    if paths.is_empty() {
        out.push_str(
            "no candidates: it has no public_addresses, there is no relay, and it has not contacted this node\n",
        );
        return;
    }
    let mut rows = vec![HEAD.map(str::to_owned)];
    let mut paths: Vec<&PathLine> = paths.iter().collect();
    paths.sort_by_key(|path| path.state != "active");
    rows.extend(paths.into_iter().map(row));
    table(out, &rows);
}

fn row(path: &PathLine) -> [String; HEAD.len()] {
    let probed = Some(path).filter(|path| path.probes > 0);
    [
        route(&path.kind, path.via.as_deref(), &path.address),
        path.origin.clone(),
        path.state.clone(),
        or_none(path.rtt_us, milliseconds),
        or_none(path.rtt_us, |_| milliseconds(path.jitter_us)),
        // Of a place that never answered it says nothing that the problem does not.
        or_none(probed.filter(|path| path.rtt_us.is_some()), |path| percent(path.loss_per_mille)),
        or_none(path.mtu, |mtu| format!("{mtu} B")),
        or_none(probed, |path| path.probes.to_string()),
        or_none(path.last_answer_seconds_ago, ago),
        path.problem.clone().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::tests::peer_line;
    use serde_json::json;

    #[test]
    fn one_peer_is_told_with_every_candidate_and_how_it_failed() {
        let report: PeerReport = serde_json::from_value(json!({
            "version": 1, "peer": peer_line(), "is_relay": false, "subnets": ["10.2.0.0/16"],
            "session": {"age_seconds": 63.0, "is_initiator": true}, "handshake": null, "relayed": null,
            "history": [{"seconds_ago": 65.0, "event": "connected over relay hub.connector"}],
            "health": [{"severity": "warning", "text": "something"}]}))
        .unwrap();
        let wanted = "there.two (edge), connected over relay hub.connector

  key         AgIC
  addresses   10.99.0.2
  subnets     10.2.0.0/16
  session     0a0b0c0d, aes-256-gcm, 1m03s old, begun by this node, 2 rekeys before
  traffic     2.00 KiB in 3 packets received, 100 B in 2 packets sent

CANDIDATE                FROM       STATE   RTT      JITTER   LOSS  MTU     PROBES  ANSWERED  PROBLEM
relay hub.connector      relay      active  12.3 ms  0.40 ms  12 %  1400 B  7       2s ago
direct 192.168.1.4:6374  interface  silent  -        -        -     -       12      -         no answer to 12 probes

history:
   1m05s ago  connected over relay hub.connector

health:
  warning: something
";
        assert_eq!(render(&report), wanted);
    }

    #[test]
    fn a_handshake_without_an_answer_is_told_with_its_tries() {
        let mut peer = peer_line();
        peer["paths"] = json!([]);
        peer["state"] = json!("unreachable");
        peer["path"] = json!(null);
        let report: PeerReport = serde_json::from_value(json!({
            "version": 1, "peer": peer, "is_relay": true, "subnets": [], "session": null,
            "handshake": {"seconds": 90.0, "initiations": 20, "given_up_seconds_ago": 5.0},
            "relayed": {"rx_datagrams": 1, "rx_bytes": 100, "tx_datagrams": 2, "tx_bytes": 200, "limited_datagrams": 0},
            "history": [], "health": []}))
        .unwrap();
        let text = render(&report);
        for part in [
            "there.two (edge), unreachable\n",
            "handshake   no answer to 20 initiations in 1m30s, given up 5s ago",
            "relays      for others",
            "relayed     100 B in 1 datagram from it, 200 B in 2 datagrams for it, 0 kept back by the limits",
            "no candidates:",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}
