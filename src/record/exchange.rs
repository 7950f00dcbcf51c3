//! One request and its answer, and all the words for them.
//!
//! Everything here is a number or a word of a closed list. Text of the store's, of the user's or of
//! the network's is compared with these lists and never kept.

use std::time::Duration;

use serde::{
    Deserialize, Serialize,
    de::{IntoDeserializer, value::Error as NoWord},
};

use super::pseudonyms::KeyName;
use crate::clock::Timestamp;

/// An operation by the name that S3 gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// Ends an upload without an object.
    AbortMultipartUpload,
    /// Makes an object of parts.
    CompleteMultipartUpload,
    /// Makes the bucket.
    CreateBucket,
    /// Begins an upload.
    CreateMultipartUpload,
    /// Deletes one object.
    DeleteObject,
    /// Deletes many.
    DeleteObjects,
    /// Reads an object, or a range of it.
    GetObject,
    /// Asks for the bucket.
    HeadBucket,
    /// Asks for an object's attributes.
    HeadObject,
    /// Lists uploads.
    ListMultipartUploads,
    /// Lists keys.
    ListObjectsV2,
    /// Lists the parts of an upload.
    ListParts,
    /// Writes an object.
    PutObject,
    /// Writes a part.
    UploadPart,
    /// Not for S3: credentials are asked for.
    Credentials,
    /// Any other.
    Other,
}

impl Operation {
    /// The operation of that name.
    pub fn named(name: &str) -> Option<Operation> {
        Operation::deserialize(IntoDeserializer::<NoWord>::into_deserializer(name)).ok()
    }
}

/// The condition of a request. Its value is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Matches,
}

/// A range of bytes of an object, both ends included, and the object's size where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
    /// Bytes of the whole object.
    pub size: Option<u64>,
}

impl Span {
    /// The range of a `Range` or `Content-Range` field, if it is one of bytes.
    pub fn parse(field: &str) -> Option<Span> {
        let field = field.strip_prefix("bytes")?;
        let field = field.strip_prefix(['=', ' '])?;
        let (range, size) = match field.split_once('/') {
            Some((range, size)) => (range, size.parse().ok()),
            None => (field, None),
        };
        let (first, last) = range.split_once('-')?;
        Some(Span {
            first: first.parse().ok()?,
            last: last.parse().ok()?,
            size,
        })
    }
}

/// A body as far as it moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes.
    pub bytes: u64,
    /// Their hash under the recording's key.
    pub hash: Option<u64>,
}

/// The kind of body that an answer says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// XML, as S3 sends it.
    Xml,
    /// A web page.
    Html,
    /// JSON.
    Json,
    /// Plain text.
    Text,
    /// Any other, or none.
    Octets,
}

impl Form {
    /// The form that a `Content-Type` field names.
    pub fn of(field: Option<&str>) -> Form {
        let name = field.unwrap_or_default();
        let name = name.split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            "application/xml" | "text/xml" => Form::Xml,
            "text/html" => Form::Html,
            "application/json" => Form::Json,
            "text/plain" => Form::Text,
            _ => Form::Octets,
        }
    }

    /// The form as `Content-Type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Form::Xml => "application/xml",
            Form::Html => "text/html",
            Form::Json => "application/json",
            Form::Text => "text/plain",
            Form::Octets => "application/octet-stream",
        }
    }
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// S3's code, of an error.
    pub code: Option<&'static str>,
    /// Bytes that were announced.
    pub length: Option<u64>,
    /// The range that was announced.
    pub range: Option<Span>,
    /// The pause that the store asks for, seconds.
    pub retry_after_seconds: Option<u64>,
    /// The kind of body that was announced.
    pub form: Form,
}

/// Why an exchange did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// Nobody listens at the endpoint.
    Refused,
    /// The connection broke.
    Broken,
    /// No connection came about in time.
    Timeout,
    /// There is no way to the endpoint, or its name is unknown.
    Unreachable,
    /// TLS failed.
    Tls,
    /// Nothing moved for so long that this side gave up.
    Stalled,
    /// Nobody waited for it any longer.
    Dropped,
    /// Any other failure.
    Other,
}

