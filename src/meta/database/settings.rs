//! SlateDB's settings, from the memory that it may take.
//!
//! These figures were measured by hand with an early build, at the floor of 40 MiB, with the store
//! 20 ms away, on jemalloc. They are resident memory above that of the process without a volume.
//! Creating 100,000 files at 2,400 a second peaks at 35 MiB and rests at 20. Creating 300,000 files
//! as fast as it goes, 18,000 a second, peaks at 67 MiB, of which 35 to 45 are allocated and the
//! rest is on its way back to the kernel. Larger memtables only cost more: with 2 MiB the peak was
//! 90 MiB, and creating was no faster.

use std::{collections::HashMap, time::Duration};

use slatedb::{
    SstBlockSize,
    config::{
        CompactionWorkerOptions, CompactorOptions, DbReaderOptions,
        GarbageCollectorDirectoryOptions, GarbageCollectorOptions, Settings,
    },
};

use super::pace::READER_TICK;

const MIB: u64 = 1024 * 1024;

/// Where the database is inside the object store it is given.
pub(in crate::meta) const DB_PATH: &str = "";
/// Blocks of 8 KiB: half the index of SlateDB's 4 KiB, still less than one sealed frame.
pub(in crate::meta) const BLOCK_SIZE: SstBlockSize = SstBlockSize::Block8Kib;
/// Tables of this many keys or more have Bloom filters. Even small ones do, since a lookup of a
/// name that is not there asks all tables.
const FILTER_KEYS_MIN: u32 = 64;
/// How often an idle writer looks whether another mount has taken over. An idle mount makes no
/// other requests.
const MANIFEST_POLL: Duration = Duration::from_secs(60);
/// How often a running compaction looks at its own state. It runs only while there is work.
const COMPACTION_POLL: Duration = Duration::from_millis(500);
/// How often a running compaction says that it is alive. One that has not for three times as long
/// was left by a mount that ended, and is taken up again.
const COMPACTION_HEARTBEAT: Duration = Duration::from_secs(5);
/// SlateDB's own bound on WALs before the memtable goes out; ours (`upkeep`) is lower.
const WAL_FLUSHES_MAX: u64 = 4096;
/// Objects that are younger are not collected, because followers may still be reading them.
pub(in crate::meta) const COLLECT_AGE_MIN: Duration = Duration::from_secs(15 * 60);
/// L0 tables that one compaction takes at least.
pub(in crate::meta) const COMPACT_L0_MIN: usize = 4;
/// L0 tables at which writes have to wait for compaction.
pub(in crate::meta) const L0_MAX: usize = 16;

/// The sizes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) struct Sizes {
    /// A memtable's, and a WAL object's.
    pub l0: u64,
    /// Rows written and not yet in an L0 table.
    pub unflushed: u64,
    /// SlateDB's block cache, indexes and filters included.
    pub block_cache: u64,
    /// A compacted table's; below the 10 MiB from which SlateDB uploads eight parts at once.
    pub table: u64,
    /// Our inodes, names and object records above it, each.
    pub records: u64,
}

impl Sizes {
    pub fn for_memory(memory_bytes: u64) -> Sizes {
        let l0 = (memory_bytes / 32).clamp(MIB, 8 * MIB);
        Sizes {
            l0,
            unflushed: l0 * 4,
            block_cache: (memory_bytes / 10).clamp(2 * MIB, 128 * MIB),
            table: (memory_bytes / 10).clamp(4 * MIB, 8 * MIB),
            records: (memory_bytes / 20).clamp(MIB, 64 * MIB),
        }
    }

    /// Settings of the writer. `upkeep` runs compaction and garbage collection, only when there is
    /// something to do. The WAL goes out when `flush` says so, or when it has grown to the size of
    /// a memtable.
    pub fn writer(&self) -> Settings {
        Settings {
            flush_interval: None,
            manifest_poll_interval: MANIFEST_POLL,
            min_filter_keys: FILTER_KEYS_MIN,
            max_unflushed_bytes: self.unflushed as usize,
            l0_sst_size_bytes: self.l0 as usize,
            max_wal_flushes_before_l0_flush: WAL_FLUSHES_MAX,
            l0_max_ssts: L0_MAX,
            l0_max_ssts_per_key: L0_MAX,
            l0_flush_parallelism: 2,
            compactor_options: None,
            garbage_collector_options: None,
            // Without a limit an outage pauses writes, which recover by themselves. With one the
            // database would close itself, for reads too.
            object_store_max_retries: None,
            ..Settings::default()
        }
    }

    pub fn follower(&self) -> DbReaderOptions {
        DbReaderOptions {
            // `follower_store` holds each look back until it is time.
            manifest_poll_interval: READER_TICK,
            max_memtable_bytes: self.unflushed,
            object_store_max_retries: None,
            ..DbReaderOptions::default()
        }
    }

    pub fn compactor(&self) -> CompactorOptions {
        CompactorOptions {
            poll_interval: COMPACTION_POLL,
            commit_compacted_interval: COMPACTION_POLL,
            worker_heartbeat_timeout: COMPACTION_HEARTBEAT * 3,
            max_concurrent_compactions: 1,
            scheduler_options: HashMap::from([(
                "min_compaction_sources".into(),
                COMPACT_L0_MIN.to_string(),
            )]),
            object_store_max_retries: None,
            worker: Some(CompactionWorkerOptions {
                max_concurrent_compactions: 1,
                compactions_poll_interval: COMPACTION_POLL,
                heartbeat_interval: COMPACTION_HEARTBEAT,
                max_sst_size: self.table as usize,
                max_fetch_tasks: 1,
                bytes_to_fetch: 64 * 1024,
                max_subcompactions: 1,
                min_filter_keys: FILTER_KEYS_MIN,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }
    }

    /// Memory that so many bytes of memtables and WAL take, with their nodes and the separate
    /// allocations of keys and values. Rows are small here: measured with 20,000 new files, each
    /// MiB costs 5.
    pub fn memtable_cost(&self, bytes: u64) -> u64 {
        bytes * 5
    }

    /// Memory of a compaction: its output table, once as it is built and once as it is sealed, and
    /// 1 MiB for its input.
    pub fn compaction_cost(&self) -> u64 {
        2 * self.table + (1 << 20)
    }
}

/// The kinds of objects that are collected. WAL fences stay: without its fence, a writer that was
/// fenced off could write again.
pub(in crate::meta) fn collector(min_age: Duration) -> GarbageCollectorOptions {
    let directory = Some(GarbageCollectorDirectoryOptions {
        interval: None,
        min_age,
        dry_run: false,
    });
    GarbageCollectorOptions {
        manifest_options: directory,
        wal_options: directory,
        compacted_options: directory,
        compactions_options: directory,
        wal_fence_options: None,
        detach_options: None,
        ..GarbageCollectorOptions::default()
    }
}
