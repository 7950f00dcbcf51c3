//! Mending faults without touching anything that is whole.
//!
//! Each fault is mended by itself, in consistent batches. The rows are read again, because the
//! fault tells a place and not what to do there. Faults that one mending leaves for another (an
//! inode that lost its only, wrong entry) are found by the next round of checks. Rows that do not
//! decode are left: a later version may have written them.

use std::sync::Arc;

use bytes::Bytes;

use super::{Fault, cursor::Cursor, objects::ino_of, paths::Located};
use crate::limits::FILE_SIZE_MAX;
use crate::meta::{
    Dentry, FileKind, Ino, Inode, Meta, MetaError, ObjectId, ObjectRecord, Timestamp, Totals,
    schema::{self, Counters, ObjectKey, Reader, RowSource, StoredObject, Table},
    state::{change::Change, locks::Held},
};

/// The outcome of mending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// Mended; how.
    Done(String),
    /// Left as it is; why.
    Left(String),
}

fn done(how: &str) -> Result<Mended, MetaError> {
    Ok(Mended::Done(how.to_owned()))
}

fn left(why: &str) -> Result<Mended, MetaError> {
    Ok(Mended::Left(why.to_owned()))
}

impl Meta {
    /// Mends one fault. `located` tells the paths of the file that it hurts, which may have to be
    /// moved to lost+found.
    ///
    /// # Errors
    /// The metadata cannot be read or written.
    pub async fn mend(&self, fault: &Fault, located: &Located) -> Result<Mended, MetaError> {
        match fault {
            Fault::Undecodable { .. } => left("a later version may have written it"),
            Fault::Table { .. } => left("restore that object from a copy of the bucket"),
            Fault::NoRoot => left("restore the volume from a copy of the bucket"),
            Fault::Stray { what, ino, exists } => self.mend_stray(what, *ino, *exists).await,
            Fault::Dangling { dir, name, ino } => {
                if self.find_inode(*ino).await?.is_some() {
                    return done("the inode is there again");
                }
                self.remove_entry(*dir, name).await?;
                done("the entry is removed")
            }
            Fault::BadName { dir, name } | Fault::SecondName { dir, name, .. } => {
                self.remove_entry(*dir, name).await?;
                done("the entry is removed")
            }
            Fault::Unlisted { dir, name } => self.list_entry(*dir, name).await,
            Fault::ListedOnly { dir, cookie, name } => self.name_listed(*dir, *cookie, name).await,
            Fault::WrongKind { dir, name, ino } => self.set_kind(*dir, name, *ino).await,
            Fault::Fallback { dir, name } => self.restore_fallback(*dir, name).await,
            Fault::StrayFallback { key } => self.delete_row(key).await,
            Fault::Entries { dir, .. } => self.recount_entries(*dir).await,
            Fault::Links { ino, found, .. } => {
                self.change_inode(*ino, |inode| inode.nlink = *found)
                    .await?;
                done("the count is set right")
            }
            Fault::Parent { dir, found, .. } => {
                self.change_inode(*dir, |inode| inode.parent = *found)
                    .await?;
                done("the parent is set right")
            }
            Fault::UnrecordedOrphan { ino } => self.adopt(*ino).await,
            Fault::NotAnOrphan { ino } => self.delete_row(&schema::orphan_key(*ino).into()).await,
            Fault::Detached { dir } => self.attach(*dir).await,
            Fault::BeyondSize { ino, end, .. } if *end <= FILE_SIZE_MAX => {
                self.change_inode(*ino, |inode| inode.size = inode.size.max(*end))
                    .await?;
                done("the size is raised to the end of the contents")
            }
            Fault::BeyondSize { ino, size, .. } => {
                let beyond = *size..u64::MAX;
                let beyond = std::slice::from_ref(&beyond);
                self.set_aside(*ino, beyond, located, &fault.to_string())
                    .await
            }
            Fault::Overlap { ino, range }
            | Fault::UnknownObject { ino, range, .. }
            | Fault::BeyondObject { ino, range, .. } => {
                self.set_aside(
                    *ino,
                    std::slice::from_ref(range),
                    located,
                    &fault.to_string(),
                )
                .await
            }
            Fault::Allocated { ino, .. } => self.recount_allocated(*ino).await,
            Fault::Attributes { ino, found } => {
                self.change_inode(*ino, |inode| inode.has_xattrs = *found)
                    .await?;
                done("its record says so now")
            }
            Fault::LiveBytes { found, .. } => self.mend_object(fault, Some(*found)).await,
            Fault::ObjectLists { .. } => self.mend_object(fault, None).await,
            Fault::Member { ino, .. } => self.add_member(fault, *ino).await,
            Fault::StrayObject { key, .. } => self.mend_stray_object(key).await,
            Fault::SessionObjects { session, found, .. } => {
                let held = self.inner.locks.reclaim().await;
                let mut change = Change::default();
                let sessions = &self.inner.sessions;
                sessions.set_objects(*session, *found, &mut change);
                self.commit(change, held).await?;
                done("the count is set right")
            }
            Fault::Totals { recorded, found } => self.mend_totals(*recorded, *found).await,
            Fault::Counters {
                ids_end,
                next_session,
            } => {
                let counters = Counters {
                    ids_end: self.inner.ids.raise(*ids_end),
                    next_session: self.inner.ids.next_session().max(*next_session),
                };
                let mut change = Change::default();
                let row = schema::encode_counters(&counters);
                change.put(Table::Counters.single(), row);
                self.commit(change, Held::default()).await?;
                self.flush().await?;
                done("they are raised")
            }
        }
    }

