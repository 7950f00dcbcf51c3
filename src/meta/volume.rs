//! Opening, flushing and closing the metadata of one volume.

use std::sync::Arc;

use super::{MetaError, SessionId, Totals};
use crate::seal::object_store::SealedObjectStore;

/// How the metadata store is set up.
#[derive(Clone, Copy, Debug)]
pub struct MetaConfig {
    /// Follow another mount's volume: no session, no writes.
    pub read_only: bool,
    /// What SlateDB and the caches above it may take, bytes (40 MiB at `--memory 128MiB`).
    pub memory_bytes: u64,
}

/// The metadata of a mounted volume. Cheap to clone.
#[derive(Clone)]
pub struct Meta {
    // private fields: Arc<...>
}

impl Meta {
    /// Makes the metadata of a new volume: the root directory (mode 0755, owned by `uid`, `gid`). Leaves it closed and durable.
    pub async fn format(store: Arc<SealedObjectStore>, uid: u32, gid: u32) -> Result<(), MetaError> {
        todo!()
    }

    /// Opens. A writable open fences every earlier writer and begins a new session, whose record is durable before this returns.
    pub async fn open(store: Arc<SealedObjectStore>, config: MetaConfig) -> Result<Meta, MetaError> {
        todo!()
    }

    /// The session of this mount (writable mounts only; all zero otherwise).
    pub fn session(&self) -> SessionId {
        todo!()
    }

    /// Returns when everything done before the call is durable in the store. Coalesces. Free when nothing is pending.
    pub async fn flush(&self) -> Result<(), MetaError> {
        todo!()
    }

    /// Milliseconds since the oldest change that is not yet durable; 0 if there is none.
    pub fn durability_lag_ms(&self) -> u64 {
        todo!()
    }

    /// A number that grows with every flush that made something durable; kept by clients to notice a rollback.
    pub fn generation(&self) -> u64 {
        todo!()
    }

    /// For statfs.
    pub fn totals(&self) -> Totals {
        todo!()
    }

    /// Flushes everything including the memtable, so that the next open is quick, and closes.
    pub async fn close(&self) -> Result<(), MetaError> {
        todo!()
    }
}
