//! Contents, times, set-id bits and lives of files; below the kernel.

use std::time::Duration;

use crate::support::{
    opened::{Opened, ROOT, SOMEBODY},
    volume::TestVolume,
    wait::eventually,
};
use nix::errno::Errno;
use strongroom::{
    fs::{Durability, Fs, FsConfig, FsError, SetAttributes, SetTime},
    meta::{Ino, Timestamp},
};

async fn create(fs: &Fs, name: &[u8]) -> (u64, Ino) {
    let opened = fs
        .create(ROOT, Ino::ROOT, name, 0o644, libc::O_RDWR)
        .await
        .unwrap();
    (opened.fh, opened.attributes.ino)
}

async fn write(fs: &Fs, ino: Ino, offset: u64, data: &[u8]) {
    fs.write(ino, offset, fs.try_buffer(data).unwrap(), false)
        .await
        .unwrap();
}

async fn read(fs: &Fs, fh: u64, offset: u64, len: u32) -> Vec<u8> {
    fs.read(fh, offset, len).await.unwrap().bytes.to_vec()
}

fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> Errno {
    result.unwrap_err().errno
}

async fn reopened(world: &TestVolume, opened: Opened) -> Opened {
    opened.close().await;
    world.open().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_at_once_and_after_the_next_mount() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let (fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, b"hello").await;
    write(&opened.fs, ino, 5, b" world").await;
    assert_eq!(read(&opened.fs, fh, 0, 100).await, b"hello world");
    assert_eq!(opened.fs.getattr(ino).await.unwrap().size, 11);
    let opened = reopened(&world, opened).await;
    let fh = opened.fs.open(ROOT, ino, libc::O_RDONLY).await.unwrap().fh;
    assert_eq!(read(&opened.fs, fh, 6, 100).await, b"world");
    opened.close().await;
}

/// Files that went into one pack together, some of them closed before it was committed, some after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_of_files_that_are_closed_and_committed() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let mut open = Vec::new();
    for number in 0..100 {
        let (fh, ino) = create(fs, format!("f{number}").as_bytes()).await;
        write(fs, ino, 0, b"small").await;
        match number % 2 {
            0 => fs.release(fh),
            _ => open.push(fh),
        }
    }
    opened.data.drain().await.unwrap();
    eventually("closed files are forgotten", async || {
        opened.data.status().files == open.len()
    })
    .await;
    open.into_iter().for_each(|fh| fs.release(fh));
    assert_eq!(opened.data.status().files, 0);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_file_lives_until_it_is_closed_and_forgotten() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (fh, ino) = create(fs, b"f").await;
    write(fs, ino, 0, b"still here").await;
    fs.unlink(Ino::ROOT, b"f").await.unwrap();
    assert_eq!(fs.getattr(ino).await.unwrap().nlink, 0);
    write(fs, ino, 10, b"!").await;
    fs.fsync(ino).await.unwrap();
    assert_eq!(read(fs, fh, 0, 100).await, b"still here!");
    fs.forget(ino);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(read(fs, fh, 0, 100).await, b"still here!");
    fs.release(fh);
    eventually("the inode is gone", async || fs.getattr(ino).await.is_err()).await;
    assert_eq!(
        errno(fs.open(ROOT, ino, libc::O_RDONLY).await),
        Errno::ESTALE
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rename_replaced_lives_as_long_as_it_is_open() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (old_fh, old) = create(fs, b"old").await;
    write(fs, old, 0, b"old").await;
    let (new_fh, new) = create(fs, b"new").await;
    write(fs, new, 0, b"new").await;
    fs.rename(
        Ino::ROOT,
        b"new",
        Ino::ROOT,
        b"old",
        nix::fcntl::RenameFlags::empty(),
    )
    .await
    .unwrap();
    assert_eq!(read(fs, old_fh, 0, 9).await, b"old");
    fs.release(old_fh);
    fs.forget(old);
    eventually("the replaced inode is gone", async || {
        fs.getattr(old).await.is_err()
    })
    .await;
    assert_eq!(read(fs, new_fh, 0, 9).await, b"new");
    opened.close().await;
}

/// What a name holds after a crash, if all that was done to names is durable.
async fn after_crash(world: &TestVolume, opened: &Opened, name: &[u8]) -> Option<Vec<u8>> {
    opened.data.flush().await.unwrap();
    let after = world.open().await;
    let found = after.fs.lookup(Ino::ROOT, name).await.unwrap()?;
    let opened = after.fs.open(ROOT, found.ino, libc::O_RDONLY).await;
    Some(read(&after.fs, opened.unwrap().fh, 0, 100).await)
}

