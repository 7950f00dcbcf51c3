//! Repacking: the live bytes of objects that are mostly dead are written again, so that the objects
//! can go. So are those of fuller objects, where the volume as a whole wastes much (`survey.rs`).
//!
//! Objects are repacked in batches. Of each file only the bytes in these objects are read, in the
//! order of the file; the extents of the file are gone through once for the whole batch.
//!
//! An object that cannot be read (it was damaged, or its file's metadata was) is passed over. It is
//! tried again after a pause that doubles each time, and each round says in one line what failed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tracing::warn;

use super::{
    Space,
    moving::{EXTENTS_AT_ONCE, Step},
    survey::Survey,
};
use crate::{
    budget::Owner,
    data::{DataError, OpenFile, file::FileState, object_key, write_back::buffer_cost},
    meta::{ExtentSource, Ino, ObjectId},
};

/// Bytes that live in the objects that one round repacks: bounds the traffic that reclaim causes,
/// to 9 MB a second each way with a round a minute.
const ROUND_BYTES: u64 = 512 << 20;

/// An object counts as at least so many bytes, even if less of it lives, because it costs requests.
const OBJECT_BYTES_MIN: u64 = 256 << 10;

/// Objects in a batch, and the files in them (32 bytes each) from which on no more are added.
const BATCH_OBJECTS: usize = 64;
const BATCH_MEMBERS: usize = 4096;

/// Records that a round looks at to find the waste of the volume, some 80 bytes each.
const SURVEYED: usize = 4096;

/// Objects that are passed over in one round: bounds the reads of metadata.
const PASSED_OVER_MAX: usize = 1024;

/// Objects whose failures are remembered, some 100 bytes each. Beyond that the one that is due
/// first is forgotten, and tried in its turn.
const FAILURES_MAX: usize = 1024;

/// A damaged object is read about once a day: it may have been restored.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// The state of repacking: its place in the list of candidates, and those that failed lately.
pub(crate) struct Repacking {
    /// The pause after a first failure.
    pause_min: Duration,
    /// The candidate that was looked at last; `None`: none since the list's beginning.
    after: Option<ObjectId>,
    failures: BTreeMap<ObjectId, Failures>,
    survey: Survey,
    /// The metadata's sequence number when the mount began.
    opened_at: u64,
    /// Objects that the last survey chose and that are not repacked yet.
    chosen: VecDeque<ObjectId>,
}

/// The rest of a round: bytes that it may still move, and the time when it ends.
struct Allowance {
    bytes: u64,
    until: Instant,
}

/// Objects that are repacked together.
#[derive(Default)]
pub(super) struct Batch {
    objects: BTreeSet<ObjectId>,
    /// The files whose extents name them.
    pub(super) members: Vec<(Ino, ObjectId)>,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.objects.len() >= BATCH_OBJECTS || self.members.len() >= BATCH_MEMBERS
    }

    pub(super) fn add(&mut self, object: ObjectId, inos: &[Ino]) {
        self.objects.insert(object);
        self.members.extend(inos.iter().map(|ino| (*ino, object)));
    }
}

struct Failures {
    again_at: Instant,
    pause: Duration,
}

impl Repacking {
    pub(crate) fn new(pause_min: Duration, opened_at: u64) -> Repacking {
        Repacking {
            pause_min,
            after: None,
            failures: BTreeMap::new(),
            survey: Survey::default(),
            opened_at,
            chosen: VecDeque::new(),
        }
    }

    fn is_due(&self, object: ObjectId, now: Instant) -> bool {
        self.failures
            .get(&object)
            .is_none_or(|failures| failures.again_at <= now)
    }

    fn failed(&mut self, object: ObjectId, now: Instant) {
        let pause = match self.failures.get(&object) {
            Some(failures) => (failures.pause * 2).min(PAUSE_MAX),
            None => self.pause_min * 2,
        };
        let again_at = now + pause;
        self.failures.insert(object, Failures { again_at, pause });
        if self.failures.len() > FAILURES_MAX {
            let first = self.failures.iter().min_by_key(|(_, next)| next.again_at);
            if let Some(object) = first.map(|(object, _)| *object) {
                self.failures.remove(&object);
            }
        }
    }

