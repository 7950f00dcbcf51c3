//! Prefetch beyond a miss, measured by the requests and bytes that the server counts.

use std::time::{Duration, Instant};

use strongroom::{
    budget::Owner,
    data::MemoryPlan,
    fs::FsConfig,
    meta::Ino,
    server::{Faults, StatsSnapshot},
};

use crate::support::{
    files::create_closed, opened::Opened, random::Random, volume::TestVolume, wait::eventually,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const FRAME: u64 = 64 * KIB;
const LARGE: u64 = 64 * MIB;
const FAR: Duration = Duration::from_millis(20);

/// Noise that tells where in which file it is.
fn contents(ino: Ino, at: u64, len: u64) -> Vec<u8> {
    let word = |index: u64| (index ^ ino.0 << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (at / 8..(at + len).div_ceil(8)).flat_map(|index| word(index).to_le_bytes());
    words.skip((at % 8) as usize).take(len as usize).collect()
}

async fn create(opened: &Opened, name: &str, len: u64) -> Ino {
    let ino = create_closed(opened, name).await;
    for at in (0..len).step_by(MIB as usize) {
        let bytes = contents(ino, at, MIB.min(len - at));
        let buffer = opened.data.buffer(&bytes).await;
        opened.fs.write(ino, at, buffer, false).await.unwrap();
    }
    ino
}

/// A file that a mount with so much memory has written, and no mount has read since.
async fn cold_file(volume: &TestVolume, memory: u64, len: u64) -> Ino {
    let opened = open(volume, memory).await;
    let ino = create(&opened, "file", len).await;
    opened.data.drain().await.unwrap();
    opened.close().await;
    move_server(volume, None);
    ino
}

async fn read(opened: &Opened, ino: Ino, at: u64, len: u64) {
    let file = opened.data.open(ino);
    let reply = opened.data.read(&file, at, len as u32).await.unwrap();
    assert!(reply.bytes[..] == contents(ino, at, len)[..], "at {at}");
}

fn since(volume: &TestVolume, before: &StatsSnapshot) -> (u64, u64) {
    let now = volume.server.stats();
    let gets = now.count("GetObject") - before.count("GetObject");
    (gets, now.body_bytes_out - before.body_bytes_out)
}

/// Opens the volume as a mount with so much memory, and a cache on the local disk.
async fn open_with_disk(volume: &TestVolume, memory_bytes: u64, disk_bytes: u64) -> Opened {
    let plan = MemoryPlan::with_disk_cache(memory_bytes, Some(disk_bytes));
    volume.open_planned(FsConfig::default(), plan).await
}

/// Opens the volume as a mount with so much memory.
async fn open(volume: &TestVolume, memory_bytes: u64) -> Opened {
    let plan = MemoryPlan::for_memory(memory_bytes);
    volume.open_planned(FsConfig::default(), plan).await
}

fn move_server(volume: &TestVolume, bandwidth: Option<u64>) {
    let faults = Faults {
        latency: FAR,
        bandwidth,
        ..Faults::default()
    };
    volume.server.set_faults(faults);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_is_fetched_whole_whatever_the_order_in_which_its_files_are_read() {
    const FILES: u64 = 500;
    const LEN: u64 = 8 * KIB;
    let volume = TestVolume::new().await;
    let opened = open(&volume, 256 * MIB).await;
    let mut files = Vec::new();
    for index in 0..FILES {
        files.push(create(&opened, &format!("file-{index}"), LEN).await);
    }
    opened.data.drain().await.unwrap();
    opened.close().await;
    move_server(&volume, None);

    let opened = open(&volume, 256 * MIB).await;
    for ino in &files {
        // Reads of the files' metadata are not counted below.
        opened.meta.inode(*ino).await.unwrap();
    }
    let before = volume.server.stats();
    for ino in Random(1).shuffled(files) {
        read(&opened, ino, 0, LEN).await;
    }
    let (gets, bytes) = since(&volume, &before);
    println!("{gets} GETs, {bytes} bytes");
    // Packs of 5 MiB at most, cut short where the write-back's timer fell in between.
    assert!(gets <= 25, "{gets} GETs for {FILES} files");
    assert!(bytes * 10 <= FILES * LEN * 13, "{bytes} bytes moved");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_read_all_over_comes_into_memory_with_few_requests() {
    const LEN: u64 = 32 * MIB;
    let volume = TestVolume::new().await;
    let ino = cold_file(&volume, 256 * MIB, LEN).await;

    let opened = open(&volume, 256 * MIB).await;
    let mut random = Random(2);
    let before = volume.server.stats();
    for _ in 0..1_500 {
        read(&opened, ino, random.below(LEN / 4096) * 4096, 4096).await;
    }
    let (gets, bytes) = since(&volume, &before);
    println!("{gets} GETs, {bytes} bytes");
    // Some frames of 512.
    assert!(gets <= 100, "{gets} GETs");
    assert!(bytes <= LEN * 5 / 4, "{bytes} bytes moved");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lone_reads_of_a_file_that_does_not_fit_into_memory_move_a_frame_each() {
    const LEN: u64 = 256 * MIB;
    const READS: u64 = 96;
    let volume = TestVolume::new().await;
    let ino = cold_file(&volume, 128 * MIB, LEN).await;

    let opened = open(&volume, 128 * MIB).await;
    read(&opened, ino, 0, 1).await;
    let mut random = Random(3);
    let before = volume.server.stats();
    for _ in 0..READS {
        let frame = random.below(LEN / FRAME);
        read(&opened, ino, frame * FRAME + 1000, 4096).await;
    }
    let (gets, bytes) = since(&volume, &before);
    println!("{gets} GETs, {bytes} bytes");
    // The file's extents are looked up as well.
    assert!(gets <= READS * 5 / 4, "{gets} GETs");
    assert!(bytes <= READS * FRAME * 5 / 4, "{bytes} bytes moved");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_does_not_fit_into_memory_comes_to_the_local_disk_with_few_requests() {
    const LEN: u64 = 128 * MIB;
    let volume = TestVolume::new().await;
    let ino = cold_file(&volume, 128 * MIB, LEN).await;

    let opened = open_with_disk(&volume, 128 * MIB, 512 * MIB).await;
    let mut random = Random(5);
    let before = volume.server.stats();
    for _ in 0..6_000 {
        read(&opened, ino, random.below(LEN / 4096) * 4096, 4096).await;
    }
    let (gets, bytes) = since(&volume, &before);
    let disk = opened.data.disk_status().unwrap();
    println!("{gets} GETs, {bytes} bytes, {disk:?}");
    // Without the disk there are some thousands.
    assert!(gets <= 400, "{gets} GETs");
    assert!(bytes <= LEN * 5 / 4, "{bytes} bytes moved");
    assert!(disk.hits > 1_000, "{disk:?}");
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_local_disk_has_is_not_fetched_because_something_near_it_is_read() {
    const FILES: u64 = 6;
    const LEN: u64 = 4 * MIB;
    const READS: u64 = 60;
    let volume = TestVolume::new().await;
    let opened = open_with_disk(&volume, 512 * MIB, 512 * MIB).await;
    let mut files = Vec::new();
    for index in 1..=FILES {
        files.push(create(&opened, &format!("file-{index}"), LEN).await);
        opened.data.drain().await.unwrap();
        // Written data goes to the disk as well, as far as its queue of 8 MiB has room.
        has_on_disk(&opened, index * LEN / FRAME).await;
    }
    opened.close().await;
    move_server(&volume, None);

    let opened = open_with_disk(&volume, 512 * MIB, 512 * MIB).await;
    has_on_disk(&opened, FILES * LEN / FRAME).await;
    let before = volume.server.stats();
    let mut random = Random(6);
    for _ in 0..READS {
        let ino = files[random.below(FILES) as usize];
        read(&opened, ino, random.below(LEN / FRAME) * FRAME, 4096).await;
    }
    let (gets, bytes) = since(&volume, &before);
    let cached = opened.data.governor().used_bytes(Owner::Cache);
    println!("{gets} GETs, {bytes} bytes moved, {cached} bytes in memory");
    // The metadata is asked for.
    assert!(bytes < MIB, "{bytes} bytes moved");
    assert!(cached <= READS * FRAME, "{cached} bytes in memory");
    opened.close().await;
}

async fn has_on_disk(opened: &Opened, frames: u64) {
    eventually("the local disk has what was written", async || {
        opened.data.disk_status().unwrap().frames >= frames
    })
    .await;
}

/// A volume whose one file of 64 MiB is read all over until some MiB of it are on their way, over a
/// link that is so slow from then on.
async fn with_a_region_on_its_way(volume: &TestVolume, bandwidth: u64) -> (Opened, Ino) {
    let opened = open(volume, 256 * MIB).await;
    let ino = create(&opened, "file", LARGE).await;
    opened.data.drain().await.unwrap();
    opened.close().await;
    move_server(volume, None);

    let opened = open(volume, 256 * MIB).await;
    let governor = opened.data.governor();
    let mut random = Random(4);
    let reading = async {
        for _ in 0..2_000 {
            read(&opened, ino, random.below(LARGE / 4096) * 4096, 4096).await;
        }
    };
    let on_its_way = async {
        while governor.used_bytes(Owner::Read) < 4 * MIB {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        move_server(volume, Some(bandwidth));
    };
    tokio::select! {
        () = on_its_way => {}
        () = reading => panic!("nothing was fetched along"),
    }
    (opened, ino)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_on_their_way_give_way_to_whoever_needs_memory() {
    let volume = TestVolume::new().await;
    let (opened, ino) = with_a_region_on_its_way(&volume, MIB / 4).await;
    let governor = opened.data.governor();
    let asked = Instant::now();
    let most = governor.owner_max_bytes(Owner::Read);
    let everything = governor.acquire(Owner::Read, most).await;
    let waited = asked.elapsed();
    assert!(waited < Duration::from_secs(1), "waited {waited:?}");
    drop(everything);
    // The rest is not fetched by itself.
    assert_eq!(governor.used_bytes(Owner::Read), 0);
    move_server(&volume, None);
    read(&opened, ino, LARGE / 2, 4096).await;
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_nobody_reads_any_more_is_not_fetched_to_its_end() {
    let volume = TestVolume::new().await;
    let before = volume.server.stats();
    let (opened, _) = with_a_region_on_its_way(&volume, 8 * MIB).await;
    let governor = opened.data.governor();
    eventually("nothing is on its way", async || {
        governor.used_bytes(Owner::Read) == 0
    })
    .await;
    let (_, bytes) = since(&volume, &before);
    println!("{bytes} bytes");
    assert!(bytes < LARGE * 7 / 8, "{bytes} bytes moved");
    opened.close().await;
}
