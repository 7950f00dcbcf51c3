//! The chain of log objects where nothing is wrong: its bytes, its cost, lost answers, takeovers,
//! collection, and volumes of format 1.

use std::sync::Arc;

use slatedb::{DbReader, DbReaderMode, config::DbReaderOptions};
use strongroom::{
    seal::{codec::open_whole, object_store::SealedObjectStore},
    server::Faults,
    store::Retry,
};

use crate::{
    bucket::Bucket,
    log::{
        CACHE, TRAILER_LEN, as_format_1, flush_memtable, healthy, hide, kill, killed, log_key,
        log_numbers, objects, open, put,
    },
};

#[tokio::test]
async fn each_log_object_holds_its_predecessors_commitment_from_the_first_one_on() {
    let bucket = Bucket::create().await;
    let head = killed(&bucket, 5).await;
    let mut before = [0; 32];
    let numbers = log_numbers(&bucket).await;
    assert_eq!(numbers[0], 1);
    assert_eq!(head.number, *numbers.last().unwrap());
    for number in numbers {
        let stored = bucket.read(&log_key(number)).await;
        assert_eq!(stored[8..10], [0, 2], "format of {number}");
        assert_eq!(stored[36..48], before[..12], "link of {number}");
        before = stored[80..112].try_into().unwrap();
    }
    assert_eq!(head.commitment, before);
    for key in bucket.keys_below("meta/manifest/").await {
        let stored = bucket.read(&key).await;
        let plaintext = open_whole(&bucket.keys, &key, &stored).unwrap();
        let position = &plaintext[plaintext.len() - TRAILER_LEN..];
        let number = u64::from_be_bytes(position[..8].try_into().unwrap());
        match number {
            0 => assert_eq!(position[8..], [0; 32]),
            _ => {
                let noted = bucket.read(&log_key(number)).await;
                assert_eq!(position[8..], noted[80..112], "{key}");
            }
        }
    }
}

#[tokio::test]
async fn a_volume_of_format_1_opens_and_is_chained_from_its_end_on() {
    for collected in [false, true] {
        let bucket = Bucket::create().await;
        let store = bucket.sealed(CACHE);
        let db = open(&store).await.unwrap();
        for i in 0..4 {
            put(&db, &format!("row{i}")).await.unwrap();
        }
        if collected {
            flush_memtable(&db).await;
        }
        db.close().await.unwrap();
        for (key, stored) in objects(&bucket).await {
            bucket
                .write(&key, as_format_1(&bucket, &key, &stored))
                .await;
        }
        let end = *log_numbers(&bucket).await.last().unwrap();
        if collected {
            let log: Vec<String> = bucket.keys_below("meta/wal/").await;
            hide(&bucket, &log).await;
        }
        for round in 0..3 {
            let store = bucket.sealed(CACHE);
            let db = open(&store).await.unwrap();
            assert!(db.get("row3").await.unwrap().is_some());
            put(&db, &format!("new{round}")).await.unwrap();
            assert_eq!(store.log_fault(), None);
            kill(db);
        }
        let all = log_numbers(&bucket).await;
        assert_eq!(*all.last().unwrap(), end + 6);
        let mut before: Option<Vec<u8>> = None;
        for number in all {
            let stored = bucket.read(&log_key(number)).await;
            match (before, number > end) {
                (Some(before), true) => assert_eq!(stored[36..48], before[80..92]),
                (_, linked) => assert_eq!(stored[36..48], [0; 12], "{number} {linked}"),
            }
            before = Some(stored);
        }
        // From here on it is a chain like any other.
        let original = objects(&bucket).await;
        let key = log_key(end + 3);
        bucket
            .write(&key, as_format_1(&bucket, &key, &original[&key]))
            .await;
        let store = bucket.sealed(CACHE);
        assert!(open(&store).await.is_err());
        let fault = store.log_fault().unwrap();
        assert!((end + 3..=end + 4).contains(&fault.number()), "{fault:?}");
    }
}

