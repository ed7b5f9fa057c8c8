//! Latency: ping idle and under load, a TCP ping-pong of one byte, and the time to the first reply.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use netns_tests::traffic::Stream;
use serde::Serialize;

use crate::Outcome;
use crate::statistics::percentile;
use crate::testbed::Side;

/// When a first reply counts as never.
const FIRST_REPLY_LIMIT: Duration = Duration::from_secs(20);

/// Datagrams a second of a steady stream, and how long it runs: over three changes of keys, where they are 5 s apart.
const STEADY_RATE: u32 = 4_000;
const STEADY_TIME: Duration = Duration::from_secs(16);

/// How long a ping-pong waits for a byte.
const STUCK: Duration = Duration::from_secs(3);

/// Round-trip times.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RoundTrips {
    /// How many came back.
    pub(crate) count: usize,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl RoundTrips {
    fn of(microseconds: &[f64]) -> Outcome<Self> {
        let (p50, p99) = (percentile(microseconds, 50), percentile(microseconds, 99));
        let (Some(p50_us), Some(p99_us)) = (p50, p99) else { return Err("no reply to a ping".into()) };
        Ok(Self { count: microseconds.len(), p50_us, p99_us })
    }
}

/// A `ping` that runs beside something else.
pub(crate) struct Pinging(Child);

impl Pinging {
    /// Sends `count` requests, `interval` seconds apart.
    pub(crate) fn start(side: &Side, to: &str, count: u32, interval: f64) -> Self {
        let mut command = Command::new("ping");
        let (count, interval) = (count.to_string(), interval.to_string());
        command.args(["-n", "-i", &interval, "-c", &count, "-W", "1", to]);
        Self(side.host.spawn(command.stdout(Stdio::piped()).stderr(Stdio::null())))
    }

    /// Waits for the last reply.
    pub(crate) fn finish(self) -> Outcome<RoundTrips> {
        let output = self.0.wait_with_output()?;
        RoundTrips::of(&parse_ping(&String::from_utf8_lossy(&output.stdout)))
    }
}

/// Round-trip times in microseconds, as `ping` writes them: `… time=0.123 ms`.
fn parse_ping(text: &str) -> Vec<f64> {
    let times = text.lines().filter_map(|line| line.split_once("time=")?.1.split_whitespace().next());
    times.filter_map(|time| time.parse::<f64>().ok()).map(|milliseconds| milliseconds * 1e3).collect()
}

/// Pings every 5 ms until a reply comes; returns the milliseconds since `started`.
pub(crate) fn first_reply(side: &Side, to: &str, started: Instant) -> Outcome<f64> {
    while started.elapsed() < FIRST_REPLY_LIMIT {
        // With a deadline, -c counts replies: it goes on until there is one.
        if side.host.run(&format!("ping -n -i 0.005 -c 1 -w 5 {to}")).is_ok() {
            return Ok(started.elapsed().as_secs_f64() * 1e3);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(format!("no ping in {} s", FIRST_REPLY_LIMIT.as_secs()).into())
}

/// A TCP ping-pong of one byte.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct PingPong {
    /// Round trips per second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Sends one byte from `client` to `server` and back, again and again.
pub(crate) fn ping_pong(client: &Side, server: &Side, address: &str, duration: Duration) -> Outcome<PingPong> {
    let address: SocketAddr = format!("{address}:0").parse()?;
    let listener = server.host.enter(|| TcpListener::bind(address))?;
    let target = listener.local_addr()?;
    // Sockets stay in the namespace where they were made.
    let stream = client.host.enter(|| TcpStream::connect_timeout(&target, STUCK))?;
    let (echoing, _) = listener.accept()?;
    for end in [&stream, &echoing] {
        end.set_nodelay(true)?;
        end.set_read_timeout(Some(STUCK))?;
    }
    let echo = thread::spawn(move || echo(echoing));
    let times = ask(stream, duration);
    // The client's end is closed by now, so the echo is over too.
    echo.join().map_err(|_| "the echo panicked")?;
    let times = times?;
    let trips = RoundTrips::of(&times)?;
    let seconds = times.iter().sum::<f64>() / 1e6;
    #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
    let rate = times.len() as f64 / seconds;
    Ok(PingPong { rate, p50_us: trips.p50_us, p99_us: trips.p99_us })
}

/// Small datagrams at a steady rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Steady {
    pub(crate) sent: u64,
    pub(crate) lost: u32,
    /// Between two arrivals; the sender's own pauses are part of it.
    pub(crate) longest_gap_ms: f64,
}

/// Sends [`STEADY_RATE`] datagrams a second of 64 bytes for [`STEADY_TIME`].
pub(crate) fn steady_stream(from: &Side, to: &Side, address: &str) -> Steady {
    let stream = Stream::start(&from.host, &to.host, address, STEADY_RATE);
    thread::sleep(STEADY_TIME);
    let report = stream.stop();
    Steady {
        sent: report.sent,
        lost: u32::try_from(report.lost()).unwrap_or(u32::MAX),
        longest_gap_ms: report.longest_gap.as_secs_f64() * 1e3,
    }
}

fn echo(mut stream: TcpStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}

fn ask(mut stream: TcpStream, duration: Duration) -> Outcome<Vec<f64>> {
    let (started, mut byte, mut times) = (Instant::now(), [1], Vec::new());
    while started.elapsed() < duration {
        let asked = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_ping_are_read_in_microseconds() {
        let text = "PING 10.77.0.2 (10.77.0.2) 56(84) bytes of data.\n\
                    64 bytes from 10.77.0.2: icmp_seq=1 ttl=64 time=0.125 ms\n\
                    64 bytes from 10.77.0.2: icmp_seq=2 ttl=64 time=12 ms\n\n\
                    2 packets transmitted, 2 received, 0% packet loss, time 2ms\n";
        assert_eq!(parse_ping(text), [125.0, 12_000.0]);
    }
}
