//! What the API says of prefixes that several connectors announce.

use serde::{Deserialize, Serialize};

/// A shared prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SharedLine {
    pub(crate) prefix: String,
    /// Who carries it for this node: a peer, or this node itself; absent where policy allows none.
    pub(crate) owner: Option<String>,
    /// Whether this node announces it too.
    pub(crate) is_own: bool,
    /// Whether this node announces it and has told its peers that it does not reach it.
    pub(crate) is_unreached: bool,
    /// The peers that announce it, best first.
    pub(crate) owners: Vec<OwnerLine>,
}

/// A peer that announces a shared prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OwnerLine {
    pub(crate) name: String,
    /// The lowest is preferred.
    pub(crate) priority: u16,
    /// `active`, `standby`, `returning`, `unreached`, `silent` or `denied`; `own` where this node carries the prefix itself.
    pub(crate) state: String,
    /// Why the prefix does not go to it, in words.
    pub(crate) reason: Option<String>,
}
