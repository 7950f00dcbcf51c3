//! The handle on the metadata of one volume, and the reads that every operation is made of.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;
use slatedb::{DbStatus, object_store::ObjectStore};
use tokio::{sync::watch, task::AbortHandle};

use super::{
    MetaError, SessionId, Totals,
    database::{
        backing::{Backing, Rows, Scan},
        jobs::Upkeep,
        memory::{BlockCache, Memtables},
        pace::Pace,
        settings::Sizes,
    },
    state::{
        cache::Caches, crowding::Crowded, durability::SharedDurability, ids::Ids,
        in_order::InOrder, locks::Locks, replacements::Replacements, sessions::Sessions,
    },
};

/// The metadata of a mounted volume. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    pub(in crate::meta) inner: Arc<Inner>,
}

pub(in crate::meta) struct Inner {
    pub backing: Backing,
    pub caches: Caches,
    pub in_order: InOrder,
    pub locks: Locks,
    pub durability: SharedDurability,
    pub ids: Ids,
    pub sessions: Sessions,
    pub replacements: Replacements,
    /// Regions of files that lie in too many extents.
    pub crowded: Mutex<Crowded>,
    /// The totals that batches count on; locked while a batch that changes them is written.
    pub totals: tokio::sync::Mutex<Totals>,
    /// The same totals, for readers.
    pub totals_shown: Mutex<Totals>,
    pub session: SessionId,
    pub session_number: u32,
    pub fenced: AtomicBool,
    pub status: watch::Receiver<DbStatus>,
    /// Followers only.
    pub pace: Option<Arc<Pace>>,
    /// Followers only: the store to open again to see a newer state.
    pub source: Option<Arc<dyn ObjectStore>>,
    pub upkeep: Option<Upkeep>,
    pub sizes: Sizes,
    pub blocks: Arc<BlockCache>,
    pub memtables: Arc<Memtables>,
    pub tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in self.tasks.lock().drain(..) {
            task.abort();
        }
        if let Some(pace) = &self.pace {
            pace.abandon();
        }
    }
}

impl Inner {
    /// Fails when another mount has taken over.
    pub fn check(&self) -> Result<(), MetaError> {
        if self.fenced.load(Ordering::Relaxed) {
            Err(MetaError::Fenced)
        } else {
            Ok(())
        }
    }

    /// Records that this mount was fenced, if that is what the error says, and returns the error.
    pub fn record_fencing(&self, error: MetaError) -> MetaError {
        if matches!(error, MetaError::Fenced) && !self.fenced.swap(true, Ordering::Relaxed) {
            tracing::error!(
                "another mount has taken this volume over; this one can no longer read or write"
            );
        }
        error
    }

    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, MetaError> {
        self.check()?;
        self.backing
            .get(key)
            .await
            .map_err(|error| self.record_fencing(error))
    }

    pub async fn scan(
        &self,
        range: Range<Vec<u8>>,
        scan: Scan,
    ) -> Result<FencedRows<'_>, MetaError> {
        self.check()?;
        let rows = self
            .backing
            .scan(range, scan)
            .await
            .map_err(|error| self.record_fencing(error))?;
        Ok(FencedRows { rows, inner: self })
    }

    /// The store that holds the database.
    pub fn store(&self) -> Option<Arc<dyn ObjectStore>> {
        let own = self.upkeep.as_ref().map(|upkeep| upkeep.store.clone());
        own.or_else(|| self.source.clone())
    }

    pub fn upkeep(&self) -> Option<&Upkeep> {
        self.upkeep.as_ref()
    }

    /// The status that SlateDB publishes.
    pub fn status(&self) -> watch::Receiver<DbStatus> {
        self.status.clone()
    }

    pub fn durable_sequence(&self) -> u64 {
        if let Some(published) = self.pace.as_ref().and_then(|pace| pace.published()) {
            return published;
        }
        self.durability
            .durable()
            .max(self.status.borrow().durable_seq)
    }
}

/// The rows of a scan; an error that says so records fencing.
pub(in crate::meta) struct FencedRows<'a> {
    rows: Rows,
    inner: &'a Inner,
}

impl FencedRows<'_> {
    pub async fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, MetaError> {
        self.rows
            .next()
            .await
            .map_err(|error| self.inner.record_fencing(error))
    }
}

impl Meta {
    /// The session of this mount (writable mounts only; all zero otherwise).
    pub fn session(&self) -> SessionId {
        self.inner.session
    }

    /// Returns as soon as it is known here that another mount has taken the volume over; never for
    /// a follower.
    pub async fn fenced(&self) {
        let mut status = self.inner.status.clone();
        if status.wait_for(is_fenced).await.is_err() {
            std::future::pending().await
        }
    }

    /// For statfs.
    pub fn totals(&self) -> Totals {
        *self.inner.totals_shown.lock()
    }
}

pub(in crate::meta) fn is_fenced(status: &DbStatus) -> bool {
    status.close_reason == Some(slatedb::CloseReason::Fenced)
}
