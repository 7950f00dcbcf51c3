//! Compaction and collection over sealed objects on a real server.

use std::sync::Arc;

use slatedb::{
    config::{FlushOptions, FlushType},
    object_store::ObjectStore,
};
use tokio_util::sync::CancellationToken;

use crate::{
    meta::{
        FileKind, Ino, Meta, MetaConfig, NewInode, Timestamp,
        database::{
            compaction::{collect, compact},
            settings::Sizes,
        },
    },
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    server::{Server, ServerConfig, SyncPolicy},
    store::{Condition, Rates, Retry, Store, StoreConfig},
    telemetry::Metrics,
};

use super::*;

const CONFIG: MetaConfig = MetaConfig {
    read_only: false,
    follow_every: Duration::from_secs(1),
    memory_bytes: 40 << 20,
};

async fn connected(server: &Server) -> Store {
    let config = StoreConfig {
        url: "s3://bucket/volume".parse().unwrap(),
        endpoint_url: Some(server.endpoint_url()),
        region: None,
        profile: None,
        ca_bundle: None,
        path_style: None,
        stall_timeout: Duration::from_secs(2),
        connections_max: 16,
        rates: Rates::default(),
        retry: Retry::Attempts(3),
    };
    let store = Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap();
    store.create_bucket().await.unwrap();
    store
}

async fn sealed(server: &Server) -> Arc<SealedObjectStore> {
    Arc::new(SealedObjectStore::new(
        connected(server).await,
        VolumeKeys::generate(VolumeId([1; 16])),
        1 << 20,
    ))
}

async fn objects(store: &SealedObjectStore) -> usize {
    use futures::TryStreamExt;
    store
        .list(None)
        .try_collect::<Vec<_>>()
        .await
        .unwrap()
        .len()
}

/// A server, and the credentials for it in the environment.
async fn server(directory: &std::path::Path) -> Server {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "upkeep"),
        ("AWS_SECRET_ACCESS_KEY", "upkeep-secret"),
        ("AWS_CONFIG_FILE", "/dev/null"),
    ] {
        // SAFETY: each test has a process of its own (nextest), and no thread reads the environment
        // yet.
        #[expect(
            unsafe_code,
            reason = "the client takes its credentials from the environment"
        )]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    let mut config = ServerConfig::new(directory.join("s3"), "upkeep", "upkeep-secret".into());
    config.sync = SyncPolicy::Never;
    Server::start(config).await.unwrap()
}

fn new_file() -> NewInode {
    NewInode {
        kind: FileKind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: bytes::Bytes::new(),
        now: Timestamp {
            seconds: 1,
            nanos: 0,
        },
        xattrs: Vec::new(),
    }
}

/// Each close writes a table, and no mount lives long enough for the usual compaction.
#[tokio::test]
async fn many_short_mounts_in_a_row_all_close() {
    let directory = tempfile::TempDir::new().unwrap();
    let server = server(directory.path()).await;
    let store = sealed(&server).await;
    Meta::format(store.clone(), 0, 0).await.unwrap();
    for number in 0..3 * L0_MAX {
        let meta = Meta::open(store.clone(), CONFIG).await.unwrap();
        meta.create(Ino::ROOT, format!("f{number}").as_bytes(), new_file())
            .await
            .unwrap();
        tokio::time::timeout(Duration::from_secs(10), meta.close())
            .await
            .unwrap_or_else(|_| panic!("close {number} does not end"))
            .unwrap();
    }
    let meta = Meta::open(store, CONFIG).await.unwrap();
    for number in 0..3 * L0_MAX {
        let name = format!("f{number}");
        assert!(
            meta.lookup(Ino::ROOT, name.as_bytes())
                .await
                .unwrap()
                .is_some()
        );
    }
    meta.close().await.unwrap();
}

