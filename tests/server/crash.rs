//! `kill -9`: what was acknowledged is there, whole; what was not is there whole or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use parking_lot::Mutex;
use strongroom::server::Server;

use crate::{
    fixture::{BUCKET, client, completed},
    process::spawn,
    support::{credentials::SECRET_KEY, random::noise, server::server_config},
};

/// For each key: the last version acknowledged, and the one that may or may not have happened.
type Known = Mutex<HashMap<String, (Option<u64>, Option<u64>)>>;

/// Longer than a part need be, and of many sizes.
fn body_of(version: u64) -> Vec<u8> {
    noise(version, 1 + (version as usize * 7919) % 400_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_being_killed_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let versions = Arc::new(AtomicU64::new(1));
    let known: Arc<Known> = Arc::default();
    for round in 0..6u64 {
        let (mut child, url) = spawn(dir.path());
        let s3 = client(&url, SECRET_KEY, None);
        if round == 0 {
            s3.create_bucket().bucket(BUCKET).send().await.unwrap();
        }
        check(&s3, &known).await;
        let mut writers = Vec::new();
        for writer in 0..4 {
            let (s3, versions, known) = (s3.clone(), Arc::clone(&versions), Arc::clone(&known));
            writers.push(tokio::spawn(async move {
                for step in 0.. {
                    let key = format!("{writer}/{}", step % 5);
                    let version = versions.fetch_add(1, Ordering::Relaxed);
                    known.lock().entry(key.clone()).or_default().1 = Some(version);
                    let acknowledged = match step % 3 {
                        0 => upload(&s3, &key, version).await,
                        _ => {
                            let body = ByteStream::from(body_of(version));
                            s3.put_object()
                                .bucket(BUCKET)
                                .key(&key)
                                .body(body)
                                .send()
                                .await
                                .is_ok()
                        }
                    };
                    if !acknowledged {
                        return;
                    }
                    known.lock().insert(key, (Some(version), None));
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(150 + round * 37)).await;
        child.kill();
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let server = Server::start(server_config(dir.path().to_owned()))
        .await
        .unwrap();
    let s3 = client(&server.endpoint_url(), SECRET_KEY, None);
    check(&s3, &known).await;
    assert!(
        versions.load(Ordering::Relaxed) > 50,
        "the writers got somewhere"
    );
    assert_eq!(
        std::fs::read_dir(dir.path().join("tmp")).unwrap().count(),
        0
    );
    server.shutdown().await;
}

async fn upload(s3: &aws_sdk_s3::Client, key: &str, version: u64) -> bool {
    let Ok(begun) = s3
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .send()
        .await
    else {
        return false;
    };
    let id = begun.upload_id().unwrap();
    let part = s3
        .upload_part()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .part_number(1);
    let Ok(part) = part.body(ByteStream::from(body_of(version))).send().await else {
        return false;
    };
    let parts = completed(&[(1, part.e_tag().unwrap().to_owned())]);
    let complete = s3
        .complete_multipart_upload()
        .bucket(BUCKET)
        .key(key)
        .upload_id(id)
        .multipart_upload(parts);
    complete.send().await.is_ok()
}

/// Every key holds its last acknowledged version or the one in doubt; settles the doubt.
async fn check(s3: &aws_sdk_s3::Client, known: &Known) {
    let keys: Vec<_> = known
        .lock()
        .iter()
        .map(|(key, state)| (key.clone(), *state))
        .collect();
    for (key, (acknowledged, in_doubt)) in keys {
        let found = match s3.get_object().bucket(BUCKET).key(&key).send().await {
            Ok(got) => {
                let body = got.body.collect().await.unwrap().to_vec();
                let version = [acknowledged, in_doubt]
                    .into_iter()
                    .flatten()
                    .find(|it| body_of(*it) == body);
                assert!(
                    version.is_some(),
                    "{key} holds neither {acknowledged:?} nor {in_doubt:?}"
                );
                version
            }
            Err(_) => {
                assert_eq!(
                    acknowledged, None,
                    "{key} was acknowledged and is not there"
                );
                None
            }
        };
        known.lock().insert(key, (found, None));
    }
}