/// A reader of the log that waits for long and reads on has not seen the objects that were
/// collected meanwhile: they are not missing.
#[tokio::test]
async fn what_was_collected_while_somebody_waited_is_not_missing() {
    let bucket = Bucket::create().await;
    let waiting = bucket.sealed(CACHE);
    let reader = || {
        DbReader::open(
            "",
            Arc::new(waiting.clone()),
            DbReaderMode::FollowLatest,
            DbReaderOptions::default(),
        )
    };
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    put(&db, "a").await.unwrap();
    reader().await.unwrap().close().await.unwrap();
    let seen = waiting.log_head().unwrap().number;
    for i in 0..5 {
        put(&db, &format!("row{i}")).await.unwrap();
    }
    flush_memtable(&db).await;
    let flushed = *log_numbers(&bucket).await.last().unwrap();
    put(&db, "after").await.unwrap();
    kill(db);
    let collected: Vec<String> = (1..=flushed).map(log_key).collect();
    hide(&bucket, &collected).await;
    assert!(seen + 1 < flushed);
    let follower = reader().await.unwrap();
    assert!(follower.get("after").await.unwrap().is_some());
    follower.close().await.unwrap();
    let db = open(&waiting).await.unwrap();
    put(&db, "on").await.unwrap();
    assert_eq!(waiting.log_fault(), None);
    kill(db);
    healthy(&bucket, &["row4".into(), "after".into(), "on".into()]).await;
}

#[tokio::test]
async fn fifty_lost_requests_and_answers_of_log_objects_do_not_break_the_chain() {
    let bucket = Bucket::create().await;
    // Some are tried again by the client, and some by SlateDB, which is a new call.
    let store = SealedObjectStore::new(
        bucket.store.with_retry(Retry::Attempts(2)),
        Arc::clone(&bucket.keys),
        CACHE,
    );
    let db = open(&store).await.unwrap();
    bucket.server.set_faults(Faults {
        reset_rate: 0.4,
        seed: 7,
        ..Faults::default()
    });
    let puts = &bucket.store.metrics().put_requests;
    let before = puts.get();
    let mut rows: Vec<String> = Vec::new();
    while puts.get() < before + rows.len() as u64 + 50 {
        let row = format!("row{}", rows.len());
        put(&db, &row).await.unwrap();
        rows.push(row);
    }
    bucket.server.set_faults(Faults::default());
    assert_eq!(store.log_fault(), None);
    kill(db);
    healthy(&bucket, &rows).await;
}

#[tokio::test]
async fn a_writer_that_was_fenced_off_hears_just_that_and_its_object_is_not_in_the_chain() {
    let bucket = Bucket::create().await;
    let (first, second) = (bucket.sealed(CACHE), bucket.sealed(CACHE));
    let old = open(&first).await.unwrap();
    put(&old, "a").await.unwrap();
    let before = first.log_head().unwrap();
    let new = open(&second).await.unwrap();
    let error = put(&old, "b").await.unwrap_err();
    assert_eq!(
        error.kind(),
        slatedb::ErrorKind::Closed(slatedb::CloseReason::Fenced),
        "{error}"
    );
    assert_eq!(first.log_fault(), None);
    let fence = first.log_head().unwrap();
    assert_eq!(fence.number, before.number + 1, "the fence was read");
    assert_eq!(second.log_head(), Some(fence));
    put(&new, "c").await.unwrap();
    assert_eq!(second.log_head().unwrap().number, before.number + 2);
    kill(old);
    kill(new);
    healthy(&bucket, &["a".into(), "c".into()]).await;
}

#[tokio::test]
async fn the_chain_costs_one_listing_a_mount_and_no_request_afterwards() {
    let bucket = Bucket::create().await;
    killed(&bucket, 3).await;
    let count = |what: &str| bucket.server.stats().count(what);
    let before = (count("GetObject"), count("ListObjectsV2"));
    let db = open(&bucket.sealed(CACHE)).await.unwrap();
    let opened = (count("GetObject"), count("ListObjectsV2"));
    eprintln!(
        "opening: {} GETs, {} LISTs",
        opened.0 - before.0,
        opened.1 - before.1
    );
    let puts = count("PutObject");
    for i in 0..20 {
        put(&db, &format!("more{i}")).await.unwrap();
    }
    assert_eq!(count("PutObject") - puts, 20);
    // SlateDB looks at the manifest now and then.
    assert!(count("GetObject") - opened.0 <= 3);
    assert!(count("ListObjectsV2") - opened.1 <= 3);
    assert_eq!(count("HeadObject"), 0);
    kill(db);
}
