//! Replaying a recording: a request meets what the recorded one of its operation, kind and turn
//! met.
//!
//! The delay comes first, then the fate. Where that is an answer, the request is handled as ever,
//! with what is stored here. The pace of bodies is not replayed.

use std::future::pending;

use hyper::{
    StatusCode,
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
};
use parking_lot::Mutex;
use s3s::{S3Error, S3ErrorCode, S3Result, access::S3AccessContext, path::S3Path};

use super::{http::RequestContext, stats::Cut};
use crate::record::{End, Kind, Operation, Script, kind_of, target};

/// The code of an error whose own is not in the recording.
const UNKNOWN_CODE: &str = "Replayed";

/// The recording that is being replayed.
pub(super) struct Replay(Mutex<Script>);

impl Replay {
    pub(super) fn new(script: Script) -> Replay {
        Replay(Mutex::new(script))
    }

    /// Lets the request meet its fate. Returns if it is to be handled, perhaps with a cut.
    pub(super) async fn befall(
        &self,
        operation: &str,
        kind: Kind,
        request: &RequestContext,
    ) -> S3Result<()> {
        let operation = Operation::named(operation);
        let fate = operation.and_then(|operation| self.0.lock().next(operation, kind));
        let Some(fate) = fate else { return Ok(()) };
        tokio::time::sleep(fate.delay).await;
        match fate.end {
            End::Answered => Ok(()),
            End::Refused {
                status,
                code,
                retry_after_seconds,
            } => Err(refusal(status, code, retry_after_seconds)),
            End::BrokenRequest(bytes) => {
                request.record.set_cut(Cut::Request(bytes));
                Ok(())
            }
            End::Broken => {
                request.cut_connection().await;
                Ok(())
            }
            End::BrokenAnswer(bytes) => {
                request.record.set_cut(Cut::Answer(bytes));
                Ok(())
            }
            End::SilentAnswer(bytes) => {
                request.record.set_cut(Cut::Stop(bytes));
                Ok(())
            }
            End::Silent => pending().await,
        }
    }
}

/// The kind of the object that a request is about, or of those in the folder that it lists.
pub(super) fn kind_in(cx: &S3AccessContext<'_>) -> Kind {
    match cx.s3_path() {
        S3Path::Object { key, .. } => kind_of(key),
        _ => kind_of(&target(cx.method().as_str(), &cx.uri().to_string(), true).key),
    }
}

fn refusal(status: u16, code: Option<&str>, retry_after_seconds: Option<u64>) -> S3Error {
    let code = code.unwrap_or(UNKNOWN_CODE);
    let known = S3ErrorCode::from_bytes(code.as_bytes());
    let known = known.unwrap_or(S3ErrorCode::InternalError);
    let mut error = S3Error::with_message(known, "Replayed from a recording.");
    if let Ok(status) = StatusCode::from_u16(status) {
        error.set_status_code(status);
    }
    if let Some(seconds) = retry_after_seconds {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        error.set_headers(headers);
    }
    error
}
