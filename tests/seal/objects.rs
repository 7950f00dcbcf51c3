//! The sealed object store as `object_store` describes it: sizes, ranges, conditions, listings,
//! uploads.

use futures::{StreamExt, TryStreamExt};
use object_store::{
    Attribute, Attributes, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, path::Path,
};

use crate::{
    bucket::{Bucket, CACHE, assert_missing, read_all, table},
    support::random::pattern,
};

const LENGTHS: [usize; 10] = [
    0, 1, 16383, 16384, 16385, 262_143, 262_144, 262_145, 600_000, 1_500_000,
];

#[tokio::test]
async fn lengths_and_contents_are_those_of_the_plaintext_everywhere() {
    let bucket = Bucket::create().await;
    let writer = bucket.sealed(CACHE);
    for (i, len) in LENGTHS.into_iter().enumerate() {
        for path in [table(i), Path::from(format!("manifest/{i:020}.manifest"))] {
            writer.put(&path, pattern(len).into()).await.unwrap();
            for store in [&writer, &bucket.sealed(CACHE), &bucket.sealed(0)] {
                assert_eq!(store.head(&path).await.unwrap().size, len as u64, "{path}");
                let got = store.get(&path).await.unwrap();
                assert_eq!(
                    (got.meta.size, got.range.clone()),
                    (len as u64, 0..len as u64)
                );
                assert!(
                    got.bytes().await.unwrap() == pattern(len),
                    "{path} of {len} bytes"
                );
            }
        }
    }
    for directory in ["compacted", "manifest"] {
        let listed: Vec<_> = writer
            .list(Some(&Path::from(directory)))
            .try_collect()
            .await
            .unwrap();
        assert_eq!(
            listed.iter().map(|meta| meta.size).collect::<Vec<_>>(),
            LENGTHS.map(|len| len as u64)
        );
    }
    assert_eq!(bucket.failures(), 0);
}

#[tokio::test]
async fn any_range_is_what_the_plaintext_has_there() {
    let bucket = Bucket::create().await;
    let len = 700_000_u64;
    let plaintext = pattern(len as usize);
    for path in [table(1), Path::from("manifest/1.manifest")] {
        bucket
            .sealed(0)
            .put(&path, plaintext.clone().into())
            .await
            .unwrap();
        for store in [bucket.sealed(CACHE), bucket.sealed(0)] {
            for range in [
                0..1,
                0..len,
                16383..16385,
                262_143..262_145,
                262_144..524_288,
                1..699_999,
                699_999..700_000,
            ] {
                let got = store.get_range(&path, range.clone()).await.unwrap();
                assert!(
                    got == plaintext[range.start as usize..range.end as usize],
                    "{range:?}"
                );
            }
            let suffix = GetOptions {
                range: Some(GetRange::Suffix(100)),
                ..GetOptions::default()
            };
            let got = store.get_opts(&path, suffix).await.unwrap();
            assert_eq!(got.range, len - 100..len);
            assert!(got.bytes().await.unwrap() == plaintext[len as usize - 100..]);
            let offset = GetOptions {
                range: Some(GetRange::Offset(650_000)),
                ..GetOptions::default()
            };
            assert!(
                store
                    .get_opts(&path, offset)
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap()
                    == plaintext[650_000..]
            );
            assert_eq!(
                store
                    .get_range(&path, len - 5..len + 5)
                    .await
                    .unwrap()
                    .len(),
                5,
                "clamped to the end"
            );
            assert!(store.get_range(&path, len..len + 1).await.is_err());
            let pieces = store
                .get_ranges(&path, &[5..10, 300_000..300_010])
                .await
                .unwrap();
            assert!(pieces == [&plaintext[5..10], &plaintext[300_000..300_010]]);
        }
    }
}

