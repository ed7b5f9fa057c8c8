//! Asks the default gateways to pass a UDP port on to us: PCP (RFC 6887), NAT-PMP (RFC 6886), UPnP-IGD.
//!
//! One [`keeper`] for each gateway. Nothing that a gateway says is trusted further than that: an answer counts only from its
//! address and to the question asked, is bounded in size, and makes us contact nobody but the gateway.

mod asker;
mod exchange;
mod igd;
mod keeper;
mod natpmp;
mod pcp;
mod soap;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Order;
use super::status::Outlet;
use crate::host::{self, Gateway};

/// Gateways that are asked at a time: a machine with more links than that has a public address on one of them.
const MAX_GATEWAYS: usize = 8;

/// How a gateway is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// RFC 6887.
    Pcp,
    /// RFC 6886.
    NatPmp,
    /// UPnP Internet Gateway Device 1 and 2.
    Igd,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pcp => "PCP",
            Self::NatPmp => "NAT-PMP",
            Self::Igd => "UPnP-IGD",
        })
    }
}

/// How patiently gateways are asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// What is asked for; renewed at half of what is granted of it.
    pub(crate) lifetime: Duration,
    /// Nothing is renewed sooner, however short the lifetime that is granted.
    pub(crate) soonest: Duration,
    /// The wait after the first of a request's transmissions, which doubles (RFC 6886 §3.1).
    pub(crate) first_wait: Duration,
    /// Transmissions of a request: gateways are one hop away, so what is lost four times was not heard.
    pub(crate) tries: u32,
    /// How long a UPnP device may take for a description or an action, which RFC-less devices do at leisure.
    pub(crate) patience: Duration,
    /// The first and the longest wait after nobody answered.
    pub(crate) backoff: (Duration, Duration),
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(7_200),
            soonest: Duration::from_secs(60),
            first_wait: Duration::from_millis(250),
            tries: 4,
            patience: Duration::from_secs(4),
            backoff: (Duration::from_secs(120), Duration::from_secs(3_600)),
        }
    }
}

/// Waits that double up to a bound, so that a gateway without any of the protocols does not keep a machine awake.
pub(in crate::nat) struct Backoff {
    pace: Pace,
    failures: u32,
}

impl Backoff {
    pub(in crate::nat) const fn new(pace: Pace) -> Self {
        Self { pace, failures: 0 }
    }

    pub(in crate::nat) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure.
    pub(in crate::nat) fn next(&mut self) -> Duration {
        let (first, longest) = self.pace.backoff;
        let wait = first.saturating_mul(1 << self.failures.min(16)).min(longest);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// A mapping that a gateway granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    protocol: Protocol,
    external: SocketAddr,
    lifetime: Duration,
}

/// Why there is no mapping.
#[derive(Debug, thiserror::Error)]
enum MapError {
    #[error("no answer")]
    Silent,
    #[error("not supported")]
    Unsupported,
    #[error("refused ({0})")]
    Refused(String),
    #[error("an answer without sense: {0}")]
    Nonsense(&'static str),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Keeps mappings of `port` on all default gateways until it is told to stop; then deletes them.
pub(super) async fn run(port: NonZeroU16, pace: Pace, mut orders: watch::Receiver<Order>, outlet: Outlet) {
    let mut kept: Vec<(Gateway, watch::Sender<keeper::Task>)> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        if *orders.borrow_and_update() == Order::Stop {
            break;
        }
        match host::gateways().await {
            Ok(gateways) => {
                // Their keepers end by themselves.
                kept.retain(|(gateway, task)| {
                    let stays = gateways.contains(gateway);
                    task.send_replace(if stays { keeper::Task::Keep } else { keeper::Task::Leave });
                    stays
                });
                let is_new = |gateway: &Gateway| kept.iter().all(|(other, _)| other != gateway);
                let room = MAX_GATEWAYS.saturating_sub(kept.len());
                for gateway in gateways.into_iter().filter(is_new).take(room).collect::<Vec<_>>() {
                    let (task, given) = watch::channel(keeper::Task::Keep);
                    tasks.spawn(keeper::run(asker::Asker::new(gateway.clone(), port, pace), given, outlet.clone()));
                    kept.push((gateway, task));
                }
            }
            Err(error) => tracing::debug!(%error, "no gateway is asked for a port mapping"),
        }
        while tasks.try_join_next().is_some() {}
        if orders.changed().await.is_err() {
            return;
        }
    }
    for (_, task) in kept {
        task.send_replace(keeper::Task::Delete);
    }
    while tasks.join_next().await.is_some() {}
}
