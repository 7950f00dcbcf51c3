//! Each operation of the store client, when nothing goes wrong.

use bytes::Bytes;
use strongroom::store::{Condition, StoreErrorKind, Versioning};

use crate::support::{random::pattern, server::TestServer};

#[tokio::test]
async fn what_was_put_in_pieces_is_got_as_one_object_with_its_attributes() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let whole = pattern(1_000_000);
    let pieces = vec![
        whole.slice(..10),
        Bytes::new(),
        whole.slice(10..700_000),
        whole.slice(700_000..),
    ];
    let attributes = [("colour".to_owned(), "blue".to_owned())];
    let put = store
        .put("data/1", pieces, Condition::Absent, &attributes)
        .await
        .unwrap();

    let (head, bytes) = store.get_bytes("data/1", None, 1_000_000).await.unwrap();
    assert_eq!(bytes, whole);
    assert_eq!(head.size, 1_000_000);
    assert_eq!(head.etag, put.etag);
    assert_eq!(head.attributes, attributes);
    assert!(head.modified_unix_seconds > 1_700_000_000);
    let head = store.head("data/1").await.unwrap();
    assert_eq!(
        (head.size, head.etag, head.attributes.as_slice()),
        (1_000_000, put.etag, attributes.as_slice())
    );

    let metrics = store.metrics();
    assert_eq!(metrics.put_requests.get(), 2, "one created the bucket");
    assert_eq!(metrics.get_requests.get(), 1);
    assert_eq!(metrics.head_requests.get(), 1);
    assert_eq!(metrics.sent_bytes.get(), 1_000_000);
    assert_eq!(metrics.received_bytes.get(), 1_000_000);
    for gauge in [
        &metrics.requests_in_flight,
        &metrics.uploads_in_flight,
        &metrics.downloads_in_flight,
    ] {
        assert_eq!(gauge.get(), 0);
    }
}

#[tokio::test]
async fn an_empty_object_is_an_object() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    store
        .put("empty", Vec::new(), Condition::None, &[])
        .await
        .unwrap();
    let (head, bytes) = store.get_bytes("empty", None, 0).await.unwrap();
    assert_eq!((head.size, bytes.len()), (0, 0));
    let mut body = store.get("empty", None).await.unwrap();
    assert_eq!(body.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_range_is_got_and_clamped_to_the_end() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let whole = pattern(100_000);
    store
        .put("object", vec![whole.clone()], Condition::None, &[])
        .await
        .unwrap();
    for range in [
        0..1,
        0..100_000,
        4_096..70_000,
        99_999..100_000,
        90_000..200_000,
    ] {
        let carried = range.start..range.end.min(100_000);
        let wanted = whole.slice(carried.start as usize..carried.end as usize);
        let (head, bytes) = store
            .get_bytes("object", Some(range.clone()), 200_000)
            .await
            .unwrap();
        assert_eq!((head.size, bytes), (100_000, wanted), "{range:?}");
        assert_eq!(
            store.get("object", Some(range)).await.unwrap().range,
            carried
        );
    }
    for range in [100_000..100_001, 5..5] {
        let error = store.get("object", Some(range)).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Range, "{error}");
    }
    let error = store.get_bytes("object", None, 99_999).await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::Other, "{error}");
}

#[tokio::test]
async fn conditions_let_exactly_one_through() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let put = |body: &'static str, condition| {
        store.put("object", vec![Bytes::from(body)], condition, &[])
    };
    let first = put("first", Condition::Absent).await.unwrap().etag.unwrap();
    assert_eq!(
        put("again", Condition::Absent).await.unwrap_err().kind,
        StoreErrorKind::Precondition
    );
    put("second", Condition::Matches(first.clone()))
        .await
        .unwrap();
    assert_eq!(
        put("stale", Condition::Matches(first))
            .await
            .unwrap_err()
            .kind,
        StoreErrorKind::Precondition
    );
    assert_eq!(
        store.get_bytes("object", None, 100).await.unwrap().1,
        "second"
    );
    assert!(
        store.head("object").await.unwrap().attributes.is_empty(),
        "the token is not shown"
    );
    assert_eq!(
        store.metrics().store_errors.get(),
        0,
        "a refusal that was asked for is no failure"
    );
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    assert_eq!(
        store.get("none", None).await.unwrap_err().kind,
        StoreErrorKind::NotFound
    );
    assert_eq!(
        store
            .get_bytes("none", Some(0..10), 10)
            .await
            .unwrap_err()
            .kind,
        StoreErrorKind::NotFound
    );
    assert_eq!(
        store.head("none").await.unwrap_err().kind,
        StoreErrorKind::NotFound
    );
    store.delete(&["none".into()]).await.unwrap();
    store
        .delete(&["none".into(), "neither".into()])
        .await
        .unwrap();
}

