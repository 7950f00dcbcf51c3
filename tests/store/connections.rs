//! Connections are few, are used again, and are let go at once.

use std::time::Duration;

use strongroom::{server::Faults, store::Condition};

use crate::support::{random::pattern, server::TestServer, wait::eventually};

#[tokio::test]
async fn two_hundred_reads_at_once_keep_to_the_connections_allowed() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.connections_max = 8)
        .await;
    let whole = pattern(200_000);
    store
        .put("object", vec![whole.clone()], Condition::None, &[])
        .await
        .unwrap();
    fixture.set_faults(Faults {
        latency: Duration::from_millis(5),
        ..Faults::default()
    });
    let mut most_open = 0;
    for _ in 0..3 {
        let reads = (0..200_u64).map(|i| {
            let (store, wanted) = (
                store.clone(),
                whole.slice(i as usize * 900..(i as usize + 1) * 900),
            );
            tokio::spawn(async move {
                assert_eq!(
                    store
                        .get_bytes("object", Some(i * 900..(i + 1) * 900), 900)
                        .await
                        .unwrap()
                        .1,
                    wanted
                );
            })
        });
        let mut reads = futures::future::join_all(reads);
        while tokio::time::timeout(Duration::from_millis(1), &mut reads)
            .await
            .is_err()
        {
            most_open = most_open.max(fixture.server.stats().connections_open);
        }
    }
    assert!((2..=8).contains(&most_open), "{most_open} open at once");
    let accepted = fixture.server.stats().connections_accepted;
    assert!(accepted <= 9, "{accepted} connections for 600 requests");
}

#[tokio::test]
async fn a_body_read_to_its_end_gives_its_connection_back() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    store
        .put("object", vec![pattern(3_000_000)], Condition::None, &[])
        .await
        .unwrap();
    let before = fixture.server.stats().connections_accepted;
    for _ in 0..10 {
        let mut body = store.get("object", None).await.unwrap();
        let mut left = 3_000_000;
        while left > 0 {
            left -= body.chunk().await.unwrap().unwrap().len();
        }
        // The end was reached without asking for it: nothing is held any more, though the body
        // lives.
        assert_eq!(store.metrics().requests_in_flight.get(), 0);
        assert_eq!(body.chunk().await.unwrap(), None);
    }
    assert_eq!(fixture.server.stats().connections_accepted, before);
}

#[tokio::test]
async fn a_dropped_body_stops_the_transfer() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    store
        .put("large", vec![pattern(128 << 20)], Condition::None, &[])
        .await
        .unwrap();
    fixture.server.reset_stats();
    for _ in 0..4 {
        let mut body = store.get("large", None).await.unwrap();
        assert_eq!(store.metrics().downloads_in_flight.get(), 1);
        body.chunk().await.unwrap().unwrap();
        drop(body);
        assert_eq!(store.metrics().downloads_in_flight.get(), 0);
    }
    eventually("the server noticed", async || {
        fixture.server.stats().requests_in_flight == 0
    })
    .await;
    let stats = fixture.server.stats();
    assert_eq!(stats.requests_aborted, 4);
    assert!(
        stats.socket_bytes_written < 4 * (8 << 20),
        "{} bytes",
        stats.socket_bytes_written
    );
    eventually("the connections are closed", async || {
        fixture.server.stats().connections_open <= 1
    })
    .await;
}

#[tokio::test]
async fn a_body_waits_for_its_reader_as_long_as_that_takes() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.stall_timeout = Duration::from_millis(200))
        .await;
    let whole = pattern(8 << 20);
    store
        .put("object", vec![whole.clone()], Condition::None, &[])
        .await
        .unwrap();
    let mut body = store.get("object", None).await.unwrap();
    let mut received = body.chunk().await.unwrap().unwrap().to_vec();
    tokio::time::sleep(Duration::from_secs(1)).await;
    while let Some(chunk) = body.chunk().await.unwrap() {
        received.extend_from_slice(&chunk);
    }
    assert!(received == whole);
}
