//! What crashes and deletions leave behind: dead sessions, orphans, garbage objects.

use super::{Ino, Meta, MetaError, ObjectId, SessionId};

/// A session that was not closed cleanly.
#[derive(Clone, Copy, Debug)]
pub struct DeadSession {
    /// Its id.
    pub session: SessionId,
}

/// An object that no extent names.
#[derive(Clone, Copy, Debug)]
pub struct Garbage {
    /// The object.
    pub object: ObjectId,
    /// When it died, seconds since 1970 by this machine's clock.
    pub died_unix_seconds: i64,
}

impl Meta {
    /// Deletes an orphan for good: its inode, xattrs and extents, counted off their objects. Bounded batches; safe to repeat after a crash.
    /// No effect on an inode that has links.
    pub async fn reap(&self, ino: Ino) -> Result<(), MetaError> {
        todo!()
    }

    /// Orphans that an earlier mount left.
    pub async fn orphans(&self, limit: usize) -> Result<Vec<Ino>, MetaError> {
        todo!()
    }

    /// Sessions other than this one whose objects were not checked since they ended without `end_session`.
    pub async fn dead_sessions(&self) -> Result<Vec<DeadSession>, MetaError> {
        todo!()
    }

    /// Does the metadata name this object (record or garbage list)?
    pub async fn knows_object(&self, object: ObjectId) -> Result<bool, MetaError> {
        todo!()
    }

    /// Forgets a session whose leftovers are gone (or this one, at a clean unmount).
    pub async fn end_session(&self, session: SessionId) -> Result<(), MetaError> {
        todo!()
    }

    /// Garbage that died at or before `before_unix_seconds` and whose death is durable, oldest first.
    pub async fn garbage(&self, before_unix_seconds: i64, limit: usize) -> Result<Vec<Garbage>, MetaError> {
        todo!()
    }

    /// Forgets garbage whose objects were deleted from the store.
    pub async fn forget_garbage(&self, objects: &[ObjectId]) -> Result<(), MetaError> {
        todo!()
    }

    /// Objects below half live, at most `limit`: candidates for repacking, with the inodes whose extents name them.
    pub async fn repack_candidates(&self, limit: usize) -> Result<Vec<(ObjectId, Vec<Ino>)>, MetaError> {
        todo!()
    }
}
