//! Writing one family of metrics: its description, and its samples.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Unit,
};

use crate::telemetry::HistogramCounts;

/// A family: its name without prefix and unit, a sentence about it, and the unit if it has one.
pub(super) struct Family(
    pub(super) &'static str,
    pub(super) Option<Unit>,
    pub(super) &'static str,
);

/// The labels of one sample.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

/// None of the samples has an example beside it.
const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;

/// Writes families one after the other.
pub(super) struct Rows<'a, 'b>(pub(super) &'a mut DescriptorEncoder<'b>);

impl Rows<'_, '_> {
    fn family<'s>(
        &'s mut self,
        family: &'s Family,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, fmt::Error> {
        let Family(name, unit, help) = family;
        self.0.encode_descriptor(name, help, unit.as_ref(), kind)
    }

    /// Facts about the process as labels of a sample that is always 1.
    pub(super) fn info(&mut self, family: &Family, labels: Labels<'_>) -> fmt::Result {
        self.family(family, MetricType::Info)?.encode_info(&labels)
    }

    /// A counter without labels.
    pub(super) fn counter(&mut self, family: &Family, value: u64) -> fmt::Result {
        let mut encoder = self.family(family, MetricType::Counter)?;
        encoder.encode_counter(&value, NONE)
    }

    /// A counter with a sample for each of `labels`.
    pub(super) fn counters<const N: usize>(
        &mut self,
        family: &Family,
        samples: impl Iterator<Item = ([(&'static str, &'static str); N], u64)>,
    ) -> fmt::Result {
        let mut encoder = self.family(family, MetricType::Counter)?;
        for (labels, value) in samples {
            encoder
                .encode_family(&labels)?
                .encode_counter(&value, NONE)?;
        }
        Ok(())
    }

    /// Gauges without labels.
    pub(super) fn all_gauges<const N: usize>(
        &mut self,
        figures: [(Family, f64); N],
    ) -> fmt::Result {
        for (family, value) in figures {
            self.family(&family, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A gauge with a sample for each value of one label.
    pub(super) fn gauges<'s>(
        &mut self,
        family: &Family,
        label: &'static str,
        samples: impl Iterator<Item = (&'s str, f64)>,
    ) -> fmt::Result {
        let mut encoder = self.family(family, MetricType::Gauge)?;
        for (value_of_label, value) in samples {
            let labels = [(label, value_of_label)];
            encoder.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// A histogram for each operation of which there was one.
    pub(super) fn histograms(
        &mut self,
        family: &Family,
        samples: impl Iterator<Item = (&'static str, HistogramCounts)>,
    ) -> fmt::Result {
        let mut encoder = self.family(family, MetricType::Histogram)?;
        for (operation, counts) in samples.filter(|(_, counts)| counts.total() > 0) {
            let labels = [("operation", operation)];
            let mut encoder = encoder.encode_family(&labels)?;
            let (sum, buckets) = (counts.sum().as_secs_f64(), counts.buckets());
            encoder.encode_histogram::<NoLabelSet>(sum, counts.total(), &buckets, None)?;
        }
        Ok(())
    }
}
