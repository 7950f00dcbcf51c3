//! SlateDB on the sealed object store: it works, outages are pauses, damage is an error and not a
//! hang.

use std::{sync::Arc, time::Duration};

use slatedb::{Db, config::Settings};
use strongroom::{
    seal::object_store::SealedObjectStore,
    server::{Faults, Outage},
};
use tokio::time::timeout;

use crate::bucket::Bucket;

const CACHE: u64 = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

async fn open(store: SealedObjectStore) -> Result<Db, slatedb::Error> {
    let settings = Settings {
        l0_sst_size_bytes: 1 << 20,
        max_unflushed_bytes: 4 << 20,
        object_store_max_retries: None,
        compactor_options: None,
        garbage_collector_options: None,
        ..Settings::default()
    };
    timeout(
        PATIENCE,
        Db::builder("", Arc::new(store))
            .with_settings(settings)
            .build(),
    )
    .await
    .expect("opening hangs")
}

fn key(i: u32) -> [u8; 4] {
    i.to_be_bytes()
}

fn value(i: u32) -> Vec<u8> {
    let seed = i.wrapping_mul(2_654_435_761).to_le_bytes();
    seed.iter().cycle().take(200).copied().collect()
}

/// A database of 5,000 records of 200 bytes, flushed into tables, closed.
async fn filled(bucket: &Bucket) {
    let db = open(bucket.sealed(CACHE)).await.unwrap();
    for i in 0..5000 {
        db.put(key(i), value(i)).await.unwrap();
    }
    db.flush_with_options(slatedb::config::FlushOptions {
        flush_type: slatedb::config::FlushType::MemTable,
    })
    .await
    .unwrap();
    db.close().await.unwrap();
}

/// Writes and waits until it is in the store.
async fn put(db: &Db, key: &str, value: &str) -> Result<(), slatedb::Error> {
    db.put(key, value).await?.await_durable().await
}

async fn tables(bucket: &Bucket) -> Vec<String> {
    bucket.keys_below("meta/compacted/").await
}

#[tokio::test]
async fn a_database_written_through_the_seal_is_read_back_by_another_process() {
    let bucket = Bucket::create().await;
    filled(&bucket).await;
    let before = bucket.gets();
    let db = open(bucket.sealed(CACHE)).await.unwrap();
    let mut scan = db.scan(..).await.unwrap();
    for i in 0..5000 {
        let entry = scan.next().await.unwrap().unwrap();
        assert!(entry.key == key(i)[..] && entry.value == value(i));
    }
    assert!(scan.next().await.unwrap().is_none());
    drop(scan);
    println!(
        "cold open and scan of {} tables: {} GETs",
        tables(&bucket).await.len(),
        bucket.gets() - before
    );
    assert!(
        bucket.gets() - before < 40,
        "{} GETs",
        bucket.gets() - before
    );
    db.close().await.unwrap();
    assert_eq!(bucket.failures(), 0);
}

#[tokio::test]
async fn a_second_writer_fences_the_first_through_the_seal() {
    let bucket = Bucket::create().await;
    let first = open(bucket.sealed(CACHE)).await.unwrap();
    put(&first, "a", "1").await.unwrap();
    let second = open(bucket.sealed(CACHE)).await.unwrap();
    assert_eq!(second.get(b"a").await.unwrap().unwrap(), "1");
    let refused = timeout(PATIENCE, put(&first, "a", "2"))
        .await
        .expect("the fenced writer hangs");
    assert!(refused.is_err());
    put(&second, "a", "3").await.unwrap();
    second.close().await.unwrap();
}

