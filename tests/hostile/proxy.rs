//! The lying store itself: honest until told otherwise, and then exactly as false as told.

use std::{net::SocketAddr, time::Duration};

use aws_sdk_s3::{
    Client,
    types::{CompletedMultipartUpload, CompletedPart},
};

use crate::{
    support::{
        bucket::{BUCKET, get, list, put, sdk_client_without_retries},
        lying::{Endless, Form, Kind, Lie, Op, Rule, answer::broken},
    },
    world::World,
};

async fn keys(client: &Client) -> Vec<String> {
    let listed = list(client).await.expect("list");
    listed.into_iter().map(|object| object.key).collect()
}

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("runtime").block_on(work);
}

#[test]
fn a_store_that_was_told_nothing_is_honest_and_each_lie_is_told_as_often_as_asked() {
    let world = World::without_volume();
    block_on(async {
        let client = sdk_client_without_retries(&world.store.endpoint());
        client.create_bucket().bucket(BUCKET).send().await.unwrap();
        let old = b"old contents of an object".to_vec();
        assert!(put(&client, "v/data/1", old.clone()).await);
        assert_eq!(get(&client, "v/data/1").await, Ok(old.clone()));
        let lie = |rule: Rule| world.store.lie(rule);
        let data = || Rule::on([Op::Get]).of([Kind::Data]);

        let fired = lie(data()
            .skip(1)
            .times(2, Lie::refuse(404, Form::Code("NoSuchKey"))));
        let mut found = Vec::new();
        for _ in 0..5 {
            found.push(get(&client, "v/data/1").await.is_ok());
        }
        assert_eq!(
            (found, fired.count()),
            (vec![true, false, false, true, true], 2)
        );
        world.store.heal();

        for (change, differs) in [
            (Lie::change(broken::flip), true),
            (Lie::change(broken::cut_off), true),
            (Lie::ResetAfter, true),
            (Lie::Endless(Endless::Headers), true),
            (Lie::Drip(Duration::from_millis(1)), false),
            (Lie::Hang(Duration::from_millis(50)), false),
        ] {
            lie(data().once(change));
            assert_eq!(get(&client, "v/data/1").await != Ok(old.clone()), differs);
            assert_eq!(get(&client, "v/data/1").await, Ok(old.clone()));
            world.store.heal();
        }

        let hidden = world.store.hide(|key| key.ends_with("/1"));
        assert!(get(&client, "v/data/1").await.is_err());
        assert!(keys(&client).await.is_empty());
        assert!(hidden.iter().all(|fired| fired.count() == 1));
        world.store.heal();
        assert_eq!(keys(&client).await, ["v/data/1"]);

        lie(Rule::on([Op::Put]).once(Lie::ResetBefore));
        lie(Rule::on([Op::Put]).once(Lie::ResetAfter));
        assert!(!put(&client, "v/data/before", b"x".to_vec()).await);
        assert!(!put(&client, "v/data/after", b"x".to_vec()).await);
        assert_eq!(keys(&client).await, ["v/data/1", "v/data/after"]);
        world.store.heal();

        let twice = || {
            client
                .put_object()
                .bucket(BUCKET)
                .key("v/data/1")
                .if_none_match("*")
                .body(b"new".to_vec().into())
        };
        assert!(twice().send().await.is_err());
        lie(Rule::on([Op::Put]).conditional().once(Lie::IgnoreCondition));
        assert!(twice().send().await.is_ok());
        assert_eq!(get(&client, "v/data/1").await, Ok(b"new".to_vec()));
    });
}

#[test]
fn an_older_state_answers_whom_it_is_told_to() {
    let world = World::without_volume();
    block_on(async {
        let client = sdk_client_without_retries(&world.store.endpoint());
        client.create_bucket().bucket(BUCKET).send().await.unwrap();
        assert!(
            put(&client, "v/data/1", b"old".to_vec()).await
                && put(&client, "v/lease", b"old".to_vec()).await
        );
    });
    let past = world.past();
    block_on(async {
        let client = sdk_client_without_retries(&world.store.endpoint());
        assert!(
            put(&client, "v/data/1", b"new".to_vec()).await
                && put(&client, "v/lease", b"new".to_vec()).await
        );
        let old: SocketAddr = past.address();
        world
            .store
            .lie(Rule::on([Op::Get]).of([Kind::Lease]).always(Lie::From(old)));
        assert_eq!(get(&client, "v/lease").await, Ok(b"old".to_vec()));
        assert_eq!(get(&client, "v/data/1").await, Ok(b"new".to_vec()));
        world.store.lead_to(old);
        assert_eq!(get(&client, "v/data/1").await, Ok(b"old".to_vec()));
    });
}

#[test]
fn a_part_that_comes_late_replaces_the_one_that_overtook_it() {
    let world = World::without_volume();
    block_on(async {
        let client = sdk_client_without_retries(&world.store.endpoint());
        client.create_bucket().bucket(BUCKET).send().await.unwrap();
        let object = || ("v/data/1", BUCKET);
        let (key, bucket) = object();
        let upload = client
            .create_multipart_upload()
            .bucket(bucket)
            .key(key)
            .send()
            .await
            .unwrap();
        let upload = upload.upload_id().unwrap().to_owned();
        let part = || {
            client
                .upload_part()
                .bucket(bucket)
                .key(key)
                .upload_id(&upload)
                .part_number(1)
                .body(b"part".to_vec().into())
        };
        world
            .store
            .lie(Rule::on([Op::UploadPart]).once(Lie::Overtaken));
        assert!(part().send().await.is_err());
        let tag = part().send().await.unwrap().e_tag().unwrap().to_owned();
        let listed = || async {
            let parts = client
                .list_parts()
                .bucket(bucket)
                .key(key)
                .upload_id(&upload)
                .send()
                .await
                .unwrap();
            parts.parts()[0].e_tag().unwrap().to_owned()
        };
        let began = std::time::Instant::now();
        while listed().await == tag {
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "the late part never came"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let parts = CompletedMultipartUpload::builder()
            .parts(CompletedPart::builder().part_number(1).e_tag(tag).build())
            .build();
        let complete = client
            .complete_multipart_upload()
            .bucket(bucket)
            .key(key)
            .upload_id(&upload)
            .multipart_upload(parts);
        assert!(
            complete.send().await.is_err(),
            "completed with a part that is no longer there"
        );
    });
}
