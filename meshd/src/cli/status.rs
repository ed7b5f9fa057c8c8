//! `meshd status`: a line per peer, and below them what is wrong.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::Args;

use super::{Result, SocketArgs, block_on, print};
use crate::api::client::call;
use crate::api::model::{PeerLine, Severity, State, Status};

#[derive(Args)]
pub(super) struct StatusArgs {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take; it needs milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// Columns of the table of peers.
const COLUMNS: usize = 8;

/// Asks and prints.
pub(super) fn main(args: &StatusArgs) -> Result {
    block_on(async {
        let status: Status = call(&args.socket.socket, LIMIT, Method::GET, "/v1/status", None::<&()>).await?;
        if args.json {
            print(&(serde_json::to_string_pretty(&status)? + "\n"))?;
        } else {
            print(&render(&status))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn render(status: &Status) -> String {
    let node = &status.node;
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} in mesh {}, {} on {}, UDP port {}, up {}",
        node.name,
        node.mesh,
        node.addresses.join(" "),
        node.interface,
        node.port,
        span(Duration::from_secs(node.uptime_seconds))
    );
    out.push('\n');
    let mut rows = vec![["PEER", "ADDRESS", "STATE", "PATH", "HANDSHAKE", "CIPHER", "RX", "TX"].map(str::to_owned)];
    rows.extend(status.peers.iter().map(row));
    table(&mut out, &rows);
    out.push('\n');
    if status.health.is_empty() {
        out.push_str("health: good\n");
    } else {
        out.push_str("health:\n");
    }
    for health in &status.health {
        let mark = match health.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = writeln!(out, "  {mark}: {}", health.text);
    }
    out
}

fn row(peer: &PeerLine) -> [String; COLUMNS] {
    let state = match peer.state {
        State::Idle => "idle",
        State::Connecting => "connecting",
        State::Connected => "connected",
        State::Unreachable => "unreachable",
        State::Denied => "denied",
        State::RelayOnly => "relay only",
    };
    let dash = || "-".to_owned();
    let ago = |seconds: f64| format!("{} ago", span(Duration::from_secs_f64(seconds.max(0.0))));
    [
        peer.name.clone(),
        peer.addresses.first().cloned().unwrap_or_else(dash),
        state.to_owned(),
        peer.path.clone().unwrap_or_else(dash),
        peer.last_handshake_seconds_ago.map_or_else(dash, ago),
        peer.cipher.clone().unwrap_or_else(dash),
        bytes(peer.rx_bytes),
        bytes(peer.tx_bytes),
    ]
}

fn table(out: &mut String, rows: &[[String; COLUMNS]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// A byte count in binary units with three digits.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// A time span in its two largest units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{}s", seconds),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, ..) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_column_and_aligns_them() {
        let row = |prefix: &str| std::array::from_fn(|column| format!("{prefix}{column}"));
        let mut out = String::new();
        table(&mut out, &[row("head"), row("c")]);
        assert_eq!(
            out,
            "head0  head1  head2  head3  head4  head5  head6  head7\n\
             c0     c1     c2     c3     c4     c5     c6     c7\n"
        );
    }

    #[test]
    fn byte_counts_have_three_digits_and_a_unit() {
        let cases = [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (15_000, "14.6 KiB"), (1 << 20, "1.00 MiB")];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
        assert_eq!(bytes(u64::MAX), "16384 PiB");
    }

    #[test]
    fn spans_show_their_two_largest_units() {
        let cases = [(5, "5s"), (65, "1m05s"), (3660, "1h01m"), (90_000, "1d01h")];
        for (seconds, text) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
