//! Whether a volume is whole: its metadata, the objects that it names, and on demand each frame of
//! them. With `repair`, faults are mended.
//!
//! The metadata comes first ([`Meta::check`]), because the rest relies on it. Then the objects: a
//! listing of each session's prefix is compared with the records of that session (`objects.rs`),
//! and frames are read and opened (`frames.rs`). A damaged object is reported as the files that it
//! hurts: paths and ranges (`damaged.rs`).
//!
//! `inventory.rs` and what stands with it find no faults: they tell what is where.
//!
//! Promises: without `repair` nothing is written. Memory is bounded, whatever the size of the
//! volume and the number of faults. Beside a living writer it checks one state of the metadata, and
//! an object that is missing or damaged counts only if a newer state still needs it. With `repair`
//! only rows and objects that a fault names are touched; after each round of mendings the metadata
//! is checked again. Never: takes the lease or opens the volume (its caller does); prints.

mod answer;
mod damaged;
mod findings;
mod frames;
mod inventory;
mod kinds;
mod metadata;
mod objects;
mod plan;
mod salvage;
mod tally;
mod target;
mod usage;
mod which;

use std::sync::Arc;

use crate::{
    meta::{Meta, MetaError},
    seal::keys::VolumeKeys,
    store::Store,
};
pub use answer::Answer;
pub use findings::{CheckError, Finding, Outcome, Progress, Report};
pub use inventory::{Inventory, Writing};
pub use plan::CheckPlan;
pub use tally::{EpochTally, Kind, Tally, Uploads, Usage};
pub use target::Target;

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

    /// Checks, and in a repair mends.
    ///
    /// # Errors
    /// The check did not come to an end. Findings until then have been reported.
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

    /// Tells whether a failed check was overtaken: a writer that has gone on may have deleted the
    /// tables under this follower.
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
}
