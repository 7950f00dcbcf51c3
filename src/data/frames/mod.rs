//! Frames in memory: the objects that they belong to and the keys that open them, fetches under
//! way, the blocks that these fill, the cache, and the frames on the local disk.
//!
//! Never: knows what a file is, or why somebody wants a frame.

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

pub(crate) use block::{BLOCK_FRAMES, BlockPool, FrameBytes, is_one_block};
pub(crate) use cache::FrameCache;
pub(crate) use evicted::Evicted;
pub(crate) use fetch::{Fetch, FetchTable, Kept};
pub(crate) use link::{Cost, Link};
pub(crate) use object::{ObjectHandle, Objects, object_key, object_number};
pub(crate) use to_disk::{TO_DISK_BYTES, ToDisk};
