//! Receiving a body: streamed to a temporary file, verified before anything is changed.
//!
//! Promises: at most two batches in memory; each byte is hashed only by the algorithms the client
//! asked for; a body that ends early, is too long, or does not have the checksums announced is
//! refused and leaves nothing behind. A small body costs one hand-over to a blocking thread: its
//! write, its verification and its commit happen in one.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures::StreamExt;
use hyper::HeaderMap;
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{Checksum, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, s3_error};
use tokio::task::JoinHandle;

use crate::server::http::RequestContext;
use crate::server::storage::{Algorithm, Checksums, Storage, TempFile};

/// What is handed to a blocking thread at once.
const BATCH_BYTES: usize = 512 * 1024;
/// ... in at most so many pieces: bounds the overhead of a body that arrives in crumbs.
const BATCH_PIECES: usize = 1024;
/// The largest object of one PUT, and the largest part, as S3 has it.
const MAX_BODY_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// How long a body may pause before its upload is given up; S3 waits some 20 s.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What the request announced about its body.
pub(super) struct Announced {
    /// Bytes, without framing.
    length: Option<u64>,
    md5: Option<Vec<u8>>,
    /// Checksums from the headers.
    checksums: Checksums,
    /// Checksums to come behind the body.
    trailing: Vec<Algorithm>,
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
        let trailing = text("x-amz-trailer")
            .unwrap_or_default()
            .split(',')
            .filter_map(|name| {
                Algorithm::from_name(
                    name.trim()
                        .to_ascii_lowercase()
                        .strip_prefix("x-amz-checksum-")?,
                )
            });
        let trailing = trailing.collect();
        Ok(Self {
            length,
            md5,
            checksums,
            trailing,
            trailers,
            context,
        })
    }
}

/// A file being filled, with the hashes of what is in it.
struct Sink {
    storage: Arc<Storage>,
    temp: Option<TempFile>,
    hasher: ChecksumHasher,
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
            self.hasher.update(piece);
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
    let wanted = |algorithm| {
        announced.checksums.get(algorithm).is_some() || announced.trailing.contains(&algorithm)
    };
    let sink = Sink {
        storage: Arc::clone(storage),
        temp: None,
        hasher: ChecksumHasher {
            crc32: wanted(Algorithm::Crc32).then(Default::default),
            crc32c: wanted(Algorithm::Crc32c).then(Default::default),
            crc64nvme: wanted(Algorithm::Crc64Nvme).then(Default::default),
            sha1: wanted(Algorithm::Sha1).then(Default::default),
            sha256: wanted(Algorithm::Sha256).then(Default::default),
        },
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
        let actual = checksums_of(self.sink.hasher.finalize());
        for algorithm in Algorithm::ALL {
            let Some(actual) = actual.get(algorithm) else {
                continue;
            };
            let expected = match self.announced.checksums.get(algorithm) {
                Some(header) => header.to_owned(),
                None => self.announced.trailer(algorithm)?,
            };
            if actual != expected {
                let name = algorithm.name();
                return Err(s3_error!(
                    BadDigest,
                    "The body does not have the {name} checksum given."
                ));
            }
        }
        let temp = self
            .sink
            .temp
            .take()
            .ok_or_else(|| s3_error!(InternalError))?;
        Ok((temp, self.sink.size, actual))
    }
}

impl Announced {
    fn trailer(&self, algorithm: Algorithm) -> S3Result<String> {
        let name = format!("x-amz-checksum-{}", algorithm.name().to_ascii_lowercase());
        let value = self.trailers.as_ref().and_then(|trailers| {
            trailers.read(|trailers| trailers.get(&name)?.to_str().ok().map(str::to_owned))
        });
        value.flatten().ok_or_else(|| {
            s3_error!(
                InvalidRequest,
                "The trailer {name} was announced but did not come."
            )
        })
    }
}

fn checksums_of(sums: Checksum) -> Checksums {
    Checksums {
        crc32: sums.checksum_crc32,
        crc32c: sums.checksum_crc32c,
        crc64nvme: sums.checksum_crc64nvme,
        sha1: sums.checksum_sha1,
        sha256: sums.checksum_sha256,
        composite: false,
    }
}

fn storage_error(error: io::Error) -> S3Error {
    tracing::error!(%error, "storing a body failed");
    S3Error::with_source(S3ErrorCode::InternalError, Box::new(error))
}

/// What a body that ended in an error is answered. The decoders' error types are not public; their
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