    /// Puts a lost record of an object back, with the fields of the object's own header. Its live
    /// bytes are counted from the extents. No effect if there is a record.
    ///
    /// # Errors
    /// The metadata cannot be read or written.
    pub async fn restore_object(
        &self,
        object: ObjectId,
        mut record: ObjectRecord,
    ) -> Result<(), MetaError> {
        let Some(key) = self.object_key(object).await? else {
            return Ok(());
        };
        let held = self.inner.locks.reclaim().await;
        if self.stored_object(key).await?.is_some() {
            return Ok(());
        }
        let (mut live, mut named_by) = (0u64, Vec::new());
        let mut rows = Cursor::open(&self.inner, Table::Extent.all()).await?;
        while let Some((row_key, value)) = rows.next().await? {
            let end = schema::second_of_key(&row_key)?;
            if let Ok(row) = schema::decode_extent(end, &value)
                && matches!(row.source, RowSource::Object { object, .. } if object == key)
            {
                live = live.saturating_add(end - row.start);
                let ino = Ino(ino_of(&row_key));
                if named_by.last() != Some(&ino) {
                    named_by.push(ino);
                }
            }
        }
        record.live_bytes = live;
        let stored = StoredObject {
            record,
            died_unix_seconds: None,
        };
        let mut change = Change::default();
        let members = schema::encode_members(&named_by);
        change.put(schema::members_key(key), members);
        self.put_with_lists(key, stored, &mut change);
        self.inner
            .sessions
            .count_objects(key.session, 1, &mut change);
        self.commit(change, held).await
    }

    /// The object of a fault, if its session is known.
    ///
    /// # Errors
    /// The metadata cannot be read.
    pub async fn object_of_fault(&self, fault: &Fault) -> Option<ObjectId> {
        let key = fault.object()?;
        self.object_id(key).await.ok()
    }

    async fn change_inode(
        &self,
        ino: Ino,
        change: impl FnOnce(&mut Inode),
    ) -> Result<(), MetaError> {
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        change(&mut inode);
        let mut batch = Change::default();
        batch.put_inode(&Arc::new(inode));
        self.commit(batch, held).await
    }

    async fn delete_row(&self, key: &Bytes) -> Result<Mended, MetaError> {
        let mut change = Change::default();
        change.delete(key.to_vec());
        self.commit(change, Held::default()).await?;
        done("the row is removed")
    }

    /// Mends rows whose inode is not there, or cannot have them.
    async fn mend_stray(&self, what: &str, ino: Ino, exists: bool) -> Result<Mended, MetaError> {
        match (what, exists) {
            ("extents", false) => self.remake(ino, FileKind::File).await,
            ("directory entries", false) => self.remake(ino, FileKind::Directory).await,
            ("extents", true) => {
                let all = 0..u64::MAX;
                self.cut_out(ino, std::slice::from_ref(&all)).await?;
                done("they are removed")
            }
            ("directory entries", true) => {
                let next = Ino(ino.0 + 1);
                let entries = schema::dentry_key(ino, b"")..schema::dentry_key(next, b"");
                self.delete_rows(entries).await?;
                self.delete_rows(schema::listing_range(ino, 0)).await
            }
            ("an orphan record", _) => self.delete_row(&schema::orphan_key(ino).into()).await,
            _ => self.delete_rows(schema::xattr_range(ino)).await,
        }
    }

    async fn delete_rows(&self, range: std::ops::Range<Vec<u8>>) -> Result<Mended, MetaError> {
        let mut rows = Cursor::open(&self.inner, range).await?;
        let mut change = Change::default();
        while let Some((key, _)) = rows.next().await? {
            change.delete(key.to_vec());
            if change.is_full() {
                self.commit(std::mem::take(&mut change), Held::default())
                    .await?;
            }
        }
        self.commit(change, Held::default()).await?;
        done("they are removed")
    }

