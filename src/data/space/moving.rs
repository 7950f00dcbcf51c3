//! Moving committed bytes: they are read and made dirty again, as if they had been written, and
//! write-back puts them into a new object. The old object dies by itself.
//!
//! Promises: what was written since is never replaced; a crash at any time leaves the bytes where
//! they were, or where they went.
//!
//! An unmount ends moving before it drains. Nothing would be lost otherwise, because what is moved
//! is committed already. But an object with such copies could be uploaded after the drain and never
//! be committed, and nobody would look for it: a session that is unmounted counts as one that
//! committed all that it uploaded.

use std::{ops::Range, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use super::Space;
use crate::{
    budget::Owner,
    data::{DataError, OpenFile, WriteBuffer, file::FileState, write_back::buffer_cost},
};

/// Extents that are looked up at a time, and moved in one step.
pub(crate) const EXTENTS_AT_ONCE: usize = 256;

/// Bytes moved in one step.
const STEP_BYTES: u64 = 1 << 20;

/// A step begins anew when something of its file was committed meanwhile, so often at most; what is
/// left then is moved in a later round.
const STEP_TRIES: u32 = 4;

/// Ranges of one file that are read and made dirty at once.
pub(crate) struct Step {
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) bytes: u64,
    bytes_max: u64,
}

impl Step {
    /// A step of at most `bytes_max` ([`Space::step_bytes`]).
    pub(crate) fn of(bytes_max: u64) -> Step {
        Step {
            ranges: Vec::new(),
            bytes: 0,
            bytes_max,
        }
    }

    /// Moves as much from the front of `rest` into this step as it has room for.
    pub(crate) fn take_from(&mut self, rest: &mut Range<u64>) {
        let len = (rest.end - rest.start).min(self.bytes_max - self.bytes);
        self.ranges.push(rest.start..rest.start + len);
        self.bytes += len;
        rest.start += len;
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max || self.ranges.len() >= EXTENTS_AT_ONCE
    }
}

/// The outcome of a step.
pub(crate) enum Moved {
    /// So many bytes are dirty again.
    Bytes(u64),
    /// Something of the file was committed meanwhile.
    Overtaken,
    /// There is no room for so many bytes of dirty data now.
    NoRoom { cost: u64 },
}

/// Whether moving has ended, for good.
#[derive(Default)]
pub(crate) struct Moves {
    ended: Mutex<bool>,
}

/// Moving does not end while this is held. Hold it until the file is in the table of dirty files.
pub(crate) struct Move<'a> {
    _not_ended: MutexGuard<'a, bool>,
}

impl Moves {
    /// `None` once moving has ended.
    pub(crate) fn begin(&self) -> Option<Move<'_>> {
        let ended = self.ended.lock();
        (!*ended).then_some(Move { _not_ended: ended })
    }

    pub(crate) fn end(&self) {
        *self.ended.lock() = true;
    }
}

impl Space {
    /// False while a mount drains, and from its last drain on: its user waits for what was written,
    /// and moving would add to it.
    pub(crate) fn may_move(&self) -> bool {
        !self.write_back.is_draining() && self.moves.begin().is_some()
    }

    /// Bytes moved in one step. They are no more than a read may return: else the step could hold
    /// all the memory of readers while it waits for more frames. And they are no more than a share
    /// of the room for dirty data.
    pub(crate) fn step_bytes(&self) -> u64 {
        let room = self.shared.governor.owner_max_bytes(Owner::Dirty) / 4;
        STEP_BYTES.min(self.reading.read_bytes_max()).min(room)
    }

    /// Makes a committed run dirty again.
    pub(crate) async fn move_extent(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        offset: u64,
        len: u64,
    ) -> Result<(), DataError> {
        let mut rest = offset..offset + len;
        while !rest.is_empty() {
            let mut step = Step::of(self.step_bytes());
            step.take_from(&mut rest);
            self.move_ranges(file, &step.ranges, None).await?;
        }
        Ok(())
    }

    /// Reads what is committed in `ranges`, which are in order, and puts it into the overlay as if
    /// it had been written, unless something newer is there. Returns how many bytes that came to.
    /// With a handle, what follows and what lies around is fetched too, as for a program.
    pub(crate) async fn move_ranges(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        ranges: &[Range<u64>],
        open: Option<&OpenFile>,
    ) -> Result<u64, DataError> {
        let mut tries = 0;
        while tries < STEP_TRIES {
            match self.move_ranges_if_room(file, ranges, open).await? {
                Moved::Bytes(bytes) => return Ok(bytes),
                Moved::Overtaken => tries += 1,
                // The bytes that were read are dropped before the wait for room, and read again.
                Moved::NoRoom { cost } => {
                    drop(self.shared.governor.acquire(Owner::Dirty, cost).await)
                }
            }
        }
        Ok(0)
    }

    /// As [`Space::move_ranges`], but once, and only if there is room for it now. No effect once
    /// moving has ended.
    pub(crate) async fn move_ranges_if_room(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        ranges: &[Range<u64>],
        open: Option<&OpenFile>,
    ) -> Result<Moved, DataError> {
        if self.moves.begin().is_none() {
            return Ok(Moved::Bytes(0));
        }
        let (version, end) = {
            let content = file.content.lock();
            (content.extents_version, content.visible_size())
        };
        let there = |range: &Range<u64>| range.start..range.end.min(end);
        let ranges: Vec<_> = ranges
            .iter()
            .map(there)
            .filter(|range| !range.is_empty())
            .collect();
        let pieces = match open {
            Some(open) => self.reading.read_gaps(open, &ranges, true).await?,
            // A handle of its own: what follows in the file is not wanted.
            None => {
                let open = self.reading.open(file.ino);
                self.reading.read_gaps(&open, &ranges, false).await?
            }
        };
        let len: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        if len == 0 {
            return Ok(Moved::Bytes(0));
        }
        let cost = buffer_cost(len);
        let Some(reservation) = self.shared.governor.try_acquire(Owner::Dirty, cost) else {
            return Ok(Moved::NoRoom { cost });
        };
        let mut whole = Vec::with_capacity(len);
        let mut places = Vec::with_capacity(pieces.len());
        for (offset, bytes) in pieces {
            places.push((offset, whole.len()..whole.len() + bytes.len()));
            whole.extend_from_slice(&bytes);
        }
        let buffer = WriteBuffer::paid(whole, reservation);
        let places = places.into_iter();
        let pieces = places.map(|(offset, place)| (offset, buffer.bytes.slice(place)));
        let mut state = Some(buffer.state);
        let _no_commit = file.commit.lock().await;
        let moved_bytes = {
            let Some(_move) = self.moves.begin() else {
                return Ok(Moved::Bytes(0));
            };
            let mut content = file.content.lock();
            if content.discarded {
                return Ok(Moved::Bytes(0));
            }
            if content.extents_version != version {
                return Ok(Moved::Overtaken);
            }
            let moved_bytes = content.put_back(pieces);
            if moved_bytes > 0 {
                content.pay_for_state(&mut state);
            }
            drop(content);
            if moved_bytes > 0 {
                self.write_back.mark_dirty(file);
            }
            moved_bytes
        };
        drop(state);
        Ok(Moved::Bytes(moved_bytes))
    }
}
