//! A buffer that a fetch fills with frames as they arrive, and hands over once it is full.

use std::ops::Range;

use super::{
    Frames,
    block::{BLOCK_FRAMES, FrameBytes},
    object::ObjectHandle,
};
use crate::{
    budget::{Owner, Reservation},
    data::{DataError, paid::paid_bytes},
};

/// Whether frames go into the cache as they arrive.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    Nowhere,
    /// Into the cache: the frames of this range for those who read them, the others because they
    /// were fetched along.
    InCache(Range<u64>),
}

/// A block being filled.
pub(crate) struct Block {
    buffer: Vec<u8>,
    frames: Range<u64>,
    /// Ends of the frames opened so far.
    ends: Vec<usize>,
}

impl Block {
    /// The first block of `frames`. Frames that will be cached have blocks of their own, so that
    /// each can be given up alone.
    pub(crate) fn begin(
        memory: &Frames,
        object: &ObjectHandle,
        frames: Range<u64>,
        kept: &Kept,
    ) -> Block {
        let boundary = (frames.start / BLOCK_FRAMES + 1) * BLOCK_FRAMES;
        let end = match kept {
            Kept::InCache(_) => frames.start + 1,
            Kept::Nowhere => boundary,
        };
        let end = end.min(frames.end);
        let frames = frames.start..end;
        let len: u64 = frames
            .clone()
            .map(|frame| object.layout.frame_plaintext_len(frame))
            .sum();
        let is_full_sized = frames.end.saturating_sub(frames.start) == BLOCK_FRAMES;
        let buffer = if is_full_sized {
            memory.blocks.take(len as usize)
        } else {
            vec![0; len as usize]
        };
        Block {
            buffer,
            ends: Vec::with_capacity((frames.end.saturating_sub(frames.start)) as usize),
            frames,
        }
    }

    fn filled(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    pub(crate) fn next_frame(&self) -> u64 {
        self.frames.start + self.ends.len() as u64
    }

    pub(crate) fn is_full(&self) -> bool {
        self.next_frame() >= self.frames.end
    }

    /// Opens the next frame behind the others.
    pub(crate) fn open(&mut self, object: &ObjectHandle, sealed: &[u8]) -> Result<(), DataError> {
        let frame = self.next_frame();
        let start = self.filled();
        let end = start + object.layout.frame_plaintext_len(frame) as usize;
        let Some(place) = self.buffer.get_mut(start..end) else {
            return Err(DataError::Internal(
                "a frame has no place in its block".into(),
            ));
        };
        object.opener.open_into(frame, sealed, place)?;
        self.ends.push(end);
        Ok(())
    }

    /// The frames as they can be shared, paid for out of `reservation`; those that are to be kept
    /// are in the cache then.
    pub(crate) fn share(
        self,
        memory: &Frames,
        object: &ObjectHandle,
        reservation: &mut Reservation,
        kept: &Kept,
    ) -> Vec<FrameBytes> {
        let len = self.filled();
        let paid = reservation.split(len as u64).reassign(Owner::Cache);
        if let Kept::InCache(wanted) = kept {
            let bytes = paid_bytes(self.buffer, paid);
            let is_unread = !wanted.contains(&self.frames.start);
            memory
                .cache
                .put((object.id, self.frames.start), bytes.clone(), is_unread);
            memory.shared.governor.serve();
            return vec![FrameBytes::whole(bytes)];
        }
        let full_len = (BLOCK_FRAMES * object.layout.frame_len()) as usize;
        let bytes = memory.blocks.share(self.buffer, len, full_len, paid);
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let frames = starts.zip(&self.ends);
        frames
            .map(|(start, end)| FrameBytes::part_of(&bytes, start..*end))
            .collect()
    }
}
