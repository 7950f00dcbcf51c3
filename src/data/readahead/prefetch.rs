//! Prefetch for a window: what it wants is asked of the store, run by run.

use std::{ops::Range, sync::Arc};

use super::{Handle, Readahead, window::WINDOW_MIN};
use crate::{
    budget::{Owner, Reclaim},
    data::frames::{BLOCK_FRAMES, Fetch, Kept, ObjectHandle, frames_len},
    seal::codec::DATA_FRAME_LOG2,
};

/// Windows end at multiples of this: a block of data frames.
const WINDOW_STEP: u64 = 1 << 20;

/// Shorter windows end with a frame, where the file lies in its objects from their beginning.
const FRAME_LEN: u64 = 1 << DATA_FRAME_LOG2;

/// Two runs of an object with less than this between them are fetched with one request: a request
/// costs about as much.
pub(crate) const RUN_GAP_MAX: u64 = 256 << 10;

/// The part of a file that should be fetched ahead of a handle.
pub(crate) struct Wanted {
    pub(crate) file: Range<u64>,
    /// The most that one request brings.
    request_bytes: u64,
}

/// A run of an object, and the part of the file that it is for.
pub(crate) struct StoredRun {
    pub(crate) object: Arc<ObjectHandle>,
    /// Where the run lies in the object.
    pub(crate) range: Range<u64>,
    /// The part of the file that the fetch is for.
    pub(crate) file: Range<u64>,
    /// It has several extents, or bytes between them that are of no use. Its frames serve reads at
    /// several places, and are kept for them.
    pub(crate) is_scattered: bool,
}

impl Readahead {
    /// Notes a read of a handle on a file of `file_len` bytes; returns what should be fetched ahead
    /// of it now, if anything.
    pub(crate) fn wanted(
        &self,
        handle: &Handle,
        read: Range<u64>,
        file_len: u64,
    ) -> Option<Wanted> {
        let config = &self.shared.config;
        let share =
            (self.shared.governor.capacity_bytes() / 2) / (self.registry.active() as u64 + 1);
        // A smaller share is not worth its request: then the governor decides which handles get a
        // window.
        let size_max = config.readahead_bytes_max.min(share.max(WINDOW_MIN));
        let mut let_go = Vec::new();
        let link = &self.frames.link;
        let request_bytes = link.request_bytes(size_max, config.fetch_bytes_max);
        let wanted =
            handle
                .window
                .lock()
                .on_read(read, size_max, request_bytes, file_len, &mut let_go);
        drop(let_go);
        self.registry.used(&handle.window);
        let wanted = wanted?;
        // A window that ends within a frame is let go of when the reader comes to its end, and the
        // frame is fetched again for the rest.
        let aligned = [WINDOW_STEP, FRAME_LEN].map(|step| wanted.end / step * step);
        let end = aligned
            .into_iter()
            .find(|aligned| *aligned > wanted.start)
            .unwrap_or(wanted.end);
        Some(Wanted {
            file: wanted.start..end,
            request_bytes,
        })
    }

    /// Starts fetches for `runs`, which are what is stored of `wanted`. Never waits for memory.
    /// Returns whether the file lies scattered there.
    pub(crate) fn fetch(
        self: &Arc<Self>,
        handle: &Handle,
        wanted: &Wanted,
        runs: Vec<StoredRun>,
    ) -> bool {
        let runs = together(runs);
        let fetched: u64 = runs.iter().map(|run| run.range.end - run.range.start).sum();
        let length = wanted.file.end.saturating_sub(wanted.file.start);
        let is_scattered = runs.iter().any(|run| run.is_scattered);
        let spread = if is_scattered {
            fetched.div_ceil(length.max(1)).max(2)
        } else {
            1
        };
        handle.window.lock().spread = spread;
        let has_room = |run: &StoredRun| self.fetch_run(handle, run, wanted.request_bytes);
        if runs.iter().all(has_room) {
            let mut window = handle.window.lock();
            window.frontier = window.frontier.max(wanted.file.end);
        }
        is_scattered
    }

    /// Gives the handle's window something that was fetched for this part of the file.
    pub(crate) fn hold(&self, handle: &Handle, file: Range<u64>, fetch: Arc<Fetch>) {
        handle.window.lock().push(file, fetch);
        self.registry.used(&handle.window);
        handle.fetched.notify_waiters();
        // A read that began to wait in the meantime has not found it there.
        self.shared.governor.serve();
    }

    /// Starts fetches for a run of an object; false when there is no room.
    fn fetch_run(self: &Arc<Self>, handle: &Handle, run: &StoredRun, request_bytes: u64) -> bool {
        let StoredRun { object, range, .. } = run;
        let frame_len = object.layout.frame_len();
        let frames = object.layout.frames_of(range.clone());
        let step = (request_bytes / frame_len).max(1);
        let mut start = frames.start;
        while start < frames.end {
            if self.frames.is_here(object, start) {
                start += 1;
                continue;
            }
            // Fetches end where blocks end, so that large reads find whole blocks.
            let aligned = (start + step) / BLOCK_FRAMES * BLOCK_FRAMES;
            let limit = frames.end.min(if aligned > start {
                aligned
            } else {
                start + step
            });
            let end = (start + 1..limit)
                .find(|frame| self.frames.is_here(object, *frame))
                .unwrap_or(limit);
            let len = frames_len(object, start..end);
            let try_acquire = || self.shared.governor.try_acquire(Owner::Cache, len);
            let Some(reservation) = try_acquire().or_else(|| {
                // Free buffers first, then the frames that were not used for longest: what a reader
                // goes for is worth more.
                if self.frames.blocks.reclaim(len) < len {
                    self.frames.cache.reclaim(len);
                }
                try_acquire()
            }) else {
                return false;
            };
            let starting = self.frames.starting.lock();
            if (start..end).any(|frame| self.frames.is_here(object, frame)) {
                // A read has begun to fetch some of it meanwhile.
                continue;
            }
            self.shared
                .store
                .metrics()
                .readahead_frames
                .add(end - start);
            let kept = match run.is_scattered {
                true => Kept::InCache(start..end),
                false => Kept::Nowhere,
            };
            let fetch = Fetch::start(&self.frames, object.clone(), start..end, reservation, kept);
            drop(starting);
            let file_range = if run.is_scattered {
                run.file.clone()
            } else {
                run.file.start + (start * frame_len).saturating_sub(range.start)
                    ..run.file.start + (end * frame_len).min(range.end) - range.start
            };
            self.hold(handle, file_range, fetch);
            start = end;
        }
        true
    }
}

/// Runs as they are best asked for, in the order of the file: those that lie close to each other in
/// their object with one request, wherever in the file they belong. A file that was written at
/// random has each of its objects scattered over it.
fn together(mut runs: Vec<StoredRun>) -> Vec<StoredRun> {
    runs.sort_by_key(|run| (run.object.id, run.range.start));
    let mut merged: Vec<StoredRun> = Vec::new();
    for run in runs {
        match merged.last_mut() {
            Some(last)
                if last.object.id == run.object.id
                    && run.range.start <= last.range.end + RUN_GAP_MAX =>
            {
                last.is_scattered |=
                    run.range.start != last.range.end || run.file.start != last.file.end;
                last.range.end = last.range.end.max(run.range.end);
                last.file = last.file.start.min(run.file.start)..last.file.end.max(run.file.end);
            }
            _ => merged.push(run),
        }
    }
    merged.sort_by_key(|run| run.file.start);
    merged
}
