//! Opening the frames of one object, piece by piece.
//!
//! A piece is a run of frames that is fetched with one request. Its body is opened frame by frame
//! as it arrives, so a piece takes the memory of one frame and of the connection. A frame that does
//! not open is fetched once more before it counts: a bit may have flipped on the way.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;

use super::{CheckError, Progress};
use crate::{
    meta::{Damaged, ObjectId},
    seal::{
        codec::{HEADER_LEN, Layout, Opener, TAG_LEN},
        keys::VolumeKeys,
    },
    store::{Body, Store, StoreError, StoreErrorKind},
};

/// Frames of a piece: 8 MiB of 64 KiB.
const PIECE_FRAMES: u64 = 128;

/// An object while its pieces are read.
pub(super) struct Examined {
    object: ObjectId,
    opener: Opener,
    keys: Arc<VolumeKeys>,
    stored_len: u64,
    store: Store,
    progress: Arc<Progress>,
    pieces_left: AtomicUsize,
    header_is_bad: AtomicBool,
    /// Runs of frames that do not open.
    bad: Mutex<Vec<Range<u64>>>,
}

/// A run of frames.
pub(super) struct Piece {
    of: Arc<Examined>,
    frames: Range<u64>,
}

impl Examined {
    pub(super) fn new(
        object: ObjectId,
        opener: Opener,
        keys: Arc<VolumeKeys>,
        stored_len: u64,
        store: Store,
        progress: Arc<Progress>,
    ) -> Examined {
        let pieces = opener.layout().frame_count().div_ceil(PIECE_FRAMES);
        Examined {
            object,
            opener,
            keys,
            stored_len,
            store,
            progress,
            pieces_left: AtomicUsize::new(usize::try_from(pieces).unwrap_or(usize::MAX)),
            header_is_bad: AtomicBool::new(false),
            bad: Mutex::default(),
        }
    }

    fn layout(&self) -> Layout {
        self.opener.layout()
    }

    /// The verdict on an object when all its pieces are read.
    fn sum_up(&self) -> Option<Damaged> {
        let layout = self.layout();
        let key = self.opener.path();
        let mut frames = std::mem::take(&mut *self.bad.lock());
        frames.sort_by_key(|run| run.start);
        let mut bad: Vec<Range<u64>> = Vec::new();
        for run in &frames {
            let range = plaintext_of(&layout, run);
            match bad.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => bad.push(range),
            }
        }
        let expected_len = layout.stored_len();
        let why = if self.stored_len != expected_len {
            format!(
                "object {key} has {} bytes in the bucket and must have {expected_len}",
                self.stored_len
            )
        } else if let Some(first) = frames.first() {
            let more = match frames.len() > 1 || first.end - first.start > 1 {
                true => " and others",
                false => "",
            };
            format!(
                "object {key}: frame {}{more} does not authenticate",
                first.start
            )
        } else if self.header_is_bad.load(Ordering::Acquire) {
            format!("object {key}: its header does not authenticate")
        } else {
            return None;
        };
        Some(Damaged {
            object: self.object,
            why,
            bad,
        })
    }
}

fn plaintext_of(layout: &Layout, frames: &Range<u64>) -> Range<u64> {
    let at = |frame: u64| {
        frame
            .saturating_mul(layout.frame_len())
            .min(layout.plaintext_len)
    };
    at(frames.start)..at(frames.end)
}

/// All pieces of an object.
pub(super) fn pieces(of: &Arc<Examined>) -> impl Iterator<Item = Piece> + use<> {
    let (of, frames) = (Arc::clone(of), of.layout().frame_count());
    (0..frames.div_ceil(PIECE_FRAMES)).map(move |index| Piece {
        of: Arc::clone(&of),
        frames: index * PIECE_FRAMES..frames.min((index + 1) * PIECE_FRAMES),
    })
}

impl Piece {
    /// Reads the piece. Returns the verdict on the object if it was its last piece.
    pub(super) async fn examine(self) -> Result<Option<Damaged>, CheckError> {
        let of = &self.of;
        for frame in self.read(self.frames.clone()).await? {
            // Each run is fetched once more, by itself.
            if !self.read(frame..frame + 1).await?.is_empty() {
                let mut bad = of.bad.lock();
                match bad.last_mut() {
                    Some(run) if run.end == frame => run.end += 1,
                    _ => bad.push(frame..frame + 1),
                }
            }
        }
        let stored = of.layout().stored_range(self.frames.clone());
        of.progress.add(stored.end - stored.start);
        let is_last = of.pieces_left.fetch_sub(1, Ordering::AcqRel) == 1;
        Ok(if is_last { of.sum_up() } else { None })
    }

