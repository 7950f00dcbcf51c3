//! Prefetch of regions: the density policy fetches a region along with a miss, and the fetches live
//! longer than the read that missed.
//!
//! A region is asked for in pieces, some at a time. A piece is paid for when it begins: out of free
//! memory, then out of frames that were not used for longest. When there is no room for a piece, or
//! somebody else needs some, the rest is given up. Pieces of a region that is too large for the
//! memory go to the local disk, if there is a cache.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use futures::{StreamExt, stream::FuturesUnordered};

use super::{
    Readahead,
    density::{MEMORY_SHARE_MAX, Miss, Requests, Sizes, requests},
    region_queue::Piece,
};
use crate::{
    budget::{Owner, Reclaim, Reservation},
    data::frames::{Fetch, Kept, ObjectHandle, Outcome, TO_DISK_BYTES, ToDisk, frames_len},
    disk::DiskCache,
};

/// Regions may count on so much of the local disk's cache: what is evicted there goes by age, and
/// in large steps.
const DISK_SHARE: f64 = 0.75;

/// The requests for one run of missed frames, and what pays for more than these.
pub(crate) struct Region {
    pub(crate) requests: Requests,
    pub(crate) beyond: Option<Reservation>,
    /// The memory has no room for the pieces that are fetched later: they go to the local disk.
    pub(crate) to_disk: bool,
}

impl Region {
    /// Only the missed frames.
    fn alone(missed: &Range<u64>) -> Region {
        let (first, then) = (missed.clone(), Vec::new());
        Region {
            requests: Requests { first, then },
            beyond: None,
            to_disk: false,
        }
    }
}

impl Readahead {
    /// The requests in place of one for a run of frames that a read misses and is about to fetch.
    pub(crate) fn region_of(&self, object: &Arc<ObjectHandle>, missed: &Range<u64>) -> Region {
        let mut miss = Miss {
            object: object.id,
            frames: missed.clone(),
            object_frames: object.layout.frame_count(),
            frame_len: object.layout.frame_len(),
            was_evicted: false,
        };
        if missed
            .clone()
            .all(|frame| self.frames.is_on_disk(object.id, frame))
        {
            // No request is made for it.
            return Region::alone(missed);
        }
        let cost = self.frames.link.cost();
        let (memory, disk_room) = (self.frames_bytes_max(), self.disk_room_bytes());
        let region = match self.regions.take_waiting(object.id, missed.start) {
            Some(piece) => piece.start.min(missed.start)..piece.end.max(missed.end),
            None => {
                let outcome = self.outcome(&mut miss);
                let room = memory.max(disk_room);
                self.density.lock().on_miss(&miss, &cost, room, outcome)
            }
        };
        let is_too_large =
            frames_len(object, region.clone()) as f64 > MEMORY_SHARE_MAX * memory as f64;
        let to_disk = is_too_large && disk_room > 0;
        let mut sizes = Sizes::new(memory, self.frames.link.is_far(), miss.frame_len);
        if to_disk {
            // The frames after the missed ones go to the disk as well.
            sizes.onward = 0;
        }
        let is_here = |frame| self.is_here_or_on_disk(object, frame);
        let requests = requests(&region, &miss, &cost, sizes, is_here);
        let beyond_bytes =
            frames_len(object, requests.first.clone()) - frames_len(object, missed.clone());
        let beyond = match beyond_bytes {
            0 => None,
            bytes => self.frames.spare_room(bytes),
        };
        if beyond_bytes > 0 && beyond.is_none() {
            return Region::alone(missed);
        }
        Region {
            requests,
            beyond,
            to_disk,
        }
    }

