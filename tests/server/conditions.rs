//! Conditional writes and reads: one winner, the right refusal.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_sdk_s3::primitives::ByteStream;
use tokio::sync::Barrier;

use crate::{
    fixture::{BUCKET, completed, refusal, start},
    support::random::noise,
};

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_creators_exactly_one_wins() {
    let fixture = Arc::new(start().await);
    for round in 0..40 {
        let key = format!("lock-{round}");
        let barrier = Arc::new(Barrier::new(8));
        let racers: Vec<_> = (0..8)
            .map(|racer| {
                let (fixture, key, barrier) =
                    (Arc::clone(&fixture), key.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    let put = fixture
                        .client
                        .put_object()
                        .bucket(BUCKET)
                        .key(key)
                        .if_none_match("*");
                    let put = put.body(ByteStream::from(format!("racer {racer}").into_bytes()));
                    barrier.wait().await;
                    (racer, put.send().await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Ok(_)) => winners.push(racer),
                (_, lost) => assert_eq!(refusal(lost), ("PreconditionFailed".to_owned(), 412)),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(
            fixture.get(&key).await,
            format!("racer {}", winners[0]).into_bytes()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_updaters_of_one_version_exactly_one_wins() {
    let fixture = Arc::new(start().await);
    let mut etag = fixture.put("counter", "0").await;
    for round in 0..40 {
        let barrier = Arc::new(Barrier::new(6));
        let racers: Vec<_> = (0..6)
            .map(|racer| {
                let (fixture, etag, barrier) =
                    (Arc::clone(&fixture), etag.clone(), Arc::clone(&barrier));
                tokio::spawn(async move {
                    let put = fixture
                        .client
                        .put_object()
                        .bucket(BUCKET)
                        .key("counter")
                        .if_match(etag);
                    // The same content from all: the ETag must tell the versions apart all the
                    // same.
                    let put = put.body(ByteStream::from_static(b"next"));
                    barrier.wait().await;
                    (racer, put.send().await)
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap().1 {
                Ok(put) => winners.push(put.e_tag().unwrap().to_owned()),
                lost => assert_eq!(refusal(lost), ("PreconditionFailed".to_owned(), 412)),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        etag = winners.remove(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_completions_and_puts_exactly_one_wins() {
    let fixture = Arc::new(start().await);
    for round in 0..10 {
        let key = format!("object-{round}");
        let barrier = Arc::new(Barrier::new(6));
        let mut racers = Vec::new();
        for racer in 0..6 {
            let (fixture, key, barrier) = (Arc::clone(&fixture), key.clone(), Arc::clone(&barrier));
            let id = fixture.begin(&key).await;
            let etag = fixture
                .part(&key, &id, 1, format!("racer {racer}").into_bytes())
                .await;
            racers.push(tokio::spawn(async move {
                if racer == 0 {
                    barrier.wait().await;
                    let body = ByteStream::from(format!("racer {racer}").into_bytes());
                    let put = fixture
                        .client
                        .put_object()
                        .bucket(BUCKET)
                        .key(key)
                        .if_none_match("*")
                        .body(body);
                    return (
                        racer,
                        put.send()
                            .await
                            .map(|_| ())
                            .map_err(|error| refusal(Err::<(), _>(error))),
                    );
                }
                let completion = fixture
                    .client
                    .complete_multipart_upload()
                    .bucket(BUCKET)
                    .key(key)
                    .upload_id(id);
                let completion = completion
                    .multipart_upload(completed(&[(1, etag)]))
                    .if_none_match("*");
                barrier.wait().await;
                (
                    racer,
                    completion
                        .send()
                        .await
                        .map(|_| ())
                        .map_err(|error| refusal(Err::<(), _>(error))),
                )
            }));
        }
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                (racer, Ok(())) => winners.push(racer),
                (_, Err(refused)) => assert_eq!(refused, ("PreconditionFailed".to_owned(), 412)),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(
            fixture.get(&key).await,
            format!("racer {}", winners[0]).into_bytes()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_completion_lost_can_be_completed_later() {
    let fixture = start().await;
    let id = fixture.begin("key").await;
    let etag = fixture.part("key", &id, 1, b"upload".to_vec()).await;
    fixture.put("key", "put").await;
    let complete = || {
        let complete = fixture
            .client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key("key")
            .upload_id(&id);
        complete.multipart_upload(completed(&[(1, etag.clone())]))
    };
    assert_eq!(refusal(complete().if_none_match("*").send().await).1, 412);
    assert_eq!(fixture.get("key").await, b"put");
    complete().send().await.unwrap();
    assert_eq!(fixture.get("key").await, b"upload");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_a_version_that_is_gone_is_refused_as_s3_refuses_it() {
    let fixture = start().await;
    let put = |etag: &str| {
        let put = fixture
            .client
            .put_object()
            .bucket(BUCKET)
            .key("key")
            .if_match(etag.to_owned());
        put.body(ByteStream::from_static(b"x"))
    };
    assert_eq!(
        refusal(put("\"0\"").send().await),
        ("NoSuchKey".to_owned(), 404)
    );
    let first = fixture.put("key", "1").await;
    let second = fixture.put("key", "1").await;
    assert_ne!(first, second, "an ETag names one write");
    assert_eq!(refusal(put(&first).send().await).1, 412);
    put(&second).send().await.unwrap();
    let delete = |etag: String| {
        fixture
            .client
            .delete_object()
            .bucket(BUCKET)
            .key("key")
            .if_match(etag)
            .send()
    };
    assert_eq!(refusal(delete(second).await).1, 412);
    assert_eq!(fixture.get("key").await, b"x");
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_obey_their_conditions() {
    let fixture = start().await;
    let old = fixture.put("key", "old").await;
    let new = fixture.put("key", "new").await;
    let get = || fixture.client.get_object().bucket(BUCKET).key("key");
    assert_eq!(refusal(get().if_match(&old).send().await).1, 412);
    assert_eq!(refusal(get().if_none_match(&new).send().await).1, 304);
    get().if_match(&new).send().await.unwrap();
    get().if_none_match(&old).send().await.unwrap();
    let head = || fixture.client.head_object().bucket(BUCKET).key("key");
    assert_eq!(refusal(head().if_match(&old).send().await).1, 412);
    head().if_match(&new).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_sees_one_version_whole_while_it_is_overwritten_and_deleted() {
    let fixture = Arc::new(start().await);
    const LEN: usize = 3_000_000;
    // Versions differ in length and in every byte.
    let version = |number: u8| vec![number; LEN + usize::from(number)];
    fixture.put("key", version(0)).await;
    let enough = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (fixture, enough) = (Arc::clone(&fixture), Arc::clone(&enough));
        async move {
            for number in (0..=255u8).cycle() {
                if enough.load(Ordering::Relaxed) {
                    return;
                }
                match number % 4 {
                    0 => {
                        let id = fixture.begin("key").await;
                        let parts = vec![(1, fixture.part("key", &id, 1, version(number)).await)];
                        fixture.complete("key", &id, &parts).await;
                    }
                    3 => {
                        fixture.delete("key").await;
                        fixture.put("key", version(number)).await;
                    }
                    _ => {
                        fixture.put("key", version(number)).await;
                    }
                }
            }
        }
    });
    let mut seen = HashSet::new();
    while seen.len() < 15 {
        let Ok(got) = fixture.try_open("key").await else {
            continue;
        };
        let announced = got.content_length().unwrap() as usize;
        let body = got.body.collect().await.unwrap().to_vec();
        assert_eq!(body.len(), announced);
        let number = body[0];
        assert_eq!(body.len(), LEN + usize::from(number));
        assert!(
            body.iter().all(|byte| *byte == number),
            "a mixture of versions"
        );
        seen.insert(number);
    }
    enough.store(true, Ordering::Relaxed);
    writer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_has_conditions_on_both_ends() {
    let fixture = start().await;
    let body = noise(1, 700_000);
    let etag = fixture.put("from", body.clone()).await;
    let copy = || {
        let copy = fixture.client.copy_object().bucket(BUCKET).key("to");
        copy.copy_source(format!("{BUCKET}/from"))
    };
    copy().copy_source_if_match(&etag).send().await.unwrap();
    assert_eq!(fixture.get("to").await, body);
    assert_eq!(
        refusal(copy().copy_source_if_match("\"other\"").send().await).1,
        412
    );
    let create = copy().customize().mutate_request(|request| {
        request.headers_mut().insert("if-none-match", "*");
    });
    assert_eq!(refusal(create.send().await).1, 412);
}
