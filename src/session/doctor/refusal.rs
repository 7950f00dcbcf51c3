//! Errors of the store as outcomes of checks: the right that a key lacks is named by the request
//! that was denied.

use super::report::Outcome;
use crate::{
    session::{errors, failure::Failure},
    store::{S3Url, StoreError, StoreErrorKind, probe::ProbeFailure},
};

/// The outcome of a check whose request failed so.
pub(super) fn refused(error: &StoreError, url: &S3Url) -> Outcome {
    match (error.kind, right(error.operation), &error.advice) {
        (StoreErrorKind::Denied, Some((right, on_objects)), None) => {
            let place = match on_objects {
                true => format!("{}/*", url.to_string().trim_end_matches('/')),
                false => format!("s3://{}", url.bucket),
            };
            Outcome::failure(
                format!("{} is denied ({})", error.operation, error.message),
                format!("grant this key {right} on {place}"),
            )
        }
        _ => failed(errors::store(error, url)),
    }
}

/// The outcome of a check that a failure ended.
pub(super) fn failed(failure: Failure) -> Outcome {
    Outcome::failure(failure.what, failure.advice)
}

/// The outcome of a trial.
pub(super) fn tried(tried: Result<(), ProbeFailure>, well: &str, url: &S3Url) -> Outcome {
    match tried {
        Ok(()) => Outcome::ok(well),
        Err(failure) => untried(failure, url),
    }
}

/// The outcome of a trial that failed.
pub(super) fn untried(failure: ProbeFailure, url: &S3Url) -> Outcome {
    match failure {
        ProbeFailure::Lacks { capability, detail } => Outcome::failure(
            format!("the store lacks {capability} ({detail})"),
            "use a store that has it; docs/operations.md lists the abilities that a volume needs",
        ),
        ProbeFailure::Store(error) => refused(&error, url),
        // A trial that was stopped is not noted.
        other @ (ProbeFailure::Disturbed | ProbeFailure::Stopped) => {
            Outcome::failure(other.to_string(), "try again")
        }
    }
}

/// The right that a request needs, and whether it is one on objects rather than on the bucket.
fn right(operation: &str) -> Option<(&'static str, bool)> {
    Some(match operation {
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => {
            ("s3:PutObject", true)
        }
        "GetObject" | "HeadObject" => ("s3:GetObject", true),
        "DeleteObject" | "DeleteObjects" => ("s3:DeleteObject", true),
        "AbortMultipartUpload" => ("s3:AbortMultipartUpload", true),
        "ListObjectsV2" | "HeadBucket" => ("s3:ListBucket", false),
        "ListMultipartUploads" => ("s3:ListBucketMultipartUploads", false),
        "GetBucketLifecycleConfiguration" => ("s3:GetLifecycleConfiguration", false),
        "GetBucketVersioning" => ("s3:GetBucketVersioning", false),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::doctor::report::{Check, Verdict};

    #[test]
    fn a_request_that_is_denied_names_the_right_that_is_missing_and_where() {
        let said = |operation, url: &str| {
            let error = StoreError::new(StoreErrorKind::Denied, operation, "k", "AccessDenied: no");
            let line = refused(&error, &url.parse().unwrap()).line(Check::Put);
            assert_eq!(line.verdict, Verdict::Failure);
            line.advice.unwrap()
        };
        let advice = said("DeleteObjects", "s3://bucket/laptop");
        assert_eq!(
            advice,
            "grant this key s3:DeleteObject on s3://bucket/laptop/*"
        );
        let advice = said("PutObject", "s3://bucket");
        assert_eq!(advice, "grant this key s3:PutObject on s3://bucket/*");
        let advice = said("ListObjectsV2", "s3://bucket/laptop");
        assert_eq!(advice, "grant this key s3:ListBucket on s3://bucket");
    }

    #[test]
    fn advice_of_an_errors_own_stays() {
        let error = StoreError::new(StoreErrorKind::Denied, "PutObject", "k", "late")
            .advising("set the clock right");
        let url = "s3://bucket/laptop".parse().unwrap();
        let line = refused(&error, &url).line(Check::Put);
        assert_eq!(line.advice.as_deref(), Some("set the clock right"));
    }
}
