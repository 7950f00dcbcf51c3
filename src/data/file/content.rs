//! What one file holds now, what of it is on its way, and what may be committed: transitions
//! without I/O. A model test (`model_tests.rs`) drives them with every order of answers and
//! crashes.
//!
//! Writes land in the *overlay*. Pieces leave memory in *takes*: a take is what went together into
//! one object, into the metadata (inline), or only attributes. Takes are committed in the order in
//! which they began, so what is durable is always a state that the file had, never a mixture.
//!
//! Promises:
//! - A take is committed only when its object is in the store, after every take before it.
//! - A commit sets the size to what is covered without a gap of data that was left behind in
//!   memory.
//! - A truncation becomes durable with the first take that began after it: with the contents that
//!   replace what it cut off, never before.
//! - What a take brings is what it took, also where newer writes have replaced that since.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    extents::ExtentWindow,
    overlay::Overlay,
    pattern::{WritePattern, Written},
};
use crate::{
    budget::Reservation,
    data::upload::Placed,
    meta::{Extent, NewObject, ObjectId, Timestamp},
    store::StoreError,
};

/// What somebody waits for goes into the metadata itself, with its extents, if it is at most this
/// much: then one request makes it durable instead of two. Unlike objects, metadata is compacted,
/// at some 4 MB a second 20 ms away, and who writes more than that waits. 32 threads that write and
/// sync files there with `--memory 128MiB` came to 567 a second with 4 KiB each, 510 with 8, 339
/// with 16 and 67 with 64; by packs it is 320 to 360 whatever the size.
const INLINE_DIRTY_MAX: u64 = 4096;

/// And only in files of at most this size. Extents never lie beyond a file's size, so no file,
/// however long it is written and synced a page at a time, has more than this in the metadata:
/// nothing needs to be counted, and nothing moved out later.
const INLINE_SIZE_MAX: u64 = 64 << 10;

/// Takes that wait for data before them, at most; then writers of the file wait until some are
/// committed. Their runs are in memory, some 100 bytes each, and nothing pays for those.
const TAKES_MAX: usize = 24;

/// A file that was emptied and not written since stays as it was in the store for this long:
/// whoever emptied it is about to replace its contents. As long as a local disk keeps dirty pages.
const EMPTIED_FOR: Duration = Duration::from_secs(30);

/// Attributes of contents that are not committed yet; they override those of the inode record.
#[derive(Clone, Copy, Debug)]
pub struct LiveAttributes {
    /// Present size.
    pub size: u64,
    /// Set if a write happened since times were last set explicitly.
    pub mtime: Option<Timestamp>,
    /// As `mtime`.
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
    /// A truncation that no take carries yet cut the committed extents here.
    cut: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    /// Number of the last change.
    pub(crate) change: u64,
    /// Changes up to this one are committed.
    pub(crate) committed: u64,
    /// Takes that are not committed, oldest first.
    takes: VecDeque<Take>,
    next_take: u64,
    /// What [`crate::meta::Meta::applied`] was after the last commit.
    pub(crate) committed_at: u64,
    /// When the oldest uncommitted change was made.
    pub(crate) dirty_since: Option<Instant>,
    /// Somebody waits for everything up to this change.
    pub(crate) wanted: u64,
    /// The file was removed for good.
    pub(crate) discarded: bool,
    /// Why what was written cannot be stored at present.
    pub(crate) errors: Errors,
    /// Committed extents of a part of the file, as last read.
    pub(crate) extents: Option<ExtentWindow>,
    /// What pays for them, if they are more than the few that come with an open file.
    pub(crate) extents_paid: Option<Reservation>,
    /// Bumped when committed extents change, so that a window read before is not kept.
    pub(crate) extents_version: u64,
    /// What pays for this while there are uncommitted contents.
    paid: Option<Reservation>,
    writes: WritePattern,
    /// A sweep over the file that goes on with the next slice.
    sweep: Option<Sweep>,
    /// It was written at random, and what came of that may lie scattered in the store.
    scattered: bool,
}

/// A sweep from the file's beginning to its end, in slices.
#[derive(Clone, Copy)]
struct Sweep {
    began: Instant,
    /// Everything before this that was dirty when the sweep came by has been taken.
    to: u64,
}

