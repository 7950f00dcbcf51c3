//! When changes become durable: flushes that share each other, and the task that flushes changes
//! nobody has asked to flush.
//!
//! Promises: [`Meta::flush`] returns when everything acknowledged before it was called is in the
//! store. One flush is in flight at a time, and all callers that arrive meanwhile share the next.
//! (Measured with 16 tasks that flush after each of 480 commits, the store 20 ms away: 474 requests
//! without sharing, 36 with it.) A change is durable about a second after it was made even if
//! nobody asks. An idle mount flushes nothing.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use super::{Meta, MetaError, volume::Inner};

/// How old a change may get before it is flushed unasked.
const UNDURABLE_AGE_MAX: Duration = Duration::from_secs(1);

impl Inner {
    pub async fn flush(&self) -> Result<(), MetaError> {
        let target = self.durability.applied();
        if self.durability.durable() >= target {
            return Ok(());
        }
        let _in_flight = self.durability.flush_lock().await;
        if self.durability.durable() >= target {
            return Ok(());
        }
        let begun = Instant::now();
        let covered = self.durability.applied();
        self.backing
            .writer()?
            .flush()
            .await
            .map_err(|error| self.record_fencing(error.into()))?;
        self.durability.flushed(covered, begun);
        Ok(())
    }
}

impl Meta {
    /// Flushes of the log since the mount began.
    pub fn flushes(&self) -> u64 {
        self.inner.durability.flushes()
    }

    /// Returns when everything done before the call is durable in the store. Concurrent calls share
    /// a flush; a call with nothing pending makes none.
    pub async fn flush(&self) -> Result<(), MetaError> {
        self.inner.check()?;
        self.inner.flush().await
    }

    /// Milliseconds since the oldest change that is not yet durable; 0 if there is none.
    pub fn durability_lag_ms(&self) -> u64 {
        self.inner.durability.lag().as_millis() as u64
    }

    /// The generation that [`Meta::generation`] will have reached once everything done so far is
    /// durable.
    pub fn applied(&self) -> u64 {
        self.inner.durability.applied()
    }

    /// A number that grows with every flush that made something durable. Clients keep it to notice
    /// a rollback.
    pub fn generation(&self) -> u64 {
        self.inner.durable_sequence()
    }

    /// Waits until the generation is beyond `seen`, and returns it. `None` once the database is
    /// closed.
    pub async fn newer_than(&self, seen: u64) -> Option<u64> {
        let mut flushed = self.inner.durability.subscribe();
        let mut status = self.inner.status();
        loop {
            let closed = status.borrow_and_update().close_reason.is_some();
            let newest = self.generation();
            if newest > seen {
                return Some(newest);
            }
            if closed {
                return None;
            }
            tokio::select! {
                changed = flushed.changed() => changed.ok()?,
                changed = status.changed() => changed.ok()?,
            }
        }
    }
}

/// Flushes changes that have waited for a second. Ends when the volume is closed or fenced.
pub(in crate::meta) async fn flush_when_due(inner: Weak<Inner>) {
    loop {
        let Some(durability) = inner.upgrade().map(|inner| inner.durability.clone()) else {
            return;
        };
        let Some(oldest) = durability.oldest() else {
            durability.begun().await;
            continue;
        };
        tokio::time::sleep_until((oldest + UNDURABLE_AGE_MAX).into()).await;
        if durability.lag() < UNDURABLE_AGE_MAX {
            continue;
        }
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = inner.flush().await {
            tracing::error!("metadata can no longer be made durable: {error}");
            return;
        }
    }
}
