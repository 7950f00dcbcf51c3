//! Errors as SlateDB has to understand them: some are tried again, others never.
//!
//! SlateDB tries every error again for ever, except a few kinds and those wrapped as
//! [`NonRetryable`] (`slatedb_common::retry::should_retry`). An outage should be tried again so;
//! damage must not be.

use object_store::Error;
use slatedb_common::retry::NonRetryable;

use super::{Inner, key_of, locations::log_location, position::LogFault};
use crate::{
    seal::{SealError, keys::Epoch},
    store::{StoreError, StoreErrorKind},
};

/// The name of this store in SlateDB's messages.
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
        // Trying again would list such a listing for ever.
        StoreErrorKind::Range | StoreErrorKind::Nonsense => permanent(Box::new(error)),
        // All of these may be mended while the volume is mounted: an outage, expired credentials, a
        // policy, a full disk.
        StoreErrorKind::NoBucket
        | StoreErrorKind::NoCredentials
        | StoreErrorKind::Denied
        | StoreErrorKind::BadCredentials
        | StoreErrorKind::Unreachable
        | StoreErrorKind::Foreign
        | StoreErrorKind::Tls
        | StoreErrorKind::Unavailable
        | StoreErrorKind::WrongParts
        | StoreErrorKind::Settings
        | StoreErrorKind::Other => Error::Generic {
            store: NAME,
            source: Box::new(error),
        },
    }
}

impl Inner {
    /// Logs and counts an object that did not authenticate, or that is missing.
    pub(super) fn refuse(&self, error: SealError) -> Error {
        if let SealError::Epoch { epoch, .. } = &error {
            // Nothing is wrong with the object, and a follower asks for it at each look.
            match self.unknown_epoch.set(Epoch(*epoch)) {
                Ok(()) => tracing::error!("{error}"),
                Err(_) => tracing::debug!("{error}"),
            }
            return permanent(Box::new(error));
        }
        let metrics = self.store.metrics();
        match error.is_missing() {
            true => metrics.missing_objects.increment(),
            false => metrics.authentication_failures.increment(),
        }
        match &error {
            SealError::Frame { path, frame } => tracing::error!(object = path, frame, "{error}"),
            other => tracing::error!("{other}"),
        }
        permanent(Box::new(error))
    }
}

impl Inner {
    /// Logs and counts a fault of the log.
    pub(super) fn refuse_log(&self, fault: LogFault) -> Error {
        self.refuse(SealError::Log {
            path: key_of(&log_location(fault.number())),
            fault,
        })
    }
}
