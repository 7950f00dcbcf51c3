//! A log of metadata in a bucket: opened, written, hidden, shown again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use slatedb::{
    Db,
    config::{FlushOptions, FlushType, Settings},
};
use strongroom::seal::{
    codec::{META_FRAME_LOG2, ObjectKind, open_whole, seal_whole},
    object_store::{LogFault, LogPosition, SealedObjectStore},
};
use tokio::time::timeout;

use crate::bucket::Bucket;

pub const CACHE: u64 = 1 << 20;

pub const PATIENCE: Duration = Duration::from_secs(30);

/// The end of a manifest of format 2: number and commitment of a log object.
pub const TRAILER_LEN: usize = 40;

pub fn log_key(number: u64) -> String {
    format!("meta/wal/{number:020}.sst")
}

pub async fn open(store: &SealedObjectStore) -> Result<Db, slatedb::Error> {
    let settings = Settings {
        flush_interval: None,
        object_store_max_retries: None,
        // Nothing is compacted.
        l0_max_ssts: 1000,
        l0_max_ssts_per_key: 1000,
        compactor_options: None,
        garbage_collector_options: None,
        ..Settings::default()
    };
    let builder = Db::builder("", Arc::new(store.clone())).with_settings(settings);
    timeout(PATIENCE, builder.build())
        .await
        .expect("opening hangs")
}

/// Writes one row as one log object.
pub async fn put(db: &Db, name: &str) -> Result<(), slatedb::Error> {
    db.put(name, name).await?;
    let options = FlushOptions {
        flush_type: FlushType::Wal,
    };
    timeout(PATIENCE, db.flush_with_options(options))
        .await
        .expect("a flush hangs")
}

pub async fn flush_memtable(db: &Db) {
    let options = FlushOptions {
        flush_type: FlushType::MemTable,
    };
    db.flush_with_options(options).await.unwrap();
}

/// A mount that is killed.
pub fn kill(db: Db) {
    drop(db);
}

pub async fn log_numbers(bucket: &Bucket) -> Vec<u64> {
    let keys = bucket.keys_below("meta/wal/").await;
    let number = |key: &String| key["meta/wal/".len()..][..20].parse().unwrap();
    keys.iter().map(number).collect()
}

pub type Objects = BTreeMap<String, Vec<u8>>;

pub async fn objects(bucket: &Bucket) -> Objects {
    let mut objects = Objects::new();
    for key in bucket.keys_below("meta/").await {
        let stored = bucket.read(&key).await;
        objects.insert(key, stored);
    }
    objects
}

pub async fn show(bucket: &Bucket, objects: &Objects) {
    for (key, stored) in objects {
        bucket.write(key, stored.clone()).await;
    }
}

pub async fn hide(bucket: &Bucket, keys: &[String]) {
    bucket.store.delete(keys).await.unwrap();
}

/// Hides so many of the newest log objects; the number of the first of them.
pub async fn hide_newest(bucket: &Bucket, head: LogPosition, hidden: u64) -> u64 {
    let first = head.number - hidden + 1;
    let keys: Vec<String> = (first..=head.number).map(log_key).collect();
    hide(bucket, &keys).await;
    first
}

/// A mount that writes rows and is killed.
pub async fn write_and_kill(bucket: &Bucket, name: &str, rows: usize) {
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    for i in 0..rows {
        put(&db, &format!("{name}{i}")).await.unwrap();
    }
    kill(db);
}

pub async fn show_only(bucket: &Bucket, all: &Objects) {
    let others: Vec<String> = bucket.keys_below("meta/").await;
    hide(bucket, &others).await;
    show(bucket, all).await;
}

/// A volume whose last mount was killed after it had written these rows, and its newest log object.
pub async fn killed(bucket: &Bucket, rows: usize) -> LogPosition {
    let store = bucket.sealed(CACHE);
    let db = open(&store).await.unwrap();
    put(&db, "old").await.unwrap();
    db.close().await.unwrap();
    let store = bucket.sealed(CACHE);
    let db = open(&store).await.unwrap();
    for i in 0..rows {
        put(&db, &format!("row{i}")).await.unwrap();
    }
    kill(db);
    store.log_head().unwrap()
}

/// Opening fails for the log, names the object, and adds nothing to the log.
pub async fn refused(bucket: &Bucket, what: &str) -> LogFault {
    let store = bucket.sealed(CACHE);
    let before = log_numbers(bucket).await;
    let opened = open(&store).await;
    let error = opened.err().unwrap_or_else(|| panic!("{what}: opened"));
    let fault = store
        .log_fault()
        .unwrap_or_else(|| panic!("{what}: refused for another reason: {error}"));
    let chain = format!("{error:?}");
    assert!(
        chain.contains(&log_key(fault.number())),
        "{what}: {chain} does not name the object"
    );
    assert_eq!(log_numbers(bucket).await, before, "{what}");
    fault
}

pub async fn healthy(bucket: &Bucket, rows: &[String]) {
    let store = bucket.sealed(CACHE);
    let db = open(&store).await.unwrap();
    for row in rows {
        assert!(db.get(row).await.unwrap().is_some(), "{row} is gone");
    }
    assert_eq!(store.log_fault(), None);
    kill(db);
}

/// The plaintext of a log object sealed without a link, as an older program would have done it.
pub fn as_format_1(bucket: &Bucket, key: &str, stored: &[u8]) -> Vec<u8> {
    let mut plaintext = open_whole(&bucket.keys, key, stored).unwrap();
    if key.starts_with("meta/manifest/") && stored[9] == 2 {
        plaintext.truncate(plaintext.len() - TRAILER_LEN);
    }
    seal_whole(
        &bucket.keys,
        ObjectKind::Metadata,
        META_FRAME_LOG2,
        key,
        &plaintext,
    )
}
