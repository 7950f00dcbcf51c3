//! Fuzz target of the store's answers: status, header fields and body, through the whole client,
//! the SDK's parsers included. Whatever the store answers, each operation ends, takes no more than
//! its bounds, and returns nothing but what it asked for.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings,
            SharedHttpClient, SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;

use super::{Condition, PartTag, Rates, Retry, Store, StoreConfig, StoreError, UploadId, connect};
use crate::telemetry::Metrics;

/// Requests that one operation may take: the pages of a listing, each tried a few times, are the
/// most.
const REQUESTS_MAX: usize = 1000;
/// Between two answers.
const SEPARATOR: u8 = 0x1e;

/// Answers, given one after the other and then again from the first.
#[derive(Clone, Debug)]
struct Answers {
    answers: Arc<Vec<Vec<u8>>>,
    requests: Arc<AtomicUsize>,
}

impl HttpConnector for Answers {
    fn call(&self, _request: HttpRequest) -> HttpConnectorFuture {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        assert!(request < REQUESTS_MAX, "an operation does not end");
        let answer = self.answers.get(request % self.answers.len().max(1));
        HttpConnectorFuture::ready(
            answer
                .and_then(|answer| parse(answer))
                .ok_or_else(|| ConnectorError::io("no answer".into())),
        )
    }
}

