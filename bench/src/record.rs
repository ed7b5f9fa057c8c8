//! What one run of the comparison leaves behind: the machine, every round's raw figures, and their medians.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::iperf::UdpSearch;
use crate::latency::{PingPong, RoundTrips, Steady};
use crate::machine::Machine;
use crate::statistics::Spread;

/// One run, as it is written to its JSON file.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    /// Raised when a field changes its meaning.
    pub(crate) format: u32,
    #[serde(flatten)]
    pub(crate) setting: Setting,
    pub(crate) peers: Vec<PeerRecord>,
}

/// What every figure of a run depends on.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Setting {
    /// UTC.
    pub(crate) date: String,
    pub(crate) machine: Machine,
    pub(crate) congestion_control: String,
    pub(crate) wire: bool,
    pub(crate) rounds: u32,
    pub(crate) tcp_seconds: u32,
    pub(crate) user_namespace: bool,
}

/// A peer in a run.
#[derive(Debug, Serialize)]
pub(crate) struct PeerRecord {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) is_limit: bool,
    pub(crate) version: String,
    pub(crate) mtu: u16,
    /// How to install it, where it is missing.
    pub(crate) missing: Option<String>,
    /// Why rounds failed.
    pub(crate) failures: Vec<String>,
    pub(crate) rounds: Vec<Round>,
    /// By [`Metric::key`].
    pub(crate) medians: BTreeMap<&'static str, Spread>,
}

impl PeerRecord {
    /// Fills in the medians.
    pub(crate) fn summarise(&mut self) {
        let spread = |metric: &Metric| Some((metric.key, Spread::of(self.rounds.iter().filter_map(metric.of))?));
        self.medians = METRICS.iter().filter_map(spread).collect();
    }
}

/// One peer's raw figures of one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Round {
    pub(crate) number: u32,
    /// From the start of the second daemon.
    pub(crate) first_ping_ms: Option<f64>,
    /// Of the daemon that sends.
    pub(crate) resident_idle_mib: Option<f64>,
    pub(crate) resident_after_mib: Option<f64>,
    pub(crate) ping: Option<RoundTrips>,
    pub(crate) ping_pong: Option<PingPong>,
    pub(crate) stream: Option<Steady>,
    pub(crate) tcp: Vec<Tcp>,
    pub(crate) udp: Vec<UdpSearch>,
    /// What did not work, where the rest did.
    pub(crate) errors: Vec<String>,
}

/// One TCP run.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Tcp {
    pub(crate) streams: u32,
    pub(crate) reverse: bool,
    pub(crate) gbps: f64,
    pub(crate) retransmits: Option<f64>,
    /// User and system time of both daemons per 10^9 bytes of payload.
    pub(crate) cpu_seconds_per_gb: f64,
    /// A ping every 20 ms beside it.
    pub(crate) loaded_ping: Option<RoundTrips>,
}

/// A figure that is compared.
pub(crate) struct Metric {
    /// Its name in JSON.
    pub(crate) key: &'static str,
    /// Its name in tables, with the unit.
    pub(crate) title: &'static str,
    pub(crate) decimals: usize,
    pub(crate) is_higher_better: bool,
    pub(crate) group: Group,
    pub(crate) of: fn(&Round) -> Option<f64>,
}

/// Which table a figure stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Throughput,
    Cost,
    Latency,
}

const fn metric(
    group: Group,
    key: &'static str,
    title: &'static str,
    decimals: usize,
    of: fn(&Round) -> Option<f64>,
) -> Metric {
    Metric { key, title, decimals, is_higher_better: matches!(group, Group::Throughput), group, of }
}

const fn higher_is_better(metric: &Metric) -> Metric {
    Metric { is_higher_better: true, ..*metric }
}

