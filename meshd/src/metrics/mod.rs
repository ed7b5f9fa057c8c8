//! Metrics in OpenMetrics text, made of what is counted anyway at the moment that somebody asks.
//!
//! The driver takes a [`Sample`], which costs it what a status costs; [`encode`] looks at the process and writes all down, wherever
//! nobody waits. `docs/metrics.md` has every metric.

mod families;
mod node;
mod peers;
mod process;
mod relay;
mod sample;

pub(crate) use sample::{Reloads, Sample};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use families::Families;
use process::Process;

/// Writes everything down. Reads some files of `/proc`, so it is nothing for a thread that others wait for.
///
/// # Errors
/// None that a correct program meets.
pub(crate) fn encode(sample: Sample) -> Result<String, std::fmt::Error> {
    let process = Process::read(&sample.interface, sample.port);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { sample, process }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

#[derive(Debug)]
struct Scrape {
    sample: Sample,
    process: Process,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut families = Families::new(encoder);
        node::encode(&mut families, &self.sample)?;
        peers::encode(&mut families, &self.sample)?;
        relay::encode(&mut families, &self.sample)?;
        process::encode(&mut families, &self.sample, &self.process)
    }
}
