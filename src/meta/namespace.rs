//! Names: lookup, listing, create, link, unlink, rename. Each change is one batch and keeps parents' mtime, ctime and nlink.

use bytes::Bytes;

use super::{Dentry, DirEntry, FileKind, Ino, Inode, Meta, MetaError, Timestamp};

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

/// What a removal did to the inode.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The inode that lost a name.
    pub ino: Ino,
    /// Links that are left. At 0 the inode was recorded as an orphan in the same batch: call [`Meta::reap`] when no handle is left.
    pub nlink: u32,
}

/// How rename treats an existing target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// RENAME_NOREPLACE.
    NoReplace,
    /// RENAME_EXCHANGE.
    Exchange,
}

impl Meta {
    /// What a name points to.
    pub async fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Option<Dentry>, MetaError> {
        todo!()
    }

    /// Up to `limit` entries after `cookie` (0 from the start), in cookie order. An entry that exists during the whole listing is listed exactly once.
    pub async fn read_dir(&self, dir: Ino, after_cookie: u64, limit: usize) -> Result<Vec<DirEntry>, MetaError> {
        todo!()
    }

    /// Makes a file, directory, symlink or node. `Exists` if the name is taken; `NotFound` if the directory was removed.
    pub async fn create(&self, dir: Ino, name: &[u8], new: NewInode) -> Result<Inode, MetaError> {
        todo!()
    }

    /// An unnamed file (O_TMPFILE, or `create` that will be linked later): an orphan from birth.
    pub async fn create_orphan(&self, new: NewInode) -> Result<Inode, MetaError> {
        todo!()
    }

    /// A hard link; also gives an orphan its name back.
    pub async fn link(&self, ino: Ino, dir: Ino, name: &[u8], now: Timestamp) -> Result<Inode, MetaError> {
        todo!()
    }

    /// Removes a name of anything but a directory.
    pub async fn unlink(&self, dir: Ino, name: &[u8], now: Timestamp) -> Result<Removal, MetaError> {
        todo!()
    }

    /// Removes an empty directory (its inode becomes an orphan too).
    pub async fn remove_dir(&self, dir: Ino, name: &[u8], now: Timestamp) -> Result<Removal, MetaError> {
        todo!()
    }

    /// Rename in one batch, whatever it moves. Returns the removal of a replaced target.
    pub async fn rename(
        &self,
        from_dir: Ino,
        from_name: &[u8],
        to_dir: Ino,
        to_name: &[u8],
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Option<Removal>, MetaError> {
        todo!()
    }
}
