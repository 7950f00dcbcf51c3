//! The nouns of the namespace.

use bytes::Bytes;

use crate::{clock::Timestamp, seal::codec::SealParams};

/// Inode number. 1 is the root; numbers are never reused within a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory.
    pub const ROOT: Ino = Ino(1);
}

/// The random id of one writable mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// A data object: the session that wrote it and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The session.
    pub session: SessionId,
    /// Counts from 0.
    pub number: u64,
}

/// The kind of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Regular file.
    File,
    /// Directory.
    Directory,
    /// Symbolic link.
    Symlink,
    /// FIFO.
    Fifo,
    /// Unix socket.
    Socket,
    /// Character device.
    CharDevice,
    /// Block device.
    BlockDevice,
}

/// An inode record as committed. Contents that are not yet committed show in `data`, not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// Permission bits, 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links; directories: 2 + subdirectories. 0: orphan.
    pub nlink: u32,
    /// Device number of device nodes.
    pub rdev: u32,
    /// Size in bytes (files: committed contents; symlinks: length of the target; directories: 0).
    pub size: u64,
    /// Bytes of committed extents (holes do not count).
    pub allocated: u64,
    /// Access time.
    pub atime: Timestamp,
    /// Modification time.
    pub mtime: Timestamp,
    /// Change time.
    pub ctime: Timestamp,
    /// Birth time.
    pub btime: Timestamp,
    /// Directories: the parent (root: itself). Others: 0.
    pub parent: Ino,
    /// Directories: names in it. Others: 0.
    pub entries: u64,
    /// Symlinks: the target.
    pub target: Bytes,
    /// Whether any xattr is set (lets `getxattr` of a file without any be answered from the inode).
    pub has_xattrs: bool,
}

/// The inode that a name points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dentry {
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
    /// The entry's position in directory listings.
    pub cookie: u64,
}

/// One line of a directory listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Resume after this one with this cookie. Always greater than 2 (1 and 2 are `.` and `..`),
    /// and less than 2^63.
    pub cookie: u64,
    /// The name: any bytes but NUL and `/`, at most 255.
    pub name: Bytes,
    /// The inode.
    pub ino: Ino,
    /// Its kind.
    pub kind: FileKind,
}

/// Where an extent's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtentSource {
    /// In a data object, from plaintext offset `at`.
    Object {
        /// The object.
        object: ObjectId,
        /// Plaintext offset in it.
        at: u64,
    },
    /// In the metadata itself (small files).
    Inline(Bytes),
}

/// A run of a file's bytes. Extents of one file never overlap; bytes that none covers are a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// File offset.
    pub offset: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// Where they are.
    pub source: ExtentSource,
}

/// The record of a data object: enough to read it and to reclaim it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Salt, epoch, frame size.
    pub params: SealParams,
    /// Plaintext length.
    pub plaintext_len: u64,
    /// Plaintext bytes that some extent still names.
    pub live_bytes: u64,
}

impl ObjectRecord {
    /// Whether less than half of it is live, but not nothing: such an object is worth repacking
    /// whatever becomes of the others.
    pub fn is_sparse(&self) -> bool {
        self.live_bytes > 0 && self.live_bytes < self.plaintext_len.div_ceil(2)
    }
}

/// An object that became readable.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// Its id.
    pub object: ObjectId,
    /// Salt, epoch and frame size.
    pub params: SealParams,
    /// Plaintext length.
    pub plaintext_len: u64,
}

/// Totals of a volume, for statfs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inodes in use.
    pub inodes: u64,
    /// Bytes of committed extents.
    pub bytes: u64,
}
