//! `POST /v1/trace`: packets on their way through the workers, told to one client for a while.
//!
//! Workers copy what matches into a bounded channel and never wait; the answer's body takes it from there, at the pace of its
//! client. One trace runs at a time, so that what it costs the workers has a bound.

mod line;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::{self, Stream};
use ipnet::IpNet;
use proto::data::Published;
use proto::data::trace::{Fate, Trace, TraceFilter, TraceProtocol, TraceSink, Traced};
use proto::id::{EndpointName, PeerId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api;
use crate::api::trace::{EndLine, Protocol, TraceLine, TraceRequest};
use crate::driver::Driver;
use line::Names;

/// Packets that wait for the client: some 300 KB, and 2 MB where whole packets are asked for.
const MAX_WAITING: usize = 1_024;

/// Packets of one piece of the answer.
const BATCH: usize = 64;

/// What is copied of a packet where its bytes are not asked for: enough for its headers.
const HEADERS: usize = 128;

/// How long a trace lasts unless it is said.
const USUAL: Duration = Duration::from_secs(10);

/// How long it lasts at most.
pub(crate) const LONGEST: Duration = Duration::from_secs(5 * 60);

/// The trace that runs, if one does.
#[derive(Default)]
pub(crate) struct Slot(Weak<Running>);

impl Slot {
    /// Ends the trace where numbers mean other peers than when it began: by a number it asks who is traced, and tells who it was.
    fn end_unless(&self, peers: &BTreeMap<PeerId, EndpointName>) {
        if let Some(running) = self.0.upgrade().filter(|running| *running.peers != *peers) {
            running.take_no_more();
        }
    }
}

/// Ends the trace when it is dropped.
struct Running {
    published: Arc<Published>,
    peers: Arc<BTreeMap<PeerId, EndpointName>>,
}

impl Running {
    /// Nothing more is taken. The channel ends with what waits in it.
    fn take_no_more(&self) {
        self.published.trace().set(None);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.take_no_more();
    }
}

/// Why no trace begins.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TraceRefusal {
    /// The request cannot be understood.
    #[error("{0}")]
    Unreadable(String),
    /// Its peer is nobody.
    #[error("{0}")]
    UnknownPeer(String),
    /// Not now: another trace runs, or the node does not.
    #[error("{0}")]
    Unavailable(String),
}

/// The workers' end of the channel.
struct Sink {
    packets: mpsc::Sender<Traced>,
    lost: Arc<AtomicU64>,
}

