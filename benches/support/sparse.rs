//! Random reads of files that are much larger than any memory: a sparse one of 100 GiB, of which
//! 64 MiB were written at scattered places, and a dense one of 16 GiB. A lone miss must move one
//! frame, whatever is read.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    PAGE,
    harness::site::Site,
    make_file, say,
    support::{MIB, Random, noise},
};

const GIB: u64 = 1 << 30;
const SPARSE_BYTES: u64 = 100 * GIB;
const WRITTEN_PAGES: u64 = (64 << 20) / PAGE;
const DENSE_BYTES: u64 = 16 * GIB;
const READ_FOR: Duration = Duration::from_secs(12);

/// Bytes moved for each byte that is asked for: a frame is 16 pages.
const TIMES_MAX: f64 = 20.0;

/// Needs 17 GiB of disk.
pub fn run(site: &Site) {
    let mount = site.mount();
    write_pages(&mount.dir.join("sparse"));
    make_file(
        &mount.dir.join("dense"),
        (DENSE_BYTES / MIB as u64) as usize,
    );
    mount.unmount();

    let mut written = written_pages().collect::<Vec<_>>();
    let mut random = Random(0x5eed);
    for last in (1..written.len()).rev() {
        written.swap(last, random.next() as usize % (last + 1));
    }
    read_pages(site, "sparse", written.into_iter().cycle());
    read_pages(site, "dense", pages_of(DENSE_BYTES, 0xfeed));
}

fn pages_of(bytes: u64, seed: u64) -> impl Iterator<Item = u64> {
    let mut random = Random(seed);
    std::iter::repeat_with(move || random.next() % (bytes / PAGE) * PAGE)
}

fn written_pages() -> impl Iterator<Item = u64> {
    pages_of(SPARSE_BYTES, 0x9e37_79b9_7f4a_7c15).take(WRITTEN_PAGES as usize)
}

fn write_pages(path: &Path) {
    let file = File::create(path).expect("create");
    file.set_len(SPARSE_BYTES).expect("length");
    let content = noise(MIB);
    for (index, at) in written_pages().enumerate() {
        let start = index * 64 % (MIB - PAGE as usize);
        file.write_all_at(&content[start..start + PAGE as usize], at)
            .expect("write");
    }
    file.sync_all().expect("fsync");
}

/// Reads pages on a cold mount for a while.
fn read_pages(site: &Site, name: &str, pages: impl Iterator<Item = u64>) {
    let mount = site.mount();
    let file = File::open(mount.dir.join(name)).expect("open");
    let before = site.stats();
    let began = Instant::now();
    let mut page = [0; PAGE as usize];
    let mut reads = 0;
    for at in pages.take_while(|_| began.elapsed() < READ_FOR) {
        file.read_exact_at(&mut page, at).expect("read");
        reads += 1;
    }
    let rate = reads as f64 / began.elapsed().as_secs_f64();
    let now = site.stats();
    let moved = now.socket_bytes_written - before.socket_bytes_written;
    let times = moved as f64 / (reads * PAGE) as f64;
    say(
        &format!("random 4 KiB reads of the {name} file, cold"),
        format!("{rate:.0}/s"),
        "",
    );
    say(
        "  moved for each byte",
        format!("{times:.1} of {:.0} MB", moved as f64 / 1e6),
        &format!("at most {TIMES_MAX}"),
    );
    drop(file);
    mount.unmount();
}
