//! Files in tiny pieces: what they cost, and reads whose bytes lie all over the store.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use strongroom::{
    budget::Owner,
    data::DataConfig,
    fs::FsConfig,
    meta::{ContentCommit, Extent, ExtentSource, Ino, REGION_LEN},
};

use crate::extents::{
    FRAME, distinct_frames, extents, frames_read_cold, gets, place, read_in_order, whole,
};
use crate::support::{
    files::{create_closed, write_at},
    opened::{Opened, ROOT},
    random::Random,
    volume::TestVolume,
    wait::eventually,
};

/// Many tiny pieces at a time: the file stays in few extents, whatever is written, and a reader in
/// order fetches each frame about once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_in_crumbs_stays_whole() {
    const LEN: u64 = 8 << 20;
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let mut random = Random(3);
    let mut model = random.noise(LEN);
    let ino = create_closed(&opened, "file").await;
    write_at(&opened, ino, 0, &model).await;
    opened.data.fsync(ino).await.unwrap();
    for round in 0..3 {
        let sent = volume.server.stats();
        for _ in 0..6000 {
            let piece = random.noise(200);
            let at = random.below(LEN - 200);
            write_at(&opened, ino, at, &piece).await;
            model[at as usize..][..200].copy_from_slice(&piece);
        }
        opened.data.fsync(ino).await.unwrap();
        let now = volume.server.stats();
        // A sweep or two: what is written goes up whole, and comes down once.
        let up = now.body_bytes_in - sent.body_bytes_in;
        let down = now.body_bytes_out - sent.body_bytes_out;
        assert!(up < 5 * LEN, "round {round}: {up} bytes went up");
        assert!(down < 5 * LEN, "round {round}: {down} bytes came down");
        let requests = now.total_requests() - sent.total_requests();
        assert!(requests < 300, "round {round}: {requests} requests");
        let extents = extents(&opened, ino).await;
        let rows_max = (LEN / REGION_LEN) as usize * 32;
        assert!(extents.len() < rows_max, "{} extents", extents.len());
    }
    assert!(read_in_order(&opened, ino, 1 << 20).await == model);
    let frames = distinct_frames(&extents(&opened, ino).await);
    opened.close().await;
    let (requests, fetched) = frames_read_cold(&volume, ino, &model).await;
    println!("{frames} frames, {fetched} fetched with {requests} GETs");
    assert!(fetched <= frames * 3 / 2, "{fetched} of {frames} frames");
}

/// A few at a time, synced each time: what comes of it is mended in the background.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crumbs_that_are_synced_a_few_at_a_time_are_mended() {
    const LEN: u64 = 1 << 20;
    let volume = TestVolume::new().await;
    let hasty = |config: &mut DataConfig| config.write_back_after = Duration::from_millis(50);
    let opened = volume
        .open_through(volume.server.endpoint_url(), FsConfig::default(), hasty)
        .await;
    let mut random = Random(5);
    let mut model = random.noise(LEN);
    let ino = create_closed(&opened, "file").await;
    write_at(&opened, ino, 0, &model).await;
    opened.data.fsync(ino).await.unwrap();
    // By what they would leave, some 80 extents in each region.
    for _ in 0..40 {
        for region in 0..LEN / REGION_LEN {
            let at = region * REGION_LEN + random.below(REGION_LEN - 50);
            let piece = random.noise(50);
            write_at(&opened, ino, at, &piece).await;
            model[at as usize..][..50].copy_from_slice(&piece);
        }
        opened.data.fsync(ino).await.unwrap();
    }
    eventually("no region lies in many extents", async || {
        let mut regions: BTreeMap<u64, usize> = BTreeMap::new();
        for extent in extents(&opened, ino).await {
            *regions.entry(extent.offset / REGION_LEN).or_default() += 1;
        }
        regions.values().all(|extents| *extents <= 34)
    })
    .await;
    assert!(read_in_order(&opened, ino, 1 << 20).await == model);
    opened.close().await;
    let again = volume.open().await;
    assert!(read_in_order(&again, ino, 1 << 20).await == model);
    again.close().await;
}

/// A write, truncation or hole during a sweep is never undone by the crumbs that the sweep uploads
/// along with its own bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changes_during_a_sweep_over_crumbs_stays_as_it_was_changed() {
    const LEN: u64 = 2 << 20;
    let volume = TestVolume::new().await;
    let hasty = |config: &mut DataConfig| config.write_back_after = Duration::from_millis(5);
    let opened = volume
        .open_through(volume.server.endpoint_url(), FsConfig::default(), hasty)
        .await;
    let mut random = Random(7);
    let mut model = random.noise(LEN);
    let ino = create_closed(&opened, "file").await;
    write_at(&opened, ino, 0, &model).await;
    opened.data.fsync(ino).await.unwrap();
    for round in 0..60 {
        for _ in 0..600 {
            let len = 1 + random.below(300);
            let at = random.below(LEN - len);
            let piece = random.noise(len);
            write_at(&opened, ino, at, &piece).await;
            let end = (at + len) as usize;
            model.resize(model.len().max(end), 0);
            model[at as usize..end].copy_from_slice(&piece);
        }
        let (from, len) = (random.below(LEN - 5000), random.below(5000));
        match round % 5 {
            0 => {
                let hole = from..from + len;
                opened
                    .fs
                    .fallocate(
                        ROOT,
                        ino,
                        hole.start,
                        len.max(1),
                        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
                    )
                    .await
                    .unwrap();
                let end = (hole.start + len.max(1)).min(model.len() as u64);
                if hole.start < end {
                    model[hole.start as usize..end as usize].fill(0);
                }
            }
            1 => {
                let size = LEN / 2 + from / 2;
                opened
                    .data
                    .truncate(ino, size, strongroom::meta::Timestamp::now())
                    .await
                    .unwrap();
                model.resize(size as usize, 0);
            }
            2 => opened.data.fsync(ino).await.unwrap(),
            _ => assert!(read_in_order(&opened, ino, 128 << 10).await == model),
        }
    }
    assert!(read_in_order(&opened, ino, 1 << 20).await == model);
    opened.close().await;
    let again = volume.open().await;
    assert!(read_in_order(&again, ino, 1 << 20).await == model);
    again.close().await;
}

