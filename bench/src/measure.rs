//! One peer, one round: starts both daemons in fresh namespaces and takes every figure.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::Lab;

use crate::Outcome;
use crate::arguments::{Arguments, Part};
use crate::daemon::Daemon;
use crate::iperf::{self, Server, TcpRun};
use crate::latency::{self, Pinging};
use crate::peers::{Over, Peer};
use crate::record::{Round, Tcp};
use crate::testbed::Testbed;

/// Between the starts of the two daemons.
const STAGGER: Duration = Duration::from_millis(300);

/// Between the first pings and the look at the idle memory.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// Datagram lengths, and the rate in bit/s that the first search begins at.
const DATAGRAMS: [(u32, f64); 2] = [(1200, 700e6), (64, 30e6)];

/// A search begins just below what the round before found.
const NEXT_GUESS: f64 = 0.97;

/// Requests of an idle ping, and the seconds between two.
const PINGS: (u32, f64) = (1000, 0.002);

/// The seconds between two requests of a ping under load.
const LOADED_INTERVAL: f64 = 0.02;

/// How long the TCP ping-pong runs.
const PING_PONG: Duration = Duration::from_millis(1500);

/// The rates in bit/s where the next round's searches begin, by peer and datagram length.
pub(crate) type Guesses = HashMap<(&'static str, u32), f64>;

/// A running tunnel.
pub(crate) struct Tunnel<'t> {
    testbed: &'t Testbed,
    /// None for a limit without daemons; else the first side's, then the second's.
    pub(crate) daemons: Vec<Daemon>,
    /// The second side's address to talk to.
    pub(crate) address: &'static str,
    /// From the start of the second daemon to the first reply.
    pub(crate) first_ping_ms: f64,
}

/// Takes every figure that is wanted.
pub(crate) fn measure(
    lab: &Lab,
    peer: &'static Peer,
    arguments: &Arguments,
    number: u32,
    guesses: &mut Guesses,
) -> Outcome<Round> {
    let testbed = Testbed::new(lab, peer, arguments.mtu.unwrap_or(peer.mtu), arguments.wire)?;
    let mut round = Round { number, ..Round::default() };
    let mut tunnel = start(peer, &testbed, &mut round)?;
    let _server = Server::start(&testbed.b, tunnel.address);
    thread::sleep(STAGGER);
    if arguments.wants(Part::Latency) {
        let pings = Pinging::start(&testbed.a, tunnel.address, PINGS.0, PINGS.1).finish();
        round.ping = keep(pings, "ping", &mut round.errors);
        let answers = latency::ping_pong(&testbed.a, &testbed.b, tunnel.address, PING_PONG);
        round.ping_pong = keep(answers, "request-response", &mut round.errors);
    }
    if arguments.wants(Part::Stream) {
        round.stream = Some(latency::steady_stream(&testbed.a, &testbed.b, tunnel.address));
    }
    if arguments.wants(Part::Tcp) {
        tcp_runs(&tunnel, arguments, &mut round);
    }
    if arguments.wants(Part::Udp) {
        udp_searches(&tunnel, peer, guesses, &mut round);
    }
    round.resident_after_mib = tunnel.daemons.first().map(Daemon::resident_mib);
    tunnel.daemons.iter_mut().try_for_each(Daemon::check)?;
    Ok(round)
}

fn start<'t>(peer: &Peer, testbed: &'t Testbed, round: &mut Round) -> Outcome<Tunnel<'t>> {
    (peer.prepare)(&testbed.sides()).map_err(|error| format!("prepare: {error}"))?;
    let tunnel = launch(peer, testbed)?;
    round.first_ping_ms = Some(tunnel.first_ping_ms);
    thread::sleep(SETTLE);
    round.resident_idle_mib = tunnel.daemons.first().map(Daemon::resident_mib);
    Ok(tunnel)
}

