//! Recording what is sent to the store and what comes back.
//!
//! This layer lies next to the connection pool, so it sees all requests of the process: those for
//! contents, those of the metadata store, and those for credentials, of which it keeps no more than
//! how they ended. It takes numbers and known words out of what passes (`crate::record`), and
//! keeps nothing else.
//!
//! Promises: bodies pass as they came, piece by piece, with the same length announced. An exchange
//! is recorded once, when the request, its body and the answer's body are all gone, whatever ended
//! them.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::Headers,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;

use super::{
    causes::{chain, find},
    layer::{Layer, layered},
};
use crate::{
    clock::Timestamp,
    record::{
        Answer, BodyHash, Condition, Exchange, Fault, Form, KeyName, Moved, Operation, Recorder,
        Span, code_in, target,
    },
};

/// The code of an error stands in the first bytes of its body.
const CODE_WITHIN_BYTES: usize = 512;

/// Timers of this side may be early by this much.
const STALL_SLACK: Duration = Duration::from_millis(50);

/// Each request to S3 is signed with this field; requests for credentials have none.
const SIGNED: &str = "x-amz-content-sha256";

tokio::task_local! {
    /// Which try of one call this is; see `patience.rs`.
    pub(super) static ATTEMPT: u32;
}

/// The settings that tell what a request is about, and what ended it.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    pub(super) recorder: Recorder,
    /// The path of a URL begins with the bucket.
    pub(super) path_style: bool,
    /// An exchange in which nothing moved for so long was given up because of that.
    pub(super) stall: Duration,
}

impl Recording {
    /// Records what goes through `client`.
    pub(super) fn of(self, client: SharedHttpClient) -> SharedHttpClient {
        layered(client, self)
    }
}

impl Layer for Recording {
    fn around(&self, below: SharedHttpConnector) -> SharedHttpConnector {
        SharedHttpConnector::new(RecordedConnector {
            inner: below,
            recording: self.clone(),
        })
    }
}

#[derive(Debug)]
struct RecordedConnector {
    inner: SharedHttpConnector,
    recording: Recording,
}

impl HttpConnector for RecordedConnector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let call = Arc::new(Call::begin(&self.recording, &request));
        let body = request.take_body();
        *request.body_mut() = call.sending(body);
        let is_head = request.method() == "HEAD";
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            match answer.await {
                Ok(answer) => {
                    call.answered(&answer, is_head);
                    Ok(answer.map(|body| call.receiving(body)))
                }
                Err(error) => {
                    call.failed(fault_of(&error));
                    Err(error)
                }
            }
        })
    }
}

/// One exchange under way. It is recorded when the last part of it is dropped.
struct Call {
    recorder: Recorder,
    stall: Duration,
    began: Instant,
    is_for_s3: bool,
    state: Mutex<State>,
}

struct State {
    exchange: Exchange,
    /// The last byte of the request was handed over.
    handed_over: Option<Instant>,
    answered: Option<Instant>,
    /// The answer is whole, or has failed.
    ended: Option<Instant>,
    /// Since when this side waits for the other. A reader that takes its time does not wait.
    waiting: Option<Instant>,
    sent: Option<BodyHash>,
    received: Option<BodyHash>,
    /// The first bytes of an error's body.
    beginning: Vec<u8>,
}

impl Call {
    fn begin(recording: &Recording, request: &HttpRequest) -> Call {
        let now = Instant::now();
        let is_for_s3 = request.headers().contains_key(SIGNED);
        let recorder = recording.recorder.clone();
        Call {
            began: now,
            is_for_s3,
            stall: recording.stall,
            state: Mutex::new(State {
                exchange: match is_for_s3 {
                    true => to_s3(recording, request),
                    false => unknown(&recorder, Operation::Credentials),
                },
                handed_over: None,
                answered: None,
                ended: None,
                waiting: Some(now),
                sent: None,
                received: None,
                beginning: Vec::new(),
            }),
            recorder,
        }
    }

    /// The request's body, watched. A body that lies in memory is looked at here and now.
    fn sending(self: &Arc<Self>, body: SdkBody) -> SdkBody {
        if !self.is_for_s3 {
            return body;
        }
        if let Some(bytes) = body.bytes() {
            if !bytes.is_empty() {
                self.moved(Way::Out, bytes);
            }
            return body;
        }
        SdkBody::from_body_1_x(WatchedBody {
            inner: body,
            call: Arc::clone(self),
            way: Way::Out,
        })
    }

    fn answered(&self, answer: &HttpResponse, is_head: bool) {
        let now = Instant::now();
        let fields = answer.headers();
        let number = |name: &str| fields.get(name).and_then(|value| value.parse().ok());
        let mut state = self.state.lock();
        (state.answered, state.waiting) = (Some(now), None);
        state.exchange.answer = Some(Answer {
            status: answer.status().as_u16(),
            code: None,
            length: number("content-length"),
            range: fields.get("content-range").and_then(Span::parse),
            retry_after_seconds: number("retry-after"),
            form: Form::of(fields.get("content-type")),
        });
        if is_head || http_body::Body::is_end_stream(answer.body()) {
            state.ended = Some(now);
        }
    }

    /// The answer's body, watched.
    fn receiving(self: &Arc<Self>, body: SdkBody) -> SdkBody {
        if self.state.lock().ended.is_some() {
            return body;
        }
        SdkBody::from_body_1_x(WatchedBody {
            inner: body,
            call: Arc::clone(self),
            way: Way::In,
        })
    }

    fn failed(&self, fault: Fault) {
        let mut state = self.state.lock();
        state.exchange.fault = Some(fault);
        state.ended = Some(Instant::now());
    }

