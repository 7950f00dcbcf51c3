//! Why an operation on the namespace fails.

use std::error::Error;

use slatedb::{CloseReason, ErrorKind};

use super::Ino;

/// The reason; `fs` maps each to one errno.
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
    #[error("too many links to ino:{}", .0.0)]
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
    /// EBUSY: a name stands for another inode than the caller found; to be looked up again.
    #[error("the name was changed meanwhile")]
    NameChanged,
    /// EBUSY: to be tried again once the contents of this file are committed.
    #[error("contents of ino:{} must be committed first", .0.0)]
    Uncommitted(Ino),
    /// EIO; another mount took the volume over. Nothing more can be read or written here.
    #[error("another mount has taken this volume over")]
    Fenced,
    /// At open: there is no database. A mount never makes one.
    #[error("the metadata is missing")]
    Missing,
    /// At open: the store showed the writer less than it had shown before.
    #[error("the store first showed generation {seen}, then {recovered}")]
    Older {
        /// The generation that the writer recovered.
        recovered: u64,
        /// The generation that the look before had recovered.
        seen: u64,
    },
    /// EIO: the metadata store failed, or something in it did not authenticate or decode.
    #[error("metadata: {0}")]
    Store(String),
}

/// The database is not there, or the store does not show it.
#[derive(Debug, thiserror::Error)]
#[error("a mount does not make a database")]
pub(in crate::meta) struct NotMade;

impl From<slatedb::Error> for MetaError {
    fn from(error: slatedb::Error) -> MetaError {
        match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => MetaError::Fenced,
            _ if source_of::<NotMade>(&error).is_some() => MetaError::Missing,
            _ => MetaError::Store(chain(&error)),
        }
    }
}

/// The first error of this type among the causes.
fn source_of<E: Error + 'static>(error: &slatedb::Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        // An `Arc` of the object store's error hides it from its own type, but not its source.
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// The error with its causes: SlateDB's own text names neither the object nor what is wrong with
/// it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
