//! Metric families, each written in one go: its description, then its samples.

use std::fmt::Result;

use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

/// Where families are written to.
pub(super) struct Families<'e>(DescriptorEncoder<'e>);

/// A label with its value.
pub(super) type Label<'v> = (&'static str, &'v str);

impl<'e> Families<'e> {
    pub(super) const fn new(encoder: DescriptorEncoder<'e>) -> Self {
        Self(encoder)
    }

    /// A counter; its samples get the suffix `_total`.
    pub(super) fn counter<'v, const N: usize, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label<'v>; N], V)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            with_labels(&mut family, &labels, |sample| {
                sample.encode_counter(&value, None::<&Exemplar<NoLabelSet, u64>>)
            })?;
        }
        Ok(())
    }

    /// A gauge.
    pub(super) fn gauge<'v, const N: usize, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label<'v>; N], V)>,
    ) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            with_labels(&mut family, &labels, |sample| sample.encode_gauge(&value))?;
        }
        Ok(())
    }

    /// A gauge without labels.
    pub(super) fn number(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue + Copy) -> Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A counter without labels.
    pub(super) fn count(&mut self, name: &str, help: &str, value: u64) -> Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter(&value, None::<&Exemplar<NoLabelSet, u64>>)
    }
}

fn with_labels<const N: usize>(
    family: &mut MetricEncoder<'_>,
    labels: &[Label<'_>; N],
    write: impl FnOnce(&mut MetricEncoder<'_>) -> Result,
) -> Result {
    if N == 0 { write(family) } else { write(&mut family.encode_family(labels)?) }
}
