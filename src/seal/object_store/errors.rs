//! Errors as SlateDB has to understand them: some are tried again, others never.
//!
//! SlateDB tries every error again for ever, except a few kinds and those wrapped as
//! [`NonRetryable`] (`slatedb_common::retry::should_retry`). An outage should be tried again so;
//! damage must not be.

use std::collections::BTreeSet;

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

/// Objects of epochs that the keys lack of which each is logged.
const UNKNOWN_NAMED_MAX: usize = 64;

/// Objects that were met and are sealed under epochs that the keys lack.
#[derive(Default)]
pub(super) struct Unknown {
    /// The highest of these epochs.
    pub(super) epoch: Option<Epoch>,
    objects: BTreeSet<String>,
}

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
        let metrics = self.store.metrics();
        match error.is_missing() {
            true => metrics.missing_objects.increment(),
            false => metrics.authentication_failures.increment(),
        }
        match &error {
            SealError::Frame { path, frame } => tracing::error!(object = path, frame, "{error}"),
            SealError::Epoch { path, epoch } => self.unknown_epoch(path, Epoch(*epoch), &error),
            other => tracing::error!("{other}"),
        }
        permanent(Box::new(error))
    }

    /// Logs an object of an epoch that the keys lack, once: after a rotation of the key a follower
    /// asks for the same object at each look.
    fn unknown_epoch(&self, path: &str, epoch: Epoch, error: &SealError) {
        let mut unknown = self.unknown.lock();
        if unknown.objects.len() < UNKNOWN_NAMED_MAX && unknown.objects.insert(path.to_owned()) {
            tracing::error!("{error}");
        } else {
            tracing::debug!("{error}");
        }
        unknown.epoch = unknown.epoch.max(Some(epoch));
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
