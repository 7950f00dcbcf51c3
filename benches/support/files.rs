//! Does the cost of a file depend on how many there are? The same work is done on few files and on
//! many, in one run, each kind of work on a fresh mount.
//!
//! Files lie a thousand to a directory, and are gone through in the order of the tree, as `find`,
//! `rsync` and `rm -r` do. The few are done before the many and again after them, so that a machine
//! that gets slower meanwhile does not look like a volume that does.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use strongroom::server::Faults;

use crate::{
    harness::{
        mount::Mount,
        site::{Site, Transport},
    },
    say, seconds,
    support::{MIB, Options, noise, refuse, timed},
};

/// The count that the requested one is compared with.
const FEW: usize = 10_000;
/// Few files take a second or two: the median of so many rounds.
const FEW_ROUNDS: usize = 6;
const IN_DIRECTORY: usize = 1000;

/// Time per file among many, beside that among few.
const GROWTH_MAX: f64 = 1.5;
/// A mount, with the store [`MOUNT_LATENCY`] away.
const MOUNT_MAX: Duration = Duration::from_secs(5);
const MOUNT_LATENCY: Duration = Duration::from_millis(20);
/// Metadata in the bucket for each file, once nothing was written for [`QUIET`]: the quarter of an
/// hour for which log objects and tables that were replaced stay for followers, and two minutes to
/// remove them.
const METADATA_BYTES_MAX: f64 = 200.0;
const QUIET: Duration = Duration::from_secs(17 * 60);

/// Clock ticks of processor time in a second, as Linux reports it on all machines.
const TICKS_PER_SECOND: f64 = 100.0;

const WORK: [&str; 5] = ["create", "cold list", "cold stat", "rename", "remove"];

/// The cost of each file, in microseconds.
struct PerFile {
    /// Time by the clock.
    clock: f64,
    /// Processor time of the mount, which is known in hundredths of a second.
    processor: f64,
}

/// The figures of one volume.
struct Outcome {
    /// The cost of each of [`WORK`].
    per_file: [PerFile; WORK.len()],
    /// The peak resident memory of any of its mounts until it was gone.
    peak_bytes: u64,
    /// With [`MOUNT_LATENCY`]: after a clean unmount, and after `kill -9`.
    mounts: [Duration; 2],
    /// The metadata in the bucket, if that was asked for.
    metadata_bytes: Option<u64>,
}

/// Measures and prints; returns whether every limit was kept.
pub fn run(options: &Options, many: usize, file_bytes: usize) -> bool {
    let memory_bytes = bytes_of(options.memory);
    let rounds = |count| -> Vec<Outcome> {
        let rounds = (0..count).map(|_| volume_of(options, FEW, file_bytes, None));
        rounds.collect()
    };
    let mut few = rounds(FEW_ROUNDS / 2);
    let large = volume_of(options, many, file_bytes, Some(QUIET));
    few.extend(rounds(FEW_ROUNDS / 2));

    println!("files of {file_bytes} bytes, {IN_DIRECTORY} in a directory");
    let mut all_kept = true;
    let mut limit = |what: &str, figure: String, kept: bool, limits: String| {
        all_kept &= kept;
        let verdict = if kept { "" } else { ": MISSED" };
        say(what, figure, &format!("{limits}{verdict}"));
    };
    for (index, work) in WORK.iter().enumerate() {
        let of_few = |figure: fn(&PerFile) -> f64| {
            let rounds = few.iter().map(|round| figure(&round.per_file[index]));
            median(rounds)
        };
        let of_many = &large.per_file[index];
        let (among_few, among_many) = (of_few(|file| file.clock), of_many.clock);
        let growth = among_many / among_few;
        limit(
            &format!("{work}, each of {FEW}, of {many}"),
            format!("{among_few:.1} us, {among_many:.1} us"),
            growth <= GROWTH_MAX,
            format!("{growth:.2}, at most {GROWTH_MAX}"),
        );
        say(
            "  processor time of the mount",
            format!(
                "{:.1} us, {:.1} us",
                of_few(|file| file.processor),
                of_many.processor
            ),
            "-",
        );
    }
    let peak = few
        .iter()
        .chain([&large])
        .map(|volume| volume.peak_bytes)
        .max();
    let peak = peak.unwrap_or_default();
    limit(
        "peak RSS of any mount",
        format!("{} MiB", peak / MIB as u64),
        peak < memory_bytes,
        options.memory.to_owned(),
    );
    for (took, after) in large.mounts.into_iter().zip(["a clean unmount", "kill -9"]) {
        limit(
            &format!("mount after {after}, 20 ms away"),
            seconds(took),
            took < MOUNT_MAX,
            seconds(MOUNT_MAX),
        );
    }
    if let Some(bytes) = large.metadata_bytes {
        let per_file = bytes as f64 / many as f64;
        limit(
            "metadata in the bucket, for each file",
            format!("{per_file:.0} bytes"),
            per_file < METADATA_BYTES_MAX,
            format!("{METADATA_BYTES_MAX:.0} bytes"),
        );
    }
    all_kept
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    (figures[(figures.len() - 1) / 2] + figures[figures.len() / 2]) / 2.0
}

/// The bytes of a size as `--memory` is written here.
fn bytes_of(size: &str) -> u64 {
    let units = [("MiB", 20), ("GiB", 30)];
    let found = units
        .iter()
        .find_map(|(unit, shift)| Some(size.strip_suffix(unit)?.parse::<u64>().ok()? << shift));
    found.unwrap_or_else(|| refuse("--memory needs a number of MiB or GiB here"))
}

