//! Commits of contents: objects, and the extents that name them.

use std::collections::BTreeMap;

use super::{
    batches::{Batches, WINDOW_ROWS},
    window::Window,
};
use crate::{
    limits::FILE_SIZE_MAX,
    meta::{
        Extent, ExtentSource, FileKind, Ino, Inode, Meta, MetaError, NewObject, ObjectId,
        Timestamp,
        schema::{ExtentRow, ObjectKey, RowSource},
    },
};

/// New extents this close to each other are compared with stored ones in one scan: a MiB of random
/// 4 KiB extents is 256 rows.
const SCAN_GAP_MAX: u64 = 1 << 20;

/// One file's part of a content commit.
#[derive(Clone, Debug)]
pub struct ContentCommit {
    /// The file. If it was deleted meanwhile, this part is skipped and its bytes count as dead.
    pub ino: Ino,
    /// New extents, sorted, not overlapping each other; they replace whatever they overlap.
    pub extents: Vec<Extent>,
    /// The size to record; must cover the extents.
    pub size: u64,
    /// Stored extents from here on are removed first: the file was truncated before the new ones
    /// were written. Both are in the same batch, so that they become durable together. (Of a file
    /// in more than some thousand extents, the old ones go in batches before.)
    pub cut: Option<u64>,
    /// The modification time to record; `None` leaves it.
    pub mtime: Option<Timestamp>,
    /// The change time to record; `None` leaves it.
    pub ctime: Option<Timestamp>,
    /// Changes of the contents up to this number are committed with it. Names that were given to
    /// the file by then lose their fallback in the same batch (see [`super::RenameSource`]).
    pub covers: u64,
}

impl Meta {
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
        let mut batches = Batches::new(self, held);
        for object in objects {
            batches
                .new
                .insert(self.known_key(object.object).await?, object.clone());
        }
        // Inodes that are not cached are read together here. They are looked up again below, since
        // one file may be named twice.
        self.find_inodes(commits.iter().map(|commit| commit.ino))
            .await?;
        let mut written: BTreeMap<Ino, Inode> = BTreeMap::new();
        for part in commits {
            let again = written.remove(&part.ino);
            // The second part of a file has to see the first one in the database.
            if again.is_some() || batches.change.is_full() {
                batches.write(false).await?;
            }
            let inode = match again {
                Some(inode) => inode,
                None => match self.find_inode(part.ino).await? {
                    Some(inode) if inode.kind == FileKind::File => inode.as_ref().clone(),
                    _ => continue,
                },
            };
            let inode = self.commit_file(&mut batches, part, inode).await?;
            self.inner
                .replacements
                .complete(part.ino, part.covers, &mut batches.change);
            written.insert(part.ino, inode);
        }
        batches.write(true).await
    }

    async fn known_key(&self, object: ObjectId) -> Result<ObjectKey, MetaError> {
        self.object_key(object)
            .await?
            .ok_or_else(|| MetaError::Store("an object of a session that is not recorded".into()))
    }

    async fn commit_file(
        &self,
        batches: &mut Batches<'_>,
        part: &ContentCommit,
        mut inode: Inode,
    ) -> Result<Inode, MetaError> {
        let mut window = Window::new(part.ino);
        let cut = part.size.min(part.cut.unwrap_or(u64::MAX));
        if cut < inode.size && inode.allocated > 0 {
            inode = batches.cut(inode, cut).await?;
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
                    // Rows that were loaded before are not needed any more: a window holds the rows
                    // of one scan and the new ones.
                    if window.len() >= WINDOW_ROWS {
                        inode.size = inode.size.max(from);
                        batches.emit(&mut window, &mut inode);
                        batches.write(false).await?;
                    }
                    let far = scan_end(part.extents.get(index..).unwrap_or_default(), end)
                        .min(stored_end);
                    loaded_to = batches.load(&mut window, from..far, stored_end).await?;
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
                    &mut batches.ledger,
                );
                from = to;
                if window.len() >= 4 * WINDOW_ROWS {
                    inode.size = inode.size.max(to);
                    batches.emit(&mut window, &mut inode);
                    batches.write(false).await?;
                    // The window has let go of the rows that it had loaded.
                    loaded_to = 0;
                }
            }
        }
        inode.size = part.size;
        inode.mtime = part.mtime.unwrap_or(inode.mtime);
        inode.ctime = part.ctime.unwrap_or(inode.ctime);
        batches.emit(&mut window, &mut inode);
        Ok(inode)
    }
}

impl ContentCommit {
    /// A commit that sets extents and size; times stay as they are.
    pub fn new(ino: Ino, extents: Vec<Extent>, size: u64) -> ContentCommit {
        ContentCommit {
            ino,
            extents,
            size,
            cut: None,
            mtime: None,
            ctime: None,
            covers: 0,
        }
    }

    /// The same commit with times to record.
    pub fn with_times(self, mtime: Timestamp, ctime: Timestamp) -> ContentCommit {
        ContentCommit {
            mtime: Some(mtime),
            ctime: Some(ctime),
            ..self
        }
    }

    /// Whether the extents are in order, whole, and within the size.
    fn check(&self) -> Result<(), MetaError> {
        let mut last_end = 0;
        for extent in &self.extents {
            let end = extent
                .offset
                .checked_add(extent.len)
                .filter(|end| *end <= self.size.min(FILE_SIZE_MAX));
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

/// The end of one scan for these extents: it covers all that follow closely.
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
