//! Durability of files that are replaced, refused or looked at while they are written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{errno::Errno, fcntl::RenameFlags};
use strongroom::data::{MEMORY_MIN_BYTES, MemoryPlan};
use strongroom::{
    budget::Owner,
    data::{DataConfig, Seek},
    fs::FsConfig,
    meta::{Ino, Timestamp},
};

use crate::{
    lied_volume::LiedVolume,
    support::{
        files::{contents, create, sync, write},
        lying::{Form, Kind, Lie, Op, Rule},
        opened::ROOT,
        random::Random,
        volume::TestVolume,
        wait::eventually,
    },
};

fn hasty(config: &mut DataConfig) {
    config.write_back_after = Duration::from_millis(30);
}

/// A name passes through two files that nobody has synced, and then the first is synced. In the
/// other round it is synced while the second replaces it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_syncs_a_file_whose_name_was_given_on_finds_nothing_older_after_a_crash() {
    for at_once in [false, true] {
        let volume = TestVolume::new().await;
        let opened = volume.open().await;
        let old = create(&opened, "file").await;
        write(&opened, &old, 0, &[1; 20_000]).await;
        sync(&opened, &old).await.unwrap();

        let replace = async |name: &str, byte| {
            let new = create(&opened, name).await;
            write(&opened, &new, 0, &[byte; 30_000]).await;
            let (fs, root) = (&opened.fs, Ino::ROOT);
            let flags = RenameFlags::empty();
            fs.rename(root, name.as_bytes(), root, b"file", flags)
                .await
                .unwrap();
            new
        };
        let first = replace("first", 2).await;
        if at_once {
            let syncing = sync(&opened, &first);
            let replacing = replace("second", 3);
            let (synced, _) = tokio::join!(syncing, replacing);
            synced.unwrap();
        } else {
            replace("second", 3).await;
            sync(&opened, &first).await.unwrap();
        }

        let after = volume.open().await;
        let found = contents(&after, "file").await;
        assert!(
            found == [2; 30_000] || found == [3; 30_000],
            "at once: {at_once}: {} bytes of {:?}",
            found.len(),
            found.first()
        );
        after.close().await;
        drop(opened);
    }
}

/// A program that emptied a file may be waiting for memory for its new contents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_just_emptied_stays_as_it_was_while_writers_wait_for_memory() {
    const OLD: &[u8] = &[1; 20_000];
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let file = create(&opened, "file").await;
    write(&opened, &file, 0, OLD).await;
    sync(&opened, &file).await.unwrap();
    let emptied = opened
        .fs
        .open(ROOT, file.ino, libc::O_WRONLY | libc::O_TRUNC)
        .await
        .unwrap();
    let governor = opened.data.governor();
    let other = create(&opened, "other").await;
    let mut waited = false;
    for at in 0..96 {
        write(&opened, &other, at << 20, &[3; 1 << 20]).await;
        waited |= governor.has_waiters(Owner::Dirty) || governor.used_bytes(Owner::Upload) > 0;
    }
    assert!(waited, "memory was not short");
    let durable = opened.meta.inode(file.ino).await.unwrap().unwrap();
    assert_eq!(durable.size, OLD.len() as u64);
    opened.fs.release(emptied.fh);

    let after = volume.open().await;
    assert!(contents(&after, "file").await == OLD, "after a crash");
    after.close().await;
    drop(opened);
}

/// `> file` and new contents, and the process dies, at once or a little later, while others sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_anew_is_old_or_new_after_a_crash() {
    let volume = TestVolume::new().await;
    let mut outcomes = [0, 0];
    for round in 0..24u64 {
        let opened = volume
            .open_through(volume.server.endpoint_url(), FsConfig::default(), hasty)
            .await;
        let name = format!("file-{round}");
        // Small enough to lie in the metadata, in a pack, and in parts of its own.
        let len = [100, 20_000, 7 << 20][round as usize % 3];
        let (old, new) = (vec![1; len], vec![2; len / 2 + 7]);
        let file = create(&opened, &name).await;
        write(&opened, &file, 0, &old).await;
        sync(&opened, &file).await.unwrap();
        let other = create(&opened, &format!("other-{round}")).await;

        let emptied = opened
            .fs
            .open(ROOT, file.ino, libc::O_WRONLY | libc::O_TRUNC)
            .await
            .unwrap();
        if round % 2 == 0 {
            // Somebody's fsync makes everything durable that may be.
            write(&opened, &other, 0, b"synced").await;
            sync(&opened, &other).await.unwrap();
        }
        write(&opened, &file, 0, &new).await;
        opened.fs.release(emptied.fh);
        if round % 4 < 2 {
            opened.data.flush().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(round % 8 * 80)).await;
        if round % 3 == 0 {
            opened.data.flush().await.unwrap();
        }

        // Another mount takes over: what the first had in memory only is gone.
        let after = volume.open().await;
        let found = contents(&after, &name).await;
        match found {
            found if found == old => outcomes[0] += 1,
            // A large file is replaced from its beginning on.
            found if !found.is_empty() && new.starts_with(&found) => outcomes[1] += 1,
            found => panic!("round {round}: neither: {} bytes", found.len()),
        }
        after.close().await;
        drop(opened);
    }
    assert!(
        outcomes.iter().all(|count| *count > 0),
        "not tried: {outcomes:?}"
    );
}

