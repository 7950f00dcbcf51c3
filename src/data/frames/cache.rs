//! The cache of frames that may be wanted again. Each frame carries its reservation, so that giving
//! it up gives its memory back at once.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use super::evicted::Evicted;
use crate::{budget::Reclaim, meta::ObjectId};

/// Counts of what became of frames that were fetched along, since the last call of
/// [`FrameCache::outcome`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// Bytes that have come.
    pub(crate) arrived_bytes: u64,
    /// Bytes that were read after all.
    pub(crate) used_bytes: u64,
    /// Bytes that were evicted before anybody read them.
    pub(crate) unread_bytes: u64,
}

/// One frame of one object.
pub(crate) type FrameId = (ObjectId, u64);

/// The cache of opened frames. The governor alone bounds it: it uses memory that nobody else wants
/// and gives way at once.
pub(crate) struct FrameCache {
    frames: Mutex<Frames>,
}

struct Frames {
    kept: LruCache<FrameId, Cached>,
    kept_bytes: u64,
    /// Counts of what became of frames that were fetched along, since the last call of
    /// [`FrameCache::outcome`].
    outcome: Outcome,
    evicted: Evicted,
}

struct Cached {
    bytes: Bytes,
    used: Instant,
    /// It was fetched along, and nobody has read it.
    is_unread: bool,
}

impl FrameCache {
    pub(crate) fn new() -> FrameCache {
        FrameCache {
            frames: Mutex::new(Frames {
                kept: LruCache::unbounded(),
                kept_bytes: 0,
                outcome: Outcome::default(),
                evicted: Evicted::default(),
            }),
        }
    }

    pub(crate) fn get(&self, frame: FrameId) -> Option<Bytes> {
        self.frames.lock().read(frame)
    }

    /// Somebody got the frame from the fetch that brought it.
    pub(crate) fn note_read(&self, frame: FrameId) {
        drop(self.frames.lock().read(frame));
    }

    pub(crate) fn contains(&self, frame: FrameId) -> bool {
        self.frames.lock().kept.contains(&frame)
    }

    /// `is_unread`: it was fetched along with others.
    pub(crate) fn put(&self, frame: FrameId, bytes: Bytes, is_unread: bool) {
        let mut frames = self.frames.lock();
        let replaced = frames.kept.pop(&frame);
        let was_read = replaced.as_ref().is_some_and(|before| !before.is_unread);
        frames.kept_bytes -= replaced.as_ref().map_or(0, Cached::len);
        frames.kept_bytes += bytes.len() as u64;
        let cached = Cached {
            bytes,
            used: Instant::now(),
            is_unread: is_unread && !was_read,
        };
        if cached.is_unread {
            frames.outcome.arrived_bytes += cached.len();
        }
        frames.kept.put(frame, cached);
        drop(frames);
        drop(replaced);
    }

    /// Says what became of frames that were fetched along since the last call, and whether
    /// `missed`, which is to be fetched, was evicted lately.
    pub(crate) fn outcome(&self, missed: FrameId) -> (Outcome, bool) {
        let mut frames = self.frames.lock();
        let outcome = std::mem::take(&mut frames.outcome);
        (outcome, frames.evicted.take(missed))
    }

    /// Gives up frames that were not used for `idle`; false if none is left.
    pub(crate) fn trim(&self, idle: Duration) -> bool {
        let mut given_up = Vec::new();
        let mut frames = self.frames.lock();
        while frames
            .kept
            .peek_lru()
            .is_some_and(|(_, cached)| cached.used.elapsed() >= idle)
        {
            given_up.extend(frames.pop_lru());
        }
        let is_empty = frames.kept.is_empty();
        drop(frames);
        !is_empty
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.lock().kept.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.frames.lock().kept_bytes
    }
}

impl Frames {
    fn read(&mut self, frame: FrameId) -> Option<Bytes> {
        let cached = self.kept.get_mut(&frame)?;
        cached.used = Instant::now();
        if std::mem::take(&mut cached.is_unread) {
            self.outcome.used_bytes += cached.len();
        }
        Some(cached.bytes.clone())
    }

    fn pop_lru(&mut self) -> Option<(FrameId, Cached)> {
        let (frame, cached) = self.kept.pop_lru()?;
        self.kept_bytes -= cached.len();
        if cached.is_unread {
            self.outcome.unread_bytes += cached.len();
        }
        Some((frame, cached))
    }
}

impl Cached {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Reclaim for FrameCache {
    fn reclaim(&self, bytes: u64) -> u64 {
        let mut given_up = Vec::new();
        let mut freed = 0;
        {
            let mut frames = self.frames.lock();
            while freed < bytes {
                let Some((frame, cached)) = frames.pop_lru() else {
                    break;
                };
                frames.evicted.note(frame);
                freed += cached.len();
                given_up.push(cached);
            }
        }
        // Dropped outside the lock: each release may serve a waiter.
        drop(given_up);
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::SessionId;

    const LEN: u64 = 1000;

    fn frame(number: u64) -> FrameId {
        let object = ObjectId {
            session: SessionId([0; 16]),
            number: 1,
        };
        (object, number)
    }

    fn put(cache: &FrameCache, number: u64, is_unread: bool) {
        cache.put(frame(number), vec![0; LEN as usize].into(), is_unread);
    }

    #[test]
    fn what_was_fetched_along_counts_once_as_read_or_as_evicted_unread() {
        let cache = FrameCache::new();
        put(&cache, 0, false);
        (1..4).for_each(|number| put(&cache, number, true));
        assert!(cache.get(frame(0)).is_some());
        cache.note_read(frame(1));
        assert!(cache.get(frame(1)).is_some());
        // Fetched again because it lay in a range.
        put(&cache, 1, true);
        let (outcome, _) = cache.outcome(frame(9));
        assert_eq!((outcome.used_bytes, outcome.unread_bytes), (LEN, 0));
        assert_eq!(outcome.arrived_bytes, 3 * LEN);
        assert_eq!(cache.bytes(), 4 * LEN);

        assert_eq!(cache.reclaim(u64::MAX), 4 * LEN);
        let (outcome, was_evicted) = cache.outcome(frame(2));
        assert_eq!((outcome.used_bytes, outcome.unread_bytes), (0, 2 * LEN));
        assert!(was_evicted);
        let (outcome, was_evicted) = cache.outcome(frame(9));
        assert_eq!((outcome.used_bytes, outcome.unread_bytes), (0, 0));
        assert!(!was_evicted);
        assert_eq!((cache.bytes(), cache.len()), (0, 0));
    }
}