/// Refusals that those who wait for this file must hear of, each descriptor once.
#[derive(Default)]
pub(crate) struct Errors {
    /// How many there were.
    count: u64,
    /// The last one, until a commit succeeds.
    standing: Option<StoreError>,
}

impl Errors {
    /// What a descriptor that has heard of `seen` of them must hear now; notes that it has.
    pub(crate) fn report(&self, seen: &mut u64) -> Option<StoreError> {
        let news = *seen < self.count;
        *seen = self.count;
        self.standing.clone().filter(|_| news)
    }

    /// A descriptor that is opened now hears of what still stands.
    pub(crate) fn seen_at_open(&self) -> u64 {
        self.count - u64::from(self.standing.is_some())
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn standing(&self) -> Option<&StoreError> {
        self.standing.as_ref()
    }
}

/// Where a take's pieces are.
#[derive(Clone, Debug)]
enum Place {
    /// In the take itself: a commit may bring them at once.
    Here,
    /// In an object that is on its way.
    OnItsWay(ObjectId),
    /// In an object that is in the store, whole.
    Stored(NewObject),
    /// In an object that can never be stored.
    Lost(ObjectId),
}

impl Place {
    fn object(&self) -> Option<ObjectId> {
        match self {
            Place::Here => None,
            Place::OnItsWay(object) | Place::Lost(object) => Some(*object),
            Place::Stored(new) => Some(new.object),
        }
    }
}

struct Take {
    number: u64,
    place: Place,
    /// What it took.
    runs: Overlay,
    /// All changes up to this one were taken; `None` if dirty bytes were left behind.
    covers: Option<u64>,
    /// The size when it took.
    size: u64,
    /// Bytes from here on were left behind, and nothing committed lies there.
    gap: Option<u64>,
    /// Committed extents from here on were truncated away before it took.
    cut: Option<u64>,
}

impl Take {
    /// The size that it makes durable.
    fn end(&self) -> u64 {
        self.size.min(self.gap.unwrap_or(u64::MAX))
    }

    fn lay(&mut self, object: ObjectId, placed: &[Placed]) {
        for run in placed {
            let len = run.bytes.len() as u64;
            self.runs.put_sealed(run.offset, len, object, run.at);
        }
    }
}

/// Dirty pieces that are about to be taken, and what else there was at that moment.
pub(crate) struct Collected {
    pub(crate) pieces: Vec<(u64, Bytes)>,
    /// They are all that was dirty.
    is_all: bool,
    covers: u64,
    size: u64,
    /// The first byte beyond the committed contents that is dirty and not among the pieces.
    left: Option<u64>,
}

/// One file's part of the next commit.
#[derive(Clone, Debug)]
pub(crate) struct FileCommit {
    /// Objects that it is the first to name.
    pub(crate) objects: Vec<NewObject>,
    pub(crate) extents: Vec<Extent>,
    pub(crate) size: u64,
    pub(crate) cut: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) ctime: Option<Timestamp>,
    /// With it all changes up to this one are committed.
    pub(crate) covers: u64,
    /// The last take in it.
    through: u64,
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
            takes: VecDeque::new(),
            next_take: 0,
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
        let cuts = self.takes.iter().filter_map(|take| take.cut);
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

    /// Puts freshly written bytes over whatever is there.
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

    /// Sets the size. What is cut off in the store goes with the next take.
    pub(crate) fn truncate(&mut self, size: u64) {
        let mut cuts = size < self.visible_size();
        let mut is_less = false;
        self.overlay.cut(size..u64::MAX);
        for take in &mut self.takes {
            take.runs.cut(size..u64::MAX);
            // Nothing is left of what was to replace the contents that it cuts off: they stay until
            // what comes now does.
            let is_void = take.cut.take_if(|cut| size <= *cut).is_some();
            cuts |= is_void;
            is_less |= is_void || size < take.size;
            take.size = take.size.min(size);
            if is_less {
                // Whoever waits for what it took, or for what came after, waits for what replaces
                // that.
                take.covers = None;
            }
        }
        if cuts {
            self.cut = Some(size);
        }
        self.size = size;
    }

