//! Why an operation fails: one error type, one table from causes to errnos.
//!
//! Never: carries a name, a path or a byte of content. Inodes and handles are numbers; the log adds
//! the path of an inode where the user wants it.

use std::{borrow::Cow, error::Error, fmt};

use nix::errno::Errno;

use crate::{
    data::DataError,
    meta::{Ino, MetaError},
    telemetry::{InLog, RequestKind},
};

/// The request, for the log: `write{ino:5 fh=3 offset=0 len=4096}`.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The kind of request.
    pub kind: RequestKind,
    /// The inode that it is about (the directory, for names).
    pub ino: Ino,
    /// The handle.
    pub fh: Option<u64>,
    /// Offset and length in bytes.
    pub range: Option<(u64, u64)>,
}

impl Operation {
    /// An operation on an inode.
    pub fn on(kind: RequestKind, ino: Ino) -> Operation {
        Operation {
            kind,
            ino,
            fh: None,
            range: None,
        }
    }

    /// The same with a handle.
    #[must_use]
    pub fn handle(self, fh: u64) -> Operation {
        Operation {
            fh: Some(fh),
            ..self
        }
    }

    /// The same with a range.
    #[must_use]
    pub fn range(self, offset: u64, len: u64) -> Operation {
        Operation {
            range: Some((offset, len)),
            ..self
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{{{}", self.kind.name(), InLog(self.ino.0))?;
        if let Some(fh) = self.fh {
            write!(f, " fh={fh}")?;
        }
        if let Some((offset, len)) = self.range {
            write!(f, " offset={offset} len={len}")?;
        }
        f.write_str("}")
    }
}

/// A failed operation.
#[derive(Debug)]
pub struct FsError {
    /// The errno that the caller gets.
    pub errno: Errno,
    /// The action that failed.
    pub message: Cow<'static, str>,
    /// The cause.
    pub source: Option<Box<dyn Error + Send + Sync>>,
    /// The request, once it is known.
    pub context: Option<Operation>,
}

impl FsError {
    /// A refusal that needs no further reason.
    pub fn new(errno: Errno, message: impl Into<Cow<'static, str>>) -> FsError {
        FsError {
            errno,
            message: message.into(),
            source: None,
            context: None,
        }
    }

    /// The volume is mounted read-only.
    pub fn read_only() -> FsError {
        FsError::new(Errno::EROFS, "changing a read-only volume")
    }

    /// The deadline passed.
    pub fn timed_out() -> FsError {
        FsError::new(Errno::ETIMEDOUT, "waiting for the store")
    }

    /// Names the request.
    #[must_use]
    pub fn during(self, operation: Operation) -> FsError {
        FsError {
            context: Some(operation),
            ..self
        }
    }

    /// Whether such an answer is part of ordinary life (a name that is not there) rather than a
    /// fault that should show in the log.
    pub fn is_ordinary(&self) -> bool {
        !matches!(
            self.errno,
            Errno::EIO
                | Errno::ETIMEDOUT
                | Errno::ENOSPC
                | Errno::ENFILE
                | Errno::ENOMEM
                | Errno::ESTALE
                | Errno::EBADF
        )
    }
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(context) = &self.context {
            write!(f, "{context}: ")?;
        }
        write!(f, "{} failed with {:?}", self.message, self.errno)?;
        let mut cause: Option<&dyn Error> = self.source.as_deref().map(|source| source as _);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl Error for FsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The errno of a failure in the namespace.
fn meta_errno(error: &MetaError) -> Errno {
    match error {
        MetaError::NotFound => Errno::ENOENT,
        MetaError::Exists | MetaError::AttributeExists => Errno::EEXIST,
        MetaError::NotEmpty => Errno::ENOTEMPTY,
        MetaError::NotADirectory => Errno::ENOTDIR,
        MetaError::IsADirectory => Errno::EISDIR,
        MetaError::Loop => Errno::EINVAL,
        MetaError::TooManyLinks(_) => Errno::EMLINK,
        MetaError::NoAttribute => Errno::ENODATA,
        MetaError::Limit(_) => Errno::ENOSPC,
        MetaError::NameChanged | MetaError::Uncommitted(_) => Errno::EBUSY,
        MetaError::Fenced | MetaError::Missing | MetaError::Older { .. } | MetaError::Store(_) => {
            Errno::EIO
        }
    }
}

/// The errno of a failure with contents.
fn data_errno(error: &DataError) -> Errno {
    match error {
        DataError::NotFound | DataError::Stale(_) => Errno::ESTALE,
        DataError::TooLarge => Errno::EFBIG,
        DataError::Seal(_) | DataError::Store(_) | DataError::Internal(_) => Errno::EIO,
        // Contents belong to an inode, not to a name: if the record is gone, the inode is stale.
        DataError::Meta(MetaError::NotFound) => Errno::ESTALE,
        DataError::Meta(error) => meta_errno(error),
    }
}

impl From<MetaError> for FsError {
    fn from(error: MetaError) -> FsError {
        let errno = meta_errno(&error);
        FsError {
            errno,
            message: Cow::Borrowed("the namespace"),
            source: Some(Box::new(error)),
            context: None,
        }
    }
}

impl From<DataError> for FsError {
    fn from(error: DataError) -> FsError {
        let errno = data_errno(&error);
        FsError {
            errno,
            message: Cow::Borrowed("contents"),
            source: Some(Box::new(error)),
            context: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_names_the_request_the_errno_and_the_chain() {
        let error = FsError::from(DataError::Meta(MetaError::Store(
            "manifest did not authenticate".into(),
        )))
        .during(
            Operation::on(RequestKind::Write, Ino(5))
                .handle(3)
                .range(0, 4096),
        );
        assert_eq!(
            error.to_string(),
            "write{ino:5 fh=3 offset=0 len=4096}: contents failed with EIO: metadata: manifest did not authenticate"
        );
    }

    #[test]
    fn a_missing_name_is_ordinary_and_a_lost_object_is_not() {
        assert!(FsError::from(MetaError::NotFound).is_ordinary());
        assert!(!FsError::from(MetaError::Fenced).is_ordinary());
    }

    #[test]
    fn contents_of_a_removed_inode_are_stale_rather_than_missing() {
        assert_eq!(FsError::from(DataError::NotFound).errno, Errno::ESTALE);
        assert_eq!(
            FsError::from(DataError::Meta(MetaError::NotFound)).errno,
            Errno::ESTALE
        );
        assert_eq!(FsError::from(MetaError::NotFound).errno, Errno::ENOENT);
    }
}
