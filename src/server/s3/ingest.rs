//! Receiving a body: streamed to a temporary file, verified before anything is changed.
//!
//! Promises: at most two batches in memory; a body is only hashed where the client sent a checksum;
//! a body that ends early, is too long, or does not have the checksums announced is refused and
//! leaves nothing behind. A small body costs one hand-over to a blocking thread: its write, its
//! verification and its commit happen in one.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use hyper::HeaderMap;
use hyper::header::HeaderName;
use s3s::crypto::{Checksum as _, Crc32, Md5};
use s3s::dto::StreamingBlob;
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use crate::server::http::RequestContext;
use crate::server::storage::{Checksums, Storage, TempFile};

/// Bytes that are handed to a blocking thread at once.
const BATCH_BYTES: usize = 512 * 1024;
/// Pieces that are handed over at once, at most: bounds the overhead of a body that arrives in
/// crumbs.
const BATCH_PIECES: usize = 1024;
/// The largest object of one PUT, and the largest part, as S3 has it.
const MAX_BODY_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// The header, or the trailer, that carries the checksum.
const CRC32_HEADER: &str = "x-amz-checksum-crc32";
/// Headers of the same kind that carry no checksum.
const NO_CHECKSUMS: [&str; 3] = [
    "x-amz-checksum-algorithm",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
];

/// How long a body may pause before its upload is given up; S3 waits some 20 s.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Receives the body of a PutObject or an UploadPart.
macro_rules! receive_body {
    ($operations:expr, $request:expr, $input:expr) => {{
        let announced = $crate::server::s3::ingest::Announced::new(
            &$request.headers,
            $input.content_md5.as_deref(),
            $crate::server::s3::wire::checksums_in!($input),
            $request.trailing_headers,
            $request
                .extensions
                .get::<std::sync::Arc<$crate::server::http::RequestContext>>()
                .cloned(),
        )?;
        let body = $input.body.take();
        $crate::server::s3::ingest::receive(&$operations.storage, body, announced).await?
    }};
}
pub(super) use receive_body;

/// The headers' announcement of the body.
pub(super) struct Announced {
    /// Bytes, without framing.
    length: Option<u64>,
    md5: Option<Vec<u8>>,
    /// The checksum from the headers.
    crc32: Option<String>,
    /// A checksum comes behind the body.
    trails: bool,
    trailers: Option<TrailingHeaders>,
    context: Option<Arc<RequestContext>>,
}

impl Announced {
    pub(super) fn new(
        headers: &HeaderMap,
        md5: Option<&str>,
        checksums: Checksums,
        trailers: Option<TrailingHeaders>,
        context: Option<Arc<RequestContext>>,
    ) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let length = text("x-amz-decoded-content-length").or_else(|| text("content-length"));
        let length = length
            .map(|length| {
                length
                    .parse()
                    .map_err(|_| s3_error!(InvalidRequest, "A length is not a number."))
            })
            .transpose()?;
        if length.is_some_and(|length| length > MAX_BODY_BYTES) {
            return Err(s3_error!(EntityTooLarge));
        }
        let md5 = md5
            .map(|md5| {
                BASE64
                    .decode(md5.as_bytes())
                    .ok()
                    .filter(|md5| md5.len() == 16)
            })
            .map(|md5| {
                md5.ok_or_else(|| {
                    s3_error!(InvalidDigest, "Content-MD5 is not 16 bytes in base64.")
                })
            })
            .transpose()?;
        let trailer = text("x-amz-trailer")
            .unwrap_or_default()
            .to_ascii_lowercase();
        let mut trailing = trailer.split(',').map(str::trim);
        let mut checksum_names = headers
            .keys()
            .map(HeaderName::as_str)
            .chain(trailing.clone());
        if checksum_names.any(is_other_checksum) {
            return Err(other_checksum());
        }
        Ok(Self {
            length,
            md5,
            crc32: checksums.crc32,
            trails: trailing.any(|name| name == CRC32_HEADER),
            trailers,
            context,
        })
    }
}

fn is_other_checksum(header: &str) -> bool {
    header.starts_with("x-amz-checksum-")
        && header != CRC32_HEADER
        && !NO_CHECKSUMS.contains(&header)
}

/// The answer to a checksum that would go unchecked.
pub(super) fn other_checksum() -> S3Error {
    s3_error!(
        NotImplemented,
        "The only checksum that is checked here is CRC32."
    )
}

/// A file being filled, with the hashes of its bytes.
struct Sink {
    storage: Arc<Storage>,
    temp: Option<TempFile>,
    crc32: Option<Crc32>,
    md5: Option<Md5>,
    size: u64,
}

impl Sink {
    fn write(&mut self, batch: &[Bytes]) -> io::Result<()> {
        let temp = match self.temp.take() {
            Some(temp) => temp,
            None => self.storage.temp_file()?,
        };
        for piece in batch {
            if let Some(crc32) = &mut self.crc32 {
                crc32.update(piece);
            }
            if let Some(md5) = &mut self.md5 {
                md5.update(piece);
            }
            self.size += piece.len() as u64;
        }
        let mut slices: Vec<IoSlice<'_>> = batch.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            match temp.file().write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut left, written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.temp = Some(temp);
        Ok(())
    }
}

/// A body that has arrived whole, its end not yet written and nothing of it verified.
pub(super) struct Received {
    sink: Sink,
    rest: Vec<Bytes>,
    announced: Announced,
}

