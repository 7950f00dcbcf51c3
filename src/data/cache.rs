//! Frames that may be wanted again. Each carries its reservation, so that giving one up gives its memory back at once.

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::{budget::Reclaim, meta::ObjectId};

/// One frame of one object.
pub(super) type FrameId = (ObjectId, u64);

/// Bounded by the governor alone: it takes what nobody else wants and gives way at once.
pub(super) struct FrameCache {
    frames: Mutex<LruCache<FrameId, Bytes>>,
}

impl FrameCache {
    pub(super) fn new() -> FrameCache {
        FrameCache {
            frames: Mutex::new(LruCache::unbounded()),
        }
    }

    pub(super) fn get(&self, frame: FrameId) -> Option<Bytes> {
        self.frames.lock().get(&frame).cloned()
    }

    pub(super) fn contains(&self, frame: FrameId) -> bool {
        self.frames.lock().contains(&frame)
    }

    pub(super) fn put(&self, frame: FrameId, bytes: Bytes) {
        let replaced = self.frames.lock().put(frame, bytes);
        drop(replaced);
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
                freed += frame.len() as u64;
                given_up.push(frame);
            }
        }
        // Dropped outside the lock: each release may serve a waiter.
        drop(given_up);
        freed
    }
}
