//! `meshd why`: what decides whether packets get to a member or an address, and what to do where they do not.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::{Result, SocketArgs, block_on, print};
use crate::api::client::call;
use crate::api::why::{Mark, WhyReport};

#[derive(Args)]
pub(super) struct WhyArgs {
    /// Where to: a name `<cluster>.<node>`, or `<node>` alone where one cluster has it, or an address
    #[arg(value_name = "NAME|ADDRESS", value_parser = subject)]
    target: String,
    /// Whose packets: the name of another member, which is asked
    #[arg(long, value_name = "NAME", value_parser = subject)]
    from: Option<String>,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take: handshakes here and elsewhere, and what others say.
const LIMIT: Duration = Duration::from_secs(20);

/// Asks and prints; fails where packets do not get through.
pub(super) fn main(args: &WhyArgs) -> Result {
    block_on(async {
        let from = args.from.as_ref().map(|from| format!("&from={from}")).unwrap_or_default();
        let path = format!("/v1/why?target={}{from}", args.target);
        let report: WhyReport = call(&args.socket.socket, LIMIT, Method::GET, &path, None::<&()>).await?;
        print(&if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { render(&report) })?;
        Ok(if report.reaches { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// What a name or an address may be made of; none of it has to be escaped in a URL.
fn subject(text: &str) -> std::result::Result<String, String> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-_".contains(&b));
    if is_plain { Ok(text.to_owned()) } else { Err("neither a name nor an address".to_owned()) }
}

/// The report as text: a line for each step under the side that says so, and what follows.
pub(super) fn render(report: &WhyReport) -> String {
    let to = report.peer.as_ref().filter(|peer| **peer != report.target).or(report.address.as_ref());
    let to = to.filter(|to| **to != report.target).map(|to| format!(" ({to})")).unwrap_or_default();
    let mut out = format!("{} to {}{to}\n", report.from, report.target);
    let width = report.steps.iter().map(|step| step.step.len()).max().unwrap_or(0);
    let mut side = None;
    for step in &report.steps {
        if side != Some(&step.side) {
            let _ = writeln!(out, "\nfrom {}'s side:", step.side);
            side = Some(&step.side);
        }
        let _ = writeln!(out, "  {:<7}  {:<width$}  {}", mark(step.mark), step.step, step.text);
    }
    let _ = writeln!(out, "\nverdict: {}", report.verdict);
    if let Some(next) = &report.next {
        let _ = writeln!(out, "next: {next}");
    }
    out
}

const fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Ok => "ok",
        Mark::Decides => "decides",
        Mark::Fails => "fails",
        Mark::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    #[test]
    fn a_report_is_told_by_sides_with_a_verdict_and_what_to_do_next() {
        let report: WhyReport = serde_json::from_value(serde_json::json!({
            "version": 1, "target": "10.233.1.7", "address": "10.233.1.7", "peer": "there.connector", "from": "here.one",
            "reaches": false, "cause": "forwarding_off", "sides": ["there.connector"],
            "verdict": "there.connector announces 10.233.1.7 and does not forward packets",
            "next": "on there.connector: sysctl -w net.ipv4.ip_forward=1",
            "steps": [
                {"side": "here.one", "step": "target", "mark": "ok", "text": "10.233.1.7 is in 10.233.0.0/17"},
                {"side": "here.one", "step": "path", "mark": "decides", "text": "direct 192.0.2.1:6374"},
                {"side": "there.connector", "step": "machine", "mark": "fails", "text": "it does not forward"}]}))
        .unwrap();
        assert_snapshot!(render(&report), @r#"
    here.one to 10.233.1.7 (there.connector)

    from here.one's side:
      ok       target   10.233.1.7 is in 10.233.0.0/17
      decides  path     direct 192.0.2.1:6374

    from there.connector's side:
      fails    machine  it does not forward

    verdict: there.connector announces 10.233.1.7 and does not forward packets
    next: on there.connector: sysctl -w net.ipv4.ip_forward=1
    "#);
    }

    #[test]
    fn only_what_may_be_a_name_or_an_address_is_asked_for() {
        assert!(subject("fd00::1").is_ok() && subject("beijing.edge-1").is_ok());
        assert!(["", "a b", "a/b", "a&b", "é"].into_iter().all(|text| subject(text).is_err()));
    }
}
