//! Garbage, sparse objects, sessions.

use std::{
    slice::from_ref,
    time::{SystemTime, UNIX_EPOCH},
};

use strongroom::meta::{Ino, Meta, NewObject, ObjectId, SessionId};

use crate::volume::{at, contents, extent, file, get, object, open, volume};

async fn whole(meta: &Meta, name: &str, number: u64) -> (Ino, NewObject) {
    let ino = file(meta, Ino::ROOT, name).await.ino;
    let object = object(meta, number, 1000);
    let commit = contents(ino, vec![extent(0, 1000, &object, 0)], 1000);
    meta.commit_content(from_ref(&object), &[commit])
        .await
        .unwrap();
    (ino, object)
}

async fn live_bytes(meta: &Meta, object: ObjectId) -> u64 {
    meta.object(object).await.unwrap().unwrap().live_bytes
}

fn unix_seconds() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

#[tokio::test]
async fn a_death_is_told_when_it_is_durable_and_forgotten_when_asked() {
    let (store, meta) = volume().await;
    let (ino, object) = whole(&meta, "file", 0).await;
    meta.flush().await.unwrap();
    meta.unlink(Ino::ROOT, b"file", at(20)).await.unwrap();
    assert_eq!(live_bytes(&meta, object.object).await, 1000);
    let before = unix_seconds();
    meta.reap(ino).await.unwrap();
    assert!(
        meta.garbage(i64::MAX, 10).await.unwrap().is_empty(),
        "a crash could undo it"
    );
    meta.flush().await.unwrap();
    let garbage = meta.garbage(i64::MAX, 10).await.unwrap();
    assert_eq!((garbage.len(), garbage[0].object), (1, object.object));
    assert!((before..=unix_seconds()).contains(&garbage[0].died_unix_seconds));
    assert!(meta.garbage(before - 1, 10).await.unwrap().is_empty());
    assert!(meta.knows_object(object.object).await.unwrap());

    meta.forget_garbage(&[object.object]).await.unwrap();
    assert!(meta.garbage(i64::MAX, 10).await.unwrap().is_empty());
    assert!(!meta.knows_object(object.object).await.unwrap());
    meta.close().await.unwrap();
    let meta = open(&store).await;
    assert!(meta.garbage(i64::MAX, 10).await.unwrap().is_empty());
    assert_eq!(meta.object(object.object).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_alive_cannot_be_forgotten() {
    let (_store, meta) = volume().await;
    let (ino, object) = whole(&meta, "file", 0).await;
    meta.forget_garbage(&[object.object]).await.unwrap();
    assert!(meta.knows_object(object.object).await.unwrap());
    assert_eq!(meta.extents(ino, 0..1000, 1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn objects_below_half_live_are_offered_for_repacking() {
    let (_store, meta) = volume().await;
    let (ino, object) = whole(&meta, "file", 0).await;
    meta.truncate(ino, 500, at(20), at(20)).await.unwrap();
    assert!(meta.repack_candidates(None, 10).await.unwrap().is_empty());
    meta.punch_hole(ino, 0..1, at(20), at(20)).await.unwrap();
    assert_eq!(
        meta.repack_candidates(None, 10).await.unwrap(),
        [(object.object, vec![ino])]
    );
    assert!(meta.repack_candidates(None, 0).await.unwrap().is_empty());
    // Repacking is a commit that names the bytes elsewhere.
    let packed = crate::volume::object(&meta, 1, 499);
    let commit = contents(ino, vec![extent(1, 499, &packed, 0)], 500);
    meta.commit_content(from_ref(&packed), &[commit])
        .await
        .unwrap();
    assert!(meta.repack_candidates(None, 10).await.unwrap().is_empty());
    assert_eq!(live_bytes(&meta, object.object).await, 0);
    assert_eq!(get(&meta, ino).await.mtime, at(20));
}

#[tokio::test]
async fn members_of_a_pack_are_remembered() {
    let (_store, meta) = volume().await;
    let mut inos = Vec::new();
    for number in 0..20 {
        inos.push(file(&meta, Ino::ROOT, &format!("f{number}")).await.ino);
    }
    let pack = object(&meta, 0, 2000);
    let commits: Vec<_> = inos
        .iter()
        .zip(0..)
        .map(|(ino, number)| contents(*ino, vec![extent(0, 100, &pack, number * 100)], 100))
        .collect();
    meta.commit_content(from_ref(&pack), &commits[..15])
        .await
        .unwrap();
    meta.commit_content(&[], &commits[15..]).await.unwrap();
    for ino in &inos[..11] {
        meta.truncate(*ino, 0, at(20), at(20)).await.unwrap();
    }
    assert_eq!(
        meta.repack_candidates(None, 10).await.unwrap(),
        [(pack.object, inos)]
    );
}

#[tokio::test]
async fn a_session_is_dead_until_it_is_ended_and_forgotten_with_its_last_object() {
    let (store, first) = volume().await;
    let (ino, object) = whole(&first, "file", 0).await;
    first.flush().await.unwrap();
    let dead = first.session();
    assert_ne!(dead, SessionId([0; 16]));
    assert!(first.dead_sessions().await.unwrap().is_empty());
    drop(first);

    let second = open(&store).await;
    assert_ne!(second.session(), dead);
    assert_eq!(
        second
            .dead_sessions()
            .await
            .unwrap()
            .iter()
            .map(|dead| dead.session)
            .collect::<Vec<_>>(),
        [dead]
    );
    second.end_session(dead).await.unwrap();
    assert!(second.dead_sessions().await.unwrap().is_empty());
    second.end_session(second.session()).await.unwrap();
    second.close().await.unwrap();

    // Ended, but its object lives on and is read.
    let third = open(&store).await;
    assert!(third.dead_sessions().await.unwrap().is_empty());
    assert_eq!(
        third.extents(ino, 0..1000, 1).await.unwrap(),
        [extent(0, 1000, &object, 0)]
    );
    third.truncate(ino, 0, at(20), at(20)).await.unwrap();
    third.forget_garbage(&[object.object]).await.unwrap();
    assert!(!third.knows_object(object.object).await.unwrap());
    third.close().await.unwrap();
    let fourth = open(&store).await;
    assert!(!fourth.knows_object(object.object).await.unwrap());
    assert_eq!(
        fourth.dead_sessions().await.unwrap().len(),
        1,
        "the third was not ended"
    );
}
