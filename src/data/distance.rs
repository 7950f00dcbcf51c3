//! How far away the store is.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// How long the store takes to begin an answer, without what our own load adds: the least that was seen lately.
///
/// Each request costs processor time, so few and large ones are best for a store that is near. One that is far gives each connection only so much,
/// and needs many at once.
#[derive(Default)]
pub(super) struct Distance {
    micros: AtomicU64,
}

impl Distance {
    /// A store that takes longer is far away.
    const NEAR_MICROS: u64 = 8_000;
    /// Requests of one window that a far store is asked at once.
    const PARALLEL: u64 = 8;

    pub(super) fn note(&self, first_byte_after: Duration) {
        let seen = first_byte_after.as_micros() as u64;
        let known = self.micros.load(Ordering::Relaxed);
        // Another's note may be lost, which does no harm.
        let now = if known == 0 {
            seen
        } else {
            seen.min(known + seen.saturating_sub(known) / 16)
        };
        self.micros.store(now, Ordering::Relaxed);
    }

    /// The largest single request ahead of a reader whose window grows up to `window_bytes`.
    pub(super) fn request_bytes(&self, window_bytes: u64, request_bytes_max: u64) -> u64 {
        if self.micros.load(Ordering::Relaxed) <= Self::NEAR_MICROS {
            return request_bytes_max;
        }
        (window_bytes / Self::PARALLEL)
            .max(1 << 20)
            .min(request_bytes_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_near_store_is_asked_for_few_large_ranges_and_a_far_one_for_many() {
        let distance = Distance::default();
        assert_eq!(distance.request_bytes(16 * MIB, 8 * MIB), 8 * MIB);
        distance.note(Duration::from_millis(25));
        assert_eq!(distance.request_bytes(16 * MIB, 8 * MIB), 2 * MIB);
        assert_eq!(
            distance.request_bytes(2 * MIB, 8 * MIB),
            MIB,
            "not too small"
        );
        assert_eq!(
            distance.request_bytes(512 * MIB, 8 * MIB),
            8 * MIB,
            "nor too large"
        );
    }

    #[test]
    fn our_own_load_does_not_make_a_near_store_far() {
        let distance = Distance::default();
        distance.note(Duration::from_millis(1));
        for wait_ms in [40, 1, 60, 2, 80, 1] {
            distance.note(Duration::from_millis(wait_ms));
        }
        assert_eq!(distance.request_bytes(16 * MIB, 8 * MIB), 8 * MIB);
    }

    #[test]
    fn a_store_that_stays_far_is_found_to_be() {
        let distance = Distance::default();
        distance.note(Duration::from_millis(1));
        for _ in 0..20 {
            distance.note(Duration::from_millis(25));
        }
        assert_eq!(distance.request_bytes(16 * MIB, 8 * MIB), 2 * MIB);
    }
}
