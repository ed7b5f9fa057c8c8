//! `meshd log`: what the daemon logs, shown, or changed while it runs.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::text::span;
use super::{Result, SocketArgs, block_on, print};
use crate::api::client::call;
use crate::api::log::{LogReport, LogRequest};

pub(super) const EXAMPLE: &str = "Examples:
  meshd log                                 # what is logged now
  meshd log debug --for 10m                 # more, and after ten minutes as before
  meshd log meshd::driver=trace,proto=debug # beside what is configured
  meshd log reset                           # what is configured";

#[derive(Args)]
pub(super) struct LogArgs {
    /// A level (error, warn, info, debug, trace), directives such as meshd::driver=trace, or "reset"; without it, shows what is logged
    filter: Option<String>,
    /// How long the change lasts, such as 10m; without it, until it is changed again or the daemon ends
    #[arg(long = "for", value_name = "TIME", value_parser = period, requires = "filter")]
    period: Option<Duration>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take; it needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// What brings back what is configured.
const RESET: &str = "reset";

/// Asks or changes, and prints what is logged then.
pub(super) fn main(args: &LogArgs) -> Result {
    let socket = &args.socket.socket;
    if args.filter.as_deref() == Some(RESET) && args.period.is_some() {
        return Err("`meshd log reset` lasts: leave --for out".into());
    }
    let request = args.filter.as_ref().map(|filter| LogRequest {
        filter: Some(filter.clone()).filter(|filter| filter != RESET),
        for_seconds: args.period.map(|period| period.as_secs_f64()),
    });
    let report: LogReport = block_on(async {
        let method = if request.is_some() { Method::PUT } else { Method::GET };
        Ok(call(socket, LIMIT, method, "/v1/log", request.as_ref()).await?)
    })?;
    print(&if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { render(&report) })?;
    Ok(ExitCode::SUCCESS)
}

fn period(text: &str) -> std::result::Result<Duration, config::PeriodError> {
    text.parse().map(|config::Period(duration)| duration)
}

fn render(report: &LogReport) -> String {
    let mut out = format!("logged      {}\n", report.filter);
    if report.is_changed {
        let _ = writeln!(out, "configured  {} ({})", report.configured, report.configured_by);
        let until = report.reverts_after_seconds.map(Duration::from_secs_f64).map(span);
        let until =
            until.map_or_else(|| "at `meshd log reset`, or when the daemon ends".to_owned(), |in_| format!("in {in_}"));
        let _ = writeln!(out, "reverts     {until}");
    } else {
        let _ = writeln!(out, "configured  the same ({})", report.configured_by);
    }
    let output = if report.output == "journal" { "the journal (journalctl -t meshd)" } else { "standard error" };
    let _ = writeln!(out, "written to  {output}");
    out
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn report(is_changed: bool, reverts_after_seconds: Option<f64>) -> LogReport {
        let configured = "warn,meshd=info,proto=info,config=info";
        LogReport {
            version: 1,
            filter: if is_changed { format!("{configured},meshd::driver=trace") } else { configured.to_owned() },
            configured: configured.to_owned(),
            configured_by: "configuration".to_owned(),
            is_changed,
            reverts_after_seconds,
            output: if is_changed { "stderr" } else { "journal" }.to_owned(),
        }
    }

    #[test]
    fn what_is_logged_is_shown_with_what_is_configured_and_when_it_reverts() {
        assert_snapshot!(render(&report(false, None)), @r"
        logged      warn,meshd=info,proto=info,config=info
        configured  the same (configuration)
        written to  the journal (journalctl -t meshd)
        ");
        assert_snapshot!(render(&report(true, Some(598.2))), @r"
        logged      warn,meshd=info,proto=info,config=info,meshd::driver=trace
        configured  warn,meshd=info,proto=info,config=info (configuration)
        reverts     in 9m58s
        written to  standard error
        ");
        assert_snapshot!(render(&report(true, None)), @r"
        logged      warn,meshd=info,proto=info,config=info,meshd::driver=trace
        configured  warn,meshd=info,proto=info,config=info (configuration)
        reverts     at `meshd log reset`, or when the daemon ends
        written to  standard error
        ");
    }
}
