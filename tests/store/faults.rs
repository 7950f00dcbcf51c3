//! Failures that pass are tried again, with the identical bytes, as long as was asked for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use strongroom::{
    server::{Faults, Outage},
    store::{Condition, Retry, Store, StoreErrorKind},
};

use crate::support::{random::pattern, server::TestServer, wait::eventually};

/// A store client that never gives up, and a server with these faults.
async fn persistent_against(faults: Faults) -> (TestServer, Store) {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.retry = Retry::Forever)
        .await;
    fixture.set_faults(faults);
    (fixture, store)
}

#[tokio::test]
async fn errors_and_cut_connections_are_survived_and_nothing_is_lost_or_doubled() {
    let (fixture, store) = persistent_against(Faults {
        error_rate: 0.15,
        reset_rate: 0.15,
        seed: 7,
        ..Faults::default()
    })
    .await;
    let whole = pattern(300_000);
    let tasks: Vec<_> = (0..60)
        .map(|i| {
            let (store, whole) = (store.clone(), whole.slice(i..));
            tokio::spawn(async move {
                let key = format!("data/{i}");
                let pieces = vec![whole.slice(..1000), whole.slice(1000..)];
                // Also where the answer to a PUT that took effect is lost, it has won, not been
                // refused.
                let put = store
                    .put(&key, pieces, Condition::Absent, &[])
                    .await
                    .unwrap();
                let (head, bytes) = store.get_bytes(&key, None, 300_000).await.unwrap();
                assert!(bytes == whole);
                assert!(put.etag.is_some() && put.etag == head.etag);
                let next = store
                    .put(
                        &key,
                        vec![Bytes::from("next")],
                        Condition::Matches(put.etag.unwrap()),
                        &[],
                    )
                    .await
                    .unwrap();
                assert_eq!(store.head(&key).await.unwrap().etag, next.etag);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!(
        store.metrics().retries.get() > 40,
        "{}",
        store.metrics().retries.get()
    );
    assert_eq!(store.metrics().store_errors.get(), 0);
    fixture.clear_faults();
    assert_eq!(store.list_page("data/", None).await.unwrap().len(), 60);
}

#[tokio::test]
async fn multipart_uploads_survive_errors_and_cut_connections() {
    let (_fixture, store) = persistent_against(Faults {
        error_rate: 0.15,
        reset_rate: 0.2,
        seed: 3,
        ..Faults::default()
    })
    .await;
    let whole = pattern(6 * 1024 * 1024);
    for i in 0..10 {
        let key = format!("data/{i}");
        let upload = store.create_multipart(&key).await.unwrap();
        let (first, last) = (
            whole.slice(..5 * 1024 * 1024),
            whole.slice(5 * 1024 * 1024..),
        );
        let parts = [
            store
                .upload_part(&key, &upload, 1, vec![first])
                .await
                .unwrap(),
            store
                .upload_part(&key, &upload, 2, vec![last])
                .await
                .unwrap(),
        ];
        let made = store
            .complete_multipart(&key, &upload, &parts, Condition::None)
            .await
            .unwrap();
        let (head, bytes) = store
            .get_bytes(&key, None, whole.len() as u64)
            .await
            .unwrap();
        assert!(bytes == whole);
        assert_eq!(head.etag, made.etag);
    }
    assert!(store.metrics().retries.get() > 5);
}

#[tokio::test]
async fn attempts_are_as_many_as_were_asked_for() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.retry = Retry::Attempts(4))
        .await;
    fixture.set_faults(Faults {
        error_rate: 1.0,
        ..Faults::default()
    });
    let error = store.get("x", None).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    assert_eq!(store.metrics().get_requests.get(), 4);
    assert_eq!(store.metrics().retries.get(), 3);
    let once = store.with_retry(Retry::Attempts(1));
    once.head("x").await.unwrap_err();
    assert_eq!(store.metrics().head_requests.get(), 1);
    assert_eq!(store.metrics().store_errors.get(), 2);
}

#[tokio::test]
async fn a_command_waits_for_a_busy_store_but_not_for_a_silent_one() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.retry = Retry::FOR_COMMANDS)
        .await;
    let busy = Faults {
        error_rate: 1.0,
        ..Faults::default()
    };
    store
        .put("x", vec!["y".into()], Condition::None, &[])
        .await
        .unwrap();
    fixture.set_faults(busy.clone());
    let get = async { store.get_bytes("x", None, 1).await.map(|(_, bytes)| bytes) };
    let recover = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        fixture.set_faults(Faults::default());
    };
    let (got, ()) = tokio::join!(get, recover);
    assert_eq!(&got.unwrap()[..], b"y");

    fixture.set_faults(busy);
    let began = Instant::now();
    let impatient = store.with_retry(Retry::WhileItAnswers {
        attempts: 5,
        unavailable: Duration::from_secs(2),
    });
    let error = impatient.get("x", None).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    assert!((2.0..20.0).contains(&began.elapsed().as_secs_f64()));

    fixture.set_faults(Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    });
    let tries = store.metrics().retries.get();
    let error = store.get("x", None).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Unreachable, "{error}");
    assert_eq!(store.metrics().retries.get() - tries, 4);
}