/// One request, and what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Counts the requests of a recording in the order of their beginning.
    pub number: u64,
    /// When it began.
    pub started: Timestamp,
    /// The operation.
    pub operation: Operation,
    /// The object, or the folder of a listing.
    pub key: KeyName,
    /// The number of the part.
    pub part: Option<u32>,
    /// From 1 on: which try of one call of the store's client this is.
    pub attempt: u32,
    /// The range that was asked for.
    pub range: Option<Span>,
    /// The condition.
    pub condition: Option<Condition>,
    /// The length that was announced.
    pub length: Option<u64>,
    /// The request's body.
    pub sent: Moved,
    /// From the beginning until the body was handed to the network.
    pub sending: Duration,
    /// From then on until the head of the answer, or the failure.
    pub waiting: Duration,
    /// From then on until the end of the answer's body.
    pub receiving: Duration,
    /// The head of the answer, if one came.
    pub answer: Option<Answer>,
    /// The answer's body.
    pub received: Moved,
    /// Why it did not come to its end, if so.
    pub fault: Option<Fault>,
}

/// Codes of S3's errors that a recording knows. Any other is left out.
const CODES: [&str; 42] = [
    "AccessDenied",
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "BadDigest",
    "BandwidthLimitExceeded",
    "BucketAlreadyExists",
    "BucketAlreadyOwnedByYou",
    "ConditionalRequestConflict",
    "EntityTooLarge",
    "EntityTooSmall",
    "ExpiredToken",
    "IncompleteBody",
    "InternalError",
    "InvalidAccessKeyId",
    "InvalidArgument",
    "InvalidPart",
    "InvalidPartOrder",
    "InvalidRange",
    "InvalidRequest",
    "InvalidToken",
    "MalformedXML",
    "MethodNotAllowed",
    "NoSuchBucket",
    "NoSuchKey",
    "NoSuchUpload",
    "NotImplemented",
    "OperationAborted",
    "PermanentRedirect",
    "PreconditionFailed",
    "QuotaExceeded",
    "RequestLimitExceeded",
    "RequestTimeTooSkewed",
    "RequestTimeout",
    "ServiceUnavailable",
    "SignatureDoesNotMatch",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TokenRefreshRequired",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
];

/// The code of S3's in the list that is equal to `text`.
pub(super) fn known_code(text: &str) -> Option<&'static str> {
    let index = CODES.binary_search(&text).ok()?;
    CODES.get(index).copied()
}

/// The code in the first bytes of an error's body.
pub fn code_in(body: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(body);
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    known_code(code.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_and_any_other_text_is_left_out() {
        assert!(CODES.is_sorted(), "they are searched by halves");
        for code in CODES {
            assert_eq!(known_code(code), Some(code));
        }
        let body = b"<?xml?><Error><Code>SlowDown</Code><Message>secret</Message></Error>";
        assert_eq!(code_in(body), Some("SlowDown"));
        for body in [
            &b"<Error><Code>hunter2</Code></Error>"[..],
            b"<Code>SlowDown",
            b"\xff",
            b"",
        ] {
            assert_eq!(code_in(body), None);
        }
    }

    #[test]
    fn an_operation_has_its_name() {
        assert_eq!(Operation::named("UploadPart"), Some(Operation::UploadPart));
        assert_eq!(Operation::named("hunter2"), None);
        let text = serde_json::to_string(&Operation::ListObjectsV2).expect("JSON");
        assert_eq!(text, "\"ListObjectsV2\"");
    }

    #[test]
    fn ranges_are_numbers_or_nothing() {
        let span = |first, last, size| Some(Span { first, last, size });
        assert_eq!(Span::parse("bytes=5-9"), span(5, 9, None));
        assert_eq!(Span::parse("bytes 5-9/10"), span(5, 9, Some(10)));
        for field in ["bytes=-5", "lines=1-2", "bytes5-9", "bytes=a-b", ""] {
            assert_eq!(Span::parse(field), None, "{field}");
        }
    }

    #[test]
    fn a_form_is_one_of_the_list() {
        assert_eq!(Form::of(Some("Text/HTML; charset=secret")), Form::Html);
        assert_eq!(Form::of(Some("secret/secret")), Form::Octets);
        assert_eq!(Form::of(None), Form::Octets);
    }
}
