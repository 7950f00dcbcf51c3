//! Frames that may be wanted again. Each carries its reservation, so that giving one up gives its memory back at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::{budget::Reclaim, meta::ObjectId};

/// One frame of one object.
pub(super) type FrameId = (ObjectId, u64);

/// Bounded by the governor alone: it takes what nobody else wants and gives way at once.
pub(super) struct FrameCache {
    frames: Mutex<LruCache<FrameId, Cached>>,
}

struct Cached {
    bytes: Bytes,
    used: Instant,
}

impl FrameCache {
    pub(super) fn new() -> FrameCache {
        FrameCache {
            frames: Mutex::new(LruCache::unbounded()),
        }
    }

    pub(super) fn get(&self, frame: FrameId) -> Option<Bytes> {
        let mut frames = self.frames.lock();
        let cached = frames.get_mut(&frame)?;
        cached.used = Instant::now();
        Some(cached.bytes.clone())
    }

    pub(super) fn contains(&self, frame: FrameId) -> bool {
        self.frames.lock().contains(&frame)
    }

    pub(super) fn put(&self, frame: FrameId, bytes: Bytes) {
        let used = Instant::now();
        let replaced = self.frames.lock().put(frame, Cached { bytes, used });
        drop(replaced);
    }

    /// Gives up what was not used for `idle`; false if nothing is left.
    pub(super) fn trim(&self, idle: Duration) -> bool {
        let mut given_up = Vec::new();
        let mut frames = self.frames.lock();
        while frames
            .peek_lru()
            .is_some_and(|(_, cached)| cached.used.elapsed() >= idle)
        {
            given_up.extend(frames.pop_lru());
        }
        let is_empty = frames.is_empty();
        drop(frames);
        !is_empty
    }

    pub(super) fn len(&self) -> usize {
        self.frames.lock().len()
    }
}

impl Reclaim for FrameCache {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut given_up = Vec::new();
        let mut freed = 0;
        {
            let mut frames = self.frames.lock();
            while freed < bytes {
                let Some((_, frame)) = frames.pop_lru() else {
                    break;
                };
                freed += frame.bytes.len() as u64;
                given_up.push(frame);
            }
        }
        // Dropped outside the lock: each release may serve a waiter.
        drop(given_up);
        freed
    }
}
