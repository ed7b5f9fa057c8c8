//! `meshd ping`: probes inside the session, so it works where ICMP is filtered, and tells mesh trouble from host trouble.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::status::route;
use super::text::{milliseconds, table};
use super::{INTERRUPTED, Interrupt, Result, SocketArgs, block_on, print};
use crate::api::client::{ClientError, call};
use crate::api::model::{PingReply, PingRequest};

#[derive(Args)]
pub(super) struct PingArgs {
    /// Name of the peer, `<cluster>.<node>`, or an address of it
    name: String,
    /// Number of probes, at most [default: 4, with --until-direct 30]
    #[arg(long, short, value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// Time between probes
    #[arg(long, short, default_value = "1s", value_parser = super::period)]
    interval: Duration,
    /// How long to wait for each reply
    #[arg(long, short = 'W', default_value = "2s", value_parser = super::period)]
    timeout: Duration,
    /// Go on until a reply comes directly, without a relay; fail if none does
    #[arg(long)]
    until_direct: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How much longer than the probe the daemon may take.
const PATIENCE: Duration = Duration::from_secs(5);

const COUNT: u32 = 4;

/// Half a minute at the default pace: three times what a pair of nodes needs that opens its NATs.
const COUNT_UNTIL_DIRECT: u32 = 30;

/// What came back so far.
#[derive(Default)]
struct Tally {
    sent: u32,
    /// Path and round trip time of each reply, in microseconds.
    replies: Vec<(String, u64)>,
    is_direct: bool,
}

/// Sends the probes; fails if none was answered, or none directly where that was asked for. Ends early at SIGINT, with what came back
/// until then.
pub(super) fn main(args: &PingArgs) -> Result {
    block_on(async {
        let mut interrupt = Interrupt::new()?;
        let mut tally = Tally::default();
        tokio::select! {
            probed = tally.probe(args) => probed?,
            () = interrupt.came() => {
                print(&tally.summary())?;
                return Ok(if tally.is_all_answered() { ExitCode::SUCCESS } else { INTERRUPTED.into() });
            }
        }
        if tally.replies.is_empty() {
            let (name, sent) = (&args.name, tally.sent);
            return Err(format!("{name} answered none of {sent} probes; `meshd status {name}` may say why").into());
        }
        print(&tally.summary())?;
        if args.until_direct && !tally.is_direct {
            let name = &args.name;
            return Err(format!("no direct path to {name}; `meshd status {name}` says what was tried").into());
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn probe(socket: &Path, name: &str, timeout: Duration) -> std::result::Result<PingReply, ClientError> {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let request = PingRequest { name: name.to_owned(), timeout_ms };
    call(socket, timeout.saturating_add(PATIENCE), Method::POST, "/v1/ping", Some(&request)).await
}

impl Tally {
    /// Sends the probes and prints their replies. When it is cancelled, what came until then is noted.
    async fn probe(&mut self, args: &PingArgs) -> Result<()> {
        let count = args.count.unwrap_or(if args.until_direct { COUNT_UNTIL_DIRECT } else { COUNT });
        while self.sent < count && !(args.until_direct && self.is_direct) {
            if self.sent > 0 {
                tokio::time::sleep(args.interval).await;
            }
            match probe(&args.socket.socket, &args.name, args.timeout).await {
                Ok(reply) => print(&self.note(&args.name, &reply))?,
                Err(ClientError::Timeout) => print(&self.note_silence(&args.name))?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn is_all_answered(&self) -> bool {
        self.sent > 0 && self.replies.len() == self.sent as usize
    }

    /// Takes a reply; returns its line, and one more where it came over another path than the last.
    fn note(&mut self, name: &str, reply: &PingReply) -> String {
        self.sent += 1;
        let path = route(&reply.kind, reply.via.as_deref(), &reply.path);
        self.is_direct = matches!(reply.kind.as_str(), "lan" | "direct");
        let rtt = milliseconds(reply.rtt_us);
        let mut text = format!("reply {} from {name} over {path}: {rtt}\n", self.sent);
        if let Some((before, _)) = self.replies.last().filter(|(before, _)| *before != path) {
            text.push_str(&format!("  now {path}, was {before}\n"));
        }
        self.replies.push((path, reply.rtt_us));
        text
    }

    fn note_silence(&mut self, name: &str) -> String {
        self.sent += 1;
        format!("no reply {} from {name}\n", self.sent)
    }

    /// All together, and where there was more than one path, each in the order in which they were used.
    fn summary(&self) -> String {
        let rtts = |path: Option<&str>| {
            let of_path = self.replies.iter().filter(|(of, _)| path.is_none_or(|path| path == of));
            times(of_path.map(|(_, rtt)| *rtt).collect())
        };
        let all = rtts(None);
        let all = if all.is_empty() { all } else { format!("; round trip {all}") };
        let mut out = format!("{} sent, {} answered{}\n", self.sent, self.replies.len(), all);
        let mut paths: Vec<&str> = Vec::new();
        for (path, _) in &self.replies {
            if !paths.contains(&path.as_str()) {
                paths.push(path);
            }
        }
        if paths.len() > 1 {
            let count = |path: &str| self.replies.iter().filter(|(of, _)| of == path).count();
            let row = |path: &&str| [format!("  {path}"), format!("{} answered", count(path)), rtts(Some(path))];
            table(&mut out, &paths.iter().map(row).collect::<Vec<_>>());
        }
        out
    }
}

fn times(mut rtts: Vec<u64>) -> String {
    rtts.sort_unstable();
    match (rtts.first(), rtts.get(rtts.len() / 2), rtts.last()) {
        (Some(least), Some(median), Some(most)) => {
            let [least, median, most] = [least, median, most].map(|rtt| milliseconds(*rtt));
            format!("min/median/max {least} / {median} / {most}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_interrupted_before_any_reply_is_summed_up_too() {
        let mut tally = Tally::default();
        assert_eq!((tally.summary().as_str(), tally.is_all_answered()), ("0 sent, 0 answered\n", false));
        tally.note_silence("a.b");
        assert_eq!((tally.summary().as_str(), tally.is_all_answered()), ("1 sent, 0 answered\n", false));
    }

    #[test]
    fn a_ping_tells_each_path_the_change_between_them_and_sums_up_by_path() {
        let reply = |rtt_us, kind: &str, via: Option<&str>, path: &str| PingReply {
            rtt_us,
            path: path.to_owned(),
            kind: kind.to_owned(),
            via: via.map(str::to_owned),
        };
        let mut tally = Tally::default();
        let relayed = reply(30_000, "relay", Some("hub.connector"), "relay 203.0.113.1:6374");
        assert_eq!(tally.note("a.b", &relayed), "reply 1 from a.b over relay hub.connector: 30.0 ms\n");
        assert_eq!(tally.note_silence("a.b"), "no reply 2 from a.b\n");
        assert!(!tally.is_direct);
        let direct = reply(10_000, "direct", None, "198.51.100.1:6374");
        assert_eq!(
            tally.note("a.b", &direct),
            "reply 3 from a.b over direct 198.51.100.1:6374: 10.0 ms\n  now direct 198.51.100.1:6374, was relay \
             hub.connector\n"
        );
        assert!(tally.is_direct);
        assert!(!tally.is_all_answered());
        assert_eq!(
            tally.summary(),
            "3 sent, 2 answered; round trip min/median/max 10.0 ms / 30.0 ms / 30.0 ms
  relay hub.connector       1 answered  min/median/max 30.0 ms / 30.0 ms / 30.0 ms
  direct 198.51.100.1:6374  1 answered  min/median/max 10.0 ms / 10.0 ms / 10.0 ms
"
        );
    }
}
