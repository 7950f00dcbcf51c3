//! Extended attributes.

use bytes::Bytes;

use super::{Ino, Meta, MetaError, Timestamp};

/// What setxattr does about an existing or missing attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrMode {
    /// Either.
    Set,
    /// XATTR_CREATE.
    Create,
    /// XATTR_REPLACE.
    Replace,
}

impl Meta {
    /// One value. Answered without a read when the inode has none.
    pub async fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>, MetaError> {
        todo!()
    }
    /// All names, sorted.
    pub async fn xattr_names(&self, ino: Ino) -> Result<Vec<Bytes>, MetaError> {
        todo!()
    }
    /// Sets one (64 KiB at most) and ctime; `new_mode` changes the permission bits in the same batch (ACLs).
    pub async fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], mode: XattrMode, new_mode: Option<u32>, now: Timestamp) -> Result<(), MetaError> {
        todo!()
    }
    /// Removes one, and sets ctime.
    pub async fn remove_xattr(&self, ino: Ino, name: &[u8], now: Timestamp) -> Result<(), MetaError> {
        todo!()
    }
}
