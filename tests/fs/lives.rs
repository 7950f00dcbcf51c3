//! Lives of files: removed, replaced, left without a name by a crash.

use std::time::Duration;

use nix::errno::Errno;
use strongroom::meta::Ino;

use crate::io::{create, errno, read, write};
use crate::support::{
    opened::{Opened, ROOT},
    volume::TestVolume,
    wait::eventually,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_file_lives_until_it_is_closed_and_forgotten() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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

/// The contents under a name after a crash, if every change of names is durable.
async fn after_crash(volume: &TestVolume, opened: &Opened, name: &[u8]) -> Option<Vec<u8>> {
    opened.data.flush().await.unwrap();
    let after = volume.open().await;
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
        let volume = TestVolume::new().await;
        let opened = volume.open().await;
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
        let left = after_crash(&volume, &opened, b"else").await;
        assert_eq!(left.as_deref(), Some(&b"new contents"[..]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_replaced_and_removed_stays_removed() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
    assert_eq!(after_crash(&volume, &opened, b"name").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_mount_left_without_a_name_is_deleted() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let (_fh, ino) = create(&opened.fs, b"f").await;
    write(&opened.fs, ino, 0, &[7; 10_000]).await;
    opened.fs.fsync(ino).await.unwrap();
    opened.fs.unlink(Ino::ROOT, b"f").await.unwrap();
    opened.fs.fsyncdir().await.unwrap();
    assert_eq!(opened.meta.inode(ino).await.unwrap().unwrap().nlink, 0);
    // The mount ends as by kill -9: nothing is told to stop.
    let Opened { fs, data, meta, .. } = opened;
    drop((fs, data, meta));
    let opened = volume.open().await;
    eventually("the orphan is gone", async || {
        opened.meta.inode(ino).await.unwrap().is_none()
    })
    .await;
    assert!(opened.meta.orphans(10).await.unwrap().is_empty());
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handles_are_counted_and_unknown_ones_are_refused() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
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
