//! Names that come and go: create, link, unlink. Each change is one batch and keeps parents' mtime,
//! ctime, nlink and entries. (Rename is in `rename.rs`.)

use std::sync::Arc;

use bytes::Bytes;

use super::rules::{add_link, check_name, touched_parent};
use crate::{
    limits::SYMLINK_TARGET_LEN_MAX,
    meta::{
        Dentry, FileKind, Ino, Inode, Meta, MetaError, Timestamp, schema,
        state::{change::Change, locks::Held},
    },
};

/// A new inode's attributes.
#[derive(Clone, Debug)]
pub struct NewInode {
    /// Kind.
    pub kind: FileKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Symlinks: the target.
    pub target: Bytes,
    /// All four times.
    pub now: Timestamp,
    /// Xattrs set in the same batch (inherited ACLs).
    pub xattrs: Vec<(Bytes, Bytes)>,
}

/// The inode that a removal took a name from.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The inode that lost a name.
    pub ino: Ino,
    /// Links that are left. At 0 the inode was recorded as an orphan in the same batch: call
    /// [`Meta::reap`] when no handle is left.
    pub nlink: u32,
}

impl Meta {
    /// Makes a file, directory, symlink or node. `Exists` if the name is taken; `NotFound` if the
    /// directory was removed.
    pub async fn create(&self, dir: Ino, name: &[u8], new: NewInode) -> Result<Inode, MetaError> {
        check_name(name)?;
        let ino = self.new_id().await?;
        let held = self.inner.locks.inodes([dir]).await;
        let parent = self.live_directory(dir).await?;
        if self.lookup(dir, name).await?.is_some() {
            return Err(MetaError::Exists);
        }
        let is_directory = new.kind == FileKind::Directory;
        let mut change = Change::default();
        let inode = new.record(
            ino,
            if is_directory { dir } else { Ino(0) },
            if is_directory { 2 } else { 1 },
            &mut change,
        )?;
        change.add_inode(&inode);
        change.put_name(
            dir,
            name,
            Dentry {
                ino,
                kind: inode.kind,
                cookie: ino.0,
            },
        );
        let parent = touched_parent(&parent, 1, i64::from(is_directory), inode.btime)?;
        change.put_inode(&Arc::new(parent));
        self.commit(change, held).await?;
        Ok(inode.as_ref().clone())
    }

    /// An unnamed file (O_TMPFILE, or `create` that will be linked later): an orphan from birth.
    pub async fn create_orphan(&self, new: NewInode) -> Result<Inode, MetaError> {
        let ino = self.new_id().await?;
        let mut change = Change::default();
        let inode = new.record(ino, Ino(0), 0, &mut change)?;
        change.add_inode(&inode);
        change.put_orphan(ino, self.inner.session_number);
        self.commit(change, Held::default()).await?;
        Ok(inode.as_ref().clone())
    }

