//! Work of a mount other than long sequential work: small files, a large directory, random reads
//! and writes, fsync. Each line names the limit that it is meant to keep on loopback or 20 ms away,
//! and says whether it did.
//!
//! `cargo bench --bench operations -- [--latency-ms 20] [small] [directory] [orders] [random-read]
//! [random-write] [absorbed-write] [scattered-write] [fragments] [fsync] [warm] [backups] [sparse]`
//!
//! `sparse` needs 17 GiB of disk: random reads of files that are much larger than the memory.
//!
//! `backups` has restic and borg work on a GiB, on the mount and beside it on the local disk:
//! `cargo bench --bench operations -- --latency-ms 20 --disk-cache default backups`
//!
//! `warm` reads data that the local disk cache holds, beside the local disk itself: `cargo bench
//! --bench operations -- --memory 256MiB --disk-cache 1GiB warm`
//!
//! `files COUNT [BYTES]`, alone, compares the cost of each of so many files with that of each of
//! 10,000, and ends with 1 where a limit is not kept: `cargo bench --bench operations -- --memory
//! 128MiB files 1000000`
//!
//! `tree DIR [NAME...]`, alone, unpacks that tree, or those parts of it, and compares it with its
//! archive on a cold mount: requests of the kernel by kind, requests to the store.
//! `mount-scripts/linux-source.sh` gets Debian's kernel source and does it with that: `cargo bench
//! --bench operations -- --memory 128MiB tree linux-source-6.1 fs drivers/net arch/arm`

#[path = "support/backups.rs"]
mod backups;
#[path = "support/files.rs"]
mod files;
#[path = "../tests/support/mod.rs"]
mod harness;
#[path = "support/orders.rs"]
mod orders;
#[path = "support/random_writes.rs"]
mod random_writes;
#[path = "support/source_tree.rs"]
mod source_tree;
#[path = "support/sparse.rs"]
mod sparse;
#[path = "support/mod.rs"]
mod support;
#[path = "support/warm.rs"]
mod warm;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use harness::{
    bucket::puts,
    commands::shell,
    site::{Site, Transport},
};
use random_writes::{ABSORBED_WRITE, RANDOM_WRITE, SCATTERED_WRITE};
use strongroom::server::StatsSnapshot;
use support::{MIB, Options, Random, noise, timed};

const PAGE: u64 = 4096;

/// One part of the benchmark, on a volume of its own.
type Part = fn(&Site);

fn main() {
    let options = Options::from_command_line();
    if let Some((part, numbers)) = options.words.split_first()
        && part == "files"
    {
        compare_files(&options, numbers);
    }
    if let Some((part, tree)) = options.words.split_first()
        && part == "tree"
    {
        println!("{}", options.describe());
        let mut site = Site::start(Transport::Plain);
        options.apply(&mut site);
        source_tree::run(&mut site, tree);
        return;
    }
    let parts: [(&str, Part); 12] = [
        ("small", small_files),
        ("directory", large_directory),
        ("orders", orders::run),
        ("random-read", random_reads),
        ("random-write", |site| {
            random_writes::run(site, &RANDOM_WRITE)
        }),
        ("absorbed-write", |site| {
            random_writes::run(site, &ABSORBED_WRITE)
        }),
        ("scattered-write", |site| {
            random_writes::run(site, &SCATTERED_WRITE)
        }),
        ("fragments", fragments),
        ("fsync", fsyncs),
        ("warm", warm::run),
        ("backups", backups::run),
        ("sparse", sparse::run),
    ];
    if let Some(word) = options
        .words
        .iter()
        .find(|word| !parts.iter().any(|part| part.0 == word.as_str()))
    {
        support::refuse(&format!("there is no part named {word}"));
    }
    println!("{}", options.describe());
    for (name, part) in parts {
        if options.words.is_empty() || options.words.iter().any(|word| word == name) {
            let mut site = Site::start(Transport::Plain);
            options.apply(&mut site);
            part(&site);
        }
    }
}

/// The part `files`, with the number of files and their size.
fn compare_files(options: &Options, numbers: &[String]) -> ! {
    let numbers: Result<Vec<usize>, _> = numbers.iter().map(|word| word.parse()).collect();
    let (count, bytes) = match numbers.as_deref() {
        Ok(&[count]) => (count, 0),
        Ok(&[count, bytes]) => (count, bytes),
        _ => support::refuse("usage: files COUNT [BYTES]"),
    };
    println!("{}", options.describe());
    let all_kept = files::run(options, count, bytes);
    std::process::exit(i32::from(!all_kept));
}

/// One line: the measured thing, its figure, and the limits on loopback and 20 ms away.
fn say(what: &str, figure: String, limits: &str) {
    println!("{what:<52} {figure:>22}   {limits}");
}

fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}

