//! Durability of metadata: crashes, flushes, outages, takeovers.

use std::{collections::BTreeSet, time::Duration};

use strongroom::meta::{Extent, ExtentSource, FileKind, Ino, Meta, MetaError};
use tokio::time::{sleep, timeout};

use crate::volume::{
    CONFIG, CountingStore, Verb, contents, count, directory, file, names, new, open, volume,
};

#[tokio::test]
async fn what_was_flushed_survives_a_crash_and_the_rest_is_a_prefix() {
    let (store, meta) = volume().await;
    for number in 0..50 {
        file(&meta, Ino::ROOT, &format!("f{number}")).await;
        if number == 20 {
            meta.flush().await.unwrap();
        }
    }
    drop(meta);
    let meta = open(&store).await;
    let found = names(&meta, Ino::ROOT).await;
    assert!(found.len() >= 21);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(number, name)| *name == format!("f{number}"))
    );
    assert_eq!(meta.totals().inodes, found.len() as u64 + 1);
}

/// Tables have a limit beyond which a compaction must run first. Closing ends upkeep, and with it
/// compactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_makes_room_for_what_is_in_memory() {
    const FILES: u64 = 370;
    const FILE: usize = 64 << 10;
    let (store, meta) = volume().await;
    let mut inos = Vec::new();
    for number in 0..FILES {
        let ino = file(&meta, Ino::ROOT, &format!("f{number}")).await.ino;
        let bytes = vec![number as u8; FILE];
        let extent = Extent {
            offset: 0,
            len: FILE as u64,
            source: ExtentSource::Inline(bytes.into()),
        };
        let commit = contents(ino, vec![extent], FILE as u64);
        meta.commit_content(&[], &[commit]).await.unwrap();
        inos.push(ino);
    }
    store.set_latency(Duration::from_millis(5));
    timeout(Duration::from_secs(60), meta.close())
        .await
        .expect("closing ends")
        .unwrap();
    store.set_latency(Duration::ZERO);
    let meta = open(&store).await;
    for (number, ino) in (0..).zip(inos) {
        let found = meta.extents(ino, 0..u64::MAX, 9).await.unwrap();
        let bytes = match &found[..] {
            [
                Extent {
                    source: ExtentSource::Inline(bytes),
                    ..
                },
            ] => bytes,
            _ => panic!("{found:?}"),
        };
        assert!(bytes.len() == FILE && bytes.iter().all(|byte| *byte == number as u8));
    }
}

#[tokio::test]
async fn a_number_is_never_given_out_twice() {
    let (store, _) = volume().await;
    let mut given = BTreeSet::new();
    for round in 0..6 {
        let meta = open(&store).await;
        for number in 0..50 {
            assert!(
                given.insert(
                    file(&meta, Ino::ROOT, &format!("f{round}.{number}"))
                        .await
                        .ino
                )
            );
        }
        if round % 2 == 0 {
            meta.flush().await.unwrap();
        }
        if round % 3 == 0 {
            meta.close().await.unwrap();
        }
        // Otherwise a crash, with or without something undurable.
    }
}

#[tokio::test]
async fn numbers_beyond_one_reservation_are_given_out_without_a_gap_in_promise() {
    let (store, meta) = volume().await;
    let mut last = Ino(0);
    for number in 0..20_000 {
        let made = meta
            .create_orphan(new(FileKind::File, number))
            .await
            .unwrap();
        assert!(made.ino > last);
        last = made.ino;
    }
    drop(meta);
    let meta = open(&store).await;
    assert!(file(&meta, Ino::ROOT, "next").await.ino > last);
}

