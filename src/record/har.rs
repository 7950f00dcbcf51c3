//! An exchange as an entry of HAR 1.2, and the document around the entries.
//!
//! The document has an entry a line: a comma unless it is the first, then the entry. So a reader
//! finds the whole entries of a file that was torn apart, and a writer may put any number of spaces
//! and empty lines between them. Fields whose names begin with an underscore are ours, as HAR
//! allows.

use std::time::Duration;

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    exchange::{Condition, Exchange, Fault, Operation, Span},
    kind::Kind,
};
use crate::clock::Timestamp;

/// The beginning of each recording, by which it is known.
pub(super) const BEGINNING: &str = r#"{"log":{"version":"1.2","creator":{"name":"strongroom""#;
/// The end of its first line.
pub(super) const ENTRIES: &str = r#""entries":["#;
/// The last line.
pub(super) const END: &str = "]}}\n";

/// A name that no host has, in place of the store's.
const ORIGIN: &str = "https://store.invalid";

/// The first line.
pub(super) fn head(minutes: u64, began: Timestamp) -> String {
    format!(
        r#"{BEGINNING},"version":"{}"}},"_minutes":{minutes},"_began":"{}",{ENTRIES}"#,
        env!("CARGO_PKG_VERSION"),
        moment(began)
    )
}

