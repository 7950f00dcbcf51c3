//! Reasons why a sealed object cannot be opened.

use super::object_store::LogFault;

/// A failure of sealing or opening. Never names key material.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// A frame did not authenticate.
    #[error("object {path}: frame {frame} does not authenticate")]
    Frame {
        /// Volume-relative key.
        path: String,
        /// The frame's index.
        frame: u64,
    },
    /// The header is not one of ours, of another volume, or was changed.
    #[error("object {path}: {why}")]
    Header {
        /// Volume-relative key.
        path: String,
        /// The reason.
        why: &'static str,
    },
    /// The object has fewer or more bytes than its authenticated length says.
    #[error("object {path}: {actual} bytes stored where {expected} were sealed")]
    Length {
        /// Volume-relative key.
        path: String,
        /// Bytes in the store.
        actual: u64,
        /// Bytes that were sealed.
        expected: u64,
    },
    /// The object is not there.
    #[error("object {path}: missing from the bucket")]
    Missing {
        /// Volume-relative key.
        path: String,
    },
    /// A log object does not fit to the others.
    #[error("object {path} {fault}")]
    Log {
        /// Volume-relative key.
        path: String,
        /// The reason.
        fault: LogFault,
    },
    /// The epoch's key is not in the volume header.
    #[error(
        "object {path}: sealed under key epoch {epoch}, which the volume header did not have when it was \
         read here: if 'strongroom key rotate' was run since, unmount the volume and mount it again"
    )]
    Epoch {
        /// Volume-relative key.
        path: String,
        /// The epoch asked for.
        epoch: u32,
    },
}

impl SealError {
    /// Whether an object is not there, rather than changed.
    pub fn is_missing(&self) -> bool {
        matches!(
            self,
            SealError::Missing { .. }
                | SealError::Log {
                    fault: LogFault::Missing { .. },
                    ..
                }
        )
    }
}
