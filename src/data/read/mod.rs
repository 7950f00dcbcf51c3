//! Reads: overlay over committed extents, frames from the cache, from fetches under way, or fetched
//! now.

mod follow;
mod locate;
mod plan;
mod under_way;
mod wide;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use tracing::error;

use self::plan::{Frame, Plan};
use crate::{
    budget::{Owner, Reservation},
    data::{
        DataError, Inner, OpenFile, ReadReply,
        frames::{FrameBytes, ObjectHandle},
        paid::paid_bytes,
    },
};

pub(crate) use follow::{View, ViewSlot};
pub(crate) use plan::{Beyond, Source, frames_len, missing_bytes_max};
pub(crate) use under_way::Reads;
pub(crate) use wide::WIDE_PLACES_MAX;

/// Zeros for holes.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];

impl Inner {
    pub(crate) async fn read(
        self: &Arc<Self>,
        open: &OpenFile,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        match self.view(&open.file).await? {
            Some(view) => self.read_followed(open, view, offset, len).await,
            None => {
                open.file.load(&self.meta).await?;
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
            });
        }
        let sources = self.locate(file, view, offset..end).await?;
        let reply_len = end - offset;

        // A reader in order has a window instead.
        let beyond = match open.window.lock().is_continued_by(&(offset..end)) {
            true => Beyond::Nothing,
            false => Beyond::Region,
        };
        let plan = self.plan(&sources, beyond);
        let bytes = plan.missing_bytes + plan.reply_bytes;
        let try_acquire = || self.governor.try_acquire(Owner::Read, bytes);
        // More would take everything from the caches, and then perhaps still wait.
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
                    open.window.lock().answered();
                    return Ok(reply);
                }
                self.plan_in_line(open, &sources, offset..end).await
            }
        };
        let reply_bytes = plan.reply_bytes;
        let frames = self.start_missing(open, &sources, &(offset..end), plan, &mut reservation);
        // What turned out not to be missing.
        reservation.shrink_to(reply_bytes);
        self.read_ahead(open, view, offset..end, size).await;
        let all_paid_for = !sources
            .iter()
            .any(|source| matches!(source, Source::Inline(_)));
        let mut pieces = gather(sources, frames).await?;
        open.window.lock().answered();
        if pieces.len() == 1 && all_paid_for {
            return Ok(ReadReply {
                bytes: pieces.pop().unwrap_or_default(),
            });
        }
        debug_assert!(
            reservation.bytes() >= reply_len,
            "a reply in pieces that was to be in one"
        );
        let mut whole = Vec::with_capacity(reply_len as usize);
        pieces
            .iter()
            .for_each(|piece| whole.extend_from_slice(piece));
        Ok(ReadReply {
            bytes: paid_bytes(whole, reservation),
        })
    }

    /// Waits in line for what frames and reply take, all in one go: whoever waits holds nothing
    /// meanwhile. It comes back with more than this read: with many readers in line, each turn is
    /// worth one request, whatever its size. Another read of the same handle may have had its turn
    /// before; then there may be nothing left to wait for.
    async fn plan_in_line(
        self: &Arc<Self>,
        open: &OpenFile,
        sources: &[Source],
        read: Range<u64>,
    ) -> (Plan, Reservation) {
        let turn_bytes = self.config.turn_bytes();
        let mut onward = open.window.lock().onward(&read, turn_bytes);
        let bound_with = |onward| read.end - read.start + missing_bytes_max(sources, onward);
        let mut bound = bound_with(onward);
        if bound > self.read_bytes_max() {
            (onward, bound) = (0, bound_with(0));
        }
        let in_line = self.governor.acquire(Owner::Read, bound);
        tokio::pin!(in_line);
        loop {
            let fetched = open.fetched.notified();
            tokio::pin!(fetched);
            fetched.as_mut().enable();
            let plan = self.plan(sources, Beyond::Nothing);
            if plan.missing_bytes + plan.reply_bytes == 0
                && let Some(nothing) = self.governor.try_acquire(Owner::Read, 0)
            {
                return (plan, nothing);
            }
            drop(plan);
            tokio::select! {
                reservation = &mut in_line => {
                    // Later reads may have gone before this one.
                    let onward = open.window.lock().onward(&read, onward);
                    return (self.plan(sources, Beyond::Onward(onward)), reservation);
                }
                () = fetched => {}
            }
        }
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

/// Errors are shared by all readers of a fetch; each gets its own.
fn own(shared: &Arc<DataError>) -> DataError {
    match &**shared {
        DataError::Store(error) => DataError::Store(error.clone()),
        DataError::Stale(gone) => DataError::Stale(gone.clone()),
        other => {
            error!("read failed: {other}");
            DataError::Internal(other.to_string())
        }
    }
}
