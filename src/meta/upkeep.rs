//! What the database needs now and then: compaction, garbage collection, a memtable that goes out
//! before its WAL gets long.
//!
//! SlateDB would do the first two by polling, 32 to 46 requests every ten seconds on an idle mount.
//! Here they run when this mount's own view of the tables says that there is work, and end when it
//! is done, so an idle mount costs nothing but the writer's look for a takeover.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use slatedb::{
    CompactorBuilder, Db, GarbageCollectorBuilder,
    compactor::{
        Compaction, CompactionScheduler, CompactionSchedulerSupplier, CompactionSpec,
        CompactorStateView, SizeTieredCompactionSchedulerSupplier,
    },
    config::{CompactorOptions, FlushOptions, FlushType},
    object_store::ObjectStore,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Meta,
    backing::Backing,
    settings::{self, COMPACT_L0_MIN, DB_PATH, L0_MAX, Sizes},
    volume::Inner,
};

/// How often the in-memory state is looked at. No request is made for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Compaction waits for a lull in writing as long as this, unless the tables pile up.
const LULL: Duration = Duration::from_secs(5);
/// WAL objects after which the memtable goes out: replaying 4,000 takes 2.2 s at 20 ms, so 512
/// takes about 0.3 s.
const WAL_OBJECTS_MAX: u64 = 512;
/// Garbage collection: first this long after opening, then this often while something is written,
/// and once more when the last of it is old enough.
const COLLECT_FIRST: Duration = Duration::from_secs(60);
const COLLECT_EVERY: Duration = Duration::from_secs(10 * 60);
/// The last collection waits so much longer than the least age, so that what was replaced last has
/// surely reached that.
const COLLECT_MARGIN: Duration = Duration::from_secs(10);
/// The pause after a job that failed, or that changed nothing.
const PAUSE: Duration = Duration::from_secs(30);
/// A compaction that takes longer is stopped; the next one takes up what it did.
const COMPACTION_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// What closing grants to a compaction: one that an earlier mount left is taken up only after three
/// of its heartbeats.
const LAST_COMPACTION_TIME_MAX: Duration = Duration::from_secs(25);
/// Memtables that may be waiting for their tables: what may be unflushed is four times a memtable's
/// size, and one is being filled.
const MEMTABLES_MAX: usize = 5;

/// What upkeep needs, and how it is stopped.
pub(super) struct Upkeep {
    pub store: Arc<dyn ObjectStore>,
    sizes: Sizes,
    /// No further job is begun.
    ending: AtomicBool,
    stopped: CancellationToken,
    running: TaskTracker,
    compacting: Arc<AtomicBool>,
}

impl Upkeep {
    pub fn new(store: Arc<dyn ObjectStore>, sizes: Sizes) -> Upkeep {
        Upkeep {
            store,
            sizes,
            ending: AtomicBool::new(false),
            stopped: CancellationToken::new(),
            running: TaskTracker::new(),
            compacting: Arc::default(),
        }
    }

    /// Whether a compaction runs now.
    pub fn is_compacting(&self) -> bool {
        self.compacting.load(Ordering::Relaxed)
    }

    /// Stops, and waits for what is running to let go. A compaction is left where it is: another
    /// one takes it up.
    pub async fn stop(&self) {
        self.ending.store(true, Ordering::Release);
        self.stopped.cancel();
        self.running.close();
        self.running.wait().await;
    }

