//! Keys: which are possible, and how they are listed.

use aws_sdk_s3::types::EncodingType;

use crate::fixture::{BUCKET, Fixture, refusal, start};

async fn all_keys(fixture: &Fixture, page: i32) -> Vec<String> {
    let mut keys = Vec::new();
    let mut pages = fixture
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .into_paginator()
        .page_size(page)
        .send();
    while let Some(found) = pages.next().await {
        keys.extend(
            found
                .unwrap()
                .contents()
                .iter()
                .map(|object| object.key().unwrap().to_owned()),
        );
    }
    keys
}

#[tokio::test(flavor = "multi_thread")]
async fn any_key_can_stand_beside_any_other() {
    let fixture = start().await;
    let long = "k".repeat(1024);
    let mut keys = [
        "a",
        "a/b",
        "a/b/c",
        "a//b",
        "/a",
        "a/",
        "a/../b",
        ".",
        "å",
        "\u{fffd}",
        "😀",
        "a b+c%d&e=f?g#h",
        "~'()!*",
        &long,
    ]
    .map(str::to_owned)
    .to_vec();
    for key in &keys {
        fixture.put(key, format!("content of {key}")).await;
    }
    for key in &keys {
        assert_eq!(
            fixture.get(key).await,
            format!("content of {key}").into_bytes()
        );
    }
    keys.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    for page in [1, 3, 1000] {
        assert_eq!(
            all_keys(&fixture, page).await,
            keys,
            "in the order of their bytes, {page} a page"
        );
    }
    let too_long = fixture
        .client
        .put_object()
        .bucket(BUCKET)
        .key("k".repeat(1025))
        .send()
        .await;
    assert_eq!(refusal(too_long), ("KeyTooLongError".to_owned(), 400));
    for key in &keys {
        fixture
            .client
            .delete_object()
            .bucket(BUCKET)
            .key(key)
            .send()
            .await
            .unwrap();
    }
    assert!(all_keys(&fixture, 1000).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn prefix_delimiter_and_start_after_select_what_they_say() {
    let fixture = start().await;
    for key in [
        "data/1/a", "data/1/b", "data/2/a", "data/x", "meta/a", "top",
    ] {
        fixture.put(key, "12345").await;
    }
    let list = || fixture.client.list_objects_v2().bucket(BUCKET);
    let found = list().prefix("data/").delimiter("/").send().await.unwrap();
    let keys: Vec<_> = found
        .contents()
        .iter()
        .filter_map(|object| object.key())
        .collect();
    let groups: Vec<_> = found
        .common_prefixes()
        .iter()
        .filter_map(|group| group.prefix())
        .collect();
    assert_eq!((keys, groups), (vec!["data/x"], vec!["data/1/", "data/2/"]));
    assert_eq!(found.key_count(), Some(3));
    assert_eq!(found.is_truncated(), Some(false));
    assert_eq!(found.contents()[0].size(), Some(5));

    let all = list().delimiter("").send().await.unwrap();
    assert_eq!(all.contents().len(), 6, "an empty delimiter groups nothing");
    let after = list().start_after("data/2/a").send().await.unwrap();
    let keys: Vec<_> = after
        .contents()
        .iter()
        .filter_map(|object| object.key())
        .collect();
    assert_eq!(keys, ["data/x", "meta/a", "top"]);

    let mut token = None;
    let mut walked = Vec::new();
    loop {
        let page = list()
            .delimiter("/")
            .max_keys(1)
            .set_continuation_token(token)
            .send()
            .await
            .unwrap();
        walked.extend(
            page.contents()
                .iter()
                .filter_map(|object| object.key().map(str::to_owned)),
        );
        walked.extend(
            page.common_prefixes()
                .iter()
                .filter_map(|group| group.prefix().map(str::to_owned)),
        );
        token = page.next_continuation_token().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    assert_eq!(walked, ["data/", "meta/", "top"]);
    assert_eq!(
        list().max_keys(0).send().await.unwrap().key_count(),
        Some(0)
    );
    assert_eq!(
        refusal(list().continuation_token("not ours!").send().await).0,
        "InvalidArgument"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_can_be_listed_percent_encoded() {
    let fixture = start().await;
    fixture.put("a b\u{1}/å", "x").await;
    let list = fixture
        .client
        .list_objects_v2()
        .bucket(BUCKET)
        .encoding_type(EncodingType::Url);
    let found = list.send().await.unwrap();
    assert_eq!(found.contents()[0].key(), Some("a%20b%01/%C3%A5"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_keys_are_deleted_in_one_request() {
    use aws_sdk_s3::types::{Delete, ObjectIdentifier};

    let fixture = start().await;
    for number in 0..30 {
        fixture.put(&format!("key-{number:02}"), "x").await;
    }
    let ids = (0..31).map(|number| {
        ObjectIdentifier::builder()
            .key(format!("key-{number:02}"))
            .build()
            .unwrap()
    });
    let delete = Delete::builder()
        .set_objects(Some(ids.collect()))
        .build()
        .unwrap();
    let done = fixture
        .client
        .delete_objects()
        .bucket(BUCKET)
        .delete(delete)
        .send()
        .await
        .unwrap();
    assert_eq!(
        (done.deleted().len(), done.errors().len()),
        (31, 0),
        "a key that is not there is deleted too"
    );
    assert!(all_keys(&fixture, 1000).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_made_listed_and_deleted_when_empty() {
    let fixture = start().await;
    let client = &fixture.client;
    let again = client.create_bucket().bucket(BUCKET).send().await;
    assert_eq!(refusal(again), ("BucketAlreadyOwnedByYou".to_owned(), 409));
    client
        .create_bucket()
        .bucket("second")
        .send()
        .await
        .unwrap();
    let buckets = client.list_buckets().send().await.unwrap();
    let names: Vec<_> = buckets
        .buckets()
        .iter()
        .filter_map(|bucket| bucket.name())
        .collect();
    assert_eq!(names, ["bucket", "second"]);
    fixture.put("key", "x").await;
    assert_eq!(
        refusal(client.delete_bucket().bucket(BUCKET).send().await).0,
        "BucketNotEmpty"
    );
    client
        .delete_bucket()
        .bucket("second")
        .send()
        .await
        .unwrap();
    assert_eq!(
        refusal(client.head_bucket().bucket("second").send().await).1,
        404
    );
    for refused in [
        refusal(client.get_object().bucket("second").key("k").send().await),
        refusal(client.put_object().bucket("second").key("k").send().await),
        refusal(client.list_objects_v2().bucket("second").send().await),
        refusal(
            client
                .delete_object()
                .bucket("second")
                .key("k")
                .send()
                .await,
        ),
        refusal(
            client
                .create_multipart_upload()
                .bucket("second")
                .key("k")
                .send()
                .await,
        ),
    ] {
        assert_eq!(refused, ("NoSuchBucket".to_owned(), 404));
    }
    assert_eq!(
        refusal(client.get_object().bucket(BUCKET).key("none").send().await).0,
        "NoSuchKey"
    );
}