#[tokio::test]
async fn compaction_and_collection_leave_the_same_volume_in_fewer_objects() {
    let directory = tempfile::TempDir::new().unwrap();
    let server = server(directory.path()).await;
    let store = sealed(&server).await;
    Meta::format(store.clone(), 0, 0).await.unwrap();
    let meta = Meta::open(store.clone(), CONFIG).await.unwrap();
    let Backing::Writer(db) = &meta.inner.backing else {
        panic!("a writer")
    };
    for number in 0..60 {
        meta.create(Ino::ROOT, format!("f{number}").as_bytes(), new_file())
            .await
            .unwrap();
        if number % 10 == 9 {
            db.flush_with_options(FlushOptions {
                flush_type: FlushType::MemTable,
            })
            .await
            .unwrap();
        }
    }
    assert!(db.manifest().l0().len() >= COMPACT_L0_MIN);
    let sizes = Sizes::for_memory(CONFIG.memory_bytes);
    let compacted = compact(db, store.clone(), &sizes, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(compacted, Outcome::Done);
    assert!(db.manifest().l0().len() < COMPACT_L0_MIN && db.manifest().compacted().len() == 1);
    assert_eq!(
        compact(db, store.clone(), &sizes, &CancellationToken::new())
            .await
            .unwrap(),
        Outcome::Useless
    );

    let before = objects(&store).await;
    collect(store.clone(), COLLECT_AGE_MIN).await;
    assert!(objects(&store).await >= before, "all of it is young");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    collect(store.clone(), Duration::ZERO).await;
    assert!(objects(&store).await < before);
    meta.close().await.unwrap();
    let meta = Meta::open(store, CONFIG).await.unwrap();
    assert_eq!(meta.read_dir(Ino::ROOT, 0, 100).await.unwrap().len(), 60);
    meta.close().await.unwrap();
    server.shutdown().await;
}

#[tokio::test]
async fn upkeep_that_keeps_failing_is_told_until_it_succeeds() {
    let directory = tempfile::TempDir::new().unwrap();
    let server = server(directory.path()).await;
    let store = sealed(&server).await;
    Meta::format(store.clone(), 0, 0).await.unwrap();
    let meta = Meta::open(store, CONFIG).await.unwrap();
    let (Backing::Writer(db), Some(upkeep)) = (&meta.inner.backing, meta.inner.upkeep()) else {
        panic!("a writer")
    };
    let compact = async || upkeep.begin(Job::Compact, db.clone()).await.unwrap();
    // Another volume's mount writes below the same prefix: the newest manifest is not ours.
    let bucket = connected(&server).await;
    let manifests = bucket.list_page("meta/manifest/", None).await.unwrap();
    let strays = [format!(
        "meta/manifest/{:020}.manifest",
        manifests.len() + 1
    )];
    let stray = vec![bytes::Bytes::from_static(b"no object of this volume")];
    let put = bucket.put(&strays[0], stray, Condition::None, &[]);
    put.await.unwrap();
    compact().await;
    assert_eq!(meta.upkeep_trouble(), None, "once is no trouble");
    for times in 2..4 {
        compact().await;
        let told = meta.upkeep_trouble().expect("trouble");
        assert!(told.contains(&format!("failed {times} times")), "{told}");
    }
    bucket.delete(&strays).await.unwrap();
    compact().await;
    assert_eq!(meta.upkeep_trouble(), None);
    meta.close().await.unwrap();
    server.shutdown().await;
}

#[test]
fn who_stops_writing_leaves_no_garbage_for_good() {
    let opened = Instant::now();
    let after = |seconds| opened + Duration::from_secs(seconds);
    let mut garbage = Garbage::new(7, opened);
    assert!(!garbage.is_due(7, after(3600)), "nothing was written");
    garbage.made(after(20));
    assert!(!garbage.is_due(9, after(30)), "too early");
    assert!(garbage.is_due(9, after(61)));
    // A compaction after the last write. What it replaced is too young for the collection above.
    garbage.made(after(65));
    let mut due = (70..7200)
        .step_by(2)
        .filter(|seconds| garbage.is_due(9, after(*seconds)));
    let last = due.next().expect("another collection");
    assert!((65 + 15 * 60..65 + 17 * 60).contains(&last), "{last}");
    assert_eq!(due.next(), None, "nothing is left");
}

#[test]
fn the_last_collection_waits_for_no_other() {
    let opened = Instant::now();
    let after = |seconds| opened + Duration::from_secs(seconds);
    let mut garbage = Garbage::new(7, opened);
    assert!(garbage.is_due(8, after(61)));
    garbage.made(after(663));
    assert!(garbage.is_due(9, after(1261)), "the regular one");
    // Another regular one could come at 1861 only.
    let last = (1262..7200).find(|seconds| garbage.is_due(9, after(*seconds)));
    assert_eq!(last, Some(663 + 15 * 60 + 10));
}
