//! iperf3: TCP throughput, and the highest UDP rate that loses under 1 %.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::Outcome;
use crate::testbed::Side;

/// A loss that still counts as none.
const LOSS_LIMIT: f64 = 0.01;

/// Seconds of one UDP probe, and probes at most per search.
const PROBE_SECONDS: u32 = 2;
const PROBES: usize = 6;

/// A bracket this narrow ends a search.
const NARROW: f64 = 1.06;

/// By how much a bracket is widened.
const STEP: f64 = 1.5;

/// A sender below this share of the wanted rate cannot go faster.
const SATURATED: f64 = 0.93;

/// The socket buffer that is asked for where the machine allows it, in bytes: bursts must not be lost at the ends.
const BUFFER: u64 = 4 << 20;

/// An iperf3 server in `side`; dropping it ends it.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(side: &Side, address: &str) -> Self {
        let mut command = Command::new("iperf3");
        command.args(["--server", "--bind", address]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(side.host.spawn(&mut command))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What one TCP run carried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carried {
    pub(crate) bits_per_second: f64,
    pub(crate) bytes: f64,
    pub(crate) retransmits: Option<f64>,
}

/// A TCP run to make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TcpRun<'a> {
    pub(crate) streams: u32,
    /// From the server to the client.
    pub(crate) reverse: bool,
    pub(crate) seconds: u32,
    pub(crate) congestion: &'a str,
}

/// Runs TCP from `side` to the server at `address`.
pub(crate) fn tcp(side: &Side, address: &str, run: TcpRun<'_>) -> Outcome<Carried> {
    let reverse = if run.reverse { " --reverse" } else { "" };
    let options = format!("--congestion {} --parallel {}{reverse}", run.congestion, run.streams);
    parse_tcp(&client(side, address, run.seconds, &options)?)
}

fn client(side: &Side, address: &str, seconds: u32, options: &str) -> Outcome<Value> {
    let limit = seconds + 8;
    let line = format!("timeout {limit} iperf3 --client {address} --json --time {seconds} {options}");
    let mut refused = 0;
    loop {
        let done = side.host.run(&line);
        let answer: Value = serde_json::from_str(&done.stdout).map_err(|_| format!("no answer: {done}"))?;
        match answer["error"].as_str() {
            None => return Ok(answer),
            // The server is still clearing up after the run before.
            Some(error) if (error.contains("busy") || error.contains("refused")) && refused < 20 => {
                refused += 1;
                thread::sleep(Duration::from_millis(100));
            }
            Some(error) => return Err(format!("iperf3: {error}").into()),
        }
    }
}

fn parse_tcp(answer: &Value) -> Outcome<Carried> {
    let received = &answer["end"]["sum_received"];
    let figure = |name: &str| received[name].as_f64().ok_or_else(|| format!("iperf3 tells no {name}"));
    let retransmits = answer["end"]["sum_sent"]["retransmits"].as_f64();
    Ok(Carried { bits_per_second: figure("bits_per_second")?, bytes: figure("bytes")?, retransmits })
}

/// One UDP probe.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Probe {
    /// What was asked for.
    pub(crate) wanted_bits_per_second: f64,
    /// What the sender managed.
    pub(crate) offered_bits_per_second: f64,
    /// Share of the datagrams, 0 to 1.
    pub(crate) loss: f64,
    pub(crate) received_per_second: f64,
    /// CPU time of both daemons per received datagram.
    pub(crate) cpu_us_per_datagram: f64,
}

/// A search for the highest rate.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct UdpSearch {
    /// Bytes of payload per datagram.
    pub(crate) length: u32,
    /// The best that lost under 1 %.
    pub(crate) best: Option<Probe>,
    /// Every probe, in order.
    pub(crate) probes: Vec<Probe>,
}

/// Finds the highest rate from `side` to the server that loses under 1 %: brackets it from `guess`, then bisects.
pub(crate) fn udp(
    side: &Side,
    address: &str,
    length: u32,
    guess: f64,
    cpu_seconds: impl Fn() -> f64,
) -> Outcome<UdpSearch> {
    let mut search = Search::from(guess);
    let mut found = UdpSearch { length, best: None, probes: Vec::new() };
    while let Some(rate) = search.next_rate().filter(|_| found.probes.len() < PROBES) {
        let before = cpu_seconds();
        let probe = probe(side, address, length, rate, || cpu_seconds() - before)?;
        search.take(rate, probe.loss < LOSS_LIMIT, probe.offered_bits_per_second);
        let is_better = found.best.is_none_or(|best| probe.received_per_second > best.received_per_second);
        if probe.loss < LOSS_LIMIT && is_better {
            found.best = Some(probe);
        }
        found.probes.push(probe);
    }
    Ok(found)
}

