//! The store client by itself, without a mount: its throughput, and its own CPU seconds per GiB,
//! over loopback to the embedded server, beside the same requests sent by the SDK alone.
//!
//! `cargo bench --bench store [-- [MIB]]`. It says nothing about a network. The client has a
//! runtime of its own, and only the CPU time of that runtime's threads is counted.

#[path = "../tests/support/mod.rs"]
mod harness;

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "shared with the benchmarks of mounts")]
mod support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_s3::{Client, config::RequestChecksumCalculation};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use harness::{
    bucket::BUCKET,
    credentials::set_environment,
    site::{Site, Transport},
};
use strongroom::{
    store::{Condition, Rates, Retry, Store, StoreConfig, StoreError},
    telemetry::Metrics,
};
use support::{MIB, Options, noise};
use tokio::runtime::{Builder, Runtime};

const PART_LEN: usize = 8 * MIB;
const PIECE_LEN: usize = (64 << 10) + 16;
const SMALL_GETS: u32 = 2000;
const SDK_BODY_LEN: usize = 64 * MIB;
const SDK_ROUNDS: usize = 6;
const CLIENT_THREAD: &str = "store-client";

fn main() {
    let options = Options::from_command_line();
    let mib = match options.words.as_slice() {
        [] => 512,
        [mib] => mib
            .parse()
            .unwrap_or_else(|_| support::refuse("usage: [MIB]")),
        _ => support::refuse("usage: [MIB]"),
    };
    set_environment();
    let client = Builder::new_multi_thread()
        .enable_all()
        .thread_name(CLIENT_THREAD)
        .worker_threads(2)
        .build()
        .expect("runtime");
    for (name, transport) in [("http", Transport::Plain), ("https", Transport::Tls)] {
        let mut site = Site::without_volume(transport);
        options.apply(&mut site);
        let store = client.block_on(connect(&site, transport));
        on_the_clients_threads(&client, measure(store, name, mib * MIB));
        if transport == Transport::Plain {
            let sdk = site.bucket().client();
            on_the_clients_threads(&client, sdk_rows(sdk));
        }
    }
    client.shutdown_timeout(Duration::from_secs(1));
}

async fn connect(site: &Site, transport: Transport) -> Store {
    let config = StoreConfig {
        url: format!("s3://{BUCKET}/volume").parse().expect("a URL"),
        endpoint_url: Some(site.endpoint.clone()),
        region: None,
        profile: None,
        ca_bundle: (transport == Transport::Tls).then(|| site.path().join("ca.pem")),
        path_style: None,
        stall_timeout: Duration::from_secs(10),
        connections_max: 16,
        rates: Rates::default(),
        retry: Retry::Attempts(3),
    };
    let store = Store::connect(config, Arc::new(Metrics::default())).await;
    let store = store.expect("a store");
    store.create_bucket().await.expect("a bucket");
    store
}

/// A future that `block_on` polls runs on the main thread, whose time would not be counted.
fn on_the_clients_threads(client: &Runtime, work: impl Future<Output = ()> + Send + 'static) {
    client
        .block_on(async { tokio::spawn(work).await })
        .expect("the work ends");
}

/// CPU seconds, user and system, of the client's threads so far.
fn client_cpu() -> (f64, f64) {
    let mut total = (0.0, 0.0);
    for task in fs::read_dir("/proc/self/task").expect("tasks").flatten() {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else {
            continue;
        };
        let (name, rest) = stat
            .split_once('(')
            .and_then(|(_, rest)| rest.rsplit_once(')'))
            .expect("a name");
        if name == CLIENT_THREAD {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            total.0 += fields[11].parse::<f64>().expect("ticks") / 100.0;
            total.1 += fields[12].parse::<f64>().expect("ticks") / 100.0;
        }
    }
    total
}

/// A piece of work that is being measured.
struct Row {
    began: Instant,
    cpu: (f64, f64),
}

impl Row {
    fn begin() -> Row {
        Row {
            began: Instant::now(),
            cpu: client_cpu(),
        }
    }

    fn print(&self, what: &str, bytes: usize) {
        let gib = bytes as f64 / f64::from(1 << 30);
        let seconds = self.began.elapsed().as_secs_f64();
        let after = client_cpu();
        println!(
            "{what:44} {:6.0} MiB/s   CPU s/GiB: user {:.2} system {:.2}",
            gib * 1024.0 / seconds,
            (after.0 - self.cpu.0) / gib,
            (after.1 - self.cpu.1) / gib,
        );
    }
}

