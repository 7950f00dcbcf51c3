//! The bounds on an answer, which hold before anything in it can be believed.
//!
//! The SDK collects every body but that of a successful GetObject in memory, whatever its length.
//! This layer lies between the SDK and the connection pool and counts what passes.
//!
//! Promises: an answer that is collected ends with an error at its bound; a LIST page has a bound
//! of its own; elements are counted too, because a parsed element takes more memory than its text.
//! The bodies of objects pass uncounted: [`super::Body`] takes no more of them than was announced.
//! hyper itself takes at most 100 header fields in at most 408 KiB; this module bounds the header
//! fields that come out of it.
//! Never: looks into the bytes that it counts.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::layer::{Layer, layered};

/// Bytes of an error's body, at most. S3's are below 1 KiB, a proxy's page in HTML a few. Every
/// connection may have one at the same time.
pub(super) const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Bytes of another answer that is neither an object nor a LIST page, at most. That to a
/// DeleteObjects which fails for each of its 1,000 keys has some 0.5 MiB, all others are small.
pub(super) const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a LIST page, at most: 1,000 keys of 1,024 bytes in which each byte is an XML entity,
/// with everything that a store says of them, are below 6 MiB. One page at a time is taken
/// (`list.rs`). With 16 MiB a mount of 128 MiB was seen to peak at 117, since the SDK holds it
/// twice.
pub(super) const LIST_PAGE_BYTES_MAX: u64 = 8 << 20;
/// Elements (counted by their `<`) of an answer, at most: 1,000 keys with the 14 elements that S3
/// knows for one are less than half. The SDK keeps about 300 bytes for a key, however short it is.
const ELEMENTS_MAX: u64 = 64 << 10;
/// Bytes of all header fields of an answer, at most: S3 has some 2 KiB, with all of an object's
/// user metadata 4 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// An answer is larger than any that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooLarge {
    /// The body's bytes.
    #[error("the answer is longer than the {0} bytes that it may have")]
    Body(u64),
    /// The body's elements.
    #[error("the answer has more than {ELEMENTS_MAX} elements")]
    Elements,
    /// The header fields.
    #[error("the answer's header fields are longer than {HEAD_BYTES_MAX} bytes")]
    Head,
}

/// Wraps a client in these bounds.
pub(super) fn bounded(client: SharedHttpClient) -> SharedHttpClient {
    layered(client, Bounds)
}

#[derive(Debug)]
struct Bounds;

impl Layer for Bounds {
    fn around(&self, below: SharedHttpConnector) -> SharedHttpConnector {
        SharedHttpConnector::new(BoundedConnector(below))
    }
}

#[derive(Debug)]
struct BoundedConnector(SharedHttpConnector);

impl HttpConnector for BoundedConnector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let kind = AnswerKind::of(request.method(), request.uri());
        let answer = self.0.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            check_head(&answer).map_err(|error| ConnectorError::other(error.into(), None))?;
            let bytes_max = match kind {
                _ if !answer.status().is_success() => ERROR_BYTES_MAX,
                AnswerKind::Object => return Ok(answer),
                AnswerKind::List => LIST_PAGE_BYTES_MAX,
                AnswerKind::Other => ANSWER_BYTES_MAX,
            };
            Ok(answer.map(|body| counted(body, bytes_max)))
        })
    }
}

/// The kind of answer that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswerKind {
    Object,
    List,
    Other,
}

impl AnswerKind {
    /// Tells it by the query, which this side wrote. Requests for credentials go over the same
    /// client and are `Other`.
    fn of(method: &str, uri: &str) -> AnswerKind {
        let query = uri.split_once('?').map_or("", |(_, query)| query);
        let has = |wanted: &str| query.split('&').any(|field| field == wanted);
        if method != "GET" {
            AnswerKind::Other
        } else if has("x-id=GetObject") {
            AnswerKind::Object
        } else if has("list-type=2") || has("uploads") || has("uploads=") || has("x-id=ListParts") {
            AnswerKind::List
        } else {
            AnswerKind::Other
        }
    }
}

fn check_head(answer: &HttpResponse) -> Result<(), TooLarge> {
    let fields = answer.headers().iter();
    let bytes: usize = fields.map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEAD_BYTES_MAX {
        return Err(TooLarge::Head);
    }
    Ok(())
}

fn counted(body: SdkBody, bytes_max: u64) -> SdkBody {
    SdkBody::from_body_1_x(CountedBody {
        inner: body,
        bytes_max,
        bytes: 0,
        elements: 0,
    })
}

/// A body that fails once it is past its bound.
struct CountedBody {
    inner: SdkBody,
    bytes_max: u64,
    bytes: u64,
    elements: u64,
}

impl CountedBody {
    fn count(&mut self, data: &[u8]) -> Result<(), TooLarge> {
        self.bytes += data.len() as u64;
        self.elements += data.iter().filter(|byte| **byte == b'<').count() as u64;
        if self.bytes > self.bytes_max {
            return Err(TooLarge::Body(self.bytes_max));
        }
        if self.elements > ELEMENTS_MAX {
            return Err(TooLarge::Elements);
        }
        Ok(())
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        if let Some(data) = frame.data_ref()
            && let Err(error) = self.count(data)
        {
            // Drops the connection: nobody needs the rest of an endless body.
            self.inner = SdkBody::empty();
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        // A length that the store announces is not believed: the SDK, which collects the body, is
        // given none to reserve for.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn requests_are_told_apart_by_their_query() {
        let url = "http://host/bucket/key";
        for (method, query, asked) in [
            ("GET", "?x-id=GetObject", AnswerKind::Object),
            ("GET", "?partNumber=1&x-id=GetObject", AnswerKind::Object),
            (
                "GET",
                "?list-type=2&prefix=x-id%3DGetObject",
                AnswerKind::List,
            ),
            ("GET", "?uploads&prefix=data", AnswerKind::List),
            ("GET", "?x-id=ListParts&uploadId=u", AnswerKind::List),
            ("GET", "", AnswerKind::Other),
            ("POST", "?uploads", AnswerKind::Other),
            ("PUT", "?x-id=PutObject", AnswerKind::Other),
            ("HEAD", "", AnswerKind::Other),
        ] {
            assert_eq!(
                AnswerKind::of(method, &format!("{url}{query}")),
                asked,
                "{query}"
            );
        }
    }

    #[tokio::test]
    async fn a_body_passes_up_to_its_bound_and_fails_past_it() {
        let collect = |text: String, max| counted(SdkBody::from(text), max).collect();
        let whole = collect("x".repeat(100), 100).await.unwrap().to_bytes();
        assert_eq!(whole.len(), 100);
        let error = collect("x".repeat(101), 100).await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&TooLarge::Body(100)));
        let elements = |count: u64| "<a/>".repeat(count as usize);
        assert!(collect(elements(ELEMENTS_MAX), 1 << 20).await.is_ok());
        let error = collect(elements(ELEMENTS_MAX + 1), 1 << 20).await;
        assert_eq!(error.unwrap_err().downcast_ref(), Some(&TooLarge::Elements));
    }
}
