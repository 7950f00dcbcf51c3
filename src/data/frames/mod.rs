//! Frames in memory: the objects that they belong to and the keys that open them, fetches under
//! way, the blocks that these fill, the cache, and the frames on the local disk.
//!
//! `fetch.rs` is a GET of frames (`sent.rs` reads its body, `filling.rs` fills a `block.rs`);
//! `cache.rs` keeps frames for reads to come; `unreadable.rs` counts those that cannot be read.
//!
//! Never: knows what a file is, or why a frame is wanted.

mod block;
mod cache;
mod evicted;
mod fetch;
mod filling;
mod link;
mod object;
mod on_disk;
mod sent;
mod to_disk;
mod unreadable;

use std::{ops::Range, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use self::{
    block::BlockPool, cache::FrameCache, fetch::FetchTable, link::Link, object::Objects,
    unreadable::MissingObjects,
};
use crate::{
    budget::{Owner, Reclaim, Reservation},
    data::shared::Shared,
    disk::DiskCache,
};

pub(crate) use block::{BLOCK_FRAMES, FrameBytes, is_one_block};
pub(crate) use cache::Outcome;
pub(crate) use evicted::Evicted;
pub(crate) use fetch::Fetch;
pub(crate) use filling::Kept;
pub(crate) use link::Cost;
pub(crate) use object::{ObjectHandle, frames_len, object_key, object_number};
pub(crate) use to_disk::{TO_DISK_BYTES, ToDisk};

/// See the module's head.
pub(crate) struct Frames {
    shared: Arc<Shared>,
    pub(crate) objects: Objects,
    pub(crate) cache: Arc<FrameCache>,
    pub(crate) disk: Option<DiskCache>,
    pub(crate) fetches: FetchTable,
    /// Held by those who look for frames and start a fetch of what is not here, so that none is
    /// fetched twice.
    pub(crate) starting: Mutex<()>,
    pub(crate) blocks: Arc<BlockPool>,
    pub(crate) link: Link,
    /// A fetch was started: there will be something to give up again.
    pub(crate) fetched: Notify,
    missing: MissingObjects,
}

impl Frames {
    pub(crate) fn new(shared: Arc<Shared>, disk: Option<DiskCache>) -> Frames {
        Frames {
            objects: Objects::new(shared.keys.clone(), shared.meta.clone()),
            cache: Arc::new(FrameCache::new()),
            disk,
            fetches: FetchTable::default(),
            starting: Mutex::default(),
            blocks: Arc::new(BlockPool::default()),
            link: Link::default(),
            fetched: Notify::new(),
            missing: MissingObjects::default(),
            shared,
        }
    }

    /// Is the frame in memory, or on its way there?
    pub(crate) fn is_here(&self, object: &ObjectHandle, frame: u64) -> bool {
        self.cache.contains((object.id, frame)) || self.fetches.get((object.id, frame)).is_some()
    }

    /// The first of `frames` that is here, coming, or behind the object's end; else their end.
    pub(crate) fn first_here(&self, object: &ObjectHandle, frames: Range<u64>) -> u64 {
        let end = frames.end.min(object.layout.frame_count());
        (frames.start..end)
            .find(|frame| self.is_here(object, *frame))
            .unwrap_or(end.max(frames.start))
    }

    /// Room for what nobody waits for: free memory first, then free buffers and the frames that
    /// were not used for longest.
    pub(crate) fn spare_room(&self, bytes: u64) -> Option<Reservation> {
        let governor = &self.shared.governor;
        loop {
            if let Some(reservation) = governor.try_acquire_spare(Owner::Read, bytes) {
                return Some(reservation);
            }
            // Memory that is given up now would go to other owners that wait.
            let somebody_waits = Owner::ALL
                .into_iter()
                .any(|owner| governor.has_waiters(owner));
            if somebody_waits
                || (self.blocks.reclaim(bytes) < bytes && self.cache.reclaim(bytes) == 0)
            {
                return None;
            }
        }
    }
}
