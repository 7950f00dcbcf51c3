//! Between hyper and the S3 protocol: one request's context, and its two bodies.
//!
//! Counts bytes, cuts connections where the faults say so, and reads the rest of a refused upload
//! so that its sender gets the answer and not a broken pipe.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, header};
use parking_lot::Mutex;
use s3s::service::S3Service;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::chunked::ChunkCutter;
use super::stats::{Cut, Record};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes of a refused upload that are read before its connection is given up.
const DRAIN_LIMIT_BYTES: u64 = 64 * 1024 * 1024;

/// How long a refused upload may pause.
const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a refused upload is read at most, however it comes.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an upload may pause. Longer than a client that is stopped for a minute.
const UPLOAD_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// The context of one request; travels in its extensions.
pub(super) struct RequestContext {
    pub(super) shared: Arc<Shared>,
    pub(super) record: Record,
    cut: CancellationToken,
    /// The request's body, put back when its reader let go of it before the end.
    unread: Mutex<Option<Incoming>>,
}

impl RequestContext {
    /// Counts payload that arrived.
    pub(super) fn received(&self, bytes: u64) {
        self.record.add_in(bytes);
        self.shared
            .stats
            .body_bytes_in
            .fetch_add(bytes, Ordering::Relaxed);
    }

    /// Cuts the connection under this request. Never returns: the connection's task ends it.
    pub(super) async fn cut_connection(&self) {
        self.cut.cancel();
        std::future::pending().await
    }
}

impl Drop for RequestContext {
    fn drop(&mut self) {
        self.shared
            .stats
            .requests_in_flight
            .fetch_sub(1, Ordering::Relaxed);
        if !self.record.is_finished() {
            self.shared
                .stats
                .requests_aborted
                .fetch_add(1, Ordering::Relaxed);
        }
        self.shared.log.write(&self.record);
    }
}

/// Handles one request.
pub(super) async fn handle(
    service: &S3Service,
    shared: &Arc<Shared>,
    cut: &CancellationToken,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, BoxError> {
    let range = request
        .headers()
        .get(header::RANGE)
        .and_then(|range| range.to_str().ok());
    shared
        .stats
        .requests_in_flight
        .fetch_add(1, Ordering::Relaxed);
    let context = Arc::new(RequestContext {
        shared: Arc::clone(shared),
        record: Record::new(request.uri().path(), range),
        cut: cut.clone(),
        unread: Mutex::new(None),
    });
    request.extensions_mut().insert(Arc::clone(&context));
    let is_head = request.method() == Method::HEAD;
    let waits_for_continue = request.headers().contains_key(header::EXPECT);
    let chunked = request
        .headers()
        .get("x-amz-content-sha256")
        .is_some_and(|value| value.as_bytes().starts_with(b"STREAMING-"));
    let request = request.map(|body| {
        if body.is_end_stream() {
            return s3s::Body::empty();
        }
        s3s::Body::http_body(UploadBody {
            inner: Some(body),
            cutter: chunked.then(ChunkCutter::new),
            context: Arc::clone(&context),
            passed: 0,
            pause: None,
        })
    });

    let answer = service.call(request).await.map_err(BoxError::from)?;

    let record = &context.record;
    if record.operation() == "Rejected" {
        shared.stats.started("Rejected");
    }
    record.set_status(answer.status().as_u16());
    shared
        .stats
        .answered(record.operation(), answer.status().as_u16());
    if !answer.status().is_success() && !waits_for_continue {
        let _whole_or_late = tokio::time::timeout(DRAIN_TIMEOUT, drain(&context)).await;
    }
    if record.cut() == Some(Cut::BeforeAnswer) {
        context.cut_connection().await;
    }
    Ok(answer.map(|body| AnswerBody::new(body, context, is_head)))
}

/// Reads the rest of a refused upload, up to a limit and for as long as it keeps coming.
async fn drain(context: &RequestContext) {
    let unread = context.unread.lock().take();
    let Some(mut body) = unread else { return };
    let mut drained = 0;
    while drained < DRAIN_LIMIT_BYTES {
        match tokio::time::timeout(DRAIN_IDLE_TIMEOUT, body.frame()).await {
            Ok(Some(Ok(frame))) => drained += frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => return,
        }
    }
}

/// The body of a request.
struct UploadBody {
    /// There until it is put back on drop.
    inner: Option<Incoming>,
    cutter: Option<ChunkCutter>,
    context: Arc<RequestContext>,
    passed: u64,
    /// Runs while nothing comes.
    pause: Option<Pin<Box<Sleep>>>,
}

impl UploadBody {
    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(Cut::Request(at)) = self.context.record.cut()
            && self.passed >= at
        {
            self.context.cut.cancel();
            return Poll::Pending;
        }
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            let pause = self
                .pause
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(UPLOAD_IDLE_TIMEOUT)));
            ready!(pause.as_mut().poll(cx));
            let seconds = UPLOAD_IDLE_TIMEOUT.as_secs();
            return Poll::Ready(Some(Err(format!("nothing came for {seconds} s").into())));
        };
        self.pause = None;
        if let Some(Ok(frame)) = &frame {
            self.passed += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }
}

