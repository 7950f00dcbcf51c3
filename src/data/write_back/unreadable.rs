//! The log's word on a file whose tiny pieces are not put together, because the bytes between them
//! cannot be read.
//!
//! No written bytes are lost by that. But the operator should hear of it: some of the file's
//! contents are gone from the store or damaged, and writes there cost more metadata than they
//! should.

use std::{collections::HashSet, ops::Range};

use parking_lot::Mutex;

use super::WriteBack;
use crate::{data::DataError, meta::Ino, telemetry::InLog};

/// Files that the log tells of, each once; those beyond are counted only. Damage to so many files
/// is no news with the next one.
const TOLD_MAX: usize = 1024;

/// The files that the log told of.
#[derive(Default)]
pub(crate) struct UnreadableFiles {
    told: Mutex<HashSet<Ino>>,
}

impl UnreadableFiles {
    fn is_news(&self, ino: Ino) -> bool {
        let mut told = self.told.lock();
        told.len() < TOLD_MAX && told.insert(ino)
    }
}

impl WriteBack {
    /// The bytes that are stored of a file somewhere in `range` could not be read.
    pub(crate) fn note_unreadable(&self, ino: Ino, range: &Range<u64>, error: &DataError) {
        // A mount that was taken over reads nothing any more, and that is told already.
        if self.check().is_err() {
            return;
        }
        self.shared.store.metrics().unread_gaps.increment();
        let (start, end, file) = (range.start, range.end, InLog(ino.0));
        if self.unreadable.is_news(ino) {
            tracing::warn!(
                "{file}: what is stored of it between byte {start} and {end} cannot be read: {error}. What is written there \
                 is safe, but stays in small pieces, and reads of the rest fail. `strongroom fsck --data` names all that is hurt"
            );
        } else {
            tracing::debug!("{file}: {start} to {end} stays in crumbs: {error}");
        }
    }
}
