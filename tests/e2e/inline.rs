//! Small files that are synced: their bytes go into the metadata, and one request makes them
//! durable.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use strongroom::server::Faults;

use crate::support::{
    mount::Mount,
    random::noise,
    site::{Site, Transport},
};

/// The largest that goes inline.
const INLINE_MAX: usize = 4096;

fn open(mount: &Mount<'_>, name: &str) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    options.open(mount.dir.join(name)).expect("open")
}

/// Waits until nothing but what the test does makes requests.
fn wait_idle(site: &Site) {
    let mut last = site.stats().total_requests();
    loop {
        thread::sleep(Duration::from_millis(1500));
        let now = site.stats().total_requests();
        if now == last {
            return;
        }
        last = now;
    }
}

/// PUTs, and requests, that `work` takes.
fn cost(site: &Site, work: impl FnOnce()) -> (u64, u64) {
    let before = site.stats();
    work();
    let after = site.stats();
    (
        after.count("PutObject") - before.count("PutObject"),
        after.total_requests() - before.total_requests(),
    )
}

#[test]
fn syncing_a_small_file_takes_one_request() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    let file = open(&mount, "f");
    file.sync_all().expect("fsync");
    wait_idle(&site);
    let mut costs = Vec::new();
    let mut step = |what, work: &dyn Fn()| {
        let cost = cost(&site, || {
            work();
            file.sync_all().expect("fsync");
        });
        costs.push((what, cost));
    };
    step("new", &|| {
        file.write_all_at(&noise(1, INLINE_MAX), 0).unwrap()
    });
    step("overwritten", &|| {
        file.write_all_at(b"other", 1000).unwrap()
    });
    step("grown", &|| {
        file.write_all_at(&noise(2, 3000), 4096).unwrap()
    });
    step("cut", &|| file.set_len(5000).unwrap());
    step("sparse", &|| file.write_all_at(b"far", 60_000).unwrap());
    assert!(costs.iter().all(|(_, cost)| *cost == (1, 1)), "{costs:?}");
    // Not what is larger, nor in a large file: there it is an object and the log.
    let (puts, _) = cost(&site, || {
        file.write_all_at(&noise(3, INLINE_MAX + 1), 0).unwrap();
        file.sync_all().unwrap();
    });
    assert_eq!(puts, 2);
    file.set_len(1 << 20).unwrap();
    file.sync_all().unwrap();
    let (puts, _) = cost(&site, || {
        file.write_all_at(b"in a large file", 0).unwrap();
        file.sync_all().unwrap();
    });
    assert_eq!(puts, 2);
    // O_SYNC is an fsync after each write.
    let mut options = OpenOptions::new();
    options.write(true).create(true).custom_flags(libc::O_SYNC);
    let mut synchronous = options.open(mount.dir.join("s")).unwrap();
    synchronous.write_all(b"first").unwrap();
    let (puts, _) = cost(&site, || synchronous.write_all(b"second").unwrap());
    assert_eq!(puts, 1);
    drop(synchronous);
    drop(file);
    mount.unmount();
}

#[test]
fn closing_takes_one_request_where_it_waits() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["--durability", "close"]);
    fs::write(mount.dir.join("warm"), b"up").unwrap();
    wait_idle(&site);
    let (puts, _) = cost(&site, || fs::write(mount.dir.join("f"), b"bytes").unwrap());
    // Creation and contents become durable together.
    assert_eq!(puts, 1);
    mount.unmount();
}

/// The file as it should be, and what it is made of.
struct Tracked {
    file: File,
    bytes: Vec<u8>,
}

