//! Blocks: adjoining frames of one object in one buffer, so that a large read is answered from one
//! piece of memory.
//!
//! A block is filled in place, frame by frame, and shared once it is whole. Full-sized buffers come
//! back to a pool: at gigabytes a second, clearing fresh memory costs as much as decrypting into
//! it. A pooled buffer keeps its reservation, gives way when somebody needs the room, and is freed
//! when it was not used for a while.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::budget::{Reclaim, Reservation};

/// Frames in a full block; blocks begin at multiples of it, as the kernel's large reads do.
pub(crate) const BLOCK_FRAMES: u64 = 16;

/// Do `frames`, at least one, lie in one block of their object?
pub(crate) fn is_one_block(frames: &Range<u64>) -> bool {
    frames.start / BLOCK_FRAMES == frames.end.saturating_sub(1) / BLOCK_FRAMES
}

/// Free buffers at most: as many as the widest readahead window has blocks.
const FREE_MAX: usize = 32;

/// One frame's plaintext, in a block that may hold its neighbours.
#[derive(Clone)]
pub(crate) struct FrameBytes {
    block: Bytes,
    range: Range<usize>,
}

impl FrameBytes {
    pub(crate) fn whole(bytes: Bytes) -> FrameBytes {
        let range = 0..bytes.len();
        FrameBytes {
            block: bytes,
            range,
        }
    }

    pub(crate) fn part_of(block: &Bytes, range: Range<usize>) -> FrameBytes {
        FrameBytes {
            block: block.clone(),
            range,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.range.end - self.range.start
    }

    /// The part of this frame that starts `skip` bytes in; both within the frame.
    pub(crate) fn narrow(&self, skip: usize, len: usize) -> FrameBytes {
        let start = (self.range.start + skip).min(self.range.end);
        FrameBytes {
            block: self.block.clone(),
            range: start..(start + len).min(self.range.end),
        }
    }

    /// Joins `next` to this if it follows in the same block.
    pub(crate) fn join(&mut self, next: &FrameBytes) -> bool {
        let follows =
            self.block.as_ptr() == next.block.as_ptr() && self.range.end == next.range.start;
        if follows {
            self.range.end = next.range.end;
        }
        follows
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.block.slice(self.range)
    }
}

/// Buffers of full blocks, for reuse; bounded by their reservations.
#[derive(Default)]
pub(crate) struct BlockPool {
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    buffers: Vec<(Vec<u8>, Reservation)>,
    /// The fewest buffers that were free since the last [`BlockPool::trim`].
    never_taken: usize,
}

struct PooledBlock {
    bytes: Vec<u8>,
    pool: Arc<BlockPool>,
    full_len: usize,
    reservation: Option<Reservation>,
}

impl BlockPool {
    /// A buffer of at least `len` bytes, with anything in it.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let pooled = {
            let mut free = self.free.lock();
            let pooled = free.buffers.pop();
            free.never_taken = free.never_taken.min(free.buffers.len());
            pooled
        };
        // The taker pays for it from now on.
        let mut buffer = pooled.map(|(buffer, _)| buffer).unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        buffer
    }

    /// Shares the first `len` bytes of a filled buffer, paid for by `reservation`; the buffer comes
    /// back when the last view is dropped.
    pub(crate) fn share(
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
            reservation: Some(reservation),
        })
    }

    fn put(&self, buffer: Vec<u8>, reservation: Reservation) {
        let mut free = self.free.lock();
        let refused = if free.buffers.len() < FREE_MAX {
            free.buffers.push((buffer, reservation));
            None
        } else {
            Some((buffer, reservation))
        };
        // Dropped outside the lock: giving memory back may ask this pool for more.
        drop(free);
        drop(refused);
    }

    /// Frees the buffers that were not used since the last call; false if none is left.
    pub(crate) fn trim(&self) -> bool {
        let mut free = self.free.lock();
        let kept = free.buffers.len().saturating_sub(free.never_taken);
        let dropped = free.buffers.split_off(kept);
        free.never_taken = kept;
        drop(free);
        drop(dropped);
        kept > 0
    }
}

impl Reclaim for BlockPool {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let pooled = {
                let mut free = self.free.lock();
                let pooled = free.buffers.pop();
                free.never_taken = free.never_taken.min(free.buffers.len());
                pooled
            };
            let Some((_buffer, reservation)) = pooled else {
                break;
            };
            freed += reservation.bytes();
        }
        freed
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
        if let Some(reservation) = self.reservation.take() {
            let buffer = std::mem::take(&mut self.bytes);
            let governor = reservation.governor().clone();
            self.pool.put(buffer, reservation);
            governor.serve();
        }
    }
}