/// Starts both daemons, whose files are written, and waits until a ping passes.
pub(crate) fn launch<'t>(peer: &Peer, testbed: &'t Testbed) -> Outcome<Tunnel<'t>> {
    let (first, address) = match peer.over {
        Over::Tunnel => (testbed.a.tunnel.mine, testbed.b.tunnel.mine),
        Over::Link => (testbed.a.link.mine, testbed.b.link.mine),
    };
    let (mut daemons, mut started) = (Vec::new(), Instant::now());
    for side in testbed.sides() {
        started = Instant::now();
        let command = (peer.start)(side).map_err(|error| format!("start: {error}"))?;
        daemons.extend(command.map(|command| Daemon::start(side, command)).transpose()?);
        (peer.configure)(side).map_err(|error| explain(&error.to_string(), &mut daemons))?;
        if side.is_first() {
            thread::sleep(STAGGER);
        }
    }
    let reply = latency::first_reply(&testbed.b, first, started);
    let first_ping_ms = reply.map_err(|error| explain(&error.to_string(), &mut daemons))?;
    Ok(Tunnel { testbed, daemons, address, first_ping_ms })
}

/// An error, with what the daemons have to say to it.
fn explain(error: &str, daemons: &mut [Daemon]) -> String {
    let logs: Vec<String> = daemons.iter().map(Daemon::log_tail).filter(|log| !log.is_empty()).collect();
    if logs.is_empty() { error.to_owned() } else { format!("{error}; log: {}", logs.join(" | ")) }
}

/// The figure, or a note that there is none and why.
fn keep<T>(outcome: Outcome<T>, what: &str, errors: &mut Vec<String>) -> Option<T> {
    outcome.map_err(|error| errors.push(format!("{what}: {error}"))).ok()
}

impl Tunnel<'_> {
    fn cpu_seconds(&self) -> f64 {
        self.daemons.iter().map(Daemon::cpu_seconds).sum()
    }
}

fn tcp_runs(tunnel: &Tunnel<'_>, arguments: &Arguments, round: &mut Round) {
    for (streams, reverse) in [(1, false), (1, true), (4, false), (4, true)] {
        let run = TcpRun { streams, reverse, seconds: arguments.secs, congestion: &arguments.congestion };
        let what = format!("TCP x{streams}{}", if reverse { " back" } else { "" });
        round.tcp.extend(keep(tcp_run(tunnel, run), &what, &mut round.errors));
    }
}

/// Runs TCP through a tunnel whose second side has an iperf3 server.
pub(crate) fn tcp_run(tunnel: &Tunnel<'_>, run: TcpRun<'_>) -> Outcome<Tcp> {
    let (before, from) = (tunnel.cpu_seconds(), &tunnel.testbed.a);
    // Ends before the load does.
    let pings = run.seconds.saturating_sub(1).max(1) * 50;
    let is_loaded = run.streams == 4 && !run.reverse;
    let pinging = is_loaded.then(|| Pinging::start(from, tunnel.address, pings, LOADED_INTERVAL));
    let carried = iperf::tcp(from, tunnel.address, run);
    let loaded_ping = pinging.map(Pinging::finish);
    let carried = carried?;
    Ok(Tcp {
        streams: run.streams,
        reverse: run.reverse,
        gbps: carried.bits_per_second / 1e9,
        retransmits: carried.retransmits,
        cpu_seconds_per_gb: (tunnel.cpu_seconds() - before) / (carried.bytes / 1e9),
        loaded_ping: loaded_ping.transpose()?,
    })
}

fn udp_searches(tunnel: &Tunnel<'_>, peer: &'static Peer, guesses: &mut Guesses, round: &mut Round) {
    for (length, first_guess) in DATAGRAMS {
        let guess = guesses.get(&(peer.name, length)).copied().unwrap_or(first_guess);
        let search = iperf::udp(&tunnel.testbed.a, tunnel.address, length, guess, || tunnel.cpu_seconds());
        let Some(search) = keep(search, &format!("UDP {length} B"), &mut round.errors) else { continue };
        if let Some(best) = search.best {
            guesses.insert((peer.name, length), best.offered_bits_per_second * NEXT_GUESS);
        }
        round.udp.push(search);
    }
}
