//! The map from file ranges to objects.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use super::{
    Extent, ExtentSource, FileKind, Ino, Inode, Meta, MetaError, ObjectId, ObjectRecord, Timestamp,
    backing::Scan,
    change::Change,
    extents::Window,
    ledger::Ledger,
    locks::Held,
    schema::{self, ExtentRow, ObjectKey, RowSource},
};
use crate::seal::codec::SealParams;

/// Rows that a window takes in at once.
const WINDOW_ROWS: usize = 2048;
/// New extents this close to each other are looked at with one scan: a MiB of random 4 KiB extents
/// is 256 rows.
const SCAN_GAP_MAX: u64 = 1 << 20;
/// The largest size of a file, and the end of every extent (Linux `MAX_LFS_FILESIZE`).
const SIZE_MAX: u64 = i64::MAX as u64;

/// One file's part of a content commit.
#[derive(Clone, Debug)]
pub struct ContentCommit {
    /// The file. If it is gone (reaped) this part is skipped and its bytes count as dead.
    pub ino: Ino,
    /// New extents, sorted, not overlapping each other; they replace whatever they overlap.
    pub extents: Vec<Extent>,
    /// The size to record; must cover the extents.
    pub size: u64,
    /// Stored extents from here on go first: the file was truncated before the new ones were
    /// written. In the same batch, so that what replaces contents and what takes them away become
    /// durable together (of a file in more than some thousand extents, the old ones go before).
    pub cut: Option<u64>,
    /// The modification time to record; `None` leaves it.
    pub mtime: Option<Timestamp>,
    /// The change time to record; `None` leaves it.
    pub ctime: Option<Timestamp>,
    /// Changes of the contents up to this number are committed with it. Names that were given to
    /// the file by then lose their fallback in the same batch (see [`super::RenameSource`]).
    pub covers: u64,
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

/// A change of contents that may take several batches, each consistent in itself.
struct Commit<'a> {
    meta: &'a Meta,
    held: Held,
    change: Change,
    ledger: Ledger,
    new: BTreeMap<ObjectKey, NewObject>,
}

impl Commit<'_> {
    /// Writes what there is. The reclaim lock is held from reading object records to their being
    /// written.
    async fn write(&mut self, last: bool) -> Result<(), MetaError> {
        let held = self.held.clone().and(self.meta.inner.locks.reclaim().await);
        let (mut change, ledger) = (
            std::mem::take(&mut self.change),
            std::mem::take(&mut self.ledger),
        );
        self.meta
            .settle(ledger, &mut self.new, last, &mut change)
            .await?;
        self.meta.commit(change, held).await
    }

    /// The window's differences and the inode as it is with them.
    fn emit(&mut self, window: &mut Window, inode: &mut Inode) {
        inode.allocated = inode.allocated.saturating_add_signed(window.allocated);
        self.change.count_allocated(window.allocated);
        self.meta.inner.crowded.lock().note(window.count());
        window.emit(&mut self.change);
        self.change.put_inode(&Arc::new(inode.clone()));
    }
}

