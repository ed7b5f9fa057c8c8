//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::Outcome;
use crate::peers::{self, PEERS, Peer};

/// Measures meshd against other userspace tunnels, side by side on this machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", after_help = "Example:\n  bench --peers veth,meshd,wireguard-go --rounds 3 --secs 4")]
pub(crate) struct Arguments {
    /// What to do.
    #[arg(value_enum, default_value = "compare")]
    pub(crate) action: Action,
    /// Who is measured, in this order; without it every peer that is known, but no variants of meshd.
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Interleaved rounds: each measures every peer once.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds of one TCP run.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) secs: u32,
    /// Take every segmentation and receive offload off the link: a NIC that can nothing.
    #[arg(long)]
    pub(crate) wire: bool,
    /// One tunnel MTU for all, instead of each peer's own.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1280..=9000))]
    pub(crate) mtu: Option<u16>,
    /// Measure only these.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["tcp", "udp", "latency"])]
    pub(crate) only: Vec<Part>,
    /// TCP congestion control, of both ends.
    #[arg(long, default_value = "cubic")]
    pub(crate) congestion: String,
    /// Folder for the JSON record and the plot.
    #[arg(long, default_value = "bench/results")]
    pub(crate) out: PathBuf,
    /// Run as root without a user namespace, so that daemons may exceed the machine's socket buffer limits.
    #[arg(long)]
    pub(crate) root: bool,
    /// Peers besides the two sides in the mesh file of `scale`.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) configured: u32,
    /// How many of them have sessions in `scale`.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) live: u32,
    /// Initiations per second in the storms of `scale`.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) storm: u32,
    /// What a crowd is to do: for `scale`, which starts it.
    #[arg(long, hide = true)]
    pub(crate) plan: Option<PathBuf>,
    /// First install the chosen peers that are missing, from Debian and crates.io.
    #[arg(long)]
    pub(crate) install: bool,
}

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Measure the peers side by side.
    Compare,
    /// Measure meshd with one peer beside meshd in a large mesh and in a storm of handshakes.
    Scale,
    /// Bring two edges together behind every pair of NATs: by which way, and how soon.
    Ways,
    /// Be the peers of a large mesh.
    #[value(hide = true)]
    Crowd,
    /// Count the instructions of each operation of the fast path, under valgrind.
    Instructions,
}

/// A part of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// TCP throughput, 1 and 4 streams both ways, and ping under load.
    Tcp,
    /// The highest UDP rates at under 1 % loss.
    Udp,
    /// Idle ping and request-response.
    Latency,
    /// A steady stream of small datagrams for 16 s: what was lost, and the longest gap.
    Stream,
}

impl Arguments {
    /// The peers to measure.
    pub(crate) fn chosen(&self) -> Outcome<Vec<&'static Peer>> {
        if self.peers.is_empty() {
            return Ok(PEERS.to_vec());
        }
        self.peers.iter().map(|name| find(name)).collect()
    }

    /// Whether a part is wanted.
    pub(crate) fn wants(&self, part: Part) -> bool {
        self.only.contains(&part)
    }
}

fn find(name: &str) -> Outcome<&'static Peer> {
    peers::all().find(|peer| peer.name == name).ok_or_else(|| {
        let known: Vec<&str> = peers::all().map(|peer| peer.name).collect();
        format!("no peer {name:?}; known are {}", known.join(", ")).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compare_is_the_default_and_every_peer_is_chosen() {
        let arguments = Arguments::parse_from(["bench"]);
        assert_eq!(arguments.action, Action::Compare);
        assert_eq!(arguments.chosen().unwrap().len(), PEERS.len());
    }

    #[test]
    fn peers_are_measured_in_the_order_given_and_unknown_ones_refused() {
        let names = |list: &str| -> Result<Vec<&str>, String> {
            let arguments = Arguments::parse_from(["bench", "compare", "--peers", list]);
            let chosen = arguments.chosen().map_err(|error| error.to_string())?;
            Ok(chosen.iter().map(|peer| peer.name).collect())
        };
        assert_eq!(names("wireguard-go,meshd").unwrap(), ["wireguard-go", "meshd"]);
        assert!(names("wireguard").unwrap_err().contains("wireguard-go"));
    }
}
