//! Reads: overlay over committed extents, frames from the cache, from fetches under way, or fetched now.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tracing::error;

use super::{
    DataError, Inner, OpenFile, ReadReply,
    block::{BLOCK_FRAMES, FrameBytes},
    fetch::Fetch,
    file::{EXTENT_WINDOW_MAX, ExtentWindow, FileState},
    object::ObjectHandle,
    overlay::Piece,
    paid::paid_bytes,
    readahead::WINDOW_MIN,
};
use crate::{
    budget::{Owner, Reclaim, Reservation},
    meta::{Extent, ExtentSource},
};

/// Zeros for holes.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];

/// Files up to this size are read around in their packs.
const SMALL_FILE_MAX: u64 = 1 << 20;

/// Extents that are looked up at once for readahead; they are not kept.
const EXTENTS_AHEAD_MAX: usize = 1024;

/// Windows end at multiples of this: a block of data frames.
const WINDOW_STEP: u64 = 1 << 20;

/// Committed extents are looked up this far ahead of a read.
const EXTENT_LOOKAHEAD: u64 = 64 << 20;

/// Two runs of an object with less than this between them are fetched with one request: a request costs about as much.
const RUN_GAP_MAX: u64 = 256 << 10;

/// Where a run of the answer comes from.
enum Source {
    Memory(Bytes),
    /// Out of the metadata, and paid for by nobody yet.
    Inline(Bytes),
    Zeros(u64),
    Object {
        object: Arc<ObjectHandle>,
        range: Range<u64>,
    },
}

impl Source {
    /// Plaintext bytes of the frames that this source lies in.
    fn frame_bytes(&self) -> u64 {
        match self {
            Source::Object { object, range } => {
                frames_len(object, object.layout.frames_of(range.clone()))
            }
            Source::Memory(_) | Source::Inline(_) | Source::Zeros(_) => 0,
        }
    }
}

/// How one frame of the answer will come.
enum Frame {
    Ready(FrameBytes),
    Coming(Arc<Fetch>),
    Missing,
}

/// The frames of each source of one read, and the runs among them that must be fetched.
struct Plan {
    frames: Vec<Vec<Frame>>,
    runs: Vec<MissingRun>,
    missing_bytes: u64,
}

/// A run of an object, and the part of the file that it is for.
struct StoredRun {
    object: Arc<ObjectHandle>,
    range: Range<u64>,
    file: Range<u64>,
    /// It has several extents, or bytes between them that are of no use. Its frames serve reads at several places, and are kept for them.
    is_scattered: bool,
}

/// Adjacent missing frames of one source; `frames` may go on beyond them.
struct MissingRun {
    source: usize,
    first: usize,
    count: usize,
    object: Arc<ObjectHandle>,
    frames: Range<u64>,
}

impl Inner {
    pub(super) async fn read(
        self: &Arc<Self>,
        open: &OpenFile,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        let file = &open.file;
        file.load(&self.meta).await?;
        let size = file.content.lock().size;
        let end = offset.saturating_add(u64::from(len)).min(size);
        if offset >= end {
            return Ok(ReadReply {
                bytes: Bytes::new(),
            });
        }
        let sources = self.locate(file, offset..end).await?;
        let reply_len = end - offset;

        // Frames and the reply are paid for in one go. Whoever has to wait in line for that holds nothing meanwhile.
        let mut plan = self.plan(&sources, size <= SMALL_FILE_MAX);
        let mut reservation = match self
            .governor
            .try_acquire(Owner::Read, plan.missing_bytes + reply_len)
        {
            Some(reservation) => reservation,
            None => {
                drop(plan);
                let bound = reply_len + sources.iter().map(Source::frame_bytes).sum::<u64>();
                let reservation = self.governor.acquire(Owner::Read, bound).await;
                plan = self.plan(&sources, false);
                reservation
            }
        };
        let frames = self.start_missing(plan, &mut reservation);
        self.read_ahead(open, offset..end, size).await;
        let all_paid_for = !sources
            .iter()
            .any(|source| matches!(source, Source::Inline(_)));
        let mut pieces = Vec::new();
        for (source, frames) in sources.into_iter().zip(frames) {
            match source {
                Source::Memory(bytes) | Source::Inline(bytes) => pieces.push(bytes),
                Source::Zeros(len) => push_zeros(len, &mut pieces),
                Source::Object { object, range } => {
                    collect(&object, range, frames, &mut pieces).await?
                }
            }
        }
        if pieces.len() == 1 && all_paid_for {
            return Ok(ReadReply {
                bytes: pieces.pop().unwrap_or_default(),
            });
        }
        let mut whole = Vec::with_capacity(reply_len as usize);
        pieces
            .iter()
            .for_each(|piece| whole.extend_from_slice(piece));
        reservation.shrink_to(reply_len);
        Ok(ReadReply {
            bytes: paid_bytes(whole, reservation),
        })
    }

