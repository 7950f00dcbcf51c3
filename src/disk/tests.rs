//! The cache on a real disk: what it finds again, its bound, damage, restarts.

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use std::ops::Range;

use super::*;

const FRAME_LEN: u64 = (64 << 10) + 16;
const MEMORY: u64 = 128 * MIB;

fn plan(size_bytes: u64) -> DiskPlan {
    DiskPlan::new(size_bytes, MEMORY)
}

fn open(root: &Path) -> DiskCache {
    DiskCache::open(root, "volume", plan(SIZE_MIN_BYTES)).expect("opened")
}

const fn object(number: u8) -> [u8; OBJECT_LEN] {
    [number; OBJECT_LEN]
}

fn key(number: u8, frame: u64) -> FrameKey {
    FrameKey {
        object: object(number),
        frame,
    }
}

/// Stands for a sealed frame: different for each.
fn sealed(number: u8, frame: u64) -> Vec<u8> {
    let word = (u64::from(number) << 48 | frame).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word.to_le_bytes().repeat(FRAME_LEN as usize / 8)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn has_taken(cache: &DiskCache, key: FrameKey, sealed: &[u8]) -> bool {
    cache.shared.queue.push(key, sealed, false) == Pushed::Taken
}

/// Puts frames in one after the other, each once there is room in the queue.
fn fill(cache: &DiskCache, number: u8, frames: Range<u64>) {
    for frame in frames {
        let bytes = sealed(number, frame);
        wait_until("room in the queue", || {
            has_taken(cache, key(number, frame), &bytes)
        });
    }
    wait_until("all is written", || cache.shared.queue.bytes() == 0);
}

async fn read(cache: &DiskCache, number: u8, frames: Range<u64>) -> Vec<(u64, Vec<u8>)> {
    let run = cache.read(&object(number), frames, |_| FRAME_LEN).await;
    let frames = run.iter().flat_map(SealedRun::frames);
    frames
        .map(|(frame, bytes)| (frame, bytes.to_vec()))
        .collect()
}

fn segments(root: &Path) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(root).sort_by_file_name().into_iter();
    files
        .map(|entry| entry.expect("entry").into_path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "frames"))
        .collect()
}

/// Bytes of everything below `root`, as `du` counts.
fn on_disk_bytes(root: &Path) -> u64 {
    walkdir::WalkDir::new(root)
        .into_iter()
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|found| found.blocks() * 512)
        .sum()
}

#[tokio::test]
async fn frames_in_a_row_come_back_with_one_read_also_after_a_remount() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    fill(&cache, 1, 0..20);
    fill(&cache, 2, 5..6);
    for _ in 0..2 {
        let found = read(&cache, 1, 0..20).await;
        assert_eq!(found.len(), 7, "as many as half a MiB holds");
        for (frame, bytes) in found {
            assert_eq!(bytes, sealed(1, frame));
        }
    }
    let spans = cache
        .shared
        .index
        .lock()
        .find(&object(1), 3..9, |_| FRAME_LEN);
    assert_eq!(spans.len(), 1, "one pread");
    drop(spans);
    cache.close().await;
    drop(cache);

    let cache = open(root.path());
    wait_until("all is found", || cache.status().frames == 21);
    assert_eq!(read(&cache, 2, 5..6).await, [(5, sealed(2, 5))]);
    assert!(read(&cache, 2, 6..9).await.is_empty());
    assert_eq!(cache.next_run(&object(1), 0..9, 4), 0);
    assert_eq!(cache.next_run(&object(2), 0..9, 4), 9, "one is not enough");
    assert_eq!(cache.next_run(&object(2), 0..6, 4), 5, "but at the end");
}

#[tokio::test]
async fn what_a_killed_mount_wrote_is_found_by_its_headers() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    fill(&cache, 1, 0..10);
    let [segment] = &segments(root.path())[..] else {
        panic!("one segment");
    };
    // As a kill leaves it: without a table, and with the last entry torn.
    let copy = tempfile::tempdir().expect("a directory");
    let there = copy.path().join("volume/0");
    for dir in [&copy.path().join("volume"), &there] {
        fs::create_dir(dir).expect("made");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).expect("set");
    }
    let torn = there.join("00000000.frames");
    fs::copy(segment, &torn).expect("copied");
    let len = fs::metadata(&torn).expect("there").len();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&torn)
        .expect("open");
    file.set_len(len - 100).expect("cut");

    let killed = open(copy.path());
    wait_until("it is found", || killed.status().frames == 9);
    for frame in 0..9 {
        assert_eq!(
            read(&killed, 1, frame..frame + 1).await,
            [(frame, sealed(1, frame))]
        );
    }
    assert!(read(&killed, 1, 9..10).await.is_empty());
}

