//! Blocks: adjoining frames of one object in one buffer, so that a large read is answered from one piece of memory.
//!
//! A block is filled in place, frame by frame, and shared once it is whole. Full-sized buffers come back to a small pool: at gigabytes a
//! second, clearing fresh memory costs as much as decrypting into it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::budget::Reservation;

/// Frames in a full block; blocks begin at multiples of it, as the kernel's large reads do.
pub(super) const BLOCK_FRAMES: u64 = 16;

/// Buffers kept for reuse; part of what [`super::MemoryPlan`] counts as fixed.
const POOLED_MAX: usize = 6;

/// One frame's plaintext, in a block that may hold its neighbours.
#[derive(Clone)]
pub(super) struct FrameBytes {
    block: Bytes,
    range: Range<usize>,
}

impl FrameBytes {
    pub(super) fn whole(bytes: Bytes) -> FrameBytes {
        let range = 0..bytes.len();
        FrameBytes {
            block: bytes,
            range,
        }
    }

    pub(super) fn part_of(block: &Bytes, range: Range<usize>) -> FrameBytes {
        FrameBytes {
            block: block.clone(),
            range,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.range.end - self.range.start
    }

    /// The part of this frame that starts `skip` bytes in; both within the frame.
    pub(super) fn narrow(&self, skip: usize, len: usize) -> FrameBytes {
        let start = (self.range.start + skip).min(self.range.end);
        FrameBytes {
            block: self.block.clone(),
            range: start..(start + len).min(self.range.end),
        }
    }

    /// Joins `next` to this if it follows in the same block.
    pub(super) fn join(&mut self, next: &FrameBytes) -> bool {
        let follows =
            self.block.as_ptr() == next.block.as_ptr() && self.range.end == next.range.start;
        if follows {
            self.range.end = next.range.end;
        }
        follows
    }

    pub(super) fn into_bytes(self) -> Bytes {
        self.block.slice(self.range)
    }
}

/// Buffers of full blocks, for reuse.
#[derive(Default)]
pub(super) struct BlockPool {
    buffers: Mutex<Vec<Vec<u8>>>,
}

struct PooledBlock {
    bytes: Vec<u8>,
    pool: Arc<BlockPool>,
    full_len: usize,
    _reservation: Reservation,
}

impl BlockPool {
    /// A buffer of at least `len` bytes, with anything in it.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        let pooled = self.buffers.lock().pop();
        let mut buffer = pooled.unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        buffer
    }

    /// Shares the first `len` bytes of a filled buffer, paid for by `reservation`; the buffer comes back when the last view is dropped.
    pub(super) fn share(
        self: &Arc<Self>,
        mut bytes: Vec<u8>,
        len: usize,
        full_len: usize,
        reservation: Reservation,
    ) -> Bytes {
        bytes.truncate(len);
        Bytes::from_owner(PooledBlock {
            bytes,
            pool: self.clone(),
            full_len,
            _reservation: reservation,
        })
    }
}

impl AsRef<[u8]> for PooledBlock {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for PooledBlock {
    fn drop(&mut self) {
        if self.bytes.len() != self.full_len {
            return;
        }
        let mut buffers = self.pool.buffers.lock();
        if buffers.len() < POOLED_MAX {
            buffers.push(std::mem::take(&mut self.bytes));
        }
    }
}
