//! Read-only mounts of a volume that another mount writes.

use std::time::{Duration, Instant};

use strongroom::meta::{ContentCommit, FileKind, Ino, Meta, MetaError, SessionId};
use tokio::time::sleep;

use crate::{
    support::wait::wait_until,
    volume::{
        Verb, at, count, directory, extent, file, follow, follow_every, names, new, object, open,
        volume,
    },
};

/// docs/semantics.md promises this for `--follow-every 1s`.
const SEEN_WITHIN: Duration = Duration::from_millis(1500);

/// Waits until a follower sees something, for as long as that may take.
async fn seen(what: &str, is_seen: impl AsyncFnMut() -> bool) {
    wait_until(what, SEEN_WITHIN, is_seen).await;
}

#[tokio::test]
async fn a_follower_sees_what_became_durable_within_seconds_and_writes_nothing() {
    let (store, writer) = volume().await;
    let dir = directory(&writer, Ino::ROOT, "dir").await.ino;
    file(&writer, dir, "one").await;
    writer.flush().await.unwrap();
    store.take();
    let follower = follow(&store).await;
    assert_eq!(follower.session(), SessionId([0; 16]));
    assert_eq!(names(&follower, dir).await, ["one"]);
    assert_eq!(count(&store.take(), Verb::Put, ""), 0);

    file(&writer, dir, "two").await;
    writer
        .set_xattr(
            dir,
            b"user.a",
            b"1",
            strongroom::meta::XattrMode::Set,
            None,
            at(20),
        )
        .await
        .unwrap();
    writer.flush().await.unwrap();
    seen("a name", async || names(&follower, dir).await.len() == 2).await;
    assert!(follower.lookup(dir, b"two").await.unwrap().is_some());
    assert_eq!(follower.xattr(dir, b"user.a").await.unwrap().unwrap(), "1");
    assert_eq!(follower.inode(dir).await.unwrap().unwrap().entries, 2);
    seen("the totals", async || follower.totals() == writer.totals()).await;
    assert!(matches!(
        follower.create(dir, b"x", new(FileKind::File, 1)).await,
        Err(MetaError::Store(_))
    ));
    assert!(follower.flush().await.is_ok());
    follower.close().await.unwrap();
}

#[tokio::test]
async fn a_follower_goes_on_over_the_writers_end_and_the_next_ones_beginning() {
    let (store, writer) = volume().await;
    file(&writer, Ino::ROOT, "one").await;
    writer.flush().await.unwrap();
    let follower = follow(&store).await;
    file(&writer, Ino::ROOT, "two").await;
    writer.close().await.unwrap();
    for name in ["three", "four", "five"] {
        let writer = open(&store).await;
        file(&writer, Ino::ROOT, name).await;
        writer.flush().await.unwrap();
        let expected = names(&writer, Ino::ROOT).await;
        seen("what another writer made", async || {
            names(&follower, Ino::ROOT).await == expected
        })
        .await;
        writer.close().await.unwrap();
    }
}

#[tokio::test]
async fn every_change_is_seen_in_time_whatever_their_distance() {
    let (store, writer) = volume().await;
    let follower = follow(&store).await;
    for number in 0..8_u64 {
        let name = format!("file {number}");
        file(&writer, Ino::ROOT, &name).await;
        writer.flush().await.unwrap();
        seen("a name", async || {
            let found = follower.lookup(Ino::ROOT, name.as_bytes()).await;
            found.unwrap().is_some()
        })
        .await;
        // Not in step with the follower's looks.
        sleep(Duration::from_millis(number * 37 % 400)).await;
    }
}

#[tokio::test]
async fn an_idle_follower_asks_once_a_look() {
    let (store, writer) = volume().await;
    for number in 0..5 {
        file(&writer, Ino::ROOT, &number.to_string()).await;
        writer.flush().await.unwrap();
    }
    let follower = follow_every(&store, Duration::from_millis(200)).await;
    store.take();
    // Ten looks.
    sleep(Duration::from_secs(2)).await;
    let asked = store.take();
    assert!((8..=11).contains(&asked.len()), "{asked:?}");
    assert_eq!(count(&asked, Verb::List, ""), 0);
    assert_eq!(count(&asked, Verb::Get, "wal/"), asked.len());
    follower.close().await.unwrap();
}

#[tokio::test]
async fn a_follower_of_a_busy_writer_asks_for_little_more_than_there_is_to_read() {
    let (store, writer) = volume().await;
    let follower = follow(&store).await;
    store.take();
    let begun = Instant::now();
    let mut logs = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        file(&writer, Ino::ROOT, &logs.to_string()).await;
        writer.flush().await.unwrap();
        logs += 1;
        sleep(Duration::from_millis(100)).await;
    }
    let expected = names(&writer, Ino::ROOT).await;
    seen("all names", async || {
        names(&follower, Ino::ROOT).await == expected
    })
    .await;
    let gets = count(&store.take(), Verb::Get, "");
    // Unsealed objects are not cached: each is asked for in three pieces.
    assert!(gets < 5 * 8 + 3 * logs, "{gets} for {logs} log objects");
    follower.close().await.unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_for_a_look() {
    let (store, _writer) = volume().await;
    for _ in 0..5 {
        let follower = follow(&store).await;
        let begun = Instant::now();
        follower.close().await.unwrap();
        assert!(begun.elapsed() < Duration::from_millis(500));
    }
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_is_a_delay() {
    let (store, writer) = volume().await;
    let follower = follow(&store).await;
    store.take();
    store.set_away(true);
    let failed = async || store.asked() >= 2;
    wait_until("two looks fail", Duration::from_secs(10), failed).await;
    store.set_away(false);
    file(&writer, Ino::ROOT, "later").await;
    writer.flush().await.unwrap();
    wait_until("the file is seen", Duration::from_secs(5), async || {
        !names(&follower, Ino::ROOT).await.is_empty()
    })
    .await;
    follower.close().await.unwrap();
}

/// Contents of `version`: as many extents of 10 bytes as its number, in an object of its own.
async fn commit_version(writer: &Meta, ino: Ino, version: u64) {
    let size = version * 10;
    let new = object(writer, version, size);
    // Stored backwards, so that no two runs become one.
    let extents = (0..version)
        .map(|n| extent(n * 10, 10, &new, size - n * 10 - 10))
        .collect();
    let commit =
        ContentCommit::new(ino, extents, size).with_times(at(version as i64), at(version as i64));
    writer.commit_content(&[new], &[commit]).await.unwrap();
    writer.flush().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_and_its_extents_are_always_of_one_moment() {
    let (store, writer) = volume().await;
    let ino = file(&writer, Ino::ROOT, "file").await.ino;
    commit_version(&writer, ino, 1).await;
    let follower = follow(&store).await;
    let writing = tokio::spawn(async move {
        for version in 2..60 {
            commit_version(&writer, ino, version).await;
            sleep(Duration::from_millis(100)).await;
        }
    });
    let (mut snapshots, mut versions) = (0, std::collections::BTreeSet::new());
    while !writing.is_finished() {
        let found = follower.file_snapshot(ino, 100).await.unwrap().unwrap();
        let extents = found.extents.unwrap();
        assert_eq!(extents.len() as u64 * 10, found.inode.size);
        versions.insert(found.inode.size);
        snapshots += 1;
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    assert!(versions.len() > 4, "{versions:?}");
    assert!(snapshots > 100, "{snapshots}");
    let none = follower.file_snapshot(ino, 3).await.unwrap().unwrap();
    assert!(none.extents.is_none(), "more than were asked for");
    follower.close().await.unwrap();
}