#[tokio::test]
async fn an_outage_is_a_pause() {
    for outage in [Outage::Refuse, Outage::Hang] {
        let fixture = TestServer::start().await;
        let store = fixture
            .store_with(|config| {
                config.retry = Retry::Forever;
                config.stall_timeout = Duration::from_millis(500);
            })
            .await;
        store
            .put("before", vec![Bytes::from("before")], Condition::None, &[])
            .await
            .unwrap();
        fixture.set_faults(Faults {
            outage,
            ..Faults::default()
        });
        let put = tokio::spawn({
            let store = store.clone();
            async move {
                store
                    .put("during", vec![pattern(1_000_000)], Condition::Absent, &[])
                    .await
            }
        });
        let get = tokio::spawn({
            let store = store.clone();
            async move { store.get_bytes("before", None, 100).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!put.is_finished() && !get.is_finished());
        fixture.clear_faults();
        put.await.unwrap().unwrap();
        assert_eq!(get.await.unwrap().unwrap().1, "before");
        assert_eq!(store.head("during").await.unwrap().size, 1_000_000);
        assert!(store.metrics().retries.get() >= 2);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.stall_timeout = Duration::from_millis(500))
        .await;
    store
        .put("object", vec![pattern(20_000_000)], Condition::None, &[])
        .await
        .unwrap();
    for outage in [Outage::Refuse, Outage::Hang] {
        let mut body = store.get("object", None).await.unwrap();
        let mut received = body.chunk().await.unwrap().unwrap().len();
        fixture.set_faults(Faults {
            outage,
            ..Faults::default()
        });
        let error = loop {
            match body.chunk().await {
                Ok(Some(chunk)) => received += chunk.len(),
                Ok(None) => panic!("the body ended after {received} bytes"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
        assert!(received < 20_000_000);
        assert_eq!(
            body.chunk().await.unwrap_err().kind,
            StoreErrorKind::Unavailable,
            "and stays one"
        );
        assert_eq!(
            store.metrics().requests_in_flight.get(),
            0,
            "its connection is given up"
        );
        fixture.clear_faults();
    }
}

#[tokio::test]
async fn a_slow_link_is_not_a_stalled_one() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| {
            config.stall_timeout = Duration::from_secs(1);
            config.retry = Retry::Attempts(1);
        })
        .await;
    fixture.set_faults(Faults {
        bandwidth: Some(6_000_000),
        ..Faults::default()
    });
    let whole = pattern(24_000_000);
    store
        .put("object", vec![whole.clone()], Condition::None, &[])
        .await
        .unwrap();
    assert!(store.get_bytes("object", None, 24_000_000).await.unwrap().1 == whole);
}

#[tokio::test]
async fn a_future_that_is_dropped_leaves_nothing_behind() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.connections_max = 2)
        .await;
    fixture.set_faults(Faults {
        outage: Outage::Hang,
        ..Faults::default()
    });
    let metrics = store.metrics();
    for _ in 0..5 {
        let put = store.put("x", vec![pattern(1_000_000)], Condition::Absent, &[]);
        let get = store.get("x", None);
        let waits = store.head("x");
        let all = async { tokio::join!(put, get, waits) };
        assert!(
            tokio::time::timeout(Duration::from_millis(100), all)
                .await
                .is_err()
        );
        for gauge in [
            &metrics.requests_in_flight,
            &metrics.uploads_in_flight,
            &metrics.downloads_in_flight,
        ] {
            assert_eq!(gauge.get(), 0);
        }
    }
    fixture.clear_faults();
    assert_eq!(
        store.head("y").await.unwrap_err().kind,
        StoreErrorKind::NotFound
    );
    eventually("connections closed", async || {
        fixture.server.stats().connections_open <= 2
    })
    .await;
}