impl Tracked {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.file.write_all_at(bytes, offset as u64).expect("write");
        let end = offset + bytes.len();
        self.bytes.resize(self.bytes.len().max(end), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    fn cut(&mut self, len: usize) {
        self.file.set_len(len as u64).expect("truncate");
        self.bytes.resize(len, 0);
    }
}

fn assert_holds(path: &Path, expected: &[u8], when: &str) {
    let found = fs::read(path).expect("read");
    let first = found.iter().zip(expected).position(|(a, b)| a != b);
    let lens = (found.len(), expected.len());
    assert!(
        found == expected,
        "{when}: {path:?} {lens:?} differs from {first:?} on"
    );
}

/// Writes, cuts and syncs in many mixtures: pieces inline, in packs, dirty, on their way, beyond
/// what goes inline and back.
#[test]
fn synced_bytes_are_there_after_a_kill_whatever_they_were_mixed_with() {
    const FILES: u64 = 12;
    const STEPS: u64 = 40;
    let site = Site::start(Transport::Plain);
    let mut all: Vec<Vec<u8>> = vec![Vec::new(); FILES as usize];
    for round in 0..3 {
        let mount = site.mount();
        all = thread::scope(|scope| {
            let work = |(number, bytes): (usize, Vec<u8>)| {
                let mut file = Tracked {
                    file: open(&mount, &format!("f{number}")),
                    bytes,
                };
                let path = mount.dir.join(format!("f{number}"));
                scope.spawn(move || {
                    for step in 0..STEPS {
                        let seed = (round * FILES + number as u64) * STEPS + step;
                        let dice = noise(seed, 8);
                        let reach = [4096, 20_000, 60_000, 90_000][usize::from(dice[0] % 4)];
                        let at = u16::from_le_bytes([dice[1], dice[2]]) as usize % reach;
                        let len = [1, 100, 4000, 4096, 5000, 30_000][usize::from(dice[3] % 6)];
                        match dice[4] % 8 {
                            0 => file.cut(at),
                            _ => file.write(at, &noise(seed, len)),
                        }
                        match dice[5] % 8 {
                            // Left to the write-back, which may be at it when the next fsync comes.
                            0 => thread::sleep(Duration::from_millis(u64::from(dice[6]) * 6)),
                            1..=5 => file.file.sync_all().expect("fsync"),
                            _ => assert_holds(&path, &file.bytes, "not synced"),
                        }
                    }
                    file.file.sync_all().expect("fsync");
                    assert_holds(&path, &file.bytes, "synced");
                    file.bytes
                })
            };
            let threads: Vec<_> = all.into_iter().enumerate().map(work).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("thread");
            threads.into_iter().map(join).collect()
        });
        File::open(&mount.dir).unwrap().sync_all().unwrap();
        assert_eq!(mount.status()["durability"]["dirty_bytes"], 0);
        mount.kill();
        let mount = site.mount();
        for (number, bytes) in all.iter().enumerate() {
            assert_holds(
                &mount.dir.join(format!("f{number}")),
                bytes,
                "after the kill",
            );
        }
        mount.unmount();
    }
    // The space they took is accounted for, however it was stored.
    let mount = site.mount();
    for number in 0..FILES {
        fs::remove_file(mount.dir.join(format!("f{number}"))).unwrap();
    }
    let began = Instant::now();
    while mount.status()["volume"]["bytes"] != 0 {
        let left = &mount.status()["volume"]["bytes"];
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{left} bytes are left"
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert!(mount.status()["volume"]["inodes"].as_u64() <= Some(1));
    mount.unmount();
}

#[test]
fn a_file_that_outgrows_the_metadata_is_whole_and_reading_reserves_nothing_for_long() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    let mut expected = Vec::new();
    let mut log = open(&mount, "log");
    for line in 0..120 {
        let bytes = noise(line, 900);
        log.write_all(&bytes).unwrap();
        log.sync_data().unwrap();
        expected.extend(bytes);
    }
    drop(log);
    mount.kill();
    let mount = site.mount();
    assert_holds(&mount.dir.join("log"), &expected, "cold");
    let file = open(&mount, "log");
    for at in (0..expected.len() - 5000).step_by(7919) {
        let mut part = vec![0; 5000];
        file.read_exact_at(&mut part, at as u64).unwrap();
        assert!(part == expected[at..at + 5000], "at {at}");
    }
    drop(file);
    let owners = mount.status()["memory"]["owners"].clone();
    assert_eq!(owners["dirty"]["current_bytes"], 0, "{owners}");
    assert_eq!(owners["read"]["current_bytes"], 0, "{owners}");
    mount.unmount();
}

#[test]
fn many_who_sync_at_once_share_their_requests() {
    const THREADS: u64 = 32;
    const EACH: u64 = 10;
    const LATENCY: Duration = Duration::from_millis(20);
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    fs::write(mount.dir.join("warm"), b"up").unwrap();
    open(&mount, "warm").sync_all().unwrap();
    let faults = Faults {
        latency: LATENCY,
        ..Default::default()
    };
    site.server().set_faults(faults).expect("faults");
    let before = site.stats();
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let work = |thread: u64| {
            let mount = &mount;
            scope.spawn(move || {
                let sync = |number: u64| {
                    let file = open(mount, &format!("f{thread}-{number}"));
                    file.write_all_at(&noise(number, INLINE_MAX), 0).unwrap();
                    let began = Instant::now();
                    file.sync_all().unwrap();
                    began.elapsed()
                };
                (0..EACH).map(sync).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..THREADS).map(work).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let puts = site.stats().count("PutObject") - before.count("PutObject");
    site.server().set_faults(Faults::default()).expect("faults");
    took.sort();
    let median = took[took.len() / 2];
    eprintln!("{} fsyncs: median {median:?}, {puts} PUTs", took.len());
    assert!(median <= LATENCY * 4, "median {median:?}");
    assert!(puts <= THREADS * EACH / 4, "{puts} PUTs");
    mount.unmount();
}
