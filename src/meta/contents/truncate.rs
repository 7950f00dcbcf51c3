//! Taking contents away: truncation, holes, and files that are deleted.

use std::{ops::Range, sync::Arc};

use super::{batches::Batches, window::Window};
use crate::{
    limits::FILE_SIZE_MAX,
    meta::{
        FileKind, Ino, Inode, Meta, MetaError, Timestamp,
        state::{change::Change, locks::Held},
    },
};

impl Meta {
    /// Sets the size; extents beyond are cut and counted off. Also records times.
    pub async fn truncate(
        &self,
        ino: Ino,
        size: u64,
        mtime: Timestamp,
        ctime: Timestamp,
    ) -> Result<Inode, MetaError> {
        if size > FILE_SIZE_MAX {
            return Err(MetaError::Limit("beyond the largest file size"));
        }
        let held = self.inner.locks.inodes([ino]).await;
        let mut inode = self.file(ino).await?;
        let mut batches = Batches::new(self, held);
        if size < inode.size && inode.allocated > 0 {
            inode = batches.cut(inode, size).await?;
        }
        (inode.size, inode.mtime, inode.ctime) = (size, mtime, ctime);
        batches.change.put_inode(&Arc::new(inode.clone()));
        batches.write(true).await?;
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
        let mut batches = Batches::new(self, held);
        let mut window = Window::new(ino);
        let (mut from, end) = (range.start, range.end.min(inode.size));
        while from < end && inode.allocated > 0 {
            let to = batches.load(&mut window, from..end, inode.size).await?;
            window.clear(from, to, &mut batches.ledger);
            from = to;
            if from < end {
                batches.emit(&mut window, &mut inode);
                batches.write(false).await?;
            }
        }
        batches.emit(&mut window, &mut inode);
        batches.write(true).await
    }

    async fn file(&self, ino: Ino) -> Result<Inode, MetaError> {
        let inode = self.existing_inode(ino).await?;
        match inode.kind {
            FileKind::File => Ok(inode.as_ref().clone()),
            FileKind::Directory => Err(MetaError::IsADirectory),
            _ => Err(MetaError::NotFound),
        }
    }

    /// Takes all extents of a file that is about to be deleted away, batch by batch. The last batch
    /// is returned settled and unwritten, with the locks that it was settled under.
    pub(in crate::meta) async fn drop_contents(
        &self,
        held: &Held,
        mut inode: Inode,
    ) -> Result<(Change, Held), MetaError> {
        let mut batches = Batches::new(self, held.clone());
        if inode.allocated > 0 {
            inode = batches.cut(inode, 0).await?;
        }
        debug_assert_eq!(inode.allocated, 0);
        batches.into_change().await
    }
}
