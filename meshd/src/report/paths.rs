//! Candidates and paths in an operator's words: where, by whom, how they do, and how they failed.

use std::time::Duration;

use proto::id::PeerId;
use proto::node::{Answer, Asked, Node, PeerDetail};
use proto::path::{Locator, Origin, PathKind, PathState, PathStatus};
use proto::time::Instant;

use crate::api::model::{PathLine, PingReply};

/// A path as one text: kind, and the relay's name or the address.
pub(crate) fn text(node: &Node, peer: PeerId, locator: Locator, now: Instant) -> String {
    match via(node, locator) {
        Some(relay) => format!("{} {relay}", kind(node, peer, locator, now).name()),
        None => format!("{} {}", kind(node, peer, locator, now).name(), locator.address),
    }
}

/// What kind of way a path is, which depends on how its end became known.
pub(super) fn kind(node: &Node, peer: PeerId, locator: Locator, now: Instant) -> PathKind {
    let paths = node.peer_paths(peer, now);
    let known = paths.iter().find(|path| path.locator == locator).map(|path| path.kind);
    known.unwrap_or_else(|| PathKind::of(locator, Origin::Seen))
}

/// The name of the relay that a path goes through.
pub(crate) fn via(node: &Node, locator: Locator) -> Option<String> {
    locator.channel?;
    node.relay_at(locator.address).and_then(|relay| node.peer_name(relay)).map(ToString::to_string)
}

/// The answer to a ping, from what the core tells of it.
pub(crate) fn reply(node: &Node, peer: PeerId, source: Locator, rtt: Duration, now: Instant) -> PingReply {
    let kind = kind(node, peer, source, now).name().to_owned();
    PingReply { rtt_us: micros(rtt), path: source.to_string(), kind, via: via(node, source) }
}

/// The candidates of a peer that are probed inside its session.
pub(super) fn probed_of(node: &Node, peer: PeerId, now: Instant) -> Vec<PathLine> {
    let gateways = node.direct_gateways(peer);
    let is_direct = |path: &PathStatus| path.locator.channel.is_none() && gateways.contains(&path.locator.address);
    let line = |path: &PathStatus| PathLine { direct_route: is_direct(path), ..probed(node, path, now) };
    node.peer_paths(peer, now).iter().map(line).collect()
}

fn probed(node: &Node, path: &PathStatus, now: Instant) -> PathLine {
    let ago = |at: Option<Instant>| at.map(|at| (now - at).as_secs_f64());
    PathLine {
        address: path.locator.to_string(),
        via: via(node, path.locator),
        kind: path.kind.name().to_owned(),
        origin: path.origin.name().to_owned(),
        state: path.state.name().to_owned(),
        direct_route: false,
        rtt_us: path.rtt.map(micros),
        jitter_us: micros(path.jitter),
        loss_per_mille: path.loss,
        mtu: path.mtu,
        probes: path.probes,
        last_probe_seconds_ago: ago(path.probed_at),
        last_answer_seconds_ago: ago(path.answered_at),
        problem: problem(path, now),
    }
}

/// Every candidate of a peer: those probed, those that only handshakes go to, and the relays that gave no channel.
pub(super) fn all(node: &Node, peer: PeerId, detail: &PeerDetail, denial: Option<&str>, now: Instant) -> Vec<PathLine> {
    let mut lines = probed_of(node, peer, now);
    let is_probed = |locator: Locator| detail.paths.iter().any(|path| path.locator == locator);
    let places = detail.places.iter().filter(|(_, locator)| !is_probed(*locator));
    lines.extend(places.map(|(origin, locator)| dialled(node, detail, (*origin, *locator), denial, now)));
    for relay in &detail.relays {
        let name = node.peer_name(*relay).map(ToString::to_string);
        let has_channel = lines.iter().any(|line| line.via.is_some() && line.via == name);
        if !has_channel {
            lines.push(asked(node, detail, *relay, now));
        }
    }
    lines
}

/// A name in the peer's record that stands for no address now.
pub(super) fn unresolved(name: &str, error: &str) -> PathLine {
    let problem = format!("not dialled: the name does not resolve: {error}");
    PathLine { problem: Some(problem), ..blank(name.to_owned(), PathKind::Direct, Origin::Public, "unresolved") }
}