#[tokio::test]
async fn the_files_never_take_more_than_the_size() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    let mut most = 0;
    for frame in (0..1600).step_by(4) {
        fill(&cache, 1, frame..frame + 4);
        // Readers hold segments that are to go.
        let _held = read(&cache, 1, frame.saturating_sub(150)..frame).await;
        most = most.max(on_disk_bytes(root.path()));
        assert!(cache.status().size_bytes <= SIZE_MIN_BYTES);
    }
    assert!(most <= SIZE_MIN_BYTES, "{most}");
    assert!(most > SIZE_MIN_BYTES * 3 / 4, "{most}: most of it is used");
    cache.close().await;
    drop(cache);

    // Small entries fill the index before they fill the size.
    let small = DiskCache::open(root.path(), "small", plan(SIZE_MIN_BYTES)).expect("opened");
    let entries_max = plan(SIZE_MIN_BYTES).entries_max as u64;
    for frame in 0..2 * entries_max {
        wait_until("room", || has_taken(&small, key(3, frame), &[7; 64]));
    }
    wait_until("all is written", || small.shared.queue.bytes() == 0);
    let frames = small.status().frames;
    assert!(frames <= entries_max, "{frames}");
    assert!(frames > entries_max / 2, "{frames}: evicted bit by bit");
    assert!(
        small.contains(&key(3, 2 * entries_max - 1)),
        "the newest is there"
    );
}

#[tokio::test]
async fn what_is_read_stays_while_other_things_go() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    fill(&cache, 1, 0..2);
    for frame in (0..1000).step_by(20) {
        fill(&cache, 2, frame..frame + 20);
        assert_eq!(read(&cache, 1, 0..1).await.len(), 1, "at {frame}");
    }
    assert!(!cache.contains(&key(1, 1)), "nobody read it");
    assert!(!cache.contains(&key(2, 0)));
}

#[tokio::test]
async fn a_full_queue_drops_what_comes_and_nobody_waits() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    let bytes = sealed(1, 0);
    let frames = 150;
    for frame in 0..frames {
        cache.put(key(1, frame), &bytes);
        assert!(cache.shared.queue.bytes() <= plan(SIZE_MIN_BYTES).queue_bytes_max);
    }
    wait_until("all is written", || cache.shared.queue.bytes() == 0);
    let status = cache.status();
    assert_eq!(status.frames + status.not_filled, frames);
    assert!(status.memory_bytes <= plan(SIZE_MIN_BYTES).memory_bytes());
}

#[tokio::test]
async fn guesses_wait_for_room_and_leave_half_of_the_queue() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    let bytes = sealed(1, 0);
    let frames = 150;
    for frame in 0..frames {
        assert!(cache.put_guess(key(1, frame), &bytes).await);
        let half = plan(SIZE_MIN_BYTES).queue_bytes_max / 2;
        assert!(cache.shared.queue.bytes() <= half);
    }
    wait_until("all is written", || cache.shared.queue.bytes() == 0);
    assert_eq!(cache.status().frames, frames, "none was dropped");
    cache.close().await;
    assert!(
        !cache.put_guess(key(1, frames), &bytes).await,
        "nobody waits for a queue that is closed"
    );
}

#[tokio::test]
async fn guesses_are_right_once_they_are_read_and_wrong_if_they_go_unread() {
    let root = tempfile::tempdir().expect("a directory");
    let cache = open(root.path());
    for frame in 0..8 {
        assert!(cache.put_guess(key(1, frame), &sealed(1, frame)).await);
    }
    wait_until("all is written", || cache.shared.queue.bytes() == 0);
    for _ in 0..2 {
        assert_eq!(read(&cache, 1, 0..3).await.len(), 3);
    }
    let guesses = cache.take_guesses();
    assert_eq!((guesses.right, guesses.wrong), (3, 0));
    // A frame that was no guess counts as neither.
    fill(&cache, 2, 0..1000);
    read(&cache, 2, 999..1000).await;
    assert!(!cache.contains(&key(1, 7)), "it went");
    let guesses = cache.take_guesses();
    assert_eq!((guesses.right, guesses.wrong), (0, 5));
}

/// Flips bits, cuts and removes files in any way. The outcome is misses only, and frames that
/// differ where one of their bits was flipped.
#[tokio::test]
async fn damaged_files_are_misses_and_never_errors() {
    let root = tempfile::tempdir().expect("a directory");
    let mut random = 1_u64;
    let mut next = move |below: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    for round in 0..40 {
        let cache = open(root.path());
        fill(&cache, 1, 0..40);
        cache.close().await;
        drop(cache);
        let files = segments(root.path());
        for path in &files {
            let file = fs::OpenOptions::new().read(true).write(true).open(path);
            let file = file.expect("open");
            let len = file.metadata().expect("there").len();
            match round % 3 {
                // Of the table and the trailer, or of anything.
                0 => flip(&file, len - 1 - next(len.min(900))),
                1 => flip(&file, next(len)),
                _ => file.set_len(next(len)).expect("cut"),
            }
        }
        let cache = open(root.path());
        // A frame that nobody has comes last: then all is found.
        fill(&cache, 9, 0..1);
        let mut wrong = 0;
        for frame in 0..40 {
            for (frame, bytes) in read(&cache, 1, frame..frame + 1).await {
                wrong += usize::from(bytes != sealed(1, frame));
            }
        }
        assert!(wrong <= files.len(), "a flip is in one frame at most");
        // A file that goes while it is open is a miss too.
        for path in segments(root.path()) {
            fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(0))
                .expect("cut");
        }
        let had = cache.status().frames;
        for frame in 0..40 {
            assert!(read(&cache, 1, frame..frame + 1).await.is_empty());
        }
        assert!(cache.status().dropped >= had.saturating_sub(1));
        cache.close().await;
    }
}

