//! Nothing of what is written shows in what is stored.

use std::sync::Arc;

use slatedb::Db;
use strongroom::{
    seal::{
        codec::{DATA_FRAME_LOG2, ObjectKind, seal_whole},
        volume::{Argon2Params, RecoveryKey, Secret, VolumeHeader},
    },
    store::Condition,
};
use zeroize::Zeroizing;

use crate::bucket::Bucket;

const CANARY: &[u8] = b"canary-7f3e-not-to-be-seen";

fn shows(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

#[tokio::test]
async fn no_plaintext_and_no_secret_is_in_any_object_key_or_attribute() {
    let bucket = Bucket::create().await;
    let passphrase = Secret::passphrase(Zeroizing::new(CANARY.to_vec())).unwrap();
    let (mut header, unlocked) =
        VolumeHeader::create(&passphrase, Argon2Params::default()).unwrap();
    let recovery = RecoveryKey::generate();
    header
        .add_slot(
            &unlocked.master,
            &recovery.clone().into(),
            Argon2Params::default(),
        )
        .unwrap();
    header.save(&bucket.store, Condition::Absent).await.unwrap();

    // Keys are where SlateDB's own encryption leaks: first and last key of each table and of the
    // manifest.
    let db = Db::open("", Arc::new(bucket.sealed(1 << 20)))
        .await
        .unwrap();
    for i in 0..1000_u32 {
        let name = [CANARY, &i.to_be_bytes()].concat();
        db.put(&name, &CANARY.repeat(8)).await.unwrap();
    }
    db.flush_with_options(slatedb::config::FlushOptions {
        flush_type: slatedb::config::FlushType::MemTable,
    })
    .await
    .unwrap();
    db.close().await.unwrap();
    let data = seal_whole(
        &bucket.keys,
        ObjectKind::Data,
        DATA_FRAME_LOG2,
        "data/00/0",
        &CANARY.repeat(10_000),
    );
    bucket.write("data/00/0", data).await;

    let names = bucket.keys_below("").await;
    assert!(
        names.iter().any(|name| name.starts_with("meta/compacted/")),
        "{names:?}"
    );
    assert!(names.len() >= 6, "{names:?}");
    let words: Vec<Vec<u8>> = recovery
        .to_text()
        .split('-')
        .map(|group| group.as_bytes().to_vec())
        .collect();
    for name in names {
        let stored = bucket.read(&name).await;
        let head = bucket.store.head(&name).await.unwrap();
        // The canary, parts of it, and the secrets.
        for needle in
            words
                .iter()
                .map(Vec::as_slice)
                .chain([CANARY, &CANARY[..10], &CANARY[10..20]])
        {
            assert!(!shows(&stored, needle), "in {name}");
            assert!(
                !shows(name.as_bytes(), needle) && !shows(format!("{head:?}").as_bytes(), needle),
                "about {name}"
            );
        }
        if !name.ends_with(".json") {
            assert_eq!(&stored[..8], b"STRONGRM", "{name} is not sealed");
        }
    }
}