    /// Makes a record for an inode whose own is lost and whose contents or entries are there. Owner
    /// and mode are lost with it, so it is root's alone.
    async fn remake(&self, ino: Ino, kind: FileKind) -> Result<Mended, MetaError> {
        let (mut size, mut allocated, mut entries) = (0, 0, 0);
        match kind {
            FileKind::Directory => entries = self.count_entries(ino).await?,
            _ => {
                let mut rows = Cursor::open(&self.inner, schema::extent_range(ino, 0)).await?;
                while let Some((key, value)) = rows.next().await? {
                    let end = schema::second_of_key(&key)?;
                    size = end.min(FILE_SIZE_MAX);
                    if let Ok(row) = schema::decode_extent(end, &value) {
                        allocated += end - row.start;
                    }
                }
            }
        }
        let range = schema::xattr_range(ino);
        let has_xattrs = Cursor::open(&self.inner, range).await?.key().is_some();
        let now = Timestamp::now();
        let inode = Inode {
            ino,
            kind,
            mode: if kind == FileKind::Directory {
                0o700
            } else {
                0o600
            },
            uid: 0,
            gid: 0,
            // The entries that name it are counted later.
            nlink: 1,
            rdev: 0,
            size,
            allocated,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            parent: match kind {
                FileKind::Directory => Ino::ROOT,
                _ => Ino(0),
            },
            entries,
            target: Bytes::new(),
            has_xattrs,
        };
        let mut change = Change::default();
        change.add_inode(&Arc::new(inode));
        change.count_allocated(allocated as i64);
        self.commit(change, Held::default()).await?;
        // If nothing else is wrong, the totals count both already. The next round compares them.
        done("a new record is made, for root alone")
    }

    async fn count_entries(&self, dir: Ino) -> Result<u64, MetaError> {
        let range = schema::dentry_key(dir, b"")..schema::dentry_key(Ino(dir.0 + 1), b"");
        let mut rows = Cursor::open(&self.inner, range).await?;
        let mut entries = 0;
        while rows.next().await?.is_some() {
            entries += 1;
        }
        Ok(entries)
    }

    async fn recount_entries(&self, dir: Ino) -> Result<Mended, MetaError> {
        let entries = self.count_entries(dir).await?;
        self.change_inode(dir, |inode| inode.entries = entries)
            .await?;
        done("the count is set right")
    }

    async fn recount_allocated(&self, ino: Ino) -> Result<Mended, MetaError> {
        let mut rows = Cursor::open(&self.inner, schema::extent_range(ino, 0)).await?;
        let mut allocated = 0;
        while let Some((key, value)) = rows.next().await? {
            let end = schema::second_of_key(&key)?;
            if let Ok(row) = schema::decode_extent(end, &value) {
                allocated += end - row.start;
            }
        }
        drop(rows);
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        let mut change = Change::default();
        change.count_allocated(allocated as i64 - inode.allocated as i64);
        inode.allocated = allocated;
        change.put_inode(&Arc::new(inode));
        self.commit(change, held).await?;
        done("the count is set right")
    }

    /// Enters an entry into the listing. If its place is another entry's, it gets a new one.
    async fn list_entry(&self, dir: Ino, name: &[u8]) -> Result<Mended, MetaError> {
        let held = self.inner.locks.inodes([dir]).await;
        let stored = self.inner.get(&schema::dentry_key(dir, name)).await?;
        let Some(value) = stored else {
            return done("it is gone already");
        };
        let (mut entry, fallback) = schema::decode_dentry_row(&value)?;
        if fallback.is_some() {
            return left("its fallback is to be mended first");
        }
        let key = schema::listing_key(dir, entry.cookie);
        let line = self.inner.get(&key).await?;
        let line = line
            .and_then(|value| schema::decode_listing(entry.cookie, &value, Reader::Writer).ok());
        if let Some(line) = line.filter(|line| line.name != name)
            && let Some(other) = self.lookup(dir, &line.name).await?
            && other.cookie == entry.cookie
        {
            entry.cookie = self.new_id().await?.0;
        }
        let mut change = Change::default();
        change.put_name(dir, name, entry);
        self.commit(change, held).await?;
        done("it is listed again")
    }