    /// Takes `range` out of everything that is not committed; the caller punches what is.
    pub(crate) fn punch(&mut self, range: Range<u64>) {
        self.overlay.cut(range.clone());
        for take in &mut self.takes {
            take.runs.cut(range.clone());
        }
    }

    /// Do its writes jump about, so that what is taken late is taken sorted, and what is
    /// overwritten meanwhile not at all?
    pub(crate) fn is_written_at_random(&self) -> bool {
        self.writes.is_random()
    }

    /// Are bytes of it written again before they go out, so that it may wait longer?
    pub(crate) fn is_overwritten(&self) -> bool {
        self.writes.is_overwriting()
    }

    /// Everything that is dirty was taken.
    fn was_taken(&mut self) {
        self.dirty_since = None;
        self.sweep = None;
        self.writes.was_taken();
    }

    /// A sweep that began at `began` ended at `swept_to`. If nothing is dirty behind that, what is
    /// dirty now was written meanwhile; else some of it may be older, and stays due.
    pub(crate) fn note_sweep(&mut self, began: Instant, swept_to: u64) {
        self.sweep = None;
        if self.is_clean_from(swept_to) {
            self.dirty_since = self.dirty_since.map(|_| began);
            self.writes.was_taken();
        }
    }

    fn is_clean_from(&self, offset: u64) -> bool {
        self.overlay.dirty_pieces(offset..u64::MAX, 1).is_empty()
    }

    /// Where the next slice of the sweep over the file begins; the sweep begins anew where there is
    /// nothing left for it to take.
    pub(crate) fn next_slice(&mut self, now: Instant) -> u64 {
        match self.sweep {
            Some(sweep) if !self.is_clean_from(sweep.to) => sweep.to,
            _ => {
                self.sweep = Some(Sweep { began: now, to: 0 });
                0
            }
        }
    }

    /// The slice that [`Content::next_slice`] began went up to `to`.
    pub(crate) fn slice_ended(&mut self, to: u64) {
        let Some(sweep) = &mut self.sweep else { return };
        sweep.to = to;
        let began = sweep.began;
        if self.is_clean_from(to) {
            self.note_sweep(began, to);
        }
    }

    /// Takes `state` if nothing pays for this yet.
    pub(crate) fn pay_for_state(&mut self, state: &mut Option<Reservation>) {
        if self.paid.is_none() {
            self.paid = state.take();
        }
    }

    /// Does something pay for this?
    pub(crate) fn is_paid_for(&self) -> bool {
        self.paid.is_some()
    }

    /// Nothing is uncommitted any more: what paid for it, to be dropped when no lock is held.
    pub(crate) fn stop_paying_for_state(&mut self) -> Option<Reservation> {
        self.paid.take()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.committed == self.change && self.overlay.is_empty() && self.takes.is_empty()
    }

    pub(crate) fn live(&self) -> Option<LiveAttributes> {
        (!self.is_clean()).then(|| LiveAttributes {
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            dirty_bytes: self.overlay.total_bytes(),
        })
    }

    /// How long the oldest change waits that nothing has taken.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.dirty_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Was the file just emptied, so that new contents are to be expected, and does nobody wait for
    /// it as it is? Taking it now would make it empty in the store.
    pub(crate) fn awaits_contents(&self, now: Instant) -> bool {
        let is_wanted = self.wanted > self.committed;
        self.size == 0 && self.cut.is_some() && self.age(now) < EMPTIED_FOR && !is_wanted
    }

    /// May what is dirty go into a pack? Only if nothing of the file is on its way: packs are
    /// committed as a whole, and takes of a file in order.
    pub(crate) fn may_be_packed(&self) -> bool {
        self.takes.is_empty()
    }

    /// Too many takes wait for each other: writers have to wait too.
    pub(crate) fn is_crowded(&self) -> bool {
        self.takes.len() >= TAKES_MAX
    }

    /// Dirty pieces from `from` on, in order, until they add up to `limit_bytes` or more, to be
    /// taken.
    pub(crate) fn collect(&self, from: u64, limit_bytes: u64) -> Collected {
        self.collect_until(from, u64::MAX, limit_bytes)
    }

