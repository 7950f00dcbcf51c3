//! Compaction and collection over sealed objects on a real server.

use crate::{
    meta::{FileKind, Ino, Meta, MetaConfig, NewInode, Timestamp},
    seal::{
        keys::{VolumeId, VolumeKeys},
        object_store::SealedObjectStore,
    },
    server::{Server, ServerConfig, SyncPolicy},
    store::{Retry, Store, StoreConfig},
    telemetry::Metrics,
};

use super::*;

const CONFIG: MetaConfig = MetaConfig {
    read_only: false,
    memory_bytes: 40 << 20,
};

async fn sealed(server: &Server) -> Arc<SealedObjectStore> {
    let config = StoreConfig {
        url: "s3://bucket/volume".parse().unwrap(),
        endpoint_url: Some(server.endpoint_url()),
        region: None,
        profile: None,
        ca_bundle: None,
        path_style: None,
        stall_timeout: Duration::from_secs(2),
        connections_max: 16,
        retry: Retry::Attempts(3),
    };
    let store = Store::connect(config, Arc::new(Metrics::default()))
        .await
        .unwrap();
    store.create_bucket().await.unwrap();
    Arc::new(SealedObjectStore::new(
        store,
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

#[tokio::test]
async fn compaction_and_collection_leave_the_same_volume_in_fewer_objects() {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "upkeep"),
        ("AWS_SECRET_ACCESS_KEY", "upkeep-secret"),
        ("AWS_CONFIG_FILE", "/dev/null"),
    ] {
        // SAFETY: each test has a process of its own (nextest), and no thread reads the environment yet.
        #[expect(
            unsafe_code,
            reason = "the client takes its credentials from the environment"
        )]
        unsafe {
            std::env::set_var(name, value);
        }
    }
    let directory = tempfile::TempDir::new().unwrap();
    let mut config = ServerConfig::new(
        directory.path().join("s3"),
        "upkeep",
        "upkeep-secret".into(),
    );
    config.sync = SyncPolicy::Never;
    let server = Server::start(config).await.unwrap();
    let store = sealed(&server).await;
    Meta::format(store.clone(), 0, 0).await.unwrap();
    let meta = Meta::open(store.clone(), CONFIG).await.unwrap();
    let Backing::Writer(db) = &meta.inner.backing else {
        panic!("a writer")
    };
    let now = Timestamp {
        seconds: 1,
        nanos: 0,
    };
    for number in 0..60 {
        let new = NewInode {
            kind: FileKind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            rdev: 0,
            target: bytes::Bytes::new(),
            now,
            xattrs: Vec::new(),
        };
        meta.create(Ino::ROOT, format!("f{number}").as_bytes(), new)
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
    collect(store.clone(), settings::COLLECT_AGE_MIN).await;
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