    /// Bytes of a body moved.
    fn moved(&self, way: Way, bytes: &[u8]) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.waiting = (way == Way::Out).then(Instant::now);
        let (hash, count) = match way {
            Way::Out => (&mut state.sent, &mut state.exchange.sent.bytes),
            Way::In => (&mut state.received, &mut state.exchange.received.bytes),
        };
        *count += bytes.len() as u64;
        // Credentials come in such bodies.
        if !self.is_for_s3 {
            return;
        }
        hash.get_or_insert_with(|| self.recorder.pseudonyms().body())
            .update(bytes);
        let is_error = state
            .exchange
            .answer
            .is_some_and(|answer| answer.status >= 400);
        if way == Way::In && is_error {
            let room = CODE_WITHIN_BYTES.saturating_sub(state.beginning.len());
            state.beginning.extend(bytes.iter().take(room));
        }
    }

    /// A reader waits for more of the answer's body.
    fn waits(&self) {
        self.state.lock().waiting.get_or_insert_with(Instant::now);
    }

    /// A body came to its end.
    fn ended(&self, way: Way) {
        let mut state = self.state.lock();
        let at = match way {
            Way::Out => &mut state.handed_over,
            Way::In => &mut state.ended,
        };
        at.get_or_insert_with(Instant::now);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let now = Instant::now();
        let mut exchange = state.exchange;
        if state.ended.is_none() && exchange.fault.is_none() {
            let waited = state
                .waiting
                .map(|since| now.saturating_duration_since(since));
            let has_stalled = waited.is_some_and(|waited| waited + STALL_SLACK >= self.stall);
            exchange.fault = Some(match has_stalled {
                true => Fault::Stalled,
                false => Fault::Dropped,
            });
        }
        let ended = state.ended.unwrap_or(now);
        let handed_over = state.handed_over.unwrap_or(self.began);
        let answered = state.answered.unwrap_or(ended);
        exchange.sending = handed_over.saturating_duration_since(self.began);
        // An answer may come before all of the request was sent.
        exchange.waiting = answered.saturating_duration_since(handed_over);
        exchange.receiving = ended.saturating_duration_since(answered);
        exchange.sent.hash = state.sent.take().map(|hash| hash.value());
        exchange.received.hash = state.received.take().map(|hash| hash.value());
        if let Some(answer) = &mut exchange.answer {
            answer.code = code_in(&state.beginning);
        }
        self.recorder.push(exchange);
    }
}

/// The exchange with nothing but its beginning.
fn unknown(recorder: &Recorder, operation: Operation) -> Exchange {
    Exchange {
        number: recorder.number(),
        started: Timestamp::now(),
        operation,
        key: KeyName::NONE,
        part: None,
        attempt: 1,
        range: None,
        condition: None,
        length: None,
        sent: Moved::default(),
        sending: Duration::ZERO,
        waiting: Duration::ZERO,
        receiving: Duration::ZERO,
        answer: None,
        received: Moved::default(),
        fault: None,
    }
}

fn to_s3(recording: &Recording, request: &HttpRequest) -> Exchange {
    let target = target(request.method(), request.uri(), recording.path_style);
    let fields = request.headers();
    let recorder = &recording.recorder;
    Exchange {
        key: match target.operation {
            Operation::HeadBucket | Operation::CreateBucket | Operation::DeleteObjects => {
                KeyName::NONE
            }
            _ => recorder.pseudonyms().name(&target.key),
        },
        part: target.part,
        attempt: ATTEMPT.try_with(|attempt| *attempt).unwrap_or(1),
        range: fields.get("range").and_then(Span::parse),
        condition: condition(fields),
        length: fields
            .get("content-length")
            .and_then(|len| len.parse().ok()),
        ..unknown(recorder, target.operation)
    }
}

fn condition(fields: &Headers) -> Option<Condition> {
    if fields.contains_key("if-none-match") {
        Some(Condition::Absent)
    } else if fields.contains_key("if-match") {
        Some(Condition::Matches)
    } else {
        None
    }
}

/// The kind of a failure. Its words are not looked at.
fn fault_of(error: &ConnectorError) -> Fault {
    if find::<rustls::Error>(error).is_some() {
        return Fault::Tls;
    }
    if let Some(fault) = fault_of_io(error) {
        return fault;
    }
    if error.is_timeout() {
        Fault::Timeout
    } else if error.is_user() {
        Fault::Other
    } else if find::<io::Error>(error).is_some() {
        // The name of a host that is not found has no kind of its own.
        Fault::Unreachable
    } else {
        // The other side closed the connection before it had answered.
        Fault::Broken
    }
}

fn fault_of_io(error: &(dyn Error + 'static)) -> Option<Fault> {
    let kinds = chain(error).filter_map(|error| error.downcast_ref::<io::Error>());
    kinds.map(io::Error::kind).find_map(|kind| match kind {
        io::ErrorKind::ConnectionRefused => Some(Fault::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(Fault::Broken),
        io::ErrorKind::TimedOut => Some(Fault::Timeout),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(Fault::Unreachable)
        }
        _ => None,
    })
}

/// The direction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

/// A body that tells what moves.
struct WatchedBody {
    inner: SdkBody,
    call: Arc<Call>,
    way: Way,
}

impl http_body::Body for WatchedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            if self.way == Way::In {
                self.call.waits();
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.call.moved(self.way, data);
                }
                if http_body::Body::is_end_stream(&self.inner) {
                    self.call.ended(self.way);
                }
            }
            Some(Err(error)) => {
                let fault = fault_of_io(error.as_ref()).unwrap_or(Fault::Broken);
                self.call.failed(fault);
            }
            None => self.call.ended(self.way),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.inner)
    }
}