    /// The same of those that begin before `until`.
    pub(crate) fn collect_until(&self, from: u64, until: u64, limit_bytes: u64) -> Collected {
        let pieces = self.overlay.dirty_pieces(from..until, limit_bytes);
        let end = pieces
            .last()
            .map_or(from, |(offset, bytes)| offset + bytes.len() as u64);
        let base = self.visible_size();
        // One that begins before `from` may reach beyond the committed size too.
        let astride = self
            .overlay
            .dirty_astride(from)
            .map(|run| run.start.max(base)..run.end);
        let before = self.overlay.first_dirty(base..from);
        let before = before.or_else(|| astride.filter(|run| !run.is_empty()).map(|run| run.start));
        let after = self.overlay.first_dirty(base.max(end)..u64::MAX);
        let collected_bytes: u64 = pieces.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        Collected {
            is_all: collected_bytes == self.overlay.dirty_bytes(),
            pieces,
            covers: self.change,
            size: self.size,
            left: before.or(after),
        }
    }

    /// Notes that of what was collected `placed` went into `object`, and what was written along
    /// with it. What a newer write has replaced meanwhile stays dirty, and is part of the take all
    /// the same. The caller keeps truncations and holes out from collecting to here.
    pub(crate) fn take_into(&mut self, object: ObjectId, collected: &Collected, placed: &[Placed]) {
        let placed_end = placed
            .last()
            .map_or(0, |run| run.offset + run.bytes.len() as u64);
        let base = self.visible_size();
        let first_beyond = |from: u64| {
            collected.pieces.iter().find_map(|(offset, bytes)| {
                let end = offset + bytes.len() as u64;
                (from < end).then_some((*offset).max(from))
            })
        };
        let is_whole = collected.is_all && first_beyond(placed_end).is_none();
        let covers = is_whole.then_some(collected.covers);
        // The first may be within the committed size, and a later one beyond it.
        let unplaced = first_beyond(placed_end.max(base));
        let gap = [collected.left, unplaced].into_iter().flatten().min();
        for run in placed {
            self.overlay
                .mark_sealed(run.offset, &run.bytes, object, run.at);
        }
        if covers == Some(self.change) {
            self.was_taken();
        }
        let goes_on = self.cut.is_none();
        if let Some(last) = self.takes.back_mut()
            && goes_on
            && matches!(last.place, Place::OnItsWay(there) if there == object)
        {
            last.lay(object, placed);
            (last.covers, last.size, last.gap) = (covers, collected.size, gap);
            return;
        }
        let mut take = self.new_take(Place::OnItsWay(object), covers, collected.size, gap);
        take.lay(object, placed);
        if collected.is_all || !placed.is_empty() {
            take.cut = self.cut.take();
        }
        self.takes.push_back(take);
    }

    /// Takes all that is dirty, to be committed as it is.
    pub(crate) fn take_inline(&mut self) {
        let mut take = self.new_take(Place::Here, Some(self.change), self.size, None);
        take.runs = self.overlay.take_inline(take.number);
        take.cut = self.cut.take();
        self.was_taken();
        self.takes.push_back(take);
    }

    /// Takes the attributes, and no bytes.
    pub(crate) fn take_attributes(&mut self) {
        let collected = self.collect(0, 0);
        let covers = collected.is_all.then_some(self.change);
        if covers.is_some() {
            self.was_taken();
        }
        // One that waits behind an object says the newest.
        let waits = self.takes.len() > 1;
        // What was cut off stays as long as something that was written since is not taken.
        let cut = self.cut.take_if(|_| collected.is_all);
        if let Some(last) = self.takes.back_mut()
            && waits
            && matches!(last.place, Place::Here)
            && last.runs.is_empty()
        {
            (last.covers, last.size, last.gap) = (covers, collected.size, collected.left);
            last.cut = [last.cut, cut].into_iter().flatten().min();
            return;
        }
        let mut take = self.new_take(Place::Here, covers, collected.size, collected.left);
        take.cut = cut;
        self.takes.push_back(take);
    }