fn small_files(site: &Site) {
    let source = site.scratch("source");
    let content = noise(MIB);
    for index in 0..5000_usize {
        let dir = source.join(format!("d{:02}", index / 100));
        fs::create_dir_all(&dir).expect("mkdir");
        let len = 1024 + index * 7919 % (15 << 10);
        let at = index * 4093 % (MIB - len);
        fs::write(
            dir.join(format!("f{:02}", index % 100)),
            &content[at..at + len],
        )
        .expect("write");
    }
    shell(&source, "tar --sort=name -cf ../small.tar .");

    let mount = site.mount();
    let before = puts(&site.stats());
    let began = Instant::now();
    shell(&mount.dir, "tar -xf ../small.tar");
    mount.unmount();
    let took = began.elapsed();
    say(
        "unpack 5,000 files of 1 to 16 KiB and drain",
        seconds(took),
        "2 s / 3 s",
    );
    say("  PUTs", (puts(&site.stats()) - before).to_string(), "30");

    let mount = site.mount();
    let took = timed(|| {
        shell(&mount.dir, "find . -ls | wc -l | grep -qx 5051");
    });
    say("cold find -ls", seconds(took), "0.3 s / 0.6 s");
    mount.unmount();
    let mount = site.mount();
    let took = timed(|| {
        shell(&mount.dir, "find . -type f | sort | xargs cat > /dev/null");
    });
    say("cold read of all in order", seconds(took), "1.5 s / 2.5 s");
    mount.unmount();
    let mount = site.mount();
    let began = Instant::now();
    shell(&mount.dir, "rm -rf ./*");
    mount.unmount();
    say("rm -rf, unmounted", seconds(began.elapsed()), "1 s / 1.5 s");
}

/// Time per file of each kind of work in a directory of `files`.
fn directory_of(site: &Site, files: usize) -> [f64; 4] {
    let per_file = |took: Duration| took.as_secs_f64() * 1e6 / files as f64;
    let mount = site.mount();
    let dir = mount.dir.join(format!("of-{files}"));
    fs::create_dir(&dir).expect("mkdir");
    let create = timed(|| {
        for index in 0..files {
            File::create(dir.join(format!("file-{index:06}"))).expect("create");
        }
    });
    mount.unmount();
    let mount = site.mount();
    let dir = mount.dir.join(format!("of-{files}"));
    let list = timed(|| assert_eq!(fs::read_dir(&dir).expect("list").count(), files));
    mount.unmount();
    let mount = site.mount();
    let dir = mount.dir.join(format!("of-{files}"));
    let stat = timed(|| {
        for index in 0..files {
            fs::symlink_metadata(dir.join(format!("file-{index:06}"))).expect("stat");
        }
    });
    mount.unmount();
    let mount = site.mount();
    let dir = mount.dir.join(format!("of-{files}"));
    let remove = timed(|| {
        for index in 0..files {
            fs::remove_file(dir.join(format!("file-{index:06}"))).expect("remove");
        }
    });
    fs::remove_dir(&dir).expect("rmdir");
    mount.unmount();
    [create, list, stat, remove].map(per_file)
}

fn large_directory(site: &Site) {
    // A thousand take milliseconds: the median of five.
    let rounds: Vec<[f64; 4]> = (0..5).map(|_| directory_of(site, 1_000)).collect();
    let large = directory_of(site, 100_000);
    for (index, what) in ["create", "cold list", "cold stat", "remove"]
        .iter()
        .enumerate()
    {
        let mut few: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
        few.sort_by(f64::total_cmp);
        let few = few[few.len() / 2];
        let large = large[index];
        say(
            &format!("{what} in a directory of 1,000, of 100,000"),
            format!("{few:.1} us, {large:.1} us"),
            &format!("{:.2}, at most 1.5", large / few),
        );
    }
}

/// A file of noise, in the store.
fn make_file(path: &Path, mib: usize) {
    let block = noise(MIB);
    let mut file = File::create(path).expect("create");
    for _ in 0..mib {
        file.write_all(&block).expect("write");
    }
    file.sync_all().expect("fsync");
}

fn random_reads(site: &Site) {
    const FILE_MIB: usize = 256;
    // Few enough of its 4,096 frames that most reads find nothing in a cache.
    const READS: u64 = 1000;
    let mount = site.mount();
    make_file(&mount.dir.join("file"), FILE_MIB);
    mount.unmount();
    for (deep, limits) in [(1, "2,000/s / 45/s"), (32, "- / 1,000/s")] {
        let mount = site.mount();
        let file = File::open(mount.dir.join("file")).expect("open");
        let before = site.stats().socket_bytes_written;
        let took = timed(|| {
            thread::scope(|scope| {
                for reader in 0..deep {
                    let file = &file;
                    scope.spawn(move || {
                        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (reader + 1) << 32);
                        let mut page = [0; PAGE as usize];
                        for _ in 0..READS.div_ceil(deep) {
                            let at = random.next() % ((FILE_MIB * MIB) as u64 / PAGE) * PAGE;
                            file.read_exact_at(&mut page, at).expect("read");
                        }
                    });
                }
            });
        });
        let reads = READS.div_ceil(deep) * deep;
        let moved = site.stats().socket_bytes_written - before;
        say(
            &format!("{reads} random 4 KiB reads of {FILE_MIB} MiB, cold, {deep} deep"),
            format!("{:.0}/s", reads as f64 / took.as_secs_f64()),
            limits,
        );
        say(
            "  bytes moved for each that was asked for",
            format!("{:.1}", moved as f64 / (reads * PAGE) as f64),
            "20",
        );
        drop(file);
        mount.unmount();
    }
}

