//! Sizes, made from `--memory`.

use std::time::Duration;

use crate::{budget::Shares, disk::DiskPlan};

const MIB: u64 = 1 << 20;

/// The smallest `--memory`.
pub const MEMORY_MIN_BYTES: u64 = 128 * MIB;

/// Memory of the process besides metadata and data: code, runtime, TLS, connections, FUSE request
/// buffers, allocator slack. Measured as the RSS of an idle mount plus its growth under load that
/// no reservation explains (docs/benchmarks.md).
const FIXED_BYTES: u64 = 48 * MIB;

/// Readers are guaranteed a quarter of the budget, but no more than this, or a sixteenth of a large
/// budget. With this much a page from each of the 256 frames of 64 KiB that a read of 1 MiB may lie
/// in can be fetched at once. The rest goes to the owners that need it: pages that are written over
/// and over are worth their memory, for each one that has to go out early is uploaded again.
const READ_GUARANTEED_BYTES: u64 = 36 * MIB;

/// Enough for a request's own cost to be small beside what it brings.
const TURN_BYTES_MAX: u64 = MIB;

/// The frames that the cache on the local disk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskAdmission {
    /// All that are fetched or uploaded.
    All,
    /// As [`DiskAdmission::All`], but no frames that are read or written in order while the store
    /// is as fast as a disk: keeping them costs a third more processor time and saves none.
    WhatPays,
}

/// Moving a piece of a file costs one reading of it as it lies and one upload. That is paid back
/// within five readings at this ratio, within three at twice the time, and nearly with the first
/// beyond four.
const DEFRAGMENT_FROM: f64 = 1.5;

/// Sizes of the data path.
#[derive(Clone, Copy, Debug)]
pub struct DataConfig {
    /// Bytes of a multipart part, and about the most a pack holds. S3 wants at least 5 MiB.
    pub part_bytes: u64,
    /// Stored bytes after which a large file's object ends and the next begins; bounded by 10,000
    /// parts.
    pub object_bytes_max: u64,
    /// The largest readahead window of one handle.
    pub readahead_bytes_max: u64,
    /// The largest single ranged GET of readahead.
    pub fetch_bytes_max: u64,
    /// Requests for regions on their way at once; the other connections are left to reads that
    /// somebody waits for.
    pub region_requests_max: usize,
    /// The frames that go to the local disk, if there is a cache.
    pub disk_admission: DiskAdmission,
    /// Dirty data older than this goes out by itself.
    pub write_back_after: Duration,
    /// How often the writer looks for dead objects, and repacks those that are mostly dead. The
    /// look costs no request while the metadata is cached and nothing is to be deleted.
    pub reclaim_every: Duration,
    /// A file that lies scattered is put in order once nobody has written to it for this long.
    pub defragment_after: Duration,
    /// A piece of such a file is put in order if reading it takes at least so many times as long as
    /// reading it in one run.
    pub defragment_from: f64,
    /// How often a read-only mount says what it still reads.
    pub reader_renewed_every: Duration,
    /// How long a dead object stays for read-only mounts that may still read it.
    pub garbage_grace: Duration,
    /// Pauses between the looks for objects that dead sessions left. A mount that was taken over
    /// notices within 30 s, but a stopped one goes on only when it is continued, and a request may
    /// be carried out long after it was sent.
    pub leftovers_again: [Duration; 3],
}

impl DataConfig {
    /// Bytes that a reader in order may hold while others wait, as long as it reads on.
    pub(crate) fn turn_bytes(&self) -> u64 {
        self.fetch_bytes_max.min(TURN_BYTES_MAX)
    }
}

/// How `--memory` is divided.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    /// For SlateDB and the caches above it.
    pub meta_bytes: u64,
    /// For the governor.
    pub shares: Shares,
    /// For the data path.
    pub data: DataConfig,
    /// For the cache on the local disk, if there is one.
    pub disk: Option<DiskPlan>,
    /// Connections to the store at once.
    pub connections_max: usize,
    /// The largest FUSE write.
    pub max_write_bytes: u32,
}

impl MemoryPlan {
    /// Divides `memory_bytes`, at least [`MEMORY_MIN_BYTES`].
    pub fn for_memory(memory_bytes: u64) -> MemoryPlan {
        MemoryPlan::with_disk_cache(memory_bytes, None)
    }

    /// The same for a mount with a cache of `disk_bytes` on the local disk, if there is to be one.
    pub fn with_disk_cache(memory_bytes: u64, disk_bytes: Option<u64>) -> MemoryPlan {
        let memory = memory_bytes.max(MEMORY_MIN_BYTES);
        let meta = (memory / 5).clamp(32 * MIB, 96 * MIB);
        let disk = disk_bytes.map(|size| DiskPlan::new(size, memory));
        let disk_memory = disk.map_or(0, |plan| plan.memory_bytes());
        let capacity = memory - FIXED_BYTES - meta - disk_memory;
        let part = if memory < 384 * MIB { 5 * MIB } else { 8 * MIB };
        let connections_max = if memory < 256 * MIB { 16 } else { 32 };
        let parts_guaranteed = if memory < 256 * MIB { 2 } else { 3 };
        MemoryPlan {
            meta_bytes: meta,
            shares: Shares {
                capacity_bytes: capacity,
                dirty_min_bytes: 2 * MIB,
                parked_min_bytes: capacity / 8,
                upload_min_bytes: parts_guaranteed * (part + MIB / 2),
                read_min_bytes: (capacity / 4).min(READ_GUARANTEED_BYTES.max(capacity / 16)),
                table_min_bytes: capacity / 32,
                listing_min_bytes: MIB,
            },
            data: DataConfig {
                part_bytes: part,
                object_bytes_max: 256 * MIB,
                readahead_bytes_max: (capacity / 8).clamp(2 * MIB, 32 * MIB),
                fetch_bytes_max: (capacity / 32).clamp(MIB, 8 * MIB),
                region_requests_max: connections_max / 2,
                disk_admission: DiskAdmission::All,
                write_back_after: Duration::from_secs(5),
                reclaim_every: Duration::from_secs(60),
                defragment_after: Duration::from_secs(20),
                defragment_from: DEFRAGMENT_FROM,
                reader_renewed_every: Duration::from_secs(60),
                garbage_grace: Duration::from_secs(120),
                leftovers_again: [2, 20, 120].map(|minutes| Duration::from_secs(minutes * 60)),
            },
            disk,
            connections_max,
            max_write_bytes: if memory < 256 * MIB {
                256 << 10
            } else {
                1 << 20
            },
        }
    }
}
