//! What the API says of loading the configuration anew.

use serde::{Deserialize, Serialize};

/// The answer to `POST /v1/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReloadReport {
    /// What took effect: kinds of records with how many were added, removed and changed, and keys as `<table>.<key>`.
    pub(crate) applied: Vec<String>,
    /// Changed keys that take effect with the next start.
    pub(crate) needs_restart: Vec<String>,
    /// What else there is to say, in words.
    pub(crate) notes: Vec<String>,
}

impl ReloadReport {
    /// A report of one thing that was done.
    pub(crate) fn of(applied: &str) -> Self {
        Self { applied: vec![applied.to_owned()], ..Self::default() }
    }
}

/// The last time that the configuration was loaded anew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastReload {
    pub(crate) seconds_ago: f64,
    /// `call` (`meshd reload`), `signal` (SIGHUP), `files` (one of them changed) or `enrolment` (an invitation was used).
    pub(crate) cause: String,
    /// Why it failed, in which case nothing was changed; absent where it did not.
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(flatten)]
    pub(crate) report: ReloadReport,
}
