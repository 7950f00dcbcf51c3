//! The second port: it answers statistics and takes faults, for tests and the curious. It has no
//! authentication.
//!
//! | request | answer |
//! |---|---|
//! | `GET /stats` | [`StatsSnapshot`](super::StatsSnapshot) as JSON |
//! | `POST /stats/reset` | counts start again from zero |
//! | `GET /faults` | the faults in force |
//! | `POST /faults` | changes the fields given (JSON as in [`Faults`]), the others stay |
//! | `DELETE /faults` | no faults |

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::Shared;
use super::faults::Faults;
use super::net::{self, HEAD_TIMEOUT};

/// Connections at once.
const MAX_CONNECTIONS: usize = 16;
/// The largest request.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// Serves the second port until shutdown.
pub(super) async fn accept_loop(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    while let Some((stream, slot)) = net::accept(&listener, &slots, &shared).await {
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            let handler = service_fn(|request| answer(&shared, request));
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(stream), handler);
            let connection = pin!(connection);
            tokio::select! {
                _closed = connection => {}
                () = shared.shutdown.cancelled() => {}
            }
            drop(slot);
        });
    }
}

async fn answer(
    shared: &Shared,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/stats") => json(&shared.stats.snapshot()),
        (&Method::POST, "/stats/reset") => {
            shared.stats.reset();
            json(&shared.stats.snapshot())
        }
        (&Method::GET, "/faults") => json(&shared.faults.get()),
        (&Method::DELETE, "/faults") => {
            shared.faults.set(Faults::default());
            json(&shared.faults.get())
        }
        (&Method::POST, "/faults") => match change_faults(shared, request).await {
            Ok(faults) => json(&faults),
            Err(message) => (StatusCode::BAD_REQUEST, format!("{message}\n")),
        },
        _ => (
            StatusCode::NOT_FOUND,
            "try GET /stats or GET /faults\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let content_type = if status == StatusCode::OK {
        "application/json"
    } else {
        "text/plain"
    };
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    Ok(response)
}

async fn change_faults(shared: &Shared, request: Request<Incoming>) -> Result<Faults, String> {
    let body = Limited::new(request.into_body(), MAX_BODY_BYTES)
        .collect()
        .await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let change: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&body)
        .map_err(|error| format!("the body must be a JSON object: {error}"))?;
    let mut merged =
        serde_json::to_value(shared.faults.get()).map_err(|error| error.to_string())?;
    if let Some(fields) = merged.as_object_mut() {
        fields.extend(change);
    }
    let faults: Faults = serde_json::from_value(merged).map_err(|error| error.to_string())?;
    faults.validate()?;
    shared.faults.set(faults.clone());
    Ok(faults)
}

fn json<T: serde::Serialize>(value: &T) -> (StatusCode, String) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => (StatusCode::OK, text + "\n"),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
