//! Whether a volume is whole: its metadata, the objects that it names, and on demand each frame of
//! them; and mending what can be mended.
//!
//! The metadata comes first ([`Meta::check`]), because the rest believes it. Then the objects: a
//! listing of each session's prefix is compared with the records of that session (`objects.rs`),
//! and frames are read and opened (`frames.rs`). What is wrong with an object is told as what it
//! does to files: paths and ranges.
//!
//! Promises: without `repair` nothing is written; what is kept in memory is bounded, whatever the
//! size of the volume and the number of faults; beside a living writer it checks one state of the
//! metadata, and what it finds missing or damaged of objects counts only if a newer state still
//! needs it. With `repair` nothing is touched but what a fault names; after each round of mendings
//! the metadata is checked again.
//! Never: takes the lease or opens the volume (its caller does); prints.

mod frames;
mod objects;
mod salvage;

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    meta::{
        CheckMemory, Counted, Damaged, Fault, Hurt, Ino, Located, Mended, Meta, MetaError, Pass,
    },
    seal::keys::VolumeKeys,
    store::{Store, StoreError},
};

/// Faults that are dealt with at a time; each takes some hundred bytes, with its paths perhaps a
/// thousand.
const FAULTS_AT_ONCE: usize = 2048;
/// Faults of the metadata that cannot be mended, and are remembered by a repair.
const LEFT_MAX: usize = 50_000;
/// Damaged objects that are dealt with at a time.
const DAMAGED_AT_ONCE: usize = 1024;
/// Rounds of checking and mending the metadata. What one mending leaves for another is done in two;
/// a volume that needs more than this is beyond what is understood here.
const ROUNDS_MAX: usize = 8;
/// What opening the frames of one range takes: the HTTP stack's receive buffers and a frame.
const STREAM_BYTES: u64 = 1_310_720;

/// What is to be checked, and with what.
#[derive(Clone, Copy, Debug)]
pub struct CheckPlan {
    /// Open every frame of every object.
    pub frames: bool,
    /// Mend. The metadata is open for writing then, and nobody else uses it.
    pub repair: bool,
    /// Memory for counters and for frames on their way.
    pub memory_bytes: u64,
    /// Connections to the store.
    pub connections_max: usize,
}

impl CheckPlan {
    fn memory(&self) -> CheckMemory {
        CheckMemory {
            counters_bytes: self.memory_bytes / 4,
            faults_max: FAULTS_AT_ONCE,
        }
    }

    /// Ranges that are fetched at once.
    fn streams(&self) -> usize {
        let fit = self.memory_bytes / 2 / STREAM_BYTES;
        usize::try_from(fit)
            .unwrap_or(usize::MAX)
            .clamp(1, self.connections_max.max(1))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// A name for programs that never changes.
    pub code: &'static str,
    /// What is wrong.
    pub what: String,
    /// The object at fault: its key in the bucket, below the volume's prefix.
    pub object: Option<String>,
    /// All paths of the file that it hurts.
    pub paths: Vec<Bytes>,
    /// The bytes of that file that cannot be read.
    pub ranges: Vec<Range<u64>>,
    /// There are more ranges than these.
    pub has_more_ranges: bool,
    /// What became of it, if it was to be mended.
    pub mended: Option<Mended>,
}

/// What came of a check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// What the metadata holds.
    pub counted: Counted,
    /// Frames that were opened, and their stored bytes.
    pub frames: u64,
    /// See `frames`.
    pub frame_bytes: u64,
    /// Things that are wrong and were left so.
    pub left: u64,
    /// Things that were mended.
    pub mended: u64,
    /// Objects of known sessions that the metadata does not name, and their bytes: on their way, or
    /// left over.
    pub unnamed_objects: u64,
    /// See `unnamed_objects`.
    pub unnamed_bytes: u64,
}

/// Why a check was not finished.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The metadata cannot be read.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A writer went on, and what was checked is not there any more.
    #[error("the volume was written to, and the state that was being checked is gone")]
    Overtaken,
    /// Something that must not happen.
    #[error("{0}")]
    Internal(String),
}

