//! What a check found, and how it is told.

use std::fmt::Write as _;

use serde::Serialize;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Could not be looked at, for want of permission or of a tool.
    Skipped,
    /// As it should be.
    Ok,
    /// It works, or may not matter here, but should be looked at.
    Warn,
    /// Something does not work.
    Fail,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The subject: one word, such as `firewall`.
    pub(crate) check: &'static str,
    pub(crate) level: Level,
    /// What was found.
    pub(crate) found: String,
    /// The one thing to do; there for everything that is not ok.
    pub(crate) fix: Option<String>,
}

/// Makes findings of one check.
#[derive(Clone, Copy)]
pub(super) struct Check(pub(super) &'static str);

impl Check {
    pub(super) fn ok(self, found: impl Into<String>) -> Finding {
        Finding { check: self.0, level: Level::Ok, found: found.into(), fix: None }
    }

    pub(super) fn warn(self, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check: self.0, level: Level::Warn, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn fail(self, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check: self.0, level: Level::Fail, found: found.into(), fix: Some(fix.into()) }
    }

    pub(super) fn skipped(self, found: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { check: self.0, level: Level::Skipped, found: found.into(), fix: Some(fix.into()) }
    }
}

/// How many findings came out at a level.
pub(crate) fn count(findings: &[Finding], level: Level) -> usize {
    findings.iter().filter(|finding| finding.level == level).count()
}

/// The findings for people: a line each, what to do below those that are not ok, and how many of which there are.
pub(crate) fn render(findings: &[Finding]) -> String {
    let mut out = String::new();
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
    for Finding { check, level, found, fix } in findings {
        let _ = writeln!(out, "{:<7}  {check:width$}  {found}", name(*level));
        if let Some(fix) = fix {
            let _ = writeln!(out, "{:7}  {:width$}  -> {fix}", "", "");
        }
    }
    let [ok, warn, fail, skipped] =
        [Level::Ok, Level::Warn, Level::Fail, Level::Skipped].map(|level| count(findings, level));
    let _ = writeln!(out, "\n{ok} ok, {warn} to look at, {fail} failed, {skipped} not looked at");
    out
}

/// All findings, as JSON.
#[derive(Serialize)]
struct Report<'r> {
    /// The worst of all.
    verdict: Option<Level>,
    checks: &'r [Finding],
}

/// The findings for scripts: fields are added, never changed.
///
/// # Errors
/// Never: all of it has a form in JSON.
pub(crate) fn json(findings: &[Finding]) -> serde_json::Result<String> {
    let verdict = findings.iter().map(|finding| finding.level).max();
    Ok(serde_json::to_string_pretty(&Report { verdict, checks: findings })? + "\n")
}

const fn name(level: Level) -> &'static str {
    match level {
        Level::Skipped => "skipped",
        Level::Ok => "ok",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}
