//! Small files of a pack are read *around*: when the files read one after the other lie one after the other in the pack, the next miss fetches their
//! neighbours too.

use std::{num::NonZeroUsize, ops::Range, sync::Arc};

use lru::LruCache;
use parking_lot::Mutex;

use super::fetch::Fetch;
use crate::{budget::Reclaim, meta::ObjectId};

/// Frames fetched around a small file at most.
const NEIGHBOURS_MAX: u64 = 64;

/// Packs whose reading order is remembered.
const PACKS_REMEMBERED: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The last fetch that read around a small file, kept alive beyond the read that started it: its frames are wanted next.
#[derive(Default)]
pub(super) struct Around {
    last: Mutex<Option<Arc<Fetch>>>,
}

impl Around {
    pub(super) fn keep(&self, fetch: Arc<Fetch>) {
        let before = self.last.lock().replace(fetch);
        drop(before);
    }

    pub(super) fn let_go(&self) -> Option<Arc<Fetch>> {
        self.last.lock().take()
    }
}

impl Reclaim for Around {
    /// What it brought is in the cache as well: only what is still to come is given back here.
    fn reclaim(&self, _bytes: u64) -> u64 {
        self.let_go().map_or(0, |fetch| fetch.outstanding_bytes())
    }
}

/// The reading order of packs.
pub(super) struct Neighbours {
    packs: Mutex<LruCache<ObjectId, Order>>,
}

struct Order {
    next_frame: u64,
    frames: u64,
}

impl Neighbours {
    pub(super) fn new() -> Neighbours {
        Neighbours {
            packs: Mutex::new(LruCache::new(PACKS_REMEMBERED)),
        }
    }

    /// A small file's `missing` frames are about to be fetched: how many after them should come along?
    pub(super) fn on_miss(&self, object: ObjectId, missing: &Range<u64>) -> u64 {
        let mut packs = self.packs.lock();
        let order = packs.get_or_insert_mut(object, || Order {
            next_frame: u64::MAX,
            frames: 0,
        });
        let goes_on = order.next_frame <= missing.start + 1
            && missing.start <= order.next_frame.saturating_add(1);
        // A pack read from its start is likely read on.
        order.frames = match (goes_on, missing.start) {
            (true, _) => (order.frames * 2).clamp(2, NEIGHBOURS_MAX),
            (false, 0) => 4,
            (false, _) => 0,
        };
        order.next_frame = missing.end + order.frames;
        order.frames
    }
}
