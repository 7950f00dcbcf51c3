//! Changes that a provider can make to single objects: none of them is returned as content.

use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use slatedb_common::retry::should_retry;
use strongroom::seal::{
    SealError,
    codec::{META_FRAME_LOG2, ObjectKind, seal_whole},
};

use crate::{
    bucket::{Bucket, assert_missing, read_all},
    support::random::pattern,
};

const STORED_FRAME: usize = 16384 + 16;

/// The error inside, and that SlateDB gives up on it at once.
fn refused<T: std::fmt::Debug>(result: object_store::Result<T>, what: &str) -> String {
    let error = result.expect_err(what);
    assert!(!should_retry(&error), "{what}: {error}");
    let mut source: &(dyn std::error::Error + 'static) = &error;
    while let Some(next) = source.source() {
        source = next;
    }
    assert!(source.is::<SealError>(), "{what}: {error}");
    source.to_string()
}

/// A bucket with one object of so many bytes.
async fn stored(path: &str, len: usize) -> (Bucket, Path) {
    let bucket = Bucket::create().await;
    let path = Path::from(path);
    let put = bucket.sealed(0).put(&path, pattern(len).into()).await;
    put.unwrap();
    (bucket, path)
}

#[tokio::test]
async fn every_kind_of_damage_is_refused_for_good_and_counted() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 12] = [
        ("magic", |bytes| bytes[0] ^= 1),
        ("volume", |bytes| bytes[20] ^= 1),
        ("epoch", |bytes| bytes[35] ^= 2),
        ("salt", |bytes| bytes[50] ^= 1),
        ("commitment", |bytes| bytes[100] ^= 1),
        ("first frame", |bytes| bytes[128] ^= 1),
        ("last byte", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("truncated to nothing", |bytes| bytes.clear()),
        ("truncated to its header", |bytes| bytes.truncate(128)),
        ("truncated after a frame", |bytes| {
            bytes.truncate(128 + STORED_FRAME)
        }),
        ("two frames swapped", |bytes| {
            let (a, b) = bytes[128..128 + 2 * STORED_FRAME].split_at_mut(STORED_FRAME);
            a.swap_with_slice(b);
        }),
        ("a frame put on at the end", |bytes| {
            bytes.extend_from_within(128..128 + STORED_FRAME)
        }),
    ];
    let bucket = Bucket::create().await;
    for (i, len) in [40_000, 1_000_000].into_iter().enumerate() {
        for path in [
            format!("compacted/{i}.sst"),
            format!("manifest/{i}.manifest"),
        ] {
            let (key, path) = (format!("meta/{path}"), Path::from(path));
            bucket
                .sealed(0)
                .put(&path, pattern(len).into())
                .await
                .unwrap();
            let good = bucket.read(&key).await;
            for (what, damage) in damages {
                bucket.change(&key, damage).await;
                let store = bucket.sealed(1 << 20);
                let before = bucket.failures();
                refused(store.head(&path).await, what);
                refused(store.get(&path).await.map(|got| got.meta), what);
                refused(store.get_range(&path, 0..10).await, what);
                assert_eq!(bucket.failures() - before, 3, "{what}");
                bucket.write(&key, good.clone()).await;
                assert!(
                    read_all(&store, &path).await == pattern(len),
                    "{what}: mended again"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_bad_frame_in_the_middle_names_itself_and_harms_no_other_chunk() {
    let (bucket, path) = stored("compacted/1.sst", 1_000_000).await;
    bucket
        .change("meta/compacted/1.sst", |bytes| {
            bytes[128 + 20 * STORED_FRAME + 77] ^= 0x80
        })
        .await;
    let store = bucket.sealed(8 << 20);
    assert!(store.get_range(&path, 0..1000).await.unwrap() == pattern(1_000_000)[..1000]);
    assert!(
        store.get_range(&path, 900_000..900_100).await.unwrap()
            == pattern(1_000_000)[900_000..900_100]
    );
    let why = refused(
        store.get_range(&path, 300_000..300_010).await,
        "frame 20 is in the second chunk",
    );
    assert_eq!(
        why,
        "object meta/compacted/1.sst: frame 20 does not authenticate"
    );
    // And again: nothing of it was kept.
    refused(store.get_range(&path, 262_144..262_145).await, "still bad");
    refused(store.get(&path).await.map(|_| ()), "the whole needs it");
}

#[tokio::test]
async fn a_table_truncated_behind_the_cache_is_an_error_and_not_a_short_read() {
    let (bucket, path) = stored("compacted/1.sst", 1_000_000).await;
    let store = bucket.sealed(8 << 20);
    store.get_range(&path, 0..1000).await.unwrap();
    bucket
        .change("meta/compacted/1.sst", |bytes| {
            bytes.truncate(128 + 30 * STORED_FRAME)
        })
        .await;
    refused(
        store.get_range(&path, 300_000..300_010).await,
        "the chunk itself is whole, the object is not",
    );
    refused(
        store.get_range(&path, 600_000..600_010).await,
        "past the new end",
    );
}

#[tokio::test]
async fn a_length_that_the_store_made_up_is_not_believed() {
    // SlateDB takes a WAL object of no bytes for a fence: a truncated one must not look like that.
    let (bucket, path) = stored("wal/00000000000000000001.sst", 5_000).await;
    bucket
        .change("meta/wal/00000000000000000001.sst", |bytes| {
            bytes.truncate(128 + 16)
        })
        .await;
    refused(
        bucket.sealed(1 << 20).head(&path).await,
        "144 bytes are what an empty object has",
    );
}

#[tokio::test]
async fn objects_at_another_path_of_another_volume_or_of_another_kind_do_not_open() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(1 << 20);
    let (one, two) = (Path::from("wal/1.sst"), Path::from("wal/2.sst"));
    store.put(&one, "first".into()).await.unwrap();
    store.put(&two, "second".into()).await.unwrap();
    let (first, second) = (
        bucket.read("meta/wal/1.sst").await,
        bucket.read("meta/wal/2.sst").await,
    );
    bucket.write("meta/wal/1.sst", second).await;
    bucket.write("meta/wal/2.sst", first).await;
    for path in [&one, &two] {
        let why = refused(store.get(path).await.map(|_| ()), "swapped");
        assert!(why.contains("moved or swapped"), "{why}");
    }

    let other = Bucket::create().await;
    other.sealed(0).put(&one, "first".into()).await.unwrap();
    bucket
        .write("meta/wal/1.sst", other.read("meta/wal/1.sst").await)
        .await;
    assert!(
        refused(store.get(&one).await.map(|_| ()), "another volume")
            .ends_with("belongs to another volume")
    );

    let data = seal_whole(
        &bucket.keys,
        ObjectKind::Data,
        META_FRAME_LOG2,
        "meta/wal/1.sst",
        b"first",
    );
    bucket.write("meta/wal/1.sst", data).await;
    refused(store.get(&one).await.map(|_| ()), "another kind");
    bucket
        .write(
            "meta/wal/1.sst",
            b"plaintext put there by somebody".to_vec(),
        )
        .await;
    refused(store.get(&one).await.map(|_| ()), "not sealed");
}

#[tokio::test]
async fn a_missing_object_is_missing_and_an_outage_is_tried_again() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(1 << 20);
    store
        .put(&Path::from("wal/1.sst"), "x".into())
        .await
        .unwrap();
    bucket
        .store
        .delete(&["meta/wal/1.sst".to_owned()])
        .await
        .unwrap();
    assert_missing(store.get(&Path::from("wal/1.sst")).await);
    bucket.server.set_faults(strongroom::server::Faults {
        outage: strongroom::server::Outage::Refuse,
        ..Default::default()
    });
    let error = store
        .get_opts(&Path::from("wal/2.sst"), Default::default())
        .await
        .unwrap_err();
    assert!(should_retry(&error), "{error}");
    let error = store
        .put(&Path::from("wal/2.sst"), "x".into())
        .await
        .unwrap_err();
    assert!(should_retry(&error), "{error}");
    assert_eq!(bucket.failures(), 0);
}
