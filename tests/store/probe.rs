//! The probe passes the embedded server and leaves nothing in it.

use std::sync::Arc;

use bytes::Bytes;
use strongroom::{
    server::Faults,
    store::{
        Condition, Retry, Store, StoreErrorKind,
        probe::{ProbeFailure, prefix_is_empty, probe},
    },
    telemetry::Metrics,
};

use crate::support::{
    credentials::set_environment,
    raw_store::store_without_conditions,
    server::{TestServer, unconnected},
};

#[tokio::test]
async fn a_fit_store_passes_and_nothing_is_left_in_it() {
    let fixture = TestServer::start().await;
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
    let fixture = TestServer::start().await;
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
    let fixture = TestServer::start().await;
    let store = fixture.connect(|_| {}).await.unwrap();
    match probe(&store).await {
        Err(ProbeFailure::Store(error)) => {
            assert_eq!(error.kind, StoreErrorKind::NoBucket, "{error}")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_by_that_name() {
    set_environment();
    let mut config = unconnected();
    let lax = store_without_conditions();
    config.endpoint_url = Some(lax.url());
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
