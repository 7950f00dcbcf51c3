//! Many more readers and writers at once than `--memory 128MiB` has room for.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use strongroom::server::StatsSnapshot;

use super::cgroup::{Cgroup, MEMORY_LIMIT};
use crate::support::{mount::Mount, site::Transport};

const PIECE: usize = 256 << 10;

/// The bytes of file `number`: different in every file and at every place.
struct Pattern {
    number: u64,
    offset: u64,
}

impl Pattern {
    fn of(number: usize) -> Pattern {
        Pattern {
            number: number as u64,
            offset: 0,
        }
    }

    /// Fills `piece`, whose length is a multiple of 8, with what comes next.
    fn fill(&mut self, piece: &mut [u8]) {
        for word in piece.chunks_exact_mut(8) {
            // Splitmix64.
            let mut z = (self.number << 40)
                .wrapping_add(self.offset)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
            self.offset += 8;
        }
    }
}

fn write_file(dir: &Path, number: usize, len: usize) {
    let mut file = File::create(dir.join(format!("f{number}"))).expect("create");
    let mut pattern = Pattern::of(number);
    let mut piece = vec![0; PIECE];
    for _ in 0..len / PIECE {
        pattern.fill(&mut piece);
        file.write_all(&piece).expect("write");
    }
}

/// Reads and compares; every tenth reader is a slow one.
fn read_file(dir: &Path, number: usize, len: usize) {
    let mut file = File::open(dir.join(format!("f{number}"))).expect("open");
    let mut pattern = Pattern::of(number);
    let (mut piece, mut expected) = (vec![0; PIECE], vec![0; PIECE]);
    for _ in 0..len / PIECE {
        file.read_exact(&mut piece).expect("read");
        pattern.fill(&mut expected);
        assert!(piece == expected, "file {number} differs");
        if number.is_multiple_of(10) {
            thread::sleep(Duration::from_millis(5));
        }
    }
    assert_eq!(file.read(&mut piece).expect("read"), 0);
}

