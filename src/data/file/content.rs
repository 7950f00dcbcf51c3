//! The contents of one file as they are now, with the write-back that is in flight: transitions
//! without I/O. A model test (`write_back/model_tests`) drives them with every order of answers and
//! crashes.
//!
//! Writes land in the *overlay*. Dirty pieces that leave memory together, for one object or for the
//! metadata (inline), are a *write-back in flight*; so are attributes alone. Write-back is
//! committed in the order in which it began, so the durable state is always one that the file had,
//! never a mixture.
//!
//! Promises:
//! - A write-back is committed only when its object is in the store, and after all that began
//!   before it.
//! - A commit sets the size to what is covered without a gap of data that was left behind in
//!   memory.
//! - A truncation becomes durable with the first write-back that began after it: with the contents
//!   that replace what it cut off, never before.
//! - A write-back commits the bytes that it began with, also where newer writes have replaced them
//!   since.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    errors::Errors,
    extents::ExtentWindow,
    in_flight::InFlight,
    overlay::Overlay,
    pattern::{WritePattern, Written},
};
use crate::{budget::Reservation, meta::Timestamp};

/// A file that was emptied and not written since stays as it was in the store for this long: the
/// program that emptied it is about to replace its contents. A local disk keeps dirty pages for as
/// long.
const EMPTIED_FOR: Duration = Duration::from_secs(30);

/// Attributes of contents that are not committed yet; they override those of the inode record.
#[derive(Clone, Copy, Debug)]
pub struct LiveAttributes {
    /// Present size.
    pub size: u64,
    /// Set if a write happened since times were last set explicitly.
    pub mtime: Option<Timestamp>,
    /// Set as `mtime` is.
    pub ctime: Option<Timestamp>,
    /// Dirty bytes to add to the record's `allocated` (an estimate: overwrites count twice until
    /// committed).
    pub dirty_bytes: u64,
}

/// See the module's head. Lives under a (short, never awaited under) lock.
pub(crate) struct Content {
    pub(crate) overlay: Overlay,
    /// Present size.
    pub(crate) size: u64,
    /// Size in the committed record: no committed extent lies beyond.
    pub(crate) base_size: u64,
    /// A truncation cut the committed extents here, and no write-back in flight carries that yet.
    pub(super) cut: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    /// Number of the last change.
    pub(crate) change: u64,
    /// Changes up to this one are committed.
    pub(crate) committed: u64,
    /// Write-back in flight, oldest first.
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) next_number: u64,
    /// The value of [`crate::meta::Meta::applied`] after the last commit.
    pub(crate) committed_at: u64,
    /// When the oldest uncommitted change was made.
    pub(crate) dirty_since: Option<Instant>,
    /// Somebody waits for everything up to this change.
    pub(crate) wanted: u64,
    /// The file was removed for good.
    pub(crate) discarded: bool,
    /// Refusals of the file's bytes.
    pub(crate) errors: Errors,
    /// Committed extents of a part of the file, as last read.
    pub(crate) extents: Option<ExtentWindow>,
    /// Pays for them, if they are more than the few that come with an open file.
    pub(crate) extents_paid: Option<Reservation>,
    /// Bumped when committed extents change, so that a window read before is not kept.
    pub(crate) extents_version: u64,
    /// Pays for this state while there are uncommitted contents.
    pub(super) paid: Option<Reservation>,
    pub(super) writes: WritePattern,
    /// A sweep over the file that goes on with the next slice.
    pub(super) sweep: Option<SweepUnderWay>,
    /// The file was written at random, so it may lie scattered in the store.
    pub(super) scattered: bool,
}

/// A sweep from the file's beginning to its end, in slices.
#[derive(Clone, Copy)]
pub(super) struct SweepUnderWay {
    pub(super) began: Instant,
    /// Everything before this offset that was dirty when the sweep came by has left memory.
    pub(super) to: u64,
}

impl Content {
    pub(crate) fn new() -> Content {
        Content {
            overlay: Overlay::default(),
            size: 0,
            base_size: 0,
            cut: None,
            mtime: None,
            ctime: None,
            change: 0,
            committed: 0,
            in_flight: VecDeque::new(),
            next_number: 0,
            committed_at: 0,
            dirty_since: None,
            wanted: 0,
            discarded: false,
            errors: Errors::default(),
            extents: None,
            extents_paid: None,
            extents_version: 0,
            paid: None,
            writes: WritePattern::new(),
            sweep: None,
            scattered: false,
        }
    }

    /// The committed record was read.
    pub(crate) fn load(&mut self, size: u64) {
        self.size = size;
        self.base_size = size;
    }

    /// Committed extents are to be seen up to here; the rest was truncated away.
    pub(crate) fn visible_size(&self) -> u64 {
        let cuts = self.in_flight.iter().filter_map(|entry| entry.cut);
        cuts.chain(self.cut).fold(self.base_size, u64::min)
    }

