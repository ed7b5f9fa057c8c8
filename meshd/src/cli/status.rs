//! `meshd status`: a line per peer, and below them what is wrong; with a name, one peer in full.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::reload::last_text;
use super::text::{NONE, ago, bytes, count, milliseconds, or_none, percent, rate, span, table};
use super::{Result, SocketArgs, block_on, peer, print};
use crate::api::client::call;
use crate::api::detail::{PeerReport, RelayingLine};
use crate::api::model::{Health, Mode, NodeStatus, PathLine, PeerLine, Severity, State, Status};
use crate::api::shared::SharedLine;

#[derive(Args)]
pub(super) struct StatusArgs {
    /// One peer in full: its name `<cluster>.<node>`, or `<node>` alone where one cluster has it, or an address of it
    name: Option<String>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take; it needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Columns of the table of peers.
const HEAD: [&str; 9] = ["PEER", "ADDRESS", "STATE", "PATH", "RTT", "LOSS", "MTU", "RX", "TX"];

/// Asks and prints.
pub(super) fn main(args: &StatusArgs) -> Result {
    match &args.name {
        None => show::<Status>(args, "/v1/status", render),
        // A name has no character that a path does not take; what has is no name, and the daemon would not see it whole.
        Some(name) if name.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_".contains(&b)) => {
            show::<PeerReport>(args, &format!("/v1/peers/{name}"), peer::render)
        }
        Some(name) => Err(format!("{name} is neither a name nor an address").into()),
    }
}

fn show<T: Serialize + DeserializeOwned>(args: &StatusArgs, path: &str, render: fn(&T) -> String) -> Result {
    block_on(async {
        let answer: T = call(&args.socket.socket, LIMIT, Method::GET, path, None::<&()>).await?;
        print(&if args.json { serde_json::to_string_pretty(&answer)? + "\n" } else { render(&answer) })?;
        Ok(ExitCode::SUCCESS)
    })
}

fn render(status: &Status) -> String {
    let node = &status.node;
    let mut out = String::new();
    match status.mode {
        Mode::Running => {
            let _ = writeln!(
                out,
                "{} in mesh {}, {} on {}, UDP port {}, up {}\n",
                node.name,
                node.mesh,
                node.addresses.join(" "),
                node.interface,
                node.port,
                span(Duration::from_secs(node.uptime_seconds))
            );
            let mut rows = vec![HEAD.map(str::to_owned)];
            rows.extend(status.peers.iter().map(row));
            table(&mut out, &rows);
        }
        Mode::NotSelected => {
            idle(&mut out, node);
            out.push_str("not selected: left out by [selector] of the mesh file, so nothing runs\n");
        }
        Mode::CannotStart => {
            idle(&mut out, node);
            out.push_str("cannot start: nothing runs, and the start is tried again until it succeeds\n");
        }
    }
    out.push('\n');
    if let Some(relaying) = status.relaying.as_ref().filter(|relaying| relaying.total.rx_datagrams > 0) {
        let _ = writeln!(out, "{}\n", relayed(relaying));
    }
    for shared in &status.shared {
        let _ = writeln!(out, "{}\n", shared_text(shared));
    }
    if let Some(last) = &status.last_reload {
        let _ = writeln!(out, "{}\n", last_text(last));
    }
    if status.health.is_empty() {
        out.push_str("health: good\n");
    } else {
        health(&mut out, &status.health);
    }
    out
}

fn idle(out: &mut String, node: &NodeStatus) {
    let up = span(Duration::from_secs(node.uptime_seconds));
    let _ = writeln!(out, "{} in mesh {}, idle, no interface, up {up}\n", node.name, node.mesh);
}

/// Appends what is wrong, worst first.
pub(super) fn health(out: &mut String, all: &[Health]) {
    out.push_str("health:\n");
    for health in all {
        let mark = match health.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = writeln!(out, "  {mark}: {}", health.text);
    }
}

/// A peer's state as people read it; of one that is lost, since when; of one that has not joined, that.
pub(super) fn peer_state(peer: &PeerLine) -> String {
    if let Some(until) = &peer.invited_until {
        // Moments in UTC are in the order of their texts.
        let is_over = *until <= config::time_text(config::unix_now());
        return if is_over { "invitation expired" } else { "invited" }.to_owned();
    }
    peer.disconnected_seconds
        .map_or_else(|| state_text(peer.state).to_owned(), |at| format!("disconnected since {}", ago(at)))
}

const fn state_text(state: State) -> &'static str {
    match state {
        State::Idle => "idle",
        State::Connecting => "connecting",
        State::Connected => "connected",
        State::Unreachable => "unreachable",
        State::Denied => "denied",
        State::RelayOnly => "relay only",
    }
}

/// Where a peer's data goes: the kind, and the relay's name or the address.
pub(super) fn path_text(peer: &PeerLine) -> Option<String> {
    let path = peer.path.as_deref()?;
    let text = route(peer.path_kind.as_deref().unwrap_or_default(), peer.via.as_deref(), path);
    let is_direct = peer.paths.iter().any(|path| path.direct_route);
    Some(if is_direct { format!("{text}, direct route") } else { text })
}

