//! The cost of a request to the store: the latency estimate and the bandwidth, measured at our own
//! requests.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;

/// Bodies that are shorter arrive with their first bytes, and say nothing of the bandwidth.
const BODY_MIN_BYTES: u64 = 256 << 10;

/// The bandwidth that is assumed until the first long body has come: a gigabit a second, for a
/// wrong guess costs one request.
const BANDWIDTH_AT_FIRST: f64 = 125.0;

/// The latency that is assumed until the first request was answered.
const LATENCY_AT_FIRST_US: f64 = 1_000.0;

/// The cost of requests: `latency_us` each, and their bytes divided by the bandwidth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cost {
    /// Until the first byte.
    pub(crate) latency_us: f64,
    /// Bytes a microsecond, which is MB a second.
    pub(crate) bandwidth: f64,
}

impl Cost {
    /// A store whose answers take longer to begin is far away.
    const NEAR_US: f64 = 8_000.0;

    pub(crate) fn is_far(&self) -> bool {
        self.latency_us > Self::NEAR_US
    }

    /// Microseconds for one request that brings so many bytes.
    pub(crate) fn of(&self, bytes: u64) -> f64 {
        self.latency_us + self.transfer_us(bytes)
    }

    pub(crate) fn transfer_us(&self, bytes: u64) -> f64 {
        bytes as f64 / self.bandwidth
    }

    /// The bytes that take as long as one more request.
    pub(crate) fn request_worth_bytes(&self) -> u64 {
        (self.latency_us * self.bandwidth) as u64
    }
}

/// The link to the store: how far away, and how wide.
#[derive(Default)]
pub(crate) struct Link {
    latencies_us: Quantile,
    /// In bytes a second.
    bandwidths: Quantile,
}

impl Link {
    /// A store in the same rack answers within so many microseconds, and one body brings so many
    /// bytes a second.
    const AS_NEAR_AS_A_DISK_US: u64 = 2_000;
    const AS_WIDE_AS_A_DISK: u64 = 200_000_000;
    /// Requests of one window that a far store is asked at once.
    const PARALLEL: u64 = 8;

    /// An answer began after `first_byte_after`.
    pub(crate) fn note_answer(&self, first_byte_after: Duration) {
        let seen = first_byte_after.as_micros() as u64;
        // Requests that wait for others take longer, which is not the store's doing.
        self.latencies_us.note(seen.max(1), 1, 4);
    }

    /// `bytes` came in `took`, after the first.
    pub(crate) fn note_body(&self, bytes: u64, took: Duration) {
        let micros = took.as_micros() as u64;
        if bytes >= BODY_MIN_BYTES && micros > 0 {
            // Bodies that share the link with others come slower than the link is.
            let bytes_per_second = bytes.saturating_mul(1_000_000) / micros;
            self.bandwidths.note(bytes_per_second.max(1), 3, 4);
        }
    }

    /// Whether a frame comes from the store about as fast as from a local disk, as far as is known.
    pub(crate) fn is_as_fast_as_a_disk(&self) -> bool {
        let latency = self.latencies_us.known();
        let bandwidth = self.bandwidths.known();
        latency.is_some_and(|us| us <= Self::AS_NEAR_AS_A_DISK_US)
            && bandwidth.is_some_and(|bytes| bytes >= Self::AS_WIDE_AS_A_DISK)
    }

    /// How long an answer takes to begin, if any has.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.latencies_us.known().map(Duration::from_micros)
    }

    /// Bytes a second, if a long body has come.
    pub(crate) fn bandwidth(&self) -> Option<u64> {
        self.bandwidths.known()
    }

    pub(crate) fn cost(&self) -> Cost {
        let latency = self.latencies_us.known();
        let bandwidth = self.bandwidths.known();
        Cost {
            latency_us: latency.map_or(LATENCY_AT_FIRST_US, |micros| micros as f64),
            bandwidth: bandwidth.map_or(BANDWIDTH_AT_FIRST, |bytes| bytes as f64 / 1e6),
        }
    }

    /// Whether one connection does not bring all that the link could.
    pub(crate) fn is_far(&self) -> bool {
        self.cost().is_far()
    }

    /// The largest single request ahead of a reader whose window grows up to `window_bytes`. Each
    /// request costs processor time, so few and large ones are best for a store that is near. One
    /// that is far gives each connection only so much, and needs many at once.
    pub(crate) fn request_bytes(&self, window_bytes: u64, request_bytes_max: u64) -> u64 {
        if !self.is_far() {
            return request_bytes_max;
        }
        (window_bytes / Self::PARALLEL)
            .max(1 << 20)
            .min(request_bytes_max)
    }
}