/// Reads a body to its end.
pub(super) async fn receive(
    storage: &Arc<Storage>,
    body: Option<StreamingBlob>,
    announced: Announced,
) -> S3Result<Received> {
    let is_checked = announced.crc32.is_some() || announced.trails;
    let sink = Sink {
        storage: Arc::clone(storage),
        temp: None,
        crc32: is_checked.then(Crc32::new),
        md5: announced.md5.is_some().then(Md5::new),
        size: 0,
    };
    let mut writer = Writer {
        idle: Some(sink),
        busy: None,
    };
    let (mut batch, mut batch_bytes, mut total) = (Vec::new(), 0, 0u64);
    if let Some(mut body) = body {
        loop {
            let next = tokio::time::timeout(BODY_IDLE_TIMEOUT, body.next()).await;
            let next = next.map_err(|_| s3_error!(RequestTimeout, "The body stopped coming."))?;
            let Some(piece) = next else { break };
            let piece = piece.map_err(|error| body_error(&*error))?;
            total += piece.len() as u64;
            if total > announced.length.unwrap_or(MAX_BODY_BYTES) {
                return Err(match announced.length {
                    Some(_) => s3_error!(IncompleteBody, "The body is longer than announced."),
                    None => s3_error!(EntityTooLarge),
                });
            }
            if let Some(context) = &announced.context {
                context.received(piece.len() as u64);
            }
            batch_bytes += piece.len();
            batch.push(piece);
            if batch_bytes >= BATCH_BYTES || batch.len() >= BATCH_PIECES {
                writer
                    .write(std::mem::take(&mut batch))
                    .await
                    .map_err(storage_error)?;
                batch_bytes = 0;
            }
        }
    }
    if announced.length.is_some_and(|length| length != total) {
        return Err(s3_error!(
            IncompleteBody,
            "The body is shorter than announced."
        ));
    }
    let sink = writer.settle().await.map_err(storage_error)?;
    Ok(Received {
        sink,
        rest: batch,
        announced,
    })
}

/// The sink, at rest or with one batch on its way: the next one is received meanwhile.
struct Writer {
    idle: Option<Sink>,
    busy: Option<JoinHandle<io::Result<Sink>>>,
}

impl Writer {
    async fn settle(&mut self) -> io::Result<Sink> {
        if let Some(busy) = self.busy.take() {
            return busy.await.map_err(io::Error::other)?;
        }
        self.idle
            .take()
            .ok_or_else(|| io::Error::other("a write failed before"))
    }

    async fn write(&mut self, batch: Vec<Bytes>) -> io::Result<()> {
        let mut sink = self.settle().await?;
        self.busy = Some(tokio::task::spawn_blocking(move || {
            sink.write(&batch)?;
            Ok(sink)
        }));
        Ok(())
    }
}

impl Received {
    /// Writes the end and verifies the whole. Blocks.
    ///
    /// # Errors
    /// `BadDigest` when a checksum does not match, `InvalidRequest` when one that was announced is
    /// missing.
    pub(super) fn verify(mut self) -> S3Result<(TempFile, u64, Checksums)> {
        let rest = std::mem::take(&mut self.rest);
        self.sink.write(&rest).map_err(storage_error)?;
        drop(rest);
        if let (Some(md5), Some(expected)) = (self.sink.md5, &self.announced.md5)
            && md5.finalize().as_ref() != expected.as_slice()
        {
            return Err(s3_error!(
                BadDigest,
                "The body does not have the Content-MD5 given."
            ));
        }
        let actual = self.sink.crc32.take();
        let actual = actual.map(|crc32| BASE64.encode(&crc32.finalize()));
        if let Some(actual) = &actual {
            let expected = match &self.announced.crc32 {
                Some(header) => header.clone(),
                None => self.announced.trailer()?,
            };
            if *actual != expected {
                return Err(s3_error!(
                    BadDigest,
                    "The body does not have the CRC32 checksum given."
                ));
            }
        }
        let checksums = Checksums {
            crc32: actual,
            composite: false,
        };
        let temp = self
            .sink
            .temp
            .take()
            .ok_or_else(|| s3_error!(InternalError))?;
        Ok((temp, self.sink.size, checksums))
    }
}

impl Announced {
    fn trailer(&self) -> S3Result<String> {
        let value = self.trailers.as_ref().and_then(|trailers| {
            trailers.read(|trailers| {
                let value = trailers.get(CRC32_HEADER)?.to_str();
                value.ok().map(str::to_owned)
            })
        });
        value.flatten().ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "The trailer {CRC32_HEADER} was announced but did not come."
            )
        })
    }
}

fn storage_error(error: io::Error) -> S3Error {
    tracing::error!(%error, "storing a body failed");
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}

/// The answer to a body that ended in an error. The decoders' error types are not public; their
/// texts are fixed by the pinned version.
fn body_error(error: &(dyn std::error::Error + 'static)) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        s3_error!(
            BadDigest,
            "The body does not have the x-amz-content-sha256 given."
        )
    } else if text.contains("SignatureMismatch") {
        s3_error!(
            SignatureDoesNotMatch,
            "A chunk of the body does not have the signature given."
        )
    } else if text.contains("FormatError") || text.contains("TooLarge") || text.contains("TooMany")
    {
        s3_error!(InvalidRequest, "The body is not well-formed aws-chunked.")
    } else if text.contains("over the limit") {
        s3_error!(InvalidRequest, "{text}")
    } else {
        s3_error!(IncompleteBody, "The body ended early.")
    }
}