/// How far a check is, for whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    step: Mutex<&'static str>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// What is being done.
    pub fn step(&self) -> &'static str {
        *self.step.lock()
    }

    /// Bytes that were read of those that are to be read; zero of zero where that is not known.
    pub fn bytes(&self) -> (u64, u64) {
        (
            self.done_bytes.load(Ordering::Relaxed),
            self.total_bytes.load(Ordering::Relaxed),
        )
    }

    fn begin(&self, step: &'static str, total_bytes: u64) {
        *self.step.lock() = step;
        self.done_bytes.store(0, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    fn add(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Whoever is told what is found, as it is found.
pub type Report<'a> = dyn FnMut(&Finding) + Send + 'a;

/// A check of one volume.
pub struct Check {
    plan: CheckPlan,
    store: Store,
    keys: Arc<VolumeKeys>,
    meta: Meta,
    progress: Arc<Progress>,
    outcome: Outcome,
    /// The next number of an object that salvage writes.
    next_object: u64,
}

impl Check {
    /// A check of the volume that is open in `meta`: for a repair as its writer, else as a follower
    /// that is frozen.
    pub fn new(
        plan: CheckPlan,
        store: Store,
        keys: Arc<VolumeKeys>,
        meta: Meta,
        progress: Arc<Progress>,
    ) -> Check {
        Check {
            plan,
            store,
            keys,
            meta,
            progress,
            outcome: Outcome::default(),
            next_object: 0,
        }
    }

    /// Checks, and mends if it is to.
    ///
    /// # Errors
    /// What kept it from coming to an end. What was found until then has been reported.
    pub async fn run(mut self, report: &mut Report<'_>) -> Result<Outcome, CheckError> {
        let done = match self.plan.repair {
            true => self.repair(report).await,
            false => self.look(report).await,
        };
        match done {
            Ok(()) => Ok(self.outcome),
            Err(CheckError::Meta(error)) => Err(self.explain(error).await),
            Err(error) => Err(error),
        }
    }

    /// A follower whose tables were deleted under it is told so by the writer's having gone on.
    async fn explain(&self, error: MetaError) -> CheckError {
        let generation = self.meta.generation();
        match self.meta.look_again().await {
            Ok(Some(newer)) => {
                let is_newer = newer.generation() > generation;
                let _ = newer.close().await;
                match is_newer {
                    true => CheckError::Overtaken,
                    false => error.into(),
                }
            }
            _ => error.into(),
        }
    }

    async fn look(&mut self, report: &mut Report<'_>) -> Result<(), CheckError> {
        let nothing_known = HashSet::new();
        for pass in Pass::ALL {
            self.progress.begin(step_of(pass), 0);
            let mut skip = 0;
            loop {
                let memory = self.plan.memory();
                let found = self.meta.check(pass, memory, skip, &nothing_known).await?;
                skip += found.faults.len();
                for (fault, located) in self.located(found.faults).await? {
                    self.outcome.left += 1;
                    report(&self.finding(&fault, &located).await?);
                }
                if let Some(counted) = found.counted {
                    self.count(counted);
                    break;
                }
            }
        }
        self.check_objects(report).await
    }

    async fn repair(&mut self, report: &mut Report<'_>) -> Result<(), CheckError> {
        let mut left = HashSet::new();
        self.mend_metadata(&mut left, report).await?;
        let before = self.outcome.mended;
        self.check_objects(report).await?;
        if self.outcome.mended > before {
            self.mend_metadata(&mut left, report).await?;
        }
        Ok(())
    }

    /// Checks and mends until nothing new is found. What is `left` is not reported again.
    async fn mend_metadata(
        &mut self,
        left: &mut HashSet<Fault>,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        for round in 0.. {
            let (mut is_whole, may_mend) = (true, round < ROUNDS_MAX);
            for pass in Pass::ALL {
                self.progress.begin(step_of(pass), 0);
                loop {
                    let memory = self.plan.memory();
                    let found = self.meta.check(pass, memory, 0, left).await?;
                    is_whole &= found.faults.is_empty();
                    let mut faults = found.faults;
                    // Nothing new gets a number before it is known which are free.
                    faults.sort_by_key(|fault| !matches!(fault, Fault::Counters { .. }));
                    for (fault, located) in self.located(faults).await? {
                        self.mend_fault(fault, &located, may_mend, left, report)
                            .await?;
                    }
                    self.meta.flush().await?;
                    if let Some(counted) = found.counted {
                        self.count(counted);
                        break;
                    }
                    if left.len() >= LEFT_MAX {
                        let why = "there are more faults that cannot be mended than this program remembers";
                        return Err(CheckError::Internal(why.to_owned()));
                    }
                }
            }
            if is_whole {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn mend_fault(
        &mut self,
        fault: Fault,
        located: &Located,
        may_mend: bool,
        left: &mut HashSet<Fault>,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let finding = self.finding(&fault, located).await?;
        let mended = match may_mend {
            false => Mended::Left("it comes back whenever it is mended".to_owned()),
            true if self.restore_record(&fault).await? => {
                Mended::Done("the object's own header says what its record said".to_owned())
            }
            true => match self.meta.mend(&fault, located).await {
                Ok(mended) => mended,
                Err(error @ MetaError::Fenced) => return Err(error.into()),
                Err(error) => Mended::Left(error.to_string()),
            },
        };
        match &mended {
            Mended::Done(_) => self.outcome.mended += 1,
            Mended::Left(_) => {
                self.outcome.left += 1;
                left.insert(fault);
            }
        }
        report(&Finding {
            mended: Some(mended),
            ..finding
        });
        Ok(())
    }

    fn count(&mut self, counted: Counted) {
        let all = &mut self.outcome.counted;
        all.inodes = all.inodes.max(counted.inodes);
        all.extents = all.extents.max(counted.extents);
        all.objects = all.objects.max(counted.objects);
        all.stored_bytes = all.stored_bytes.max(counted.stored_bytes);
    }

    /// Faults, with where it is what they hurt.
    async fn located(&self, faults: Vec<Fault>) -> Result<Vec<(Fault, Located)>, MetaError> {
        let inos: BTreeSet<Ino> = faults.iter().filter_map(Fault::ino).collect();
        let located = self.meta.locate(&inos).await?;
        let mut found = Vec::with_capacity(faults.len());
        for fault in faults {
            let mut own = fault
                .ino()
                .and_then(|ino| located.get(&ino).cloned())
                .unwrap_or_default();
            if let Some((dir, name)) = fault.entry() {
                own.paths.push(self.meta.path_of_entry(dir, name).await?);
            }
            found.push((fault, own));
        }
        Ok(found)
    }

    async fn finding(&self, fault: &Fault, located: &Located) -> Result<Finding, MetaError> {
        let object = self.meta.object_of_fault(fault).await;
        Ok(Finding {
            code: fault.code(),
            what: fault.to_string(),
            object: object.map(crate::data::object_key),
            paths: located.paths.clone(),
            ranges: fault.range().into_iter().collect(),
            has_more_ranges: false,
            mended: None,
        })
    }

    /// Reports what damaged objects do to files; in a repair sets these files aside, and writes
    /// what is left of the objects anew.
    async fn deal_with(
        &mut self,
        damaged: Vec<Damaged>,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let damaged = self.still_needed(damaged).await?;
        if damaged.is_empty() {
            return Ok(());
        }
        let mut after = None;
        loop {
            let hurt = self.meta.hurt_by(&damaged, after, FAULTS_AT_ONCE).await?;
            let Some(last) = hurt.last() else { break };
            after = Some(last.ino);
            let inos = hurt.iter().map(|hurt| hurt.ino).collect();
            let mut located = self.meta.locate(&inos).await?;
            for hurt in hurt {
                let located = located.remove(&hurt.ino).unwrap_or_default();
                self.deal_with_file(&damaged, hurt, &located, report)
                    .await?;
            }
        }
        if self.plan.repair {
            self.salvage(&damaged).await?;
        }
        Ok(())
    }

    async fn deal_with_file(
        &mut self,
        damaged: &[Damaged],
        mut hurt: Hurt,
        located: &Located,
        report: &mut Report<'_>,
    ) -> Result<(), CheckError> {
        let why = damaged.iter().find(|one| one.object == hurt.object);
        let why = why.map(|one| one.why.clone()).unwrap_or_default();
        let mut what = match hurt.ranges.is_empty() {
            true => format!("{why}; the file can be read all the same"),
            false => why.clone(),
        };
        if located.paths.is_empty() {
            what = format!("inode {}, which has no name: {what}", hurt.ino.0);
        }
        let mut finding = Finding {
            code: "damaged-object",
            what,
            object: Some(crate::data::object_key(hurt.object)),
            paths: located.paths.clone(),
            ranges: hurt.ranges.clone(),
            has_more_ranges: hurt.has_more,
            mended: None,
        };
        if !self.plan.repair {
            self.outcome.left += 1;
            report(&finding);
            return Ok(());
        }
        let mut mended = Mended::Done("what can be read is written to a new object".to_owned());
        while !hurt.ranges.is_empty() {
            let aside = self
                .meta
                .set_aside(hurt.ino, &hurt.ranges, located, &why)
                .await;
            mended = match aside {
                Ok(mended) => mended,
                Err(error @ MetaError::Fenced) => return Err(error.into()),
                Err(error) => Mended::Left(error.to_string()),
            };
            if !hurt.has_more || matches!(mended, Mended::Left(_)) {
                break;
            }
            // The rest of its ranges, now that the first are cut out.
            let after = Some(Ino(hurt.ino.0 - 1));
            let mut rest = self.meta.hurt_by(damaged, after, 1).await?;
            match rest.pop().filter(|rest| rest.ino == hurt.ino) {
                Some(rest) => hurt = rest,
                None => break,
            }
        }
        match &mended {
            Mended::Done(_) => self.outcome.mended += 1,
            Mended::Left(_) => self.outcome.left += 1,
        }
        finding.mended = Some(mended);
        report(&finding);
        Ok(())
    }

    /// Those whose records a newer state of the metadata still has: beside a living writer an
    /// object may have been deleted since, and rightly.
    async fn still_needed(&self, damaged: Vec<Damaged>) -> Result<Vec<Damaged>, CheckError> {
        let Some(newer) = self.meta.look_again().await? else {
            return Ok(damaged);
        };
        let mut needed = Vec::new();
        for one in damaged {
            let record = newer.object(one.object).await?;
            if record.is_some_and(|record| record.live_bytes > 0) {
                needed.push(one);
            }
        }
        let _ = newer.close().await;
        Ok(needed)
    }
}

fn step_of(pass: Pass) -> &'static str {
    match pass {
        Pass::Tables => "reading the metadata",
        Pass::Inodes => "checking inodes, directories and extents",
        Pass::Names => "checking names and links",
        Pass::Objects => "checking live bytes of objects",
    }
}