    fn new_take(&mut self, place: Place, covers: Option<u64>, size: u64, gap: Option<u64>) -> Take {
        let number = self.next_take;
        self.next_take += 1;
        Take {
            number,
            place,
            runs: Overlay::default(),
            covers,
            size,
            gap,
            cut: None,
        }
    }

    /// May what is left to be taken go into the metadata itself? Not while an object is on its way:
    /// it has to be waited for anyway.
    pub(crate) fn fits_inline(&self) -> bool {
        let dirty_bytes = self.overlay.dirty_bytes();
        let is_small = dirty_bytes <= INLINE_DIRTY_MAX && self.size <= INLINE_SIZE_MAX;
        let is_alone = self.takes.iter().all(|take| take.place.object().is_none());
        (is_small || dirty_bytes == 0) && is_alone
    }

    /// Everything that changed is on its way.
    pub(crate) fn everything_taken(&self) -> bool {
        let taken = match self.takes.back() {
            Some(last) => last.covers == Some(self.change),
            None => self.committed == self.change,
        };
        taken && self.overlay.dirty_bytes() == 0
    }

    /// An object is in the store, whole. False if nothing of this file is to be committed of it.
    pub(crate) fn object_stored(&mut self, new: &NewObject) -> bool {
        self.settle_object(new.object, &Place::Stored(new.clone()))
    }

    /// An object can never be stored.
    pub(crate) fn object_lost(&mut self, object: ObjectId, error: &StoreError) {
        if self.settle_object(object, &Place::Lost(object)) {
            self.refused(error);
        }
    }

    fn settle_object(&mut self, object: ObjectId, place: &Place) -> bool {
        let mut found = false;
        for take in &mut self.takes {
            if take.place.object() == Some(object) {
                take.place = place.clone();
                found = true;
            }
        }
        found
    }

    /// An object was refused. Heard of only if it has bytes of this file.
    pub(crate) fn object_refused(&mut self, object: ObjectId, error: &StoreError) {
        let is_ours = |take: &Take| take.place.object() == Some(object);
        if self.takes.iter().any(is_ours) {
            self.refused(error);
        }
    }

    /// A commit of this file was refused.
    pub(crate) fn refused(&mut self, error: &StoreError) {
        self.errors.count += 1;
        self.errors.standing = Some(error.clone());
    }

    /// Are bytes of this file lost, that nothing has replaced since?
    pub(crate) fn has_lost(&self) -> bool {
        let is_lost = |take: &Take| match take.place {
            Place::Lost(object) => self.overlay.has_object(object),
            _ => false,
        };
        self.takes.iter().any(is_lost)
    }

    /// What somebody who has heard of `seen` errors must hear now: a new one, and always that bytes
    /// are lost.
    pub(crate) fn trouble(&self, seen: &mut u64) -> Option<StoreError> {
        let standing = self.errors.standing()?;
        let news = self.errors.report(seen);
        news.or_else(|| self.has_lost().then(|| standing.clone()))
    }

    /// Might [`Content::next_commit`] have something?
    pub(crate) fn may_commit(&self) -> bool {
        self.takes
            .front()
            .is_some_and(|take| !matches!(take.place, Place::OnItsWay(_)))
    }

    /// As many takes as may be committed now, oldest first. Hold the commit lock until
    /// [`Content::commit_ended`].
    pub(crate) fn next_commit(&self) -> Option<FileCommit> {
        let ready = self
            .takes
            .iter()
            .take_while(|take| matches!(take.place, Place::Here | Place::Stored(_)))
            .count();
        // An object is committed with all its takes: it would die if those committed first let go
        // of it.
        let is_end = |count: &usize| {
            let objects = |take: &Take| take.place.object();
            let later = || self.takes.iter().skip(*count).filter_map(objects);
            let earlier = self.takes.iter().take(*count).filter_map(objects);
            earlier
                .into_iter()
                .all(|object| later().all(|other| other != object))
        };
        (1..=ready)
            .rev()
            .filter(is_end)
            .find_map(|count| self.commit_of(count))
            .or_else(|| self.commit_without_lost())
    }

