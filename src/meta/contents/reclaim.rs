//! Leftovers of crashes and deletions: orphans, garbage objects, objects worth repacking.

use std::ops::Range;

use crate::clock;
use crate::meta::{
    Ino, Meta, MetaError, ObjectId, ObjectRecord, SessionId,
    database::backing::Scan,
    schema::{self, Table},
    state::{change::Change, locks::Held},
};

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
    /// Deletes an orphan for good: its inode, xattrs and extents, counted off their objects.
    /// Batches are bounded, and it is safe to repeat after a crash. An inode that has links is left
    /// alone. If a name may have to fall back to the inode, it is deleted later, when no name does
    /// any more.
    pub async fn reap(&self, ino: Ino) -> Result<(), MetaError> {
        let held = self.inner.locks.inodes([ino]).await;
        if self.inner.replacements.defers_reaping(ino) {
            return Ok(());
        }
        let Some(inode) = self.find_inode(ino).await? else {
            return Ok(());
        };
        if inode.nlink > 0 {
            return Ok(());
        }
        let xattrs = self.xattr_names(ino).await?;
        let (mut change, held) = self.drop_contents(&held, inode.as_ref().clone()).await?;
        for name in xattrs {
            change.delete(schema::xattr_key(ino, &name));
        }
        change.delete(schema::orphan_key(ino));
        change.delete_inode(ino);
        self.commit(change, held).await
    }

    /// Orphans that an earlier mount left.
    pub async fn orphans(&self, limit: usize) -> Result<Vec<Ino>, MetaError> {
        let mut rows = self.inner.scan(Table::Orphan.all(), Scan::Forward).await?;
        let mut orphans = Vec::new();
        while orphans.len() < limit {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            if schema::decode_orphan(&value)? != self.inner.session_number {
                orphans.push(schema::ino_of_key(&key)?);
            }
        }
        Ok(orphans)
    }

    /// Whether the metadata has a record of this object, as live or as garbage.
    pub async fn knows_object(&self, object: ObjectId) -> Result<bool, MetaError> {
        match self.object_key(object).await? {
            Some(key) => Ok(self.stored_object(key).await?.is_some()),
            None => Ok(false),
        }
    }

    /// This moment, in seconds since 1970, and its generation. Objects that die from now on die in
    /// this second or later, and in a later generation.
    pub async fn mark(&self) -> (i64, u64) {
        // A commit that records an object's death holds this lock until it is applied.
        let _nothing_dies = self.inner.locks.reclaim().await;
        (clock::unix_seconds(), self.applied())
    }

    /// Garbage that died at or before `before_unix_seconds` and whose death is durable, oldest
    /// first.
    pub async fn garbage(
        &self,
        before_unix_seconds: i64,
        limit: usize,
    ) -> Result<Vec<Garbage>, MetaError> {
        let mut rows = self
            .inner
            .scan(schema::garbage_range(before_unix_seconds), Scan::Durable)
            .await?;
        let mut garbage = Vec::new();
        while garbage.len() < limit {
            let Some((key, _)) = rows.next().await? else {
                break;
            };
            let (died_unix_seconds, object) = schema::garbage_of_key(&key)?;
            // It was forgotten, which is not durable yet, so the durable state still lists it.
            if self.stored_object(object).await?.is_none() {
                continue;
            }
            garbage.push(Garbage {
                object: self.object_id(object).await?,
                died_unix_seconds,
            });
        }
        Ok(garbage)
    }

    /// Forgets garbage whose objects were deleted from the store.
    pub async fn forget_garbage(&self, objects: &[ObjectId]) -> Result<(), MetaError> {
        let held = self.inner.locks.reclaim().await;
        let mut change = Change::default();
        for object in objects {
            let Some(key) = self.object_key(*object).await? else {
                continue;
            };
            let Some(stored) = self.stored_object(key).await? else {
                continue;
            };
            // Only dead objects can be forgotten.
            let Some(died) = stored.died_unix_seconds else {
                continue;
            };
            change.delete_object(key);
            change.delete(schema::members_key(key));
            change.delete(schema::garbage_key(died, key));
            self.inner
                .sessions
                .count_objects(key.session, -1, &mut change);
            if change.is_full() {
                self.commit(std::mem::take(&mut change), held.clone())
                    .await?;
            }
        }
        self.commit(change, Held::default().and(held)).await
    }

    /// Objects below half live, at most `limit`, in the order of their rows after that of `after`
    /// (`None`: from the first): candidates for repacking, with the inodes whose extents name them
    /// (some of which may not any more).
    pub async fn repack_candidates(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, Vec<Ino>)>, MetaError> {
        let mut range = Table::Sparse.all();
        if let Some(after) = after
            && let Some(key) = self.object_key(after).await?
        {
            // The next key in order.
            range.start = schema::sparse_key(key);
            range.start.push(0);
        }
        let mut rows = self.inner.scan(range, Scan::Forward).await?;
        let mut candidates = Vec::new();
        while candidates.len() < limit {
            let Some((key, _)) = rows.next().await? else {
                break;
            };
            let object = schema::object_of_key(&key)?;
            candidates.push((self.object_id(object).await?, self.members(object).await?));
        }
        Ok(candidates)
    }

    /// Returns at most `limit` records of objects in the order of their rows, dead ones too,
    /// beginning after that of `after` (`None`: at the first). An answer with fewer than `limit`
    /// reaches the end.
    pub async fn objects_after(
        &self,
        after: Option<ObjectId>,
        limit: usize,
    ) -> Result<Vec<(ObjectId, ObjectRecord)>, MetaError> {
        let mut range = Table::Object.all();
        if let Some(after) = after {
            // The session was forgotten meanwhile, so nobody knows where its rows were.
            let Some(key) = self.object_key(after).await? else {
                return Ok(Vec::new());
            };
            range.start = schema::object_key(key);
            range.start.push(0);
        }
        let mut rows = self.inner.scan(range, Scan::Near).await?;
        let mut objects = Vec::new();
        while objects.len() < limit {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            let object = schema::object_of_key(&key)?;
            let stored = schema::decode_object(&value)?;
            objects.push((self.object_id(object).await?, stored.record));
        }
        Ok(objects)
    }

    /// Returns the inodes whose extents name an object; some of them may not name it any more.
    pub async fn members_of(&self, object: ObjectId) -> Result<Vec<Ino>, MetaError> {
        match self.object_key(object).await? {
            Some(key) => self.members(key).await,
            None => Ok(Vec::new()),
        }
    }

    /// Takes out a region that a commit found to lie in more than 32 extents, in the order of files
    /// and offsets.
    pub fn take_crowded(&self) -> Option<(Ino, Range<u64>)> {
        self.inner.crowded.lock().take()
    }
}