#[tokio::test]
async fn a_corrupted_table_is_an_error_and_not_a_hang_and_the_rest_reads_on() {
    let bucket = Bucket::create().await;
    filled(&bucket).await;
    // A frame in the middle of the first table's data.
    let table = tables(&bucket).await.remove(0);
    bucket
        .change(&table, |bytes| bytes[128 + 20 * 16400 + 5] ^= 1)
        .await;
    let db = open(bucket.sealed(CACHE)).await.unwrap();
    let (mut good, mut bad) = (0, 0);
    for i in (0..5000).step_by(50) {
        match timeout(PATIENCE, db.get(key(i)))
            .await
            .expect("a read of a damaged table hangs")
        {
            Ok(found) => {
                assert_eq!(found.unwrap(), value(i));
                good += 1;
            }
            Err(_) => bad += 1,
        }
    }
    assert!(good > 20 && bad > 0, "{good} good, {bad} bad");
    assert!(bucket.failures() > 0);
    timeout(PATIENCE, put(&db, "new", "value"))
        .await
        .expect("a write hangs")
        .unwrap();
    assert_eq!(db.get(b"new").await.unwrap().unwrap(), "value");
    timeout(PATIENCE, db.close())
        .await
        .expect("closing hangs")
        .unwrap();
}

#[tokio::test]
async fn whatever_is_done_to_the_tables_ends_in_an_error() {
    for what in ["header", "truncated", "emptied", "swapped", "missing"] {
        let bucket = Bucket::create().await;
        filled(&bucket).await;
        let names = tables(&bucket).await;
        match what {
            "header" => bucket.change(&names[0], |bytes| bytes[60] ^= 1).await,
            "truncated" => {
                bucket
                    .change(&names[0], |bytes| bytes.truncate(128 + 16400))
                    .await
            }
            "emptied" => bucket.write(&names[0], Vec::new()).await,
            "missing" => bucket.store.delete(&names[..1]).await.unwrap(),
            _ => {
                let (a, b) = (
                    bucket.read(&names[0]).await,
                    bucket.read("meta/wal/00000000000000000001.sst").await,
                );
                bucket.write(&names[0], b).await;
                bucket.write("meta/wal/00000000000000000001.sst", a).await;
            }
        }
        let Ok(db) = open(bucket.sealed(CACHE)).await else {
            continue;
        };
        let mut failed = 0;
        for i in (0..5000).step_by(250) {
            match timeout(PATIENCE, db.get(key(i)))
                .await
                .expect("a read hangs")
            {
                Ok(found) => assert_eq!(
                    found.expect("a record is silently gone"),
                    value(i),
                    "{what}"
                ),
                Err(_) => failed += 1,
            }
        }
        assert!(failed > 0, "{what}");
    }
}

#[tokio::test]
async fn a_damaged_manifest_or_log_refuses_to_open() {
    for (prefix, last) in [("meta/manifest/", true), ("meta/wal/", false)] {
        let bucket = Bucket::create().await;
        let db = open(bucket.sealed(CACHE)).await.unwrap();
        put(&db, "a", "1").await.unwrap();
        // Not closed: the log is what there is of the record.
        let mut keys = bucket.keys_below(prefix).await;
        let names: Vec<String> = if last {
            keys.split_off(keys.len() - 1)
        } else {
            keys
        };
        for name in names {
            bucket
                .change(&name, |bytes| *bytes.last_mut().unwrap() ^= 1)
                .await;
        }
        let opened = open(bucket.sealed(CACHE)).await;
        assert!(opened.is_err(), "{prefix}");
        assert!(bucket.failures() > 0);
    }
}

#[tokio::test]
async fn an_outage_is_a_pause() {
    let bucket = Bucket::create().await;
    let db = open(bucket.sealed(CACHE)).await.unwrap();
    put(&db, "a", "1").await.unwrap();
    bucket.server.set_faults(Faults {
        outage: Outage::Refuse,
        ..Faults::default()
    });
    let write = put(&db, "b", "2");
    tokio::pin!(write);
    assert!(timeout(Duration::from_secs(2), &mut write).await.is_err());
    bucket.server.set_faults(Faults::default());
    timeout(PATIENCE, write)
        .await
        .expect("it does not go on")
        .unwrap();
    assert_eq!(db.get(b"b").await.unwrap().unwrap(), "2");
    db.close().await.unwrap();
}
