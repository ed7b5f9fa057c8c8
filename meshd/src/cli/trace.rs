//! `meshd trace`: packets on their way through the daemon, as lines, as JSON, or as a capture file.

mod file;
mod pcapng;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use super::text::count;
use super::{INTERRUPTED, Interrupt, Result, SocketArgs, block_on, print_on, reader_left};
use crate::api::client::{Lines, lines};
use crate::api::trace::{EndLine, PacketLine, Protocol, TraceLine, TraceRequest};
use crate::trace::LONGEST;
use pcapng::Capture;

pub(super) const EXAMPLES: &str = "Examples:
  meshd trace --peer beijing.edge2 --proto icmp
  meshd trace --drops --for 1m
  meshd trace --host 10.1.0.0/16 --port 443 --pcap trace.pcapng
  meshd trace --pcap - | tcpdump -r -";

#[derive(Args)]
pub(super) struct TraceArgs {
    /// Only packets to or from this peer: its name `<cluster>.<node>`, or an address of it
    #[arg(long, value_name = "NAME")]
    peer: Option<String>,
    /// Only packets with this inner source or destination
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    host: Option<String>,
    /// Only packets from or to this inner port
    #[arg(long)]
    port: Option<u16>,
    /// Only this inner protocol
    #[arg(long, value_name = "PROTOCOL")]
    proto: Option<Protocol>,
    /// Only what is dropped
    #[arg(long)]
    drops: bool,
    /// Only one of so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sample: Option<u64>,
    /// End after so many packets
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time, at most 5m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    time: Duration,
    /// Write inner packets into this file in the pcapng format, over what is in it; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pcap: Option<PathBuf>,
    /// How many bytes of each packet --pcap writes
    #[arg(long, value_name = "BYTES", default_value = "2048", value_parser = clap::value_parser!(u32).range(128..=65_535))]
    snap: u32,
    /// Print each packet as a line of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: SocketArgs,
}

/// How long the daemon may take to begin.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks, and shows until it ends; SIGINT ends it early.
pub(super) fn main(args: &TraceArgs) -> Result {
    reader_left(run(args))
}

fn run(args: &TraceArgs) -> Result {
    let mut output = Output::new(args)?;
    let snap = args.pcap.as_ref().and_then(|_| usize::try_from(args.snap).ok());
    let request = TraceRequest {
        peer: args.peer.clone(),
        host: args.host.clone(),
        port: args.port,
        protocol: args.proto,
        drops: args.drops,
        sample: args.sample,
        count: args.count,
        for_ms: u64::try_from(args.time.as_millis()).ok(),
        snap,
    };
    block_on(async {
        let mut interrupt = Interrupt::new()?;
        let mut end = EndLine::default();
        let shown = async {
            let lines = lines(&args.socket.socket, LIMIT, Method::POST, "/v1/trace", Some(&request)).await?;
            show(lines, &mut output, &mut end).await
        };
        let code = tokio::select! {
            shown = shown => shown.map(|()| ExitCode::SUCCESS)?,
            () = interrupt.came() => INTERRUPTED.into(),
        };
        eprintln!("{}", summary(&end, output.unreadable()));
        Ok(code)
    })
}

/// Shows line by line, and keeps count in `end` until the daemon does. Where it is cancelled, all that was counted has been shown.
async fn show(mut lines: Lines, output: &mut Output, end: &mut EndLine) -> Result<()> {
    while let Some(line) = lines.next::<TraceLine>().await? {
        output.show(&line)?;
        match line {
            TraceLine::Packet(_) => end.packets += 1,
            TraceLine::Lost { count } => end.lost += count,
            TraceLine::End(told) => {
                *end = told;
                return Ok(());
            }
        }
    }
    Err("the daemon ended before the trace did".into())
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    let time = super::period(text).map_err(|error| error.to_string())?;
    if time > LONGEST {
        return Err(format!("a trace lasts at most {}m", LONGEST.as_secs() / 60));
    }
    Ok(time)
}

