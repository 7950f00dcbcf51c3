//! When the database gets its upkeep: compaction, garbage collection, and a flush of the memtable
//! before its log (WAL) gets long.
//!
//! SlateDB would do the first two by polling, which costs 32 to 46 requests every ten seconds on an
//! idle mount. Here a job runs when this mount's own view of the tables says that there is work,
//! and ends when it is done. So the only requests of an idle mount are its looks for a takeover.

use std::{
    collections::HashSet,
    sync::Weak,
    time::{Duration, Instant},
};

use slatedb::Db;

use super::{
    Meta, MetaError,
    database::{
        backing::Backing,
        compaction::{self, Outcome},
        jobs::Job,
        settings::{COLLECT_AGE_MIN, COMPACT_L0_MIN, L0_MAX},
    },
    volume::Inner,
};

/// How often the in-memory state is looked at. No request is made for it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Compaction waits until nothing was written for so long, unless the tables pile up.
const LULL: Duration = Duration::from_secs(5);
/// WAL objects after which the memtable goes out: replaying 4,000 takes 2.2 s at 20 ms, so 512
/// takes about 0.3 s.
const WAL_OBJECTS_MAX: u64 = 512;
/// Garbage is collected first this long after opening, then this often while something is written,
/// and once more when the last garbage is old enough.
const COLLECT_FIRST: Duration = Duration::from_secs(60);
const COLLECT_EVERY: Duration = Duration::from_secs(10 * 60);
/// The last collection waits so much longer than the least age of garbage, so that the objects that
/// were replaced last have surely reached it.
const COLLECT_MARGIN: Duration = Duration::from_secs(10);
/// The pause after a job that failed, or that changed nothing.
const PAUSE: Duration = Duration::from_secs(30);

/// Looks after the database until the volume is closed.
pub(in crate::meta) async fn run(inner: Weak<Inner>) {
    let opened_at = match inner.upgrade() {
        Some(inner) => inner.durable_sequence(),
        None => return,
    };
    let mut seen = Seen {
        sequence: 0,
        changed: Instant::now(),
        // The writes of opening are no reason to collect: a mount that nobody writes to leaves the
        // store alone.
        garbage: Garbage::new(opened_at, Instant::now()),
    };
    loop {
        let work = {
            let Some(inner) = inner.upgrade() else { return };
            let Some(upkeep) = inner.upkeep() else { return };
            if upkeep.is_ending() || inner.check().is_err() {
                return;
            }
            let Backing::Writer(db) = &inner.backing else {
                return;
            };
            let job = seen.next_job(db, &inner);
            job.map(|job| (job, upkeep.begin(job, db.clone())))
        };
        let pause = match work {
            // One job runs at a time. A job that failed (or panicked, which the runtime logs) is
            // not tried again at once.
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

struct Seen {
    /// The last durable sequence number, and when it was seen to change.
    sequence: u64,
    changed: Instant,
    garbage: Garbage,
}

/// Whether there is something to collect.
struct Garbage {
    /// The sequence number at the last collection, and when the next may be.
    collected_sequence: u64,
    collect_at: Instant,
    /// When objects were last replaced; `None` once those are collected.
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

    /// Notes that objects were replaced: log objects by a table, or tables by a compaction.
    fn made(&mut self, now: Instant) {
        self.made_at = Some(now);
    }

    /// Tells whether to collect now. A mount that stops writing needs a last collection: most of
    /// the objects that its last compaction replaced are too young for the collection before it,
    /// and would stay for as long as the mount lasts. The last collection does not wait for the
    /// regular interval.
    fn is_due(&mut self, sequence: u64, now: Instant) -> bool {
        let is_old = |made_at: Instant| now >= made_at + COLLECT_AGE_MIN + COLLECT_MARGIN;
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

impl Meta {
    /// Has the tables `old` (named as in [`DatabaseObjects`](super::DatabaseObjects)) written anew,
    /// and a table made of what is only in the log. For a writer that does nothing else any more:
    /// the usual upkeep ends with it. It can be repeated at any time.
    ///
    /// # Errors
    /// The store's; another mount has taken over.
    pub async fn rewrite_tables(&self, old: HashSet<String>) -> Result<(), MetaError> {
        self.inner.flush().await?;
        match (&self.inner.backing, self.inner.upkeep()) {
            (Backing::Writer(db), Some(upkeep)) => upkeep
                .rewrite(db, old)
                .await
                .map_err(|error| self.inner.record_fencing(error.into())),
            _ => Ok(()),
        }
    }

    /// Why changes will have to wait, if upkeep keeps failing. For the writer.
    #[must_use]
    pub fn upkeep_trouble(&self) -> Option<String> {
        self.inner.upkeep()?.trouble()
    }

    /// Deletes tables and log objects that the database does not name any more, except those of the
    /// last quarter of an hour, which followers may still read. For the writer.
    pub async fn collect(&self) {
        if let Some(upkeep) = self.inner.upkeep() {
            compaction::collect(upkeep.store.clone(), COLLECT_AGE_MIN).await;
        }
    }
}

#[cfg(all(test, feature = "demo"))]
#[path = "upkeep_tests.rs"]
mod tests;
