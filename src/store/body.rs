//! A body being streamed from the store.
//!
//! Promises: pieces are handed on as they came off the wire, uncopied; an end before the announced
//! length is an error, and so is a body that comes in drips; dropping the body drops the connection
//! with it, unless the body was at its end, where the connection goes back to the pool. Never:
//! reads ahead of its caller, drains.

use std::{ops::Range, sync::Arc, time::Duration};

use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::{
    ObjectHead, Store, StoreError,
    attempt::InFlight,
    rate::{Limit, SMALL_BYTES},
};

/// The average that a body must bring over a stall timeout of waiting for it, in bytes a second. A
/// slower body is as good as one that stands still: 64 KiB take 4 minutes then. A line of 64 kbit/s
/// brings as much on 32 connections at the same time.
const BYTES_PER_SECOND_MIN: u64 = 256;

/// A body being streamed. Dropping it closes the connection unless the body was at its end.
///
/// A body holds one of the store's connections until then: a caller that keeps it without reading
/// it keeps others waiting.
#[derive(Debug)]
pub struct Body {
    /// The answer that HEAD would give. `size` is the length of the whole object.
    pub head: ObjectHead,
    /// The absolute range that this body carries.
    pub range: Range<u64>,
    /// How long the store took to begin its answer, not counting the wait for a connection's turn.
    pub answered_after: Duration,
    state: State,
    key: String,
    store: Store,
}

/// An answer that begins.
pub(super) struct Answer {
    pub(super) body: SdkBody,
    /// The limit that the body's pieces keep to as they come.
    pub(super) limit: Option<Arc<Limit>>,
    /// See [`Body::answered_after`].
    pub(super) answered_after: Duration,
    /// Released together with the body.
    pub(super) flight: InFlight,
}

#[derive(Debug)]
enum State {
    Streaming(Stream),
    AtEnd,
    Failed(StoreError),
}

#[derive(Debug)]
struct Stream {
    body: SdkBody,
    remaining: u64,
    pace: Pace,
    limit: Option<Arc<Limit>>,
    /// Nothing more is read before this.
    turn: Option<Instant>,
    _flight: InFlight,
}

/// How much came while the reader waited for it. The time between two waits is the reader's own.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    brought_bytes: u64,
}

impl Pace {
    /// Counts `bytes` that came after a wait. False once a whole stall timeout of waiting brought
    /// too little.
    fn keeps_up(&mut self, waited: Duration, bytes: u64, stall: Duration) -> bool {
        self.waited += waited;
        self.brought_bytes += bytes;
        if self.waited < stall {
            return true;
        }
        let wanted = self.waited.as_secs_f64() * BYTES_PER_SECOND_MIN as f64;
        let enough = self.brought_bytes as f64 >= wanted;
        *self = Pace::default();
        enough
    }
}

impl Body {
    /// `answer` carries `range` of `key`.
    pub(super) fn new(
        store: &Store,
        key: &str,
        head: ObjectHead,
        range: Range<u64>,
        answer: Answer,
    ) -> Body {
        let Answer {
            body,
            limit,
            answered_after,
            flight,
        } = answer;
        let remaining = range.end.saturating_sub(range.start);
        let state = match remaining {
            0 => State::AtEnd,
            _ => State::Streaming(Stream {
                body,
                remaining,
                pace: Pace::default(),
                // Those before it are let through first.
                turn: limit
                    .as_ref()
                    .filter(|_| remaining > SMALL_BYTES)
                    .map(|limit| limit.turn(0)),
                limit,
                _flight: flight,
            }),
        };
        Body {
            head,
            range,
            answered_after,
            state,
            key: key.to_owned(),
            store: store.clone(),
        }
    }

    /// The next piece as it came off the wire; `None` at the end. It fails with `Unavailable` if
    /// the connection breaks or nothing comes for the stall timeout: the caller then asks again for
    /// the rest.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Unavailable`; each later call returns the same error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let stream = match &mut self.state {
            State::Streaming(stream) => stream,
            State::AtEnd => return Ok(None),
            State::Failed(error) => return Err(error.clone()),
        };
        match stream.next(self.store.inner.stall_timeout).await {
            Ok(chunk) => {
                self.store
                    .inner
                    .metrics
                    .received_bytes
                    .add(chunk.len() as u64);
                if stream.remaining == 0 {
                    // The end is known to the HTTP stack already; only once it was read there does
                    // the connection go back to the pool.
                    let _ = stream.body.frame().now_or_never();
                    self.state = State::AtEnd;
                }
                Ok(Some(chunk))
            }
            Err(why) => {
                let error = self
                    .store
                    .context("GetObject", &self.key)
                    .broken(&why)
                    .error;
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }
}

impl Stream {
    async fn next(&mut self, stall: Duration) -> Result<Bytes, String> {
        loop {
            if let Some(turn) = self.turn {
                tokio::time::sleep_until(turn).await;
                self.turn = None;
            }
            let asked = Instant::now();
            let frame = match tokio::time::timeout(stall, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(super::causes::innermost(error.as_ref())),
                Ok(None) => return Err(format!("{} bytes before the end", self.remaining)),
                Err(_) => return Err(format!("nothing came for {} s", stall.as_secs_f32())),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let keeps_up = self
                .pace
                .keeps_up(asked.elapsed(), data.len() as u64, stall);
            if !keeps_up && self.remaining > data.len() as u64 {
                return Err(format!(
                    "less than {BYTES_PER_SECOND_MIN} bytes a second came for {} s",
                    stall.as_secs_f32()
                ));
            }
            if data.is_empty() {
                continue;
            }
            let turn = |limit: &Arc<Limit>| limit.turn(data.len() as u64);
            self.turn = self.limit.as_ref().map(turn);
            self.remaining = match self.remaining.checked_sub(data.len() as u64) {
                Some(remaining) => remaining,
                None => return Err("more bytes came than were announced".to_owned()),
            };
            return Ok(data);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drip_does_not_keep_up_and_a_slow_line_does() {
        let (stall, second) = (Duration::from_secs(20), Duration::from_secs(1));
        let mut drip = Pace::default();
        let kept_up = (0..20).filter(|_| drip.keeps_up(second, 10, stall)).count();
        assert_eq!(kept_up, 19, "the first stall timeout is waited for");
        let mut slow = Pace::default();
        assert!((0..1000).all(|_| slow.keeps_up(second, BYTES_PER_SECOND_MIN, stall)));
        let mut waits_for_its_reader = Pace::default();
        assert!((0..1000).all(|_| waits_for_its_reader.keeps_up(Duration::ZERO, 1, stall)));
    }
}
