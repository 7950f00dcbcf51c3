//! A body being streamed from the store.
//!
//! Promises: pieces are handed on as they came off the wire, uncopied; an end before the announced
//! length is an error; dropping the body drops the connection with it, unless the body was at its
//! end, where the connection goes back to the pool. Never: reads ahead of its caller, drains.

use std::{ops::Range, time::Duration};

use aws_sdk_s3::primitives::SdkBody;
use bytes::Bytes;
use futures::FutureExt;
use http_body_util::BodyExt;

use super::{ObjectHead, Store, StoreError, attempt::InFlight};

/// A body being streamed. Dropping it closes the connection unless the body was at its end.
///
/// It holds one of the store's connections until then: who keeps it without reading it keeps others waiting.
#[derive(Debug)]
pub struct Body {
    /// What HEAD would tell. `size` is the length of the whole object.
    pub head: ObjectHead,
    /// The absolute range that this body carries.
    pub range: Range<u64>,
    state: State,
    key: String,
    store: Store,
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
    _flight: InFlight,
}

impl Body {
    /// `body` carries `range` of `key`; `flight` is given up with it.
    pub(super) fn new(
        store: &Store,
        key: &str,
        head: ObjectHead,
        range: Range<u64>,
        body: SdkBody,
        flight: InFlight,
    ) -> Body {
        let remaining = range.end.saturating_sub(range.start);
        let state = match remaining {
            0 => State::AtEnd,
            _ => State::Streaming(Stream {
                body,
                remaining,
                _flight: flight,
            }),
        };
        Body {
            head,
            range,
            state,
            key: key.to_owned(),
            store: store.clone(),
        }
    }

    /// The next piece as it came off the wire; `None` at the end. Fails with `Unavailable` if the connection
    /// breaks or nothing comes for the stall timeout: the caller asks again for the rest.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// `Unavailable`; the same again at each later call.
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
            let frame = match tokio::time::timeout(stall, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(super::classify::innermost(error.as_ref())),
                Ok(None) => return Err(format!("{} bytes before the end", self.remaining)),
                Err(_) => return Err(format!("nothing came for {} s", stall.as_secs_f32())),
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if data.is_empty() {
                continue;
            }
            self.remaining = match self.remaining.checked_sub(data.len() as u64) {
                Some(remaining) => remaining,
                None => return Err("more bytes came than were announced".to_owned()),
            };
            return Ok(data);
        }
    }
}
