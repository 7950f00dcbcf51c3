//! Metadata over the real stack: the sealed object store, the S3 client, a server on a socket.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom::{
    meta::{Ino, Meta, MetaConfig, MetaError},
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    server::{Faults, Outage, StatsSnapshot},
    store::{Retry, Store},
};
use tokio::time::timeout;

use crate::{
    requests::{list_all, unpack},
    support::{server::TestServer, wait::eventually},
    volume::{CONFIG, at, directory, file, names},
};

struct Stack {
    server: TestServer,
    keys: Arc<VolumeKeys>,
}

impl Stack {
    async fn start(latency_ms: u64) -> Stack {
        let stack = Stack {
            server: TestServer::start().await,
            keys: VolumeKeys::generate(VolumeId([7; 16])),
        };
        stack.store().await.create_bucket().await.unwrap();
        Meta::format(stack.sealed().await, 1000, 1000)
            .await
            .unwrap();
        stack.server.set_faults(Faults {
            latency: Duration::from_millis(latency_ms),
            ..Faults::default()
        });
        stack
    }

    async fn store(&self) -> Store {
        let store = self.server.connect(|config| {
            config.stall_timeout = Duration::from_secs(2);
            config.retry = Retry::Forever;
        });
        store.await.unwrap()
    }

    async fn sealed(&self) -> Arc<SealedObjectStore> {
        Arc::new(SealedObjectStore::new(
            self.store().await,
            self.keys.clone(),
            4 << 20,
        ))
    }

    async fn open(&self, config: MetaConfig) -> Meta {
        Meta::open(self.sealed().await, config).await.unwrap()
    }

    fn take(&self) -> StatsSnapshot {
        let stats = self.server.stats();
        self.server.reset_stats();
        stats
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_files_take_few_requests_sealed_and_twenty_milliseconds_away() {
    let stack = Stack::start(20).await;
    let meta = stack.open(CONFIG).await;
    stack.take();
    let begun = Instant::now();
    let dirs = unpack(&meta).await;
    meta.flush().await.unwrap();
    let stats = stack.take();
    println!("unpacked in {:?}: {:?}", begun.elapsed(), stats.requests);
    assert!(stats.count("PutObject") <= 20, "{:?}", stats.requests);
    meta.close().await.unwrap();
    println!("closed: {:?}", stack.take().requests);

    let begun = Instant::now();
    let meta = stack.open(CONFIG).await;
    let stats = stack.take();
    println!("opened in {:?}: {:?}", begun.elapsed(), stats.requests);
    let begun = Instant::now();
    assert_eq!(list_all(&meta, &dirs).await, 5000);
    let stats = stack.take();
    println!(
        "listed cold in {:?}: {:?}, {} bytes",
        begun.elapsed(),
        stats.requests,
        stats.body_bytes_out
    );
    assert!(stats.count("GetObject") <= 20, "{:?}", stats.requests);
    assert!(stats.total_requests() <= 22, "{:?}", stats.requests);
    meta.close().await.unwrap();

    let follower = stack
        .open(MetaConfig {
            read_only: true,
            ..CONFIG
        })
        .await;
    assert_eq!(list_all(&follower, &dirs).await, 5000);
    follower.close().await.unwrap();
    stack.server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_mount_asks_for_next_to_nothing() {
    let stack = Stack::start(0).await;
    let meta = stack.open(CONFIG).await;
    file(&meta, Ino::ROOT, "file").await;
    meta.flush().await.unwrap();
    // A lull of five seconds is followed by the last compaction; no timer below a minute is longer.
    eventually("it is idle", async || {
        stack.take();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        stack.server.stats().total_requests() == 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    let stats = stack.take();
    assert_eq!(stats.total_requests(), 0, "{:?}", stats.requests);

    // A follower asks for the next log object at each look.
    let follower = stack
        .open(MetaConfig {
            read_only: true,
            follow_every: Duration::from_millis(200),
            ..CONFIG
        })
        .await;
    eventually("it looks", async || {
        stack.server.stats().total_requests() > 0
    })
    .await;
    stack.take();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stats = stack.take();
    println!("a follower, ten idle looks: {:?}", stats.requests);
    assert!(stats.total_requests() <= 20, "{:?}", stats.requests);
    assert_eq!(stats.count("PutObject"), 0);
    follower.close().await.unwrap();
    meta.close().await.unwrap();
    stack.server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_and_an_outage_pass_without_a_remount() {
    let stack = Stack::start(0).await;
    let meta = stack.open(CONFIG).await;
    let dir = directory(&meta, Ino::ROOT, "dir").await.ino;
    stack.server.set_faults(Faults {
        error_rate: 0.3,
        reset_rate: 0.1,
        seed: 1,
        ..Faults::default()
    });
    for number in 0..20 {
        file(&meta, dir, &format!("f{number}")).await;
        timeout(Duration::from_secs(60), meta.flush())
            .await
            .unwrap()
            .unwrap();
    }
    stack.server.set_faults(Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    });
    file(&meta, dir, "late").await;
    assert!(timeout(Duration::from_secs(3), meta.flush()).await.is_err());
    assert_eq!(names(&meta, dir).await.len(), 21);
    stack.server.set_faults(Faults::default());
    timeout(Duration::from_secs(60), meta.flush())
        .await
        .unwrap()
        .unwrap();
    drop(meta);
    let meta = stack.open(CONFIG).await;
    assert_eq!(names(&meta, dir).await.len(), 21);
    meta.close().await.unwrap();
    stack.server.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_writer_fences_the_first_and_other_keys_open_nothing() {
    let stack = Stack::start(0).await;
    let first = stack.open(CONFIG).await;
    file(&first, Ino::ROOT, "one").await;
    first.flush().await.unwrap();
    let second = stack.open(CONFIG).await;
    let made = first.unlink(Ino::ROOT, b"one", at(20)).await;
    assert!(matches!(made, Ok(_) | Err(MetaError::Fenced)));
    assert!(matches!(first.flush().await, Err(MetaError::Fenced)));
    assert_eq!(names(&second, Ino::ROOT).await, ["one"]);
    second.close().await.unwrap();

    let stranger = VolumeKeys::generate(VolumeId([7; 16]));
    let sealed = Arc::new(SealedObjectStore::new(
        stack.store().await,
        stranger,
        1 << 20,
    ));
    let opened = timeout(Duration::from_secs(20), Meta::open(sealed, CONFIG))
        .await
        .expect("an answer, not a retry");
    let Err(MetaError::Store(why)) = opened else {
        panic!("opened with other keys")
    };
    assert!(why.contains("meta/manifest/"), "{why}");
    stack.server.server.shutdown().await;
}