/// The cost of one phase as the server counts it: requests that read, requests that write, MiB each
/// way.
fn traffic(before: &StatsSnapshot, after: &StatsSnapshot) -> String {
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    format!(
        "{} GETs, {} PUTs, {:.0} MiB up, {:.0} MiB down",
        after.count("GetObject") - before.count("GetObject"),
        puts(after) - puts(before),
        mib(after.socket_bytes_read - before.socket_bytes_read),
        mib(after.socket_bytes_written - before.socket_bytes_written),
    )
}

/// Tiny pieces all over a file: many at a time between two fsyncs, then few at a time. The result
/// is read in order, and compared.
fn fragments(site: &Site) {
    const FILE_MIB: usize = 64;
    const PIECE: usize = 200;
    let mut random = Random(11);
    let mut model = noise(FILE_MIB * MIB).to_vec();
    let mount = site.mount();
    let path = mount.dir.join("file");
    fs::write(&path, &model).expect("write");
    let file = OpenOptions::new().write(true).open(&path).expect("open");
    file.sync_all().expect("fsync");
    let mut write = |count: usize| {
        for _ in 0..count {
            let at = random.next() as usize % (model.len() - PIECE);
            let piece = random.next().to_le_bytes().repeat(PIECE / 8);
            file.write_all_at(&piece, at as u64).expect("write");
            model[at..at + PIECE].copy_from_slice(&piece);
        }
    };
    for round in 1..=3 {
        let before = site.stats();
        let wrote = timed(|| write(100_000));
        let synced = timed(|| file.sync_all().expect("fsync"));
        say(
            &format!("round {round}: 100,000 writes of {PIECE} bytes, fsync"),
            format!("{}, {}", seconds(wrote), seconds(synced)),
            &format!("- / 10 s; {}", traffic(&before, &site.stats())),
        );
    }
    let before = site.stats();
    let took = timed(|| {
        for _ in 0..200 {
            write(250);
            file.sync_all().expect("fsync");
        }
    });
    say(
        "200 times 250 writes and fsync",
        seconds(took),
        &format!("-; {}", traffic(&before, &site.stats())),
    );
    let peak = mount.memory_bytes("VmHWM") / MIB as u64;
    drop(file);
    let before = site.stats();
    let took = timed(|| mount.unmount());
    say("unmount", seconds(took), &traffic(&before, &site.stats()));
    say("peak RSS until then", format!("{peak} MiB"), site.memory);

    let mount = site.mount();
    let mut read = Vec::with_capacity(model.len());
    let before = site.stats();
    let took = timed(|| {
        let mut file = File::open(mount.dir.join("file")).expect("open");
        file.read_to_end(&mut read).expect("read");
    });
    assert!(read == model, "what was read is what was written");
    say(
        "cold sequential read",
        seconds(took),
        &format!("8 s; {}", traffic(&before, &site.stats())),
    );
    mount.unmount();
}

fn fsyncs(site: &Site) {
    const EACH: usize = 20;
    let mount = site.mount();
    for (threads, limits) in [(1, "- / 50 ms"), (32, "- / 80 ms")] {
        let mut all: Vec<Duration> = thread::scope(|scope| {
            let writers: Vec<_> = (0..threads)
                .map(|writer| {
                    let dir = &mount.dir;
                    scope.spawn(move || {
                        let page = noise(PAGE as usize);
                        (0..EACH)
                            .map(|index| {
                                let name = format!("sync-{threads}-{writer}-{index}");
                                timed(|| {
                                    let mut file = File::create(dir.join(name)).expect("create");
                                    file.write_all(&page).expect("write");
                                    file.sync_all().expect("fsync");
                                })
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            let each = writers
                .into_iter()
                .map(|writer| writer.join().expect("writer"));
            each.flatten().collect()
        });
        all.sort();
        let [half, most] =
            [all.len() / 2, all.len() * 99 / 100].map(|at| all[at].as_secs_f64() * 1e3);
        say(
            &format!("new 4 KiB file with fsync, {threads} at once, p50 (p99)"),
            format!("{half:.1} ms ({most:.1} ms)"),
            limits,
        );
    }
    mount.unmount();
}
