//! Injected faults, statistics, and the second port.

use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::primitives::ByteStream;
use strongroom::server::{Faults, Outage, RequestLog};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    fixture::{BUCKET, Fixture, refusal, start, start_with},
    support::random::noise,
};

fn retrying(fixture: &Fixture, attempts: u32) -> Client {
    let retry = RetryConfig::standard()
        .with_max_attempts(attempts)
        .with_initial_backoff(Duration::from_millis(1))
        .with_max_backoff(Duration::from_millis(20));
    Client::from_conf(
        fixture
            .client
            .config()
            .to_builder()
            .retry_config(retry)
            .build(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_wait_the_latency_concurrently() {
    let fixture = start().await;
    fixture.put("key", "x").await;
    fixture
        .server
        .set_faults(Faults {
            latency: Duration::from_millis(200),
            ..Faults::default()
        })
        .unwrap();
    let begin = Instant::now();
    let gets = (0..20).map(|_| fixture.get("key"));
    futures::future::join_all(gets).await;
    let elapsed = begin.elapsed();
    assert!(
        (0.2..2.0).contains(&elapsed.as_secs_f64()),
        "{elapsed:?} for 20 concurrent requests of 200 ms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bandwidth_holds_over_all_connections_and_both_directions() {
    let fixture = start().await;
    let body = noise(1, 1_000_000);
    fixture.put("key", body.clone()).await;
    fixture
        .server
        .set_faults(Faults {
            bandwidth: Some(4_000_000),
            ..Faults::default()
        })
        .unwrap();
    let begin = Instant::now();
    let (a, b, c, d) = tokio::join!(
        fixture.get("key"),
        fixture.get("key"),
        fixture.put("other", body.clone()),
        fixture.put("another", body.clone())
    );
    assert!(a == body && b == body && c != d);
    let seconds = begin.elapsed().as_secs_f64();
    assert!(
        (0.9..2.5).contains(&seconds),
        "4 MB at 4 MB/s took {seconds} s"
    );
    fixture.server.set_faults(Faults::default()).unwrap();
    let begin = Instant::now();
    fixture.get("key").await;
    assert!(
        begin.elapsed() < Duration::from_millis(200),
        "the limit is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_are_answered_and_retries_get_through() {
    let fixture = start().await;
    fixture
        .server
        .set_faults(Faults {
            error_rate: 1.0,
            ..Faults::default()
        })
        .unwrap();
    let body = || ByteStream::from(noise(1, 3_000_000));
    let put = || {
        fixture
            .client
            .put_object()
            .bucket(BUCKET)
            .key("key")
            .body(body())
            .send()
    };
    let mut refused = [refusal(put().await), refusal(put().await)];
    refused.sort();
    assert_eq!(
        refused,
        [
            ("InternalError".to_owned(), 500),
            ("SlowDown".to_owned(), 503)
        ]
    );
    fixture
        .server
        .set_faults(Faults {
            error_rate: 0.4,
            seed: 5,
            ..Faults::default()
        })
        .unwrap();
    let client = retrying(&fixture, 20);
    for number in 0..20 {
        client
            .put_object()
            .bucket(BUCKET)
            .key(format!("{number}"))
            .body(body())
            .send()
            .await
            .unwrap();
    }
    assert!(fixture.server.stats().errors["PutObject"] > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_connections_never_harm_an_object() {
    let fixture = start().await;
    let faults = Faults {
        reset_rate: 0.3,
        seed: 11,
        ..Faults::default()
    };
    fixture.server.set_faults(faults).unwrap();
    let client = retrying(&fixture, 30);
    for number in 0..15u64 {
        let body = noise(number, 2_000_000);
        let put = client.put_object().bucket(BUCKET).key(format!("{number}"));
        put.body(ByteStream::from(body.clone()))
            .send()
            .await
            .unwrap();
        // A cut in the middle of an answer is the reader's to retry.
        loop {
            let Ok(got) = client
                .get_object()
                .bucket(BUCKET)
                .key(format!("{number}"))
                .send()
                .await
            else {
                continue;
            };
            match got.body.collect().await {
                Ok(got) => break assert!(got.to_vec() == body),
                Err(_) => continue,
            }
        }
    }
    let stats = fixture.server.stats();
    assert!(stats.requests_aborted > 5, "{stats:#?}");
    fixture.settled(|stats| stats.requests_in_flight == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_hangs_or_refuses_and_then_it_is_over() {
    let fixture = start().await;
    fixture.put("key", noise(1, 5_000_000)).await;
    let mut half_read = fixture.open("key").await;
    let mut read = half_read.body.next().await.unwrap().unwrap().to_vec();

    fixture
        .server
        .set_faults(Faults {
            outage: Outage::Hang,
            ..Faults::default()
        })
        .unwrap();
    let hanging = tokio::spawn({
        let client = fixture.client.clone();
        async move { client.list_buckets().send().await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!hanging.is_finished());
    fixture.server.set_faults(Faults::default()).unwrap();
    hanging.await.unwrap().unwrap();
    while let Some(piece) = half_read.body.next().await {
        read.extend_from_slice(&piece.unwrap());
    }
    assert!(
        read == noise(1, 5_000_000),
        "a body in flight goes on where it was"
    );

    fixture
        .server
        .set_faults(Faults {
            outage: Outage::Refuse,
            ..Faults::default()
        })
        .unwrap();
    fixture.client.list_buckets().send().await.unwrap_err();
    fixture.settled(|stats| stats.connections_open == 0).await;
    fixture.server.set_faults(Faults::default()).unwrap();
    fixture.client.list_buckets().send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_say_what_was_done() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("requests.log");
    let fixture = start_with(|config| config.request_log = RequestLog::File(log.clone())).await;
    fixture.put("key", noise(1, 100_000)).await;
    fixture.get("key").await;
    fixture.get_range("key", "bytes=0-999").await;
    refusal(fixture.try_open("none").await);
    fixture
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .send()
        .await
        .unwrap();
    fixture.settled(|stats| stats.requests_in_flight == 0).await;
    let stats = fixture.server.stats();
    assert_eq!(
        (
            stats.count("PutObject"),
            stats.count("GetObject"),
            stats.count("ListObjectsV2")
        ),
        (1, 3, 1)
    );
    assert_eq!(stats.total_requests(), 5);
    assert_eq!(
        (
            stats.by_status[&200],
            stats.by_status[&206],
            stats.by_status[&404]
        ),
        (3, 1, 1)
    );
    assert_eq!(stats.errors["GetObject"], 1);
    assert_eq!(stats.body_bytes_in, 100_000);
    assert!(
        (101_000..103_000).contains(&stats.body_bytes_out),
        "{stats:#?}"
    );
    assert!(
        (100_000..110_000).contains(&stats.socket_bytes_read),
        "{stats:#?}"
    );
    assert!(
        (101_000..107_000).contains(&stats.socket_bytes_written),
        "{stats:#?}"
    );
    assert_eq!(stats.requests_aborted, 0);
    assert!(
        stats.connections_accepted <= 1 && stats.connections_open <= 2,
        "{stats:#?}"
    );
    fixture.server.reset_stats();
    assert_eq!(fixture.server.stats().total_requests(), 0);

    let log = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<Vec<&str>> = log.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 6, "{log}");
    assert_eq!(
        lines[1][..6],
        ["PutObject", "/bucket/key", "-", "200", "100000", "0"]
    );
    assert_eq!(
        lines[3][..6],
        [
            "GetObject",
            "/bucket/key",
            "bytes=0-999",
            "206",
            "0",
            "1000"
        ]
    );
    assert_eq!(lines[4][3], "404");
}

async fn ask(fixture: &Fixture, method: &str, path: &str, body: &str) -> (u16, serde_json::Value) {
    let mut socket = tokio::net::TcpStream::connect(fixture.server.stats_addr().unwrap())
        .await
        .unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        serde_json::from_str(body).unwrap_or(serde_json::Value::Null),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_port_tells_counts_and_takes_faults() {
    let fixture = start_with(|config| config.stats_listen = Some(([127, 0, 0, 1], 0).into())).await;
    fixture.put("key", "x").await;
    let (status, stats) = ask(&fixture, "GET", "/stats", "").await;
    assert_eq!((status, &stats["requests"]["PutObject"]), (200, &1.into()));
    assert_eq!(
        ask(&fixture, "POST", "/stats/reset", "").await.1["requests"],
        serde_json::json!({})
    );

    let (status, faults) = ask(
        &fixture,
        "POST",
        "/faults",
        r#"{"latency_ms": 50, "bandwidth": 1000000}"#,
    )
    .await;
    assert_eq!((status, &faults["latency_ms"]), (200, &50.0.into()));
    let (_, faults) = ask(
        &fixture,
        "POST",
        "/faults",
        r#"{"bandwidth": null, "error_rate": 0.5}"#,
    )
    .await;
    assert_eq!(
        (&faults["latency_ms"], &faults["bandwidth"]),
        (&50.0.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        ask(&fixture, "POST", "/faults", r#"{"lateness": 1}"#)
            .await
            .0,
        400
    );
    assert_eq!(
        ask(&fixture, "POST", "/faults", r#"{"error_rate": 2}"#)
            .await
            .0,
        400
    );
    assert_eq!(
        fixture.server.faults().error_rate,
        0.5,
        "a refused change changes nothing"
    );
    ask(&fixture, "DELETE", "/faults", "").await;
    assert_eq!(fixture.server.faults(), Faults::default());
    assert_eq!(ask(&fixture, "GET", "/", "").await.0, 404);
}
