//! The map from file ranges to objects.

use std::ops::Range;

use super::{Extent, Ino, Inode, Meta, MetaError, ObjectId, ObjectRecord, Timestamp};
use crate::seal::codec::SealParams;

/// One file's part of a content commit.
#[derive(Clone, Debug)]
pub struct ContentCommit {
    /// The file. If it is gone (reaped) this part is skipped and its bytes count as dead.
    pub ino: Ino,
    /// New extents, sorted, not overlapping each other; they replace whatever they overlap.
    pub extents: Vec<Extent>,
    /// The size to record; must cover the extents.
    pub size: u64,
    /// The modification time to record; `None` leaves it.
    pub mtime: Option<Timestamp>,
    /// The change time to record; `None` leaves it.
    pub ctime: Option<Timestamp>,
}

/// An object that became readable.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Its id.
    pub object: ObjectId,
    /// Its seal.
    pub params: SealParams,
    /// Plaintext length.
    pub plaintext_len: u64,
}

impl Meta {
    /// The extents that overlap `range`, sorted, not clipped; at most `limit` (the caller goes on after the last).
    pub async fn extents(&self, ino: Ino, range: Range<u64>, limit: usize) -> Result<Vec<Extent>, MetaError> {
        todo!()
    }

    /// Commits contents: objects and the extents that name them, in one batch. Bytes of objects that no extent names any more are
    /// counted off their objects; objects left without live bytes become garbage in the same batch.
    pub async fn commit_content(&self, objects: &[NewObject], commits: &[ContentCommit]) -> Result<(), MetaError> {
        todo!()
    }

    /// Sets the size; extents beyond are cut and counted off. Also records times.
    pub async fn truncate(&self, ino: Ino, size: u64, mtime: Timestamp, ctime: Timestamp) -> Result<Inode, MetaError> {
        todo!()
    }

    /// Makes a hole (FALLOC_FL_PUNCH_HOLE); the size stays.
    pub async fn punch_hole(&self, ino: Ino, range: Range<u64>, mtime: Timestamp, ctime: Timestamp) -> Result<(), MetaError> {
        todo!()
    }

    /// The record of an object, from a cache or the database.
    pub async fn object(&self, object: ObjectId) -> Result<Option<ObjectRecord>, MetaError> {
        todo!()
    }
}

