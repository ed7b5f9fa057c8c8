//! `meshd events`: what happened, newest last; with `--follow` as it happens, past restarts of the daemon.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::{Result, SocketArgs, block_on, print_on, reader_left};
use crate::api::client::{ClientError, call, lines};
use crate::api::events::{EventLine, MISSED};
use crate::api::model::{Mode, Status};
use crate::wall_time;

#[derive(Args)]
pub(super) struct EventsArgs {
    /// Go on as events happen, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Only those of this peer, by its name `<cluster>.<node>`
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only those that are younger
    #[arg(long, value_name = "TIME", value_parser = super::period)]
    since: Option<Duration>,
    /// Print each as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take for its answer, or to begin it.
const LIMIT: Duration = Duration::from_secs(5);

/// Between two attempts to reach a daemon that is gone.
const AGAIN: Duration = Duration::from_secs(1);

/// Which events are printed, and how.
struct Printer<'a> {
    args: &'a EventsArgs,
    /// The oldest time, in milliseconds since 1970.
    from: u64,
    /// The last event seen.
    seen: Option<u64>,
    /// Whether one was of the peer that is asked for, be it printed or not.
    has_met: bool,
}

/// Prints the events.
pub(super) fn main(args: &EventsArgs) -> Result {
    let since = args.since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let from = since.map_or(0, |since| (wall_time::unix_micros() / 1_000).saturating_sub(since));
    let mut printer = Printer { args, from, seen: None, has_met: false };
    reader_left(block_on(async {
        if args.follow {
            return printer.follow().await;
        }
        let events: Vec<EventLine> = call(&args.socket.socket, LIMIT, Method::GET, "/v1/events", None::<&()>).await?;
        for event in &events {
            printer.show(event)?;
        }
        if let Some(name) = args.peer.as_ref().filter(|_| !printer.has_met)
            && let Some(unknown) = unknown(&args.socket.socket, name).await?
        {
            return Err(format!("{unknown}, and no event has it").into());
        }
        Ok(ExitCode::SUCCESS)
    }))
}

/// What there is to say of a name that is neither this node's nor a peer's.
async fn unknown(socket: &Path, name: &str) -> Result<Option<String>> {
    let status: Status = call(socket, LIMIT, Method::GET, "/v1/status", None::<&()>).await?;
    Ok(unknown_in(&status, name))
}

fn unknown_in(status: &Status, name: &str) -> Option<String> {
    let names = || status.peers.iter().map(|peer| peer.name.as_str()).chain([status.node.name.as_str()]);
    // A node at rest tells of no peers.
    if status.mode == Mode::NotSelected || names().any(|known| known == name) {
        return None;
    }
    let near = config::nearest(name, names()).map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    Some(format!("{name} is no endpoint of this mesh{near}"))
}

impl Printer<'_> {
    /// Follows until interrupted. A connection that ends (the daemon is started again, or was faster than we) is made again
    /// from where it was; the first one must succeed.
    async fn follow(&mut self) -> Result {
        let socket: &Path = &self.args.socket.socket;
        if let Some(name) = &self.args.peer
            && let Some(unknown) = unknown(socket, name).await?
        {
            // It may become one.
            eprintln!("meshd: {unknown}");
        }
        let mut was_up = false;
        let mut is_said = false;
        loop {
            let path = self.seen.map_or_else(|| "?follow=1".to_owned(), |seen| format!("?follow=1&since={seen}"));
            match lines(socket, LIMIT, Method::GET, &format!("/v1/events{path}"), None::<&()>).await {
                Ok(mut lines) => {
                    (was_up, is_said) = (true, false);
                    while let Ok(Some(event)) = lines.next::<EventLine>().await {
                        self.show(&event)?;
                    }
                }
                Err(error @ (ClientError::Connect { .. } | ClientError::Silent(_) | ClientError::Protocol(_)))
                    if was_up =>
                {
                    if !is_said {
                        eprintln!("meshd: {error}; waiting for it");
                    }
                    is_said = true;
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn show(&mut self, event: &EventLine) -> std::io::Result<()> {
        self.seen = Some(event.seq);
        let is_of_peer = self.args.peer.as_ref().is_none_or(|peer| event.peer.as_ref() == Some(peer));
        self.has_met |= is_of_peer;
        let is_wanted = event.unix_ms >= self.from && (is_of_peer || event.kind == MISSED);
        if !is_wanted {
            return Ok(());
        }
        print_on(&if self.args.json { serde_json::to_string(event)? + "\n" } else { text(event) })
    }
}

/// An event in one line; columns are aligned as long as names are not longer than usual.
fn text(event: &EventLine) -> String {
    let time = event.time.replace('T', " ");
    let peer = event.peer.as_deref().map(|peer| format!("{peer}: ")).unwrap_or_default();
    format!("{time}  {:<12}  {peer}{}\n", event.kind, event.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_has_is_told_with_the_nearest() {
        let node = serde_json::json!({"name": "here.one", "mesh": "lab", "public_key": "AQEB", "addresses": [], "interface": "mesh0",
            "port": 6374, "daemon": "0.1.0", "uptime_seconds": 1, "offloads": []});
        let peers = [crate::cli::status::tests::peer_line()];
        let status = serde_json::json!({"version": 1, "node": node, "peers": peers, "drops": {}, "health": []});
        let status: Status = serde_json::from_value(status).unwrap();
        assert_eq!((unknown_in(&status, "here.one"), unknown_in(&status, "there.two")), (None, None));
        let said = unknown_in(&status, "there.tow").unwrap();
        assert_eq!(said, "there.tow is no endpoint of this mesh (did you mean there.two?)");
        assert_eq!(unknown_in(&Status { mode: Mode::NotSelected, ..status }, "lab.nope"), None);
    }

    #[test]
    fn an_event_is_a_line_with_its_time_kind_and_peer() {
        let event = EventLine {
            seq: 7,
            time: "2026-11-21T16:56:15.123Z".to_owned(),
            unix_ms: 1,
            kind: "moved".to_owned(),
            peer: Some("lab.two".to_owned()),
            text: "from relay hub.one to direct 192.0.2.2:6374, which is better".to_owned(),
            missed: None,
        };
        assert_eq!(
            text(&event),
            "2026-11-21 16:56:15.123Z  moved         lab.two: from relay hub.one to direct 192.0.2.2:6374, which is better\n"
        );
        let none = EventLine { peer: None, ..event };
        assert!(text(&none).contains("moved         from relay"));
    }
}