/// A path as people read it; an address through a relay says `relay` itself.
pub(super) fn route(kind: &str, via: Option<&str>, address: &str) -> String {
    match via {
        Some(relay) => format!("{kind} {relay}"),
        None if kind.is_empty() || address == "relay" || address.starts_with("relay ") => address.to_owned(),
        None => format!("{kind} {address}"),
    }
}

fn row(peer: &PeerLine) -> [String; HEAD.len()] {
    let active: Option<&PathLine> = peer.paths.iter().find(|path| path.state == "active");
    [
        peer.name.clone(),
        peer.addresses.first().cloned().unwrap_or_else(|| NONE.to_owned()),
        peer_state(peer),
        path_text(peer).unwrap_or_else(|| NONE.to_owned()),
        or_none(active.and_then(|path| path.rtt_us), milliseconds),
        or_none(active.filter(|path| path.probes > 0), |path| percent(path.loss_per_mille)),
        or_none(active.and_then(|path| path.mtu), |mtu| format!("{mtu} B")),
        bytes(peer.rx_bytes),
        bytes(peer.tx_bytes),
    ]
}

/// Who carries a shared prefix, and how the others do.
fn shared_text(shared: &SharedLine) -> String {
    let mut text = format!("{} goes to {}", shared.prefix, shared.owner.as_deref().unwrap_or("nobody"));
    if shared.is_unreached {
        text.push_str(", which has told its peers that it does not reach it");
    }
    for owner in shared.owners.iter().filter(|owner| Some(&owner.name) != shared.owner.as_ref()) {
        let _ = write!(text, "; {} (priority {}): {}", owner.name, owner.priority, owner.state);
        if let Some(reason) = &owner.reason {
            let _ = write!(text, ", {reason}");
        }
    }
    text
}

