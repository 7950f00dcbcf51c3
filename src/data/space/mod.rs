//! Space: which committed bytes are cut off, moved or put in order, and which objects are deleted.
//!
//! `truncate.rs` sets sizes and punches holes. `moving.rs` makes committed bytes dirty again, for
//! `repack.rs` (objects with few live bytes, which `survey.rs` may choose), `rewrite.rs` (objects
//! under older keys), `mend.rs` (regions in many extents) and `defragment/` (scattered files).
//! `reclaim.rs` deletes dead objects, unless a follower still reads them (`readers.rs`);
//! `leftovers.rs` finds those that nothing names.

mod defragment;
mod leftovers;
mod mend;
mod moving;
mod readers;
mod reclaim;
mod repack;
mod rewrite;
mod survey;
mod truncate;

use std::sync::Arc;

use self::{moving::Moves, readers::Readers};
use crate::data::{read::Reading, shared::Shared, write_back::WriteBack};

pub use leftovers::{Sweep, Swept};
pub use rewrite::{OlderContents, Rewriting, Rewritten};

pub(crate) use leftovers::{LEASE, SESSION_PAGES_MAX, object_of, session_of, session_prefix};
pub(crate) use readers::READERS_PREFIX;
#[cfg(any(fuzzing, test))]
pub(crate) use readers::{RECORD_LEN, ReaderRecord};

/// See the module's head.
pub(crate) struct Space {
    shared: Arc<Shared>,
    reading: Arc<Reading>,
    write_back: Arc<WriteBack>,
    moves: Moves,
    readers: Readers,
}

impl Space {
    pub(crate) fn new(
        shared: Arc<Shared>,
        reading: Arc<Reading>,
        write_back: Arc<WriteBack>,
    ) -> Space {
        Space {
            shared,
            reading,
            write_back,
            moves: Moves::default(),
            readers: Readers::default(),
        }
    }

    /// Starts the background tasks of every mount.
    pub(crate) fn start(self: &Arc<Self>) {
        self.shared.tasks.spawn(self.clone().mend_loop());
    }

    /// Starts those of a writable mount.
    pub(crate) fn start_reclaim(self: &Arc<Self>) {
        let tasks = &self.shared.tasks;
        tasks.spawn(self.clone().reclaim_loop());
        tasks.spawn(self.clone().defragment_loop());
    }

    /// Starts those of a read-only mount.
    pub(crate) fn start_telling(self: &Arc<Self>) {
        self.shared.tasks.spawn(self.clone().reader_loop());
    }

    /// From now on nothing is made dirty in the background any more.
    pub(crate) fn end_moves(&self) {
        self.moves.end();
    }
}
