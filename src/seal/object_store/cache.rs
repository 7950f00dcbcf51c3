//! Opened chunks of tables, bounded in bytes, and the tables' headers with their openers, bounded
//! in number.

use std::{collections::hash_map::RandomState, hash::BuildHasher, num::NonZeroUsize, sync::Arc};

use bytes::Bytes;
use lru::LruCache;
use object_store::{Attributes, ObjectMeta};
use parking_lot::Mutex;

use crate::{byte_lru::ByteLru, seal::codec::Opener};

/// Plaintext bytes of a chunk, which one request fetches at least. A second's wait for 4 KiB costs
/// as much as for 256 KiB on any link that is usable for backups, and SlateDB's blocks lie beside
/// their neighbours.
pub(super) const CHUNK_BYTES: u64 = 256 * 1024;
/// Tables whose opener is kept, about 1 KiB each. A volume of a million files has fewer tables.
const TABLES_MAX: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Memory of an entry beside its bytes: key, list links, the allocation.
const ENTRY_BYTES: u64 = 256;
/// Locks that order fetches of the same thing. Two different things may share one and then wait for
/// each other, which is harmless.
const STRIPES: usize = 64;

/// A table whose header and final frame have opened.
#[derive(Debug)]
pub(super) struct OpenedTable {
    /// Opens its frames.
    pub opener: Opener,
    /// Path, plaintext length, time, ETag.
    pub meta: ObjectMeta,
    /// SlateDB's put id.
    pub attributes: Attributes,
}

impl OpenedTable {
    /// The key by which one of its chunks is kept.
    pub fn chunk_key(&self, index: u64) -> ChunkKey {
        ChunkKey {
            salt: self.opener.params().salt,
            index,
        }
    }

    /// Number of its chunks, at least 1.
    pub fn chunk_count(&self) -> u64 {
        self.meta.size.div_ceil(CHUNK_BYTES).max(1)
    }
}

/// Objects are told apart by their salt: one that replaced another at its path is never mixed with
/// it.
#[derive(PartialEq, Eq, Hash, Clone, Copy)]
pub(super) struct ChunkKey {
    salt: [u8; 32],
    index: u64,
}

pub(super) struct Cache {
    chunks: Mutex<ByteLru<ChunkKey, Bytes>>,
    tables: Mutex<LruCache<String, Arc<OpenedTable>>>,
    stripes: Vec<Arc<tokio::sync::Mutex<()>>>,
    hasher: RandomState,
}

impl Cache {
    pub fn new(bytes_max: u64) -> Cache {
        Cache {
            chunks: Mutex::new(ByteLru::new(bytes_max, ENTRY_BYTES)),
            tables: Mutex::new(LruCache::new(TABLES_MAX)),
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    pub fn bytes_max(&self) -> u64 {
        self.chunks.lock().bytes_max()
    }

    pub fn bytes(&self) -> u64 {
        self.chunks.lock().bytes()
    }

    /// The holder of this lock fetches; a caller that had to wait for it looks into the cache
    /// again. `None` stands for the table itself.
    #[expect(
        clippy::indexing_slicing,
        reason = "a remainder of the number of stripes"
    )]
    pub async fn turn(&self, object: &str, chunk: Option<u64>) -> tokio::sync::OwnedMutexGuard<()> {
        let stripe = self.hasher.hash_one((object, chunk)) % STRIPES as u64;
        Arc::clone(&self.stripes[stripe as usize])
            .lock_owned()
            .await
    }

    pub fn table(&self, object: &str) -> Option<Arc<OpenedTable>> {
        self.tables.lock().get(object).cloned()
    }

    pub fn keep_table(&self, object: &str, table: &Arc<OpenedTable>) {
        let pushed_out = self
            .tables
            .lock()
            .push(object.to_owned(), Arc::clone(table));
        if let Some((_, old)) = pushed_out.filter(|(_, old)| !Arc::ptr_eq(old, table)) {
            self.forget_chunks(&old);
        }
    }

    pub fn chunk(&self, key: &ChunkKey) -> Option<Bytes> {
        self.chunks.lock().get(key).cloned()
    }

    /// Whether the chunk is there, without making it recent.
    pub fn has_chunk(&self, key: &ChunkKey) -> bool {
        self.chunks.lock().contains(key)
    }

    pub fn keep_chunk(&self, key: ChunkKey, plaintext: Bytes) {
        let bytes = plaintext.len() as u64;
        self.chunks.lock().put(key, plaintext, bytes);
    }

    /// Forgets everything about an object that is gone or was replaced.
    pub fn forget(&self, object: &str) {
        let table = self.tables.lock().pop(object);
        if let Some(table) = table {
            self.forget_chunks(&table);
        }
    }

    fn forget_chunks(&self, table: &OpenedTable) {
        let chunks = &mut *self.chunks.lock();
        for index in 0..table.chunk_count() {
            chunks.remove(&table.chunk_key(index));
        }
    }
}
