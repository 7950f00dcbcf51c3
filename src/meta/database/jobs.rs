//! The jobs of upkeep. They run beside the mount and are stopped with it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use slatedb::{
    Db,
    config::{FlushOptions, FlushType},
    object_store::ObjectStore,
};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    compaction::{self, Outcome, collect, compact},
    settings::{self, L0_MAX, Sizes},
};

/// How long closing waits for a compaction. One that an earlier mount left is taken up only after
/// three of its heartbeats.
const LAST_COMPACTION_TIME_MAX: Duration = Duration::from_secs(25);
/// Memtables that may be waiting for their tables: unflushed rows take at most four times the size
/// of a memtable, and one more is being filled.
const MEMTABLES_MAX: usize = 5;

/// The store and sizes that jobs need, and the means to stop them.
pub(in crate::meta) struct Upkeep {
    pub store: Arc<dyn ObjectStore>,
    sizes: Sizes,
    /// No further job is begun.
    ending: AtomicBool,
    stopped: CancellationToken,
    running: TaskTracker,
    compacting: Arc<AtomicBool>,
    failing: Arc<Mutex<Failing>>,
}

/// The jobs that make room for changes have failed so often in a row, lastly for this reason.
#[derive(Default)]
struct Failing {
    times: u32,
    why: String,
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
            failing: Arc::default(),
        }
    }

    /// Why changes will have to wait, if jobs keep failing.
    pub fn trouble(&self) -> Option<String> {
        let failing = self.failing.lock();
        (failing.times > 1).then(|| {
            format!(
                "upkeep of the metadata failed {} times in a row, and changes wait for it when its tables \
                 are full: {}",
                failing.times, failing.why
            )
        })
    }

    /// Whether no further job is to begin.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Begins a job, as a task of its own.
    pub fn begin(&self, job: Job, db: Db) -> JoinHandle<Outcome> {
        let (store, sizes, stopped) = (self.store.clone(), self.sizes, self.stopped.clone());
        let (compacting, failing) = (self.compacting.clone(), self.failing.clone());
        self.running.spawn(async move {
            compacting.store(matches!(job, Job::Compact), Ordering::Relaxed);
            let result = job.run(db, store, sizes, stopped).await;
            compacting.store(false, Ordering::Relaxed);
            if matches!(job, Job::Compact | Job::FlushMemtable) {
                failing.lock().note(&result);
            }
            result.unwrap_or(Outcome::Useless)
        })
    }

    /// Whether a compaction runs now.
    pub fn is_compacting(&self) -> bool {
        self.compacting.load(Ordering::Relaxed)
    }

    /// Replaces the tables `old`, and writes what is only in the log into a table. No other job
    /// begins from then on. The work goes on if this is dropped, until it is told to stop.
    pub async fn rewrite(&self, db: &Db, old: HashSet<String>) -> Result<(), slatedb::Error> {
        self.ending.store(true, Ordering::Release);
        self.running.close();
        self.running.wait().await;
        self.running.reopen();
        let (db, store, sizes) = (db.clone(), self.store.clone(), self.sizes);
        let (stopped, compacting) = (self.stopped.clone(), self.compacting.clone());
        let work = self.running.spawn(async move {
            // Without room for its table, SlateDB would wait for ever with the flush.
            if db.manifest().l0().len() + MEMTABLES_MAX > L0_MAX {
                compact(&db, store.clone(), &sizes, &stopped).await?;
            }
            let flush_type = FlushType::MemTable;
            db.flush_with_options(FlushOptions { flush_type }).await?;
            compacting.store(true, Ordering::Relaxed);
            let rewritten = compaction::rewrite(&db, store, &sizes, &stopped, Arc::new(old)).await;
            compacting.store(false, Ordering::Relaxed);
            rewritten.map(drop)
        });
        // A panic is logged by the runtime, and the tables stay as they are.
        work.await.unwrap_or(Ok(()))
    }

    /// Stops the running job and waits for its end. A compaction is left where it is; the next one
    /// takes it up.
    pub async fn stop(&self) {
        self.ending.store(true, Ordering::Release);
        self.stopped.cancel();
        self.running.close();
        self.running.wait().await;
    }

    /// The last work before `db` closes; its log is flushed already. Tables that pile up are
    /// compacted, because with short mounts it would never happen otherwise. Returns whether
    /// closing may flush the memtable: without room for one more table SlateDB would wait for ever.
    pub async fn finish(&self, db: &Db) -> Option<FlushType> {
        let tables = || db.manifest().l0().len();
        if tables() >= L0_MAX / 2 {
            self.ending.store(true, Ordering::Release);
            self.running.close();
            let compacted = tokio::time::timeout(LAST_COMPACTION_TIME_MAX, async {
                // A job that is running may be compacting already, and holds a claim on the tables.
                self.running.wait().await;
                if tables() < L0_MAX / 2 {
                    return Ok(Outcome::Done);
                }
                let outcome = compact(db, self.store.clone(), &self.sizes, &self.stopped).await;
                // Short mounts would never collect garbage either.
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
        // Nothing is lost without a flush: the log has everything, and the next mount reads it.
        (tables() + MEMTABLES_MAX <= L0_MAX).then_some(FlushType::MemTable)
    }
}

impl Failing {
    fn note(&mut self, result: &Result<Outcome, slatedb::Error>) {
        match result {
            Ok(_) => *self = Failing::default(),
            Err(error) => {
                self.times += 1;
                self.why = error.to_string();
            }
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stopped.cancel();
    }
}

#[derive(Clone, Copy, Debug)]
pub(in crate::meta) enum Job {
    Compact,
    Collect,
    FlushMemtable,
}

impl Job {
    async fn run(
        self,
        db: Db,
        store: Arc<dyn ObjectStore>,
        sizes: Sizes,
        stopped: CancellationToken,
    ) -> Result<Outcome, slatedb::Error> {
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
        // A compaction is not cancelled from outside: it stops itself, so that no part of it goes
        // on.
        let result = match self {
            Job::Compact => work.await,
            Job::Collect | Job::FlushMemtable => match stopped.run_until_cancelled(work).await {
                Some(result) => result,
                None => return Ok(Outcome::Useless),
            },
        };
        match &result {
            Ok(outcome) => {
                tracing::debug!(job = ?self, ?outcome, elapsed_ms = begun.elapsed().as_millis() as u64, "metadata upkeep");
            }
            Err(error) => {
                tracing::warn!(job = ?self, "metadata upkeep failed, it will be tried again: {error}");
            }
        }
        result
    }
}