impl Meta {
    /// The extents that overlap `range`, sorted, not clipped; at most `limit` (the caller goes on
    /// after the last).
    pub async fn extents(
        &self,
        ino: Ino,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<Extent>, MetaError> {
        let mut extents = Vec::new();
        if range.is_empty()
            || self
                .find_inode(ino)
                .await?
                .is_none_or(|inode| inode.allocated == 0)
        {
            return Ok(extents);
        }
        let mut rows = self
            .inner
            .scan(schema::extent_range(ino, range.start + 1), Scan::Near)
            .await?;
        while extents.len() < limit {
            let Some((key, value)) = rows.next().await? else {
                break;
            };
            let end = schema::second_of_key(&key)?;
            let row = schema::decode_extent(end, &value)?;
            if row.start >= range.end {
                break;
            }
            let source = match row.source {
                RowSource::Object { object, at } => ExtentSource::Object {
                    object: self.object_id(object).await?,
                    at,
                },
                RowSource::Inline(bytes) => ExtentSource::Inline(bytes),
            };
            extents.push(Extent {
                offset: row.start,
                len: end - row.start,
                source,
            });
        }
        Ok(extents)
    }

    /// Commits contents: objects and the extents that name them, in one batch. Bytes of objects
    /// that no extent names any more are counted off their objects; objects left without live bytes
    /// become garbage in the same batch.
    ///
    /// A commit of more than some thousands of rows is written in several batches, each consistent
    /// in itself: a file's old contents are replaced from front to back.
    pub async fn commit_content(
        &self,
        objects: &[NewObject],
        commits: &[ContentCommit],
    ) -> Result<(), MetaError> {
        for commit in commits {
            commit.check()?;
        }
        let held = self
            .inner
            .locks
            .inodes(commits.iter().map(|commit| commit.ino))
            .await;
        let mut commit = Commit {
            meta: self,
            held,
            change: Change::default(),
            ledger: Ledger::default(),
            new: BTreeMap::new(),
        };
        for object in objects {
            commit
                .new
                .insert(self.known_key(object.object).await?, object.clone());
        }
        // One read for those that are not cached; the records are looked up again below, as one
        // file may be named twice.
        self.find_inodes(commits.iter().map(|commit| commit.ino))
            .await?;
        let mut written: BTreeMap<Ino, Inode> = BTreeMap::new();
        for part in commits {
            let again = written.remove(&part.ino);
            // What a file is changed to is not in the database before it is written.
            if again.is_some() || commit.change.is_full() {
                commit.write(false).await?;
            }
            let inode = match again {
                Some(inode) => inode,
                None => match self.find_inode(part.ino).await? {
                    Some(inode) if inode.kind == FileKind::File => inode.as_ref().clone(),
                    _ => continue,
                },
            };
            let inode = self.commit_file(&mut commit, part, inode).await?;
            self.inner
                .replacements
                .complete(part.ino, part.covers, &mut commit.change);
            written.insert(part.ino, inode);
        }
        commit.write(true).await
    }

    async fn known_key(&self, object: ObjectId) -> Result<ObjectKey, MetaError> {
        self.object_key(object)
            .await?
            .ok_or_else(|| MetaError::Store("an object of a session that is not recorded".into()))
    }

    async fn commit_file(
        &self,
        commit: &mut Commit<'_>,
        part: &ContentCommit,
        mut inode: Inode,
    ) -> Result<Inode, MetaError> {
        let mut window = Window::new(part.ino);
        let cut = part.size.min(part.cut.unwrap_or(u64::MAX));
        if cut < inode.size && inode.allocated > 0 {
            inode = self.cut(commit, inode, cut).await?;
        }
        // Nothing is stored beyond the size, nor in a file that has no extents.
        let stored_end = if inode.allocated == 0 { 0 } else { inode.size };
        let mut loaded_to = 0;
        let mut last_key = None;
        for (index, extent) in part.extents.iter().enumerate() {
            let end = extent.offset + extent.len;
            let source = match &extent.source {
                ExtentSource::Inline(bytes) => RowSource::Inline(bytes.clone()),
                ExtentSource::Object { object, at } => {
                    let key = match last_key {
                        Some((id, key)) if id == *object => key,
                        _ => self.known_key(*object).await?,
                    };
                    last_key = Some((*object, key));
                    RowSource::Object {
                        object: key,
                        at: *at,
                    }
                }
            };
            let whole = ExtentRow {
                start: extent.offset,
                source,
            };
            let mut from = extent.offset;
            while from < end {
                if from >= loaded_to && from < stored_end {
                    // What was loaded before is done with: a window holds what one scan brings, and
                    // what is put there.
                    if window.len() >= WINDOW_ROWS {
                        inode.size = inode.size.max(from);
                        commit.emit(&mut window, &mut inode);
                        commit.write(false).await?;
                    }
                    let far = scan_end(part.extents.get(index..).unwrap_or_default(), end)
                        .min(stored_end);
                    loaded_to = self.load(&mut window, from..far, stored_end).await?;
                    if loaded_to == stored_end {
                        loaded_to = u64::MAX;
                    }
                }
                let to = if from >= stored_end {
                    end
                } else {
                    end.min(loaded_to)
                };
                window.put(
                    from,
                    to,
                    whole.part(end, from, to).source,
                    &mut commit.ledger,
                );
                from = to;
                if window.len() >= 4 * WINDOW_ROWS {
                    inode.size = inode.size.max(to);
                    commit.emit(&mut window, &mut inode);
                    commit.write(false).await?;
                    // The window let go of what it had loaded.
                    loaded_to = 0;
                }
            }
        }
        inode.size = part.size;
        inode.mtime = part.mtime.unwrap_or(inode.mtime);
        inode.ctime = part.ctime.unwrap_or(inode.ctime);
        commit.emit(&mut window, &mut inode);
        Ok(inode)
    }

    /// Takes the stored extents that touch `range` into the window, and says how far: to the
    /// range's end, or to the end of the last row that there was room for. Rows that the batch cuts
    /// off at `stored_end`, which the database does not know yet, are taken as they will be.
    async fn load(
        &self,
        window: &mut Window,
        range: Range<u64>,
        stored_end: u64,
    ) -> Result<u64, MetaError> {
        // An extent that ends where the range begins is taken along: what is put there may continue
        // it.
        let mut rows = self
            .inner
            .scan(schema::extent_range(window.ino(), range.start), Scan::Near)
            .await?;
        let mut last_end = range.start + 1;
        for _ in 0..WINDOW_ROWS {
            let Some((key, value)) = rows.next().await? else {
                return Ok(range.end);
            };
            let stored = schema::second_of_key(&key)?;
            let mut row = schema::decode_extent(stored, &value)?;
            let end = stored.min(stored_end);
            let is_beyond = row.start > range.end || row.start >= stored_end;
            if !is_beyond {
                if end < stored {
                    row = row.part(stored, row.start, end);
                }
                window.load(end, row);
            }
            if is_beyond || end >= range.end {
                // The row after one that ends exactly there may continue it, which is not worth
                // another row read.
                return Ok(range.end);
            }
            last_end = end.max(last_end);
        }
        Ok(last_end)
    }

    /// Takes everything from `size` on away, from the back. In the batch that is under way if there
    /// is room in it, else in several, all but the last of which are written. The inode's size
    /// follows.
    async fn cut(
        &self,
        commit: &mut Commit<'_>,
        mut inode: Inode,
        size: u64,
    ) -> Result<Inode, MetaError> {
        let mut range = schema::extent_range(inode.ino, size + 1);
        loop {
            let mut window = Window::new(inode.ino);
            let mut rows = self.inner.scan(range.clone(), Scan::Backward).await?;
            let mut lowest = None;
            for _ in 0..WINDOW_ROWS {
                let Some((key, value)) = rows.next().await? else {
                    lowest = None;
                    break;
                };
                let end = schema::second_of_key(&key)?;
                let row = schema::decode_extent(end, &value)?;
                lowest = Some((row.start, key));
                window.load(end, row);
            }
            let from = lowest
                .as_ref()
                .map_or(size, |(lowest, _)| (*lowest).max(size));
            window.clear(from, u64::MAX - 1, &mut commit.ledger);
            inode.size = from;
            commit.emit(&mut window, &mut inode);
            match lowest {
                // What was cleared is still in the database until the batch is written: the next
                // look ends before it.
                Some((_, key)) if from > size => range.end = key.to_vec(),
                _ => {
                    inode.size = size;
                    return Ok(inode);
                }
            }
            if commit.change.is_full() {
                commit.write(false).await?;
            }
        }
    }

    /// Sets the size; extents beyond are cut and counted off. Also records times.
    pub async fn truncate(
        &self,
        ino: Ino,
        size: u64,
        mtime: Timestamp,
        ctime: Timestamp,
    ) -> Result<Inode, MetaError> {
        if size > SIZE_MAX {
            return Err(MetaError::Limit("beyond the largest file size"));
        }
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.file(ino).await?;
        let mut commit = Commit {
            meta: self,
            held,
            change: Change::default(),
            ledger: Ledger::default(),
            new: BTreeMap::new(),
        };
        if size < inode.size && inode.allocated > 0 {
            inode = self.cut(&mut commit, inode, size).await?;
        }
        (inode.size, inode.mtime, inode.ctime) = (size, mtime, ctime);
        commit.change.put_inode(&Arc::new(inode.clone()));
        commit.write(true).await?;
        Ok(inode)
    }

    /// Makes a hole (FALLOC_FL_PUNCH_HOLE); the size stays.
    pub async fn punch_hole(
        &self,
        ino: Ino,
        range: Range<u64>,
        mtime: Timestamp,
        ctime: Timestamp,
    ) -> Result<(), MetaError> {
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.file(ino).await?;
        (inode.mtime, inode.ctime) = (mtime, ctime);
        let mut commit = Commit {
            meta: self,
            held,
            change: Change::default(),
            ledger: Ledger::default(),
            new: BTreeMap::new(),
        };
        let mut window = Window::new(ino);
        let (mut from, end) = (range.start, range.end.min(inode.size));
        while from < end && inode.allocated > 0 {
            let to = self.load(&mut window, from..end, inode.size).await?;
            window.clear(from, to, &mut commit.ledger);
            from = to;
            if from < end {
                commit.emit(&mut window, &mut inode);
                commit.write(false).await?;
            }
        }
        commit.emit(&mut window, &mut inode);
        commit.write(true).await
    }

    async fn file(&self, ino: Ino) -> Result<Inode, MetaError> {
        let inode = self.existing_inode(ino).await?;
        match inode.kind {
            FileKind::File => Ok(inode.as_ref().clone()),
            FileKind::Directory => Err(MetaError::IsADirectory),
            _ => Err(MetaError::NotFound),
        }
    }

    /// The record of an object, from a cache or the database.
    pub async fn object(&self, object: ObjectId) -> Result<Option<ObjectRecord>, MetaError> {
        match self.object_key(object).await? {
            Some(key) => Ok(self.stored_object(key).await?.map(|stored| stored.record)),
            None => Ok(None),
        }
    }

    /// Takes all extents of a file away that is about to be deleted, batch by batch; leaves the
    /// last one in `change`, settled, with the lock that it was settled under.
    pub(super) async fn drop_contents(
        &self,
        held: &Held,
        mut inode: Inode,
    ) -> Result<(Change, Held), MetaError> {
        let mut commit = Commit {
            meta: self,
            held: held.clone(),
            change: Change::default(),
            ledger: Ledger::default(),
            new: BTreeMap::new(),
        };
        if inode.allocated > 0 {
            inode = self.cut(&mut commit, inode, 0).await?;
        }
        debug_assert_eq!(inode.allocated, 0);
        let reclaim = self.inner.locks.reclaim().await;
        let (mut change, ledger) = (commit.change, commit.ledger);
        self.settle(ledger, &mut commit.new, true, &mut change)
            .await?;
        Ok((change, held.clone().and(reclaim)))
    }
}

impl ContentCommit {
    /// Are the extents in order, whole, and within the size?
    fn check(&self) -> Result<(), MetaError> {
        let mut last_end = 0;
        for extent in &self.extents {
            let end = extent
                .offset
                .checked_add(extent.len)
                .filter(|end| *end <= self.size.min(SIZE_MAX));
            let whole = match &extent.source {
                ExtentSource::Inline(bytes) => bytes.len() as u64 == extent.len,
                ExtentSource::Object { at, .. } => at.checked_add(extent.len).is_some(),
            };
            last_end = match end {
                Some(end) if extent.offset >= last_end && extent.len > 0 && whole => end,
                _ => {
                    return Err(MetaError::Limit(
                        "extents of a commit must be in order, not empty, and within the file's size",
                    ));
                }
            };
        }
        Ok(())
    }
}

/// How far one scan for these extents reaches: over all that follow closely.
fn scan_end(extents: &[Extent], first_end: u64) -> u64 {
    let mut end = first_end;
    for extent in extents.iter().skip(1) {
        if extent.offset.saturating_sub(end) > SCAN_GAP_MAX {
            break;
        }
        end = end.max(extent.offset.saturating_add(extent.len));
    }
    end
}
