//! One peer in full, and what this node relays.

use std::net::IpAddr;

use proto::account::AccountStatus;
use proto::event::Event;
use proto::id::PeerId;
use proto::node::Node;
use proto::route::Target;
use proto::time::Instant;

use super::{Reporter, paths, spray_text};
use crate::api::detail::{CarriedLine, HandshakeLine, MemberLine, PeerReport, RelayingLine, SessionLine, SprayLine};
use crate::api::model::PathLine;

impl Reporter {
    /// Notes what the core tells of a peer. Returns whether the log should tell of it too: if so, how many like it were left out
    /// before, for others can cause them as often as they like.
    pub(crate) fn note_event(&mut self, node: &Node, event: &Event, now: Instant) -> Option<u64> {
        self.history.note(node, event, now);
        self.happenings.note_event(node, event, now)
    }

    /// The peer that a name or an address means.
    ///
    /// # Errors
    /// Why it means none, with the nearest name.
    pub(crate) fn find(&self, node: &Node, wanted: &str) -> Result<PeerId, String> {
        if let Ok(address) = wanted.parse::<IpAddr>() {
            return match node.route(address) {
                Some(Target::Peer(peer) | Target::Denied(peer)) => Ok(peer),
                Some(Target::Local) => Err(format!("{wanted} is an address of this node, or behind it")),
                None => Err(format!("{wanted} is no address in this mesh, and behind no endpoint")),
            };
        }
        let name = self.meant(wanted).ok();
        name.and_then(|name| node.peer_id(name)).ok_or_else(|| self.no_peer(wanted))
    }

    /// One peer in full.
    ///
    /// # Errors
    /// As [`Reporter::find`].
    pub(crate) fn peer(&self, node: &Node, wanted: &str, now: Instant) -> Result<PeerReport, String> {
        let id = self.find(node, wanted)?;
        let gone = || format!("{wanted} is no endpoint any more");
        let (status, detail) = node.peer_status(id).zip(node.peer_detail(id, now)).ok_or_else(gone)?;
        let denial = status.permission.as_ref().err().filter(|_| detail.session.is_none() && !detail.is_relay);
        let mut candidates = paths::all(node, id, &detail, denial.map(ToString::to_string).as_deref(), now);
        self.add_send_errors(&mut candidates);
        candidates.extend(self.unresolved.of(id).map(|(name, error)| paths::unresolved(name, error)));
        let mut peer = self.line(node, &status, now);
        peer.paths = candidates;
        let mut health = Vec::new();
        self.peer_health(node, &status, now, &mut health);
        let ago = |at: Instant| (now - at).as_secs_f64();
        let subnets = self.subnets.get(&status.name).into_iter().flatten();
        let relaying = node.relaying().into_iter().flat_map(|relaying| relaying.members);
        Ok(PeerReport {
            version: 1,
            peer,
            is_relay: detail.is_relay,
            subnets: subnets.map(ToString::to_string).collect(),
            session: detail
                .session
                .map(|session| SessionLine { age_seconds: ago(session.since), is_initiator: session.is_initiator }),
            handshake: detail.tries.as_ref().map(|tries| HandshakeLine {
                seconds: (tries.ended.unwrap_or(now) - tries.since).as_secs_f64(),
                initiations: tries.count,
                given_up_seconds_ago: tries.ended.map(ago),
            }),
            relayed: relaying.into_iter().find(|member| member.peer == id).map(|member| carried(&member.account)),
            spray: detail.spray.map(|spray| SprayLine {
                side: spray.side.name().to_owned(),
                seconds_ago: ago(spray.at),
                count: spray.count,
                budget: spray.budget,
                end: spray.end.map(|end| end.name().to_owned()),
                text: spray_text(&spray),
            }),
            history: self.history.of(&status.name, now),
            health,
        })
    }

    fn add_send_errors(&self, candidates: &mut [PathLine]) {
        for line in candidates.iter_mut().filter(|line| line.problem.is_some()) {
            let failed = line.address.parse().ok().and_then(|address| self.send_errors.get(&address));
            if let (Some((_, error)), Some(problem)) = (failed, &mut line.problem) {
                problem.push_str(&format!(" (this machine says: {error})"));
            }
        }
    }
}

/// What this node relays; absent where it is no relay.
pub(super) fn relaying(node: &Node) -> Option<RelayingLine> {
    let status = node.relaying()?;
    let name = |id: PeerId| node.peer_name(id).map(ToString::to_string).unwrap_or_default();
    let members = status.members.iter().map(|member| MemberLine {
        name: name(member.peer),
        channels: member.channels,
        carried: carried(&member.account),
    });
    Some(RelayingLine {
        rate_bits_per_second: status.rates.total.saturating_mul(8),
        member_rate_bits_per_second: status.rates.member.saturating_mul(8),
        channels: status.channels,
        members: members.collect(),
        total: carried(&status.all),
    })
}

fn carried(account: &AccountStatus) -> CarriedLine {
    CarriedLine {
        rx_datagrams: account.sent.datagrams,
        rx_bytes: account.sent.bytes,
        tx_datagrams: account.received.datagrams,
        tx_bytes: account.received.bytes,
        limited_datagrams: account.limited,
    }
}
