//! `meshd reload`: has the daemon load its configuration anew, and says what came of it.

use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::text::ago;
use super::{Result, SocketArgs, block_on, print};
use crate::api::client::{ClientError, call};
use crate::api::reload::{LastReload, ReloadReport};

#[derive(Args)]
pub(super) struct ReloadArgs {
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take: a large mesh and its routes need a second or two, a start a little more.
const LIMIT: Duration = Duration::from_secs(60);

/// What is so after a refusal.
const UNCHANGED: &str = "nothing was changed: the daemon goes on with what it had";

/// Asks and prints; fails where nothing was changed because something is wrong.
pub(super) fn main(args: &ReloadArgs) -> Result {
    block_on(async {
        let path = "/v1/reload";
        let answer = call(&args.socket.socket, LIMIT, Method::POST, path, None::<&()>).await;
        let report: ReloadReport = answer.map_err(refused)?;
        print(&if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { render(&report) })?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Says what a refusal means for what runs.
fn refused(error: ClientError) -> ClientError {
    if let ClientError::Refused(text) = error { ClientError::Refused(format!("{text}\n{UNCHANGED}")) } else { error }
}

/// The last reload in a line, for the status.
pub(super) fn last_text(last: &LastReload) -> String {
    let what = match &last.error {
        Some(error) => format!("failed, nothing was changed: {}", error.lines().next().unwrap_or_default()),
        None if last.report.applied.is_empty() => "nothing changed".to_owned(),
        None => last.report.applied.join("; "),
    };
    let restart = match last.report.needs_restart.as_slice() {
        [] => String::new(),
        keys => format!("; needs a restart: {}", keys.join(", ")),
    };
    format!("last reload {}: {what}{restart}", ago(last.seconds_ago))
}

fn render(report: &ReloadReport) -> String {
    let parts = [("applied", &report.applied), ("needs a restart", &report.needs_restart), ("note", &report.notes)];
    let width = parts.iter().filter(|(_, lines)| !lines.is_empty()).map(|(title, _)| title.len() + 1).max();
    let Some(width) = width else { return "nothing changed\n".to_owned() };
    let mut out = String::new();
    for (title, lines) in parts {
        for (number, line) in lines.iter().enumerate() {
            let title = if number == 0 { format!("{title}:") } else { String::new() };
            out.push_str(&format!("{title:width$}  {line}\n"));
        }
    }
    if !report.needs_restart.is_empty() && report.notes.is_empty() {
        out.push_str("These keys are as they were until meshd is restarted.\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(applied: &[&str], needs_restart: &[&str]) -> ReloadReport {
        let texts = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect();
        ReloadReport { applied: texts(applied), needs_restart: texts(needs_restart), notes: Vec::new() }
    }

    #[test]
    fn a_report_says_what_took_effect_and_what_waits_for_a_restart() {
        insta::assert_snapshot!(render(&report(&[], &[])), @"nothing changed");
        insta::assert_snapshot!(
            render(&report(&["endpoints: 1 added, 2 changed", "session.keepalive"], &["interface.mtu", "listen.port"])),
            @r"
        applied:          endpoints: 1 added, 2 changed
                          session.keepalive
        needs a restart:  interface.mtu
                          listen.port
        These keys are as they were until meshd is restarted.
        "
        );
        insta::assert_snapshot!(render(&report(&["log.level"], &[])), @"applied:  log.level");
    }

    #[test]
    fn a_refusal_ends_with_what_goes_on() {
        let told = refused(ClientError::Refused("m.toml:3:1: unknown key\n1 problem".to_owned())).to_string();
        insta::assert_snapshot!(told, @r"
        m.toml:3:1: unknown key
        1 problem
        nothing was changed: the daemon goes on with what it had
        ");
        assert_eq!(refused(ClientError::Timeout).to_string(), ClientError::Timeout.to_string());
    }

    #[test]
    fn the_status_has_the_last_reload_in_a_line() {
        let mut last = LastReload { seconds_ago: 12.3, cause: "call".to_owned(), ..LastReload::default() };
        insta::assert_snapshot!(last_text(&last), @"last reload 12s ago: nothing changed");
        last.report = report(&["log.level"], &["api.socket"]);
        insta::assert_snapshot!(last_text(&last), @"last reload 12s ago: log.level; needs a restart: api.socket");
        last.error = Some("mesh.toml:3:1: unknown key\n1 problem".to_owned());
        last.report = ReloadReport::default();
        insta::assert_snapshot!(
            last_text(&last),
            @"last reload 12s ago: failed, nothing was changed: mesh.toml:3:1: unknown key"
        );
    }
}