    /// A hard link; also gives an orphan its name back.
    pub async fn link(
        &self,
        ino: Ino,
        dir: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Inode, MetaError> {
        check_name(name)?;
        let cookie = self.new_id().await?.0;
        let held = self.inner.locks.inodes([ino, dir]).await;
        let parent = self.live_directory(dir).await?;
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        if inode.kind == FileKind::Directory {
            return Err(MetaError::IsADirectory);
        }
        if self.lookup(dir, name).await?.is_some() {
            return Err(MetaError::Exists);
        }
        let mut change = Change::default();
        if inode.nlink == 0 {
            change.delete(schema::orphan_key(ino));
        }
        add_link(&mut inode)?;
        inode.ctime = now;
        change.put_inode(&Arc::new(inode.clone()));
        change.put_name(
            dir,
            name,
            Dentry {
                ino,
                kind: inode.kind,
                cookie,
            },
        );
        change.put_inode(&Arc::new(touched_parent(&parent, 1, 0, now)?));
        self.commit(change, held).await?;
        Ok(inode)
    }

    /// Removes a name of anything but a directory.
    pub async fn unlink(
        &self,
        dir: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Removal, MetaError> {
        let (held, dentry) = self.lock_name(dir, name).await?;
        if dentry.kind == FileKind::Directory {
            return Err(MetaError::IsADirectory);
        }
        self.remove(held, dir, name, dentry, now).await
    }

    /// Removes an empty directory (its inode becomes an orphan too).
    pub async fn remove_dir(
        &self,
        dir: Ino,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Removal, MetaError> {
        let (held, dentry) = self.lock_name(dir, name).await?;
        if dentry.kind != FileKind::Directory {
            return Err(MetaError::NotADirectory);
        }
        if self.existing_inode(dentry.ino).await?.entries > 0 {
            return Err(MetaError::NotEmpty);
        }
        self.remove(held, dir, name, dentry, now).await
    }

    async fn remove(
        &self,
        held: Held,
        dir: Ino,
        name: &[u8],
        dentry: Dentry,
        now: Timestamp,
    ) -> Result<Removal, MetaError> {
        let parent = self.live_directory(dir).await?;
        let mut change = Change::default();
        change.delete_name(dir, name, dentry.cookie);
        if self.inner.replacements.of(&dentry).is_some() {
            change.end_replacement(dentry.ino, dentry.cookie);
        }
        let removal = self.drop_link(dentry.ino, now, &mut change).await?;
        let subdirectories = if dentry.kind == FileKind::Directory {
            -1
        } else {
            0
        };
        change.put_inode(&Arc::new(touched_parent(&parent, -1, subdirectories, now)?));
        self.commit(change, held).await?;
        Ok(removal)
    }

    /// Takes one link off an inode; without any it becomes an orphan. Call under its lock.
    pub(in crate::meta) async fn drop_link(
        &self,
        ino: Ino,
        now: Timestamp,
        change: &mut Change,
    ) -> Result<Removal, MetaError> {
        let mut inode = self.existing_inode(ino).await?.as_ref().clone();
        inode.nlink = if inode.kind == FileKind::Directory {
            0
        } else {
            inode.nlink.saturating_sub(1)
        };
        inode.ctime = now;
        if inode.nlink == 0 {
            change.put_orphan(ino, self.inner.session_number);
        }
        let removal = Removal {
            ino,
            nlink: inode.nlink,
        };
        change.put_inode(&Arc::new(inode));
        Ok(removal)
    }

    /// Locks a directory and what a name in it points to.
    async fn lock_name(&self, dir: Ino, name: &[u8]) -> Result<(Held, Dentry), MetaError> {
        loop {
            // Locks are taken all at once, so the name is looked up before they are taken and again
            // under them.
            let seen = self.existing_name(dir, name).await?;
            let held = self.inner.locks.inodes([dir, seen.ino]).await;
            let dentry = self.existing_name(dir, name).await?;
            if dentry.ino == seen.ino {
                return Ok((held, dentry));
            }
        }
    }
}

impl NewInode {
    fn record(
        self,
        ino: Ino,
        parent: Ino,
        nlink: u32,
        change: &mut Change,
    ) -> Result<Arc<Inode>, MetaError> {
        if self.target.len() > SYMLINK_TARGET_LEN_MAX {
            return Err(MetaError::Limit(
                "a symlink's target is at most 4095 bytes long",
            ));
        }
        for (name, value) in &self.xattrs {
            super::xattr::check(name, value)?;
            change.put(schema::xattr_key(ino, name), schema::encode_xattr(value));
        }
        let is_symlink = self.kind == FileKind::Symlink;
        Ok(Arc::new(Inode {
            ino,
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink,
            rdev: if matches!(self.kind, FileKind::CharDevice | FileKind::BlockDevice) {
                self.rdev
            } else {
                0
            },
            size: if is_symlink {
                self.target.len() as u64
            } else {
                0
            },
            allocated: 0,
            atime: self.now,
            mtime: self.now,
            ctime: self.now,
            btime: self.now,
            parent,
            entries: 0,
            has_xattrs: !self.xattrs.is_empty(),
            target: if is_symlink {
                Bytes::copy_from_slice(&self.target)
            } else {
                Bytes::new()
            },
        }))
    }
}
