//! GetObject and HeadObject.

use std::io;
use std::ops::Range as Span;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use hyper::StatusCode;
use s3s::dto::*;
use s3s::stream::{ByteStream, RemainingLength};
use s3s::{S3Response, S3Result, s3_error};
use tokio::task::JoinHandle;

use super::Operations;
use super::conditions::ReadConditions;
use super::wire::{self, checksums_out};
use crate::server::storage::{ObjectRecord, Reader};

/// The headers that GET and HEAD answer with alike.
macro_rules! headers_out {
    ($output:ident, $record:expr, $length:expr, $span:expr, $parts_count:expr) => {{
        let headers = &$record.headers;
        $output {
            accept_ranges: Some("bytes".to_owned()),
            cache_control: headers.cache_control.clone(),
            content_disposition: headers.content_disposition.clone(),
            content_encoding: headers.content_encoding.clone(),
            content_language: headers.content_language.clone(),
            content_length: Some(wire::signed($length)),
            content_range: $span.as_ref().map(|span| content_range(span, $record.size)),
            content_type: headers.content_type.clone().or_else(default_content_type),
            e_tag: wire::etag(&$record.etag),
            expires: headers.expires.map(Timestamp::from),
            last_modified: Some($record.modified.into()),
            metadata: wire::metadata_out(headers),
            parts_count: $parts_count,
            ..Default::default()
        }
    }};
}

pub(super) async fn get(
    operations: &Operations,
    mut input: GetObjectInput,
) -> S3Result<S3Response<GetObjectOutput>> {
    let (bucket, key) = (
        std::mem::take(&mut input.bucket),
        std::mem::take(&mut input.key),
    );
    let conditions = ReadConditions {
        if_match: input.if_match.take(),
        if_none_match: input.if_none_match.take(),
        if_modified_since: input.if_modified_since.take(),
        if_unmodified_since: input.if_unmodified_since.take(),
    };
    let (range, part_number) = (input.range, input.part_number);
    let (reader, first, span) = operations
        .blocking(move |storage| {
            let mut reader = storage.open_object(&bucket, &key)?;
            let record = &reader.object().record;
            conditions.check(record)?;
            let span = span(record, range, part_number)?;
            let whole = span.clone().unwrap_or(0..record.size);
            reader.seek(whole.start, whole.end);
            let first = reader
                .read_next()
                .map_err(|error| s3_error!(error, InternalError))?;
            Ok((reader, first, span))
        })
        .await?;

    let record = &reader.object().record;
    let length = first.len() as u64 + reader.remaining();
    let parts_count = part_number.and(parts_count(record));
    let mut output = headers_out!(GetObjectOutput, record, length, &span, parts_count);
    if wants_checksums(input.checksum_mode.as_ref(), &span) {
        output.checksum_type = wire::checksum_type(&record.checksums);
        checksums_out!(output, record.checksums.clone());
    }
    output.body = Some(StreamingBlob::new(ObjectStream::new(reader, first)));
    Ok(S3Response::new(output))
}

pub(super) fn head(
    operations: &Operations,
    input: HeadObjectInput,
) -> S3Result<S3Response<HeadObjectOutput>> {
    let object = operations.storage.head_object(&input.bucket, &input.key)?;
    let record = &object.record;
    let conditions = ReadConditions {
        if_match: input.if_match,
        if_none_match: input.if_none_match,
        if_modified_since: input.if_modified_since,
        if_unmodified_since: input.if_unmodified_since,
    };
    conditions.check(record)?;
    let span = span(record, input.range, input.part_number)?;
    let length = span
        .as_ref()
        .map_or(record.size, |span| span.end - span.start);
    let parts_count = input.part_number.and(parts_count(record));
    let mut output = headers_out!(HeadObjectOutput, record, length, &span, parts_count);
    if wants_checksums(input.checksum_mode.as_ref(), &span) {
        output.checksum_type = wire::checksum_type(&record.checksums);
        checksums_out!(output, record.checksums.clone());
    }
    let mut response = S3Response::new(output);
    if span.is_some() {
        response.status = Some(StatusCode::PARTIAL_CONTENT);
    }
    Ok(response)
}

