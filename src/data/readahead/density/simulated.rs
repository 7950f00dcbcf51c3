//! The memory of a simulated reader, and what a simulation counts.

use lru::LruCache;

use crate::{
    data::frames::{Evicted, Outcome},
    meta::{ObjectId, SessionId},
};

pub(crate) const FRAME: u64 = 64 << 10;

pub(crate) const READ_US: f64 = 20.0;

pub(crate) type Place = (usize, u64);

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) requests: u64,
    pub(crate) us: f64,
}

/// Frames by when they were last used; those fetched along and not read yet are marked.
pub(crate) struct Cache {
    pub(super) frames: LruCache<Place, bool>,
    capacity: usize,
    pub(super) outcome: Outcome,
    pub(super) evicted: Evicted,
}

impl Cache {
    pub(crate) fn new(capacity: usize) -> Cache {
        Cache {
            frames: LruCache::unbounded(),
            capacity,
            outcome: Outcome::default(),
            evicted: Evicted::default(),
        }
    }

    pub(crate) fn is_here(&self, place: Place) -> bool {
        self.frames.contains(&place)
    }

    pub(crate) fn read(&mut self, place: Place) -> bool {
        let Some(is_unread) = self.frames.get_mut(&place) else {
            return false;
        };
        if std::mem::take(is_unread) {
            self.outcome.used_bytes += FRAME;
        }
        true
    }

    pub(crate) fn put(&mut self, place: Place, is_unread: bool) {
        if is_unread {
            self.outcome.arrived_bytes += FRAME;
        }
        self.frames.put(place, is_unread);
        self.evict(0);
    }

    /// Makes room for what is on its way.
    pub(super) fn evict(&mut self, coming: usize) {
        while self.frames.len() + coming > self.capacity {
            let Some(((object, frame), is_unread)) = self.frames.pop_lru() else {
                return;
            };
            if is_unread {
                self.outcome.unread_bytes += FRAME;
            }
            self.evicted.note((object_id(object), frame));
        }
    }
}

pub(crate) fn object_id(object: usize) -> ObjectId {
    ObjectId {
        session: SessionId([0; 16]),
        number: object as u64,
    }
}
