//! Memory of the metadata: measured where SlateDB tells, bounded everywhere.

use super::Meta;

/// One part of the memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaPart {
    /// Held now.
    pub current_bytes: u64,
    /// Held at most.
    pub bound_bytes: u64,
}

/// All parts, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaMemory {
    /// Rows that were written and are not yet in a table of SlateDB's, as of the last write.
    pub memtables: MetaPart,
    /// SlateDB's blocks, indexes and filters.
    pub blocks: MetaPart,
    /// Inodes, names and object records above it.
    pub records: MetaPart,
    /// A compaction: its bound while one runs.
    pub compaction: MetaPart,
}

impl Meta {
    /// The memory that is held now.
    pub fn memory(&self) -> MetaMemory {
        let inner = &self.inner;
        let sizes = &inner.sizes;
        let compacting = inner.upkeep().is_some_and(|upkeep| upkeep.is_compacting());
        MetaMemory {
            memtables: MetaPart {
                current_bytes: sizes.memtable_cost(inner.memtables.bytes()),
                bound_bytes: sizes.memtable_cost(sizes.unflushed),
            },
            blocks: MetaPart {
                current_bytes: inner.blocks.bytes(),
                bound_bytes: sizes.block_cache,
            },
            records: MetaPart {
                current_bytes: inner.caches.bytes(),
                bound_bytes: inner.caches.bytes_max(),
            },
            compaction: MetaPart {
                current_bytes: if compacting {
                    sizes.compaction_cost()
                } else {
                    0
                },
                bound_bytes: sizes.compaction_cost(),
            },
        }
    }
}