impl TraceSink for Sink {
    fn take(&self, traced: Traced) {
        if self.packets.try_send(traced).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A trace that has begun, and ends when this is dropped.
pub(crate) struct Tracing {
    packets: mpsc::Receiver<Traced>,
    lost: Arc<AtomicU64>,
    names: Names,
    left: u64,
    until: Instant,
    told: u64,
    told_lost: u64,
    running: Option<Arc<Running>>,
}

impl Driver {
    /// Begins a trace.
    ///
    /// # Errors
    /// What is wrong with the request, or that another trace runs.
    pub(crate) fn begin_trace(&mut self, request: &TraceRequest) -> Result<Tracing, TraceRefusal> {
        let filter = filter(request).map_err(TraceRefusal::Unreadable)?;
        let peer = request.peer.as_deref().map(|name| self.reporter.find(&self.node, name)).transpose();
        let filter = TraceFilter { peer: peer.map_err(TraceRefusal::UnknownPeer)?, ..filter };
        if self.trace.0.strong_count() > 0 {
            return Err(TraceRefusal::Unavailable("another trace is running; try again when it has ended".to_owned()));
        }
        let peers = Arc::new(self.reporter.names(&self.node));
        let names = Names::new(&self.node, Arc::clone(&peers), self.clock, request.snap.is_some());
        let (sender, packets) = mpsc::channel(MAX_WAITING);
        let lost = Arc::<AtomicU64>::default();
        let sink = Sink { packets: sender, lost: Arc::clone(&lost) };
        let trace = Trace::new(filter, request.snap.unwrap_or(HEADERS).max(HEADERS), Box::new(sink));
        self.published.trace().set(Some(Arc::new(trace)));
        let running = Arc::new(Running { published: Arc::clone(&self.published), peers });
        self.trace = Slot(Arc::downgrade(&running));
        Ok(Tracing {
            packets,
            lost,
            names,
            left: request.count.unwrap_or(u64::MAX),
            until: Instant::now() + duration(request),
            told: 0,
            told_lost: 0,
            running: Some(running),
        })
    }

    /// Ends the trace where a reload gave it other peers. To be called before anybody else has a number of one that is gone.
    pub(crate) fn end_trace_of_others(&self) {
        if self.trace.0.strong_count() > 0 {
            self.trace.end_unless(&self.reporter.names(&self.node));
        }
    }
}

/// How long a trace lasts.
pub(crate) fn duration(request: &TraceRequest) -> Duration {
    request.for_ms.map_or(USUAL, Duration::from_millis).min(LONGEST)
}

fn filter(request: &TraceRequest) -> Result<TraceFilter, String> {
    let sample = request.sample.unwrap_or(1);
    Ok(TraceFilter {
        peer: None,
        host: request.host.as_deref().map(host).transpose()?,
        port: request.port,
        protocol: request.protocol.map(|protocol| match protocol {
            Protocol::Tcp => TraceProtocol::Tcp,
            Protocol::Udp => TraceProtocol::Udp,
            Protocol::Icmp => TraceProtocol::Icmp,
        }),
        fate: if request.drops { Fate::Dropped } else { Fate::Any },
        sample: NonZeroU64::new(sample).ok_or("a sample is one of at least 1")?,
    })
}

fn host(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    parsed.ok_or_else(|| format!("{text} is neither an IP address nor a prefix such as 10.1.0.0/16"))
}

impl Tracing {
    /// The lines of the answer, in pieces.
    pub(crate) fn lines(self) -> impl Stream<Item = String> + Send + 'static {
        stream::unfold(self, |mut tracing| async move { tracing.next().await.map(|lines| (lines, tracing)) })
    }

    /// What has come since, as lines; `None` behind the last one.
    async fn next(&mut self) -> Option<String> {
        self.running.as_ref()?;
        let (mut batch, mut is_ended) = (Vec::new(), false);
        if self.left > 0 {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(BATCH);
            tokio::select! {
                count = self.packets.recv_many(&mut batch, room) => is_ended = count == 0,
                () = tokio::time::sleep_until(self.until) => self.sweep(&mut batch, room),
            }
        }
        let mut out = String::new();
        self.left = self.left.saturating_sub(batch.len() as u64);
        self.told += batch.len() as u64;
        for traced in &batch {
            out.push_str(&api::stream::line(&TraceLine::Packet(Box::new(self.names.line(traced)))));
        }
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.told_lost {
            out.push_str(&api::stream::line(&TraceLine::Lost { count: lost - self.told_lost }));
            self.told_lost = lost;
        }
        let reason = match () {
            () if self.left == 0 => Some("count"),
            () if batch.is_empty() && Instant::now() >= self.until => Some("time"),
            () if is_ended => Some("reload"),
            () => None,
        };
        if let Some(reason) = reason {
            let end = EndLine { reason: reason.to_owned(), packets: self.told, lost };
            out.push_str(&api::stream::line(&TraceLine::End(end)));
            self.running = None;
        }
        Some(out)
    }

    /// The time is over: nothing more is taken, and what waits is still told.
    fn sweep(&mut self, batch: &mut Vec<Traced>, room: usize) {
        if let Some(running) = &self.running {
            running.take_no_more();
        }
        batch.extend(std::iter::from_fn(|| self.packets.try_recv().ok()).take(room));
    }
}

#[cfg(test)]
mod tests {
    use proto::data::ForwardingTable;
    use proto::data::trace::{Direction, Verdict};
    use proto::handshake::Mac1;
    use proto::id::PublicKey;