/// One upload is refused: its file hears of it, each descriptor once, and nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_upload_is_reported_for_its_own_file_only() {
    let volume = LiedVolume::new().await;
    let store = volume.store();
    let opened = volume.open(MemoryPlan::for_memory(MEMORY_MIN_BYTES)).await;
    for round in 0..5 {
        let large = create(&opened, &format!("large-{round}")).await;
        let small = create(&opened, &format!("small-{round}")).await;
        let other = opened.fs.open(ROOT, large.ino, libc::O_RDWR).await.unwrap();
        store.lie(
            Rule::on([Op::UploadPart])
                .of([Kind::Data])
                .always(Lie::refuse(403, Form::Code("AccessDenied"))),
        );
        let bytes = vec![round + 1; 12 << 20];
        write(&opened, &large, 0, &bytes).await;
        let error = sync(&opened, &large).await.unwrap_err();
        assert_eq!(error.errno, Errno::EIO, "round {round}");
        write(&opened, &small, 0, &[7; 20_000]).await;
        sync(&opened, &small).await.unwrap();
        opened.fs.flush(small.fh).await.unwrap();
        let (ino, why) = opened.data.trouble().unwrap();
        assert_eq!(ino, Some(large.ino), "{why}");
        assert_eq!(opened.fs.known_path(large.ino), format!("large-{round}"));
        // The other descriptor has not heard of it.
        assert!(opened.fs.flush(other.fh).await.is_err());
        store.heal();
        sync(&opened, &large).await.unwrap();
        opened.fs.flush(other.fh).await.unwrap();
        assert!(opened.data.trouble().is_none());
        assert_eq!(contents(&opened, &format!("large-{round}")).await, bytes);
    }
    opened.close().await;
}

/// A file without a hole has none at any moment, whatever is being committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn data_is_found_while_it_is_committed() {
    let volume = TestVolume::new().await;
    let opened = Arc::new(
        volume
            .open_through(
                volume.server.endpoint_url(),
                FsConfig::default(),
                |config| {
                    config.write_back_after = Duration::from_millis(5);
                },
            )
            .await,
    );
    let file = create(&opened, "file").await;
    const LEN: u64 = 1 << 20;
    write(&opened, &file, 0, &vec![1; LEN as usize]).await;
    let done = Arc::new(AtomicBool::new(false));
    let ino = file.ino;
    let lookers: Vec<_> = (0..4u64)
        .map(|number| {
            let (opened, done) = (opened.clone(), done.clone());
            tokio::spawn(async move {
                let mut looks = 0u64;
                while !done.load(Ordering::Relaxed) {
                    let from = (looks * 7919 + number * 4096) % LEN;
                    let hole = opened.data.seek(ino, from, Seek::Hole).await.unwrap();
                    assert!(hole.is_some_and(|at| at >= LEN), "a hole at {hole:?}");
                    let data = opened.data.seek(ino, from, Seek::Data).await.unwrap();
                    assert_eq!(data, Some(from));
                    looks += 1;
                    // A look that finds everything at hand never waits.
                    tokio::task::yield_now().await;
                }
                looks
            })
        })
        .collect();
    for round in 0..60u64 {
        let at = LEN + round * 9000;
        write(&opened, &file, at, &[2; 9000]).await;
        write(&opened, &file, round * 17_000 % LEN, &[3; 5000]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    done.store(true, Ordering::Relaxed);
    for looker in lookers {
        assert!(looker.await.unwrap() > 100);
    }
    eventually("all is committed", async || opened.data.dirty_bytes() == 0).await;
    let opened = Arc::into_inner(opened).unwrap();
    opened.close().await;
}

/// Bytes kept of a file whose size was changed are paid for until the change is committed, so that
/// an outage cannot pile up more of them than there is room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncating_pays_for_what_is_kept_until_it_is_committed() {
    const FILES: u64 = 200;
    /// No less is kept of a file.
    const STATE_BYTES_MIN: u64 = 1 << 10;
    let volume = TestVolume::new().await;
    let opened = volume
        .open_through(
            volume.server.endpoint_url(),
            FsConfig::default(),
            |config| {
                config.write_back_after = Duration::from_secs(600);
            },
        )
        .await;
    let governor = opened.data.governor();
    let mut files = Vec::new();
    for number in 0..FILES {
        files.push(create(&opened, &format!("file-{number}")).await.ino);
    }
    opened.data.drain().await.unwrap();
    eventually("nothing is dirty", async || {
        governor.used_bytes(Owner::Dirty) == 0
    })
    .await;
    let before = governor.used_bytes(Owner::Dirty);
    for (number, ino) in (1..).zip(&files) {
        // Once by growing, once by cutting: the second is not paid for again.
        for size in [1 << 40, 17] {
            let now = Timestamp::now();
            opened.data.truncate(*ino, size, now).await.unwrap();
        }
        let paid = governor.used_bytes(Owner::Dirty) - before;
        assert!(
            paid >= number * STATE_BYTES_MIN,
            "{number} files: {paid} bytes"
        );
        assert!(
            paid <= number * 4 * STATE_BYTES_MIN,
            "{number} files: {paid} bytes"
        );
    }
    opened.data.drain().await.unwrap();
    eventually("everything is given back", async || {
        governor.used_bytes(Owner::Dirty) == before
    })
    .await;
    opened.close().await;
}