fn volume_of(
    options: &Options,
    files: usize,
    file_bytes: usize,
    quiet: Option<Duration>,
) -> Outcome {
    let mut site = Site::start(Transport::Plain);
    options.apply(&mut site);
    let content = noise(file_bytes);
    let mut peaks = Vec::new();

    let mount = site.mount();
    let root = mount.dir.as_path();
    let create = per_file(&mount, files, || {
        for directory in directories(root, files) {
            fs::create_dir(&directory).expect("mkdir");
        }
        for path in paths(root, files, "file") {
            let mut file = File::create(path).expect("create");
            file.write_all(&content).expect("write");
        }
    });
    let metadata_bytes = quiet.map(|quiet| {
        thread::sleep(quiet);
        metadata_bytes(&site)
    });
    peaks.push(gone(mount));

    let (clean, mount) = far_away(options, &site);
    let root = mount.dir.as_path();
    let list = per_file(&mount, files, || {
        let listed = directories(root, files).map(|directory| {
            let entries = fs::read_dir(directory).expect("list");
            entries
                .inspect(|entry| assert!(entry.is_ok(), "an entry"))
                .count()
        });
        assert_eq!(listed.sum::<usize>(), files);
    });
    peaks.push(gone(mount));

    let mount = site.mount();
    let root = mount.dir.as_path();
    let stat = per_file(&mount, files, || {
        for path in paths(root, files, "file") {
            let found = fs::symlink_metadata(path).expect("stat");
            assert_eq!(found.len(), file_bytes as u64);
        }
    });
    peaks.push(gone(mount));

    let mount = site.mount();
    let root = mount.dir.as_path();
    let rename = per_file(&mount, files, || {
        for (old, new) in paths(root, files, "file").zip(paths(root, files, "renamed")) {
            fs::rename(old, new).expect("rename");
        }
    });
    // Then every rename is durable.
    let synced = File::open(root).and_then(|root| root.sync_all());
    synced.expect("fsync");
    peaks.push(peak_of(&mount));
    mount.kill();

    let (unclean, mount) = far_away(options, &site);
    let root = mount.dir.as_path();
    let remove = per_file(&mount, files, || {
        for path in paths(root, files, "renamed") {
            fs::remove_file(path).expect("remove");
        }
        for directory in directories(root, files) {
            fs::remove_dir(directory).expect("rmdir");
        }
    });
    peaks.push(gone(mount));

    let took = [create, list, stat, rename, remove];
    Outcome {
        per_file: took,
        peak_bytes: peaks.into_iter().max().unwrap_or_default(),
        mounts: [clean, unclean],
        metadata_bytes,
    }
}

/// The cost for each file of `work` on all `files` of a mount.
fn per_file(mount: &Mount<'_>, files: usize, work: impl FnOnce()) -> PerFile {
    let before = processor_seconds(mount);
    let clock = timed(work).as_secs_f64();
    let processor = processor_seconds(mount) - before;
    PerFile {
        clock: clock * 1e6 / files as f64,
        processor: processor * 1e6 / files as f64,
    }
}

/// Processor time of the mount's process so far, in the program and in the kernel for it.
fn processor_seconds(mount: &Mount<'_>) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", mount.pid())).expect("running");
    // The name in brackets may hold anything; the state comes after it.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = |index| -> u64 {
        let field = fields.split_whitespace().nth(index);
        field.and_then(|field| field.parse().ok()).expect("ticks")
    };
    (ticks(11) + ticks(12)) as f64 / TICKS_PER_SECOND
}

fn directories(root: &Path, files: usize) -> impl Iterator<Item = PathBuf> {
    let count = files.div_ceil(IN_DIRECTORY);
    (0..count).map(move |index| root.join(format!("directory-{index:04}")))
}

fn paths(root: &Path, files: usize, name: &str) -> impl Iterator<Item = PathBuf> {
    (0..files).map(move |index| {
        let (directory, file) = (index / IN_DIRECTORY, index % IN_DIRECTORY);
        root.join(format!("directory-{directory:04}/{name}-{file:03}"))
    })
}

/// A mount with the store [`MOUNT_LATENCY`] away, and how long that took; after it the store is
/// again as far away as `options` say.
fn far_away<'a>(options: &Options, site: &'a Site) -> (Duration, Mount<'a>) {
    let faults = Faults {
        latency: MOUNT_LATENCY,
        ..options.faults()
    };
    site.server().set_faults(faults).expect("faults");
    let began = Instant::now();
    let mount = site.mount();
    let took = began.elapsed();
    site.server().set_faults(options.faults()).expect("faults");
    (took, mount)
}

/// The peak resident memory; 0 once the process is gone.
fn peak_of(mount: &Mount<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

/// Unmounts and waits for the drain; returns the peak resident memory meanwhile.
fn gone(mut mount: Mount<'_>) -> u64 {
    let mut peak = 0;
    mount.let_go();
    while !mount.has_ended() {
        peak = peak.max(peak_of(&mount));
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(mount.wait_gone(), 0, "{}", mount.log_text());
    peak
}

/// Bytes of all metadata in the bucket, whether or not it is still needed.
fn metadata_bytes(site: &Site) -> u64 {
    let objects = site.bucket().sizes().into_iter();
    let metadata = objects.filter(|(key, _)| key.contains("/meta/"));
    metadata.map(|(_, bytes)| bytes).sum()
}