    use super::*;

    #[test]
    fn a_host_is_an_address_or_a_prefix_and_anything_else_is_told() {
        assert_eq!(host("10.1.0.0/16"), Ok("10.1.0.0/16".parse().unwrap()));
        assert_eq!(host("fd00::1"), Ok("fd00::1/128".parse().unwrap()));
        assert!(host("beijing").unwrap_err().contains("neither an IP address nor a prefix"));
    }

    #[test]
    fn a_request_that_cannot_be_understood_is_told_from_one_that_comes_at_a_bad_time() {
        for wrong in [
            TraceRequest { host: Some("xyz".to_owned()), ..TraceRequest::default() },
            TraceRequest { sample: Some(0), ..TraceRequest::default() },
        ] {
            assert!(filter(&wrong).is_err(), "{wrong:?}");
        }
    }

    fn peers(names: &[(u32, &str)]) -> Arc<BTreeMap<PeerId, EndpointName>> {
        Arc::new(names.iter().map(|(number, name)| (PeerId(*number), name.parse().unwrap())).collect())
    }

    /// A trace that runs among these peers, and its place.
    fn running(peers: &Arc<BTreeMap<PeerId, EndpointName>>) -> (Tracing, Slot) {
        let published = Published::new(Arc::new(ForwardingTable::new(Mac1::new(&PublicKey([0; 32])))));
        let (sender, packets) = mpsc::channel(MAX_WAITING);
        let lost = Arc::<AtomicU64>::default();
        let sink = Sink { packets: sender, lost: Arc::clone(&lost) };
        let trace = Trace::new(TraceFilter::default(), HEADERS, Box::new(sink));
        trace.sink.take(Traced { peer: Some(PeerId(1)), ..Traced::new(Direction::Out, Verdict::Sent, 84) });
        published.trace().set(Some(Arc::new(trace)));
        let running = Arc::new(Running { published: Arc::clone(&published), peers: Arc::clone(peers) });
        let slot = Slot(Arc::downgrade(&running));
        let (names, until) = (Names::of(Arc::clone(peers)), Instant::now() + LONGEST);
        let tracing =
            Tracing { packets, lost, names, left: u64::MAX, until, told: 0, told_lost: 0, running: Some(running) };
        (tracing, slot)
    }

    #[tokio::test]
    async fn a_number_that_changes_hands_ends_the_trace_and_what_it_saw_is_told_by_the_name_of_before() {
        let before = peers(&[(1, "site.one"), (2, "site.two")]);
        let (mut tracing, slot) = running(&before);
        slot.end_unless(&before.clone());
        let first = tracing.next().await.unwrap();
        assert!(first.contains("\"peer\":\"site.one\"") && !first.contains("\"end\""), "{first}");
        for other in [&[(2, "site.two")][..], &[(1, "site.other"), (2, "site.two")]] {
            let (mut tracing, slot) = running(&before);
            slot.end_unless(&peers(other));
            let lines = [tracing.next().await.unwrap(), tracing.next().await.unwrap()].concat();
            let end = "{\"kind\":\"end\",\"reason\":\"reload\",\"packets\":1,\"lost\":0}";
            assert!(lines.contains("\"peer\":\"site.one\"") && lines.contains(end), "{lines}");
            assert!(tracing.next().await.is_none() && slot.0.upgrade().is_none());
        }
    }

    #[test]
    fn a_trace_lasts_no_longer_than_five_minutes_whatever_is_asked_for() {
        let asked = |for_ms| duration(&TraceRequest { for_ms, ..TraceRequest::default() });
        assert_eq!(
            [asked(None), asked(Some(1_500)), asked(Some(u64::MAX))],
            [USUAL, Duration::from_millis(1_500), LONGEST]
        );
    }
}
