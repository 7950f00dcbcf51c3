//! One attempt of one request: its place in the line, its gauges, and the bound on how long it may
//! stand still.
//!
//! Promises: no more requests are under way than there are permits; every gauge goes down exactly
//! once, also when a future is dropped; an attempt that makes no progress for the stall timeout
//! ends. Never: bounds the whole duration of an attempt that does make progress.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::Store;
use crate::telemetry::{Gauge, Metrics};

/// The direction in which a request moves a body, for the gauges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Nothing of size.
    Neither,
    /// A body from the store.
    Download,
    /// A body to the store.
    Upload,
}

/// A request under way: holds its permit and its place in the gauges until dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    metrics: Arc<Metrics>,
    direction: Direction,
    _permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    fn gauge(&self) -> Option<&Gauge> {
        match self.direction {
            Direction::Neither => None,
            Direction::Download => Some(&self.metrics.downloads_in_flight),
            Direction::Upload => Some(&self.metrics.uploads_in_flight),
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.metrics.requests_in_flight.sub(1);
        if let Some(gauge) = self.gauge() {
            gauge.sub(1);
        }
    }
}

impl Store {
    /// Waits in line, first in first out, for one of the connections.
    pub(super) async fn admit(&self, direction: Direction) -> InFlight {
        // The semaphore is never closed, so this always is a permit.
        let permit = Arc::clone(&self.inner.permits).acquire_owned().await.ok();
        let flight = InFlight {
            metrics: Arc::clone(&self.inner.metrics),
            direction,
            _permit: permit,
        };
        flight.metrics.requests_in_flight.add(1);
        if let Some(gauge) = flight.gauge() {
            gauge.add(1);
        }
        flight
    }
}

/// When a request last moved, in milliseconds since it was made.
#[derive(Debug)]
pub(super) struct Progress {
    made: Instant,
    began_ms: AtomicU64,
    moved_ms: AtomicU64,
    drain_ms: AtomicU64,
}

impl Progress {
    /// A request that has not begun.
    pub(super) fn new() -> Arc<Progress> {
        let zero = AtomicU64::default;
        Arc::new(Progress {
            made: Instant::now(),
            began_ms: zero(),
            moved_ms: zero(),
            drain_ms: zero(),
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Its turn has come.
    fn begin(&self) {
        self.began_ms.store(self.now_ms(), Ordering::Relaxed);
        self.touch();
    }

    /// Something moved.
    pub(super) fn touch(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// The last byte was handed to the kernel, whose buffers of several MiB empty unseen. The bytes
    /// in them get as long as all that went before.
    pub(super) fn handed_over(&self) {
        let took_ms = self
            .now_ms()
            .saturating_sub(self.began_ms.load(Ordering::Relaxed));
        self.drain_ms.store(took_ms, Ordering::Relaxed);
    }

    fn deadline(&self, stall: Duration) -> Instant {
        let ms = self.moved_ms.load(Ordering::Relaxed) + self.drain_ms.load(Ordering::Relaxed);
        self.made + Duration::from_millis(ms) + stall
    }
}

/// The output of `work`, which begins now, or `None` once nothing has moved for `stall`.
pub(super) async fn unless_stalled<T>(
    stall: Duration,
    progress: &Progress,
    work: impl Future<Output = T>,
) -> Option<T> {
    progress.begin();
    let mut work = pin!(work);
    let mut alarm = pin!(sleep_until(progress.deadline(stall)));
    loop {
        tokio::select! {
            biased;
            output = &mut work => return Some(output),
            () = &mut alarm => {
                let deadline = progress.deadline(stall);
                if deadline <= Instant::now() {
                    return None;
                }
                alarm.as_mut().reset(deadline);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_that_moves_is_never_stalled_and_work_that_does_not_is() {
        let progress = Progress::new();
        let moving = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(4)).await;
                progress.touch();
            }
            tokio::time::sleep(Duration::from_secs(4)).await;
        };
        assert_eq!(
            unless_stalled(Duration::from_secs(5), &progress, moving).await,
            Some(())
        );
        let stuck = tokio::time::sleep(Duration::from_secs(6));
        assert_eq!(
            unless_stalled(Duration::from_secs(5), &progress, stuck).await,
            None
        );
        let draining = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            progress.touch();
            progress.handed_over();
            tokio::time::sleep(Duration::from_secs(7)).await;
        };
        assert_eq!(
            unless_stalled(Duration::from_secs(5), &progress, draining).await,
            Some(())
        );
    }
}
