//! The outcome of one attempt of a request, for the counters.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Store, StoreErrorKind, retry::Failure};
use crate::telemetry::{Metrics, Outcome};

impl From<StoreErrorKind> for Outcome {
    fn from(kind: StoreErrorKind) -> Outcome {
        match kind {
            StoreErrorKind::NotFound => Outcome::NotFound,
            StoreErrorKind::Precondition => Outcome::Precondition,
            StoreErrorKind::NoBucket
            | StoreErrorKind::NoCredentials
            | StoreErrorKind::Denied
            | StoreErrorKind::BadCredentials => Outcome::Denied,
            StoreErrorKind::Unavailable => Outcome::Unavailable,
            StoreErrorKind::Unreachable | StoreErrorKind::Foreign | StoreErrorKind::Tls => {
                Outcome::Unreachable
            }
            StoreErrorKind::WrongParts
            | StoreErrorKind::Range
            | StoreErrorKind::Nonsense
            | StoreErrorKind::Settings
            | StoreErrorKind::Other => Outcome::Other,
        }
    }
}

/// An attempt that was sent. Dropped before it ended, it counts as cancelled.
#[derive(Debug)]
pub(super) struct Sent {
    metrics: Arc<Metrics>,
    operation: &'static str,
    at: Instant,
    outcome: Outcome,
}

impl Sent {
    /// Notes how it ended. Returns how long it took.
    pub(super) fn ended<T>(mut self, result: &Result<T, Failure>) -> Duration {
        self.outcome = match result {
            Ok(_) => Outcome::Ok,
            Err(failure) => failure.error.kind.into(),
        };
        self.at.elapsed()
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        let took = self.at.elapsed();
        let requests = &self.metrics.store_requests;
        requests.ended(self.operation, self.outcome, took);
    }
}

impl Store {
    /// An attempt is sent now.
    pub(super) fn sent(&self, operation: &'static str) -> Sent {
        Sent {
            metrics: Arc::clone(&self.inner.metrics),
            operation,
            at: Instant::now(),
            outcome: Outcome::Cancelled,
        }
    }
}
