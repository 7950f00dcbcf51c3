//! Files that lie scattered in the store are put in order.

use std::time::Duration;

use strongroom::{data::DataConfig, fs::FsConfig, meta::Ino};

use crate::extents::{FRAME, distinct_frames, extents, frames_read_cold, gets, read_in_order};
use crate::support::{
    files::{create_closed, write_at},
    opened::Opened,
    random::Random,
    volume::TestVolume,
    wait::eventually,
};

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

async fn open_tidy(volume: &TestVolume, quiet_for: Duration) -> Opened {
    let tidy = |config: &mut DataConfig| {
        config.write_back_after = Duration::from_millis(200);
        config.defragment_after = quiet_for;
    };
    let opened = volume
        .open_through(volume.server.endpoint_url(), FsConfig::default(), tidy)
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
    let volume = TestVolume::new().await;
    let opened = open_tidy(&volume, Duration::from_millis(500)).await;
    let (ino, model) = written_over(&opened, "file", LEN).await;
    let before = distinct_frames(&extents(&opened, ino).await);
    assert!(before > LEN / FRAME * 2, "{before} frames");
    let sent = volume.server.stats().body_bytes_in;
    put_in_order(&opened, ino, LEN).await;
    // And that is all: what is in order is left alone.
    let settled = || (opened.meta.applied(), gets(&volume));
    for tries in 0.. {
        let before = settled();
        tokio::time::sleep(Duration::from_secs(2)).await;
        if settled() == before {
            break;
        }
        assert!(tries < 10, "it is put in order again and again");
    }
    let sent = volume.server.stats().body_bytes_in - sent;
    // Once. Where the machine is slow, write-back takes a piece before the whole of it was moved,
    // and it is moved again.
    assert!(sent < LEN * 2, "{sent} bytes went up");
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    opened.close().await;
    let (requests, fetched) = frames_read_cold(&volume, ino, &model).await;
    assert!(fetched < LEN / FRAME * 5 / 4, "{fetched} frames");
    assert!(requests < 40, "{requests} GETs");
}

/// Reading a scattered file in order is a sign too: whoever wrote it was another mount.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_a_reader_in_order_finds_scattered_is_put_in_order() {
    const LEN: u64 = 10 << 20;
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let (ino, model) = written_over(&opened, "file", LEN).await;
    opened.close().await;
    let opened = open_tidy(&volume, Duration::from_millis(500)).await;
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
    let volume = TestVolume::new().await;
    let opened = open_tidy(&volume, Duration::from_millis(300)).await;
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
    let volume = TestVolume::new().await;
    let mut random = Random(17);
    let opened = open_tidy(&volume, Duration::from_secs(600)).await;
    let (ino, mut model) = written_over(&opened, "file", LEN).await;
    opened.close().await;
    for round in 0..8 {
        let opened = open_tidy(&volume, Duration::ZERO).await;
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
    let opened = volume.open().await;
    assert!(read_in_order(&opened, ino, 256 << 10).await == model);
    opened.close().await;
}

/// On a link of 4 MB a second, to read and write 8 MiB takes four seconds without a pause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn putting_in_order_takes_a_share_of_the_link_only() {
    const LEN: u64 = 8 << 20;
    const BANDWIDTH: u64 = 4_000_000;
    let volume = TestVolume::new().await;
    let opened = open_tidy(&volume, Duration::from_secs(1)).await;
    let (ino, _) = written_over(&opened, "file", LEN).await;
    let faults = strongroom::server::Faults {
        bandwidth: Some(BANDWIDTH),
        ..Default::default()
    };
    volume.server.set_faults(faults);
    let moved = || {
        let stats = volume.server.stats();
        stats.body_bytes_in + stats.body_bytes_out
    };
    let before = moved();
    eventually("it begins", async || moved() > before + (256 << 10)).await;
    let (before, began) = (moved(), std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(8)).await;
    let share = (moved() - before) as f64 / began.elapsed().as_secs_f64() / BANDWIDTH as f64;
    println!("{share:.2} of the link");
    assert!((0.02..0.4).contains(&share), "{share:.2} of the link");
    volume
        .server
        .set_faults(strongroom::server::Faults::default());
    assert!(
        !is_in_order(&opened, ino, LEN).await,
        "it was over too soon"
    );
    opened.close().await;
}