    /// Tells how many frames that were fetched along have been read or evicted unread, and notes in
    /// `miss` whether its frame was evicted lately. A frame that memory evicts unread is still on
    /// the disk, where there is one, so it counts as fetched in vain only once the disk evicts it
    /// too.
    fn outcome(&self, miss: &mut Miss) -> Outcome {
        let (mut outcome, was_evicted) =
            self.frames.cache.outcome((miss.object, miss.frames.start));
        miss.was_evicted = was_evicted;
        if let Some(disk) = &self.frames.disk {
            let guesses = disk.take_guesses();
            outcome.arrived_bytes += self.regions.to_disk_bytes.swap(0, Ordering::Relaxed);
            outcome.used_bytes += guesses.right * miss.frame_len;
            outcome.unread_bytes = match disk.room_bytes() {
                0 => outcome.unread_bytes,
                _ => guesses.wrong * miss.frame_len,
            };
        }
        outcome
    }

    /// Bytes of the local disk that regions may count on.
    fn disk_room_bytes(&self) -> u64 {
        let room = self.frames.disk.as_ref().map_or(0, DiskCache::room_bytes);
        (room as f64 * DISK_SHARE) as u64
    }

    fn is_here_or_on_disk(&self, object: &ObjectHandle, frame: u64) -> bool {
        self.frames.is_here(object, frame)
            || self.frames.is_on_disk(object.id, frame)
            || self.regions.comes_to_disk(object, frame)
    }

    /// The most memory that frames can have as long as nobody else takes more.
    fn frames_bytes_max(&self) -> u64 {
        let others_ahead = self
            .shared
            .governor
            .used_bytes(Owner::Cache)
            .saturating_sub(self.frames.cache.bytes());
        let readable = self.shared.governor.reach_bytes(Owner::Read, Owner::Cache);
        readable.saturating_sub(others_ahead)
    }

    /// Starts pieces of regions as far as there is room.
    fn start_pieces(self: &Arc<Self>) {
        let under_way_bytes_max = Sizes::under_way_bytes(self.frames_bytes_max());
        let requests_max = self.shared.config.region_requests_max;
        while let Some((object, frames, to_disk)) =
            self.regions.next(requests_max, under_way_bytes_max)
        {
            let _starting = self.frames.starting.lock();
            let Some(frames) = self.absent_of(&object, frames) else {
                continue;
            };
            let disk = self.frames.disk.as_ref().filter(|_| to_disk);
            let bytes = match disk {
                Some(_) => TO_DISK_BYTES,
                None => frames_len(&object, frames.clone()),
            };
            let Some(reservation) = self.frames.spare_room(bytes) else {
                self.regions.give_up_waiting();
                return;
            };
            let metrics = self.shared.store.metrics();
            metrics.readahead_frames.add(frames.end - frames.start);
            let piece = match disk {
                Some(disk) => {
                    let disk = disk.clone();
                    let bytes = frames_len(&object, frames.clone());
                    let begun = &self.regions.to_disk_bytes;
                    begun.fetch_add(bytes, Ordering::Relaxed);
                    Piece::ToDisk(ToDisk::start(
                        &self.frames,
                        disk,
                        object,
                        frames,
                        reservation,
                    ))
                }
                None => {
                    let kept = Kept::InCache(frames.start..frames.start);
                    Piece::ToMemory(Fetch::start(
                        &self.frames,
                        object,
                        frames,
                        reservation,
                        kept,
                    ))
                }
            };
            self.regions.keep_piece(piece);
        }
    }

    /// The part of `frames` that is left without those at both ends that are here.
    fn absent_of(&self, object: &ObjectHandle, frames: Range<u64>) -> Option<Range<u64>> {
        let is_absent = |frame: &u64| !self.is_here_or_on_disk(object, *frame);
        let first = frames.clone().find(is_absent)?;
        let last = frames.rev().find(is_absent)?;
        Some(first..last + 1)
    }

    pub(crate) async fn region_loop(self: Arc<Self>) {
        let mut ends = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.shared.stop.cancelled() => break,
                () = self.regions.wake.notified() => {}
                Some(()) = ends.next(), if !ends.is_empty() => self.regions.sweep(),
            }
            self.start_pieces();
            ends.extend(self.regions.unwatched());
        }
        self.regions.reclaim(u64::MAX);
    }
}