fn probe(side: &Side, address: &str, length: u32, rate: f64, cpu_since: impl Fn() -> f64) -> Outcome<Probe> {
    let buffer = socket_buffer();
    let options = format!("--udp --bitrate {rate:.0} --length {length} --window {buffer} --pacing-timer 200");
    let answer = client(side, address, PROBE_SECONDS, &options)?;
    let sum = &answer["end"]["sum"];
    let figure = |name: &str| sum[name].as_f64().ok_or_else(|| format!("iperf3 tells no {name}"));
    let (total, lost, seconds) = (figure("packets")?, figure("lost_packets")?, figure("seconds")?);
    let received = total - lost;
    Ok(Probe {
        wanted_bits_per_second: rate,
        offered_bits_per_second: total * f64::from(length) * 8.0 / seconds,
        loss: if total > 0.0 { lost / total } else { 1.0 },
        received_per_second: received / seconds,
        cpu_us_per_datagram: cpu_since() / received.max(1.0) * 1e6,
    })
}

/// What the machine lets a socket have without privilege: less than [`BUFFER`] shows in the UDP figures.
pub(crate) fn socket_buffer() -> u64 {
    let limit = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap_or_default();
        // A network namespace of its own may not see it: ask for little then.
        text.trim().parse().unwrap_or(212_992)
    };
    BUFFER.min(limit("rmem_max")).min(limit("wmem_max"))
}

/// A geometric search for the highest rate that is good.
#[derive(Clone, Copy, Debug)]
struct Search {
    rate: f64,
    good: Option<f64>,
    bad: Option<f64>,
    is_over: bool,
}

impl Search {
    const fn from(guess: f64) -> Self {
        Self { rate: guess, good: None, bad: None, is_over: false }
    }

    fn next_rate(&self) -> Option<f64> {
        (!self.is_over).then_some(self.rate)
    }

    fn take(&mut self, rate: f64, is_good: bool, offered: f64) {
        *(if is_good { &mut self.good } else { &mut self.bad }) = Some(rate);
        match (self.good, self.bad) {
            (Some(good), Some(bad)) => {
                self.is_over = bad / good < NARROW;
                self.rate = (good * bad).sqrt();
            }
            (Some(_), None) => {
                self.is_over = offered < SATURATED * rate;
                self.rate = rate * STEP;
            }
            (None, _) => self.rate = rate / STEP,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(guess: f64, limit: f64, fastest_sender: f64) -> (f64, usize) {
        let (mut search, mut best, mut probes) = (Search::from(guess), 0.0_f64, 0);
        while let Some(rate) = search.next_rate() {
            let offered = rate.min(fastest_sender);
            if offered <= limit {
                best = best.max(offered);
            }
            search.take(rate, offered <= limit, offered);
            probes += 1;
        }
        (best, probes)
    }

    #[test]
    fn the_search_ends_just_below_the_limit() {
        for guess in [10.0, 100.0, 1000.0] {
            let (best, probes) = search(guess, 100.0, f64::INFINITY);
            assert!((100.0 / NARROW..=100.0).contains(&best), "{best} from {guess}");
            assert!(probes <= 12, "{probes} from {guess}");
        }
    }

    #[test]
    fn a_sender_that_cannot_go_faster_ends_the_search() {
        assert_eq!(search(100.0, 1e9, 120.0), (120.0, 2));
    }

    #[test]
    fn the_answer_of_a_tcp_run_is_read() {
        let text =
            r#"{"end": {"sum_sent": {"retransmits": 3}, "sum_received": {"bytes": 1e9, "bits_per_second": 2e9}}}"#;
        let carried = parse_tcp(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!((carried.bits_per_second, carried.bytes, carried.retransmits), (2e9, 1e9, Some(3.0)));
        assert!(parse_tcp(&Value::Null).is_err());
    }
}
