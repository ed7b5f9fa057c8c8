//! What a run of `scale` leaves behind.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::{Setting, Tcp};
use crate::statistics::Spread;

/// One run, as it is written to its JSON file.
#[derive(Debug, Serialize)]
pub(super) struct ScaleRecord {
    /// Raised when a field changes its meaning.
    pub(super) format: u32,
    /// Tells it from the record of a comparison.
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) setting: Setting,
    pub(super) configured: u32,
    pub(super) live: u32,
    pub(super) storm_per_second: u32,
    /// The first is what the others are compared with.
    pub(super) cases: Vec<CaseRecord>,
    /// Resident, of medians.
    pub(super) bytes_per_configured_peer: Option<f64>,
    pub(super) bytes_per_live_session: Option<f64>,
}

/// A case in a run.
#[derive(Debug, Serialize)]
pub(super) struct CaseRecord {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Peers in the mesh file besides the two sides.
    pub(super) others: u32,
    pub(super) failures: Vec<String>,
    pub(super) rounds: Vec<ScaleRound>,
    /// By [`Metric::key`].
    pub(super) medians: BTreeMap<&'static str, Spread>,
}

/// One case's raw figures of one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ScaleRound {
    pub(super) number: u32,
    /// From the start of the second daemon.
    pub(super) first_ping_ms: Option<f64>,
    pub(super) tcp: Option<Tcp>,
    /// Of the daemon that the crowd troubles (the receiver's, where there is none): before the crowd, and once it is ready.
    pub(super) resident_idle_mib: Option<f64>,
    pub(super) resident_crowd_mib: Option<f64>,
    /// Sessions with the crowd, after the TCP run.
    pub(super) sessions: Option<usize>,
    /// Initiations that the daemon turned away during the TCP run: a storm that does not reach it costs it nothing.
    pub(super) dropped_per_second: Option<f64>,
    /// CPU time of the crowd itself during the TCP run, per second.
    pub(super) crowd_cores: Option<f64>,
}

/// A figure of a case.
pub(super) struct Metric {
    /// Its name in JSON.
    pub(super) key: &'static str,
    /// Its name in tables, with the unit.
    pub(super) title: &'static str,
    pub(super) decimals: usize,
    /// Whether the ratio to the first case tells something.
    pub(super) is_compared: bool,
    pub(super) of: fn(&ScaleRound) -> Option<f64>,
}

const fn metric(
    key: &'static str,
    title: &'static str,
    decimals: usize,
    is_compared: bool,
    of: fn(&ScaleRound) -> Option<f64>,
) -> Metric {
    Metric { key, title, decimals, is_compared, of }
}

const IDLE: &str = "resident_idle_mib";
const CROWD: &str = "resident_crowd_mib";

/// Every figure, in the order of the table.
pub(super) const METRICS: [Metric; 8] = [
    metric("tcp1_gbps", "TCP x1 Gb/s", 2, true, |r| r.tcp.map(|tcp| tcp.gbps)),
    metric("tcp1_cpu_s_per_gb", "CPU s/GB", 2, true, |r| r.tcp.map(|tcp| tcp.cpu_seconds_per_gb)),
    metric("dropped_per_second", "turned away /s", 0, false, |r| r.dropped_per_second),
    metric("crowd_cores", "crowd's own cores", 2, false, |r| r.crowd_cores),
    #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
    metric("sessions", "sessions", 0, false, |r| r.sessions.map(|sessions| sessions as f64)),
    metric(IDLE, "RSS idle MiB", 1, false, |r| r.resident_idle_mib),
    metric(CROWD, "RSS with crowd MiB", 1, false, |r| r.resident_crowd_mib),
    metric("first_ping_ms", "start to first ping ms", 0, false, |r| r.first_ping_ms),
];

impl CaseRecord {
    pub(super) fn new(name: &'static str, about: &'static str, others: u32) -> Self {
        let (failures, rounds, medians) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { name, about, others, failures, rounds, medians }
    }

    fn median(&self, key: &str) -> Option<f64> {
        self.medians.get(key).map(|spread| spread.median)
    }
}

impl ScaleRecord {
    /// Fills in the medians, and what follows from them.
    pub(super) fn summarise(&mut self) {
        for case in &mut self.cases {
            let spread = |metric: &Metric| Some((metric.key, Spread::of(case.rounds.iter().filter_map(metric.of))?));
            case.medians = METRICS.iter().filter_map(spread).collect();
        }
        let mib = |more: Option<f64>, less: Option<f64>| Some((more? - less?) * 1024.0 * 1024.0);
        let find = |name: &str| self.cases.iter().find(|case| case.name == name);
        let (one, large) = (find("one"), find("large"));
        let of = |case: Option<&CaseRecord>, key| case.and_then(|case| case.median(key));
        self.bytes_per_configured_peer =
            mib(of(large, IDLE), of(one, IDLE)).map(|all| all / f64::from(self.configured));
        self.bytes_per_live_session = mib(of(large, CROWD), of(large, IDLE)).map(|all| all / f64::from(self.live));
    }
}