impl HttpClient for Answers {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// `STATUS`, lines of `name: value`, an empty line, the body. Text that an HTTP stack would not let
/// pass is no answer.
fn parse(answer: &[u8]) -> Option<HttpResponse> {
    let (head, body) = match answer.windows(2).position(|pair| pair == b"\n\n") {
        Some(end) => (&answer[..end], &answer[end + 2..]),
        None => (answer, &[][..]),
    };
    let mut lines = std::str::from_utf8(head).ok()?.split('\n');
    let status: u16 = lines.next()?.parse().ok()?;
    let status = StatusCode::try_from(status).ok()?;
    let mut response = HttpResponse::new(status, SdkBody::from(body.to_vec()));
    for line in lines.take(100) {
        let (name, value) = line.split_once(": ")?;
        let headers = response.headers_mut();
        headers.try_append(name.to_owned(), value.to_owned()).ok()?;
    }
    Some(response)
}

/// An operation by the first byte, then answers to it.
pub(crate) fn answers(input: &[u8]) {
    let Some((operation, rest)) = input.split_first() else {
        return;
    };
    let answers = Answers {
        answers: Arc::new(
            rest.split(|byte| *byte == SEPARATOR)
                .map(<[u8]>::to_vec)
                .collect(),
        ),
        requests: Arc::default(),
    };
    let config = StoreConfig {
        url: "s3://bucket/v".parse().unwrap(),
        endpoint_url: None,
        region: None,
        profile: None,
        ca_bundle: None,
        path_style: None,
        stall_timeout: Duration::from_secs(5),
        connections_max: 4,
        rates: Rates::default(),
        retry: Retry::Attempts(2),
    };
    let connected = connect::connected_to(SharedHttpClient::new(answers));
    let store = Store::over(connected, config, Arc::<Metrics>::default());
    // The clock moves on by itself while everybody waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(carry_out(&store, *operation));
}

async fn carry_out(store: &Store, operation: u8) {
    let key = "data/1";
    let upload = UploadId("upload".to_owned());
    match operation {
        b'g' => {
            if let Ok(mut body) = tell(store.get(key, Some(5..1500)).await) {
                let range = body.range.clone();
                assert!(range.start == 5 && range.end <= 1500 && range.end <= body.head.size);
                let mut came = 0;
                let whole = loop {
                    match tell(body.chunk().await) {
                        Ok(Some(chunk)) => came += chunk.len() as u64,
                        Ok(None) => break true,
                        Err(_) => break false,
                    }
                };
                assert!(came <= range.end - range.start);
                assert!(!whole || came == range.end - range.start);
            }
        }
        b'G' => {
            if let Ok((head, bytes)) = tell(store.get_bytes(key, None, 1000).await) {
                assert!(bytes.len() <= 1000);
                assert_eq!(bytes.len() as u64, head.size);
            }
        }
        b'h' => drop(tell(store.head(key).await)),
        b'l' => {
            let page = tell(store.list_page("data/", Some("data/5")).await);
            let keys = page.unwrap_or_default().into_iter().map(|entry| entry.key);
            ascend(keys, "data/", Some("data/5"));
        }
        b'L' => {
            let mut pages = store.pages("data/", None, 3);
            let mut keys = Vec::new();
            while let Ok(Some(page)) = tell(pages.next().await) {
                keys.extend(page.into_iter().map(|entry| entry.key));
            }
            ascend(keys.into_iter(), "data/", None);
        }
        b'd' => {
            if let Ok((directories, entries)) = tell(store.list_level("data/").await) {
                ascend(directories.into_iter(), "data/", None);
                ascend(entries.into_iter().map(|entry| entry.key), "data/", None);
            }
        }
        b'p' => {
            let pieces = vec![Bytes::from_static(b"piece")];
            drop(tell(store.put(key, pieces, Condition::Absent, &[]).await));
        }
        b'c' => drop(tell(store.create_multipart(key).await)),
        b'u' => {
            let pieces = vec![Bytes::from_static(b"piece")];
            let part = tell(store.upload_part(key, &upload, 3, pieces).await);
            assert!(part.is_err() || part.is_ok_and(|part| part.number == 3));
        }
        b'P' => {
            let parts = tell(store.list_parts(key, &upload).await).unwrap_or_default();
            let numbers = parts.iter().map(|part| part.number);
            assert!(numbers.clone().is_sorted_by(|a, b| a < b));
            assert!(
                numbers
                    .into_iter()
                    .all(|number| (1..=10_000).contains(&number))
            );
        }
        b'C' => {
            let part = PartTag {
                number: 1,
                etag: "\"e\"".to_owned(),
                checksum: None,
            };
            let parts = [part];
            let completed = store.complete_multipart(key, &upload, &parts, Condition::Absent);
            drop(tell(completed.await));
        }
        b'a' => drop(tell(store.abort_multipart(key, &upload).await)),
        b'U' => {
            let uploads = tell(store.list_multipart("data/").await).unwrap_or_default();
            assert!(uploads.iter().all(|upload| upload.key.starts_with("data/")));
        }
        b'x' => drop(tell(store.delete(&["a".to_owned(), "b".to_owned()]).await)),
        b'b' => drop(tell(store.check_bucket().await)),
        b'B' => drop(tell(store.create_bucket().await)),
        _ => {}
    }
}

/// An error is a line that a terminal can show, whatever the store said.
fn tell<T: Debug>(result: Result<T, StoreError>) -> Result<T, StoreError> {
    if let Err(error) = &result {
        let line = error.to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        // Each character may be escaped to ten.
        assert!(line.len() < 10_000, "{}", line.len());
    }
    result
}

fn ascend(keys: impl Iterator<Item = String>, prefix: &str, after: Option<&str>) {
    let mut last = after.map(str::to_owned);
    for key in keys {
        assert!(key.starts_with(prefix), "{key:?}");
        assert!(last.is_none_or(|last| last < key), "{key:?}");
        last = Some(key);
    }
}

pub(crate) fn answers_seeds() -> Vec<Vec<u8>> {
    const LIST: &str = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>v/data/6</Key>\
        <LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e&quot;</ETag><Size>7</Size>\
        </Contents><Contents><Key>v/data/7&amp;</Key><Size>8</Size></Contents></ListBucketResult>";
    const LEVEL: &str = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t\
        </NextContinuationToken><Contents><Key>v/data/6</Key></Contents><CommonPrefixes><Prefix>\
        v/data/a/</Prefix></CommonPrefixes></ListBucketResult>";
    const PARTS: &str = "<ListPartsResult><IsTruncated>true</IsTruncated><NextPartNumberMarker>1\
        </NextPartNumberMarker><Part><PartNumber>1</PartNumber><ETag>e</ETag><Size>5</Size>\
        <ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part></ListPartsResult>";
    const LAST_PARTS: &str = "<ListPartsResult><IsTruncated>false</IsTruncated><Part><PartNumber>2\
        </PartNumber><ETag>e</ETag><Size>5</Size></Part></ListPartsResult>";
    const UPLOADS: &str = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>\
        v/data/2</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker><Upload><Key>v/data/1</Key>\
        <UploadId>u</UploadId></Upload></ListMultipartUploadsResult>";
    const DELETED: &str = "<DeleteResult><Error><Key>v/a</Key><Code>AccessDenied</Code><Message>no\
        </Message></Error></DeleteResult>";
    let error = |code: &str| format!("<Error><Code>{code}</Code><Message>text</Message></Error>");
    let body = "x".repeat(15);
    [
        format!("g206\ncontent-length: 15\ncontent-range: bytes 5-19/20\netag: \"e\"\n\n{body}"),
        format!("g200\ncontent-length: 15\n\n{body}"),
        format!("G200\ncontent-length: 15\netag: \"e\"\n\n{}\x1e206\ncontent-length: 10\n\
                 content-range: bytes 5-14/15\n\n{}", &body[..5], &body[..10]),
        format!("g404\n\n{}", error("NoSuchKey")),
        format!("g503\nretry-after: 1\n\n{}\x1e416\n\n{}", error("SlowDown"), error("InvalidRange")),
        "h200\ncontent-length: 7\nx-amz-meta-a: b\nlast-modified: Wed, 21 Oct 2026 07:28:00 GMT".to_owned(),
        "h404\n\n".to_owned(),
        format!("l200\n\n{LIST}"),
        format!("L200\n\n{LIST}"),
        format!("l403\n\n{}", error("AccessDenied")),
        format!("l301\nx-amz-bucket-region: eu-west-1\n\n{}", error("PermanentRedirect")),
        format!("d200\n\n{LEVEL}\x1e200\n\n<ListBucketResult></ListBucketResult>"),
        "p200\netag: \"e\"\n\n".to_owned(),
        format!("p409\n\n{}\x1e412\n\n\x1e200\nx-amz-meta-strongroom-put: 0\n\n", error("ConditionalRequestConflict")),
        "c200\n\n<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>".to_owned(),
        "u200\netag: \"e\"\n\n".to_owned(),
        format!("P200\n\n{PARTS}\x1e200\n\n{LAST_PARTS}"),
        "C200\n\n<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>".to_owned(),
        format!("C200\n\n{}", error("InternalError")),
        format!("C500\n\n\x1e404\n\n{}\x1e200\netag: e\n\n", error("NoSuchUpload")),
        "a204\n\n".to_owned(),
        format!("U200\n\n{UPLOADS}\x1e200\n\n<ListMultipartUploadsResult></ListMultipartUploadsResult>"),
        format!("x200\n\n{DELETED}"),
        format!("x501\n\n{}\x1e204\n\n", error("NotImplemented")),
        "b200\nx-amz-bucket-region: us-east-1\n\n".to_owned(),
        format!("B409\n\n{}", error("BucketAlreadyOwnedByYou")),
    ]
    .map(String::into_bytes)
    .to_vec()
}