    /// Resolves a file range (within the size) to its sources, in order.
    async fn locate(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        range: Range<u64>,
    ) -> Result<Vec<Source>, DataError> {
        let mut sources = Vec::new();
        let (views, base_size) = {
            let content = file.content.lock();
            (content.overlay.view(range), content.base_size)
        };
        for view in views {
            match view.piece {
                Some(Piece::Dirty(bytes) | Piece::Inline { bytes, .. }) => {
                    sources.push(Source::Memory(bytes))
                }
                Some(Piece::Sealed { object, at }) => {
                    let object = self.readable(object).await?;
                    let len = view.range.end - view.range.start;
                    sources.push(Source::Object {
                        object,
                        range: at..at + len,
                    });
                }
                None => {
                    let committed = view.range.start.min(base_size)..view.range.end.min(base_size);
                    if !committed.is_empty() {
                        self.locate_committed(file, committed.clone(), &mut sources)
                            .await?;
                    }
                    let hole = view.range.end - view.range.start.max(committed.end);
                    if hole > 0 {
                        sources.push(Source::Zeros(hole));
                    }
                }
            }
        }
        Ok(sources)
    }

    async fn locate_committed(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        range: Range<u64>,
        sources: &mut Vec<Source>,
    ) -> Result<(), DataError> {
        let mut at = range.start;
        while at < range.end {
            let window = self.extents(file, at..range.end).await?;
            for extent in window.extents.iter() {
                let (from, to) = (
                    extent.offset.max(at),
                    (extent.offset + extent.len).min(range.end),
                );
                if from >= to {
                    continue;
                }
                if at < from {
                    sources.push(Source::Zeros(from - at));
                }
                sources.push(self.source_of(extent, from..to).await?);
                at = to;
            }
            let known = window.range.end.min(range.end);
            if at < known {
                sources.push(Source::Zeros(known - at));
                at = known;
            }
        }
        Ok(())
    }

    async fn source_of(&self, extent: &Extent, range: Range<u64>) -> Result<Source, DataError> {
        let skip = range.start - extent.offset;
        let len = range.end - range.start;
        Ok(match &extent.source {
            ExtentSource::Inline(bytes) => {
                Source::Inline(bytes.slice(skip as usize..(skip + len) as usize))
            }
            ExtentSource::Object { object, at } => Source::Object {
                object: self.objects.get(*object).await?,
                range: at + skip..at + skip + len,
            },
        })
    }

    /// Committed extents from `range.start` on; how far they are known is in the answer.
    pub(super) async fn extents(
        &self,
        file: &FileState,
        range: Range<u64>,
    ) -> Result<ExtentWindow, DataError> {
        let version = match known_extents(file, range.start) {
            Ok(window) => return Ok(window),
            Err(version) => version,
        };
        let wide = range.start..range.end.saturating_add(EXTENT_LOOKAHEAD);
        let window = self.look_up_extents(file, wide, EXTENT_WINDOW_MAX).await?;
        // Inline bytes are not kept: nobody would pay for them. Small files are read at once, and the metadata store has a cache.
        let is_inline = |extent: &Extent| matches!(extent.source, ExtentSource::Inline(_));
        let keep = !window.extents.iter().any(is_inline);
        let Some(paid) = keep.then(|| self.room_to_keep(&window)).flatten() else {
            return Ok(window);
        };
        let mut content = file.content.lock();
        if content.extents_version == version {
            content.extents_paid = paid;
            content.extents = Some(window.clone());
        }
        Ok(window)
    }

