//! File contents: write-back buffers, uploads, packs, readahead, the frame cache, space reclaim.
//!
//! Promises: a write is readable at once through this mount, and durable after [`Data::fsync`]; every buffer is paid for by a
//! [`crate::budget::Reservation`] that lives exactly as long; dropping an [`OpenFile`] drops what was in flight for it; random writes never
//! read-modify-write; contents are committed to [`crate::meta`] only after their object is in the store.
//! Never: knows names or permissions, talks to the kernel, returns a byte that was not authenticated.

mod error;
mod file;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

pub use error::DataError;

use crate::{
    budget::{Governor, Reservation},
    meta::{Ino, Meta, Timestamp},
    seal::keys::VolumeKeys,
    store::Store,
};

/// Sizes; made from `--memory` by [`DataConfig::for_memory`].
#[derive(Clone, Copy, Debug)]
pub struct DataConfig {
    /// Bytes of a multipart part, and the most a pack holds.
    pub part_bytes: u64,
    /// Bytes after which a large file's object ends and the next begins.
    pub object_bytes_max: u64,
    /// The largest readahead window of one handle.
    pub readahead_bytes_max: u64,
    /// Dirty data older than this goes out by itself.
    pub write_back_after: std::time::Duration,
}

/// The contents of a mounted volume. Cheap to clone.
#[derive(Clone)]
pub struct Data {
    // private fields
}

/// A file that somebody has open: its readahead window lives here. Dropping it lets go of everything in flight for it.
pub struct OpenFile {
    // private fields
}

/// Contents on their way to a reader; the reservation is released when this is dropped.
pub struct ReadReply {
    /// The bytes, in order.
    pub pieces: Vec<Bytes>,
    /// What pays for them.
    pub reservation: Option<Reservation>,
}

/// Bytes of one write, paid for.
pub struct WriteBuffer {
    /// The bytes.
    pub bytes: Bytes,
    /// What pays for them.
    pub reservation: Reservation,
}

/// Attributes of contents that are not committed yet; they override those of the inode record.
#[derive(Clone, Copy, Debug)]
pub struct LiveAttributes {
    /// Present size.
    pub size: u64,
    /// Set if a write happened since times were last set explicitly.
    pub mtime: Option<Timestamp>,
    /// As `mtime`.
    pub ctime: Option<Timestamp>,
    /// Dirty bytes to add to the record's `allocated` (an estimate: overwrites count twice until committed).
    pub dirty_bytes: u64,
}

/// SEEK_DATA or SEEK_HOLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

impl Data {
    /// Starts the background write-back; must be called inside a tokio runtime.
    pub fn start(config: DataConfig, governor: Governor, store: Store, keys: Arc<VolumeKeys>, meta: Meta) -> Data {
        todo!()
    }

    /// A handle on a file. Costs no memory until it reads.
    pub fn open(&self, ino: Ino) -> OpenFile {
        todo!()
    }

    /// Reads; short only at the end of the file.
    pub async fn read(&self, file: &OpenFile, offset: u64, len: u32) -> Result<ReadReply, DataError> {
        todo!()
    }

    /// Copies `data` into a paid-for buffer if there is room for it now.
    pub fn try_buffer(&self, data: &[u8]) -> Option<WriteBuffer> {
        todo!()
    }

    /// As `try_buffer`, but blocks this *thread* until there is room: the back-pressure of last resort, for FUSE threads only.
    /// Progress of uploads and reads never depends on a FUSE thread, so this always ends once the store answers.
    pub fn buffer_blocking(&self, data: &[u8]) -> WriteBuffer {
        todo!()
    }

    /// As `try_buffer`, waiting in line for room.
    pub async fn buffer(&self, data: Bytes) -> WriteBuffer {
        todo!()
    }

    /// Writes; sets the live mtime and ctime to `now`.
    pub async fn write(&self, ino: Ino, offset: u64, buffer: WriteBuffer, now: Timestamp) -> Result<(), DataError> {
        todo!()
    }

    /// Sets the size.
    pub async fn truncate(&self, ino: Ino, size: u64, now: Timestamp) -> Result<(), DataError> {
        todo!()
    }

    /// Makes a hole; the size stays (FALLOC_FL_PUNCH_HOLE | KEEP_SIZE, and the zeroing half of ZERO_RANGE).
    pub async fn punch_hole(&self, ino: Ino, range: Range<u64>, now: Timestamp) -> Result<(), DataError> {
        todo!()
    }

    /// Present size and times if the contents differ from the committed record.
    pub fn live(&self, ino: Ino) -> Option<LiveAttributes> {
        todo!()
    }

    /// Times were set explicitly (`utimens`, or ctime by chmod): pending ones must not override them. Call before changing the record.
    pub fn forget_times(&self, ino: Ino, mtime: bool) {
        todo!()
    }

    /// SEEK_DATA / SEEK_HOLE; `None` is ENXIO.
    pub async fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<Option<u64>, DataError> {
        todo!()
    }

    /// Returns when everything written to this file before the call is durable, its metadata included.
    pub async fn fsync(&self, ino: Ino) -> Result<(), DataError> {
        todo!()
    }

    /// The file is gone (reaped): drops its dirty data. Call after the last handle is closed, before [`Meta::reap`].
    pub async fn discard(&self, ino: Ino) {
        todo!()
    }

    /// Returns when everything is durable.
    pub async fn drain(&self) -> Result<(), DataError> {
        todo!()
    }

    /// Stops background work after a drain and deletes what may be deleted. Does not close `meta`.
    pub async fn shutdown(&self) {
        todo!()
    }

    /// Bytes written and not yet committed.
    pub fn dirty_bytes(&self) -> u64 {
        todo!()
    }
}