/// Where packets go.
enum Output {
    Text,
    Json,
    /// A capture, and the packets that are not in it.
    Capture(Capture<Box<dyn Write>>, u64),
}

impl Output {
    fn new(args: &TraceArgs) -> Result<Self> {
        let Some(path) = &args.pcap else { return Ok(if args.json { Self::Json } else { Self::Text }) };
        let out: Box<dyn Write> = if path.as_path() == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(file::create(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
        };
        Ok(Self::Capture(Capture::new(out, args.snap)?, 0))
    }

    fn show(&mut self, line: &TraceLine) -> Result<()> {
        match (self, line) {
            (Self::Json, _) => print_on(&(serde_json::to_string(line)? + "\n"))?,
            (Self::Text, TraceLine::Packet(packet)) => print_on(&text(packet))?,
            (Self::Text, TraceLine::Lost { count }) => print_on(&format!("lost {count}\n"))?,
            (Self::Capture(capture, unreadable), TraceLine::Packet(packet)) => match &packet.data {
                Some(data) => {
                    let comment = (packet.verdict == "dropped").then(|| outcome(packet));
                    capture.packet(packet, &STANDARD.decode(data)?, comment.as_deref())?;
                }
                None => *unreadable += 1,
            },
            (Self::Text | Self::Capture(..), TraceLine::End(_)) | (Self::Capture(..), TraceLine::Lost { .. }) => {}
        }
        Ok(())
    }

    const fn unreadable(&self) -> u64 {
        match self {
            Self::Capture(_, unreadable) => *unreadable,
            Self::Text | Self::Json => 0,
        }
    }
}

/// A packet in one line.
fn text(packet: &PacketLine) -> String {
    let time = packet.time.split_once('T').map_or(packet.time.as_str(), |(_, time)| time.trim_end_matches('Z'));
    let mut out = format!("{time}  {:<7}  {}, {} bytes", packet.direction, inner(packet), packet.length);
    if packet.segments > 1 {
        let _ = write!(out, " in {} datagrams", packet.segments);
    }
    let _ = match (packet.direction.as_str(), &packet.onward) {
        ("out", _) => write!(out, "{}", place("to", packet)),
        (_, None) => write!(out, "{}", place("from", packet)),
        (_, Some(to)) => write!(out, "{} to {to}", place("from", packet)),
    };
    if let (Some(session), Some(lane), Some(counter)) = (&packet.session, packet.lane, packet.counter) {
        let _ = write!(out, ", session {session} lane {lane} #{counter}");
    }
    let _ = writeln!(out, ": {}", outcome(packet));
    out
}

/// Who talks to whom.
fn inner(packet: &PacketLine) -> String {
    let (Some(from), Some(to), Some(protocol)) = (&packet.source, &packet.destination, &packet.protocol) else {
        return "a datagram that is not opened".to_owned();
    };
    let with_port = |address: &str, port: Option<u16>| match port {
        Some(port) if address.contains(':') => format!("[{address}]:{port}"),
        Some(port) => format!("{address}:{port}"),
        None => address.to_owned(),
    };
    let (from, to) = (with_port(from, packet.source_port), with_port(to, packet.destination_port));
    let icmp = match (protocol.as_str(), packet.icmp_type) {
        ("icmp", Some(8)) | ("icmpv6", Some(128)) => " echo request".to_owned(),
        ("icmp", Some(0)) | ("icmpv6", Some(129)) => " echo reply".to_owned(),
        (_, Some(number)) => format!(" type {number}"),
        (_, None) => String::new(),
    };
    format!("{protocol}{icmp} {from} > {to}")
}

fn place(word: &str, packet: &PacketLine) -> String {
    match (&packet.peer, &packet.path) {
        (Some(peer), Some(path)) => format!(" {word} {peer} over {path}"),
        (Some(peer), None) => format!(" {word} {peer}"),
        (None, Some(path)) => format!(" {word} {path}"),
        (None, None) => String::new(),
    }
}

fn outcome(packet: &PacketLine) -> String {
    match &packet.text {
        Some(text) => format!("{}: {text}", packet.verdict),
        None => packet.verdict.clone(),
    }
}

fn summary(end: &EndLine, unreadable: u64) -> String {
    let mut out = count(end.packets, "packet");
    if end.lost > 0 {
        let _ =
            write!(out, ", and {} lost that came faster than they could be told; a filter or --sample helps", end.lost);
    }
    if unreadable > 0 {
        let _ = write!(out, "; {unreadable} of them not in the file, for there is no inner packet to be read");
    }
    if end.reason == "reload" {
        out.push_str("; it ended early, for the mesh has other endpoints since a reload");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ping() -> PacketLine {
        PacketLine {
            time: "2026-11-21T16:56:15.123456Z".to_owned(),
            direction: "out".to_owned(),
            source: Some("10.99.0.1".to_owned()),
            destination: Some("10.99.0.2".to_owned()),
            protocol: Some("icmp".to_owned()),
            icmp_type: Some(8),
            length: 84,
            peer: Some("lab.two".to_owned()),
            path: Some("direct 192.0.2.2:6374".to_owned()),
            session: Some("1a2b3c4d".to_owned()),
            lane: Some(0),
            counter: Some(17),
            segments: 1,
            verdict: "sent".to_owned(),
            ..PacketLine::default()
        }
    }

    #[test]
    fn a_packet_is_a_line_with_all_that_is_known_of_it() {
        assert_eq!(
            text(&ping()),
            "16:56:15.123456  out      icmp echo request 10.99.0.1 > 10.99.0.2, 84 bytes to lab.two over direct \
             192.0.2.2:6374, session 1a2b3c4d lane 0 #17: sent\n"
        );
        let tcp = PacketLine {
            source: Some("fd00::1".to_owned()),
            destination: Some("fd00::2".to_owned()),
            protocol: Some("tcp".to_owned()),
            icmp_type: None,
            source_port: Some(1000),
            destination_port: Some(443),
            segments: 45,
            length: 62_000,
            direction: "in".to_owned(),
            verdict: "dropped".to_owned(),
            text: Some("its source is not the peer's".to_owned()),
            session: None,
            ..ping()
        };
        assert_eq!(
            text(&tcp),
            "16:56:15.123456  in       tcp [fd00::1]:1000 > [fd00::2]:443, 62000 bytes in 45 datagrams from lab.two \
             over direct 192.0.2.2:6374: dropped: its source is not the peer's\n"
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_by_where_it_comes_from() {
        let sealed = PacketLine {
            direction: "relayed".to_owned(),
            length: 124,
            path: Some("direct 192.0.2.1:6374".to_owned()),
            onward: Some("192.0.2.2:6374".to_owned()),
            time: ping().time,
            verdict: "forwarded".to_owned(),
            ..PacketLine::default()
        };
        assert_eq!(
            text(&sealed),
            "16:56:15.123456  relayed  a datagram that is not opened, 124 bytes from direct 192.0.2.1:6374 to \
             192.0.2.2:6374: forwarded\n"
        );
    }

    #[test]
    fn a_time_that_the_daemon_would_cut_is_refused() {
        assert_eq!(duration("5m"), Ok(LONGEST));
        assert_eq!(duration("10m"), Err("a trace lasts at most 5m".to_owned()));
    }

    #[test]
    fn the_end_tells_what_is_missing() {
        let end = |packets, lost| EndLine { reason: "time".to_owned(), packets, lost };
        assert_eq!(summary(&end(1, 0), 0), "1 packet");
        assert!(summary(&end(9, 120), 0).contains("120 lost"));
        assert!(summary(&end(9, 0), 2).contains("2 of them not in the file"));
        let ended = EndLine { reason: "reload".to_owned(), ..end(1, 0) };
        assert_eq!(summary(&ended, 0), "1 packet; it ended early, for the mesh has other endpoints since a reload");
    }
}
