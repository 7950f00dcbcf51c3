//! Whether what is committed may be made dirty again: repacking and mending do, so that write-back
//! moves it elsewhere.
//!
//! An unmount ends that before it drains. Nothing would be lost otherwise, because what is moved is
//! committed already. But an object with such copies could be uploaded after the drain and never be
//! committed, and nobody would look for it: a session that is unmounted counts as one that
//! committed all that it uploaded.

use std::sync::atomic::Ordering;

use parking_lot::{Mutex, MutexGuard};

use super::{Data, DataError, Inner};

/// Whether moving has ended, for good.
#[derive(Default)]
pub(super) struct Moves {
    ended: Mutex<bool>,
}

/// While this is held moving does not end: hold it until the table of dirty files has what is made
/// dirty.
pub(super) struct Move<'a> {
    _not_ended: MutexGuard<'a, bool>,
}

impl Moves {
    /// `None` once moving has ended.
    pub fn begin(&self) -> Option<Move<'_>> {
        let ended = self.ended.lock();
        (!*ended).then_some(Move { _not_ended: ended })
    }

    fn end(&self) {
        *self.ended.lock() = true;
    }
}

impl Data {
    /// As [`Data::drain`], for the last time: from the call on nothing is made dirty in the
    /// background any more, so [`Data::shutdown`] leaves nothing behind.
    pub async fn finish(&self) -> Result<(), DataError> {
        self.inner.moves.end();
        self.drain().await
    }
}

impl Inner {
    /// False while a mount drains, and from its last drain on: its user waits for what was written,
    /// and moving would add to it.
    pub(super) fn may_move(&self) -> bool {
        !self.draining.load(Ordering::Acquire) && self.moves.begin().is_some()
    }
}
