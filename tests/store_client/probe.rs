//! The probe passes the embedded server and leaves nothing in it.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use strongroom::{
    server::Faults,
    store::{
        Condition, Retry, Store, StoreErrorKind,
        probe::{ProbeFailure, prefix_is_empty, probe},
    },
    telemetry::Metrics,
};

use crate::support::{Fixture, set_environment, unconnected};

#[tokio::test]
async fn a_fit_store_passes_and_nothing_is_left_in_it() {
    let fixture = Fixture::start().await;
    let store = fixture.store().await;
    assert!(prefix_is_empty(&store).await.unwrap());
    probe(&store).await.unwrap();
    assert!(prefix_is_empty(&store).await.unwrap());
    assert!(store.list_multipart("").await.unwrap().is_empty());
    store
        .put("x", vec![Bytes::from("x")], Condition::None, &[])
        .await
        .unwrap();
    assert!(!prefix_is_empty(&store).await.unwrap());
    probe(&store).await.unwrap();
    assert_eq!(store.list_page("", None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_fit_store_passes_in_spite_of_failures_that_pass() {
    let fixture = Fixture::start().await;
    let store = fixture
        .store_with(|config| config.retry = Retry::Attempts(20))
        .await;
    fixture.set_faults(Faults {
        error_rate: 0.1,
        reset_rate: 0.1,
        seed: 11,
        ..Faults::default()
    });
    probe(&store).await.unwrap();
    fixture.clear_faults();
    assert!(prefix_is_empty(&store).await.unwrap());
}

#[tokio::test]
async fn a_store_that_cannot_be_tried_is_not_called_unfit() {
    let fixture = Fixture::start().await;
    let store = fixture.connect(|_| {}).await.unwrap();
    match probe(&store).await {
        Err(ProbeFailure::Store(error)) => {
            assert_eq!(error.kind, StoreErrorKind::NoBucket, "{error}")
        }
        other => panic!("{other:?}"),
    }
}

/// A store that takes every PUT, whatever its condition, and lists nothing.
async fn unconditional(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let listing = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    let deleted = "<DeleteResult></DeleteResult>";
    let body = match *request.method() {
        Method::GET => listing,
        Method::POST => deleted,
        _ => "",
    };
    let length = request
        .headers()
        .get("content-length")
        .and_then(|len| len.to_str().ok()?.parse().ok())
        .unwrap_or(0_usize);
    let received = http_body_util::BodyExt::collect(request.into_body())
        .await
        .map_or(0, |body| body.to_bytes().len());
    assert_eq!(received, length);
    Ok(Response::builder()
        .header("etag", "\"1\"")
        .body(Full::from(body))
        .unwrap())
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_by_that_name() {
    set_environment();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = unconnected();
    config.endpoint_url = Some(format!("http://{}", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let served = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(unconditional));
            tokio::spawn(served);
        }
    });
    let store = Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap();
    let failure = probe(&store).await.unwrap_err();
    assert!(
        matches!(
            failure,
            ProbeFailure::Lacks {
                capability: "conditional PUT (If-None-Match)",
                ..
            }
        ),
        "{failure}"
    );
    let text = failure.to_string();
    assert!(
        text.starts_with("the store lacks conditional PUT (If-None-Match): "),
        "{text}"
    );
}
