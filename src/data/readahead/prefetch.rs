//! Readahead at work: what a window wants, found in the store and asked for.

use std::{ops::Range, sync::Arc, time::Instant};

use super::window::WINDOW_MIN;
use crate::{
    budget::{Owner, Reclaim},
    data::{
        DataError, Inner, OpenFile,
        file::FileState,
        frames::{BLOCK_FRAMES, Fetch, Kept, ObjectHandle},
        read::{View, frames_len},
    },
    meta::ExtentSource,
    seal::codec::DATA_FRAME_LOG2,
};

/// Windows end at multiples of this: a block of data frames.
const WINDOW_STEP: u64 = 1 << 20;

/// Those that are shorter end with a frame, where the file lies in its objects from their
/// beginning.
const FRAME_LEN: u64 = 1 << DATA_FRAME_LOG2;

/// Two runs of an object with less than this between them are fetched with one request: a request
/// costs about as much.
pub(crate) const RUN_GAP_MAX: u64 = 256 << 10;

/// A run of an object, and the part of the file that it is for.
struct StoredRun {
    object: Arc<ObjectHandle>,
    range: Range<u64>,
    file: Range<u64>,
    /// It has several extents, or bytes between them that are of no use. Its frames serve reads at
    /// several places, and are kept for them.
    is_scattered: bool,
}

impl Inner {
    /// Starts what should be fetched ahead of this handle. Never waits for memory, and failures are
    /// left to the read that wants the bytes.
    pub(crate) async fn read_ahead(
        self: &Arc<Self>,
        open: &OpenFile,
        view: Option<&View>,
        read: Range<u64>,
        size: u64,
    ) {
        let share = (self.governor.capacity_bytes() / 2) / (self.windows.active() as u64 + 1);
        // A smaller share is not worth its request: then it is up to the governor who gets a
        // window.
        let size_max = self.config.readahead_bytes_max.min(share.max(WINDOW_MIN));
        let mut let_go = Vec::new();
        let request_bytes = self
            .link
            .request_bytes(size_max, self.config.fetch_bytes_max);
        let wanted = open
            .window
            .lock()
            .on_read(read, size_max, request_bytes, &mut let_go);
        drop(let_go);
        self.windows.used(&open.window);
        let Some(wanted) = wanted else { return };
        let file = &open.file;
        // A window that ends within a frame is let go of when the reader comes to its end, and the
        // frame is fetched again for the rest.
        let aligned = [WINDOW_STEP, FRAME_LEN].map(|step| wanted.end / step * step);
        let wanted_end = aligned
            .into_iter()
            .find(|aligned| *aligned > wanted.start)
            .unwrap_or(wanted.end);
        let visible_size = view.map_or_else(|| file.content.lock().visible_size(), View::size);
        let end = wanted_end.min(size).min(visible_size);
        let Ok(runs) = self.stored_runs(file, view, wanted.start..end).await else {
            return;
        };
        let runs = together(runs);
        let fetched: u64 = runs.iter().map(|run| run.range.end - run.range.start).sum();
        let length = end.saturating_sub(wanted.start);
        let is_scattered = runs.iter().any(|run| run.is_scattered);
        let spread = if is_scattered {
            fetched.div_ceil(length.max(1)).max(2)
        } else {
            1
        };
        open.window.lock().spread = spread;
        if is_scattered {
            self.scattered.note(file.ino, Instant::now());
        }
        for run in runs {
            if !self.fetch_ahead(open, &run, request_bytes) {
                return;
            }
        }
        let mut window = open.window.lock();
        window.frontier = window.frontier.max(end);
    }

    /// Gives the handle's window something that was fetched for this part of the file.
    pub(crate) fn hold_ahead(&self, open: &OpenFile, file: Range<u64>, fetch: Arc<Fetch>) {
        open.window.lock().push(file, fetch);
        self.windows.used(&open.window);
        open.fetched.notify_waiters();
        // Who came to wait in the meantime has not found it there.
        self.governor.serve();
    }

    /// What is stored of `range`, extent by extent.
    async fn stored_runs(
        &self,
        file: &FileState,
        view: Option<&View>,
        range: Range<u64>,
    ) -> Result<Vec<StoredRun>, DataError> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let window = self.extents_ahead(file, view, at..range.end).await?;
            for extent in window.extents.iter() {
                let (from, to) = (
                    extent.offset.max(at),
                    (extent.offset + extent.len).min(range.end),
                );
                if let (true, ExtentSource::Object { object, at: start }) =
                    (from < to, &extent.source)
                {
                    runs.push(StoredRun {
                        object: self.objects.get(*object).await?,
                        range: start + (from - extent.offset)..start + (to - extent.offset),
                        file: from..to,
                        is_scattered: false,
                    });
                }
            }
            at = window.range.end.min(range.end);
        }
        Ok(runs)
    }

    /// Starts fetches for a run of an object; false when there is no room.
    fn fetch_ahead(self: &Arc<Self>, open: &OpenFile, run: &StoredRun, request_bytes: u64) -> bool {
        let StoredRun { object, range, .. } = run;
        let frame_len = object.layout.frame_len();
        let frames = object.layout.frames_of(range.clone());
        let step = (request_bytes / frame_len).max(1);
        let mut start = frames.start;
        while start < frames.end {
            if self.is_here(object, start) {
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
                .find(|frame| self.is_here(object, *frame))
                .unwrap_or(limit);
            let len = frames_len(object, start..end);
            let try_acquire = || self.governor.try_acquire(Owner::Cache, len);
            let Some(reservation) = try_acquire().or_else(|| {
                // Free buffers first, then the frames that were not used for longest: what a reader
                // goes for is worth more.
                if self.blocks.reclaim(len) < len {
                    self.cache.reclaim(len);
                }
                try_acquire()
            }) else {
                return false;
            };
            self.store.metrics().readahead_frames.add(end - start);
            let kept = match run.is_scattered {
                true => Kept::InCache(start..end),
                false => Kept::Nowhere,
            };
            let fetch = Fetch::start(self, object.clone(), start..end, reservation, kept);
            let file_range = if run.is_scattered {
                run.file.clone()
            } else {
                run.file.start + (start * frame_len).saturating_sub(range.start)
                    ..run.file.start + (end * frame_len).min(range.end) - range.start
            };
            self.hold_ahead(open, file_range, fetch);
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
