//! The cost of the misses of late, by region of an object.

use std::num::NonZeroUsize;

use lru::LruCache;

use crate::{data::frames::Cost, meta::ObjectId};

/// Regions that are known of at most, all sizes and objects together.
const REGIONS_MAX: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();

/// Memory of one region: its key, its figures, its place in the map and the list.
pub(crate) const REGION_BYTES: u64 = 160;

/// Frames `index << log2` to `(index + 1) << log2` of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RegionId {
    object: ObjectId,
    log2: u32,
    index: u64,
}

/// How much was fetched and missed so far, everywhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    pub(crate) fetched_bytes: f64,
    pub(crate) misses: f64,
}

/// Figures of one region. Fractions come from ageing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Region {
    /// Requests for what a read missed.
    pub(crate) misses: f64,
    /// The cost of these, without what was fetched along.
    pub(crate) paid_us: f64,
    /// Bytes that they brought.
    pub(crate) missed_bytes: f64,
    /// Before the first of them.
    pub(crate) began: Moment,
    /// Frames of the object, if this is the whole of it.
    object_frames: u64,
    /// Bytes that had been fetched everywhere when it, or a region around it, was last bought.
    /// Misses that were noted before are void.
    pub(crate) bought_at: f64,
}

/// The regions that were missed in lately.
pub(crate) struct Regions {
    known: LruCache<RegionId, Region>,
    objects_frames: u64,
    /// Frames of the smallest regions.
    smallest_log2: u32,
}

impl Regions {
    pub(crate) fn new(smallest_log2: u32) -> Regions {
        Regions {
            known: LruCache::new(REGIONS_MAX),
            objects_frames: 0,
            smallest_log2,
        }
    }

    /// The regions around `frame` of an object of so many frames, the one that is the whole object
    /// first.
    pub(crate) fn around(
        &self,
        object: ObjectId,
        frame: u64,
        object_frames: u64,
    ) -> impl Iterator<Item = RegionId> + use<> {
        let whole = object_frames.max(1).next_power_of_two().ilog2();
        (self.smallest_log2..=whole.max(self.smallest_log2))
            .rev()
            .map(move |log2| RegionId {
                object,
                log2,
                index: frame >> log2,
            })
    }

    pub(crate) fn get_mut(
        &mut self,
        id: RegionId,
        began: Moment,
        object_frames: u64,
    ) -> &mut Region {
        if !self.known.contains(&id) {
            let object_frames = match id.index == 0 && id.end_frame() >= object_frames {
                true => object_frames,
                false => 0,
            };
            let region = Region {
                began,
                object_frames,
                ..Region::default()
            };
            self.objects_frames += object_frames;
            if let Some((_, forgotten)) = self.known.push(id, region) {
                self.objects_frames -= forgotten.object_frames;
            }
        }
        self.known.get_or_insert_mut(id, Region::default)
    }

    /// Frames of all objects that are known.
    pub(crate) fn objects_frames(&self) -> u64 {
        self.objects_frames
    }

    /// Bytes that are taken now, and at most.
    pub(crate) fn held_bytes(&self) -> (u64, u64) {
        let held = self.known.len() as u64;
        (held * REGION_BYTES, REGIONS_MAX.get() as u64 * REGION_BYTES)
    }
}

impl RegionId {
    pub(crate) fn first_frame(&self) -> u64 {
        self.index << self.log2
    }

    pub(crate) fn end_frame(&self) -> u64 {
        (self.index + 1) << self.log2
    }
}

impl Region {
    /// Learns when a region around this one was last bought, or tells the next smaller one when
    /// this one was. Misses from before are void.
    pub(crate) fn void_before(&mut self, void_before: &mut f64, now: Moment) {
        self.bought_at = self.bought_at.max(*void_before);
        *void_before = self.bought_at;
        if self.began.fetched_bytes < self.bought_at {
            self.restart(now);
        }
    }

    /// A new account begins.
    pub(crate) fn restart(&mut self, began: Moment) {
        *self = Region {
            began,
            bought_at: self.bought_at,
            object_frames: self.object_frames,
            ..Region::default()
        };
    }

    pub(crate) fn add_miss(&mut self, bytes: u64, cost: &Cost) {
        self.misses += 1.0;
        self.paid_us += cost.of(bytes);
        self.missed_bytes += bytes as f64;
    }

    /// Figures of more than a whole memory ago count less, in the same proportions.
    pub(crate) fn age(&mut self, now: Moment, memory_bytes: f64) {
        let since = now.fetched_bytes - self.began.fetched_bytes;
        if since > memory_bytes {
            let kept = memory_bytes / 2.0 / since;
            self.misses *= kept;
            self.paid_us *= kept;
            self.missed_bytes *= kept;
            self.began = Moment {
                fetched_bytes: now.fetched_bytes - since * kept,
                misses: now.misses - (now.misses - self.began.misses) * kept,
            };
        }
    }
}