    /// The last work before `db` closes, with its log flushed already: tables that pile up are
    /// compacted, for mounts may be so short that it never happens otherwise. Answers what closing
    /// may flush: SlateDB waits for room for a memtable's table, and would do so for ever.
    pub async fn finish(&self, db: &Db) -> Option<FlushType> {
        let tables = || db.manifest().l0().len();
        if tables() >= L0_MAX / 2 {
            self.ending.store(true, Ordering::Release);
            self.running.close();
            let compacted = tokio::time::timeout(LAST_COMPACTION_TIME_MAX, async {
                // One that is running is at it already, and holds a claim on the tables.
                self.running.wait().await;
                if tables() < L0_MAX / 2 {
                    return Ok(Outcome::Done);
                }
                let outcome = compact(db, self.store.clone(), &self.sizes, &self.stopped).await;
                // Short mounts never collect either.
                collect(self.store.clone(), settings::COLLECT_AGE_MIN).await;
                outcome
            });
            match compacted.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!("the metadata was not compacted: {error}"),
                Err(_) => tracing::info!("the metadata's compaction is left to the next mount"),
            }
        }
        self.stop().await;
        // Nothing is lost without: the log has everything, and the next mount reads it.
        (tables() + MEMTABLES_MAX <= L0_MAX).then_some(FlushType::MemTable)
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

/// Looks after the database until the volume is closed.
pub(super) async fn run(inner: Weak<Inner>) {
    let opened_at = match inner.upgrade() {
        Some(inner) => inner.durable_sequence(),
        None => return,
    };
    let mut seen = Seen {
        sequence: 0,
        changed: Instant::now(),
        // What opening wrote is no reason: a mount that nobody writes to leaves the store alone.
        garbage: Garbage::new(opened_at, Instant::now()),
    };
    loop {
        let work = {
            let Some(inner) = inner.upgrade() else { return };
            let Some(upkeep) = inner.upkeep() else { return };
            if upkeep.ending.load(Ordering::Acquire) || inner.check().is_err() {
                return;
            }
            let Backing::Writer(db) = &inner.backing else {
                return;
            };
            let job = seen.next_job(db, &inner);
            job.map(|job| {
                let (db, store, sizes) = (db.clone(), upkeep.store.clone(), upkeep.sizes);
                let stopped = upkeep.stopped.clone();
                let compacting = upkeep.compacting.clone();
                let running = upkeep.running.spawn(async move {
                    compacting.store(matches!(job, Job::Compact), Ordering::Relaxed);
                    let outcome = job.run(db, store, sizes, stopped).await;
                    compacting.store(false, Ordering::Relaxed);
                    outcome
                });
                (job, running)
            })
        };
        let pause = match work {
            // One job at a time. One that failed (or panicked, which the runtime logs) is not tried
            // again at once.
            Some((job, running)) => match running.await {
                Ok(Outcome::Done) => {
                    if matches!(job, Job::Compact | Job::FlushMemtable) {
                        seen.garbage.made(Instant::now());
                    }
                    Duration::ZERO
                }
                Ok(Outcome::Useless) | Err(_) => PAUSE,
            },
            None => LOOK_EVERY,
        };
        tokio::time::sleep(pause).await;
    }
}

#[derive(Clone, Copy, Debug)]
enum Job {
    Compact,
    Collect,
    FlushMemtable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// It failed, or there was nothing for it to do after all.
    Useless,
}

struct Seen {
    /// The last durable sequence number, and when it was seen to change.
    sequence: u64,
    changed: Instant,
    garbage: Garbage,
}

/// Is there something to collect?
struct Garbage {
    /// The sequence number at the last collection, and when the next may be.
    collected_sequence: u64,
    collect_at: Instant,
    /// The time when something was replaced last; `None` once that is collected.
    made_at: Option<Instant>,
}

impl Garbage {
    fn new(opened_at: u64, now: Instant) -> Garbage {
        Garbage {
            collected_sequence: opened_at,
            collect_at: now + COLLECT_FIRST,
            made_at: None,
        }
    }

    /// Something was replaced: log objects by a table, or tables by a compaction.
    fn made(&mut self, now: Instant) {
        self.made_at = Some(now);
    }