/// A file of 1 MiB of which each piece lies in another frame of a large one's object, and that
/// one's contents: its first part is left.
async fn scattered(opened: &Opened) -> (Ino, Vec<u8>, Ino, Vec<u8>) {
    const LEFT: u64 = 8 << 20;
    const PIECE: u64 = 2048;
    let mut random = Random(9);
    let contents = random.noise(LEFT + (512 + 1) * FRAME);
    let large = create_closed(opened, "large").await;
    write_at(opened, large, 0, &contents).await;
    opened.data.fsync(large).await.unwrap();
    let stored = extents(opened, large).await;
    let now = strongroom::meta::Timestamp::now();
    opened.data.truncate(large, LEFT, now).await.unwrap();
    opened.data.fsync(large).await.unwrap();

    let ino = create_closed(opened, "scattered").await;
    let (mut parts, mut expected) = (Vec::new(), Vec::new());
    // In no order, as random writes leave them.
    for number in 0..512u64 {
        let from = LEFT + (number * 211 % 512) * FRAME + 100;
        let whole = stored
            .iter()
            .find(|extent| extent.offset <= from && from + PIECE <= extent.offset + extent.len);
        let (object, at) = place(whole.unwrap());
        parts.push(Extent {
            offset: number * PIECE,
            len: PIECE,
            source: ExtentSource::Object {
                object,
                at: at + (from - whole.unwrap().offset),
            },
        });
        expected.extend_from_slice(&contents[from as usize..][..PIECE as usize]);
    }
    let commit = ContentCommit {
        ino,
        extents: parts,
        size: 512 * PIECE,
        cut: None,
        mtime: None,
        ctime: None,
        covers: 0,
    };
    opened.meta.commit_content(&[], &[commit]).await.unwrap();
    (ino, expected, large, contents[..LEFT as usize].to_vec())
}

/// The frames of one read take 32 MiB, more than all readers can have at this size; nobody waits
/// for ever, and everything is given back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_of_a_file_in_tiny_fragments_go_in_steps_beside_others() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let (ino, expected, large, contents) = scattered(&opened).await;
    opened.close().await;

    let opened = Arc::new(volume.open().await);
    let governor = opened.data.governor().clone();
    assert!(512 * FRAME > governor.owner_max_bytes(Owner::Read));
    let (expected, contents) = (Arc::new(expected), Arc::new(contents));
    let before = gets(&volume);
    let alone = opened.data.open(ino);
    let read = whole(&opened, &alone).await;
    assert!(read == *expected);
    let asked = gets(&volume) - before;
    assert!(asked < 512 + 60, "{asked} GETs for 512 frames");
    drop(alone);

    let done = Arc::new(AtomicBool::new(false));
    let others: Vec<_> = (0..90usize)
        .map(|number| {
            let (opened, contents, done) = (opened.clone(), contents.clone(), done.clone());
            tokio::spawn(async move {
                let file = opened.data.open(large);
                let (mut at, mut reads) = ((number * 64) << 10, 0u64);
                while !done.load(Ordering::Relaxed) || reads < 4 {
                    let len = contents.len().min(at + (512 << 10)) - at;
                    let read = opened.data.read(&file, at as u64, len as u32).await;
                    assert!(read.unwrap().bytes[..] == contents[at..at + len]);
                    at = (at + len) % contents.len();
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let wide: Vec<_> = (0..2)
        .map(|_| {
            let (opened, expected) = (opened.clone(), expected.clone());
            tokio::spawn(async move {
                for _ in 0..2 {
                    let file = opened.data.open(ino);
                    assert!(whole(&opened, &file).await == *expected);
                }
            })
        })
        .collect();
    let all = async {
        for reader in wide {
            reader.await.unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in others {
            assert!(reader.await.unwrap() >= 4);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all)
        .await
        .expect("readers that wait for each other");
    eventually("everything is given back", async || {
        governor.used_bytes(Owner::Read) == 0
    })
    .await;
    Arc::into_inner(opened).unwrap().close().await;
}

/// One that goes away in the middle leaves nothing behind, and the next has its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wide_read_that_is_dropped_lets_the_next_one_go() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let (ino, expected, ..) = scattered(&opened).await;
    opened.close().await;
    let opened = volume.open().await;
    let file = opened.data.open(ino);
    for pause_ms in [0, 5, 30] {
        let read = opened.data.read(&file, 0, 1 << 20);
        let _ = tokio::time::timeout(Duration::from_millis(pause_ms), read).await;
    }
    let governor = opened.data.governor();
    eventually("everything is given back", async || {
        governor.used_bytes(Owner::Read) == 0
    })
    .await;
    assert!(whole(&opened, &file).await == expected);
    drop(file);
    opened.close().await;
}
