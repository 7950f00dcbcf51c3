//! Files in tiny pieces: what they cost, and reads whose bytes lie all over the store.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{
    files::{create_closed, write_at},
    opened::{Opened, ROOT},
    random::Random,
    volume::TestVolume,
    wait::eventually,
};
use strongroom::{
    budget::Owner,
    data::{DataConfig, OpenFile},
    fs::FsConfig,
    meta::{ContentCommit, Extent, ExtentSource, Ino, ObjectId, REGION_LEN},
};

const FRAME: u64 = 64 << 10;

async fn extents(opened: &Opened, ino: Ino) -> Vec<Extent> {
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let some = opened.meta.extents(ino, at..u64::MAX, 1024).await.unwrap();
        let Some(last) = some.last() else { return all };
        at = last.offset + last.len;
        all.extend(some);
    }
}

fn place(extent: &Extent) -> (ObjectId, u64) {
    match extent.source {
        ExtentSource::Object { object, at } => (object, at),
        ExtentSource::Inline(_) => panic!("nothing was written inline"),
    }
}

/// Different frames in which the extents lie.
fn distinct_frames(extents: &[Extent]) -> u64 {
    let frames = extents.iter().flat_map(|extent| {
        let (object, at) = place(extent);
        (at / FRAME..=(at + extent.len - 1) / FRAME).map(move |frame| (object, frame))
    });
    frames.collect::<HashSet<_>>().len() as u64
}