    /// Notes that something changed at `now`.
    pub(crate) fn touch(&mut self, now: Timestamp) {
        self.mtime = Some(now);
        self.ctime = Some(now);
        self.changed();
    }

    /// Notes that something changed that leaves the times alone.
    pub(crate) fn changed(&mut self) {
        self.change += 1;
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// Puts freshly written bytes over the pieces that are there.
    pub(crate) fn write(&mut self, offset: u64, bytes: Bytes) {
        let len = bytes.len() as u64;
        let dirty_before = self.overlay.dirty_bytes();
        self.overlay.write(offset, bytes);
        self.writes.note(Written {
            offset,
            len,
            replaced_bytes: (dirty_before + len).saturating_sub(self.overlay.dirty_bytes()),
            grew: offset + len > self.size,
        });
        self.size = self.size.max(offset + len);
        self.scattered |= self.writes.is_random();
    }

    /// Was it written at random since this was last asked?
    pub(crate) fn take_scattered(&mut self) -> bool {
        std::mem::take(&mut self.scattered)
    }

    /// Do its writes jump about? Then bytes that go out late go out sorted, and those that are
    /// overwritten meanwhile do not go out at all.
    pub(crate) fn is_written_at_random(&self) -> bool {
        self.writes.is_random()
    }

    /// Are bytes of it written again before they go out, so that it may wait longer?
    pub(crate) fn is_overwritten(&self) -> bool {
        self.writes.is_overwriting()
    }

    /// Everything that was dirty has left memory.
    pub(super) fn nothing_is_dirty(&mut self) {
        self.dirty_since = None;
        self.sweep = None;
        self.writes.begin_span();
    }

    /// Keeps `state` as payment if nothing pays for this yet.
    pub(crate) fn pay_for_state(&mut self, state: &mut Option<Reservation>) {
        if self.paid.is_none() {
            self.paid = state.take();
        }
    }

    /// Does something pay for this?
    pub(crate) fn is_paid_for(&self) -> bool {
        self.paid.is_some()
    }

    /// Nothing is uncommitted any more: returns the reservation that paid for it, to be dropped
    /// when no lock is held.
    pub(crate) fn stop_paying_for_state(&mut self) -> Option<Reservation> {
        self.paid.take()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.committed == self.change && self.overlay.is_empty() && self.in_flight.is_empty()
    }

    pub(crate) fn live(&self) -> Option<LiveAttributes> {
        (!self.is_clean()).then(|| LiveAttributes {
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            dirty_bytes: self.overlay.total_bytes(),
        })
    }

    /// How long the oldest change has been waiting in memory.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.dirty_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// When the oldest change was made that is not committed, or a little before.
    pub(crate) fn uncommitted_since(&self) -> Option<Instant> {
        let in_flight = self.in_flight.iter().map(|entry| entry.since);
        in_flight.chain(self.dirty_since).min()
    }

    /// Was the file just emptied, so that new contents are to be expected, and does nobody wait for
    /// it as it is? Write-back would make it empty in the store now.
    pub(crate) fn awaits_contents(&self, now: Instant) -> bool {
        let is_wanted = self.wanted > self.committed;
        self.size == 0 && self.cut.is_some() && self.age(now) < EMPTIED_FOR && !is_wanted
    }

    /// The file is gone: nothing of it will be committed. Returns what was dirty, to be dropped
    /// when no lock is held.
    pub(crate) fn discard(&mut self) -> (Overlay, Vec<Overlay>) {
        self.discarded = true;
        self.committed = self.change;
        self.cut = None;
        self.errors.standing = None;
        let runs = self.in_flight.drain(..).map(|entry| entry.runs).collect();
        (std::mem::take(&mut self.overlay), runs)
    }

    /// Committed extents changed.
    pub(crate) fn invalidate_extents(&mut self) {
        self.extents = None;
        self.extents_paid = None;
        self.extents_version += 1;
    }

    /// Makes committed `pieces` dirty where nothing uncommitted lies; the bytes that it came to.
    /// The contents do not change, so neither do the times.
    pub(crate) fn put_back(&mut self, pieces: impl Iterator<Item = (u64, Bytes)>) -> u64 {
        let mut moved_bytes = 0;
        for (offset, bytes) in pieces {
            for view in self.overlay.view(offset..offset + bytes.len() as u64) {
                if view.piece.is_none() {
                    let within = (view.range.start - offset) as usize;
                    let len = (view.range.end - view.range.start) as usize;
                    let untouched = bytes.slice(within..within + len);
                    self.overlay.write(view.range.start, untouched);
                    moved_bytes += len as u64;
                }
            }
        }
        if moved_bytes > 0 {
            self.changed();
        }
        moved_bytes
    }
}