    fn succeeded(&mut self, object: ObjectId) {
        self.failures.remove(&object);
    }
}

impl Space {
    /// Repacks some of the objects that are worth it: those that are mostly dead first, going on
    /// where the last round ended, then those that a survey chose.
    pub(crate) async fn repack_round(
        self: &Arc<Self>,
        repacking: &mut Repacking,
    ) -> Result<(), DataError> {
        let mut allowance = Allowance {
            bytes: ROUND_BYTES,
            until: Instant::now() + self.shared.config.reclaim_every,
        };
        let mut failed = Vec::new();
        self.repack_sparse(repacking, &mut allowance, &mut failed)
            .await?;
        self.survey(repacking).await?;
        while !repacking.chosen.is_empty() && self.may_repack(&allowance) {
            let mut batch = Batch::default();
            while !batch.is_full()
                && self.may_repack(&allowance)
                && let Some(object) = repacking.chosen.pop_front()
            {
                if repacking.is_due(object, Instant::now()) {
                    let inos = self.shared.meta.members_of(object).await?;
                    self.add_to(&mut batch, object, &inos, &mut allowance)
                        .await?;
                }
            }
            self.repack(batch, repacking, &mut failed).await?;
        }
        if let Some((object, error)) = failed.first() {
            warn!(
                "{} objects cannot be repacked and are passed over; the first is {}: {error}",
                failed.len(),
                object_key(*object)
            );
        }
        Ok(())
    }

    fn may_repack(&self, allowance: &Allowance) -> bool {
        allowance.bytes > 0 && Instant::now() < allowance.until && self.may_move()
    }

    async fn repack_sparse(
        self: &Arc<Self>,
        repacking: &mut Repacking,
        allowance: &mut Allowance,
        failed: &mut Vec<(ObjectId, DataError)>,
    ) -> Result<(), DataError> {
        let mut passed_over = 0;
        while passed_over < PASSED_OVER_MAX && self.may_repack(allowance) {
            let candidates = self
                .shared
                .meta
                .repack_candidates(repacking.after, BATCH_OBJECTS)
                .await?;
            if candidates.is_empty() {
                // The next round begins anew.
                repacking.after = None;
                break;
            }
            let mut batch = Batch::default();
            for (object, inos) in candidates {
                if batch.is_full() || !self.may_repack(allowance) {
                    break;
                }
                repacking.after = Some(object);
                if repacking.is_due(object, Instant::now()) {
                    self.add_to(&mut batch, object, &inos, allowance).await?;
                } else {
                    passed_over += 1;
                }
            }
            self.repack(batch, repacking, failed).await?;
        }
        Ok(())
    }

    async fn add_to(
        &self,
        batch: &mut Batch,
        object: ObjectId,
        inos: &[Ino],
        allowance: &mut Allowance,
    ) -> Result<(), DataError> {
        let record = self.shared.meta.object(object).await?;
        let live_bytes = record.map_or(0, |record| record.live_bytes);
        if live_bytes > 0 {
            batch.add(object, inos);
            allowance.bytes = allowance
                .bytes
                .saturating_sub(live_bytes.max(OBJECT_BYTES_MIN));
        }
        Ok(())
    }

    /// Looks at the records of some objects; when all were looked at, some may be chosen.
    async fn survey(&self, repacking: &mut Repacking) -> Result<(), DataError> {
        let sequence = self.shared.meta.applied();
        let survey = &mut repacking.survey;
        if !repacking.chosen.is_empty() || !survey.is_due(sequence, repacking.opened_at) {
            return Ok(());
        }
        survey.begin(sequence);
        let objects = self
            .shared
            .meta
            .objects_after(survey.after, SURVEYED)
            .await?;
        for (object, record) in &objects {
            survey.look(*object, record);
        }
        if objects.len() < SURVEYED {
            repacking.chosen = survey.finish();
        }
        Ok(())
    }

