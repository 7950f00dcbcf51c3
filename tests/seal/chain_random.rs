//! The chain in everything that may honestly happen: kills at any moment, takeovers, lost answers,
//! collection of the log, followers. A healthy volume is never refused, and nothing that was
//! acknowledged is lost.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use slatedb::{
    Db, DbReader, DbReaderMode, GarbageCollectorBuilder,
    config::{
        DbReaderOptions, FlushOptions, FlushType, GarbageCollectorDirectoryOptions,
        GarbageCollectorOptions,
    },
};
use strongroom::{seal::object_store::SealedObjectStore, server::Faults};
use tokio::{
    runtime::{Builder, Runtime},
    time::timeout,
};

use crate::{
    bucket::{Bucket, connect},
    log::{open, put},
};

const CACHE: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// Xorshift: the same choices for the same seed.
struct Choices(u64);

impl Choices {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// A mount in a runtime of its own, so that it can be killed between any two steps: its tasks end
/// where they are, and its connections break.
struct Mount {
    runtime: Option<Runtime>,
    db: Option<Arc<Db>>,
    store: SealedObjectStore,
}

impl Mount {
    fn runtime() -> Runtime {
        Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    }

    async fn open(bucket: &Bucket) -> Mount {
        let runtime = Mount::runtime();
        let (url, keys) = (bucket.server.endpoint_url(), Arc::clone(&bucket.keys));
        let opened = runtime.spawn(async move {
            let store = SealedObjectStore::new(connect(url).await, keys, CACHE);
            let db = open(&store).await;
            (store, db)
        });
        let (store, db) = opened.await.unwrap();
        let db = db.unwrap_or_else(|error| panic!("a healthy volume is refused: {error:?}"));
        assert_eq!(store.log_fault(), None);
        Mount {
            runtime: Some(runtime),
            db: Some(Arc::new(db)),
            store,
        }
    }

    /// Opens, and is killed after this long.
    async fn open_and_kill(bucket: &Bucket, after: Duration) {
        let runtime = Mount::runtime();
        let (url, keys) = (bucket.server.endpoint_url(), Arc::clone(&bucket.keys));
        runtime.spawn(async move {
            let store = SealedObjectStore::new(connect(url).await, keys, CACHE);
            let opened = open(&store).await;
            assert!(opened.is_ok(), "{:?}", store.log_fault());
            std::future::pending::<()>().await;
        });
        tokio::time::sleep(after).await;
        runtime.shutdown_background();
    }

    async fn run<T: Send + 'static, F>(&self, work: impl FnOnce(Arc<Db>) -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let db = Arc::clone(self.db.as_ref().unwrap());
        let running = self.runtime.as_ref().unwrap().spawn(work(db));
        timeout(PATIENCE, running).await.expect("it hangs").unwrap()
    }

    async fn put(&self, row: String) -> Result<(), slatedb::Error> {
        self.run(|db| async move { put(&db, &row).await }).await
    }

    /// Begins to write a row, and is killed after this long.
    async fn put_and_kill(mut self, row: String, after: Duration) {
        let db = self.db.take().unwrap();
        let runtime = self.runtime.take().unwrap();
        runtime.spawn(async move { put(&db, &row).await });
        tokio::time::sleep(after).await;
        runtime.shutdown_background();
    }

    async fn flush_memtable(&self) -> Result<(), slatedb::Error> {
        let options = FlushOptions {
            flush_type: FlushType::MemTable,
        };
        self.run(|db| async move { db.flush_with_options(options).await })
            .await
    }

    async fn collect(&self) {
        let store = Arc::new(self.store.clone());
        let directory = Some(GarbageCollectorDirectoryOptions {
            interval: None,
            min_age: Duration::ZERO,
            dry_run: false,
        });
        let options = GarbageCollectorOptions {
            manifest_options: directory,
            wal_options: directory,
            compacted_options: directory,
            compactions_options: directory,
            wal_fence_options: None,
            detach_options: None,
            ..GarbageCollectorOptions::default()
        };
        self.run(|_| async move {
            let collector = GarbageCollectorBuilder::new("", store)
                .with_options(options)
                .build();
            collector.run_gc_once().await;
        })
        .await;
    }

