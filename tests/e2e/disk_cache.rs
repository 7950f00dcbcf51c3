//! The disk cache as its users meet it: warm after a remount and after a kill, never wrong, never
//! in the way, never larger than it may be.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    commands::shell,
    mount::Mount,
    random::noise,
    site::{Site, Transport},
    wait::{SOON, block_until, holds},
};

const MIB: usize = 1 << 20;

/// Data that nobody syncs goes out after five seconds.
const UPLOADED_WITHIN: Duration = Duration::from_secs(60);

/// One machine: mounts of it share a state directory.
struct Machine<'a> {
    site: &'a Site,
    state: PathBuf,
}

impl<'a> Machine<'a> {
    fn of(site: &'a Site) -> Machine<'a> {
        Machine {
            site,
            state: site.scratch("machine"),
        }
    }

    fn mount(&self) -> Mount<'a> {
        self.mount_with(&[])
    }

    fn mount_with(&self, options: &[&str]) -> Mount<'a> {
        let state = self.state.to_str().expect("path");
        self.site
            .mount_with(&[&["--state-dir", state], options].concat())
    }

    /// Files that frames lie in.
    fn cached_files(&self) -> Vec<PathBuf> {
        cached_files(&self.state.join("cache"))
    }
}

fn cached_files(dir: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).into_iter();
    files
        .filter_map(|entry| Some(entry.ok()?.into_path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "frames"))
        .collect()
}

/// The space that a directory takes on the disk, as `du` counts. Files may go meanwhile.
fn on_disk_bytes(dir: &Path) -> u64 {
    walkdir::WalkDir::new(dir)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|found| found.blocks() * 512)
        .sum()
}

fn site_with_cache(size: &'static str) -> Site {
    let mut site = Site::start(Transport::Plain);
    site.disk_cache = size;
    site
}

fn figure(mount: &Mount<'_>, name: &str) -> u64 {
    let status = mount.status();
    status["disk_cache"][name].as_u64().expect("a number")
}

fn counter(mount: &Mount<'_>, name: &str) -> u64 {
    mount.status()["counters"][name].as_u64().expect("a number")
}

/// Writes `count` files of `len` bytes.
fn write_files(dir: &Path, count: u64, len: usize) {
    for number in 0..count {
        fs::write(dir.join(format!("f{number}")), noise(number + 1, len)).expect("written");
    }
}

fn check_files(dir: &Path, count: u64, len: usize) {
    for number in 0..count {
        check_file(dir, number, len);
    }
}

fn check_file(dir: &Path, number: u64, len: usize) {
    let found = fs::read(dir.join(format!("f{number}"))).expect("read");
    assert!(found == noise(number + 1, len), "file {number} differs");
}

