//! From the SDK's errors to ours: which kind, whether to try again, one line for people.
//! `explain.rs`, `foreign.rs` and `skew.rs` know the words for some of the causes.
//!
//! Promises: the line names the cause and no secret; a request that may have taken effect is marked
//! ambiguous. Never: calls a failure passing that needs somebody to act.

use std::{error::Error, time::Duration};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::{
    StoreError,
    StoreErrorKind::{self, *},
    bounds::TooLarge,
    causes::{find, innermost},
    explain::{self, Explained},
    foreign,
    retry::{Again, Failure},
    skew::skew,
};
use crate::clock;

/// The request that failed, and the endpoint that it went to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    /// The S3 operation.
    pub(super) operation: &'static str,
    /// The volume-relative key, or the bucket.
    pub(super) key: &'a str,
    /// The endpoint, for messages.
    pub(super) endpoint: &'a str,
}

impl Context<'_> {
    fn failure(&self, kind: StoreErrorKind, message: impl Into<String>) -> Failure {
        Failure::local(StoreError::new(kind, self.operation, self.key, message))
    }

    fn explained(&self, kind: StoreErrorKind, (message, advice): Explained) -> Failure {
        let error = StoreError::new(kind, self.operation, self.key, message);
        Failure::local(error.advising(advice))
    }

    /// The attempt stood still for `stall`.
    pub(super) fn stalled(&self, stall: Duration) -> Failure {
        self.failure(
            Unreachable,
            format!(
                "{}: nothing moved for {} s",
                self.endpoint,
                stall.as_secs_f32()
            ),
        )
    }

    /// The body of an answer broke off.
    pub(super) fn broken(&self, why: &str) -> Failure {
        self.failure(
            Unavailable,
            format!("{}: the connection broke: {why}", self.endpoint),
        )
    }

    /// The store's answer makes no sense.
    pub(super) fn nonsense(&self, what: impl Into<String>) -> Failure {
        self.failure(Other, what)
    }

    /// The store answered another request than the one that was sent. A proxy between may be
    /// confused for a moment, so the request is repeated a few times.
    pub(super) fn another_answer(&self, what: impl Into<String>) -> Failure {
        let mut failure = self.nonsense(what);
        failure.again = Again::AFewTimes;
        failure
    }

    /// Classifies an error of the SDK.
    pub(super) fn classify<E>(&self, error: SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        if let Some(too_large) = find::<TooLarge>(&error) {
            let why = format!("{}: {too_large}", self.endpoint);
            // Waiting does not mend a listing that does not end.
            return match self.operation.starts_with("List") {
                true => Failure {
                    again: Again::AFewTimes,
                    ..self.failure(Nonsense, why)
                },
                false => self.failure(Unavailable, why),
            };
        }
        if let Some(error) = foreign::foreign(&error, self.operation, self.key, self.endpoint) {
            return Failure::local(error);
        }
        match &error {
            SdkError::ServiceError(_) => self.answered(&error),
            SdkError::ResponseError(_) => self.failure(
                Unavailable,
                format!(
                    "{}: the answer broke off: {}",
                    self.endpoint,
                    innermost(&error)
                ),
            ),
            SdkError::TimeoutError(_) => {
                self.failure(Unreachable, format!("{}: timed out", self.endpoint))
            }
            SdkError::DispatchFailure(failure) if failure.is_user() => self
                .not_sent(&error)
                .unwrap_or_else(|| self.failure(Other, innermost(&error))),
            SdkError::ConstructionFailure(_) => self
                .not_sent(&error)
                .unwrap_or_else(|| self.failure(Other, innermost(&error))),
            _ => self.not_sent(&error).unwrap_or_else(|| {
                self.failure(
                    Unreachable,
                    format!("{}: {}", self.endpoint, innermost(&error)),
                )
            }),
        }
    }

    /// The store answered with an error.
    fn answered<E>(&self, error: &SdkError<E, HttpResponse>) -> Failure
    where
        E: ProvideErrorMetadata,
    {
        let response = error.raw_response();
        let status = response.map_or(0, |response| response.status().as_u16());
        let header = |name: &str| response.and_then(|response| response.headers().get(name));
        let code = error.code().unwrap_or_default();
        let (mut kind, again) = kind_of_answer(self.operation, status, code);
        let mut message = match (code, error.message()) {
            // An answer to HEAD has no body, so the SDK makes up a code.
            ("" | "NotFound", _) if kind == NoBucket => "there is no such bucket".to_owned(),
            ("" | "NotFound", _) if kind == NotFound => "there is no such object".to_owned(),
            ("", _) => format!("HTTP {status}"),
            (code, None | Some("")) => code.to_owned(),
            (code, Some(text)) => format!("{code}: {text}"),
        };
        let region = header("x-amz-bucket-region").filter(|_| {
            matches!(
                (code, status),
                ("PermanentRedirect", _)
                    | ("AuthorizationHeaderMalformed", _)
                    | ("IllegalLocationConstraintException", _)
                    | ("", 301)
            )
        });
        let skew = skew(header("date"), clock::unix_seconds())
            .filter(|_| matches!(kind, Denied | BadCredentials));
        let advice = if let Some(region) = region {
            Some(format!("the bucket is in {region}: set --region {region}"))
        } else if skew.is_some() || code == "RequestTimeTooSkewed" {
            kind = Denied;
            let skew = skew.as_deref();
            message = match (code, skew) {
                ("", Some(skew)) => skew.to_owned(),
                (_, Some(skew)) => format!("{skew}; {code}"),
                (_, None) => message,
            };
            Some("set the clock right, with timedatectl set-ntp true for example".to_owned())
        } else if (code, status) == ("", 400) && !self.operation.starts_with("Head") {
            // S3 gives a reason in XML; servers that expect TLS answer so to plain HTTP.
            kind = Foreign;
            message = format!("{} answers HTTP 400 without a reason", self.endpoint);
            Some(match self.endpoint.starts_with("http://") {
                true => foreign::PERHAPS_HTTPS.to_owned(),
                false => "check --endpoint-url, and the store's log".to_owned(),
            })
        } else {
            match code {
                "ExpiredToken" | "TokenRefreshRequired" => {
                    Some("log in again: these credentials were for a time".to_owned())
                }
                _ => None,
            }
        };
        let mut error = StoreError::new(kind, self.operation, self.key, message);
        if let Some(advice) = advice {
            error = error.advising(&advice);
        }
        Failure {
            error,
            again,
            // A 5xx may come after the fact; any other answer says that nothing was done.
            ambiguous: status >= 500,
            code: (!code.is_empty()).then(|| code.into()),
            retry_after: header("retry-after")
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs),
        }
    }

    /// No answer came; `None` if nothing in the chain of causes is known.
    fn not_sent(&self, error: &(dyn Error + 'static)) -> Option<Failure> {
        if let Some(credentials) = find::<CredentialsError>(error) {
            return Some(self.explained(NoCredentials, explain::credentials(credentials)));
        }
        if let Some(late) = explain::credentials_are_late(error) {
            return Some(self.explained(NoCredentials, late));
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            let (what, advice) = explain::tls(tls);
            return Some(self.explained(Tls, (format!("{}: {what}", self.endpoint), advice)));
        }
        let io = find::<std::io::Error>(error)?;
        let mut failure = self.failure(
            Unreachable,
            format!("{}: {}", self.endpoint, explain::io(io)),
        );
        failure.ambiguous = io.kind() != std::io::ErrorKind::ConnectionRefused;
        Some(failure)
    }
}