    /// Tells whether to collect now. Without the last collection, a mount that stops writing would
    /// keep what its last compaction replaced for as long as it lasts: most of that is too young
    /// when the collection before it runs. The last one waits for no other, since nothing follows
    /// it.
    fn is_due(&mut self, sequence: u64, now: Instant) -> bool {
        let is_old = |made_at: Instant| now >= made_at + settings::COLLECT_AGE_MIN + COLLECT_MARGIN;
        let last = self.made_at.is_some_and(is_old);
        let regular = now >= self.collect_at && sequence != self.collected_sequence;
        if !last && !regular {
            return false;
        }
        (self.collected_sequence, self.collect_at) = (sequence, now + COLLECT_EVERY);
        if last {
            self.made_at = None;
        }
        true
    }
}

impl Seen {
    fn next_job(&mut self, db: &Db, inner: &Inner) -> Option<Job> {
        let now = Instant::now();
        let sequence = inner.durable_sequence();
        if sequence != self.sequence {
            (self.sequence, self.changed) = (sequence, now);
            if sequence != self.garbage.collected_sequence {
                self.garbage.made(now);
            }
        }
        let tables = db.manifest().l0().len();
        if tables >= L0_MAX / 2 || (tables >= COMPACT_L0_MIN && now - self.changed >= LULL) {
            return Some(Job::Compact);
        }
        if inner.durability.wal_objects(false) >= WAL_OBJECTS_MAX {
            inner.durability.wal_objects(true);
            return Some(Job::FlushMemtable);
        }
        self.garbage.is_due(sequence, now).then_some(Job::Collect)
    }
}

impl Job {
    async fn run(
        self,
        db: Db,
        store: Arc<dyn ObjectStore>,
        sizes: Sizes,
        stopped: CancellationToken,
    ) -> Outcome {
        let begun = Instant::now();
        let work = async {
            match self {
                Job::Compact => compact(&db, store, &sizes, &stopped).await,
                Job::Collect => {
                    collect(store, settings::COLLECT_AGE_MIN).await;
                    Ok(Outcome::Done)
                }
                Job::FlushMemtable => db
                    .flush_with_options(FlushOptions {
                        flush_type: FlushType::MemTable,
                    })
                    .await
                    .map(|()| Outcome::Done),
            }
        };
        // A compaction stops itself, so that nothing of it goes on.
        let result = match self {
            Job::Compact => work.await,
            Job::Collect | Job::FlushMemtable => match stopped.run_until_cancelled(work).await {
                Some(result) => result,
                None => return Outcome::Useless,
            },
        };
        match result {
            Ok(outcome) => {
                tracing::debug!(job = ?self, ?outcome, elapsed_ms = begun.elapsed().as_millis() as u64, "metadata upkeep");
                outcome
            }
            Err(error) => {
                tracing::warn!(job = ?self, "metadata upkeep failed, it will be tried again: {error}");
                Outcome::Useless
            }
        }
    }
}

impl Meta {
    /// Deletes tables and log objects that the database does not name any more, but for those that
    /// followers may still read: the last quarter of an hour's. For the writer.
    pub async fn collect(&self) {
        if let Some(upkeep) = self.inner.upkeep() {
            collect(upkeep.store.clone(), settings::COLLECT_AGE_MIN).await;
        }
    }
}

/// Deletes what the database no longer names, if it is old enough.
async fn collect(store: Arc<dyn ObjectStore>, min_age: Duration) {
    let collector = GarbageCollectorBuilder::new(DB_PATH, store)
        .with_options(settings::collector(min_age))
        .build();
    collector.run_gc_once().await;
}

/// Runs a compactor until it finds nothing more to do.
async fn compact(
    db: &Db,
    store: Arc<dyn ObjectStore>,
    sizes: &Sizes,
    stopped: &CancellationToken,
) -> Result<Outcome, slatedb::Error> {
    let tables = db.manifest().l0().len();
    let idle = Arc::new(Notify::new());
    let compactor = CompactorBuilder::new(DB_PATH, store)
        .with_options(sizes.compactor())
        .with_sst_block_size(settings::BLOCK_SIZE)
        .with_scheduler_supplier(Arc::new(UntilIdle { idle: idle.clone() }))
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
    // The writer learns at once that tables went away: it may be waiting for that.
    db.refresh_manifest().await?;
    Ok(if db.manifest().l0().len() < tables {
        Outcome::Done
    } else {
        Outcome::Useless
    })
}

/// SlateDB's own scheduler, and word when it has nothing more to propose.
struct UntilIdle {
    idle: Arc<Notify>,
}

struct UntilIdleScheduler {
    scheduler: Box<dyn CompactionScheduler + Send + Sync>,
    idle: Arc<Notify>,
    /// Two looks in a row: between the end of one compaction and the first look at its result
    /// nothing is proposed.
    idle_looks: Mutex<u32>,
}

impl CompactionSchedulerSupplier for UntilIdle {
    fn compaction_scheduler(
        &self,
        options: &CompactorOptions,
    ) -> Box<dyn CompactionScheduler + Send + Sync> {
        let scheduler = SizeTieredCompactionSchedulerSupplier.compaction_scheduler(options);
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

#[cfg(all(test, feature = "demo"))]
#[path = "upkeep_tests.rs"]
mod tests;