    /// Fetches and opens `frames`; returns those that do not open.
    async fn read(&self, frames: Range<u64>) -> Result<Vec<u64>, StoreError> {
        let of = &self.of;
        let mut bad = Vec::new();
        let mut backoff = of.store.backoff();
        let mut next = frames.start;
        // Frames beyond the end of the object need no request.
        let there = frames_within(&of.layout(), of.stored_len).min(frames.end);
        while next < there {
            let mut range = of.layout().stored_range(next..there);
            let with_header = next == 0;
            if with_header {
                range.start = 0;
            }
            let body = match of.store.get(of.opener.path(), Some(range)).await {
                Ok(body) => body,
                // The object was deleted or cut off since it was listed.
                Err(error)
                    if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Range) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            };
            let before = next;
            if self
                .open(body, &mut next, there, with_header, &mut bad)
                .await
            {
                break;
            }
            let brought = (next - before) * of.layout().frame_len();
            backoff.pause(brought).await;
        }
        bad.extend(next..frames.end);
        Ok(bad)
    }

    /// Opens the frames of one body, from `next` on. False if it broke off, and the rest is to be
    /// asked for again; true if nothing more is to be had.
    async fn open(
        &self,
        mut body: Body,
        next: &mut u64,
        end: u64,
        with_header: bool,
        bad: &mut Vec<u64>,
    ) -> bool {
        let of = &self.of;
        let layout = of.layout();
        let mut header = Vec::new();
        let mut header_left = if with_header { HEADER_LEN as usize } else { 0 };
        let frame_len = |frame| {
            let range = layout.stored_range(frame..frame + 1);
            usize::try_from(range.end - range.start).unwrap_or(usize::MAX)
        };
        let mut frame = Vec::with_capacity(frame_len(*next));
        // The buffer is written over with each frame, so it stays in the processor's cache.
        let mut plaintext = vec![0; frame_len(*next)];
        loop {
            let chunk = match body.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let mut rest = chunk.as_ref();
            if header_left > 0 {
                let (head, tail) = rest.split_at(header_left.min(rest.len()));
                header.extend_from_slice(head);
                header_left -= head.len();
                rest = tail;
                if header_left == 0 && !self.header_is_good(&header) {
                    of.header_is_bad.store(true, Ordering::Release);
                }
            }
            while !rest.is_empty() && *next < end {
                let whole_len = frame_len(*next);
                if frame.is_empty()
                    && let Some((whole, tail)) = rest.split_at_checked(whole_len)
                    && let Some(room) = plaintext.get_mut(..whole_len - TAG_LEN as usize)
                {
                    // The frame lies in one piece, so no copy is needed.
                    if of.opener.open_into(*next, whole, room).is_err() {
                        bad.push(*next);
                    }
                    *next += 1;
                    rest = tail;
                    continue;
                }
                let wanted = whole_len.saturating_sub(frame.len());
                let (head, tail) = rest.split_at(wanted.min(rest.len()));
                frame.extend_from_slice(head);
                rest = tail;
                if frame.len() == whole_len {
                    if of.opener.open_in_place(*next, &mut frame).is_err() {
                        bad.push(*next);
                    }
                    frame.clear();
                    *next += 1;
                }
            }
        }
    }

    /// Whether the header is the one that the record tells of.
    fn header_is_good(&self, header: &[u8]) -> bool {
        let of = &self.of;
        let (path, len) = (of.opener.path(), of.layout().stored_len());
        Opener::from_header(&of.keys, path, header, len).is_ok_and(|found| {
            found.params() == of.opener.params() && found.commitment() == of.opener.commitment()
        })
    }
}

/// The frames that lie whole within the first `stored_len` bytes.
fn frames_within(layout: &Layout, stored_len: u64) -> u64 {
    let frames = layout.frame_count();
    if stored_len >= layout.stored_len() {
        return frames;
    }
    let whole = layout.stored_range(0..1);
    let stride = whole.end - whole.start;
    stored_len
        .saturating_sub(HEADER_LEN)
        .checked_div(stride)
        .unwrap_or(0)
        .min(frames.saturating_sub(1))
}
