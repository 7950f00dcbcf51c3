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
use futures::ready;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};

use super::{
    Store,
    attempt::Progress,
    rate::{Limit, SMALL_BYTES},
};
use crate::telemetry::Metrics;

/// Bytes handed to the HTTP stack at once: small enough that a slow link shows progress, large
/// enough that a write call is cheap.
pub(super) const FRAME_LEN_MAX: usize = 256 * 1024;

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
    pub(super) fn body(
        &self,
        progress: &Arc<Progress>,
        metrics: &Arc<Metrics>,
        limit: Option<&Arc<Limit>>,
    ) -> ByteStream {
        ByteStream::new(SdkBody::from_body_1_x(PiecesBody {
            pieces: Arc::clone(&self.pieces),
            next: 0,
            current: Bytes::new(),
            len: self.len,
            remaining: self.len,
            sent: Arc::clone(&self.sent),
            progress: Arc::clone(progress),
            metrics: Arc::clone(metrics),
            limit: limit.cloned(),
            turn: None,
        }))
    }
}

impl Store {
    /// A body for one attempt, within the limit of bandwidth.
    pub(super) fn body_of(&self, pieces: &Pieces, progress: &Arc<Progress>) -> ByteStream {
        let limit = self.inner.upload_limit.as_ref();
        pieces.body(progress, &self.inner.metrics, limit)
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
    limit: Option<Arc<Limit>>,
    /// The wait for the turn of the next piece.
    turn: Option<Pin<Box<Sleep>>>,
}

impl PiecesBody {
    /// The bytes of the next piece, once its turn has come.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        let len = self.current.len().min(FRAME_LEN_MAX);
        let Some(limit) = &self.limit else {
            return Poll::Ready(len);
        };
        if self.len <= SMALL_BYTES {
            limit.turn(len as u64);
            return Poll::Ready(len);
        }
        let len = len.min(limit.piece_bytes());
        let wait = || Box::pin(sleep_until(limit.turn(len as u64)));
        ready!(self.turn.get_or_insert_with(wait).as_mut().poll(context));
        self.turn = None;
        Poll::Ready(len)
    }
}

impl http_body::Body for PiecesBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.current.is_empty() {
            let Some(piece) = self.pieces.get(self.next) else {
                return Poll::Ready(None);
            };
            self.current = piece.clone();
            self.next += 1;
        }
        let len = ready!(self.poll_turn(context));
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
    use std::time::Duration;

    use http_body_util::BodyExt;

    use super::*;

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
            let mut body = pieces.body(&Progress::new(), &metrics, None).into_inner();
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

    #[tokio::test(start_paused = true)]
    async fn large_bodies_share_the_rate_and_small_ones_wait_for_nobody() {
        const RATE: u64 = 100_000;
        let metrics = Arc::new(Metrics::default());
        let limit = Limit::new(Some(RATE));
        let large = Pieces::new(vec![Bytes::from(vec![7; 1_000_000])]);
        let small = Pieces::new(vec![Bytes::from(vec![7; 1000])]);
        let progress = Progress::new();
        let send = |pieces: &Pieces| {
            let body = pieces.body(&progress, &metrics, limit.as_ref());
            async move {
                let mut body = body.into_inner();
                let mut bytes = 0;
                while let Some(frame) = body.frame().await {
                    bytes += frame.unwrap().into_data().unwrap().len();
                }
                bytes
            }
        };
        let began = tokio::time::Instant::now();
        let beside = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let asked = tokio::time::Instant::now();
            assert_eq!(send(&small).await, 1000);
            assert_eq!(asked.elapsed(), Duration::ZERO);
        };
        let sent = tokio::join!(send(&large), send(&large), beside);
        assert_eq!((sent.0, sent.1), (1_000_000, 1_000_000));
        let took = began.elapsed().as_secs_f64();
        assert!((19.5..20.5).contains(&took), "{took} s");
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
