//! Why contents cannot be read or made durable.

use crate::{meta::MetaError, seal::SealError, store::StoreError};

/// Each becomes EIO but for `NotFound` and `Stale` (ESTALE) and `TooLarge` (EFBIG); the text goes
/// to the log.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file was removed for good.
    #[error("the file is gone")]
    NotFound,
    /// A follower still reads what the writer has replaced, and it was deleted meanwhile.
    #[error("what this mount still read of an older version was deleted: {0}")]
    Stale(String),
    /// Beyond the largest file offset (2^63 - 1).
    #[error("beyond the largest file offset")]
    TooLarge,
    /// Something did not authenticate.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The store refused for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A background task ended in a way that it must not.
    #[error("{0}")]
    Internal(String),
    /// The metadata failed.
    #[error(transparent)]
    Meta(#[from] MetaError),
}