    /// The same for a range that is far ahead: what is remembered stays where the reads are.
    async fn extents_ahead(
        &self,
        file: &FileState,
        range: Range<u64>,
    ) -> Result<ExtentWindow, DataError> {
        match known_extents(file, range.start) {
            Ok(window) => Ok(window),
            Err(_) => self.look_up_extents(file, range, EXTENTS_AHEAD_MAX).await,
        }
    }

    async fn look_up_extents(
        &self,
        file: &FileState,
        range: Range<u64>,
        limit: usize,
    ) -> Result<ExtentWindow, DataError> {
        let extents = self.meta.extents(file.ino, range.clone(), limit).await?;
        let known_until = match extents.last() {
            Some(last) if extents.len() >= limit => last.offset + last.len,
            _ => range.end,
        };
        Ok(ExtentWindow {
            range: range.start..known_until,
            extents: Arc::new(extents),
        })
    }

    /// What pays for keeping extents between reads; `None` if there is no room to keep them. They leave half of their share to handles, which wait
    /// for room where this does not.
    fn room_to_keep(&self, window: &ExtentWindow) -> Option<Option<Reservation>> {
        let cost = window.cost();
        if cost == 0 {
            return Some(None);
        }
        let used = self.governor.used_bytes(Owner::Table);
        if used + cost > self.governor.owner_max_bytes(Owner::Table) / 2 {
            return None;
        }
        self.governor.try_acquire(Owner::Table, cost).map(Some)
    }

    /// A handle on an object that may still be on its way; ends its upload early if need be.
    async fn readable(
        self: &Arc<Self>,
        object: crate::meta::ObjectId,
    ) -> Result<Arc<ObjectHandle>, DataError> {
        loop {
            let Some(pending) = self.objects.pending(object) else {
                return self.objects.get(object).await;
            };
            if let Some(handle) = pending.handle() {
                return Ok(handle);
            }
            if let Some(file) = pending.stream_of.and_then(|ino| self.known_file(ino)) {
                self.spawn_finish_stream(&file);
            }
            // Looks again now and then: the upload may have been taken over by another object's end.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(200), pending.finished())
                .await;
        }
    }

    /// Finds each frame of each source: in the cache, in a fetch under way, or in no place yet.
    fn plan(self: &Arc<Self>, sources: &[Source], read_around: bool) -> Plan {
        let mut plan = Plan {
            frames: Vec::with_capacity(sources.len()),
            runs: Vec::new(),
            missing_bytes: 0,
        };
        for (index, source) in sources.iter().enumerate() {
            let Source::Object { object, range } = source else {
                plan.frames.push(Vec::new());
                continue;
            };
            let wanted = object.layout.frames_of(range.clone());
            let frames: Vec<Frame> = wanted
                .clone()
                .map(|frame| self.find(object, frame))
                .collect();
            let mut at = 0;
            while at < frames.len() {
                let missing = frames
                    .iter()
                    .skip(at)
                    .take_while(|frame| matches!(frame, Frame::Missing))
                    .count();
                if missing > 0 {
                    let first = wanted.start + at as u64;
                    let run = self.widen(object, first..first + missing as u64, read_around);
                    plan.missing_bytes += frames_len(object, run.clone());
                    plan.runs.push(MissingRun {
                        source: index,
                        first: at,
                        count: missing,
                        object: object.clone(),
                        frames: run,
                    });
                }
                at += missing.max(1);
            }
            plan.frames.push(frames);
        }
        plan
    }