fn flip(file: &fs::File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
}

#[tokio::test]
async fn two_mounts_at_once_have_directories_of_their_own() {
    let root = tempfile::tempdir().expect("a directory");
    let (first, second) = (open(root.path()), open(root.path()));
    let other = DiskCache::open(root.path(), "other", plan(SIZE_MIN_BYTES)).expect("opened");
    fill(&first, 1, 0..2);
    fill(&second, 2, 0..1);
    fill(&other, 3, 0..1);
    assert!(!first.contains(&key(2, 0)) && !other.contains(&key(1, 0)));
    for dir in ["volume/0", "volume/1", "other/0"] {
        assert_eq!(segments(&root.path().join(dir)).len(), 1, "{dir}");
    }
    for entry in walkdir::WalkDir::new(root.path()).min_depth(1) {
        let found = entry.expect("entry").metadata().expect("there");
        let expected = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(found.mode() & 0o777, expected);
    }
    first.close().await;
    drop(first);
    let again = open(root.path());
    wait_until("it is warm", || again.status().frames == 2);
}

#[test]
fn a_directory_where_others_can_write_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("open-to-all");
    fs::create_dir(&dir).expect("made");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("set");
    let refused = |root: &Path| DiskCache::open(root, "volume", plan(SIZE_MIN_BYTES)).err();
    let why = refused(&dir).expect("refused").to_string();
    assert!(why.contains("others can write to it"), "{why}");
    // As with the directory of temporary files, nobody can put another one in its place.
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).expect("set");
    assert!(refused(&dir).is_none());

    let dir = root.path().join("linked");
    fs::create_dir(&dir).expect("made");
    symlink(root.path(), dir.join("volume")).expect("made");
    let why = refused(&dir).expect("refused").to_string();
    assert!(why.contains("no directory"), "{why}");
    // A file in the way.
    refused(&root.path().join("linked/volume/open-to-all/volume/0/lock")).expect("refused");
}

/// A filesystem of its own, if this is root.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: u64) -> Option<SmallDisk> {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(dir.path())
            .status();
        made.is_ok_and(|status| status.success())
            .then_some(SmallDisk(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_disk_that_others_fill_is_left_to_them() {
    let Some(disk) = SmallDisk::mount(32 * MIB) else {
        assert!(!nix::unistd::geteuid().is_root(), "no tmpfs");
        return;
    };
    let (root, others) = (disk.0.path().join("cache"), disk.0.path().join("others"));
    let cache = DiskCache::open(&root, "volume", plan(64 * MIB)).expect("opened");
    let free_bytes = || {
        let found = nix::sys::statvfs::statvfs(disk.0.path()).expect("there");
        found.blocks_available() * found.fragment_size()
    };
    for frame in 0..800 {
        fill(&cache, 1, frame..frame + 1);
        assert!(free_bytes() >= 32 * MIB / 10, "at {frame}");
    }
    assert!(
        cache.status().size_bytes > 20 * MIB,
        "the rest of it is used"
    );

    // Other files take all the space that is left, to the last byte.
    let file = fs::File::create(&others).expect("made");
    let mut len = 0;
    wait_until("it gives way", || {
        while file.write_all_at(&[1; 4096], len).is_ok() {
            len += 4096;
        }
        cache.status().size_bytes == 0
    });
    fill(&cache, 2, 0..10);
    assert_eq!(cache.status().frames, 0);
    assert!(cache.status().trouble.is_some());

    drop(file);
    fs::remove_file(&others).expect("removed");
    wait_until("it goes on", || {
        fill(&cache, 2, 0..10);
        cache.contains(&key(2, 9))
    });
    assert!(cache.status().trouble.is_none());
}

#[test]
fn the_index_is_paid_for_whatever_the_size() {
    for (size, memory) in [
        (16 * MIB, MEMORY),
        (1 << 30, MEMORY),
        (1 << 40, MEMORY),
        (1 << 40, 1 << 30),
    ] {
        let plan = DiskPlan::new(size, memory);
        assert!(plan.memory_bytes() <= memory / 16 + memory / 64 + 4 * MIB);
        let index = Index::new(plan.entries_max);
        assert!(index.held_bytes() == 0 && !index.is_full());
    }
    // The default size has room for more entries than full frames, at the least memory.
    assert!(DiskPlan::new(1 << 30, MEMORY).entries_max as u64 > (1 << 30) / FRAME_LEN);
    assert!(DiskPlan::new(1 << 30, MEMORY).memory_bytes() <= 6 * MIB);
}