    /// Makes the live bytes of objects dirty again: write-back moves them into new packs, and the
    /// objects die by themselves.
    async fn repack(
        self: &Arc<Self>,
        batch: Batch,
        repacking: &mut Repacking,
        failed: &mut Vec<(ObjectId, DataError)>,
    ) -> Result<(), DataError> {
        let Batch {
            mut objects,
            mut members,
        } = batch;
        members.sort_unstable();
        for file in members.chunk_by(|(one, _), (next, _)| one == next) {
            let Some((ino, _)) = file.first() else {
                continue;
            };
            let wanted = file.iter().map(|(_, object)| *object);
            let wanted = wanted.filter(|object| objects.contains(object)).collect();
            for (object, error) in self.move_file(*ino, wanted, None).await? {
                objects.remove(&object);
                repacking.failed(object, Instant::now());
                failed.push((object, error));
            }
        }
        for object in objects {
            repacking.succeeded(object);
        }
        Ok(())
    }

    /// Moves the bytes of a file that lie in the objects `wanted`; returns the objects that could
    /// not be read. With `moved`, what follows and what lies around is fetched too, and the bytes
    /// of each step are added there.
    pub(super) async fn move_file(
        self: &Arc<Self>,
        ino: Ino,
        mut wanted: BTreeSet<ObjectId>,
        moved: Option<&AtomicU64>,
    ) -> Result<Vec<(ObjectId, DataError)>, DataError> {
        let mut failed = Vec::new();
        let file = match self.reading.loaded(ino).await {
            Ok(file) => file,
            Err(DataError::NotFound) => return Ok(failed),
            Err(error) => return Err(error),
        };
        let open = moved.map(|_| self.reading.open(ino));
        let open = open.as_ref();
        let mut steps: BTreeMap<ObjectId, Step> = BTreeMap::new();
        let mut at = 0;
        while !wanted.is_empty() {
            let extents = self.shared.meta.extents(ino, at..u64::MAX, EXTENTS_AT_ONCE);
            let extents = extents.await?;
            let is_last = extents.len() < EXTENTS_AT_ONCE;
            for extent in extents {
                let mut rest = extent.offset..extent.offset + extent.len;
                at = rest.end;
                let ExtentSource::Object { object, .. } = extent.source else {
                    continue;
                };
                while wanted.contains(&object) && !rest.is_empty() {
                    let step = steps
                        .entry(object)
                        .or_insert_with(|| Step::of(self.step_bytes()));
                    step.take_from(&mut rest);
                    if step.is_full() {
                        let step = std::mem::replace(step, Step::of(self.step_bytes()));
                        let bytes = self
                            .carry_out(&file, object, step, open, &mut wanted, &mut failed)
                            .await?;
                        count(moved, bytes);
                    }
                }
            }
            if is_last {
                break;
            }
        }
        for (object, step) in steps {
            if !wanted.contains(&object) {
                continue;
            }
            let bytes = self
                .carry_out(&file, object, step, open, &mut wanted, &mut failed)
                .await?;
            count(moved, bytes);
        }
        Ok(failed)
    }

    /// Carries out one step, and returns the bytes that it moved. An object that cannot be read is
    /// not wanted any more.
    async fn carry_out(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        object: ObjectId,
        step: Step,
        open: Option<&OpenFile>,
        wanted: &mut BTreeSet<ObjectId>,
        failed: &mut Vec<(ObjectId, DataError)>,
    ) -> Result<u64, DataError> {
        if open.is_some() {
            // A step that finds no room is read once more, which would upset the reading ahead.
            let cost = buffer_cost(usize::try_from(step.bytes).unwrap_or(usize::MAX));
            drop(self.shared.governor.acquire(Owner::Dirty, cost).await);
        }
        match self.move_ranges(file, &step.ranges, open).await {
            Ok(bytes) => {
                self.shared.store.metrics().repacked_bytes.add(bytes);
                Ok(bytes)
            }
            // When the metadata fails, the other steps would fail too.
            Err(error @ DataError::Meta(_)) => Err(error),
            Err(error) => {
                wanted.remove(&object);
                failed.push((object, error));
                Ok(0)
            }
        }
    }
}

fn count(moved: Option<&AtomicU64>, bytes: u64) {
    if let Some(moved) = moved {
        moved.fetch_add(bytes, Ordering::Relaxed);
    }
}