/// Everything that waits is on the disk.
fn settle(mount: &Mount<'_>) {
    let mut before = None;
    let began = Instant::now();
    loop {
        let now = (figure(mount, "filled_bytes"), figure(mount, "not_filled"));
        if before.replace(now) == Some(now) || began.elapsed() > Duration::from_secs(20) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_remount_reads_from_the_local_disk_and_asks_the_store_for_no_contents() {
    let site = site_with_cache("1GiB");
    let machine = Machine::of(&site);
    let mount = machine.mount();
    write_files(&mount.dir, 3, 16 * MIB);
    fs::create_dir(mount.dir.join("small")).expect("made");
    write_files(&mount.dir.join("small"), 200, 20_000);
    block_until("everything is uploaded", UPLOADED_WITHIN, || {
        mount.status()["durability"]["dirty_bytes"] == 0
    });
    // A disk that is busy with other work is not waited for.
    let left_out = figure(&mount, "not_filled");
    mount.unmount();
    let mount = machine.mount();
    check_files(&mount.dir, 3, 16 * MIB);
    check_files(&mount.dir.join("small"), 200, 20_000);
    let (hits, misses) = (figure(&mount, "hits"), figure(&mount, "misses"));
    eprintln!("after the upload: {hits} hits, {misses} misses, {left_out} left out");
    assert!(hits + left_out > 700, "{hits} and {left_out} of 820");
    let left_out = figure(&mount, "not_filled");
    mount.unmount();

    let mount = machine.mount();
    let received = counter(&mount, "received_bytes");
    let began = Instant::now();
    check_files(&mount.dir, 3, 16 * MIB);
    check_files(&mount.dir.join("small"), 200, 20_000);
    eprintln!("warm: {:.2?}", began.elapsed());
    let misses = figure(&mount, "misses");
    assert!(misses <= left_out, "{misses} misses, {left_out} left out");
    let received = counter(&mount, "received_bytes") - received;
    let missed_bytes = misses * (65 << 10);
    assert!(received < missed_bytes + MIB as u64, "{received} bytes");
    let text = Command::new(crate::support::commands::BINARY)
        .arg("status")
        .arg(&mount.dir)
        .output()
        .expect("status");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("Disk cache") && text.contains(&format!(" {misses} misses")),
        "{text}"
    );
    mount.unmount();
}

#[test]
fn flipped_bits_and_cut_files_are_fetched_again_without_an_error() {
    let site = site_with_cache("1GiB");
    let machine = Machine::of(&site);
    let mount = machine.mount();
    write_files(&mount.dir, 4, 8 * MIB);
    mount.unmount();
    // One bit in each piece of so many bytes: in few frames, in many, in all of them and in headers
    // and tables too.
    for (step, while_mounted) in [
        (1_000_003, false),
        (60_000, false),
        (60_000, true),
        (4_111, true),
        (48, false),
    ] {
        let mount = machine.mount();
        check_files(&mount.dir, 4, 8 * MIB);
        mount.unmount();
        if !while_mounted {
            flip_bits(&machine, step);
        }
        let mount = machine.mount();
        if while_mounted {
            // Each frame can be found by then, and none of them opens.
            let began = Instant::now();
            while figure(&mount, "frames") < 512 {
                assert!(began.elapsed() < Duration::from_secs(20), "they are found");
            }
            flip_bits(&machine, step);
        }
        check_files(&mount.dir, 4, 8 * MIB);
        let (hits, misses) = (figure(&mount, "hits"), figure(&mount, "misses"));
        let dropped = figure(&mount, "dropped");
        eprintln!("a flip in {step} bytes: {hits} hits, {dropped} dropped, {misses} misses");
        assert!(misses > 0, "what is damaged is fetched");
        if while_mounted {
            assert!(dropped >= 500, "each of 512 frames was damaged: {dropped}");
        }
        assert_eq!(counter(&mount, "fuse_errors"), 0);
        assert_eq!(counter(&mount, "authentication_failures"), 0);
        mount.unmount();
    }
    for path in machine.cached_files() {
        let file = OpenOptions::new().write(true).open(path).expect("open");
        let len = file.metadata().expect("there").len();
        file.set_len(len / 2).expect("cut");
    }
    let mount = machine.mount();
    check_files(&mount.dir, 4, 8 * MIB);
    assert_eq!(counter(&mount, "fuse_errors"), 0);
    mount.unmount();
}

fn flip_bits(machine: &Machine<'_>, step: usize) {
    for path in machine.cached_files() {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.expect("open");
        let len = file.metadata().expect("there").len();
        for at in (0..len).step_by(step) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("read");
            let flipped = byte[0] ^ (1 << (at % 8));
            file.write_all_at(&[flipped], at).expect("flipped");
        }
    }
}

