//! The chain of the metadata's log objects.

use super::SealedObjectStore;

/// One object of the log, and what it commits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The object's number, as in its key.
    pub number: u64,
    /// The commitment in its header.
    pub commitment: [u8; 32],
}

impl SealedObjectStore {
    /// The newest log object that this process wrote or verified.
    pub fn log_head(&self) -> Option<LogPosition> {
        None
    }
}