/// The part of the object that is asked for; `None` is the whole, with status 200.
fn span(
    record: &ObjectRecord,
    range: Option<Range>,
    part_number: Option<PartNumber>,
) -> S3Result<Option<Span<u64>>> {
    match (range, part_number) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(s3_error!(
            InvalidRequest,
            "A range and a part number exclude each other."
        )),
        (Some(range), None) => {
            let span = range
                .check(record.size)
                .map_err(|_| s3_error!(InvalidRange))?;
            if span.is_empty() {
                // The last n bytes of nothing.
                return Err(s3_error!(InvalidRange));
            }
            Ok(Some(span))
        }
        (None, Some(number)) => part_span(record, number).map(Some),
    }
}

fn part_span(record: &ObjectRecord, number: PartNumber) -> S3Result<Span<u64>> {
    let Some(upload) = &record.upload else {
        return if number == 1 {
            Ok(0..record.size)
        } else {
            Err(s3_error!(InvalidRange))
        };
    };
    let mut begin = 0;
    for part in &upload.parts {
        if i32::from(part.number) == number {
            return Ok(begin..begin + part.size);
        }
        begin += part.size;
    }
    Err(s3_error!(InvalidRange))
}

fn content_range(span: &Span<u64>, size: u64) -> String {
    format!(
        "bytes {}-{}/{}",
        span.start,
        span.end.saturating_sub(1),
        size
    )
}

fn parts_count(record: &ObjectRecord) -> Option<i32> {
    record
        .upload
        .as_ref()
        .and_then(|upload| i32::try_from(upload.parts.len()).ok())
}

fn default_content_type() -> Option<String> {
    Some("binary/octet-stream".to_owned())
}

/// Only for whole objects: the checksum of a part of one is not known.
fn wants_checksums(mode: Option<&ChecksumMode>, span: &Option<Span<u64>>) -> bool {
    span.is_none() && mode.is_some_and(|mode| mode.as_str() == ChecksumMode::ENABLED)
}

type Reading = JoinHandle<io::Result<(Reader, Bytes)>>;

/// An object's bytes, read one piece ahead of the socket and no further.
struct ObjectStream {
    ready: Option<Bytes>,
    reader: Option<Reader>,
    reading: Option<Reading>,
    remaining: u64,
}

impl ObjectStream {
    fn new(reader: Reader, first: Bytes) -> Self {
        let remaining = first.len() as u64 + reader.remaining();
        Self {
            ready: Some(first),
            reader: Some(reader),
            reading: None,
            remaining,
        }
    }

    /// Begins to read the next piece, if there is one.
    fn read_ahead(&mut self, reader: Reader) {
        if reader.remaining() > 0 {
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let mut reader = reader;
                let bytes = reader.read_next()?;
                Ok((reader, bytes))
            }));
        }
    }

    fn pass(&mut self, bytes: Bytes) -> Poll<Option<<Self as Stream>::Item>> {
        self.remaining -= bytes.len() as u64;
        Poll::Ready(if bytes.is_empty() {
            None
        } else {
            Some(Ok(bytes))
        })
    }
}

impl Stream for ObjectStream {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Some(first) = this.ready.take() {
            if let Some(reader) = this.reader.take() {
                this.read_ahead(reader);
            }
            return this.pass(first);
        }
        let Some(reading) = &mut this.reading else {
            return Poll::Ready(None);
        };
        let done = ready!(Pin::new(reading).poll(cx));
        this.reading = None;
        let (reader, bytes) = done??;
        this.read_ahead(reader);
        this.pass(bytes)
    }
}

impl ByteStream for ObjectStream {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::new_exact(usize::try_from(self.remaining).unwrap_or(usize::MAX))
    }
}