/// A quantile of the latest samples.
#[derive(Default)]
struct Quantile {
    samples: Mutex<Samples>,
    /// Zero until there is one.
    value: AtomicU64,
}

#[derive(Default)]
struct Samples {
    /// At most [`Samples::KEPT`].
    latest: Vec<u64>,
    noted: usize,
}

impl Samples {
    const KEPT: usize = 64;
}

impl Quantile {
    /// Notes a sample, at least 1; the value is from then on the one below which `part / of` of the
    /// latest lie.
    fn note(&self, sample: u64, part: usize, of: usize) {
        let mut samples = self.samples.lock();
        let place = samples.noted % Samples::KEPT;
        match samples.latest.get_mut(place) {
            Some(oldest) => *oldest = sample,
            None => samples.latest.push(sample),
        }
        samples.noted += 1;
        let mut sorted = samples.latest.clone();
        let nth = (sorted.len() - 1) * part / of;
        let (_, value, _) = sorted.select_nth_unstable(nth);
        self.value.store(*value, Ordering::Relaxed);
    }

    fn known(&self) -> Option<u64> {
        match self.value.load(Ordering::Relaxed) {
            0 => None,
            value => Some(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_near_store_is_asked_for_few_large_ranges_and_a_far_one_for_many() {
        let link = Link::default();
        assert_eq!(link.request_bytes(16 * MIB, 8 * MIB), 8 * MIB);
        link.note_answer(Duration::from_millis(25));
        assert_eq!(link.request_bytes(16 * MIB, 8 * MIB), 2 * MIB);
        assert_eq!(link.request_bytes(2 * MIB, 8 * MIB), MIB, "not too small");
        assert_eq!(
            link.request_bytes(512 * MIB, 8 * MIB),
            8 * MIB,
            "nor too large"
        );
    }

    #[test]
    fn our_own_load_does_not_make_a_near_store_far() {
        let link = Link::default();
        for wait_ms in [1, 40, 1, 60, 2, 80, 1] {
            link.note_answer(Duration::from_millis(wait_ms));
        }
        assert_eq!(link.cost().latency_us, 1_000.0);
        for (mib, took_ms) in [(1, 10), (1, 80), (1, 11), (1, 90)] {
            link.note_body(mib * MIB, Duration::from_millis(took_ms));
        }
        assert!((90.0..105.0).contains(&link.cost().bandwidth));
    }

    #[test]
    fn a_store_that_comes_to_be_far_is_found_to_be() {
        let link = Link::default();
        for _ in 0..1000 {
            link.note_answer(Duration::from_millis(1));
        }
        for _ in 0..60 {
            link.note_answer(Duration::from_millis(25));
        }
        assert_eq!(link.latency(), Some(Duration::from_millis(25)));
    }

    #[test]
    fn a_store_is_as_fast_as_a_disk_only_if_it_is_near_and_wide() {
        let is_fast = |latency_ms, mib, took_ms| {
            let link = Link::default();
            assert!(!link.is_as_fast_as_a_disk(), "nothing is known");
            link.note_answer(Duration::from_millis(latency_ms));
            link.note_body(mib * MIB, Duration::from_millis(took_ms));
            link.is_as_fast_as_a_disk()
        };
        assert!(is_fast(1, 8, 20));
        assert!(!is_fast(20, 8, 20));
        assert!(!is_fast(1, 8, 80));
    }

    #[test]
    fn short_bodies_say_nothing_of_the_bandwidth() {
        let link = Link::default();
        link.note_body(64 << 10, Duration::from_micros(3));
        assert_eq!(link.bandwidth(), None);
        link.note_body(MIB, Duration::from_millis(1));
        assert_eq!(link.bandwidth(), Some(MIB * 1000));
    }
}