#[tokio::test]
async fn listings_go_page_by_page_and_level_by_level_and_know_only_this_prefix() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let other = fixture
        .store_with(|config| config.url = "s3://bucket/some/volume2".parse().unwrap())
        .await;
    other
        .put("data/foreign", vec![Bytes::from("x")], Condition::None, &[])
        .await
        .unwrap();
    let mut keys: Vec<String> = (0..1_100).map(|i| format!("data/{i:04}")).collect();
    keys.extend([
        "a".into(),
        "data.txt".into(),
        "meta/wal/1".into(),
        "meta/manifest/1".into(),
    ]);
    let puts = keys
        .iter()
        .map(|key| store.put(key, vec![Bytes::from(key.clone())], Condition::None, &[]));
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    keys.sort();

    let mut listed = Vec::new();
    loop {
        let page = store
            .list_page("", listed.last().map(String::as_str))
            .await
            .unwrap();
        if page.is_empty() {
            break;
        }
        assert!(
            page.len() <= 1000
                && page
                    .iter()
                    .all(|entry| entry.size == entry.key.len() as u64)
        );
        listed.extend(page.into_iter().map(|entry| entry.key));
    }
    assert_eq!(listed, keys);
    assert_eq!(store.list_page("data/10", None).await.unwrap().len(), 100);
    assert_eq!(
        store
            .list_page("data/10", Some("data/1090"))
            .await
            .unwrap()
            .len(),
        9
    );

    let (directories, entries) = store.list_level("").await.unwrap();
    assert_eq!(directories, ["data", "meta"]);
    assert_eq!(
        entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect::<Vec<_>>(),
        ["a", "data.txt"]
    );
    let (directories, entries) = store.list_level("data/").await.unwrap();
    assert_eq!((directories.len(), entries.len()), (0, 1_100));
    assert_eq!(
        store.list_level("meta/").await.unwrap().0,
        ["meta/manifest", "meta/wal"]
    );

    store.delete(&keys).await.unwrap();
    assert!(store.list_page("", None).await.unwrap().is_empty());
    assert_eq!(store.metrics().delete_requests.get(), 2);
    assert_eq!(other.list_page("", None).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_volume_may_have_the_whole_bucket() {
    let fixture = TestServer::start().await;
    let store = fixture
        .store_with(|config| config.url = "s3://bucket".parse().unwrap())
        .await;
    store
        .put("a/b", vec![Bytes::from("x")], Condition::None, &[])
        .await
        .unwrap();
    assert_eq!(store.list_page("", None).await.unwrap()[0].key, "a/b");
    assert_eq!(store.list_level("").await.unwrap().0, ["a"]);
}

#[tokio::test]
async fn parts_become_an_object() {
    const PART_LEN: usize = 5 * 1024 * 1024;
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    let whole = pattern(2 * PART_LEN + 12_345);
    let upload = store.create_multipart("data/1").await.unwrap();
    assert_eq!(store.list_multipart("data/").await.unwrap().len(), 1);
    let parts = (1..).zip(whole.chunks(PART_LEN)).map(|(number, part)| {
        let pieces = part
            .chunks(70_000)
            .map(|piece| whole.slice_ref(piece))
            .collect();
        let (store, upload) = (&store, &upload);
        async move { store.upload_part("data/1", upload, number, pieces).await }
    });
    let mut parts = futures::future::try_join_all(parts).await.unwrap();
    // A part that is sent again replaces itself.
    parts[2] = store
        .upload_part("data/1", &upload, 3, vec![whole.slice(2 * PART_LEN..)])
        .await
        .unwrap();
    let made = store
        .complete_multipart("data/1", &upload, &parts, Condition::Absent)
        .await
        .unwrap();
    let (head, bytes) = store
        .get_bytes("data/1", None, whole.len() as u64)
        .await
        .unwrap();
    assert_eq!(head.etag, made.etag);
    assert!(bytes == whole);
    assert!(store.list_multipart("").await.unwrap().is_empty());
    assert_eq!(store.metrics().part_requests.get(), 4);

    let again = store.create_multipart("data/1").await.unwrap();
    let part = store
        .upload_part("data/1", &again, 1, vec![Bytes::from("x")])
        .await
        .unwrap();
    let refused = store
        .complete_multipart("data/1", &again, &[part], Condition::Absent)
        .await
        .unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Precondition, "{refused}");
    store.abort_multipart("data/1", &again).await.unwrap();
    store.abort_multipart("data/1", &again).await.unwrap();
    assert!(store.list_multipart("").await.unwrap().is_empty());
    let gone = store
        .upload_part("data/1", &again, 1, vec![Bytes::from("x")])
        .await
        .unwrap_err();
    assert_eq!(gone.kind, StoreErrorKind::NotFound, "{gone}");
}

#[tokio::test]
async fn a_bucket_without_rules_and_versions_is_one_and_the_clocks_are_compared() {
    let fixture = TestServer::start().await;
    let store = fixture.store().await;
    assert_eq!(store.lifecycle_rules().await.unwrap(), []);
    assert_eq!(store.versioning().await.unwrap(), Versioning::Off);
    let ahead = store.clock_difference().await.unwrap();
    assert!(ahead.is_some_and(|ahead| ahead.abs() < 30), "{ahead:?}");
    // A store that refuses has a clock too.
    let fixture = TestServer::start().await;
    let elsewhere = fixture.connect(|_| {}).await.unwrap();
    let ahead = elsewhere.clock_difference().await.unwrap();
    assert!(ahead.is_some_and(|ahead| ahead.abs() < 30), "{ahead:?}");
    let error = elsewhere.versioning().await.unwrap_err();
    assert_eq!(error.kind, StoreErrorKind::NoBucket, "{error}");
}
