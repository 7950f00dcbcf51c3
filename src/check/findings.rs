//! The words of a check: its findings, its progress, its outcome, its errors.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::{
    meta::{Counted, Mended, MetaError},
    store::StoreError,
};

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// A name for programs that never changes.
    pub code: &'static str,
    /// A sentence that says what is wrong.
    pub what: String,
    /// The object at fault: its key in the bucket, below the volume's prefix.
    pub object: Option<String>,
    /// All paths of the file that it hurts.
    pub paths: Vec<Bytes>,
    /// The bytes of that file that cannot be read.
    pub ranges: Vec<Range<u64>>,
    /// There are more ranges than these.
    pub has_more_ranges: bool,
    /// The outcome of mending, in a repair.
    pub mended: Option<Mended>,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Counts of the metadata.
    pub counted: Counted,
    /// Frames that were opened, and their stored bytes.
    pub frames: u64,
    /// See `frames`.
    pub frame_bytes: u64,
    /// Things that are wrong and were left so.
    pub left: u64,
    /// Things that were mended.
    pub mended: u64,
    /// Objects of known sessions that the metadata does not name, and their bytes. They are uploads
    /// under way, or leftovers.
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
    /// A writer went on, and the state that was checked is not there any more.
    #[error("the volume was written to, and the state that was being checked is gone")]
    Overtaken,
    /// The volume has no such path, inode or object.
    #[error("{0}")]
    NotThere(String),
    /// A fault of this program, or a bound that was reached.
    #[error("{0}")]
    Internal(String),
}

/// How far a check is, for a display.
#[derive(Debug, Default)]
pub struct Progress {
    step: Mutex<&'static str>,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl Progress {
    /// The step under way.
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

    pub(super) fn begin(&self, step: &'static str, total_bytes: u64) {
        *self.step.lock() = step;
        self.done_bytes.store(0, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    pub(super) fn add(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Called with each finding, as it is found.
pub type Report<'a> = dyn FnMut(&Finding) + Send + 'a;