/// A moment with milliseconds.
fn moment(at: Timestamp) -> String {
    let nanos =
        i128::from(at.seconds) * 1_000_000_000 + i128::from(at.nanos / 1_000_000 * 1_000_000);
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    let text = moment.and_then(|moment| moment.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Writes the entry of `exchange` into `out`, without a line break.
pub(super) fn write_entry(exchange: &Exchange, out: &mut Vec<u8>) {
    out.clear();
    // Numbers, words and short texts can always be written to memory.
    let _ = serde_json::to_writer(out, &entry(exchange));
}

#[derive(Serialize)]
struct Entry {
    #[serde(rename = "startedDateTime")]
    started: String,
    time: f64,
    request: Request,
    response: Response,
    cache: Nothing,
    timings: Timings,
    _number: u64,
    _operation: Operation,
    _kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    _part: Option<u32>,
    _attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    _fault: Option<Fault>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct Request {
    method: &'static str,
    url: String,
    #[serde(rename = "httpVersion")]
    http_version: &'static str,
    cookies: [u8; 0],
    headers: Vec<Field>,
    #[serde(rename = "queryString")]
    query: Vec<Field>,
    #[serde(rename = "headersSize")]
    head_bytes: i64,
    #[serde(rename = "bodySize")]
    body_bytes: u64,
    #[serde(rename = "_bodyHash", skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

#[derive(Serialize)]
struct Response {
    status: u16,
    #[serde(rename = "statusText")]
    status_text: &'static str,
    #[serde(rename = "httpVersion")]
    http_version: &'static str,
    cookies: [u8; 0],
    headers: Vec<Field>,
    content: Content,
    #[serde(rename = "redirectURL")]
    redirect_url: &'static str,
    #[serde(rename = "headersSize")]
    head_bytes: i64,
    #[serde(rename = "bodySize")]
    body_bytes: u64,
    #[serde(rename = "_code", skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(rename = "_bodyHash", skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

#[derive(Serialize)]
struct Content {
    size: u64,
    #[serde(rename = "mimeType")]
    form: &'static str,
}

#[derive(Serialize)]
struct Timings {
    send: f64,
    wait: f64,
    receive: f64,
}

#[derive(Serialize)]
struct Field {
    name: &'static str,
    value: String,
}

impl Field {
    fn new(name: &'static str, value: impl ToString) -> Field {
        Field {
            name,
            value: value.to_string(),
        }
    }
}

fn entry(exchange: &Exchange) -> Entry {
    let (send, wait, receive) = (exchange.sending, exchange.waiting, exchange.receiving);
    Entry {
        started: moment(exchange.started),
        time: milliseconds(send + wait + receive),
        request: request(exchange),
        response: response(exchange),
        cache: Nothing {},
        timings: Timings {
            send: milliseconds(send),
            wait: milliseconds(wait),
            receive: milliseconds(receive),
        },
        _number: exchange.number,
        _operation: exchange.operation,
        _kind: exchange.key.kind,
        _part: exchange.part,
        _attempt: exchange.attempt,
        _fault: exchange.fault,
    }
}

fn request(exchange: &Exchange) -> Request {
    let mut headers = Vec::new();
    if let Some(length) = exchange.length {
        headers.push(Field::new("content-length", length));
    }
    if let Some(range) = exchange.range {
        headers.push(Field::new(
            "range",
            format!("bytes={}-{}", range.first, range.last),
        ));
    }
    match exchange.condition {
        Some(Condition::Absent) => headers.push(Field::new("if-none-match", "*")),
        Some(Condition::Matches) => headers.push(Field::new("if-match", "(a tag)")),
        None => {}
    }
    let part = exchange.part.map(|part| Field::new("partNumber", part));
    Request {
        method: method(exchange.operation),
        url: url(exchange),
        http_version: "HTTP/1.1",
        cookies: [],
        headers,
        query: part.into_iter().collect(),
        head_bytes: -1,
        body_bytes: exchange.sent.bytes,
        hash: exchange.sent.hash.map(hexadecimal),
    }
}

/// HAR has no other way to say that no answer came than the status 0.
fn response(exchange: &Exchange) -> Response {
    let answer = exchange.answer.as_ref();
    let mut headers = Vec::new();
    if let Some(length) = answer.and_then(|answer| answer.length) {
        headers.push(Field::new("content-length", length));
    }
    if let Some(Span { first, last, size }) = answer.and_then(|answer| answer.range) {
        let size = size.map_or_else(|| "*".to_owned(), |size| size.to_string());
        headers.push(Field::new(
            "content-range",
            format!("bytes {first}-{last}/{size}"),
        ));
    }
    if let Some(seconds) = answer.and_then(|answer| answer.retry_after_seconds) {
        headers.push(Field::new("retry-after", seconds));
    }
    Response {
        status: answer.map_or(0, |answer| answer.status),
        status_text: "",
        http_version: "HTTP/1.1",
        cookies: [],
        headers,
        content: Content {
            size: exchange.received.bytes,
            form: answer.map_or("x-unknown", |answer| answer.form.name()),
        },
        redirect_url: "",
        head_bytes: -1,
        body_bytes: exchange.received.bytes,
        code: answer.and_then(|answer| answer.code),
        hash: exchange.received.hash.map(hexadecimal),
    }
}

fn method(operation: Operation) -> &'static str {
    use Operation::*;
    match operation {
        AbortMultipartUpload | DeleteObject => "DELETE",
        CompleteMultipartUpload | CreateMultipartUpload | DeleteObjects => "POST",
        CreateBucket | PutObject | UploadPart => "PUT",
        HeadBucket | HeadObject => "HEAD",
        GetObject | ListMultipartUploads | ListObjectsV2 | ListParts => "GET",
        Credentials | Other => "GET",
    }
}

/// A path of the same depth as the key's below the volume's prefix, which says its kind.
fn url(exchange: &Exchange) -> String {
    let folder = match exchange.key.kind {
        Kind::Data => "data",
        Kind::Log => "meta/wal",
        Kind::Table => "meta/compacted",
        Kind::Manifest => "meta/manifest",
        Kind::Upkeep => "meta/upkeep",
        Kind::Header => "header",
        Kind::Lease => "lease",
        Kind::Note => "readers",
        Kind::Other => "other",
    };
    let mut url = format!("{ORIGIN}/{folder}");
    for name in [exchange.key.folder, exchange.key.object]
        .into_iter()
        .flatten()
    {
        url.push('/');
        url.push_str(&short(name));
    }
    if exchange.key.object.is_none() {
        url.push('/');
    }
    if let Some(part) = exchange.part {
        url.push_str(&format!("?partNumber={part}"));
    }
    url
}

fn milliseconds(span: Duration) -> f64 {
    span.as_micros() as f64 / 1e3
}

fn hexadecimal(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Two of a million objects have the same name with a probability of less than one in 500.
fn short(hash: u64) -> String {
    format!("{:012x}", hash >> 16)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::record::{
        exchange::{Answer, Form, Moved},
        pseudonyms::KeyName,
    };

    /// An exchange that has everything, as large as it can be.
    pub(in crate::record) fn largest() -> Exchange {
        let span = Some(Span {
            first: u64::MAX,
            last: u64::MAX,
            size: Some(u64::MAX),
        });
        let moved = Moved {
            bytes: u64::MAX,
            hash: Some(u64::MAX),
        };
        let long = Duration::from_micros(123_456_789_123);
        Exchange {
            number: u64::MAX,
            started: Timestamp {
                seconds: 1_800_000_000,
                nanos: 999_999_999,
            },
            operation: Operation::CompleteMultipartUpload,
            key: KeyName {
                kind: Kind::Data,
                folder: Some(u64::MAX),
                object: Some(u64::MAX),
            },
            part: Some(u32::MAX),
            attempt: u32::MAX,
            range: span,
            condition: Some(Condition::Matches),
            length: Some(u64::MAX),
            sent: moved,
            sending: long,
            waiting: long,
            receiving: long,
            answer: Some(Answer {
                status: 599,
                code: Some("XAmzContentChecksumMismatch"),
                length: Some(u64::MAX),
                range: span,
                retry_after_seconds: Some(u64::MAX),
                form: Form::Octets,
            }),
            received: moved,
            fault: Some(Fault::Unreachable),
        }
    }

    #[test]
    fn an_entry_has_what_har_asks_for_and_fits_into_half_a_page() {
        let mut text = Vec::new();
        write_entry(&largest(), &mut text);
        assert!(text.len() < 2000, "{}", text.len());
        let entry: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(entry["startedDateTime"], "2027-01-15T08:00:00.999Z");
        for field in ["time", "request", "response", "cache", "timings"] {
            assert!(!entry[field].is_null(), "{field}");
        }
        let (request, response) = (&entry["request"], &entry["response"]);
        for field in [
            "method",
            "url",
            "httpVersion",
            "cookies",
            "headers",
            "queryString",
            "headersSize",
            "bodySize",
        ] {
            assert!(!request[field].is_null(), "request.{field}");
        }
        for field in [
            "status",
            "statusText",
            "httpVersion",
            "cookies",
            "headers",
            "content",
            "redirectURL",
            "headersSize",
            "bodySize",
        ] {
            assert!(!response[field].is_null(), "response.{field}");
        }
        assert!(!text.contains(&b'\n'), "an entry is a line");
    }

    #[test]
    fn a_key_shows_its_kind_its_depth_and_its_part() {
        let mut exchange = largest();
        exchange.part = Some(2);
        assert_eq!(
            url(&exchange),
            "https://store.invalid/data/ffffffffffff/ffffffffffff?partNumber=2"
        );
        exchange.part = None;
        exchange.key = KeyName {
            kind: Kind::Table,
            folder: None,
            object: Some(3 << 16),
        };
        assert_eq!(
            url(&exchange),
            "https://store.invalid/meta/compacted/000000000003"
        );
        exchange.key.object = None;
        assert_eq!(url(&exchange), "https://store.invalid/meta/compacted/");
    }
}
