//! Costs of the store client: throughput and the client's own CPU seconds per GiB, over loopback
//! to the embedded server. Says nothing of a network; run it by hand: `cargo nextest run
//! --run-ignored only --no-capture store_speed`.
//!
//! The client has a runtime of its own, whose threads' CPU time is what is counted.

#[path = "support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use strongroom::store::{Condition, Store};
use support::{certificates::certificates, random::pattern, server::TestServer};

const PART_LEN: usize = 8 << 20;
const PIECE_LEN: usize = (64 << 10) + 16;
const RANGE_LEN: u64 = 1 << 20;
const OBJECT_LEN: usize = 512 << 20;
const CLIENT_THREAD: &str = "store-client";

/// CPU seconds, user and system, of the client's threads so far.
fn client_cpu() -> (f64, f64) {
    let mut total = (0.0, 0.0);
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let (name, rest) = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
            .unwrap();
        if name == CLIENT_THREAD {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            total.0 += fields[11].parse::<f64>().unwrap() / 100.0;
            total.1 += fields[12].parse::<f64>().unwrap() / 100.0;
        }
    }
    total
}

fn report(what: &str, bytes: u64, start: Instant, before: (f64, f64)) {
    let gib = bytes as f64 / f64::from(1 << 30);
    let seconds = start.elapsed().as_secs_f64();
    let after = client_cpu();
    println!(
        "{what:44} {:6.0} MiB/s   CPU s/GiB: user {:.2} system {:.2}",
        gib * 1024.0 / seconds,
        (after.0 - before.0) / gib,
        (after.1 - before.1) / gib,
    );
}

async fn measure(store: &Store, what: &str) {
    let part = pattern(PART_LEN);
    let pieces: Vec<Bytes> = part
        .chunks(PIECE_LEN)
        .map(|piece| part.slice_ref(piece))
        .collect();
    let upload = store.create_multipart("object").await.unwrap();
    let (start, before) = (Instant::now(), client_cpu());
    let numbers = stream::iter(1..=(OBJECT_LEN / PART_LEN) as u32);
    let parts: Vec<_> = numbers
        .map(|number| store.upload_part("object", &upload, number, pieces.clone()))
        .buffered(4)
        .try_collect()
        .await
        .unwrap();
    report(
        &format!("{what}: PUT of 8 MiB parts x4"),
        OBJECT_LEN as u64,
        start,
        before,
    );
    store
        .complete_multipart("object", &upload, &parts, Condition::None)
        .await
        .unwrap();

    for (label, range_len, parallel) in [
        ("1 MiB ranged GETs x8", RANGE_LEN, 8),
        ("64 KiB ranged GETs x8", 64 << 10, 8),
        ("8 MiB ranged GETs x4", 8 << 20, 4),
    ] {
        let (start, before) = (Instant::now(), client_cpu());
        let total = (OBJECT_LEN as u64).min(range_len * 4096);
        let mut chunks = 0;
        let reads = stream::iter(0..total / range_len).map(|i| async move {
            let mut body = store
                .get("object", Some(i * range_len..(i + 1) * range_len))
                .await?;
            let (mut received, mut chunks) = (0, 0);
            while let Some(chunk) = body.chunk().await? {
                received += chunk.len() as u64;
                chunks += 1;
            }
            assert_eq!(received, range_len);
            Ok::<u64, strongroom::store::StoreError>(chunks)
        });
        let mut reads = std::pin::pin!(reads.buffer_unordered(parallel));
        while let Some(n) = reads.next().await {
            chunks += n.unwrap();
        }
        report(
            &format!(
                "{what}: {label} ({} KiB a chunk)",
                total / chunks.max(1) / 1024
            ),
            total,
            start,
            before,
        );
    }
    store
        .put("small", vec![pattern(100)], Condition::None, &[])
        .await
        .unwrap();
    let (start, before) = (Instant::now(), client_cpu());
    for _ in 0..2000 {
        store.get_bytes("small", None, 100).await.unwrap();
    }
    let after = client_cpu();
    println!(
        "{what}: one small GET: {:.0} us, client CPU {:.0} us",
        start.elapsed().as_secs_f64() * 500.0,
        (after.0 + after.1 - before.0 - before.1) * 500.0
    );
}

#[test]
#[ignore = "a measurement, run by hand"]
fn speed_and_cpu_of_uploads_and_ranged_reads() {
    let server = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(CLIENT_THREAD)
        .worker_threads(2)
        .build()
        .unwrap();
    let plain = server.block_on(TestServer::start());
    client.block_on(async {
        tokio::spawn(async move {
            measure(&plain.store().await, "http").await;
            plain
        })
        .await
        .unwrap()
    });
    let mut authority = None;
    let tls = server.block_on(TestServer::start_with(|config, directory| {
        let (files, path) = certificates(directory);
        config.tls = Some(files);
        authority = Some(path);
    }));
    client.block_on(async {
        tokio::spawn(async move {
            measure(
                &tls.store_with(|config| config.ca_bundle = authority).await,
                "https",
            )
            .await;
            tls
        })
        .await
        .unwrap()
    });
    client.shutdown_timeout(Duration::from_secs(1));
}
