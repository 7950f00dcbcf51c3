//! Durations, counted in buckets.
//!
//! Promises: an observation is three relaxed atomic operations, without a lock; the memory is fixed
//! when it is made.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the buckets in microseconds: from an answer out of memory to a store that
/// hardly answers. The last bucket, for all that is longer, has no bound.
const BOUNDS_US: [u64; 18] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Durations, counted in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// The counts of a [`Histogram`] at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramCounts {
    buckets: [u64; BUCKETS],
    sum_us: u64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The counts now.
    pub fn counts(&self) -> HistogramCounts {
        let mut buckets = [0; BUCKETS];
        for (count, bucket) in buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        HistogramCounts {
            buckets,
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl HistogramCounts {
    /// The upper bounds of the buckets in microseconds; the last bucket has none.
    pub const BOUNDS_US: [u64; BOUNDS_US.len()] = BOUNDS_US;

    /// The count of each bucket alone.
    pub fn buckets_alone(&self) -> &[u64] {
        &self.buckets
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us)
    }

    /// The upper bound of each bucket in seconds, infinity for the last one, and the count of that
    /// bucket alone.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
        let bounds = bounds.chain([f64::INFINITY]);
        bounds.zip(self.buckets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for us in [0, 50, 51, 1_000, 30_000_000, 30_000_001, u64::MAX / 4] {
            histogram.observe(Duration::from_micros(us));
        }
        let counts = histogram.counts();
        let filled: Vec<_> = counts
            .buckets()
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
        assert_eq!(
            filled,
            [
                (50e-6, 2),
                (100e-6, 1),
                (1e-3, 1),
                (30.0, 1),
                (f64::INFINITY, 2)
            ]
        );
        assert_eq!(counts.total(), 7);
        assert!(counts.sum() > Duration::from_secs(60));
    }

    #[test]
    fn the_bounds_grow() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
    }
}
