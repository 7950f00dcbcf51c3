//! Why an operation on the namespace fails.

use super::Ino;

/// Each maps to one errno in `fs`.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// ENOENT.
    #[error("no such entry")]
    NotFound,
    /// EEXIST.
    #[error("entry exists")]
    Exists,
    /// ENOTEMPTY.
    #[error("directory not empty")]
    NotEmpty,
    /// ENOTDIR.
    #[error("not a directory")]
    NotADirectory,
    /// EISDIR.
    #[error("is a directory")]
    IsADirectory,
    /// EINVAL: a directory moved below itself.
    #[error("a directory cannot move below itself")]
    Loop,
    /// EMLINK.
    #[error("too many links to inode {}", .0.0)]
    TooManyLinks(Ino),
    /// ENODATA.
    #[error("no such attribute")]
    NoAttribute,
    /// EEXIST for xattrs with XATTR_CREATE.
    #[error("attribute exists")]
    AttributeExists,
    /// ENOSPC: beyond a documented limit.
    #[error("{0}")]
    Limit(&'static str),
    /// EIO; another mount took the volume over. Nothing more can be read or written here.
    #[error("another mount has taken this volume over")]
    Fenced,
    /// EIO: the metadata store failed, or something in it did not authenticate or decode.
    #[error("metadata: {0}")]
    Store(String),
}
