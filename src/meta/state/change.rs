//! One operation's batch, as it is built: rows, and what they change in memory.

use std::sync::Arc;

use slatedb::WriteBatch;

use crate::meta::{
    Dentry, FileKind, Ino, Inode, Totals,
    schema::{self, ExtentRow, Fallback, ObjectKey, SessionRow, StoredObject},
};

/// Rows, and bytes of keys and values, at which a long operation commits its batch and goes on with
/// the next one.
const ROWS_MAX: usize = 8192;
const BYTES_MAX: usize = 512 * 1024;

/// Changes of one operation to rows that are kept in memory.
#[derive(Default)]
pub(in crate::meta) struct CacheChange {
    pub inodes: Vec<(Ino, Option<Arc<Inode>>)>,
    pub names: Vec<(Ino, Box<[u8]>, Option<Dentry>)>,
    pub objects: Vec<(ObjectKey, Option<StoredObject>)>,
    /// Directories that it made: all their names are known, since there are none yet.
    pub new_directories: Vec<Ino>,
}

/// A name that has a fallback.
#[derive(Clone, Debug)]
pub(in crate::meta) struct Replacement {
    pub dir: Ino,
    pub name: Box<[u8]>,
    pub old: Fallback,
    /// Files that had the name since, and were not committed when they lost it.
    pub superseded: Vec<Ino>,
    /// The last change of the new file's contents before the rename.
    pub last_change: u64,
}

/// The new inode, and the cookie of the entry: it is the entry's own as long as it exists.
pub(in crate::meta) type ReplacementKey = (Ino, u64);

/// Changes of one operation to rows that are kept in memory.
#[derive(Default)]
pub(in crate::meta) struct ReplacementChange {
    pub begun: Vec<(ReplacementKey, Replacement)>,
    pub ended: Vec<ReplacementKey>,
}

/// A batch under construction.
#[derive(Default)]
pub(in crate::meta) struct Change {
    batch: WriteBatch,
    rows: usize,
    bytes: usize,
    cache: CacheChange,
    /// Inodes added, minus inodes removed.
    inodes: i64,
    /// Bytes of extents added, minus those removed.
    allocated: i64,
    replacements: ReplacementChange,
}

impl Change {
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.rows += 1;
        self.bytes += key.len() + value.len();
        self.batch.put_bytes(key.into(), value.into());
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.rows += 1;
        self.bytes += key.len();
        self.batch.delete(key);
    }

    /// Whether it is time to commit and go on with the next batch.
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether the batch changes the totals.
    pub fn counts(&self) -> bool {
        self.inodes != 0 || self.allocated != 0
    }

    /// The totals after the batch.
    pub fn counted_onto(&self, totals: Totals) -> Totals {
        Totals {
            inodes: totals.inodes.saturating_add_signed(self.inodes),
            bytes: totals.bytes.saturating_add_signed(self.allocated),
        }
    }

    /// The rows, and the changes in memory that follow them.
    pub fn into_parts(self) -> (WriteBatch, CacheChange, ReplacementChange) {
        (self.batch, self.cache, self.replacements)
    }

    pub fn put_inode(&mut self, inode: &Arc<Inode>) {
        self.put(schema::inode_key(inode.ino), schema::encode_inode(inode));
        self.cache.inodes.push((inode.ino, Some(inode.clone())));
    }

    /// An inode that did not exist before.
    pub fn add_inode(&mut self, inode: &Arc<Inode>) {
        self.put_inode(inode);
        self.inodes += 1;
        if inode.kind == FileKind::Directory {
            self.cache.new_directories.push(inode.ino);
        }
    }

    pub fn delete_inode(&mut self, ino: Ino) {
        self.delete(schema::inode_key(ino));
        self.cache.inodes.push((ino, None));
        self.inodes -= 1;
    }

    pub fn put_name(&mut self, dir: Ino, name: &[u8], dentry: Dentry) {
        self.put_name_with(dir, name, dentry, None);
    }

    fn put_name_with(&mut self, dir: Ino, name: &[u8], dentry: Dentry, fallback: Option<Fallback>) {
        self.put(
            schema::dentry_key(dir, name),
            schema::encode_dentry(&dentry, fallback),
        );
        self.put(
            schema::listing_key(dir, dentry.cookie),
            schema::encode_listing(&dentry, name, fallback),
        );
        self.cache.names.push((dir, name.into(), Some(dentry)));
    }

    /// Puts a name for `dentry`, whose contents are not committed. Until they are, readers of the
    /// durable state find the inode that the name stood for before.
    pub fn put_replacing_name(&mut self, dentry: Dentry, replacement: Replacement) {
        let Replacement { dir, name, old, .. } = &replacement;
        self.put_name_with(*dir, name, dentry, Some(*old));
        self.put(
            schema::replacement_key(dentry.ino, dentry.cookie),
            schema::encode_replacement(*dir, name, *old),
        );
        let key = (dentry.ino, dentry.cookie);
        self.replacements.begun.push((key, replacement));
    }

    /// Removes the row of a name's fallback, which is not needed any more. The name itself is left
    /// to the caller.
    pub fn end_replacement(&mut self, new: Ino, cookie: u64) {
        self.delete(schema::replacement_key(new, cookie));
        self.replacements.ended.push((new, cookie));
    }

    pub fn delete_name(&mut self, dir: Ino, name: &[u8], cookie: u64) {
        self.delete(schema::dentry_key(dir, name));
        self.delete(schema::listing_key(dir, cookie));
        self.cache.names.push((dir, name.into(), None));
    }

    pub fn put_extent(&mut self, ino: Ino, end: u64, row: &ExtentRow) {
        self.put(
            schema::extent_key(ino, end),
            schema::encode_extent(end, row),
        );
    }

    /// Counts bytes of extents that were added (or removed) into the totals.
    pub fn count_allocated(&mut self, bytes: i64) {
        self.allocated += bytes;
    }

    pub fn put_object(&mut self, object: ObjectKey, stored: StoredObject) {
        self.put(schema::object_key(object), schema::encode_object(&stored));
        self.cache.objects.push((object, Some(stored)));
    }

    pub fn delete_object(&mut self, object: ObjectKey) {
        self.delete(schema::object_key(object));
        self.cache.objects.push((object, None));
    }

    pub fn put_orphan(&mut self, ino: Ino, session: u32) {
        self.put(schema::orphan_key(ino), schema::encode_orphan(session));
    }

    pub fn put_session(&mut self, number: u32, row: &SessionRow) {
        self.put(schema::session_key(number), schema::encode_session(row));
    }
}
