//! `meshd ping`: probes inside the session, so it works where ICMP is filtered, and tells mesh trouble from host trouble.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::{Result, SocketArgs, block_on, print};
use crate::api::client::{ClientError, call};
use crate::api::model::{PingReply, PingRequest};

#[derive(Args)]
pub(super) struct PingArgs {
    /// Name of the peer, `<cluster>.<node>`
    name: String,
    /// Number of probes
    #[arg(long, short, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Time between probes
    #[arg(long, short, default_value = "1s", value_parser = period)]
    interval: Duration,
    /// How long to wait for each reply
    #[arg(long, short = 'W', default_value = "2s", value_parser = period)]
    timeout: Duration,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How much longer than the probe the daemon may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends the probes; fails if none was answered.
pub(super) fn main(args: &PingArgs) -> Result {
    block_on(async {
        let mut rtts = Vec::new();
        for number in 1..=args.count {
            match probe(&args.socket.socket, &args.name, args.timeout).await {
                Ok(reply) => {
                    let rtt = Duration::from_micros(reply.rtt_us);
                    print(&format!("reply {number} from {} over {}: {}\n", args.name, reply.path, milliseconds(rtt)))?;
                    rtts.push(rtt);
                }
                Err(ClientError::Timeout) => print(&format!("no reply {number} from {}\n", args.name))?,
                Err(error) => return Err(error.into()),
            }
            if number < args.count {
                tokio::time::sleep(args.interval).await;
            }
        }
        if rtts.is_empty() {
            return Err(
                format!("{} answered none of {} probes; `meshd status` may say why", args.name, args.count).into()
            );
        }
        print(&summary(args.count, &mut rtts))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn period(text: &str) -> std::result::Result<Duration, config::PeriodError> {
    text.parse().map(|config::Period(duration)| duration)
}

async fn probe(socket: &Path, name: &str, timeout: Duration) -> std::result::Result<PingReply, ClientError> {
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let request = PingRequest { name: name.to_owned(), timeout_ms };
    call(socket, timeout.saturating_add(PATIENCE), Method::POST, "/v1/ping", Some(&request)).await
}

fn summary(sent: u32, rtts: &mut [Duration]) -> String {
    rtts.sort_unstable();
    let got = rtts.len();
    let (Some(least), Some(most), Some(median)) = (rtts.first(), rtts.last(), rtts.get(got / 2)) else {
        return String::new();
    };
    format!(
        "{sent} sent, {got} answered; round trip min/median/max {} / {} / {}\n",
        milliseconds(*least),
        milliseconds(*median),
        milliseconds(*most)
    )
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