    fn find(&self, object: &ObjectHandle, frame: u64) -> Frame {
        if let Some(bytes) = self.cache.get((object.id, frame)) {
            return Frame::Ready(FrameBytes::whole(bytes));
        }
        match self.fetches.get((object.id, frame)) {
            Some(fetch) => Frame::Coming(fetch),
            None => Frame::Missing,
        }
    }

    fn is_here(&self, object: &ObjectHandle, frame: u64) -> bool {
        self.cache.contains((object.id, frame)) || self.fetches.get((object.id, frame)).is_some()
    }

    /// Adds the neighbours that should come along with a small file's missing frames, up to the first that is here or coming.
    fn widen(&self, object: &ObjectHandle, missing: Range<u64>, read_around: bool) -> Range<u64> {
        if !read_around {
            return missing;
        }
        let around = self.neighbours.on_miss(object.id, &missing);
        let end = (missing.end + around).min(object.layout.frame_count());
        let end = (missing.end..end)
            .find(|frame| self.is_here(object, *frame))
            .unwrap_or(end);
        missing.start..end
    }

    /// Starts a fetch for each run of missing frames, paid out of `reservation`.
    fn start_missing(
        self: &Arc<Self>,
        plan: Plan,
        reservation: &mut Reservation,
    ) -> Vec<Vec<Frame>> {
        let Plan {
            mut frames, runs, ..
        } = plan;
        let metrics = self.store.metrics();
        metrics.cache_hits.add(
            frames
                .iter()
                .flatten()
                .filter(|frame| !matches!(frame, Frame::Missing))
                .count() as u64,
        );
        for run in runs {
            metrics.cache_misses.add(run.count as u64);
            metrics
                .readahead_frames
                .add(run.frames.end - run.frames.start - run.count as u64);
            let paid = reservation.split(frames_len(&run.object, run.frames.clone()));
            let reads_around = run.frames.end - run.frames.start > run.count as u64;
            let fetch = Fetch::start(self, run.object, run.frames, paid, true);
            if reads_around {
                // Kept alive beyond this read: the neighbours are wanted next.
                self.around.keep(fetch.clone());
            }
            let places = frames
                .get_mut(run.source)
                .into_iter()
                .flatten()
                .skip(run.first)
                .take(run.count);
            places.for_each(|place| *place = Frame::Coming(fetch.clone()));
        }
        frames
    }

    /// Starts what should be fetched ahead of this handle. Never waits for memory, and failures are left to the read that wants the bytes.
    async fn read_ahead(self: &Arc<Self>, open: &OpenFile, read: Range<u64>, size: u64) {
        let share = (self.governor.capacity_bytes() / 2) / (self.windows.active() as u64 + 1);
        // A smaller share is not worth its request: then it is up to the governor who gets a window.
        let size_max = self.config.readahead_bytes_max.min(share.max(WINDOW_MIN));
        let mut let_go = Vec::new();
        let request_bytes = self
            .distance
            .request_bytes(size_max, self.config.fetch_bytes_max);
        let wanted = open
            .window
            .lock()
            .on_read(read, size_max, request_bytes, &mut let_go);
        drop(let_go);
        self.windows.used(&open.window);
        let Some(wanted) = wanted else { return };
        let file = &open.file;
        let aligned = wanted.end / WINDOW_STEP * WINDOW_STEP;
        let wanted_end = if aligned > wanted.start {
            aligned
        } else {
            wanted.end
        };
        let end = wanted_end.min(size).min(file.content.lock().base_size);
        let Ok(runs) = self.stored_runs(file, wanted.start..end).await else {
            return;
        };
        let runs = together(runs);
        let fetched = runs.iter().map(|run| run.range.end - run.range.start).sum();
        let length = end.saturating_sub(wanted.start);
        open.window.lock().note_spread(length, fetched);
        for run in runs {
            if !self.fetch_ahead(open, &run, request_bytes) {
                return;
            }
        }
        let mut window = open.window.lock();
        window.frontier = window.frontier.max(end);
    }