/// Kills `rounds` mounts while they read, write and fill their cache.
fn kills(rounds: u64) {
    let site = site_with_cache("64MiB");
    let machine = Machine::of(&site);
    let mount = machine.mount();
    write_files(&mount.dir, 10, 8 * MIB);
    mount.unmount();
    let (mut warm, mut hits) = (0, 0);
    for round in 0..rounds {
        let mut mount = machine.mount();
        // The frames that the mount before wrote are found, in the background.
        warm += u64::from(holds(SOON, || figure(&mount, "frames") > 0));
        let dir = mount.dir.clone();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader in 0..2 {
                let (dir, stop) = (&dir, &stop);
                scope.spawn(move || {
                    for step in 0.. {
                        let number = (round * 3 + reader * 5 + step) % 10;
                        let Ok(found) = fs::read(dir.join(format!("f{number}"))) else {
                            return;
                        };
                        assert!(found == noise(number + 1, 8 * MIB), "file {number} differs");
                        let _ = fs::write(dir.join("other"), &found);
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                });
            }
            thread::sleep(Duration::from_millis(200 + round * 977 % 1500));
            hits += figure(&mount, "hits");
            stop.store(true, Ordering::Relaxed);
            mount.kill_process();
        });
        drop(mount);
        assert!(on_disk_bytes(&machine.state.join("cache")) <= 64 << 20);
    }
    eprintln!("{warm} of {rounds} mounts after a kill were warm: {hits} hits");
    assert!(warm == rounds, "{warm} of {rounds}");
    assert!(hits > 0, "and read from it");
    let mount = machine.mount();
    check_files(&mount.dir, 10, 8 * MIB);
    assert_eq!(counter(&mount, "fuse_errors"), 0);
    mount.unmount();
}

#[test]
fn a_kill_at_any_point_leaves_a_cache_that_is_warm_and_right() {
    kills(6);
}

/// Reads `passes` times a file of `len` through a cache of `size`, and looks at what the cache
/// takes each 100 ms.
fn bound_holds(size: &'static str, size_bytes: u64, len: usize, passes: u32) {
    let site = site_with_cache(size);
    let machine = Machine::of(&site);
    let mount = machine.mount();
    let piece = noise(1, 8 * MIB);
    {
        let file = File::create(mount.dir.join("large")).expect("made");
        for at in (0..len).step_by(piece.len()) {
            file.write_all_at(&piece, at as u64).expect("written");
        }
    }
    settle(&mount);
    let mut filled = figure(&mount, "filled_bytes");
    mount.unmount();
    let (most, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let cache = machine.state.join("cache");
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(on_disk_bytes(&cache), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
        });
        for _ in 0..passes {
            // The kernel's page cache goes with the mount.
            let mount = machine.mount();
            let mut file = File::open(mount.dir.join("large")).expect("open");
            let mut found = vec![0; piece.len()];
            for _ in (0..len).step_by(piece.len()) {
                file.read_exact(&mut found).expect("read");
                assert!(found == piece);
            }
            drop(file);
            filled += figure(&mount, "filled_bytes");
            mount.unmount();
        }
        done.store(true, Ordering::Relaxed);
    });
    let most = most.into_inner();
    eprintln!("{filled} bytes filled through {size}: at most {most} on the disk");
    assert!(most <= size_bytes, "{most}");
    assert!(most > size_bytes * 3 / 4, "{most}: most of it is used");
    assert!(filled > 2 * size_bytes, "{filled}");
}

#[test]
fn it_never_takes_more_than_its_size() {
    bound_holds("16MiB", 16 << 20, 96 * MIB, 2);
}

#[test]
fn a_writer_and_a_reader_of_one_volume_have_their_caches_beside_each_other() {
    let site = site_with_cache("64MiB");
    let machine = Machine::of(&site);
    let writer = machine.mount();
    write_files(&writer.dir, 3, 4 * MIB);
    shell(&writer.dir, "sync f0 f1 f2");
    let reader = machine.mount_with(&["--read-only"]);
    thread::scope(|scope| {
        scope.spawn(|| check_files(&reader.dir, 3, 4 * MIB));
        scope.spawn(|| write_files(&writer.dir, 6, 4 * MIB));
    });
    settle(&reader);
    let directories: Vec<_> = machine
        .cached_files()
        .iter()
        .filter_map(|file| Some(file.parent()?.file_name()?.to_owned()))
        .collect();
    assert!(
        directories.iter().any(|name| name == "0"),
        "{directories:?}"
    );
    assert!(
        directories.iter().any(|name| name == "1"),
        "{directories:?}"
    );
    reader.unmount();
    writer.unmount();
    // The next mount that takes the directory finds the first one's frames.
    let mount = machine.mount_with(&["--read-only"]);
    check_files(&mount.dir, 6, 4 * MIB);
    assert!(figure(&mount, "hits") > 0);
    mount.unmount();
}

