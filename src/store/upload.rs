//! The body of an upload: pieces sent one after the other, never joined, and their checksum.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::attempt::Progress;
use crate::telemetry::Metrics;

/// Bytes handed to the HTTP stack at once: small enough that a slow link shows progress, large
/// enough that a write call is cheap.
const FRAME_LEN_MAX: usize = 256 * 1024;

/// The contents of an upload; cheap to clone, so that each attempt sends the identical bytes.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pieces: Arc<[Bytes]>,
    len: u64,
    /// The most that an attempt has sent.
    sent: Arc<AtomicU64>,
    /// CRC-32 of all pieces, as S3's headers carry it.
    pub(super) checksum: String,
}

/// CRC-32 of a part, in base64, as the store shows it.
pub fn checksum(bytes: &Bytes) -> String {
    Pieces::new(vec![bytes.clone()]).checksum
}

impl Pieces {
    /// Goes over the bytes once, for the checksum.
    pub(super) fn new(pieces: Vec<Bytes>) -> Pieces {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc);
        let mut len = 0;
        for piece in &pieces {
            digest.update(piece);
            len += piece.len() as u64;
        }
        // The digest of a 32-bit algorithm is in the low half.
        let [_, _, _, _, crc @ ..] = digest.finalize().to_be_bytes();
        Pieces {
            pieces: pieces.into(),
            len,
            sent: Arc::default(),
            checksum: BASE64_STANDARD.encode(crc),
        }
    }

    /// Bytes in all pieces.
    pub(super) fn content_length(&self) -> i64 {
        i64::try_from(self.len).unwrap_or(i64::MAX)
    }

    /// A body for one attempt. The SDK takes it for a stream, so its signature covers the headers,
    /// the checksum among them, and not a SHA-256 of the contents.
    pub(super) fn body(&self, progress: &Arc<Progress>, metrics: &Arc<Metrics>) -> ByteStream {
        ByteStream::new(SdkBody::from_body_1_x(PiecesBody {
            pieces: Arc::clone(&self.pieces),
            next: 0,
            current: Bytes::new(),
            len: self.len,
            remaining: self.len,
            sent: Arc::clone(&self.sent),
            progress: Arc::clone(progress),
            metrics: Arc::clone(metrics),
        }))
    }
}

struct PiecesBody {
    pieces: Arc<[Bytes]>,
    next: usize,
    current: Bytes,
    len: u64,
    remaining: u64,
    sent: Arc<AtomicU64>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
}

impl http_body::Body for PiecesBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.current.is_empty() {
            let Some(piece) = self.pieces.get(self.next) else {
                return Poll::Ready(None);
            };
            self.current = piece.clone();
            self.next += 1;
        }
        let len = self.current.len().min(FRAME_LEN_MAX);
        let frame = self.current.split_to(len);
        self.remaining -= len as u64;
        self.progress.touch();
        if self.remaining == 0 {
            self.progress.handed_over();
        }
        self.metrics.sent_bytes.add(len as u64);
        // A repeated attempt is no news until it is further than the one before.
        let sent = self.len - self.remaining;
        let before = self.sent.fetch_max(sent, Ordering::Relaxed);
        self.metrics.passed_bytes.add(sent.saturating_sub(before));
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn pieces_are_sent_in_order_unjoined_and_again_identically() {
        let large = Bytes::from(vec![7; FRAME_LEN_MAX + 10]);
        let pieces = Pieces::new(vec![
            Bytes::from_static(b"head"),
            Bytes::new(),
            large.clone(),
            Bytes::from_static(b"tail"),
        ]);
        let metrics = Arc::new(Metrics::default());
        for _ in 0..2 {
            let mut body = pieces.body(&Progress::new(), &metrics).into_inner();
            assert_eq!(body.content_length(), Some(large.len() as u64 + 8));
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                frames.push(frame.unwrap().into_data().unwrap());
            }
            assert_eq!(
                frames.iter().map(Bytes::len).collect::<Vec<_>>(),
                [4, FRAME_LEN_MAX, 10, 4]
            );
            assert_eq!(frames[1].as_ptr(), large.as_ptr(), "not copied");
        }
        assert_eq!(metrics.sent_bytes.get(), 2 * (large.len() as u64 + 8));
        let once = large.len() as u64 + 8;
        assert_eq!(metrics.passed_bytes.get(), once, "not twice");
    }

    #[test]
    fn the_checksum_is_that_of_the_joined_pieces() {
        // The check value of CRC-32/ISO-HDLC: cbf43926.
        let pieces = Pieces::new(vec![
            Bytes::from_static(b"1234"),
            Bytes::from_static(b"56789"),
        ]);
        assert_eq!(pieces.checksum, "y/Q5Jg==");
        assert_eq!(Pieces::new(Vec::new()).checksum, "AAAAAA==");
    }
}
