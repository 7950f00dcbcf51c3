//! One compaction, and one collection of what it leaves behind.

use std::{collections::HashSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use slatedb::{
    CompactorBuilder, Db, GarbageCollectorBuilder,
    compactor::{
        Compaction, CompactionScheduler, CompactionSchedulerSupplier, CompactionSpec,
        CompactorStateView, SizeTieredCompactionSchedulerSupplier, SourceId,
    },
    config::CompactorOptions,
    object_store::ObjectStore,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::settings::{self, DB_PATH, Sizes};

/// A compaction that takes longer is stopped; the next one goes on from where it was.
const COMPACTION_TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Compactions that are proposed for the same tables at most. One that failed so often will fail
/// again.
const PROPOSALS_MAX: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::meta) enum Outcome {
    Done,
    /// It failed, or there was nothing for it to do after all.
    Useless,
}

/// Deletes the objects that the database no longer names, if they are older than `min_age`.
pub(in crate::meta) async fn collect(store: Arc<dyn ObjectStore>, min_age: Duration) {
    let collector = GarbageCollectorBuilder::new(DB_PATH, store)
        .with_options(settings::collector(min_age))
        .build();
    collector.run_gc_once().await;
}

/// Runs a compactor until it finds nothing more to do.
pub(in crate::meta) async fn compact(
    db: &Db,
    store: Arc<dyn ObjectStore>,
    sizes: &Sizes,
    stopped: &CancellationToken,
) -> Result<Outcome, slatedb::Error> {
    run(db, store, sizes, stopped, None).await
}

/// Merges all tables into one run of new tables, if any of `old` is among them (names without
/// folder and extension). Afterwards the database may still name tables that an earlier process
/// wrote for this compaction.
pub(in crate::meta) async fn rewrite(
    db: &Db,
    store: Arc<dyn ObjectStore>,
    sizes: &Sizes,
    stopped: &CancellationToken,
    old: Arc<HashSet<String>>,
) -> Result<Outcome, slatedb::Error> {
    run(db, store, sizes, stopped, Some(old)).await
}

async fn run(
    db: &Db,
    store: Arc<dyn ObjectStore>,
    sizes: &Sizes,
    stopped: &CancellationToken,
    old: Option<Arc<HashSet<String>>>,
) -> Result<Outcome, slatedb::Error> {
    let tables = db.manifest().l0().len();
    let idle = Arc::new(Notify::new());
    let compactor = CompactorBuilder::new(DB_PATH, store)
        .with_options(sizes.compactor())
        .with_sst_block_size(settings::BLOCK_SIZE)
        .with_scheduler_supplier(Arc::new(UntilIdle {
            idle: idle.clone(),
            old,
        }))
        .build();
    let mut running = {
        let compactor = compactor.clone();
        tokio::spawn(async move { compactor.run().await })
    };
    let ended = tokio::select! {
        ended = &mut running => Some(ended),
        () = idle.notified() => None,
        () = stopped.cancelled() => None,
        () = tokio::time::sleep(COMPACTION_TIME_MAX) => None,
    };
    if let Some(Ok(Err(error))) = ended {
        return Err(error);
    }
    compactor.stop().await?;
    if stopped.is_cancelled() {
        return Ok(Outcome::Useless);
    }
    // Writes may be waiting for tables to go away, so the writer is told at once.
    db.refresh_manifest().await?;
    Ok(if db.manifest().l0().len() < tables {
        Outcome::Done
    } else {
        Outcome::Useless
    })
}

/// A scheduler that notifies `idle` when it has nothing more to propose: SlateDB's own, or with
/// `old` the one that replaces these tables.
struct UntilIdle {
    idle: Arc<Notify>,
    old: Option<Arc<HashSet<String>>>,
}

/// Proposes one compaction of everything, as long as old tables are named.
struct Whole {
    old: Arc<HashSet<String>>,
    proposals: Mutex<u32>,
}

impl CompactionScheduler for Whole {
    fn propose(&self, state: &CompactorStateView) -> Vec<CompactionSpec> {
        let manifest = state.manifest();
        let is_busy = state
            .compactions()
            .is_some_and(|all| all.recent_compactions().any(Compaction::active));
        let has_old = manifest
            .all_sst_views()
            .any(|view| self.old.contains(&view.sst.id.value().to_string()));
        let mut proposals = self.proposals.lock();
        if is_busy || !has_old || *proposals >= PROPOSALS_MAX {
            return Vec::new();
        }
        *proposals += 1;
        let tables = manifest.l0().iter().map(|view| SourceId::SstView(view.id));
        let runs = manifest.compacted().iter().map(|run| run.id);
        // The run of the lowest number holds the oldest rows, and takes them all.
        let destination = runs.clone().min().unwrap_or(0);
        let sources = tables.chain(runs.map(SourceId::SortedRun)).collect();
        vec![CompactionSpec::new(sources, destination)]
    }
}

struct UntilIdleScheduler {
    scheduler: Box<dyn CompactionScheduler + Send + Sync>,
    idle: Arc<Notify>,
    /// Looks in a row that found nothing to do. One alone proves nothing: between the end of a
    /// compaction and the first look at its result nothing is proposed.
    idle_looks: Mutex<u32>,
}

impl CompactionSchedulerSupplier for UntilIdle {
    fn compaction_scheduler(
        &self,
        options: &CompactorOptions,
    ) -> Box<dyn CompactionScheduler + Send + Sync> {
        let scheduler: Box<dyn CompactionScheduler + Send + Sync> = match &self.old {
            None => SizeTieredCompactionSchedulerSupplier.compaction_scheduler(options),
            Some(old) => Box::new(Whole {
                old: Arc::clone(old),
                proposals: Mutex::new(0),
            }),
        };
        Box::new(UntilIdleScheduler {
            scheduler,
            idle: self.idle.clone(),
            idle_looks: Mutex::default(),
        })
    }
}

impl CompactionScheduler for UntilIdleScheduler {
    fn propose(&self, state: &CompactorStateView) -> Vec<CompactionSpec> {
        let proposed = self.scheduler.propose(state);
        let active = state
            .compactions()
            .is_some_and(|all| all.recent_compactions().any(Compaction::active));
        let mut looks = self.idle_looks.lock();
        *looks = if proposed.is_empty() && !active {
            *looks + 1
        } else {
            0
        };
        if *looks >= 2 {
            self.idle.notify_one();
        }
        proposed
    }

    fn validate(
        &self,
        state: &CompactorStateView,
        spec: &CompactionSpec,
    ) -> Result<(), slatedb::Error> {
        self.scheduler.validate(state, spec)
    }
}