    /// Bytes were lost, and newer ones replaced all of them: all takes together are whole.
    fn commit_without_lost(&self) -> Option<FileCommit> {
        let has_lost = self
            .takes
            .iter()
            .any(|take| matches!(take.place, Place::Lost(_)));
        let is_pending = |take: &Take| matches!(take.place, Place::OnItsWay(_));
        let is_whole = has_lost && !self.has_lost() && !self.takes.iter().any(is_pending);
        let last_is_whole = self.takes.back().is_some_and(|take| take.covers.is_some());
        (is_whole && last_is_whole)
            .then(|| self.commit_of(self.takes.len()))
            .flatten()
    }

    /// The first `count` takes as one commit; `None` if they leave a gap that others are to fill.
    fn commit_of(&self, count: usize) -> Option<FileCommit> {
        let mut runs = Overlay::default();
        let (mut size, mut cut) = (self.base_size, None::<u64>);
        let mut objects: Vec<NewObject> = Vec::new();
        let (mut covers, mut last) = (self.committed, None);
        for take in self.takes.iter().take(count) {
            covers = covers.max(take.covers.unwrap_or(0));
            if let Some(at) = take.cut {
                cut = Some(cut.map_or(at, |before| before.min(at)));
                size = size.min(at);
            }
            size = size.max(take.end());
            match &take.place {
                Place::Lost(_) => {}
                Place::Here | Place::OnItsWay(_) => runs.lay(&take.runs),
                Place::Stored(new) => {
                    runs.lay(&take.runs);
                    if objects.iter().all(|other| other.object != new.object) {
                        objects.push(new.clone());
                    }
                }
            }
            last = Some(take);
        }
        let last = last?;
        let extents = if self.discarded {
            Vec::new()
        } else {
            runs.extents()
        };
        let end = extents
            .last()
            .map_or(0, |extent| extent.offset + extent.len);
        (end <= size).then(|| FileCommit {
            objects,
            extents,
            size,
            cut,
            mtime: self.mtime,
            ctime: self.ctime,
            covers,
            through: last.number,
        })
    }

    /// The commit is applied. What the takes held is returned, to be dropped when no lock is held.
    pub(crate) fn commit_ended(&mut self, commit: &FileCommit, applied: u64) -> Vec<Overlay> {
        let mut done = Vec::new();
        while let Some(take) = self
            .takes
            .pop_front_if(|take| take.number <= commit.through)
        {
            match take.place.object() {
                Some(object) => self.overlay.forget_object(object),
                None => self.overlay.forget_inline(take.number + 1),
            }
            self.committed = self.committed.max(take.covers.unwrap_or(0));
            done.push(take.runs);
        }
        self.committed_at = applied;
        self.base_size = commit.size;
        self.mtime = self.mtime.filter(|now| Some(*now) != commit.mtime);
        self.ctime = self.ctime.filter(|now| Some(*now) != commit.ctime);
        if !self.has_lost() {
            self.errors.standing = None;
        }
        self.invalidate_extents();
        done
    }

    /// For the model test's trace.
    #[cfg(test)]
    pub(crate) fn takes_shown(&self) -> String {
        let shown = self.takes.iter().map(|take| {
            let place = match &take.place {
                Place::Here => "here".to_owned(),
                Place::OnItsWay(object) => format!("on its way in {}", object.number),
                Place::Stored(new) => format!("stored in {}", new.object.number),
                Place::Lost(object) => format!("lost in {}", object.number),
            };
            format!(
                "[{place}: {} bytes, covers {:?}, size {}, gap {:?}, cut {:?}]",
                take.runs.total_bytes(),
                take.covers,
                take.size,
                take.gap,
                take.cut
            )
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The file is gone: nothing of it will be committed. Returns what was dirty, to be dropped
    /// when no lock is held.
    pub(crate) fn discard(&mut self) -> (Overlay, Vec<Overlay>) {
        self.discarded = true;
        self.committed = self.change;
        self.cut = None;
        self.errors.standing = None;
        let runs = self.takes.drain(..).map(|take| take.runs).collect();
        (std::mem::take(&mut self.overlay), runs)
    }

    /// Committed extents changed.
    pub(crate) fn invalidate_extents(&mut self) {
        self.extents = None;
        self.extents_paid = None;
        self.extents_version += 1;
    }
}