fn dialled(
    node: &Node,
    detail: &PeerDetail,
    (origin, locator): (Origin, Locator),
    denial: Option<&str>,
    now: Instant,
) -> PathLine {
    let tries = detail.tries.as_ref();
    let (state, problem) = match (tries, denial) {
        (_, Some(denial)) => ("idle", Some(format!("not dialled: {denial}"))),
        (None, None) if detail.session.is_some() => ("idle", Some("not probed: there are enough others".to_owned())),
        (None, None) => ("idle", Some("not dialled: there is nothing to say".to_owned())),
        (Some(tries), None) => {
            let span = (tries.ended.unwrap_or(now) - tries.since).as_secs();
            let text =
                format!("no answer to {} handshake{} in {span} s", tries.count, super::plural(tries.count.into()));
            match tries.ended {
                None => ("dialling", Some(text)),
                Some(ended) => ("silent", Some(format!("{text}, given up {} s ago", (now - ended).as_secs()))),
            }
        }
    };
    let kind = PathKind::of(locator, origin);
    PathLine { via: via(node, locator), problem, ..blank(locator.to_string(), kind, origin, state) }
}

fn asked(node: &Node, detail: &PeerDetail, relay: PeerId, now: Instant) -> PathLine {
    let name = node.peer_name(relay).map(ToString::to_string);
    let status = node.peer_status(relay);
    let is_connected = status.as_ref().is_some_and(|status| status.session.is_some());
    let at = status.and_then(|status| status.path);
    let ago = |asked: &Asked| (now - asked.at).as_secs();
    let (state, problem) = match detail.asked.iter().find(|asked| asked.relay == relay) {
        Some(asked) => match asked.answer {
            Answer::Refused(reason) => ("refused", format!("refused by the relay {} s ago: {reason}", ago(asked))),
            Answer::Opened => ("dead", "its channel is gone".to_owned()),
            Answer::Awaited if is_connected => ("asked", format!("asked {} s ago, no answer", ago(asked))),
            Answer::Awaited => ("asked", "this node is not connected to the relay".to_owned()),
        },
        None if is_connected => ("idle", "not asked: not needed so far".to_owned()),
        None => ("idle", "not asked, and this node is not connected to the relay".to_owned()),
    };
    let address = at.map_or_else(|| "relay".to_owned(), |at| format!("relay {}", at.address));
    PathLine { via: name, problem: Some(problem), ..blank(address, PathKind::Relay, Origin::Relay, state) }
}

fn blank(address: String, kind: PathKind, origin: Origin, state: &str) -> PathLine {
    PathLine {
        address,
        via: None,
        kind: kind.name().to_owned(),
        origin: origin.name().to_owned(),
        state: state.to_owned(),
        direct_route: false,
        rtt_us: None,
        jitter_us: 0,
        loss_per_mille: 0,
        mtu: None,
        probes: 0,
        last_probe_seconds_ago: None,
        last_answer_seconds_ago: None,
        problem: None,
    }
}

/// What is wrong with a candidate.
fn problem(path: &PathStatus, now: Instant) -> Option<String> {
    let probes = format!("{} probe{}", path.probes, super::plural(path.probes.into()));
    match (path.state, path.answered_at) {
        (PathState::Active | PathState::Standby, _) => None,
        (PathState::Probing, None) if path.probes == 0 => Some("not probed yet".to_owned()),
        (PathState::Probing, None) => Some(format!("no answer to {probes} so far")),
        (PathState::Silent, None) => Some(format!("no answer to {probes}")),
        (PathState::Probing, Some(at)) if path.probed_at.is_none_or(|probed| probed <= at) => {
            Some("answers, and is not confirmed yet".to_owned())
        }
        (PathState::Probing | PathState::Silent | PathState::Dead, Some(at)) => {
            Some(format!("worked until {} s ago", (now - at).as_secs()))
        }
        (PathState::Dead, None) => Some("does not work any more".to_owned()),
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(state: PathState, probes: u32, answered_at: Option<Instant>) -> PathStatus {
        let locator = Locator::from(std::net::SocketAddr::from(([192, 0, 2, 1], 6374)));
        let (origin, kind) = (Origin::Observed, PathKind::Direct);
        let (rtt, jitter, loss) = (None, Duration::ZERO, 0);
        let probed_at = Some(Instant::from_nanos(99_000_000_000)).filter(|_| probes > 0);
        PathStatus { locator, origin, kind, state, rtt, jitter, loss, mtu: None, probes, probed_at, answered_at }
    }

    #[test]
    fn each_way_to_fail_has_its_words() {
        let now = Instant::from_nanos(100_000_000_000);
        let past = Some(Instant::from_nanos(90_000_000_000));
        let cases = [
            (path(PathState::Active, 3, past), None),
            (path(PathState::Standby, 3, past), None),
            (path(PathState::Probing, 0, None), Some("not probed yet")),
            (path(PathState::Probing, 1, None), Some("no answer to 1 probe so far")),
            (path(PathState::Silent, 12, None), Some("no answer to 12 probes")),
            (path(PathState::Dead, 30, past), Some("worked until 10 s ago")),
            (path(PathState::Probing, 31, past), Some("worked until 10 s ago")),
        ];
        for (path, words) in cases {
            assert_eq!(problem(&path, now).as_deref(), words, "{path:?}");
        }
    }
}
