//! Prefixes that several connectors announce: who carries each, and why not the others.

use proto::node::Node;
use proto::owner::{Condition, HOLD, OwnerStatus, SharedStatus};
use proto::time::Instant;

use crate::api::shared::{OwnerLine, SharedLine};

/// Every shared prefix.
pub(super) fn lines(node: &Node, own: &str, now: Instant) -> Vec<SharedLine> {
    node.shared_prefixes(now).iter().map(|shared| line(node, own, shared, now)).collect()
}

fn line(node: &Node, own: &str, shared: &SharedStatus, now: Instant) -> SharedLine {
    let name = |peer| node.peer_name(peer).map_or_else(|| "?".to_owned(), ToString::to_string);
    let owner = |owner: &OwnerStatus| {
        let state = if shared.is_local {
            "own"
        } else if shared.chosen == Some(owner.peer) {
            "active"
        } else {
            state(owner.condition)
        };
        let reason = (!shared.is_local).then(|| reason(owner.condition, now)).flatten();
        OwnerLine { name: name(owner.peer), priority: owner.priority, state: state.to_owned(), reason }
    };
    SharedLine {
        prefix: shared.prefix.to_string(),
        owner: if shared.is_local { Some(own.to_owned()) } else { shared.chosen.map(name) },
        is_own: shared.is_local,
        is_unreached: shared.is_unreached,
        owners: shared.owners.iter().map(owner).collect(),
    }
}

/// An owner's condition in one word.
const fn state(condition: Condition) -> &'static str {
    match condition {
        Condition::Works => "standby",
        Condition::Returning(_) => "returning",
        Condition::Unreached(_) => "unreached",
        Condition::Silent(_) => "silent",
        Condition::Denied => "denied",
    }
}

/// What speaks against an owner.
pub(super) fn reason(condition: Condition, now: Instant) -> Option<String> {
    let seconds = |since| (now - since).as_secs();
    match condition {
        Condition::Works => None,
        Condition::Returning(since) => {
            Some(format!("it works again for {} s, and is preferred again after {} s", seconds(since), HOLD.as_secs()))
        }
        Condition::Unreached(since) => {
            Some(format!("it says for {} s that it does not reach the prefix", seconds(since)))
        }
        Condition::Silent(since) => Some(format!("it does not answer for {} s", seconds(since))),
        Condition::Denied => Some("policy keeps it from this node".to_owned()),
    }
}