fn relayed(relaying: &RelayingLine) -> String {
    let RelayingLine { rate_bits_per_second, member_rate_bits_per_second, channels, members, total } = relaying;
    format!(
        "relays for {} over {}: {} in {} so far, {} kept back by the limits ({} for each, {} for all)",
        count(members.len() as u64, "member"),
        count(*channels as u64, "channel"),
        bytes(total.rx_bytes),
        count(total.rx_datagrams, "datagram"),
        total.limited_datagrams,
        rate(*member_rate_bits_per_second),
        rate(*rate_bits_per_second)
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::json;

    pub(in crate::cli) fn peer_line() -> serde_json::Value {
        json!({
            "name": "there.two", "kind": "edge", "public_key": "AgIC", "addresses": ["10.99.0.2"], "state": "connected",
            "path": "relay 203.0.113.1:6374", "path_kind": "relay", "via": "hub.connector",
            "paths": [
                {"address": "relay 203.0.113.1:6374", "via": "hub.connector", "kind": "relay", "origin": "relay",
                 "state": "active", "rtt_us": 12_345, "jitter_us": 400, "loss_per_mille": 120, "mtu": 1400, "probes": 7,
                 "last_answer_seconds_ago": 2.2},
                {"address": "192.168.1.4:6374", "kind": "direct", "origin": "interface", "state": "silent", "rtt_us": null,
                 "jitter_us": 0, "loss_per_mille": 800, "probes": 12, "problem": "no answer to 12 probes"}],
            "rx_bytes": 2048, "tx_bytes": 100, "rx_packets": 3, "tx_packets": 2, "session": "0a0b0c0d",
            "cipher": "aes-256-gcm", "rekeys": 2})
    }

    #[test]
    fn a_line_tells_kind_relay_round_trip_loss_and_mtu_of_the_path() {
        let peer: PeerLine = serde_json::from_value(peer_line()).unwrap();
        let told = row(&peer);
        let wanted = [
            "there.two",
            "10.99.0.2",
            "connected",
            "relay hub.connector",
            "12.3 ms",
            "12 %",
            "1400 B",
            "2.00 KiB",
            "100 B",
        ];
        assert_eq!(told, wanted);
        let mut out = String::new();
        table(&mut out, &[HEAD.map(str::to_owned), told]);
        assert!(out.lines().all(|line| line.len() <= 120), "{out}");
    }

    #[test]
    fn a_peer_that_is_lost_is_told_with_the_time_of_its_last_sign_of_life() {
        for (state, text) in
            [("connected", "disconnected since 12s ago"), ("unreachable", "disconnected since 12s ago")]
        {
            let mut json = peer_line();
            json["state"] = json!(state);
            json["disconnected_seconds"] = json!(12.3);
            assert_eq!(row(&serde_json::from_value(json).unwrap())[2], text);
        }
    }

    #[test]
    fn who_has_not_joined_is_invited_until_that_expires() {
        for (until, text) in [("2999-01-01T00:00:00Z", "invited"), ("2000-01-01T00:00:00Z", "invitation expired")] {
            let mut json = peer_line();
            (json["state"], json["invited_until"]) = (json!("denied"), json!(until));
            assert_eq!(row(&serde_json::from_value(json).unwrap())[2], text);
        }
    }

    #[test]
    fn a_node_with_peers_of_all_states_is_a_table_and_what_is_wrong_below_it() {
        let peer = |name: &str, changes: serde_json::Value| {
            let mut line = peer_line();
            line["name"] = json!(name);
            for (key, value) in changes.as_object().into_iter().flatten() {
                line[key.as_str()] = value.clone();
            }
            line
        };
        let unknown = json!({"path": null, "path_kind": null, "via": null, "paths": [], "session": null, "rx_bytes": 0, "tx_bytes": 0});
        let away = |name: &str, state: &str, more: serde_json::Value| {
            let mut line = peer(name, unknown.clone());
            line["state"] = json!(state);
            more.as_object().into_iter().flatten().for_each(|(key, value)| line[key.as_str()] = value.clone());
            line
        };
        let status: Status = serde_json::from_value(json!({
            "version": 1, "drops": {},
            "peers": [
                peer("there.two", json!({})),
                away("there.three", "idle", json!({})),
                away("there.four", "unreachable", json!({"disconnected_seconds": 42.0})),
                away("there.five", "denied", json!({})),
                away("there.six", "denied", json!({"invited_until": "2999-01-01T00:00:00Z"})),
            ],
            "health": [
                {"severity": "error", "text": "peer there.four does not answer"},
                {"severity": "warning", "text": "route 10.1.0.0/16 is left out: eth0 has it"}],
            "last_reload": {"seconds_ago": 90.0, "cause": "call", "error": null,
                            "applied": ["endpoints: 1 added"], "needs_restart": ["listen.port"], "notes": []},
            "node": {"name": "here.one", "mesh": "lab", "public_key": "AgIC", "addresses": ["10.99.0.1", "fd00::1"], "port": 6374,
                     "interface": "mesh0", "daemon": "0", "uptime_seconds": 3700, "offloads": [], "aes_backend": null}}))
        .unwrap();
        insta::assert_snapshot!(render(&status));
    }

    #[test]
    fn a_node_that_is_left_out_is_idle_and_has_no_table() {
        let status: Status = serde_json::from_value(json!({
            "version": 1, "peers": [], "drops": {}, "health": [], "mode": "not_selected",
            "node": {"name": "here.one", "mesh": "lab", "public_key": "AgIC", "addresses": ["10.99.0.1"], "port": 0,
                     "interface": "mesh0", "daemon": "0", "uptime_seconds": 7, "offloads": [], "aes_backend": null}}))
        .unwrap();
        let wanted = "here.one in mesh lab, idle, no interface, up 7s\n\n\
                      not selected: left out by [selector] of the mesh file, so nothing runs\n\nhealth: good\n";
        assert_eq!(render(&status), wanted);
    }

    #[test]
    fn a_path_of_a_daemon_that_knows_less_is_told_as_far_as_it_goes() {
        let mut json = peer_line();
        for field in ["via", "path_kind", "paths"] {
            json.as_object_mut().unwrap().remove(field);
        }
        let peer: PeerLine = serde_json::from_value(json).unwrap();
        assert_eq!(row(&peer)[3..7], ["relay 203.0.113.1:6374", NONE, NONE, NONE].map(str::to_owned));
        assert_eq!(route("direct", None, "192.0.2.1:6374"), "direct 192.0.2.1:6374");
    }

    #[test]
    fn a_shared_prefix_is_one_line_with_its_owner_and_why_not_the_others() {
        let shared: SharedLine = serde_json::from_value(json!({
            "prefix": "10.50.0.0/16", "owner": "site.two", "is_own": false, "is_unreached": false,
            "owners": [{"name": "site.one", "priority": 0, "state": "silent", "reason": "it does not answer for 9 s"},
                       {"name": "site.two", "priority": 1, "state": "active", "reason": null}]}))
        .unwrap();
        assert_eq!(
            shared_text(&shared),
            "10.50.0.0/16 goes to site.two; site.one (priority 0): silent, it does not answer for 9 s"
        );
    }

    #[test]
    fn what_is_relayed_is_one_line_with_both_limits() {
        let relaying: RelayingLine = serde_json::from_value(json!({
            "rate_bits_per_second": 1_000_000_000, "member_rate_bits_per_second": 100_000_000, "channels": 1,
            "members": [{"name": "here.one", "channels": 1, "rx_datagrams": 4, "rx_bytes": 4096, "tx_datagrams": 0,
                         "tx_bytes": 0, "limited_datagrams": 3}],
            "total": {"rx_datagrams": 4, "rx_bytes": 4096, "tx_datagrams": 4, "tx_bytes": 4096, "limited_datagrams": 3}}))
        .unwrap();
        assert_eq!(
            relayed(&relaying),
            "relays for 1 member over 1 channel: 4.00 KiB in 4 datagrams so far, 3 kept back by the limits (100 Mbit/s for \
             each, 1 Gbit/s for all)"
        );
    }
}
