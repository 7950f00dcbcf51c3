//! One operation's batch, and its commit.
//!
//! Promises: a batch is applied whole or not at all; the caches and the totals follow it before the
//! operation returns; a caller that goes away in the middle (its future is dropped) changes nothing
//! of that, because the commit runs in a task of its own and holds the operation's locks until it
//! is over.

use std::sync::Arc;

use slatedb::WriteBatch;

use super::{
    Dentry, Ino, Inode, Meta, MetaError,
    cache::CacheChange,
    locks::Held,
    replacements::{Replacement, ReplacementChange},
    schema::{self, ExtentRow, Fallback, ObjectKey, SessionRow, StoredObject, Table},
    volume::Inner,
};

/// Rows, and bytes of keys and values, from which an operation that could go on for long commits
/// what it has and goes on in a next batch.
const ROWS_MAX: usize = 8192;
const BYTES_MAX: usize = 512 * 1024;

/// A batch under construction.
#[derive(Default)]
pub(super) struct Change {
    batch: WriteBatch,
    rows: usize,
    bytes: usize,
    cache: CacheChange,
    /// Inodes that came (or went).
    inodes: i64,
    /// Bytes of extents that came (or went).
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

    /// Time to commit and go on in a next batch?
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn put_inode(&mut self, inode: &Arc<Inode>) {
        self.put(schema::inode_key(inode.ino), schema::encode_inode(inode));
        self.cache.inodes.push((inode.ino, Some(inode.clone())));
    }

    /// An inode that did not exist before.
    pub fn add_inode(&mut self, inode: &Arc<Inode>) {
        self.put_inode(inode);
        self.inodes += 1;
        if inode.kind == super::FileKind::Directory {
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

    /// A name for `dentry`, whose contents are not committed: until they are, whoever reads what is
    /// durable finds what the name stood for before.
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

    /// The name's fallback is not needed any more: its row goes. The name itself is the caller's.
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

    /// Counts bytes of extents that came (or went) into the totals.
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

impl Meta {
    /// Applies the batch. `held` keeps other operations out until it is over.
    pub(super) async fn commit(&self, change: Change, held: Held) -> Result<(), MetaError> {
        if change.is_empty() {
            return Ok(());
        }
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            let result = inner.apply(change).await;
            drop(held);
            result
        });
        match task.await {
            Ok(result) => result,
            // Only when the runtime is going down, or on a bug (a panic): either way the outcome is
            // not known.
            Err(_) => Err(MetaError::Store("a commit was cut off".into())),
        }
    }
}

impl Inner {
    async fn apply(&self, mut change: Change) -> Result<(), MetaError> {
        let counts = change.inodes != 0 || change.allocated != 0;
        // The totals are a row of every batch that changes them, so they are exact whatever a crash
        // leaves; batches that carry them are written in the order in which they were counted.
        let mut totals = None;
        if counts {
            let guard = self.totals.lock().await;
            let mut next = *guard;
            next.inodes = next.inodes.saturating_add_signed(change.inodes);
            next.bytes = next.bytes.saturating_add_signed(change.allocated);
            change.put(Table::Totals.single(), schema::encode_totals(&next));
            totals = Some((guard, next));
        }
        let written = self.backing.write(change.batch).await;
        match written {
            Ok(sequence) => {
                if let Some((mut guard, next)) = totals {
                    *guard = next;
                    *self.totals_shown.lock() = next;
                }
                self.caches.apply(change.cache);
                self.replacements.apply(change.replacements);
                self.durability.changed(sequence);
                Ok(())
            }
            Err(error) => {
                // SlateDB fails a write only when it is closed for good.
                self.caches.clear();
                Err(self.noted(error))
            }
        }
    }
}
