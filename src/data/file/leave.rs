//! How dirty bytes leave memory: they are collected, and go into an object, into the metadata, or
//! as attributes alone.

use std::time::Instant;

use bytes::Bytes;

use super::{
    content::Content,
    in_flight::{InFlight, Place},
    overlay::Overlay,
};
use crate::{data::upload::Placed, meta::ObjectId};

/// Dirty bytes that a sync waits for go into the metadata itself, with their extents, if they are
/// at most this many: then one request makes them durable instead of two. Unlike objects, metadata
/// is compacted, at some 4 MB a second 20 ms away, and a program that writes more than that waits.
/// 32 threads that write and sync files there with `--memory 128MiB` came to 567 a second with 4
/// KiB each, 510 with 8, 339 with 16 and 67 with 64; by packs it is 320 to 360 whatever the size.
const INLINE_DIRTY_MAX: u64 = 4096;

/// They go there only in files of at most this size. Extents never lie beyond a file's size, so no
/// file, however long it is written and synced a page at a time, has more than this in the
/// metadata: nothing needs to be counted, and nothing moved out later.
const INLINE_SIZE_MAX: u64 = 64 << 10;

/// Write-backs of one file that are in flight at most; then its writers wait until some are
/// committed. Their runs are in memory, some 100 bytes each, and nothing pays for those.
const IN_FLIGHT_MAX: usize = 24;

/// Dirty pieces that are about to leave memory, and the state of the file at that moment.
pub(crate) struct Collected {
    pub(crate) pieces: Vec<(u64, Bytes)>,
    /// These are all the dirty pieces.
    pub(super) is_all: bool,
    pub(super) covers: u64,
    pub(super) size: u64,
    /// The first byte beyond the committed contents that is dirty and not among the pieces.
    pub(super) left: Option<u64>,
}

impl Content {
    fn begin(&mut self, entry: InFlight) {
        // Most files have one at a time, and thousands of files may have one.
        if self.in_flight.is_empty() {
            self.in_flight.reserve_exact(1);
        }
        self.in_flight.push_back(entry);
    }

