//! The cache of the sealed object store: requests, bounds, and readers that give up.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStoreExt;
use strongroom::seal::object_store::SealedObjectStore;

use crate::{
    bucket::{Bucket, CACHE, read_all, table},
    support::random::pattern,
};

/// A bucket with one table of these bytes, and a store that has read nothing of it.
async fn cold_table(contents: Bytes) -> (Bucket, SealedObjectStore) {
    let bucket = Bucket::create().await;
    let put = bucket.sealed(0).put(&table(1), contents.into()).await;
    put.unwrap();
    let store = bucket.sealed(CACHE);
    (bucket, store)
}

#[tokio::test]
async fn reading_a_table_block_by_block_takes_a_request_for_each_chunk_at_most() {
    let bucket = Bucket::create().await;
    let plaintext = pattern(1_500_000);
    bucket
        .sealed(0)
        .put(&table(1), plaintext.clone().into())
        .await
        .unwrap();
    let store = bucket.sealed(CACHE);
    let before = bucket.gets();
    // As SlateDB does: the length, the end, then blocks of 4 KiB from the start.
    assert_eq!(store.head(&table(1)).await.unwrap().size, 1_500_000);
    store
        .get_range(&table(1), 1_499_000..1_500_000)
        .await
        .unwrap();
    assert_eq!(
        bucket.gets() - before,
        2,
        "length, first chunk and last chunk"
    );
    for start in (0..1_500_000_u64).step_by(4096) {
        let end = (start + 4096).min(1_500_000);
        let block = store.get_range(&table(1), start..end).await.unwrap();
        assert!(block == plaintext[start as usize..end as usize]);
    }
    let gets = bucket.gets() - before;
    assert!(gets <= 6, "{gets} requests for 1.5 MB");
    read_all(&store, &table(1)).await;
    assert_eq!(bucket.gets() - before, gets, "all of it is in the cache");
}

#[tokio::test]
async fn a_small_table_is_one_request() {
    let (bucket, store) = cold_table(pattern(200_000)).await;
    let before = bucket.gets();
    store.head(&table(1)).await.unwrap();
    for start in (0..190_000).step_by(5_000) {
        store
            .get_range(&table(1), start..start + 5_000)
            .await
            .unwrap();
    }
    assert_eq!(bucket.gets() - before, 1);
}

#[tokio::test]
async fn many_readers_of_one_chunk_cause_one_request() {
    let (bucket, store) = cold_table(pattern(1_000_000)).await;
    let before = bucket.gets();
    let readers = (0..64_u64).map(|i| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .get_range(&table(1), 300_000 + i..301_000)
                .await
                .unwrap()
                .len()
        })
    });
    futures::future::join_all(readers).await;
    assert_eq!(
        bucket.gets() - before,
        3,
        "first chunk, last chunk, the one that all wanted"
    );
}

#[tokio::test]
async fn the_cache_keeps_to_its_bound() {
    let bucket = Bucket::create().await;
    let max = 1 << 20;
    let store = bucket.sealed(max);
    for i in 0..20 {
        store.put(&table(i), pattern(400_000).into()).await.unwrap();
    }
    for i in 0..40 {
        assert!(read_all(&store, &table(i % 20)).await == pattern(400_000));
        assert!(store.cached_bytes() <= max);
    }
    assert!(store.cached_bytes() > max / 2);
}

#[tokio::test]
async fn a_table_replaced_behind_the_cache_is_read_as_the_new_one() {
    let bucket = Bucket::create().await;
    let writer = bucket.sealed(CACHE);
    for len in [1_500_000, 800_000] {
        writer
            .put(&table(1), pattern(1_500_000).into())
            .await
            .unwrap();
        let reader = bucket.sealed(CACHE);
        reader.get_range(&table(1), 0..10).await.unwrap();
        writer.put(&table(1), vec![7; len].into()).await.unwrap();
        // A chunk that is not in the cache: the opener that is does not fit it.
        assert!(reader.get_range(&table(1), 600_000..600_020).await.unwrap() == vec![7; 20]);
        assert_eq!(reader.head(&table(1)).await.unwrap().size, len as u64);
        assert!(
            reader.get_range(&table(1), 0..20).await.unwrap() == vec![7; 20],
            "nothing of the old one is mixed in"
        );
    }
    assert_eq!(bucket.failures(), 0);
}

#[tokio::test]
async fn a_reader_that_gives_up_leaves_nobody_waiting() {
    let bucket = Bucket::create().await;
    bucket
        .sealed(0)
        .put(&table(1), pattern(1_000_000).into())
        .await
        .unwrap();
    let store = Arc::new(bucket.sealed(CACHE));
    bucket.server.set_faults(strongroom::server::Faults {
        latency: std::time::Duration::from_millis(100),
        ..Default::default()
    });
    let path = table(1);
    for _ in 0..5 {
        let reader = store.get_range(&path, 300_000..300_010);
        assert!(
            tokio::time::timeout(std::time::Duration::from_millis(20), reader)
                .await
                .is_err()
        );
    }
    let got = tokio::time::timeout(
        std::time::Duration::from_secs(5),
        store.get_range(&path, 300_000..300_010),
    )
    .await;
    assert!(got.unwrap().unwrap() == pattern(1_000_000)[300_000..300_010]);
}

#[tokio::test]
async fn what_a_reader_gave_up_on_is_there_for_the_next_one() {
    let (bucket, store) = cold_table(pattern(1_000_000)).await;
    store.head(&table(1)).await.unwrap();
    let before = bucket.gets();
    bucket.server.set_faults(strongroom::server::Faults {
        latency: std::time::Duration::from_millis(200),
        ..Default::default()
    });
    let path = table(1);
    for _ in 0..5 {
        let reader = store.get_range(&path, 300_000..300_010);
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(20), reader).await;
        assert!(given_up.is_err());
    }
    let got = store.get_range(&path, 300_000..300_010).await.unwrap();
    assert!(got == pattern(1_000_000)[300_000..300_010]);
    assert_eq!(bucket.gets() - before, 1);
}
