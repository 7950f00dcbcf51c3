//! Reads: the overlay over committed extents; frames from the cache, from fetches under way, or
//! fetched now.
//!
//! `locate.rs` finds where the bytes of a range are, `plan.rs` which of their frames have to be
//! fetched, and `wide.rs` reads what needs too much memory at once. `follow.rs` reads for a
//! follower, `gaps.rs` for write-back and for moving. Never: waits for memory while it holds some,
//! but for the one wide read.

mod follow;
mod gaps;
mod here;
mod locate;
mod open_file;
mod plan;
mod prefetch;
mod seek;
mod streams_wanted;
mod under_way;
mod wide;

use std::{ops::Range, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::Semaphore;

use self::{
    plan::{Beyond, Frame, Plan, Source, missing_bytes_max},
    streams_wanted::StreamsWanted,
    under_way::ReadsUnderWay,
    wide::WIDE_PLACES_MAX,
};
use crate::{
    budget::{Owner, Reservation},
    data::{
        DataError,
        file::{FileState, FileTable, ScatteredFiles, View},
        frames::{FrameBytes, Frames, ObjectHandle},
        paid::paid_bytes,
        readahead::{FILE_MIN, Readahead, Stretch},
        shared::Shared,
    },
    meta::Ino,
};

pub use open_file::OpenFile;
pub use seek::Seek;

/// See the module's head.
pub(crate) struct Reading {
    shared: Arc<Shared>,
    pub(crate) frames: Arc<Frames>,
    pub(crate) readahead: Arc<Readahead>,
    /// Files that are open or have uncommitted contents.
    pub(crate) files: Arc<FileTable>,
    /// Files that may lie scattered in the store.
    pub(crate) scattered: ScatteredFiles,
    /// Files whose streams a reader waits for.
    pub(crate) streams_wanted: StreamsWanted,
    pub(crate) under_way: ReadsUnderWay,
    /// Held by the one wide read that is carried out.
    wide_read: tokio::sync::Mutex<()>,
    /// Places for readers that wait for it and hold the places of their bytes.
    wide_places: Semaphore,
}

/// Contents on their way to a reader; what pays for them is released when the last view of `bytes`
/// is dropped.
pub struct ReadReply {
    /// The bytes, in one piece.
    pub bytes: Bytes,
    /// All of them were on this machine: nothing was asked of the store.
    pub was_here: bool,
    /// The part of the file that should be read in order and kept, for small reads miss so much of
    /// it; only if [`OpenFile::taking_stretches`].
    pub stretch: Option<Stretch>,
}

/// Reads up to this length in no order are small: they may ask for a stretch.
pub const SMALL_READ_MAX: u64 = 16 << 10;

impl Reading {
    pub(crate) fn new(
        shared: Arc<Shared>,
        frames: Arc<Frames>,
        readahead: Arc<Readahead>,
    ) -> Reading {
        Reading {
            shared,
            frames,
            readahead,
            files: Arc::default(),
            scattered: ScatteredFiles::default(),
            streams_wanted: StreamsWanted::default(),
            under_way: ReadsUnderWay::default(),
            wide_read: tokio::sync::Mutex::default(),
            wide_places: Semaphore::new(WIDE_PLACES_MAX),
        }
    }

    /// The state of a file, made if there is none.
    pub(crate) fn file(&self, ino: Ino) -> Arc<FileState> {
        self.files.get(ino)
    }

    /// The state of a file, with its committed size known.
    pub(crate) async fn loaded(&self, ino: Ino) -> Result<Arc<FileState>, DataError> {
        let file = self.file(ino);
        file.load(&self.shared.meta).await?;
        Ok(file)
    }

    /// The state of a file that somebody holds.
    pub(crate) fn known_file(&self, ino: Ino) -> Option<Arc<FileState>> {
        self.files.known(ino)
    }
}

/// The zeros of holes, without memory of their own.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];

impl Reading {
    pub(crate) async fn read(
        self: &Arc<Self>,
        open: &OpenFile,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        match self.view(&open.file).await? {
            Some(view) => self.read_followed(open, view, offset, len).await,
            None => {
                open.file.load(&self.shared.meta).await?;
                let size = open.file.content.lock().size;
                self.read_at(open, None, size, offset, len).await
            }
        }
    }

    /// A read of a file that is `size` bytes long; a follower's is one of `view`.
    pub(crate) async fn read_at(
        self: &Arc<Self>,
        open: &OpenFile,
        view: Option<&View>,
        size: u64,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        let file = &open.file;
        let len = u64::from(len).min(self.read_bytes_max());
        let end = offset.saturating_add(len).min(size);
        if offset >= end {
            return Ok(ReadReply {
                bytes: Bytes::new(),
                was_here: true,
                stretch: None,
            });
        }
        let sources = self.locate(file, view, offset..end).await?;
        let reply_len = end - offset;

        // A reader in order has a window instead of regions.
        let in_order = open.ahead.window.lock().is_continued_by(&(offset..end));
        let takes_stretch = !in_order
            && open.takes_stretches
            && size >= FILE_MIN
            && reply_len <= SMALL_READ_MAX
            && sources.iter().any(Source::is_short_run);
        let beyond = match (in_order, takes_stretch) {
            (true, _) => Beyond::Nothing,
            (_, true) => Beyond::NothingKept,
            _ => Beyond::Region,
        };
        let plan = self.plan(&sources, beyond);
        let bytes = plan.missing_bytes + plan.reply_bytes;
        let try_acquire = || self.shared.governor.try_acquire(Owner::Read, bytes);
        // A larger reservation would take everything from the caches, and then perhaps still wait.
        let is_modest = bytes <= self.read_bytes_max();
        let (plan, mut reservation) = match is_modest.then(try_acquire).flatten() {
            Some(reservation) => (plan, reservation),
            None => {
                drop(plan);
                let bound = reply_len + missing_bytes_max(&sources, 0);
                if bound > self.read_bytes_max() {
                    drop(sources);
                    let _place = self.wide_places.acquire().await;
                    // This may wait for an upload, so it comes before the turn.
                    let sources = self.locate(file, view, offset..end).await?;
                    let turn = self.wide_turn().await;
                    let reply = self.read_wide(turn, open, offset..end, sources).await?;
                    self.read_ahead(open, view, offset..end, size).await;
                    open.ahead.window.lock().answered();
                    return Ok(reply);
                }
                self.plan_in_line(open, &sources, offset..end).await
            }
        };
        let reply_bytes = plan.reply_bytes;
        let was_here = plan.is_on_this_machine(&self.frames);
        let missed_since = (takes_stretch && plan.misses_any()).then(Instant::now);
        let (frames, has_come) =
            self.start_missing(open, &sources, &(offset..end), plan, &mut reservation);
        // The frames that turned out not to be missing need no room. Where some have come
        // meanwhile, their room pays for the answer.
        reservation.shrink_to(if has_come { reply_len } else { reply_bytes });
        self.read_ahead(open, view, offset..end, size).await;
        let all_paid_for = all_paid_for(&sources);
        let pieces = gather(sources, frames).await?;
        open.ahead.window.lock().answered();
        let stretch = missed_since
            .and_then(|began| self.readahead.stretch_around(file.ino, size, offset, began));
        let reply = reply(pieces, all_paid_for, reply_len, reservation);
        Ok(ReadReply {
            was_here,
            stretch,
            ..reply
        })
    }

    /// Waits in line for the memory of frames and reply in one go, so a read that waits holds
    /// nothing. The plan covers more than this read: with many readers in line, each turn is worth
    /// one request, whatever its size. Another read of the same handle may have had its turn
    /// before; then there may be nothing left to wait for.
    async fn plan_in_line(
        self: &Arc<Self>,
        open: &OpenFile,
        sources: &[Source],
        read: Range<u64>,
    ) -> (Plan, Reservation) {
        let turn_bytes = self.shared.config.turn_bytes();
        let mut onward = open.ahead.window.lock().onward(&read, turn_bytes);
        let bound_with = |onward| read.end - read.start + missing_bytes_max(sources, onward);
        let mut bound = bound_with(onward);
        if bound > self.read_bytes_max() {
            (onward, bound) = (0, bound_with(0));
        }
        let in_line = self.shared.governor.acquire(Owner::Read, bound);
        tokio::pin!(in_line);
        loop {
            let fetched = open.ahead.fetched.notified();
            tokio::pin!(fetched);
            fetched.as_mut().enable();
            let plan = self.plan(sources, Beyond::Nothing);
            if plan.missing_bytes + plan.reply_bytes == 0
                && let Some(nothing) = self.shared.governor.try_acquire(Owner::Read, 0)
            {
                return (plan, nothing);
            }
            drop(plan);
            tokio::select! {
                reservation = &mut in_line => {
                    // Later reads may have gone before this one.
                    let onward = open.ahead.window.lock().onward(&read, onward);
                    return (self.plan(sources, Beyond::Onward(onward)), reservation);
                }
                () = fetched => {}
            }
        }
    }
}

/// Whether the bytes of all sources are paid for.
fn all_paid_for(sources: &[Source]) -> bool {
    !sources
        .iter()
        .any(|source| matches!(source, Source::Inline(_)))
}

/// The answer made of these pieces, `len` bytes in all; they are copied into memory that
/// `reservation` pays for unless there is one that is paid for already.
fn reply(
    mut pieces: Vec<Bytes>,
    all_paid_for: bool,
    len: u64,
    reservation: Reservation,
) -> ReadReply {
    if pieces.len() == 1 && all_paid_for {
        return ReadReply {
            bytes: pieces.pop().unwrap_or_default(),
            was_here: true,
            stretch: None,
        };
    }
    debug_assert!(
        reservation.bytes() >= len,
        "a reply in pieces that was to be in one"
    );
    let mut whole = Vec::with_capacity(len as usize);
    pieces
        .iter()
        .for_each(|piece| whole.extend_from_slice(piece));
    ReadReply {
        bytes: paid_bytes(whole, reservation),
        was_here: true,
        stretch: None,
    }
}

/// Waits for all frames; returns the pieces that the answer is made of, in order.
pub(crate) async fn gather(
    sources: Vec<Source>,
    frames: Vec<Vec<Frame>>,
) -> Result<Vec<Bytes>, DataError> {
    let mut pieces = Vec::new();
    for (source, frames) in sources.into_iter().zip(frames) {
        match source {
            Source::Memory(bytes) | Source::Inline(bytes) => pieces.push(bytes),
            Source::Zeros(len) => push_zeros(len, &mut pieces),
            Source::Object { object, range, .. } => {
                collect(&object, range, frames, &mut pieces).await?
            }
        }
    }
    Ok(pieces)
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
pub(crate) async fn collect(
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

/// All readers of a fetch share its error; this makes a copy for one of them.
fn own(shared: &Arc<DataError>) -> DataError {
    match &**shared {
        DataError::Store(error) => DataError::Store(error.clone()),
        DataError::Stale(gone) => DataError::Stale(gone.clone()),
        other => DataError::Internal(other.to_string()),
    }
}
