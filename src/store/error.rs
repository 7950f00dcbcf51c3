//! The errors of the store, in the terms of its callers.

use std::sync::Arc;

use crate::telemetry::shown;

/// Longer texts are cut.
const MESSAGE_CHARS_MAX: usize = 300;

/// The kinds that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreErrorKind {
    /// No such object (404).
    NotFound,
    /// No such bucket.
    NoBucket,
    /// A condition did not hold (412), or lost a race (409).
    Precondition,
    /// Completing an upload named parts that the store does not have so (InvalidPart).
    WrongParts,
    /// A range past the end (416).
    Range,
    /// No credentials found anywhere.
    NoCredentials,
    /// The store knows the key and refuses the request (403).
    Denied,
    /// Wrong key id or secret (SignatureDoesNotMatch, InvalidAccessKeyId).
    BadCredentials,
    /// The endpoint does not answer: refused, no name, timed out.
    Unreachable,
    /// Something answers at the endpoint that is no S3 store: a web page, plain text where TLS was
    /// expected, or the reverse.
    Foreign,
    /// TLS: unknown certificate authority, wrong name.
    Tls,
    /// Throttled or failing inside (429, 5xx).
    Unavailable,
    /// A listing that does not advance, does not end, or is not the one that was asked for.
    Nonsense,
    /// A setting that cannot be used: an endpoint that is no URL, no region.
    Settings,
    /// Anything else, not worth trying again.
    Other,
}

impl StoreErrorKind {
    /// Whether the same request may succeed later by itself.
    pub fn may_pass(self) -> bool {
        matches!(
            self,
            StoreErrorKind::Unreachable | StoreErrorKind::Foreign | StoreErrorKind::Unavailable
        )
    }

    /// Whether this is an answer that callers ask for on purpose, rather than a failure to be
    /// counted.
    pub(super) fn is_an_answer(self) -> bool {
        matches!(
            self,
            StoreErrorKind::NotFound
                | StoreErrorKind::Precondition
                | StoreErrorKind::WrongParts
                | StoreErrorKind::Range
        )
    }
}

/// One failed operation on the store.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{operation} {key}: {message}{}", behind(.advice))]
pub struct StoreError {
    /// The kind.
    pub kind: StoreErrorKind,
    /// The S3 operation, such as `GetObject`.
    pub operation: &'static str,
    /// The volume-relative key, or the bucket.
    pub key: String,
    /// The store's explanation in one line, without secrets.
    pub message: String,
    /// The advice that fits this very error, where that of its kind does not. One line. It is one
    /// pointer wide, because errors are returned by value.
    pub advice: Option<Arc<String>>,
}

fn behind(advice: &Option<Arc<String>>) -> String {
    advice
        .as_ref()
        .map_or_else(String::new, |advice| format!(": {advice}"))
}

impl StoreError {
    /// An error of `kind` with one line of explanation. Both texts may come from the store: they
    /// are escaped and cut.
    pub fn new(
        kind: StoreErrorKind,
        operation: &'static str,
        key: &str,
        message: impl Into<String>,
    ) -> StoreError {
        StoreError {
            kind,
            operation,
            key: shown(key, MESSAGE_CHARS_MAX),
            message: shown(message.into().trim(), MESSAGE_CHARS_MAX),
            advice: None,
        }
    }

    /// The same error with advice of its own.
    #[must_use]
    pub fn advising(mut self, advice: &str) -> StoreError {
        self.advice = Some(Arc::new(shown(advice, MESSAGE_CHARS_MAX)));
        self
    }
}