    /// Makes an entry of a line in a listing again, or removes the line.
    async fn name_listed(&self, dir: Ino, cookie: u64, name: &[u8]) -> Result<Mended, MetaError> {
        let held = self.inner.locks.inodes([dir]).await;
        let key = schema::listing_key(dir, cookie);
        let Some(value) = self.inner.get(&key).await? else {
            return done("it is gone already");
        };
        let line = schema::decode_listing(cookie, &value, Reader::Writer)?;
        let is_free = self.lookup(dir, name).await?.is_none();
        let named = self.find_inode(line.ino).await?;
        let mut change = Change::default();
        let Some(named) = named.filter(|_| is_free) else {
            change.delete(key);
            self.commit(change, held).await?;
            return done("the line is removed");
        };
        let entry = Dentry {
            ino: line.ino,
            kind: named.kind,
            cookie,
        };
        change.put_name(dir, name, entry);
        self.commit(change, held).await?;
        done("the entry is there again")
    }

    async fn set_kind(&self, dir: Ino, name: &[u8], ino: Ino) -> Result<Mended, MetaError> {
        let held = self.inner.locks.inodes([dir]).await;
        let entry = self.existing_name(dir, name).await?;
        let kind = self.existing_inode(ino).await?.kind;
        let mut change = Change::default();
        change.put_name(dir, name, Dentry { kind, ..entry });
        self.commit(change, held).await?;
        done("the entry says its kind now")
    }

    /// Writes a record and puts the object on the lists that it belongs on.
    fn put_with_lists(&self, key: ObjectKey, mut stored: StoredObject, change: &mut Change) {
        if let Some(died) = stored.died_unix_seconds {
            change.delete(schema::garbage_key(died, key));
        }
        stored.died_unix_seconds = match stored.record.live_bytes {
            0 => Some(
                stored
                    .died_unix_seconds
                    .unwrap_or(crate::clock::unix_seconds()),
            ),
            _ => None,
        };
        if let Some(died) = stored.died_unix_seconds {
            change.put(schema::garbage_key(died, key), Vec::new());
        }
        match stored.record.is_sparse() {
            true => change.put(schema::sparse_key(key), Vec::new()),
            false => change.delete(schema::sparse_key(key)),
        }
        change.put_object(key, stored);
    }

    async fn mend_object(&self, fault: &Fault, live: Option<u64>) -> Result<Mended, MetaError> {
        let held = self.inner.locks.reclaim().await;
        let stored = match fault.object() {
            Some(key) => self.stored_object(key).await?.map(|stored| (key, stored)),
            None => None,
        };
        let Some((key, mut stored)) = stored else {
            return done("it is gone already");
        };
        stored.record.live_bytes = live.unwrap_or(stored.record.live_bytes);
        let mut change = Change::default();
        self.put_with_lists(key, stored, &mut change);
        self.commit(change, held).await?;
        done("its record and its lists are set right")
    }

    async fn add_member(&self, fault: &Fault, ino: Ino) -> Result<Mended, MetaError> {
        let held = self.inner.locks.reclaim().await;
        let mut change = Change::default();
        if let Some(key) = fault.object() {
            self.add_members(key, false, vec![ino], &mut change).await?;
        }
        self.commit(change, held).await?;
        done("it does now")
    }

    /// Removes a row about an object without a record. A record of an unknown session stays if
    /// files name it, since nobody knows where that object is.
    async fn mend_stray_object(&self, key: &Bytes) -> Result<Mended, MetaError> {
        if key.first() != Some(&(Table::Object as u8)) {
            return self.delete_row(key).await;
        }
        let object = schema::object_of_key(key)?;
        let held = self.inner.locks.reclaim().await;
        let mut change = Change::default();
        if let Some(stored) = self.stored_object(object).await? {
            if stored.record.live_bytes > 0 {
                return left("files name it, and nobody knows where it is");
            }
            if let Some(died) = stored.died_unix_seconds {
                change.delete(schema::garbage_key(died, object));
            }
        }
        change.delete(schema::members_key(object));
        change.delete_object(object);
        self.commit(change, held).await?;
        done("the record is removed")
    }

    /// Other mendings have changed the totals since the check, so only the difference is added.
    async fn mend_totals(
        &self,
        recorded: (u64, u64),
        found: (u64, u64),
    ) -> Result<Mended, MetaError> {
        let mut totals = self.inner.totals.lock().await;
        let shift = |now: u64, recorded: u64, found: u64| {
            now.saturating_add(found).saturating_sub(recorded)
        };
        let next = Totals {
            inodes: shift(totals.inodes, recorded.0, found.0),
            bytes: shift(totals.bytes, recorded.1, found.1),
        };
        let mut batch = slatedb::WriteBatch::new();
        batch.put(Table::Totals.single(), schema::encode_totals(&next));
        let sequence = self.inner.backing.write(batch).await?;
        self.inner.durability.changed(sequence);
        *totals = next;
        *self.inner.totals_shown.lock() = next;
        done("they are set right")
    }
}