async fn measure(store: Store, name: &'static str, len: usize) {
    let store = &store;
    let part = noise(PART_LEN);
    let pieces: Vec<Bytes> = part
        .chunks(PIECE_LEN)
        .map(|piece| part.slice_ref(piece))
        .collect();
    let upload = store.create_multipart("object").await.expect("upload");
    let row = Row::begin();
    let numbers = stream::iter(1..=(len / PART_LEN) as u32);
    let parts: Vec<_> = numbers
        .map(|number| store.upload_part("object", &upload, number, pieces.clone()))
        .buffered(4)
        .try_collect()
        .await
        .expect("parts");
    row.print(&format!("{name}: PUT of 8 MiB parts x4"), len);
    store
        .complete_multipart("object", &upload, &parts, Condition::None)
        .await
        .expect("complete");

    for (label, range_len, parallel) in [
        ("1 MiB ranged GETs x8", MIB, 8),
        ("64 KiB ranged GETs x8", 64 << 10, 8),
        ("8 MiB ranged GETs x4", 8 * MIB, 4),
    ] {
        let row = Row::begin();
        let total = len.min(range_len * 4096);
        let mut chunks = 0;
        let reads = stream::iter(0..total / range_len)
            .map(|number| read_range(store, number as u64 * range_len as u64, range_len as u64));
        let mut reads = std::pin::pin!(reads.buffer_unordered(parallel));
        while let Some(more) = reads.next().await {
            chunks += more.expect("a range");
        }
        let chunk_kib = total / chunks.max(1) / 1024;
        row.print(&format!("{name}: {label} ({chunk_kib} KiB a chunk)"), total);
    }
    store
        .put("small", vec![noise(100)], Condition::None, &[])
        .await
        .expect("put");
    let row = Row::begin();
    for _ in 0..SMALL_GETS {
        store.get_bytes("small", None, 100).await.expect("get");
    }
    let after = client_cpu();
    println!(
        "{name}: one small GET: {:.0} us, client CPU {:.0} us",
        row.began.elapsed().as_secs_f64() * 1e6 / f64::from(SMALL_GETS),
        (after.0 + after.1 - row.cpu.0 - row.cpu.1) * 1e6 / f64::from(SMALL_GETS)
    );
}

/// Reads one range to its end; returns how many chunks it came in.
async fn read_range(store: &Store, start: u64, len: u64) -> Result<usize, StoreError> {
    let mut body = store.get("object", Some(start..start + len)).await?;
    let (mut received, mut chunks) = (0, 0);
    while let Some(chunk) = body.chunk().await? {
        received += chunk.len() as u64;
        chunks += 1;
    }
    assert_eq!(received, len);
    Ok(chunks)
}

/// Large objects by the SDK alone: as it does by default, without a checksum, and without a
/// checksum and a signature of the payload.
async fn sdk_rows(client: Client) {
    let config = client.config().to_builder();
    let config = config.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
    let unchecked = Client::from_conf(config.build());
    for (name, client, signed) in [
        ("the SDK", &client, true),
        ("the SDK, no checksum", &unchecked, true),
        ("the SDK, no checksum or signature", &unchecked, false),
    ] {
        let body = noise(SDK_BODY_LEN);
        let row = Row::begin();
        for _ in 0..SDK_ROUNDS {
            let put = client.put_object().bucket(BUCKET).key("key");
            let put = put.body(body.clone().into()).customize();
            let put = match signed {
                true => put,
                false => put.disable_payload_signing(),
            };
            put.send().await.expect("put");
        }
        row.print(&format!("{name}: 64 MiB PUT"), SDK_BODY_LEN * SDK_ROUNDS);
        let row = Row::begin();
        for _ in 0..SDK_ROUNDS {
            let got = client.get_object().bucket(BUCKET).key("key").send().await;
            let mut body = got.expect("get").body;
            let mut len = 0;
            while let Some(piece) = body.next().await {
                len += piece.expect("piece").len();
            }
            assert_eq!(len, SDK_BODY_LEN);
        }
        row.print(&format!("{name}: 64 MiB GET"), SDK_BODY_LEN * SDK_ROUNDS);
    }
}
