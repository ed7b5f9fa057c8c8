//! What `GET /v1/events` says: what happened, oldest first.

use serde::{Deserialize, Serialize};

/// The `kind` of a line that stands for events that are not told: they are not kept any more, or were those of another run.
pub(crate) const MISSED: &str = "missed";

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventLine {
    /// Its number, which rises by one from event to event; the first is the time of the daemon's start in microseconds since 1970.
    pub(crate) seq: u64,
    /// When, as RFC 3339 writes it, in UTC.
    pub(crate) time: String,
    /// The same in milliseconds since 1970.
    pub(crate) unix_ms: u64,
    /// One of the kinds in docs/api.md, or `missed`.
    pub(crate) kind: String,
    /// The peer that it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// What happened, in words.
    pub(crate) text: String,
    /// Of `missed`: how many events after the one that was asked for are not kept any more; absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) missed: Option<u64>,
}
