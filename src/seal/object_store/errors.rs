//! Errors as SlateDB has to understand them: what to try again, and what never.
//!
//! SlateDB tries again for ever what is not one of a few kinds or wrapped as [`NonRetryable`]
//! (`slatedb_common::retry::should_retry`). An outage is such a pause; damage must not be.

use object_store::Error;
use slatedb_common::retry::NonRetryable;

use super::Inner;
use crate::{
    seal::SealError,
    store::{StoreError, StoreErrorKind},
};

/// What SlateDB's messages call this store.
const NAME: &str = "sealed";

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// An error that trying again cannot mend.
pub(super) fn permanent(source: Source) -> Error {
    Error::Generic {
        store: NAME,
        source: Box::new(NonRetryable(source)),
    }
}

/// The store's error for a read, a listing, or a write without a condition.
pub(super) fn from_store(error: StoreError, location: &str) -> Error {
    let path = location.to_owned();
    match error.kind {
        StoreErrorKind::NotFound => Error::NotFound {
            path,
            source: Box::new(error),
        },
        StoreErrorKind::Precondition => Error::Precondition {
            path,
            source: Box::new(error),
        },
        // A listing that does not end would be listed for ever.
        StoreErrorKind::Range | StoreErrorKind::Nonsense => permanent(Box::new(error)),
        // All of these somebody may mend while we are mounted: an outage, expired credentials, a
        // policy, a full disk.
        StoreErrorKind::NoBucket
        | StoreErrorKind::NoCredentials
        | StoreErrorKind::Denied
        | StoreErrorKind::BadCredentials
        | StoreErrorKind::Unreachable
        | StoreErrorKind::Tls
        | StoreErrorKind::Unavailable
        | StoreErrorKind::WrongParts
        | StoreErrorKind::Other => Error::Generic {
            store: NAME,
            source: Box::new(error),
        },
    }
}

impl Inner {
    /// Logs and counts what did not authenticate.
    pub(super) fn refuse(&self, error: SealError) -> Error {
        self.store.metrics().authentication_failures.increment();
        match &error {
            SealError::Frame { path, frame } => tracing::error!(object = path, frame, "{error}"),
            other => tracing::error!("{other}"),
        }
        permanent(Box::new(error))
    }
}
