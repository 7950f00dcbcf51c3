//! Which batches are durable, and since when others wait.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

#[derive(Default)]
struct Pending {
    /// Sequence number of the last batch that was applied.
    applied: u64,
    /// Sequence number up to which everything is durable.
    durable: u64,
    /// When the oldest batch that is not durable was applied, or a little before.
    oldest: Option<Instant>,
    /// WAL objects since the memtable last went out.
    wal_objects: u64,
    /// Flushes so far.
    flushes: u64,
}

/// Which batches are durable, and since when others wait.
#[derive(Default)]
pub(in crate::meta) struct Durability {
    pending: Mutex<Pending>,
    /// Held by the flush in flight.
    flush_lock: tokio::sync::Mutex<()>,
    /// Wakes the background task when a batch begins to wait.
    begun: Notify,
    /// The sequence number that the last flush made durable. SlateDB's own report of it comes
    /// later.
    flushed: watch::Sender<u64>,
}

impl Durability {
    /// To be called at open: everything up to `sequence` is durable.
    pub fn opened_at(&self, sequence: u64) {
        let mut pending = self.pending.lock();
        pending.applied = pending.applied.max(sequence);
        pending.durable = pending.durable.max(sequence);
    }

    /// Notes a batch that was applied.
    pub fn changed(&self, sequence: u64) {
        let mut pending = self.pending.lock();
        pending.applied = pending.applied.max(sequence);
        if pending.oldest.is_none() && pending.applied > pending.durable {
            pending.oldest = Some(Instant::now());
            self.begun.notify_one();
        }
    }

    /// Held by the flush in flight.
    pub async fn flush_lock(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.flush_lock.lock().await
    }

    /// Notes a flush that began at `begun` and made everything up to `sequence` durable.
    pub fn flushed(&self, sequence: u64, begun: Instant) {
        let mut pending = self.pending.lock();
        pending.durable = pending.durable.max(sequence);
        pending.oldest = (pending.applied > pending.durable).then_some(begun);
        pending.wal_objects += 1;
        pending.flushes += 1;
        self.flushed.send_replace(pending.durable);
    }

    /// Follows what flushes make durable.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.flushed.subscribe()
    }

    /// When the oldest batch that is not durable was applied, or a little before.
    pub fn oldest(&self) -> Option<Instant> {
        self.pending.lock().oldest
    }

    /// Returns when a batch begins to wait.
    pub async fn begun(&self) {
        self.begun.notified().await;
    }

    pub fn lag(&self) -> Duration {
        self.pending
            .lock()
            .oldest
            .map(|oldest| oldest.elapsed())
            .unwrap_or_default()
    }

    pub fn applied(&self) -> u64 {
        self.pending.lock().applied
    }

    pub fn durable(&self) -> u64 {
        self.pending.lock().durable
    }

    pub fn flushes(&self) -> u64 {
        self.pending.lock().flushes
    }

    /// WAL objects since the last call with `reset`.
    pub fn wal_objects(&self, reset: bool) -> u64 {
        let mut pending = self.pending.lock();
        if reset {
            std::mem::take(&mut pending.wal_objects)
        } else {
            pending.wal_objects
        }
    }
}

/// Shared, so that the background task does not keep the volume alive while it waits.
pub(in crate::meta) type SharedDurability = Arc<Durability>;
