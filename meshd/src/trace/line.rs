//! A packet in an operator's words.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::data::trace::{Direction, Traced, Verdict};
use proto::id::{EndpointName, PeerId};
use proto::node::Node;
use proto::packet::tuple::{self, FiveTuple};
use proto::path::{Locator, Origin, PathKind};
use proto::stats::DropReason;

use crate::api::trace::PacketLine;
use crate::clock::Clock;
use crate::report::path_text;
use crate::wall_time::{self, Digits};

/// What numbers and places mean, as it was when the trace began; and how packets are told.
pub(super) struct Names {
    peers: Arc<BTreeMap<PeerId, EndpointName>>,
    paths: BTreeMap<Locator, Box<str>>,
    unix_micros_at_origin: u64,
    with_data: bool,
}

impl Names {
    pub(super) fn new(node: &Node, peers: Arc<BTreeMap<PeerId, EndpointName>>, clock: Clock, with_data: bool) -> Self {
        let now = clock.now();
        let of_peer = |peer: &PeerId| {
            let paths = node.peer_paths(*peer, now).into_iter();
            paths.map(|path| (path.locator, path_text(node, *peer, path.locator, now).into())).collect::<Vec<_>>()
        };
        let paths = peers.keys().flat_map(of_peer).collect();
        Self { peers, paths, unix_micros_at_origin: clock.unix_at_origin() / 1_000, with_data }
    }

    /// Of these peers, without any place.
    #[cfg(test)]
    pub(super) fn of(peers: Arc<BTreeMap<PeerId, EndpointName>>) -> Self {
        Self { peers, paths: BTreeMap::new(), unix_micros_at_origin: 0, with_data: false }
    }

    pub(super) fn line(&self, traced: &Traced) -> PacketLine {
        let unix_us = self.unix_micros_at_origin + traced.at.as_nanos() / 1_000;
        let tuple = FiveTuple::of(&traced.packet);
        let (verdict, reason, text) = verdict(traced.verdict);
        PacketLine {
            time: wall_time::text(unix_us, Digits::Six),
            unix_us,
            direction: direction(traced.direction).to_owned(),
            source: tuple.map(|tuple| tuple.source.to_string()),
            destination: tuple.map(|tuple| tuple.destination.to_string()),
            protocol: tuple.map(|tuple| protocol(tuple.protocol)),
            source_port: tuple.and_then(|tuple| tuple.ports).map(|(from, _)| from),
            destination_port: tuple.and_then(|tuple| tuple.ports).map(|(_, to)| to),
            icmp_type: tuple.and_then(|tuple| tuple.icmp_type),
            length: traced.len,
            peer: traced.peer.map(|peer| self.peers.get(&peer).map_or_else(|| "?".to_owned(), ToString::to_string)),
            path: traced.path.map(|path| self.path(path)),
            onward: traced.onward.map(|to| to.to_string()),
            session: traced.session.map(|session| session.to_string()),
            lane: traced.counter.and_then(|counter| u8::try_from(counter >> 56).ok()),
            counter: traced.counter.map(|counter| counter & (u64::MAX >> 8)),
            segments: traced.segments,
            verdict: verdict.to_owned(),
            reason: reason.map(str::to_owned),
            text,
            data: (self.with_data && !traced.packet.is_empty()).then(|| STANDARD.encode(&traced.packet)),
        }
    }

    fn path(&self, path: Locator) -> String {
        let known = self.paths.get(&path).map(ToString::to_string);
        known.unwrap_or_else(|| format!("{} {}", PathKind::of(path, Origin::Seen).name(), path.address))
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Out => "out",
        Direction::In => "in",
        Direction::Relayed => "relayed",
    }
}

fn protocol(number: u8) -> String {
    match number {
        tuple::TCP => "tcp".to_owned(),
        tuple::UDP => "udp".to_owned(),
        tuple::ICMP => "icmp".to_owned(),
        tuple::ICMP_V6 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// The verdict, its reason by name, and that in words.
fn verdict(verdict: Verdict) -> (&'static str, Option<&'static str>, Option<String>) {
    match verdict {
        Verdict::Sent => ("sent", None, None),
        Verdict::Delivered => ("delivered", None, None),
        Verdict::Forwarded => ("forwarded", None, None),
        Verdict::PuntedNoSession => {
            ("punted", Some("no_session"), Some("there is no session yet; it waits for the handshake".to_owned()))
        }
        Verdict::PuntedTooLarge => {
            let text = "larger than the path carries; it is cut, or its sender told".to_owned();
            ("punted", Some("too_large"), Some(text))
        }
        Verdict::Dropped(reason) => ("dropped", Some(reason.name()), Some(words(reason))),
    }
}

/// Why a packet was dropped. What needs no more words than its name has is told by that.
fn words(reason: DropReason) -> String {
    let text = match reason.name() {
        "no_route" => "nobody in the mesh has the destination",
        "denied" => "policy keeps the two apart; a common community would let it pass",
        "foreign_source" => "its source is not this node's, nor in a subnet that it announces",
        "unreachable" => "the peer does not answer",
        "session_exhausted" => "the session may seal no more, and a new one is on its way",
        "send_failed" => "the network refused the datagrams",
        "device_full" => "the TUN device did not take it",
        "unknown_session" => "the datagram names no session of this node: of one that is over, or of a stranger",
        "replayed" => "seen before, or too late",
        "authentication_failed" => "the datagram does not open: it is not what the peer sealed",
        "forged_source" => "its source is not the peer's",
        "not_announced" => "its destination is not this node's, nor in a subnet that it announces",
        "bad_mac" => "a handshake for another key than this node's",
        "relay_foreign" => "it does not come from the member whose channel it names",
        "relay_limited" => "its member has had its share of the relay",
        "relay_total_limited" => "the relay carries as much as it may",
        "relay_full" => "the relay's socket is full",
        name => return name.replace('_', " "),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_words() {
        for reason in DropReason::ALL {
            assert!(!words(*reason).contains('_'), "{reason:?}");
        }
    }
}
