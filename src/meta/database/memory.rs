//! Memory of SlateDB: the cache of blocks that we bring, and the gauge of its memtables.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use slatedb::db_cache::{CachedEntry, CachedKey, DbCache};
use slatedb_common::metrics::{
    CounterFn, GaugeFn, HistogramFn, MetricsRecorder, NoopMetricsRecorder, UpDownCounterFn,
};

use super::settings::Sizes;

/// Memory of a cached block beside its own bytes: key, list nodes, map slot, the allocation's
/// rounding.
const BLOCK_ENTRY_BYTES: usize = 320;

/// SlateDB's name for the size of all rows that are written and not yet in a table.
const MEMTABLES_GAUGE: &str = "slatedb.db.total_mem_size_bytes";

/// SlateDB's cache of blocks, indexes and filters. SlateDB's own cache does not say how much it
/// holds.
pub(in crate::meta) struct BlockCache {
    entries: moka::sync::Cache<CachedKey, CachedEntry>,
}

impl BlockCache {
    pub fn for_sizes(sizes: &Sizes) -> Arc<BlockCache> {
        Arc::new(BlockCache::new(sizes.block_cache))
    }

    fn new(bytes_max: u64) -> BlockCache {
        let weight = |_: &CachedKey, entry: &CachedEntry| {
            u32::try_from(entry.size() + BLOCK_ENTRY_BYTES).unwrap_or(u32::MAX)
        };
        BlockCache {
            entries: moka::sync::Cache::builder()
                .weigher(weight)
                .max_capacity(bytes_max)
                .build(),
        }
    }

    pub fn bytes(&self) -> u64 {
        // Entries that were put in lately are counted only after this call.
        self.entries.run_pending_tasks();
        self.entries.weighted_size()
    }
}

#[async_trait]
impl DbCache for BlockCache {
    async fn get_block(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        Ok(self.entries.get(key))
    }

    async fn get_index(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        Ok(self.entries.get(key))
    }

    async fn get_filter(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        Ok(self.entries.get(key))
    }

    async fn get_stats(&self, key: &CachedKey) -> Result<Option<CachedEntry>, slatedb::Error> {
        Ok(self.entries.get(key))
    }

    async fn insert(&self, key: CachedKey, value: CachedEntry) {
        self.entries.insert(key, value);
    }

    async fn remove(&self, key: &CachedKey) {
        self.entries.invalidate(key);
    }

    fn entry_count(&self) -> u64 {
        self.entries.entry_count()
    }
}

/// Listens to the one of SlateDB's metrics that says how much its memtables and its WAL buffer
/// hold.
#[derive(Default)]
pub(in crate::meta) struct Memtables {
    gauge: Arc<BytesGauge>,
}

#[derive(Default)]
struct BytesGauge(AtomicI64);

impl GaugeFn for BytesGauge {
    fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Memtables {
    pub fn bytes(&self) -> u64 {
        u64::try_from(self.gauge.0.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

impl MetricsRecorder for Memtables {
    fn register_gauge(
        &self,
        name: &str,
        description: &str,
        labels: &[(&str, &str)],
    ) -> Arc<dyn GaugeFn> {
        if name == MEMTABLES_GAUGE {
            return self.gauge.clone();
        }
        NoopMetricsRecorder::new().register_gauge(name, description, labels)
    }

    fn register_counter(
        &self,
        name: &str,
        description: &str,
        labels: &[(&str, &str)],
    ) -> Arc<dyn CounterFn> {
        NoopMetricsRecorder::new().register_counter(name, description, labels)
    }

    fn register_up_down_counter(
        &self,
        name: &str,
        description: &str,
        labels: &[(&str, &str)],
    ) -> Arc<dyn UpDownCounterFn> {
        NoopMetricsRecorder::new().register_up_down_counter(name, description, labels)
    }

    fn register_histogram(
        &self,
        name: &str,
        description: &str,
        labels: &[(&str, &str)],
        boundaries: &[f64],
    ) -> Arc<dyn HistogramFn> {
        NoopMetricsRecorder::new().register_histogram(name, description, labels, boundaries)
    }
}
