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