#[tokio::test]
async fn conditions_hold_and_conflicts_have_the_kind_that_slatedb_expects() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    let path = Path::from("gc/manifest.boundary");
    let create = || PutOptions::from(PutMode::Create);
    let first = store.put_opts(&path, "1".into(), create()).await.unwrap();
    assert!(matches!(
        store.put_opts(&path, "2".into(), create()).await,
        Err(Error::AlreadyExists { .. })
    ));
    let update = PutOptions::from(PutMode::Update(first.clone().into()));
    let second = store
        .put_opts(&path, "22".into(), update.clone())
        .await
        .unwrap();
    assert!(matches!(
        store.put_opts(&path, "3".into(), update).await,
        Err(Error::Precondition { .. })
    ));

    let if_changed = |e_tag: &Option<String>| GetOptions {
        if_none_match: e_tag.clone(),
        ..GetOptions::default()
    };
    let got = store
        .get_opts(&path, if_changed(&first.e_tag))
        .await
        .unwrap();
    assert_eq!(got.meta.e_tag, second.e_tag);
    assert_eq!(got.bytes().await.unwrap(), "22");
    assert!(matches!(
        store.get_opts(&path, if_changed(&second.e_tag)).await,
        Err(Error::NotModified { .. })
    ));
    assert_missing(store.get(&Path::from("absent")).await);
    assert_missing(store.head(&table(404)).await);
}

#[tokio::test]
async fn eight_racing_creates_have_one_winner() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    let path = Path::from("wal/00000000000000000001.sst");
    let creates = (0..8).map(|i: u8| {
        let (store, path) = (store.clone(), path.clone());
        async move {
            store
                .put_opts(&path, vec![i; 50].into(), PutMode::Create.into())
                .await
                .map(|_| i)
        }
    });
    let results = futures::future::join_all(creates).await;
    let winners: Vec<u8> = results.into_iter().filter_map(Result::ok).collect();
    assert_eq!(winners.len(), 1);
    assert_eq!(read_all(&store, &path).await, vec![winners[0]; 50]);
}

#[tokio::test]
async fn the_put_id_comes_back_by_head_and_nothing_else_goes_out_unsealed() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    let with = |name: &'static str| {
        let mut options = PutOptions::from(PutMode::Create);
        options.attributes = Attributes::from_iter([(Attribute::Metadata(name.into()), "01JABC")]);
        options
    };
    for path in [table(1), Path::from("manifest/1.manifest")] {
        store
            .put_opts(&path, "x".into(), with("slatedbputid"))
            .await
            .unwrap();
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let got = store.get_opts(&path, options).await.unwrap();
        assert_eq!(
            got.attributes
                .get(&Attribute::Metadata("slatedbputid".into()))
                .map(|value| value.as_ref()),
            Some("01JABC")
        );
    }
    assert!(matches!(
        store.put_opts(&table(2), "x".into(), with("note")).await,
        Err(Error::NotSupported { .. })
    ));
    let mut typed = PutOptions::default();
    typed
        .attributes
        .insert(Attribute::ContentType, "text/plain".into());
    assert!(matches!(
        store.put_opts(&table(2), "x".into(), typed).await,
        Err(Error::NotSupported { .. })
    ));
}

#[tokio::test]
async fn listings_are_relative_ordered_and_go_on_after_an_offset() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    for i in 1..=5 {
        store
            .put(&Path::from(format!("wal/{i:020}.sst")), "x".into())
            .await
            .unwrap();
    }
    store
        .put(&Path::from("walls/paper"), "x".into())
        .await
        .unwrap();
    store.put(&Path::from("top"), "x".into()).await.unwrap();
    bucket
        .write("data/elsewhere", b"not below meta".to_vec())
        .await;

    let names = |metas: Vec<object_store::ObjectMeta>| {
        metas
            .into_iter()
            .map(|meta| meta.location.to_string())
            .collect::<Vec<_>>()
    };
    let wal = Path::from("wal");
    let all = names(store.list(Some(&wal)).try_collect().await.unwrap());
    assert_eq!(all.len(), 5);
    assert_eq!(all[0], "wal/00000000000000000001.sst");
    let after = Path::from(all[2].clone());
    assert_eq!(
        names(
            store
                .list_with_offset(Some(&wal), &after)
                .try_collect()
                .await
                .unwrap()
        ),
        all[3..]
    );
    assert_eq!(
        names(store.list(None).try_collect().await.unwrap()).len(),
        7
    );
    let level = store.list_with_delimiter(None).await.unwrap();
    assert_eq!(
        level.common_prefixes,
        [Path::from("wal"), Path::from("walls")]
    );
    assert_eq!(names(level.objects), ["top"]);
}

