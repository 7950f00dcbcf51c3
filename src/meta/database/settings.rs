//! What SlateDB is told, from the memory it may take.
//!
//! The figures were measured by hand, with an early build. At the floor of 40 MiB, with the store
//! 20 ms away, on jemalloc: creating 100,000 files at 2,400 a second peaks 35 MiB above the process
//! without a volume, and rests at 20; creating 300,000 as fast as it goes, 18,000 a second, peaks
//! at 67, of which 35 to 45 are allocated and the rest is on its way back to the kernel. Larger
//! memtables only cost more: 2 MiB made it 90, and no faster.

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
/// Bloom filters from this many keys on: small tables too, since a lookup of a name that is not
/// there asks all of them.
const FILTER_KEYS_MIN: u32 = 64;
/// How often an idle writer looks whether another mount has taken over: the only requests of an
/// idle mount.
const MANIFEST_POLL: Duration = Duration::from_secs(60);
/// How often a running compaction looks at its own state. It runs only while there is work.
const COMPACTION_POLL: Duration = Duration::from_millis(500);
/// A running compaction says this often that it is alive; one that has not for three times as long
/// was left by a mount that ended, and is taken up again.
const COMPACTION_HEARTBEAT: Duration = Duration::from_secs(5);
/// SlateDB's own bound on WALs before the memtable goes out; ours (`upkeep`) is lower.
const WAL_FLUSHES_MAX: u64 = 4096;
/// Nothing younger is collected: followers may still be reading it.
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
    /// Written and not yet in an L0 table.
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

    /// The writer's. Compaction and garbage collection are run by `upkeep`, only when there is
    /// something to do; the WAL goes out when `durability` says so (or when it has grown to a
    /// memtable's size).
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
            // An outage pauses writes, and they recover by themselves. With a limit the database
            // closes itself, reads too.
            object_store_max_retries: None,
            ..Settings::default()
        }
    }

    pub fn follower(&self) -> DbReaderOptions {
        DbReaderOptions {
            // `follower` holds each look back until it is time.
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

    /// What so many bytes of memtables and WAL take: nodes and separate allocations of keys and
    /// values come to it. Rows are small here; measured with 20,000 new files, each MiB costs 5.
    pub fn memtable_cost(&self, bytes: u64) -> u64 {
        bytes * 5
    }

    /// A compaction's output table, once as it is built and once as it is sealed, and what it
    /// reads.
    pub fn compaction_cost(&self) -> u64 {
        2 * self.table + (1 << 20)
    }
}

/// What may be collected. WAL fences stay: a fence that is gone would let a writer that was fenced
/// off write again.
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