    /// May the dirty bytes go into a pack? Only if nothing of the file is in flight: packs are
    /// committed as a whole, and the write-back of a file in order.
    pub(crate) fn may_be_packed(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Is so much in flight, each waiting for what began before it, that writers have to wait too?
    pub(crate) fn is_crowded(&self) -> bool {
        self.in_flight.len() >= IN_FLIGHT_MAX
    }

    /// Dirty pieces from `from` on, in order, until they add up to `limit_bytes` or more.
    pub(crate) fn collect(&self, from: u64, limit_bytes: u64) -> Collected {
        self.collect_until(from, u64::MAX, limit_bytes)
    }

    /// The same for pieces that begin before `until`.
    pub(crate) fn collect_until(&self, from: u64, until: u64, limit_bytes: u64) -> Collected {
        let pieces = self.overlay.dirty_pieces(from..until, limit_bytes);
        let end = pieces
            .last()
            .map_or(from, |(offset, bytes)| offset + bytes.len() as u64);
        let base = self.visible_size();
        // A piece that begins before `from` may reach beyond the committed size too.
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

    /// Notes that `placed`, of the collected pieces and of what was written along with them, went
    /// into `object`. A piece that a newer write has replaced meanwhile stays dirty there, and is
    /// in flight all the same. The caller keeps truncations and holes out from collecting to here.
    pub(crate) fn begin_in_object(
        &mut self,
        object: ObjectId,
        collected: &Collected,
        placed: &[Placed],
    ) {
        let placed_end = placed
            .last()
            .map_or(0, |run| run.offset + run.bytes.len() as u64);
        let base = self.visible_size();
        let since = self.dirty_since;
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
            self.nothing_is_dirty();
        }
        let goes_on = self.cut.is_none();
        if let Some(last) = self.in_flight.back_mut()
            && goes_on
            && matches!(last.place, Place::OnItsWay(there) if there == object)
        {
            last.lay(object, placed);
            (last.covers, last.size, last.gap) = (covers, collected.size, gap);
            return;
        }
        let place = Place::OnItsWay(object);
        let mut entry = self.new_in_flight(place, since, covers, collected.size, gap);
        entry.lay(object, placed);
        if collected.is_all || !placed.is_empty() {
            entry.cut = self.cut.take();
        }
        self.begin(entry);
    }

    /// All that is dirty leaves memory, to be committed inline.
    pub(crate) fn begin_inline(&mut self) {
        let (since, covers) = (self.dirty_since, Some(self.change));
        let mut entry = self.new_in_flight(Place::Here, since, covers, self.size, None);
        entry.runs = self.overlay.begin_inline(entry.number);
        entry.cut = self.cut.take();
        self.nothing_is_dirty();
        self.begin(entry);
    }

    /// Attributes alone go into flight.
    pub(crate) fn begin_attributes(&mut self) {
        let collected = self.collect(0, 0);
        let since = self.dirty_since;
        let covers = collected.is_all.then_some(self.change);
        if covers.is_some() {
            self.nothing_is_dirty();
        }
        // Attributes that wait behind an object are brought up to date.
        let waits = self.in_flight.len() > 1;
        // The extents that were cut off stay as long as something that was written since is still
        // in memory.
        let cut = self.cut.take_if(|_| collected.is_all);
        if let Some(last) = self.in_flight.back_mut()
            && waits
            && matches!(last.place, Place::Here)
            && last.runs.is_empty()
        {
            (last.covers, last.size, last.gap) = (covers, collected.size, collected.left);
            last.cut = [last.cut, cut].into_iter().flatten().min();
            return;
        }
        let (size, left) = (collected.size, collected.left);
        let mut entry = self.new_in_flight(Place::Here, since, covers, size, left);
        entry.cut = cut;
        self.begin(entry);
    }

    fn new_in_flight(
        &mut self,
        place: Place,
        since: Option<Instant>,
        covers: Option<u64>,
        size: u64,
        gap: Option<u64>,
    ) -> InFlight {
        let number = self.next_number;
        self.next_number += 1;
        InFlight {
            number,
            place,
            since: since.unwrap_or_else(Instant::now),
            runs: Overlay::default(),
            covers,
            size,
            gap,
            cut: None,
        }
    }

    /// May the dirty bytes go into the metadata itself? Not while an object is on its way: it has
    /// to be waited for anyway.
    pub(crate) fn fits_inline(&self) -> bool {
        let dirty_bytes = self.overlay.dirty_bytes();
        let is_small = dirty_bytes <= INLINE_DIRTY_MAX && self.size <= INLINE_SIZE_MAX;
        let is_alone = self
            .in_flight
            .iter()
            .all(|entry| entry.place.object().is_none());
        (is_small || dirty_bytes == 0) && is_alone
    }

    /// Is every change in flight or committed?
    pub(crate) fn is_all_in_flight(&self) -> bool {
        let taken = match self.in_flight.back() {
            Some(last) => last.covers == Some(self.change),
            None => self.committed == self.change,
        };
        taken && self.overlay.dirty_bytes() == 0
    }

    /// For the model test's trace.
    #[cfg(test)]
    pub(crate) fn in_flight_shown(&self) -> String {
        let shown = self.in_flight.iter().map(|entry| {
            let place = match &entry.place {
                Place::Here => "here".to_owned(),
                Place::OnItsWay(object) => format!("on its way in {}", object.number),
                Place::Stored(new) => format!("stored in {}", new.object.number),
                Place::Lost(object) => format!("lost in {}", object.number),
            };
            format!(
                "[{place}: {} bytes, covers {:?}, size {}, gap {:?}, cut {:?}]",
                entry.runs.total_bytes(),
                entry.covers,
                entry.size,
                entry.gap,
                entry.cut
            )
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}