    async fn close(self) {
        let closed = self.run(|db| async move { db.close().await }).await;
        let fenced = |error: &slatedb::Error| {
            error.kind() == slatedb::ErrorKind::Closed(slatedb::CloseReason::Fenced)
        };
        assert!(
            closed.as_ref().err().is_none_or(fenced),
            "closing: {closed:?}"
        );
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.db = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn check(mount: &Mount, rows: &BTreeSet<String>) {
    assert_eq!(mount.store.log_fault(), None);
    let rows = rows.clone();
    mount
        .run(|db| async move {
            for row in &rows {
                let found = db.get(row).await.unwrap();
                assert!(found.is_some(), "{row} was acknowledged and is gone");
            }
        })
        .await;
}

async fn follow(bucket: &Bucket, rows: &BTreeSet<String>) {
    let store = bucket.sealed(CACHE);
    let reader = DbReader::open(
        "",
        Arc::new(store.clone()),
        DbReaderMode::FollowLatest,
        DbReaderOptions::default(),
    )
    .await
    .unwrap_or_else(|error| panic!("a healthy volume is refused to a follower: {error:?}"));
    for row in rows {
        let found = reader.get(row).await.unwrap();
        assert!(found.is_some(), "a follower misses {row}");
    }
    assert_eq!(store.log_fault(), None);
    reader.close().await.unwrap();
}

fn lossy(seed: u64) -> Faults {
    Faults {
        reset_rate: 0.05,
        error_rate: 0.05,
        seed,
        ..Faults::default()
    }
}

async fn live(seed: u64, steps: u64) {
    let bucket = Bucket::create().await;
    let mut choices = Choices(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut rows = BTreeSet::new();
    let mut mount = Mount::open(&bucket).await;
    // A writer that was taken over and does not know it yet.
    let mut stale: Option<Mount> = None;
    for step in 0..steps {
        let row = format!("row{step:04}");
        let choice = choices.below(20);
        match choice {
            0..8 => {
                mount.put(row.clone()).await.unwrap();
                rows.insert(row);
            }
            8 => mount.flush_memtable().await.unwrap(),
            9 => {
                mount.flush_memtable().await.unwrap();
                mount.collect().await;
            }
            10 => mount.collect().await,
            11 => {
                let new = Mount::open(&bucket).await;
                stale = Some(std::mem::replace(&mut mount, new));
                check(&mount, &rows).await;
            }
            12 => {
                mount.close().await;
                mount = Mount::open(&bucket).await;
            }
            13 | 14 => {
                let after = Duration::from_micros(choices.below(15_000));
                mount.put_and_kill(row, after).await;
                mount = Mount::open(&bucket).await;
                check(&mount, &rows).await;
            }
            15 => {
                drop(mount);
                let after = Duration::from_micros(choices.below(60_000));
                Mount::open_and_kill(&bucket, after).await;
                mount = Mount::open(&bucket).await;
                check(&mount, &rows).await;
            }
            16 => follow(&bucket, &rows).await,
            17 => bucket.server.set_faults(lossy(seed ^ step)),
            18 => bucket.server.set_faults(Faults::default()),
            _ => {
                if let Some(stale) = stale.take() {
                    // It may not be acknowledged, and it must not do harm.
                    assert!(stale.put(row).await.is_err(), "a fenced writer wrote");
                    assert_eq!(stale.store.log_fault(), None);
                }
            }
        }
    }
    bucket.server.set_faults(Faults::default());
    drop(mount);
    let mount = Mount::open(&bucket).await;
    check(&mount, &rows).await;
    follow(&bucket, &rows).await;
    mount.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_takeovers_lost_answers_and_collection_never_look_like_an_attack() {
    // Once with other seeds: for i in $(seq 100); do STRONGROOM_CHAIN_SEED=$i cargo test ...; done
    let seeds = match std::env::var("STRONGROOM_CHAIN_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, 3],
    };
    for seed in seeds {
        eprintln!("seed {seed}");
        live(seed, 60).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_at_any_moment_of_writing_leave_a_volume_that_opens() {
    let bucket = Bucket::create().await;
    let mut choices = Choices(0x5eed);
    let mut rows = BTreeSet::new();
    for round in 0..50 {
        let mount = Mount::open(&bucket).await;
        check(&mount, &rows).await;
        let row = format!("row{round}");
        mount.put(row.clone()).await.unwrap();
        rows.insert(row);
        let after = Duration::from_micros(choices.below(8_000));
        mount.put_and_kill(format!("lost{round}"), after).await;
    }
    let mount = Mount::open(&bucket).await;
    check(&mount, &rows).await;
    mount.close().await;
}