/// Dirty data stays dirty for ever once another mount has taken over: no write waits for its
/// memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_memory_is_told_when_another_mount_takes_over() {
    a_takeover_is_told_to_whoever_waits_for_memory(Commits::Made).await;
}

/// Where uploads are swept away by the other mount, no commit comes that could notice it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_memory_is_told_of_a_takeover_though_nothing_is_committed() {
    a_takeover_is_told_to_whoever_waits_for_memory(Commits::Held).await;
}

#[derive(PartialEq, Eq)]
enum Commits {
    Made,
    Held,
}

async fn a_takeover_is_told_to_whoever_waits_for_memory(commits: Commits) {
    let volume = TestVolume::new().await;
    let opened = Arc::new(volume.open().await);
    let clean = create(&opened, "clean").await;
    sync(&opened, &clean).await.unwrap();
    let dirty = create(&opened, "dirty").await;
    write(&opened, &dirty, 0, &[7; 20_000]).await;
    let uncommitted = opened.data.hold_commits(dirty.ino).await;
    // A write asks for as much as is left. Writes behind the first wait for its turn.
    let governor = opened.data.governor();
    let left = governor.owner_max_bytes(Owner::Dirty) - governor.used_bytes(Owner::Dirty);
    let _kept = governor.acquire(Owner::Dirty, left).await;
    let admission = opened.data.admit(&[8; 1 << 20]).unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    let data = opened.data.clone();
    waiting.spawn(async move { data.permit(admission).await.map(drop) });
    eventually("the first waits", async || {
        governor.has_waiters(Owner::Dirty)
    })
    .await;
    let data = opened.data.clone();
    waiting.spawn(async move {
        let admission = data.admit_in_line(&[9; 4096]).await;
        data.permit(admission).await.map(drop)
    });
    let (data, ino) = (opened.data.clone(), clean.ino);
    waiting.spawn(async move { data.truncate(ino, 9, Timestamp::now()).await });
    let soon = tokio::time::timeout(Duration::from_millis(300), waiting.join_next());
    assert!(soon.await.is_err(), "somebody did not wait");

    let after = volume.open().await;
    // The metadata learns of it with its next flush, and the data with the metadata.
    create(&opened, "name").await;
    assert!(opened.fs.fsyncdir().await.is_err());
    let held = (commits == Commits::Held).then_some(uncommitted);
    if held.is_none() {
        assert!(sync(&opened, &dirty).await.is_err());
    }
    let mut told_so = 0;
    while let Some(told) = tokio::time::timeout(Duration::from_secs(20), waiting.join_next())
        .await
        .expect("somebody waits for memory for ever")
    {
        told_so += u32::from(told.unwrap().is_err());
    }
    // Writes behind it may have got the memory that the commit gave back.
    assert!(told_so > 0, "there was room for the first");
    after.close().await;
    drop(opened);
}

/// A file that does not fit into the memory for dirty data is overwritten at random. What has to go
/// goes in slices, so that most pages stay where they are written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_overwritten_makes_no_more_room_than_is_needed() {
    const PAGE: u64 = 4096;
    const PAGES: u64 = 4096;
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let file = create(&opened, "file").await;
    write(&opened, &file, 0, &vec![1; (PAGES * PAGE) as usize]).await;
    sync(&opened, &file).await.unwrap();
    let before = volume.server.stats().body_bytes_in;
    let mut random = Random(5);
    let mut model = vec![1; PAGES as usize];
    for round in 0..40_000u64 {
        let (page, value) = (random.below(PAGES), round as u8);
        write(&opened, &file, page * PAGE, &[value; PAGE as usize]).await;
        model[page as usize] = value;
    }
    sync(&opened, &file).await.unwrap();
    let moved = volume.server.stats().body_bytes_in - before;
    let times = moved as f64 / (PAGES * PAGE) as f64;
    println!("{times:.2} times the size of the file");
    assert!(times < 3.6, "{times:.2}");
    let found = contents(&opened, "file").await;
    for (page, value) in found.chunks(PAGE as usize).zip(&model) {
        assert!(page.iter().all(|byte| byte == value));
    }
    opened.close().await;
}
