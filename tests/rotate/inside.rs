//! The same inside this process, where the times that a mount waits are short.

use std::{sync::Arc, time::Duration};

use strongroom::{
    data::{MEMORY_MIN_BYTES, MemoryPlan, Rewriting},
    fs::FsConfig,
    seal::{
        keys::{Epoch, VolumeKeys},
        volume::{Argon2Params, Secret, VolumeHeader},
    },
    store::Store,
};
use zeroize::Zeroizing;

use crate::{
    place::epoch_of,
    support::{
        files::{contents, create, sync, write},
        random::noise,
        volume::TestVolume,
        wait::eventually,
    },
};

/// The keys of a volume before and after a rotation.
fn keys() -> [Arc<VolumeKeys>; 2] {
    let secret = Secret::key_file(Zeroizing::new(noise(1, 64))).unwrap();
    let (mut header, before) = VolumeHeader::create(&secret, Argon2Params::default()).unwrap();
    assert_eq!(header.rotate(&before.master), Ok(Epoch(2)));
    [before.keys, header.unlock(&secret).unwrap().keys]
}

/// Dead objects may go at once.
fn plan() -> MemoryPlan {
    let mut plan = MemoryPlan::for_memory(MEMORY_MIN_BYTES);
    plan.data.garbage_grace = Duration::ZERO;
    plan.data.reclaim_every = Duration::from_millis(100);
    plan.data.reader_renewed_every = Duration::from_secs(1);
    plan
}

/// The epochs of all data objects in the bucket.
async fn stored_epochs(store: &Store) -> Vec<u32> {
    let mut epochs = Vec::new();
    let mut pages = store.pages("data/", None, 10);
    while let Some(page) = pages.next().await.unwrap() {
        for entry in page {
            // It may be deleted meanwhile.
            if let Ok((_, header)) = store.get_bytes(&entry.key, Some(0..128), 128).await {
                epochs.push(epoch_of(&header));
            }
        }
    }
    epochs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_data_object_of_the_old_key_is_left_once_its_time_has_passed() {
    let [before, after] = keys();
    let mut volume = TestVolume::with_keys(before).await;
    let files: Vec<(String, Vec<u8>)> = (0..20)
        .map(|index| {
            (
                format!("file{index}"),
                noise(index + 1, 1000 << (index % 12)),
            )
        })
        .chain([("big".to_owned(), noise(99, 14 << 20))])
        .collect();
    let opened = volume.open_planned(FsConfig::default(), plan()).await;
    for (name, bytes) in &files {
        let file = create(&opened, name).await;
        write(&opened, &file, 0, bytes).await;
        opened.fs.release(file.fh);
    }
    opened.close().await;

    volume.keys = after;
    let opened = volume.open_planned(FsConfig::default(), plan()).await;
    let old = stored_epochs(&opened.store).await;
    assert!(
        old.len() > 1 && old.iter().all(|epoch| *epoch == 1),
        "{old:?}"
    );
    let progress = Rewriting::default();
    let rewritten = opened.data.rewrite(&progress).await.unwrap();
    assert!(rewritten.unreadable.is_none());
    assert_eq!(rewritten.objects, old.len() as u64);
    let (moved, total) = progress.bytes();
    assert_eq!((moved, rewritten.bytes), (total, total));
    let left = opened.data.older_contents().await.unwrap();
    assert_eq!((left.objects, left.live_bytes), (0, 0), "{left:?}");
    // Objects that died within this second go with a later call, which finds nothing else to do.
    eventually("the old objects are gone", async || {
        opened.data.rewrite(&progress).await.unwrap();
        stored_epochs(&opened.store)
            .await
            .iter()
            .all(|epoch| *epoch == 2)
    })
    .await;
    let left = opened.data.older_contents().await.unwrap();
    assert_eq!((left.dead_objects, left.dead_bytes), (0, 0), "{left:?}");
    for (name, bytes) in &files {
        assert!(contents(&opened, name).await == *bytes, "{name}");
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_keeps_what_a_follower_with_a_newer_key_may_read() {
    let [before, after] = keys();
    let mut volume = TestVolume::with_keys(before).await;
    let writer = volume.open_planned(FsConfig::default(), plan()).await;
    let file = create(&writer, "file").await;
    write(&writer, &file, 0, &noise(1, 300_000)).await;
    sync(&writer, &file).await.unwrap();
    let first = stored_epochs(&writer.store).await.len();

    volume.keys = after;
    let read_only = FsConfig {
        read_only: true,
        ..FsConfig::default()
    };
    let follower = volume.open_planned(read_only, plan()).await;
    follower.data.start_telling();
    let notes = async || {
        writer
            .store
            .list_page("readers/", None)
            .await
            .unwrap()
            .len()
    };
    eventually("the follower leaves a note", async || notes().await == 1).await;
    writer.data.start_reclaim();
    write(&writer, &file, 0, &noise(2, 300_000)).await;
    sync(&writer, &file).await.unwrap();
    let both = stored_epochs(&writer.store).await.len();
    assert!(both > first);
    // Each round that has something to delete looks at the notes first.
    let looks = || volume.server.stats().count("ListObjectsV2");
    let seen = looks();
    eventually("ten rounds of reclaim", async || looks() > seen + 10).await;
    assert_eq!(stored_epochs(&writer.store).await.len(), both);
    follower.close().await;
    eventually("the follower's note is gone", async || notes().await == 0).await;
    eventually("then the old version goes", async || {
        stored_epochs(&writer.store).await.len() < both
    })
    .await;
    writer.close().await;
}
