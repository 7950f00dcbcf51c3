//! Contents, times and set-id bits of files; below the kernel.

use std::time::Duration;

use nix::errno::Errno;
use strongroom::{
    fs::{Durability, FsConfig, SetAttributes, SetTime},
    meta::{Ino, Timestamp},
};

use crate::io::{create, errno, read, reopened, write};
use crate::support::{
    opened::{ROOT, SOMEBODY},
    volume::TestVolume,
    wait::eventually,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_is_read_at_once_and_after_the_next_mount() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let (fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, b"hello").await;
    write(&opened.fs, ino, 5, b" world").await;
    assert_eq!(read(&opened.fs, fh, 0, 100).await, b"hello world");
    assert_eq!(opened.fs.getattr(ino).await.unwrap().size, 11);
    let opened = reopened(&volume, opened).await;
    let fh = opened.fs.open(ROOT, ino, libc::O_RDONLY).await.unwrap().fh;
    assert_eq!(read(&opened.fs, fh, 6, 100).await, b"world");
    opened.close().await;
}

/// Files that went into one pack together, some of them closed before it was committed, some after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_kept_of_files_that_are_closed_and_committed() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
async fn an_opened_file_can_be_emptied_and_sizes_can_be_set() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let opened = reopened(&volume, opened).await;
    for ino in files {
        let found = opened.fs.getattr(ino).await.unwrap();
        assert_eq!((found.mtime, found.atime), (time, time));
        assert!(found.ctime.seconds > 1_600_000_000);
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_time_never_goes_back() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let (_fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, b"durable").await;
    opened.fs.fsync(ino).await.unwrap();
    let after = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume
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
    let opened = volume.open().await;
    let fh = opened.fs.open(ROOT, ino, libc::O_RDWR).await.unwrap().fh;
    write(&opened.fs, ino, 0, b"later").await;
    opened.fs.flush(fh).await.unwrap();
    assert_ne!(opened.data.dirty_bytes(), 0);
    opened.close().await;
}