#[tokio::test]
async fn deleting_forgets_what_was_cached_and_a_missing_object_is_no_error() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    let paths: Vec<Path> = (0..3).map(table).collect();
    for path in &paths {
        store.put(path, pattern(5000).into()).await.unwrap();
        read_all(&store, path).await;
    }
    assert!(store.cached_bytes() > 15_000);
    let locations = paths
        .clone()
        .into_iter()
        .chain([Path::from("never/was")])
        .map(Ok);
    let deleted: Vec<Path> = store
        .delete_stream(futures::stream::iter(locations).boxed())
        .try_collect()
        .await
        .unwrap();
    assert_eq!(deleted.len(), 4);
    assert_eq!(store.cached_bytes(), 0);
    for path in &paths {
        assert_missing(store.get(path).await);
    }
    assert_eq!(bucket.server.stats().count("DeleteObjects"), 1);
}

#[tokio::test]
async fn a_copy_is_sealed_for_its_own_place() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    store.put(&table(1), pattern(300_000).into()).await.unwrap();
    store.copy(&table(1), &table(2)).await.unwrap();
    assert!(read_all(&store, &table(2)).await == pattern(300_000));
    assert!(matches!(
        store.copy_if_not_exists(&table(1), &table(2)).await,
        Err(Error::AlreadyExists { .. })
    ));
    store.rename(&table(1), &table(3)).await.unwrap();
    assert!(read_all(&store, &table(3)).await == pattern(300_000));
    assert_missing(store.get(&table(1)).await);
}

#[tokio::test]
async fn an_upload_in_parts_of_any_size_is_one_sealed_object() {
    let bucket = Bucket::create().await;
    let store = bucket.sealed(CACHE);
    let plaintext = pattern(13 << 20);
    for (i, part_len) in [6 << 20, 10 << 20, 100_000, 5 << 20]
        .into_iter()
        .enumerate()
    {
        let mut upload = store
            .put_multipart_opts(&table(i), PutMultipartOptions::default())
            .await
            .unwrap();
        let mut sent = Vec::new();
        for start in (0..plaintext.len()).step_by(part_len) {
            let end = plaintext.len().min(start + part_len);
            sent.push(upload.put_part(PutPayload::from_bytes(plaintext.slice(start..end))));
        }
        // Together and in the wrong order.
        sent.reverse();
        futures::future::try_join_all(sent).await.unwrap();
        upload.complete().await.unwrap();
        let got = read_all(&bucket.sealed(CACHE), &table(i)).await;
        assert!(got == plaintext, "parts of {part_len}");
    }
    let mut empty = store.put_multipart(&table(10)).await.unwrap();
    empty.complete().await.unwrap();
    assert!(empty.complete().await.is_err());
    assert_eq!(store.head(&table(10)).await.unwrap().size, 0);

    let mut given_up = store.put_multipart(&table(11)).await.unwrap();
    given_up
        .put_part(PutPayload::from_bytes(plaintext.slice(..6 << 20)))
        .await
        .unwrap();
    given_up.abort().await.unwrap();
    assert!(
        bucket
            .store
            .list_multipart("meta/")
            .await
            .unwrap()
            .is_empty()
    );
    assert_missing(store.head(&table(11)).await);
}