/// An ext4 filesystem in a file, if there are loop devices.
struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    fn make(site: &Site, mib: u32) -> Option<SmallDisk> {
        let dir = site.scratch("small-disk");
        let image = site.path().join("image");
        let line = format!(
            "truncate -s {mib}M {image} && mkfs.ext4 -q {image} && mount -o loop {image} {dir}",
            image = image.display(),
            dir = dir.display()
        );
        let made = Command::new("sh").args(["-c", &line]).output().expect("sh");
        if made.status.success() {
            return Some(SmallDisk { dir });
        }
        let line = format!("mount -t tmpfs -o size={mib}M none {}", dir.display());
        let made = Command::new("sh").args(["-c", &line]).status().expect("sh");
        made.success().then_some(SmallDisk { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.dir).status();
    }
}

#[test]
fn a_full_disk_is_no_error_to_anybody() {
    let site = site_with_cache("256MiB");
    let Some(disk) = SmallDisk::make(&site, 64) else {
        eprintln!("neither loop devices nor tmpfs: not run");
        return;
    };
    let cache = disk.dir.join("cache");
    let mount = site.mount_with(&["--disk-cache-dir", cache.to_str().expect("path")]);
    write_files(&mount.dir, 12, 8 * MIB);
    check_files(&mount.dir, 12, 8 * MIB);
    let is_used = || on_disk_bytes(&cache) > 20 << 20;
    block_until("the disk is used", UPLOADED_WITHIN, is_used);
    settle(&mount);
    let space = nix::sys::statvfs::statvfs(&disk.dir).expect("there");
    assert!(space.blocks_available() >= space.blocks() / 10);

    // Others want every byte of it.
    let other = File::create(disk.dir.join("other")).expect("made");
    let began = Instant::now();
    let mut len = 0;
    while figure(&mount, "size_bytes") > 0 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not give way"
        );
        while other.write_all_at(&[1; 65536], len).is_ok() {
            len += 65536;
        }
        check_file(&mount.dir, len % 12, 8 * MIB);
        write_files(&mount.dir, 1, 8 * MIB);
    }
    check_files(&mount.dir, 12, 8 * MIB);
    assert_eq!(counter(&mount, "fuse_errors"), 0);
    assert!(mount.status()["disk_cache"]["trouble"].is_string());
    drop(other);
    fs::remove_file(disk.dir.join("other")).expect("removed");
    let began = Instant::now();
    while figure(&mount, "size_bytes") == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "it does not go on"
        );
        write_files(&mount.dir, 1, 8 * MIB);
        shell(&mount.dir, "sync f0");
    }
    mount.unmount();
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_only_if_it_was_named() {
    let site = site_with_cache("64MiB");
    let machine = Machine::of(&site);
    fs::write(machine.state.join("cache"), "a file").expect("written");
    let mount = machine.mount();
    write_files(&mount.dir, 1, 100_000);
    check_files(&mount.dir, 1, 100_000);
    assert!(mount.status()["disk_cache"].is_null());
    let log = mount.log_text();
    assert_eq!(log.matches("there is no disk cache").count(), 1, "{log}");
    mount.unmount();

    let file = machine.state.join("cache");
    let dir = site.scratch("nowhere");
    let run = site.strongroom(&[
        "mount",
        &site.url(),
        dir.to_str().expect("path"),
        "--foreground",
        "--disk-cache-dir",
        file.to_str().expect("path"),
    ]);
    let refused = run.with_passphrase(&site).output();
    assert_eq!(refused.status.code(), Some(34));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("the disk cache cannot be kept in"), "{text}");
    // The lease was given back.
    machine.mount().unmount();
}

mod long {
    use super::{MIB, bound_holds, kills};

    #[test]
    #[ignore = "ten gigabytes"]
    fn ten_gigabytes_through_a_quarter_of_one_never_take_more() {
        bound_holds("256MiB", 256 << 20, 1024 * MIB, 10);
    }

    #[test]
    #[ignore = "some minutes"]
    fn thirty_kills_leave_a_cache_that_is_warm_and_right() {
        kills(30);
    }
}
