//! Pages that the kernel is given unasked: they spare it requests, and never show what is old.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use strongroom::server::Faults;

use crate::support::{
    opened::MountedVolume,
    random::{Random, noise},
    volume::TestVolume,
};

const PAGE: usize = 4096;
const PAGES: usize = 1024;

fn kernel_reads(at: &MountedVolume) -> u64 {
    let by_name = at.opened.metrics.kernel_requests.by_name();
    by_name.get("read").copied().unwrap_or(0)
}

/// The pages of the file in another order in each turn.
fn order(turn: usize) -> impl Iterator<Item = usize> {
    // 389 and 1024 have no divisor in common.
    (0..PAGES).map(move |index| (index * 389 + turn * 101) % PAGES)
}

fn forget_pages(file: &File) {
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("advice");
}

fn read_all(path: &Path, expected: &[u8]) {
    let file = File::open(path).expect("open");
    forget_pages(&file);
    let mut page = [0; PAGE];
    for index in order(0) {
        file.read_exact_at(&mut page, (index * PAGE) as u64)
            .expect("read");
        assert!(
            page == expected[index * PAGE..(index + 1) * PAGE],
            "page {index}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dense_reads_in_no_order_cost_far_fewer_requests_than_pages() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let content = noise(7, PAGES * PAGE);
    let mut file = File::create(at.path("f")).expect("create");
    file.write_all(&content).expect("write");
    file.sync_all().expect("fsync");
    drop(file);
    at.unmount().await;

    let at = volume.mount().await;
    read_all(&at.path("f"), &content);
    let before = kernel_reads(&at);
    read_all(&at.path("f"), &content);
    let asked = kernel_reads(&at) - before;
    assert!(
        asked < PAGES as u64 / 3,
        "{asked} requests for {PAGES} pages"
    );
    assert!(at.opened.metrics.page_fill_bytes.get() > 0);
    at.unmount().await;
}

/// Overwrites each page, in no order and in quarters that are synced: the file lies scattered.
fn scatter(path: &Path, content: &mut [u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("open");
    for (turn, index) in order(1).enumerate() {
        let page = &mut content[index * PAGE..(index + 1) * PAGE];
        page[0] ^= 1;
        file.write_all_at(page, (index * PAGE) as u64)
            .expect("write");
        if (turn + 1).is_multiple_of(PAGES / 4) {
            file.sync_all().expect("fsync");
        }
    }
}

async fn scattered(volume: &TestVolume) -> Vec<u8> {
    let at = volume.mount().await;
    let mut content = noise(8, PAGES * PAGE);
    fs::write(at.path("f"), &content).expect("write");
    scatter(&at.path("f"), &mut content);
    at.unmount().await;
    content
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_lies_scattered_is_read_in_order_once_and_kept() {
    let volume = TestVolume::new().await;
    let content = scattered(&volume).await;
    let at = volume.mount().await;
    read_all(&at.path("f"), &content);
    let asked = kernel_reads(&at);
    assert!(
        asked < PAGES as u64 / 2,
        "{asked} requests for {PAGES} pages"
    );
    at.unmount().await;
}

/// Bytes that a stretch has read are not handed over once somebody has written to the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_written_beside_a_stretch_stays_new() {
    let volume = TestVolume::new().await;
    let mut content = scattered(&volume).await;
    let slow = Faults {
        latency: Duration::from_millis(3),
        ..Faults::default()
    };
    volume.server.set_faults(slow);
    let mut random = Random::new(9);
    let mut beside = 0;
    for round in 0..20 {
        let at = volume.mount().await;
        let path = at.path("f");
        let filled = || at.opened.metrics.page_fill_bytes.get();
        let file = File::open(&path).expect("open");
        let mut page = [0; PAGE];
        let mut pages = order(round);
        while filled() == 0 {
            let index = pages.next().expect("a stretch before all pages are read");
            file.read_exact_at(&mut page, (index * PAGE) as u64)
                .expect("read");
        }
        // Near the place that is being read.
        let near = filled() as usize / PAGE + random.below(128) as usize;
        let index = near.min(PAGES - 1);
        let newer = [round as u8; PAGE];
        let writer = OpenOptions::new().write(true).open(&path).expect("open");
        writer
            .write_all_at(&newer, (index * PAGE) as u64)
            .expect("write");
        drop(writer);
        content[index * PAGE..(index + 1) * PAGE].copy_from_slice(&newer);
        beside += u32::from(filled() < content.len() as u64);
        let mut before = u64::MAX;
        while before != filled() {
            before = filled();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for index in 0..PAGES {
            let at = index * PAGE;
            file.read_exact_at(&mut page, at as u64).expect("read");
            assert!(page == content[at..at + PAGE], "page {index} is old");
        }
        drop(file);
        at.unmount().await;
    }
    assert!(beside > 10, "only {beside} writes came beside a stretch");
}

/// The version of each page that was written last, and a count of cuts: odd while one is made.
struct Written {
    versions: Vec<AtomicU64>,
    cuts: AtomicU64,
    over: AtomicBool,
}

fn page_of(index: usize, version: u64) -> [u8; PAGE] {
    let mut page = [version as u8; PAGE];
    page[..8].copy_from_slice(&(index as u64).to_le_bytes());
    page[8..16].copy_from_slice(&version.to_le_bytes());
    page
}

/// Writes pages through handles that it opens for a moment, and cuts the file now and then.
fn write_on(path: &Path, written: &Written) -> io::Result<()> {
    let mut version = 1;
    let mut index = 0;
    while !written.over.load(Ordering::Relaxed) {
        version += 1;
        let file = OpenOptions::new().write(true).open(path)?;
        for _ in 0..3 {
            index = (index * 5 + 7) % PAGES;
            file.write_all_at(&page_of(index, version), (index * PAGE) as u64)?;
            written.versions[index].store(version, Ordering::SeqCst);
        }
        drop(file);
        if version.is_multiple_of(16) {
            written.cuts.fetch_add(1, Ordering::SeqCst);
            // By its name, as truncate(1) does not: no handle may write meanwhile.
            nix::unistd::truncate(path, (PAGES * PAGE / 2) as i64)?;
            let file = OpenOptions::new().write(true).open(path)?;
            for index in PAGES / 2..PAGES {
                file.write_all_at(&page_of(index, version), (index * PAGE) as u64)?;
                written.versions[index].store(version, Ordering::SeqCst);
            }
            drop(file);
            written.cuts.fetch_add(1, Ordering::SeqCst);
        }
    }
    Ok(())
}

/// Reads pages in no order, and finds none that is older than what was written before it asked.
fn read_on(path: &Path, written: &Written, turn: usize) -> Result<(), String> {
    let mut page = [0; PAGE];
    let mut turn = turn;
    while !written.over.load(Ordering::Relaxed) {
        turn += 3;
        let file = File::open(path).map_err(|error| error.to_string())?;
        forget_pages(&file);
        for index in order(turn).take(PAGES / 2) {
            let cuts = written.cuts.load(Ordering::SeqCst);
            let least = written.versions[index].load(Ordering::SeqCst);
            let read = file.read_exact_at(&mut page, (index * PAGE) as u64);
            let was_cut = cuts % 2 == 1 || cuts != written.cuts.load(Ordering::SeqCst);
            if was_cut && index >= PAGES / 2 {
                continue;
            }
            read.map_err(|error| format!("page {index}: {error}"))?;
            let number = |at: usize| u64::from_le_bytes(page[at..at + 8].try_into().expect("8"));
            let (found, version) = (number(0), number(8));
            if found != index as u64 || version < least {
                return Err(format!("page {found}, {version} for page {index}, {least}"));
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_come_unasked_are_never_older_than_what_was_written() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let path = at.path("f");
    let content = (0..PAGES)
        .flat_map(|index| page_of(index, 1))
        .collect::<Vec<_>>();
    fs::write(&path, content).expect("write");
    File::open(&path)
        .and_then(|file| file.sync_all())
        .expect("fsync");
    let written = Arc::new(Written {
        versions: (0..PAGES).map(|_| AtomicU64::new(1)).collect(),
        cuts: AtomicU64::new(0),
        over: AtomicBool::new(false),
    });
    let readers = (0..3).map(|turn| {
        let (path, written) = (path.clone(), Arc::clone(&written));
        thread::spawn(move || {
            let outcome = read_on(&path, &written, turn);
            written.over.store(true, Ordering::Relaxed);
            outcome
        })
    });
    let readers = readers.collect::<Vec<_>>();
    let writer = {
        let (path, written) = (path.clone(), Arc::clone(&written));
        thread::spawn(move || write_on(&path, &written))
    };
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) && !written.over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    written.over.store(true, Ordering::Relaxed);
    for reader in readers {
        let outcome = tokio::task::spawn_blocking(|| reader.join().expect("no panic"));
        outcome.await.expect("joined").expect("a page that is old");
    }
    let wrote = tokio::task::spawn_blocking(|| writer.join().expect("no panic"));
    wrote.await.expect("joined").expect("written");
    let filled = at.opened.metrics.page_fill_bytes.get();
    assert!(
        filled > 100 * 64 * 1024,
        "{filled}: too few fills to prove anything"
    );
    at.unmount().await;
}