/// The meaning of an HTTP status with S3's code.
fn kind_of_answer(operation: &str, status: u16, code: &str) -> (StoreErrorKind, Again) {
    let passing = (Unavailable, Again::Yes);
    match code {
        "NoSuchBucket" => return (NoBucket, Again::No),
        "NoSuchKey" | "NoSuchUpload" | "NotFound" if operation != "HeadBucket" => {
            return (NotFound, Again::No);
        }
        "SignatureDoesNotMatch"
        | "InvalidAccessKeyId"
        | "InvalidToken"
        | "ExpiredToken"
        | "TokenRefreshRequired" => {
            return (BadCredentials, Again::No);
        }
        "AccessDenied" | "AccountProblem" | "AllAccessDisabled" | "RequestTimeTooSkewed" => {
            return (Denied, Again::No);
        }
        "ConditionalRequestConflict" => return (Precondition, Again::AFewTimes),
        "PreconditionFailed" => return (Precondition, Again::No),
        "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" => return (WrongParts, Again::No),
        "InvalidRange" => return (Range, Again::No),
        "NotImplemented" => return (Other, Again::No),
        // Some come as 400: the body that arrived was not the one that was sent, or took too long
        // to arrive.
        "SlowDown"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded"
        | "OperationAborted"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => return passing,
        _ => {}
    }
    match status {
        404 if operation == "HeadBucket" => (NoBucket, Again::No),
        404 => (NotFound, Again::No),
        401 | 403 => (Denied, Again::No),
        412 => (Precondition, Again::No),
        409 => (Precondition, Again::AFewTimes),
        416 => (Range, Again::No),
        408 | 429 | 500 | 502..=504 | 506..=599 => passing,
        _ => (Other, Again::No),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide_before_statuses_do() {
        for (status, code, kind, again) in [
            (404, "NoSuchBucket", NoBucket, Again::No),
            (404, "NoSuchKey", NotFound, Again::No),
            (404, "", NotFound, Again::No),
            (403, "SignatureDoesNotMatch", BadCredentials, Again::No),
            (403, "InvalidAccessKeyId", BadCredentials, Again::No),
            (403, "AccessDenied", Denied, Again::No),
            (403, "", Denied, Again::No),
            (
                409,
                "ConditionalRequestConflict",
                Precondition,
                Again::AFewTimes,
            ),
            (409, "OperationAborted", Unavailable, Again::Yes),
            (412, "PreconditionFailed", Precondition, Again::No),
            (416, "InvalidRange", Range, Again::No),
            (400, "RequestTimeout", Unavailable, Again::Yes),
            (400, "BadDigest", Unavailable, Again::Yes),
            (400, "InvalidArgument", Other, Again::No),
            (429, "", Unavailable, Again::Yes),
            (503, "SlowDown", Unavailable, Again::Yes),
            (500, "", Unavailable, Again::Yes),
            (501, "NotImplemented", Other, Again::No),
        ] {
            assert_eq!(
                kind_of_answer("PutObject", status, code),
                (kind, again),
                "{status} {code}"
            );
        }
        assert_eq!(
            kind_of_answer("HeadBucket", 404, "NotFound"),
            (NoBucket, Again::No)
        );
    }

    #[test]
    fn a_message_is_one_line_without_control_characters_and_not_endless() {
        let of = |message: &str| StoreError::new(Other, "GetObject", "k\u{1b}", message);
        let error = of("a\nb\tc\u{1b}[0m\n");
        assert_eq!(error.message, "a b c\\u{1b}[0m");
        assert_eq!(error.key, "k\\u{1b}");
        assert_eq!(of(&"x".repeat(10_000)).message.chars().count(), 301);
    }
}