/// Does `work` with each of `numbers`, `at_once` of them at a time.
fn at_once(numbers: Vec<usize>, at_once: usize, work: impl Fn(usize) + Sync) -> Duration {
    let began = Instant::now();
    let (numbers, done) = (Mutex::new(numbers.into_iter()), AtomicUsize::new(0));
    let total = numbers.lock().expect("lock").len();
    thread::scope(|scope| {
        for _ in 0..at_once {
            thread::Builder::new()
                .stack_size(128 << 10)
                .spawn_scoped(scope, || {
                    loop {
                        let next = numbers.lock().expect("lock").next();
                        let Some(number) = next else { return };
                        work(number);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .expect("thread");
        }
    });
    assert_eq!(done.load(Ordering::Relaxed), total, "some failed");
    began.elapsed()
}

fn assert_small(mount: &Mount<'_>, cgroup: &Cgroup, what: &str) {
    let (peak, charged) = (mount.memory_bytes("VmHWM"), cgroup.peak_bytes());
    eprintln!(
        "{what}: peak RSS {} MiB, cgroup {} MiB",
        peak >> 20,
        charged >> 20
    );
    assert!(peak < MEMORY_LIMIT, "{what}: peak RSS {peak}");
    assert_eq!(cgroup.oom_kills(), 0, "{what}");
}

/// `count` readers of as many files beside 8 readers of the same, and at most `time_share` times
/// theirs.
fn flood_of_readers(count: usize, len: usize, time_share: f64, disk_cache: &'static str) {
    let cgroup = Cgroup::new();
    let mut site = cgroup.site(Transport::Plain);
    site.disk_cache = disk_cache;
    let mount = site.mount();
    let dir = mount.dir.clone();
    at_once((0..count).collect(), 8, |number| {
        write_file(&dir, number, len)
    });
    mount.unmount();

    let mount = site.mount();
    let began_with = site.stats();
    let few = at_once((0..count).collect(), 8, |number| {
        read_file(&mount.dir, number, len)
    });
    assert_small(&mount, &cgroup, "8 readers");
    mount.unmount();

    let mount = site.mount();
    let between = site.stats();
    let many = at_once((0..count).collect(), count, |number| {
        read_file(&mount.dir, number, len)
    });
    assert_small(&mount, &cgroup, &format!("{count} readers"));
    mount.unmount();
    let ended_with = site.stats();
    let gets =
        |from: &StatsSnapshot, to: &StatsSnapshot| to.count("GetObject") - from.count("GetObject");
    eprintln!(
        "GETs: {} for 8 readers, {} for {count}",
        gets(&began_with, &between),
        gets(&between, &ended_with)
    );
    eprintln!(
        "{count} files of {} MiB: 8 readers {few:.1?}, {count} readers {many:.1?}",
        len >> 20
    );
    assert!(
        many.as_secs_f64() <= few.as_secs_f64() * time_share,
        "{count} readers took {many:?}, 8 readers {few:?}"
    );
}

/// `writers` that write files while `readers` read others.
fn flood_of_both(readers: usize, writers: usize, len: usize, disk_cache: &'static str) {
    let cgroup = Cgroup::new();
    let mut site = cgroup.site(Transport::Plain);
    site.disk_cache = disk_cache;
    let mount = site.mount();
    let dir = mount.dir.clone();
    at_once((0..readers).collect(), 8, |number| {
        write_file(&dir, number, len)
    });
    mount.unmount();

    let mount = site.mount();
    let dir: PathBuf = mount.dir.clone();
    let took = mount.explained_during("readers and writers", || {
        at_once(
            (0..readers + writers).collect(),
            readers + writers,
            |number| {
                if number < readers {
                    read_file(&dir, number, len);
                } else {
                    write_file(&dir, number, len);
                }
            },
        )
    });
    eprintln!(
        "{readers} readers and {writers} writers of {} MiB: {took:.1?}",
        len >> 20
    );
    assert_small(&mount, &cgroup, "readers and writers");
    mount.unmount();

    let mount = site.mount();
    at_once((readers..readers + writers).collect(), 8, |number| {
        read_file(&mount.dir, number, len);
    });
    assert_small(&mount, &cgroup, "reading back");
    mount.unmount();
}

#[test]
fn two_hundred_readers_fit_into_128_mib() {
    // 0.8 to 1.1 times as long when nothing else runs. Each half takes half a second, so the rest
    // is room for the tests beside it; the long runs hold large files to 1.5.
    flood_of_readers(200, 2 << 20, 3.0, "off");
}

#[test]
fn readers_and_writers_at_once_fit_into_128_mib() {
    flood_of_both(40, 40, 8 << 20, "off");
}

#[test]
fn readers_and_writers_at_once_fit_into_128_mib_beside_a_disk_cache() {
    flood_of_readers(200, 2 << 20, 3.0, "1GiB");
    flood_of_both(40, 40, 8 << 20, "1GiB");
}

mod long {
    use super::{flood_of_both, flood_of_readers};

    #[test]
    #[ignore = "six gigabytes"]
    fn ninety_readers_of_large_files_fit_into_128_mib() {
        // Aimed at 1.3, and seen: 1.0 to 1.3. The rest is room for a slow minute of the machine in
        // one of the two halves.
        flood_of_readers(90, 64 << 20, 1.5, "off");
    }

    #[test]
    #[ignore = "a gigabyte in a thousand threads"]
    fn a_thousand_readers_fit_into_128_mib() {
        // Aimed at 1.3, and seen: 1.4 to 1.8. A part of it are the thousand threads themselves, the
        // rest the requests: 5 for each file where 8 readers send 1.2.
        flood_of_readers(1000, 1 << 20, 2.2, "off");
    }

    #[test]
    #[ignore = "a gigabyte and a half"]
    fn a_hundred_and_ninety_two_writers_fit_into_128_mib() {
        flood_of_both(0, 192, 8 << 20, "off");
    }

    #[test]
    #[ignore = "two gigabytes"]
    fn ninety_readers_and_as_many_writers_fit_into_128_mib() {
        flood_of_both(90, 192, 8 << 20, "off");
    }
}