/// A name that falls back to the old contents is not moved before the new ones are there: it would
/// lose either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_replaced_another_is_whole_before_it_is_renamed_again() {
    use nix::fcntl::RenameFlags;
    for flags in [RenameFlags::empty(), RenameFlags::RENAME_EXCHANGE] {
        let world = TestVolume::new().await;
        let opened = world.open().await;
        let fs = &opened.fs;
        for name in [b"name", b"else"] {
            let (_fh, ino) = create(fs, name).await;
            write(fs, ino, 0, name).await;
            fs.fsync(ino).await.unwrap();
        }
        let (_fh, new) = create(fs, b"new").await;
        write(fs, new, 0, b"new contents").await;
        let rename = async |from: &[u8], to: &[u8], flags| {
            fs.rename(Ino::ROOT, from, Ino::ROOT, to, flags)
                .await
                .unwrap();
        };
        rename(b"new", b"name", RenameFlags::empty()).await;
        rename(b"name", b"else", flags).await;
        let left = after_crash(&world, &opened, b"else").await;
        assert_eq!(left.as_deref(), Some(&b"new contents"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_replaced_and_removed_stays_removed() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (old_fh, old) = create(fs, b"name").await;
    write(fs, old, 0, b"old").await;
    fs.fsync(old).await.unwrap();
    fs.release(old_fh);
    let (new_fh, new) = create(fs, b"new").await;
    write(fs, new, 0, b"new").await;
    let flags = nix::fcntl::RenameFlags::empty();
    fs.rename(Ino::ROOT, b"new", Ino::ROOT, b"name", flags)
        .await
        .unwrap();
    fs.release(new_fh);
    fs.forget(old);
    fs.unlink(Ino::ROOT, b"name").await.unwrap();
    fs.forget(new);
    eventually("both are deleted", async || {
        fs.getattr(old).await.is_err() && fs.getattr(new).await.is_err()
    })
    .await;
    assert_eq!(after_crash(&world, &opened, b"name").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_mount_left_without_a_name_is_deleted() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let (_fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, &[7; 10_000]).await;
    opened.fs.fsync(ino).await.unwrap();
    opened.fs.unlink(Ino::ROOT, b"f").await.unwrap();
    opened.fs.fsyncdir().await.unwrap();
    assert_eq!(opened.meta.inode(ino).await.unwrap().unwrap().nlink, 0);
    // As after kill -9: nothing is told to stop.
    let Opened { fs, data, meta, .. } = opened;
    drop((fs, data, meta));
    let opened = world.open().await;
    eventually("the orphan is gone", async || {
        opened.meta.inode(ino).await.unwrap().is_none()
    })
    .await;
    assert!(opened.meta.orphans(10).await.unwrap().is_empty());
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opened_file_can_be_emptied_and_sizes_can_be_set() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (fh, ino) = create(fs, b"f").await;
    write(fs, ino, 0, b"0123456789").await;
    let set = |size| SetAttributes {
        size: Some(size),
        mtime: Some(SetTime::Now),
        ..SetAttributes::default()
    };
    assert_eq!(fs.setattr(ROOT, ino, set(4)).await.unwrap().size, 4);
    assert_eq!(fs.setattr(ROOT, ino, set(8)).await.unwrap().size, 8);
    assert_eq!(read(fs, fh, 0, 100).await, b"0123\0\0\0\0");
    let again = fs
        .open(ROOT, ino, libc::O_RDWR | libc::O_TRUNC)
        .await
        .unwrap();
    assert_eq!(again.attributes.size, 0);
    assert_eq!(read(fs, fh, 0, 100).await, b"");
    assert_eq!(
        errno(fs.setattr(ROOT, Ino::ROOT, set(0)).await),
        Errno::EISDIR
    );
    assert_eq!(
        errno(fs.setattr(ROOT, ino, set(u64::MAX)).await),
        Errno::EFBIG
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allocation_extends_punches_and_zeroes() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (fh, ino) = create(fs, b"f").await;
    write(fs, ino, 0, b"abcdefgh").await;
    fs.fallocate(ROOT, ino, 0, 12, 0).await.unwrap();
    assert_eq!(fs.getattr(ino).await.unwrap().size, 12);
    fs.fallocate(ROOT, ino, 100, 12, libc::FALLOC_FL_KEEP_SIZE)
        .await
        .unwrap();
    assert_eq!(fs.getattr(ino).await.unwrap().size, 12);
    fs.fallocate(
        ROOT,
        ino,
        2,
        2,
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
    )
    .await
    .unwrap();
    assert_eq!(read(fs, fh, 0, 100).await, b"ab\0\0efgh\0\0\0\0");
    fs.fallocate(ROOT, ino, 6, 10, libc::FALLOC_FL_ZERO_RANGE)
        .await
        .unwrap();
    assert_eq!(read(fs, fh, 0, 100).await, b"ab\0\0ef\0\0\0\0\0\0\0\0\0\0");
    for mode in [
        libc::FALLOC_FL_COLLAPSE_RANGE,
        libc::FALLOC_FL_INSERT_RANGE,
        libc::FALLOC_FL_PUNCH_HOLE,
    ] {
        assert_eq!(
            errno(fs.fallocate(ROOT, ino, 0, 4096, mode).await),
            Errno::EOPNOTSUPP
        );
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_and_holes_are_found_before_and_after_commit() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (_fh, ino) = create(fs, b"f").await;
    const MIB: u64 = 1 << 20;
    write(fs, ino, MIB, &[1; 4096]).await;
    let set = SetAttributes {
        size: Some(4 * MIB),
        ..SetAttributes::default()
    };
    fs.setattr(ROOT, ino, set).await.unwrap();
    for committed in [false, true] {
        if committed {
            fs.fsync(ino).await.unwrap();
        }
        assert_eq!(fs.lseek(ino, 0, libc::SEEK_DATA).await.unwrap(), MIB);
        assert_eq!(fs.lseek(ino, 0, libc::SEEK_HOLE).await.unwrap(), 0);
        assert_eq!(
            fs.lseek(ino, MIB as i64, libc::SEEK_HOLE).await.unwrap(),
            MIB + 4096
        );
        assert_eq!(
            errno(fs.lseek(ino, 2 * MIB as i64, libc::SEEK_DATA).await),
            Errno::ENXIO
        );
        assert_eq!(
            errno(fs.lseek(ino, 4 * MIB as i64, libc::SEEK_HOLE).await),
            Errno::ENXIO
        );
    }
    assert_eq!(fs.getattr(ino).await.unwrap().blocks, 8);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_was_set_is_not_overtaken_by_write_back() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let time = Timestamp {
        seconds: -2,
        nanos: 123_456_789,
    };
    let mut files = Vec::new();
    for round in 0..60_u64 {
        let (fh, ino) = create(fs, format!("f{round}").as_bytes()).await;
        write(fs, ino, 0, &vec![3; 20_000]).await;
        // Some while their first commit is under way, some before, some after.
        let fsync = tokio::spawn({
            let fs = fs.clone();
            async move { fs.fsync(ino).await }
        });
        tokio::time::sleep(Duration::from_micros(700 * (round % 10))).await;
        let set = SetAttributes {
            mtime: Some(SetTime::To(time)),
            atime: Some(SetTime::To(time)),
            ..SetAttributes::default()
        };
        assert_eq!(fs.setattr(ROOT, ino, set).await.unwrap().mtime, time);
        fsync.await.unwrap().unwrap();
        fs.release(fh);
        files.push(ino);
    }
    let opened = reopened(&world, opened).await;
    for ino in files {
        let found = opened.fs.getattr(ino).await.unwrap();
        assert_eq!((found.mtime, found.atime), (time, time));
        assert!(found.ctime.seconds > 1_600_000_000);
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_time_never_goes_back() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (_fh, ino) = create(fs, b"f").await;
    let mut last = fs.getattr(ino).await.unwrap().ctime;
    for round in 0..30_u32 {
        write(fs, ino, 0, &vec![1; 20_000]).await;
        let fsync = tokio::spawn({
            let fs = fs.clone();
            async move { fs.fsync(ino).await }
        });
        tokio::time::sleep(Duration::from_micros(500 * u64::from(round % 8))).await;
        let set = SetAttributes {
            mode: Some(0o600 | (round & 0o77)),
            ..SetAttributes::default()
        };
        let after_chmod = fs.setattr(ROOT, ino, set).await.unwrap().ctime;
        fsync.await.unwrap().unwrap();
        let after_fsync = fs.getattr(ino).await.unwrap().ctime;
        assert!(after_chmod > last && after_fsync >= after_chmod);
        last = after_fsync;
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_leaves_the_access_time_alone() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (fh, ino) = create(fs, b"f").await;
    write(fs, ino, 0, b"x").await;
    let before = fs.getattr(ino).await.unwrap().atime;
    read(fs, fh, 0, 1).await;
    assert_eq!(fs.getattr(ino).await.unwrap().atime, before);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_id_bits_go_when_contents_or_owner_change() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (_fh, ino) = create(fs, b"f").await;
    let mode = |mode| SetAttributes {
        mode: Some(mode),
        ..SetAttributes::default()
    };
    let mode_now = async || fs.getattr(ino).await.unwrap().mode;
    fs.setattr(ROOT, ino, mode(0o6755)).await.unwrap();
    write(fs, ino, 0, b"by root").await;
    assert_eq!(mode_now().await, 0o6755);
    fs.write(ino, 0, fs.try_buffer(b"by others").unwrap(), true)
        .await
        .unwrap();
    assert_eq!(mode_now().await, 0o755);
    fs.setattr(ROOT, ino, mode(0o6755)).await.unwrap();
    fs.setattr(
        SOMEBODY,
        ino,
        SetAttributes {
            size: Some(0),
            ..SetAttributes::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(mode_now().await, 0o755);
    fs.setattr(ROOT, ino, mode(0o6755)).await.unwrap();
    fs.setattr(
        ROOT,
        ino,
        SetAttributes {
            uid: Some(5),
            gid: Some(6),
            ..SetAttributes::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(mode_now().await, 0o755);
    // Without the group's execute bit, set-group-id is the mark of mandatory locking.
    fs.setattr(ROOT, ino, mode(0o6745)).await.unwrap();
    fs.setattr(
        ROOT,
        ino,
        SetAttributes {
            uid: Some(7),
            ..SetAttributes::default()
        },
    )
    .await
    .unwrap();
    assert_eq!(mode_now().await, 0o2745);
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o2755).await.unwrap();
    let owned = fs
        .setattr(
            ROOT,
            dir.ino,
            SetAttributes {
                uid: Some(7),
                ..SetAttributes::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(owned.mode & 0o7000, dir.mode & 0o7000);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsync_makes_a_file_survive_the_death_of_the_process() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let (_fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, b"durable").await;
    opened.fs.fsync(ino).await.unwrap();
    let after = world.open().await;
    let found = after.fs.lookup(Ino::ROOT, b"f").await.unwrap().unwrap();
    let fh = after
        .fs
        .open(ROOT, found.ino, libc::O_RDONLY)
        .await
        .unwrap()
        .fh;
    assert_eq!(read(&after.fs, fh, 0, 100).await, b"durable");
    after.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_store_only_if_asked_to() {
    let world = TestVolume::new().await;
    let opened = world
        .open_with(FsConfig {
            durability: Durability::Close,
            ..FsConfig::default()
        })
        .await;
    let (fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, b"durable").await;
    opened.fs.flush(fh).await.unwrap();
    assert_eq!(opened.data.dirty_bytes(), 0);
    let reader = opened.fs.open(ROOT, ino, libc::O_RDONLY).await.unwrap().fh;
    write(&opened.fs, ino, 0, b"dirty").await;
    opened.fs.flush(reader).await.unwrap();
    assert_ne!(opened.data.dirty_bytes(), 0);
    opened.close().await;
    let opened = world.open().await;
    let fh = opened.fs.open(ROOT, ino, libc::O_RDWR).await.unwrap().fh;
    write(&opened.fs, ino, 0, b"later").await;
    opened.fs.flush(fh).await.unwrap();
    assert_ne!(opened.data.dirty_bytes(), 0);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_counted_and_unknown_ones_are_refused() {
    let world = TestVolume::new().await;
    let opened = world.open().await;
    let fs = &opened.fs;
    let (fh, ino) = create(fs, b"f").await;
    let dir = fs.opendir(Ino::ROOT).await.unwrap();
    assert_eq!(opened.metrics.open_handles.get(), 2);
    assert_eq!(errno(fs.opendir(ino).await), Errno::ENOTDIR);
    assert_eq!(
        errno(fs.open(ROOT, Ino::ROOT, libc::O_RDONLY).await),
        Errno::EISDIR
    );
    assert!(
        matches!(fs.read(dir, 0, 1).await.map(|_| ()), Err(error) if error.errno == Errno::EBADF)
    );
    fs.release(fh);
    fs.releasedir(dir);
    assert_eq!(opened.metrics.open_handles.get(), 0);
    assert_eq!(errno(fs.flush(fh).await), Errno::EBADF);
    assert_eq!(errno(fs.read_dir(dir, 0, false).await), Errno::EBADF);
    opened.close().await;
}
