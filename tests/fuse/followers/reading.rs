//! Programs on the follower's mount see what the writer does.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::AT_FDCWD,
    sys::{
        stat::{UtimensatFlags, utimensat},
        time::TimeSpec,
    },
};
use strongroom::{fs::FsConfig, fuse::MountOptions};

use crate::support::{opened::MountedVolume, volume::TestVolume, wait::block_until};

/// docs/semantics.md promises this for `--follow-every 1s`.
const SEEN_WITHIN: Duration = Duration::from_millis(1500);

pub async fn two_mounts() -> (TestVolume, MountedVolume, MountedVolume) {
    let volume = TestVolume::new().await;
    let writer = volume.mount().await;
    let read_only = FsConfig {
        read_only: true,
        ..FsConfig::default()
    };
    let follower = volume.mount_with(read_only, MountOptions::default()).await;
    (volume, writer, follower)
}

/// Waits until it is seen, for as long as that may take.
fn seen(what: &str, is_seen: impl FnMut() -> bool) {
    block_until(what, SEEN_WITHIN, is_seen);
}

fn write_synced(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

fn overwrite_synced(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    file.sync_all().unwrap();
}

fn append_synced(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

/// Puts a new file in the place of another one, as careful programs do.
pub fn replace(path: &Path, bytes: &[u8]) {
    let beside = path.with_extension("new");
    write_synced(&beside, bytes);
    fs::rename(&beside, path).unwrap();
    File::open(path.parent().unwrap())
        .unwrap()
        .sync_all()
        .unwrap();
}

fn read_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file
            .read_at(&mut bytes[done..], offset + done as u64)
            .unwrap()
        {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_shows_each_line_in_time() {
    let (_volume, writer, follower) = two_mounts().await;
    write_synced(&writer.path("log"), b"first\n");
    let path = follower.path("log");
    seen("the file", || path.exists());
    let mut tail = Command::new("tail")
        .args(["---disable-inotify", "-s", "0.05", "-n", "+1", "-f"])
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tail.stdout.take().unwrap();
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines() {
            if sender.send((line.unwrap(), Instant::now())).is_err() {
                return;
            }
        }
    });
    let next = || lines.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(next().0, "first");
    let mut slowest = Duration::ZERO;
    for number in 0..8 {
        append_synced(&writer.path("log"), format!("line {number}\n").as_bytes());
        let durable = Instant::now();
        let (line, shown) = next();
        assert_eq!(line, format!("line {number}"));
        slowest = slowest.max(shown.saturating_duration_since(durable));
        std::thread::sleep(Duration::from_millis(number * 53 % 300));
    }
    // Faster than can be looked for.
    for number in 0..40 {
        append_synced(&writer.path("log"), format!("burst {number}\n").as_bytes());
    }
    for number in 0..40 {
        assert_eq!(next().0, format!("burst {number}"));
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
    assert!(slowest < SEEN_WITHIN, "{slowest:?}");
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_follows_growth_overwriting_and_truncation() {
    let (_volume, writer, follower) = two_mounts().await;
    // Inline, in a pack, and in an object of its own.
    for (name, len) in [("tiny", 100_usize), ("small", 200_000), ("large", 9 << 20)] {
        let (theirs, ours) = (writer.path(name), follower.path(name));
        write_synced(&theirs, &vec![b'a'; len]);
        seen("the file", || ours.exists());
        let held = File::open(&ours).unwrap();
        assert!(read_at(&held, 0, len + 10) == vec![b'a'; len]);
        let middle = len as u64 / 2;

        overwrite_synced(&theirs, middle, b"ZZZZ");
        seen("an overwrite", || read_at(&held, middle, 4) == b"ZZZZ");
        assert_eq!(read_at(&held, middle - 2, 8), b"aaZZZZaa");

        append_synced(&theirs, &[b'b'; 5000]);
        seen("growth", || {
            held.metadata().unwrap().len() == len as u64 + 5000
        });
        assert!(read_at(&held, len as u64, 9999) == vec![b'b'; 5000]);
        assert!(fs::read(&ours).unwrap().len() == len + 5000);

        let shorter = OpenOptions::new().write(true).open(&theirs).unwrap();
        shorter.set_len(middle + 2).unwrap();
        shorter.sync_all().unwrap();
        seen("truncation", || {
            held.metadata().unwrap().len() == middle + 2
        });
        assert_eq!(read_at(&held, middle - 2, 100), b"aaZZ");
        shorter.set_len(middle + 10).unwrap();
        shorter.sync_all().unwrap();
        seen("zeros", || {
            read_at(&held, middle - 2, 100) == b"aaZZ\0\0\0\0\0\0\0\0"
        });
    }
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overwrite_that_leaves_size_and_times_as_they_were_is_seen() {
    let (_volume, writer, follower) = two_mounts().await;
    let (theirs, ours) = (writer.path("file"), follower.path("file"));
    let put_back = || {
        let time = TimeSpec::new(1_000_000_000, 0);
        utimensat(
            AT_FDCWD,
            &theirs,
            &time,
            &time,
            UtimensatFlags::FollowSymlink,
        )
        .unwrap();
        File::open(&theirs).unwrap().sync_all().unwrap();
    };
    write_synced(&theirs, &[b'0'; 100_000]);
    put_back();
    seen("the file", || {
        ours.metadata()
            .is_ok_and(|found| found.mtime() == 1_000_000_000)
    });
    let held = File::open(&ours).unwrap();
    for round in b'1'..=b'5' {
        let file = OpenOptions::new().write(true).open(&theirs).unwrap();
        file.write_all_at(&[round; 100_000], 0).unwrap();
        put_back();
        seen("an overwrite", || {
            read_at(&held, 0, 100_000) == [round; 100_000]
        });
    }
    drop(held);
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mapped_file_follows() {
    let (_volume, writer, follower) = two_mounts().await;
    let (theirs, ours) = (writer.path("file"), follower.path("file"));
    write_synced(&theirs, &[b'0'; 50_000]);
    seen("the file", || ours.exists());
    // Looks at memory only: nothing else of the program asks for the file.
    let program = "\
import mmap, sys, time
file = open(sys.argv[1], 'rb')
memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
before = b'0'
print('mapped', memory[40000:40001].decode(), flush=True)
while before != b'5':
    while memory[40000:40001] == before: time.sleep(0.01)
    before = memory[40000:40001]
    print('changed', before.decode(), flush=True)
";
    let mut mapping = Command::new("python3")
        .args(["-c", program])
        .arg(&ours)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(mapping.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "mapped 0");
    for round in 1..=5_u8 {
        overwrite_synced(&theirs, 0, &[b'0' + round; 50_000]);
        let durable = Instant::now();
        assert_eq!(said.next().unwrap().unwrap(), format!("changed {round}"));
        assert!(durable.elapsed() < SEEN_WITHIN);
    }
    assert!(mapping.wait().unwrap().success());
    follower.unmount().await;
    writer.unmount().await;
}

/// The contents of one version of a file: no byte is that of another version.
fn version(version: u8) -> Vec<u8> {
    vec![version; 100_000 + 20_000 * usize::from(version)]
}

/// The number of the version that these bytes are; panics if they are none, or of two.
fn version_of(bytes: &[u8]) -> u8 {
    let first = bytes[0];
    assert!(
        bytes == version(first),
        "{} bytes, {} of them of version {first}",
        bytes.len(),
        bytes.iter().filter(|byte| **byte == first).count()
    );
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_a_file_while_it_is_replaced_gets_one_whole_version() {
    let (_world, writer, follower) = two_mounts().await;
    let (theirs, ours) = (writer.path("file"), follower.path("file"));
    replace(&theirs, &version(0));
    seen("the file", || ours.exists());
    let copy = follower.root().with_extension("copy");
    let copying = {
        let (ours, copy) = (ours.clone(), copy.clone());
        std::thread::spawn(move || {
            let mut versions = Vec::new();
            while versions.last() != Some(&50) {
                let copied = Command::new("cp").arg(&ours).arg(&copy).output().unwrap();
                let said = String::from_utf8_lossy(&copied.stderr);
                // `cp` says so on any filesystem if a name leads elsewhere between its stat and its
                // open.
                if said.contains("replaced while being copied") {
                    continue;
                }
                assert!(copied.status.success(), "{said}");
                versions.push(version_of(&fs::read(&copy).unwrap()));
            }
            versions
        })
    };
    let slowly = std::thread::spawn(move || {
        let mut versions = Vec::new();
        while versions.last() != Some(&50) {
            let mut file = File::open(&ours).unwrap();
            let mut bytes = Vec::new();
            let mut piece = vec![0; 30_000];
            loop {
                match file.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => bytes.extend_from_slice(&piece[..read]),
                    Err(error) => {
                        panic!("while {} bytes are read: {error}", bytes.len())
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            versions.push(version_of(&bytes));
        }
        versions
    });
    for number in 1..=50 {
        replace(&theirs, &version(number));
        std::thread::sleep(Duration::from_millis(40));
    }
    for mut versions in [copying.join().unwrap(), slowly.join().unwrap()] {
        assert!(versions.is_sorted(), "{versions:?}");
        versions.dedup();
        assert!(versions.len() > 3, "{versions:?}");
    }
    fs::remove_file(copy).unwrap();
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_file_stays_as_it_was_for_whoever_has_it_open() {
    let (_world, writer, follower) = two_mounts().await;
    // The last one is taken apart in several steps.
    for (name, len) in [("tiny", 50), ("small", 150_000), ("large", 12 << 20)] {
        let (theirs, ours) = (writer.path(name), follower.path(name));
        let contents: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
        write_synced(&theirs, &contents);
        seen("the file", || ours.exists());
        let held = File::open(&ours).unwrap();
        let unread = File::open(&ours).unwrap();
        assert!(read_at(&held, 0, 10) == contents[..10]);
        fs::remove_file(&theirs).unwrap();
        File::open(writer.root()).unwrap().sync_all().unwrap();
        seen("the removal", || !ours.exists());
        for _ in 0..5 {
            let found = held.metadata().unwrap();
            assert_eq!(found.len(), len as u64);
            assert!(read_at(&held, 0, len + 1) == contents);
            assert!(read_at(&unread, 7, len) == contents[7..]);
            std::thread::sleep(Duration::from_millis(300));
        }
        assert_eq!(held.metadata().unwrap().nlink(), 0);
        assert_eq!(File::open(&ours).unwrap_err().raw_os_error(), Some(2));
    }
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_rewritten_shows_every_name_at_any_time() {
    const NAMES: usize = 60;
    let (_world, writer, follower) = two_mounts().await;
    let dir = writer.path("dir");
    fs::create_dir(&dir).unwrap();
    let name = |number: usize| format!("name {number:03}");
    for number in 0..NAMES {
        write_synced(&dir.join(name(number)), b"0");
    }
    let ours = follower.path("dir");
    seen("all names", || {
        fs::read_dir(&ours).is_ok_and(|listed| listed.count() == NAMES)
    });
    let listing = {
        let ours = ours.clone();
        std::thread::spawn(move || {
            let mut listings = 0;
            let mut last = 0;
            while last < 8 {
                let listed: Vec<PathBuf> = fs::read_dir(&ours)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .collect();
                for number in 0..NAMES {
                    let wanted = ours.join(name(number));
                    let times = listed.iter().filter(|path| **path == wanted).count();
                    assert_eq!(times, 1, "{} in listing {listings}", wanted.display());
                }
                let names = (0..NAMES).map(|number| ours.join(name(number)));
                let rounds: Vec<u32> = names.map(|path| round_in(&path)).collect();
                last = *rounds.iter().min().unwrap();
                listings += 1;
            }
            listings
        })
    };
    for round in 1..=8_u32 {
        for number in 0..NAMES {
            let beside = dir.join("beside");
            fs::write(&beside, round.to_string()).unwrap();
            fs::rename(&beside, dir.join(name(number))).unwrap();
        }
        File::open(&dir).unwrap().sync_all().unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    drop(fs::read_dir(&dir).unwrap());
    // All of it durable.
    for number in 0..NAMES {
        File::open(dir.join(name(number)))
            .unwrap()
            .sync_all()
            .unwrap();
    }
    let listings = listing.join().unwrap();
    assert!(listings > 8, "{listings}");
    follower.unmount().await;
    writer.unmount().await;
}

/// The number in a file. The name is there all the time.
fn round_in(path: &Path) -> u32 {
    let text = fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    // A file that was renamed before it was durable may be empty for a while.
    text.parse().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_attributes_are_seen_in_time_whether_or_not_they_were_asked_for_before() {
    let (_world, writer, follower) = two_mounts().await;
    let sync = || File::open(writer.root()).unwrap().sync_all().unwrap();
    for number in 0..3 {
        let name = format!("file {number}");
        let (theirs, ours) = (writer.path(&name), follower.path(&name));
        assert!(!ours.exists());
        fs::write(&theirs, b"x").unwrap();
        sync();
        seen("a name", || ours.exists());
        fs::set_permissions(&theirs, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        sync();
        seen("a mode", || {
            fs::metadata(&ours).unwrap().mode() & 0o777 == 0o600
        });
        fs::rename(&theirs, writer.path("moved")).unwrap();
        sync();
        seen("a rename", || {
            !ours.exists() && follower.path("moved").exists()
        });
        fs::remove_file(writer.path("moved")).unwrap();
        sync();
        seen("a removal", || {
            let error = fs::metadata(follower.path("moved")).err();
            error.and_then(|error| error.raw_os_error()) == Some(Errno::ENOENT as i32)
        });
    }
    follower.unmount().await;
    writer.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_costs_one_request_and_one_more_for_each_log_object() {
    let (_world, writer, follower) = two_mounts().await;
    let requests = || {
        let metrics = &follower.opened.metrics;
        metrics.get_requests.get() + metrics.head_requests.get() + metrics.list_requests.get()
    };
    write_synced(&writer.path("file"), b"0");
    seen("the file", || follower.path("file").exists());
    std::thread::sleep(Duration::from_millis(300));
    let before = requests();
    std::thread::sleep(Duration::from_secs(5));
    let idle = requests() - before;
    assert!(idle <= 6, "{idle} requests in five seconds");

    let before = requests();
    for number in 0..20_u8 {
        overwrite_synced(&writer.path("file"), 0, &[number]);
        std::thread::sleep(Duration::from_millis(250));
    }
    seen("the last", || {
        fs::read(follower.path("file")).unwrap() == [19]
    });
    let busy = requests() - before;
    // Seven looks at most, of four requests beside the log objects; each write has one of these,
    // and the writer flushes by itself too.
    assert!(busy <= 7 * 4 + 2 * 20, "{busy} requests");
    follower.unmount().await;
    writer.unmount().await;
}