#[tokio::test]
async fn flushes_that_come_together_share_one() {
    let (store, meta) = volume().await;
    store.set_latency(Duration::from_millis(20));
    store.take();
    let tasks: Vec<_> = (0..16)
        .map(|task| {
            let meta = meta.clone();
            tokio::spawn(async move {
                for number in 0..10 {
                    file(&meta, Ino::ROOT, &format!("{task}.{number}")).await;
                    meta.flush().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let puts = count(&store.take(), Verb::Put, "wal/");
    assert!((1..=30).contains(&puts), "{puts} requests for 160 flushes");
    meta.flush().await.unwrap();
    assert!(store.take().is_empty(), "nothing is pending");
}

#[tokio::test]
async fn a_change_is_durable_a_second_later_unasked_and_idle_costs_nothing() {
    let (store, meta) = volume().await;
    let generation = meta.generation();
    assert_eq!(meta.durability_lag_ms(), 0);
    file(&meta, Ino::ROOT, "file").await;
    sleep(Duration::from_millis(100)).await;
    assert!((100..1000).contains(&meta.durability_lag_ms()));
    assert_eq!(meta.generation(), generation);
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(meta.durability_lag_ms(), 0);
    assert!(meta.generation() > generation);
    let crashed = open(&store.fork().await).await;
    assert_eq!(names(&crashed, Ino::ROOT).await, ["file"]);
    drop(crashed);
    store.take();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(store.take(), []);
}

#[tokio::test]
async fn the_generation_grows_across_mounts() {
    let (store, meta) = volume().await;
    let mut last = meta.generation();
    drop(meta);
    for round in 0..6 {
        let meta = open(&store).await;
        assert!(meta.generation() > last);
        last = meta.generation();
        file(&meta, Ino::ROOT, &format!("f{round}")).await;
        meta.flush().await.unwrap();
        assert!(meta.generation() > last);
        last = meta.generation();
        file(&meta, Ino::ROOT, &format!("g{round}")).await;
        if round % 2 == 0 {
            meta.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn an_outage_is_a_pause() {
    let (store, meta) = volume().await;
    let dir = directory(&meta, Ino::ROOT, "dir").await.ino;
    meta.flush().await.unwrap();
    store.set_away(true);
    file(&meta, dir, "written").await;
    assert_eq!(names(&meta, dir).await, ["written"]);
    assert!(timeout(Duration::from_secs(1), meta.flush()).await.is_err());
    assert!(meta.durability_lag_ms() >= 900);
    store.set_away(false);
    timeout(Duration::from_secs(20), meta.flush())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(names(&open(&store).await, dir).await, ["written"]);
}

#[tokio::test]
async fn a_mount_that_was_taken_over_knows_nothing_any_more() {
    let (store, first) = volume().await;
    file(&first, Ino::ROOT, "before").await;
    first.flush().await.unwrap();
    let second = open(&store).await;
    // Acknowledged if the first has not noticed yet, but never durable.
    let lost = first
        .create(Ino::ROOT, b"lost", new(FileKind::File, 1))
        .await;
    assert!(matches!(lost, Ok(_) | Err(MetaError::Fenced)));
    assert!(matches!(first.flush().await, Err(MetaError::Fenced)));
    assert!(matches!(
        first.lookup(Ino::ROOT, b"before").await,
        Err(MetaError::Fenced)
    ));
    assert!(matches!(
        first.inode(Ino::ROOT).await,
        Err(MetaError::Fenced)
    ));
    assert!(matches!(
        first.create(Ino::ROOT, b"x", new(FileKind::File, 1)).await,
        Err(MetaError::Fenced)
    ));
    assert!(matches!(
        first.read_dir(Ino::ROOT, 0, 1).await,
        Err(MetaError::Fenced)
    ));
    assert!(matches!(first.close().await, Err(MetaError::Fenced)));
    file(&second, Ino::ROOT, "after").await;
    assert_eq!(names(&second, Ino::ROOT).await, ["before", "after"]);
}

#[tokio::test]
async fn what_is_not_a_volume_is_refused_and_a_volume_is_not_formatted_twice() {
    let store = CountingStore::new();
    assert!(matches!(
        Meta::open_on(store.clone(), CONFIG).await,
        Err(MetaError::Missing)
    ));
    let (store, meta) = volume().await;
    file(&meta, Ino::ROOT, "kept").await;
    meta.close().await.unwrap();
    assert!(matches!(
        Meta::format_on(store.clone(), 1, 1).await,
        Err(MetaError::Store(_))
    ));
    assert_eq!(names(&open(&store).await, Ino::ROOT).await, ["kept"]);
}