    /// What is stored of `range`, extent by extent.
    async fn stored_runs(
        &self,
        file: &FileState,
        range: Range<u64>,
    ) -> Result<Vec<StoredRun>, DataError> {
        let mut runs = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let window = self.extents_ahead(file, at..range.end).await?;
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
                // Free buffers first, then the frames that were not used for longest: what a reader goes for is worth more.
                if self.blocks.reclaim(len) < len {
                    self.cache.reclaim(len);
                }
                try_acquire()
            }) else {
                return false;
            };
            self.store.metrics().readahead_frames.add(end - start);
            let fetch = Fetch::start(
                self,
                object.clone(),
                start..end,
                reservation,
                run.is_scattered,
            );
            let file_range = if run.is_scattered {
                run.file.clone()
            } else {
                run.file.start + (start * frame_len).saturating_sub(range.start)
                    ..run.file.start + (end * frame_len).min(range.end) - range.start
            };
            open.window.lock().push(file_range, fetch);
            self.windows.used(&open.window);
            // Who came to wait in the meantime has not found it there.
            self.governor.serve();
            start = end;
        }
        true
    }
}

/// What the file remembers of its extents at `at`, or else the version that a lookup would be of.
fn known_extents(file: &FileState, at: u64) -> Result<ExtentWindow, u64> {
    let content = file.content.lock();
    match &content.extents {
        Some(window) if window.range.contains(&at) => Ok(window.clone()),
        _ => Err(content.extents_version),
    }
}

/// Runs as they are best asked for, in the order of the file: those that lie close to each other in their object with one request, wherever in
/// the file they belong. A file that was written at random has each of its objects scattered over it.
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

fn frames_len(object: &ObjectHandle, frames: Range<u64>) -> u64 {
    frames
        .map(|frame| object.layout.frame_plaintext_len(frame))
        .sum()
}

fn push_zeros(mut len: u64, pieces: &mut Vec<Bytes>) {
    while len > 0 {
        let part = len.min(ZEROS.len() as u64);
        pieces.push(Bytes::from_static(
            ZEROS.get(..part as usize).unwrap_or_default(),
        ));
        len -= part;
    }
}

/// Waits for the frames of one source and cuts its part of the answer out of them.
async fn collect(
    object: &ObjectHandle,
    range: Range<u64>,
    frames: Vec<Frame>,
    pieces: &mut Vec<Bytes>,
) -> Result<(), DataError> {
    let frame_len = object.layout.frame_len();
    let mut run: Option<FrameBytes> = None;
    for (index, frame) in (range.start / frame_len..).zip(frames) {
        let bytes = match frame {
            Frame::Ready(bytes) => bytes,
            Frame::Coming(fetch) => fetch.frame(index).await.map_err(|shared| own(&shared))?,
            Frame::Missing => return Err(DataError::Internal("a frame was not asked for".into())),
        };
        let start = range.start.max(index * frame_len) - index * frame_len;
        let end = range.end.min((index + 1) * frame_len) - index * frame_len;
        if end > bytes.len() as u64 {
            return Err(DataError::Internal(format!(
                "object {}: frame {index} is too short",
                object.key
            )));
        }
        let part = bytes.narrow(start as usize, (end - start) as usize);
        if !run.as_mut().is_some_and(|run| run.join(&part)) {
            pieces.extend(run.replace(part).map(FrameBytes::into_bytes));
        }
    }
    pieces.extend(run.map(FrameBytes::into_bytes));
    Ok(())
}

/// Errors are shared by all readers of a fetch; each gets its own.
fn own(shared: &Arc<DataError>) -> DataError {
    match &**shared {
        DataError::Store(error) => DataError::Store(error.clone()),
        other => {
            error!("read failed: {other}");
            DataError::Internal(other.to_string())
        }
    }
}
