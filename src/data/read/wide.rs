//! Wide reads: those whose bytes lie in more frames than readers are sure to have room for at once.
//!
//! A file that was written in tiny pieces can have each few bytes of one read in another frame of
//! 64 KiB: a read of a MiB may need hundreds of MiB of frames. Such a read goes in steps, frame by
//! frame in the order of the objects, so that each frame is fetched once, and each step copies its
//! bytes into the reply.
//!
//! A wide read holds its reply while it waits for the room of the next step; nothing else holds
//! memory while it waits for more. That is sound because there is one wide read at a time, because
//! reply and step together are within what readers are guaranteed, and because every other reader
//! in that line fits beside its reply and lets go without waiting for memory. Readers that wait for
//! their turn hold nothing but the places of their bytes, and only a few hold these. The read that
//! has the turn waits for memory and the store only, never for an upload: a sweep
//! (`write_back/sweep.rs`) that holds the room of a part may wait for the turn.

use std::{ops::Range, sync::Arc};

use super::{
    ReadReply, Reading, collect,
    open_file::OpenFile,
    plan::{Beyond, Source, missing_bytes_max},
};
use crate::{
    budget::Owner,
    data::{DataError, frames::ObjectHandle, paid::paid_bytes},
};

/// Readers that may hold the places of their bytes while they wait for their turn. These are some
/// 300 KiB for each in the worst case, and nothing pays for them.
pub(crate) const WIDE_PLACES_MAX: usize = 4;

/// The right to carry out a wide read.
pub(crate) struct WideTurn<'a>(
    #[expect(dead_code, reason = "held")] tokio::sync::MutexGuard<'a, ()>,
);

/// The bytes of the reply that one frame holds.
struct Part {
    object: Arc<ObjectHandle>,
    range: Range<u64>,
    /// Where it goes in the reply.
    to: u64,
}

impl Part {
    fn frame(&self) -> u64 {
        self.range.start / self.object.layout.frame_len()
    }

    fn shares_frame_with(&self, other: &Part) -> bool {
        self.object.id == other.object.id && self.frame() == other.frame()
    }
}

impl Reading {
    /// The most memory, reply and frames, that a read takes which is carried out at once: half of
    /// what readers are guaranteed, so that it fits beside the reply of a wide one. Also the
    /// longest reply, and the most frames of one step of a wide read.
    pub(crate) fn read_bytes_max(&self) -> u64 {
        self.shared.governor.shares().read_min_bytes / 2
    }

    /// Waits until no other wide read is under way. Hold nothing meanwhile.
    pub(crate) async fn wide_turn(&self) -> WideTurn<'_> {
        WideTurn(self.wide_read.lock().await)
    }

    /// Reads `sources`, of the part `read` of the file, one after the other and in steps; they are
    /// at most [`Reading::read_bytes_max`] long.
    pub(crate) async fn read_wide(
        self: &Arc<Self>,
        turn: WideTurn<'_>,
        open: &OpenFile,
        read: Range<u64>,
        sources: Vec<Source>,
    ) -> Result<ReadReply, DataError> {
        let len: u64 = sources.iter().map(Source::len).sum();
        let paid = self.shared.governor.acquire(Owner::Read, len).await;
        let mut reply = vec![0; len as usize];
        let parts = parts_of(sources, &mut reply);
        let mut rest = parts.as_slice();
        while !rest.is_empty() {
            let (step, later) = rest.split_at(step_len(rest, self.read_bytes_max()));
            self.read_step(open, &read, step, &mut reply).await?;
            rest = later;
        }
        drop(turn);
        Ok(ReadReply {
            bytes: paid_bytes(reply, paid),
            was_here: false,
            stretch: None,
        })
    }

    /// Fetches the frames of `step` and copies what they give into the reply; lets go of them.
    async fn read_step(
        self: &Arc<Self>,
        open: &OpenFile,
        read: &Range<u64>,
        step: &[Part],
        reply: &mut [u8],
    ) -> Result<(), DataError> {
        let sources: Vec<Source> = step
            .iter()
            .map(|part| Source::Object {
                object: part.object.clone(),
                range: part.range.clone(),
                follows: 0,
            })
            .collect();
        let bound = missing_bytes_max(&sources, 0);
        let mut room = self.shared.governor.acquire(Owner::Read, bound).await;
        let plan = self.plan(&sources, Beyond::Nothing);
        let (frames, _) = self.start_missing(open, &sources, read, plan, &mut room);
        // The frames that turned out not to be missing need no room.
        drop(room);
        for (part, frames) in step.iter().zip(frames) {
            let mut pieces = Vec::with_capacity(1);
            collect(&part.object, part.range.clone(), frames, &mut pieces).await?;
            let mut to = part.to as usize;
            for piece in pieces {
                put(reply, to, &piece);
                to += piece.len();
            }
        }
        Ok(())
    }
}

/// Copies the sources that are in memory into the reply. Returns the others by frame, in the order
/// of the objects.
fn parts_of(sources: Vec<Source>, reply: &mut [u8]) -> Vec<Part> {
    let mut parts = Vec::with_capacity(sources.len());
    let mut to = 0;
    for source in sources {
        let len = source.len();
        match source {
            Source::Memory(bytes) | Source::Inline(bytes) => put(reply, to as usize, &bytes),
            Source::Zeros(_) => {}
            Source::Object { object, range, .. } => {
                let frame_len = object.layout.frame_len();
                parts.extend(object.layout.frames_of(range.clone()).map(|frame| {
                    let start = range.start.max(frame * frame_len);
                    Part {
                        object: object.clone(),
                        range: start..range.end.min((frame + 1) * frame_len),
                        to: to + (start - range.start),
                    }
                }));
            }
        }
        to += len;
    }
    parts.sort_unstable_by_key(|part| (part.object.id, part.range.start));
    parts
}

/// How many of `parts`, which are in order, have frames of at most `bytes_max`; at least one.
fn step_len(parts: &[Part], bytes_max: u64) -> usize {
    let mut bytes = 0;
    let mut before: Option<&Part> = None;
    for (index, part) in parts.iter().enumerate() {
        if !before.is_some_and(|before| before.shares_frame_with(part)) {
            bytes += part.object.layout.frame_plaintext_len(part.frame());
            if bytes > bytes_max && index > 0 {
                return index;
            }
        }
        before = Some(part);
    }
    parts.len()
}

fn put(reply: &mut [u8], to: usize, bytes: &[u8]) {
    if let Some(place) = reply.get_mut(to..to + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}