impl http_body::Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        loop {
            if let Some(piece) = this.cutter.as_mut().and_then(ChunkCutter::pop) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let frame = ready!(this.poll_inner(cx));
            let Some(cutter) = &mut this.cutter else {
                return Poll::Ready(frame);
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => cutter.push(data)?,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(cutter.finish().map(|piece| Ok(Frame::data(piece)))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.cutter.is_none() && self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) if self.cutter.is_none() => inner.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl Drop for UploadBody {
    fn drop(&mut self) {
        if let Some(body) = self.inner.take_if(|body| !body.is_end_stream()) {
            *self.context.unread.lock() = Some(body);
        }
    }
}

/// The body of an answer.
pub(super) struct AnswerBody {
    inner: s3s::Body,
    context: Arc<RequestContext>,
    cut_at: Option<u64>,
    /// It is not cut there, it stands still.
    stops: bool,
    length: Option<u64>,
    passed: u64,
}

impl AnswerBody {
    fn new(inner: s3s::Body, context: Arc<RequestContext>, is_head: bool) -> Self {
        let length = inner.size_hint().exact();
        let cut_at = match context.record.cut() {
            Some(Cut::Answer(choice)) => Some(choice % length.unwrap_or(1).max(1)),
            Some(Cut::Stop(at)) => Some(at),
            _ => None,
        };
        let stops = matches!(context.record.cut(), Some(Cut::Stop(_)));
        if is_head || length == Some(0) || inner.is_end_stream() {
            context.record.set_finished();
        }
        Self {
            inner,
            context,
            cut_at,
            stops,
            length,
            passed: 0,
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.cut_at.is_some_and(|at| this.passed >= at) {
            if !this.stops {
                this.context.cut.cancel();
            }
            return Poll::Pending;
        }
        let frame = ready!(Pin::new(&mut this.inner).poll_frame(cx));
        let frame = match frame {
            None => {
                this.context.record.set_finished();
                return Poll::Ready(None);
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => frame,
        };
        let Ok(mut data) = frame.into_data() else {
            return this.poll_frame_again(cx);
        };
        if let Some(at) = this.cut_at {
            let left = usize::try_from(at - this.passed).unwrap_or(usize::MAX);
            data.truncate(left);
        }
        let bytes = data.len() as u64;
        this.passed += bytes;
        this.context.record.add_out(bytes);
        this.context
            .shared
            .stats
            .body_bytes_out
            .fetch_add(bytes, Ordering::Relaxed);
        if this.length == Some(this.passed) {
            this.context.record.set_finished();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl AnswerBody {
    /// Trailers of an answer (there are none) would be passed over.
    fn poll_frame_again(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        cx.waker().wake_by_ref();
        self.context.record.set_finished();
        Poll::Ready(None)
    }
}