async fn read_in_order(opened: &Opened, ino: Ino, step: u32) -> Vec<u8> {
    let file = opened.data.open(ino);
    let mut all = Vec::new();
    loop {
        let read = opened.data.read(&file, all.len() as u64, step).await;
        let bytes = read.unwrap().bytes;
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

fn gets(world: &TestVolume) -> u64 {
    world.server.stats().count("GetObject")
}

/// The frames that a cold reader in order fetches, by the bytes that the server sent.
async fn frames_read_cold(world: &TestVolume, ino: Ino, contents: &[u8]) -> (u64, u64) {
    let opened = world.open().await;
    let (requests, bytes) = (gets(world), world.server.stats().body_bytes_out);
    assert!(read_in_order(&opened, ino, 256 << 10).await == contents);
    let after = world.server.stats();
    opened.close().await;
    let frames = (after.body_bytes_out - bytes).div_ceil(FRAME);
    (after.count("GetObject") - requests, frames)
}

/// Many tiny pieces at a time: the file stays in few extents, whatever is written, and a reader in
/// order fetches each frame about once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_in_crumbs_stays_whole() {
    const LEN: u64 = 8 << 20;
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let mut random = Random(3);
    let mut model = random.noise(LEN);
    let ino = create_closed(&opened, "file").await;
    write_at(&opened, ino, 0, &model).await;
    opened.data.fsync(ino).await.unwrap();
    for round in 0..3 {
        let sent = world.server.stats();
        for _ in 0..6000 {
            let piece = random.noise(200);
            let at = random.below(LEN - 200);
            write_at(&opened, ino, at, &piece).await;
            model[at as usize..][..200].copy_from_slice(&piece);
        }
        opened.data.fsync(ino).await.unwrap();
        let now = world.server.stats();
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
    let (requests, fetched) = frames_read_cold(&world, ino, &model).await;
    println!("{frames} frames, {fetched} fetched with {requests} GETs");
    assert!(fetched <= frames * 3 / 2, "{fetched} of {frames} frames");
}

/// A few at a time, synced each time: what comes of it is mended in the background.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crumbs_that_are_synced_a_few_at_a_time_are_mended() {
    const LEN: u64 = 1 << 20;
    let world = TestVolume::new().await;
    let hasty = |config: &mut DataConfig| config.write_back_after = Duration::from_millis(50);
    let opened = world
        .open_through(world.server.endpoint_url(), FsConfig::default(), hasty)
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
    let again = world.open().await;
    assert!(read_in_order(&again, ino, 1 << 20).await == model);
    again.close().await;
}

/// What is written meanwhile, cut off or punched is never undone by what is written along.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_changes_during_a_sweep_over_crumbs_stays_as_it_was_changed() {
    const LEN: u64 = 2 << 20;
    let world = TestVolume::new().await;
    let hasty = |config: &mut DataConfig| config.write_back_after = Duration::from_millis(5);
    let opened = world
        .open_through(world.server.endpoint_url(), FsConfig::default(), hasty)
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
    let again = world.open().await;
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
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let (ino, expected, large, contents) = scattered(&opened).await;
    opened.close().await;

    let opened = Arc::new(world.open().await);
    let governor = opened.data.governor().clone();
    assert!(512 * FRAME > governor.owner_max_bytes(Owner::Read));
    let (expected, contents) = (Arc::new(expected), Arc::new(contents));
    let before = gets(&world);
    let alone = opened.data.open(ino);
    let read = whole(&opened, &alone).await;
    assert!(read == *expected);
    let asked = gets(&world) - before;
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

async fn whole(opened: &Opened, file: &OpenFile) -> Vec<u8> {
    let read = opened.data.read(file, 0, 1 << 20).await.unwrap();
    read.bytes.to_vec()
}

/// One that goes away in the middle leaves nothing behind, and the next has its turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wide_read_that_is_dropped_lets_the_next_one_go() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let (ino, expected, ..) = scattered(&opened).await;
    opened.close().await;
    let opened = world.open().await;
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

/// A file of so many bytes, a third of whose pages were written again and synced, over and over:
/// most of what lies in its frames has been replaced since.
async fn written_over(opened: &Opened, name: &str, len: u64) -> (Ino, Vec<u8>) {
    const PAGE: u64 = 4096;
    let mut random = Random(13);
    let mut model = random.noise(len);
    let ino = create_closed(opened, name).await;
    write_at(opened, ino, 0, &model).await;
    opened.data.fsync(ino).await.unwrap();
    for _ in 0..6 {
        for _ in 0..len / PAGE / 3 {
            let at = random.below(len / PAGE) * PAGE;
            let page = random.noise(PAGE);
            write_at(opened, ino, at, &page).await;
            model[at as usize..][..PAGE as usize].copy_from_slice(&page);
        }
        opened.data.fsync(ino).await.unwrap();
    }
    (ino, model)
}

async fn open_tidy(world: &TestVolume, quiet_for: Duration) -> Opened {
    let tidy = |config: &mut DataConfig| {
        config.write_back_after = Duration::from_millis(200);
        config.defragment_after = quiet_for;
    };
    let opened = world
        .open_through(world.server.endpoint_url(), FsConfig::default(), tidy)
        .await;
    opened.data.start_reclaim();
    opened
}

/// The frames that its extents lie in are hardly more than it has.
async fn is_in_order(opened: &Opened, ino: Ino, len: u64) -> bool {
    distinct_frames(&extents(opened, ino).await) <= len / FRAME * 11 / 10
}

/// Returns when it is.
async fn put_in_order(opened: &Opened, ino: Ino, len: u64) {
    let began = std::time::Instant::now();
    while !is_in_order(opened, ino, len).await {
        let frames = distinct_frames(&extents(opened, ino).await);
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "it lies in {frames} frames"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_lies_scattered_is_put_in_order_once_it_is_quiet() {
    const LEN: u64 = 10 << 20;
    let world = TestVolume::new().await;
    let opened = open_tidy(&world, Duration::from_millis(500)).await;
    let (ino, model) = written_over(&opened, "file", LEN).await;
    let before = distinct_frames(&extents(&opened, ino).await);
    assert!(before > LEN / FRAME * 2, "{before} frames");
    let sent = world.server.stats().body_bytes_in;
    put_in_order(&opened, ino, LEN).await;
    // And that is all: what is in order is left alone.
    let settled = || (opened.meta.applied(), gets(&world));
    for tries in 0.. {
        let before = settled();
        tokio::time::sleep(Duration::from_secs(2)).await;
        if settled() == before {
            break;
        }
        assert!(tries < 10, "it is put in order again and again");
    }
    let sent = world.server.stats().body_bytes_in - sent;
    // Once. Where the machine is slow, write-back takes a piece before the whole of it was moved,
    // and it is moved again.
    assert!(sent < LEN * 2, "{sent} bytes went up");
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    opened.close().await;
    let (requests, fetched) = frames_read_cold(&world, ino, &model).await;
    assert!(fetched < LEN / FRAME * 5 / 4, "{fetched} frames");
    assert!(requests < 40, "{requests} GETs");
}

/// Reading a scattered file in order is a sign too: whoever wrote it was another mount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_reader_in_order_finds_scattered_is_put_in_order() {
    const LEN: u64 = 10 << 20;
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let (ino, model) = written_over(&opened, "file", LEN).await;
    opened.close().await;
    let opened = open_tidy(&world, Duration::from_millis(500)).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!is_in_order(&opened, ino, LEN).await);
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    put_in_order(&opened, ino, LEN).await;
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_put_in_order_while_somebody_reads_or_writes() {
    const LEN: u64 = 6 << 20;
    let world = TestVolume::new().await;
    let opened = open_tidy(&world, Duration::from_millis(300)).await;
    let other = create_closed(&opened, "other").await;
    write_at(&opened, other, 0, &[5; 100_000]).await;
    opened.data.fsync(other).await.unwrap();
    let (ino, model) = written_over(&opened, "file", LEN).await;
    let before = extents(&opened, ino).await;
    for round in 0..60 {
        // First somebody reads all the time, then somebody writes, something else in both cases.
        if round < 30 {
            let file = opened.data.open(other);
            opened.data.read(&file, 0, 4096).await.unwrap();
        } else {
            write_at(&opened, other, 0, &[round; 100]).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(extents(&opened, ino).await, before);
    put_in_order(&opened, ino, LEN).await;
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    opened.close().await;
}

/// Unmounted, or written to, at any moment of it: nothing is lost, and nothing is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn putting_in_order_ends_with_the_mount_and_gives_way_to_writes() {
    const LEN: u64 = 6 << 20;
    let world = TestVolume::new().await;
    let mut random = Random(17);
    let opened = open_tidy(&world, Duration::from_secs(600)).await;
    let (ino, mut model) = written_over(&opened, "file", LEN).await;
    opened.close().await;
    for round in 0..8 {
        let opened = open_tidy(&world, Duration::ZERO).await;
        assert!(read_in_order(&opened, ino, 256 << 10).await == model);
        // It begins a second after the last read.
        tokio::time::sleep(Duration::from_millis(900 + random.below(700))).await;
        for _ in 0..round % 3 * 40 {
            let at = random.below(LEN - 5000);
            let piece = random.noise(4096);
            write_at(&opened, ino, at, &piece).await;
            model[at as usize..][..4096].copy_from_slice(&piece);
        }
        let closing = std::time::Instant::now();
        opened.close().await;
        assert!(closing.elapsed() < Duration::from_secs(5));
    }
    let opened = world.open().await;
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    opened.close().await;
}

/// On a link of 4 MB a second, to read and write 8 MiB takes four seconds without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn putting_in_order_takes_a_share_of_the_link_only() {
    const LEN: u64 = 8 << 20;
    const BANDWIDTH: u64 = 4_000_000;
    let world = TestVolume::new().await;
    let opened = open_tidy(&world, Duration::from_secs(1)).await;
    let (ino, _) = written_over(&opened, "file", LEN).await;
    let faults = strongroom::server::Faults {
        bandwidth: Some(BANDWIDTH),
        ..Default::default()
    };
    world.server.set_faults(faults);
    let moved = || {
        let stats = world.server.stats();
        stats.body_bytes_in + stats.body_bytes_out
    };
    let before = moved();
    eventually("it begins", async || moved() > before + (256 << 10)).await;
    let (before, began) = (moved(), std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(8)).await;
    let share = (moved() - before) as f64 / began.elapsed().as_secs_f64() / BANDWIDTH as f64;
    println!("{share:.2} of the link");
    assert!((0.02..0.4).contains(&share), "{share:.2} of the link");
    world
        .server
        .set_faults(strongroom::server::Faults::default());
    assert!(
        !is_in_order(&opened, ino, LEN).await,
        "it was over too soon"
    );
    opened.close().await;
}