/// Every figure that is compared, in the order of the tables.
pub(crate) const METRICS: [Metric; 20] = [
    metric(Group::Throughput, "tcp1_gbps", "TCP x1 Gb/s", 2, |r| r.tcp(1, false).map(|t| t.gbps)),
    metric(Group::Throughput, "tcp1_reverse_gbps", "TCP x1 back", 2, |r| r.tcp(1, true).map(|t| t.gbps)),
    metric(Group::Throughput, "tcp4_gbps", "TCP x4 Gb/s", 2, |r| r.tcp(4, false).map(|t| t.gbps)),
    metric(Group::Throughput, "tcp4_reverse_gbps", "TCP x4 back", 2, |r| r.tcp(4, true).map(|t| t.gbps)),
    metric(Group::Throughput, "udp1200_kpps", "UDP 1200 B kpps", 1, |r| r.udp_kpps(1200)),
    metric(Group::Throughput, "udp64_kpps", "UDP 64 B kpps", 1, |r| r.udp_kpps(64)),
    metric(Group::Cost, "tcp1_cpu_s_per_gb", "CPU s/GB TCP x1", 2, |r| r.tcp(1, false).map(|t| t.cpu_seconds_per_gb)),
    metric(Group::Cost, "tcp4_cpu_s_per_gb", "CPU s/GB TCP x4", 2, |r| r.tcp(4, false).map(|t| t.cpu_seconds_per_gb)),
    metric(Group::Cost, "udp1200_cpu_us", "CPU us/datagram UDP 1200 B", 1, |r| r.udp_cpu(1200)),
    metric(Group::Cost, "resident_idle_mib", "RSS idle MiB", 1, |r| r.resident_idle_mib),
    metric(Group::Cost, "resident_after_mib", "RSS after load MiB", 1, |r| r.resident_after_mib),
    metric(Group::Cost, "first_ping_ms", "start to first ping ms", 0, |r| r.first_ping_ms),
    metric(Group::Latency, "ping_p50_us", "ping p50 us", 0, |r| r.ping.map(|p| p.p50_us)),
    metric(Group::Latency, "ping_p99_us", "ping p99 us", 0, |r| r.ping.map(|p| p.p99_us)),
    higher_is_better(&metric(Group::Latency, "ping_pong_rate", "request-response /s", 0, |r| {
        r.ping_pong.map(|p| p.rate)
    })),
    metric(Group::Latency, "ping_pong_p99_us", "request-response p99 us", 0, |r| r.ping_pong.map(|p| p.p99_us)),
    metric(Group::Latency, "loaded_ping_p50_ms", "loaded ping p50 ms", 2, |r| r.loaded_ping(|p| p.p50_us)),
    metric(Group::Latency, "loaded_ping_p99_ms", "loaded ping p99 ms", 2, |r| r.loaded_ping(|p| p.p99_us)),
    metric(Group::Latency, "stream_gap_ms", "stream longest gap ms", 2, |r| r.stream.map(|s| s.longest_gap_ms)),
    metric(Group::Latency, "stream_lost", "stream lost", 0, |r| r.stream.map(|s| f64::from(s.lost))),
];

impl Round {
    fn tcp(&self, streams: u32, reverse: bool) -> Option<&Tcp> {
        self.tcp.iter().find(|tcp| (tcp.streams, tcp.reverse) == (streams, reverse))
    }

    fn udp_kpps(&self, length: u32) -> Option<f64> {
        self.udp_search(length)?.best.map(|best| best.received_per_second / 1e3)
    }

    fn udp_cpu(&self, length: u32) -> Option<f64> {
        self.udp_search(length)?.best.map(|best| best.cpu_us_per_datagram)
    }

    fn udp_search(&self, length: u32) -> Option<&UdpSearch> {
        self.udp.iter().find(|search| search.length == length)
    }

    fn loaded_ping(&self, of: fn(&RoundTrips) -> f64) -> Option<f64> {
        self.tcp(4, false)?.loaded_ping.as_ref().map(|trips| of(trips) / 1e3)
    }
}
