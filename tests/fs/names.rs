//! Names: lookup, creation, links, removal, rename; below the kernel.

use nix::{errno::Errno, fcntl::RenameFlags};
use strongroom::{
    fs::{FsConfig, FsError, SetAttributes},
    meta::{FileKind, Ino},
};

use crate::support::{opened::ROOT, volume::TestVolume};

fn errno<T: std::fmt::Debug>(result: Result<T, FsError>) -> Errno {
    result.unwrap_err().errno
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_created_name_is_found_and_a_removed_one_is_not() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    assert!(fs.lookup(Ino::ROOT, b"a").await.unwrap().is_none());
    let made = fs.mkdir(ROOT, Ino::ROOT, b"a", 0o755).await.unwrap();
    let found = fs.lookup(Ino::ROOT, b"a").await.unwrap().unwrap();
    assert_eq!(
        (found.ino, found.kind, found.mode, found.nlink),
        (made.ino, FileKind::Directory, 0o755, 2)
    );
    assert_eq!(fs.getattr(Ino::ROOT).await.unwrap().nlink, 3);
    fs.rmdir(Ino::ROOT, b"a").await.unwrap();
    assert!(fs.lookup(Ino::ROOT, b"a").await.unwrap().is_none());
    assert_eq!(fs.getattr(Ino::ROOT).await.unwrap().nlink, 2);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_bytes_up_to_255() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let longest = [0xff_u8; 255];
    for name in [&longest[..], b"new\nline", b"\xf0\x28\x8c\x28", b" "] {
        fs.mknod(ROOT, Ino::ROOT, name, libc::S_IFREG | 0o644, 0)
            .await
            .unwrap();
        assert!(fs.lookup(Ino::ROOT, name).await.unwrap().is_some());
    }
    let too_long = [b'x'; 256];
    assert_eq!(
        errno(fs.lookup(Ino::ROOT, &too_long).await),
        Errno::ENAMETOOLONG
    );
    assert_eq!(
        errno(fs.mkdir(ROOT, Ino::ROOT, &too_long, 0o755).await),
        Errno::ENAMETOOLONG
    );
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_taken_once() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    fs.mkdir(ROOT, Ino::ROOT, b"a", 0o755).await.unwrap();
    assert_eq!(
        errno(fs.mkdir(ROOT, Ino::ROOT, b"a", 0o755).await),
        Errno::EEXIST
    );
    assert_eq!(
        errno(fs.symlink(ROOT, Ino::ROOT, b"a", b"t").await),
        Errno::EEXIST
    );
    let exclusive = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR;
    let first = fs
        .create(ROOT, Ino::ROOT, b"f", 0o644, exclusive)
        .await
        .unwrap();
    assert_eq!(
        errno(fs.create(ROOT, Ino::ROOT, b"f", 0o644, exclusive).await),
        Errno::EEXIST
    );
    let second = fs
        .create(ROOT, Ino::ROOT, b"f", 0o644, libc::O_CREAT | libc::O_RDWR)
        .await
        .unwrap();
    assert_eq!(first.attributes.ino, second.attributes.ino);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_empty_directories_are_removed() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await.unwrap();
    fs.mknod(ROOT, dir.ino, b"f", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap();
    assert_eq!(errno(fs.rmdir(Ino::ROOT, b"d").await), Errno::ENOTEMPTY);
    assert_eq!(errno(fs.unlink(Ino::ROOT, b"d").await), Errno::EISDIR);
    assert_eq!(errno(fs.rmdir(dir.ino, b"f").await), Errno::ENOTDIR);
    fs.unlink(dir.ino, b"f").await.unwrap();
    fs.rmdir(Ino::ROOT, b"d").await.unwrap();
    assert_eq!(errno(fs.rmdir(Ino::ROOT, b"d").await), Errno::ENOENT);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_link_is_the_same_file_under_another_name() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let file = fs
        .mknod(ROOT, Ino::ROOT, b"a", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap();
    let linked = fs.link(file.ino, Ino::ROOT, b"b").await.unwrap();
    assert_eq!((linked.ino, linked.nlink), (file.ino, 2));
    fs.unlink(Ino::ROOT, b"a").await.unwrap();
    assert_eq!(fs.lookup(Ino::ROOT, b"b").await.unwrap().unwrap().nlink, 1);
    let dir = fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await.unwrap();
    assert_eq!(errno(fs.link(dir.ino, Ino::ROOT, b"e").await), Errno::EPERM);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_symbolic_link_keeps_its_target_to_the_byte() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let target = [b'\xfe'; 4095];
    let link = fs.symlink(ROOT, Ino::ROOT, b"l", &target).await.unwrap();
    assert_eq!(
        (link.kind, link.size, link.mode),
        (FileKind::Symlink, 4095, 0o777)
    );
    assert_eq!(fs.readlink(link.ino).await.unwrap(), target[..]);
    assert_eq!(
        errno(fs.symlink(ROOT, Ino::ROOT, b"m", &[b'x'; 4096]).await),
        Errno::ENAMETOOLONG
    );
    assert_eq!(
        errno(fs.symlink(ROOT, Ino::ROOT, b"m", b"").await),
        Errno::ENOENT
    );
    assert_eq!(errno(fs.readlink(Ino::ROOT).await), Errno::EINVAL);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn special_files_keep_kind_and_device() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    for (name, kind, expected, rdev) in [
        (b"p", libc::S_IFIFO, FileKind::Fifo, 0),
        (b"s", libc::S_IFSOCK, FileKind::Socket, 0),
        (b"c", libc::S_IFCHR, FileKind::CharDevice, 0x0103),
        (b"b", libc::S_IFBLK, FileKind::BlockDevice, 0x0801),
    ] {
        let made = fs
            .mknod(ROOT, Ino::ROOT, name, kind | 0o600, 0x0100_0000 | rdev)
            .await
            .unwrap();
        let device = matches!(expected, FileKind::CharDevice | FileKind::BlockDevice);
        assert_eq!(
            (made.kind, made.rdev),
            (expected, if device { 0x0100_0000 | rdev } else { 0 })
        );
    }
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rename_replaces_refuses_or_exchanges_as_asked() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let a = fs
        .mknod(ROOT, Ino::ROOT, b"a", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap()
        .ino;
    let b = fs
        .mknod(ROOT, Ino::ROOT, b"b", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap()
        .ino;
    let rename = |from: &'static [u8], to: &'static [u8], flags| {
        fs.rename(Ino::ROOT, from, Ino::ROOT, to, flags)
    };
    assert_eq!(
        errno(rename(b"a", b"b", RenameFlags::RENAME_NOREPLACE).await),
        Errno::EEXIST
    );
    assert_eq!(
        errno(rename(b"a", b"b", RenameFlags::RENAME_WHITEOUT).await),
        Errno::EINVAL
    );
    assert_eq!(
        errno(rename(b"none", b"b", RenameFlags::empty()).await),
        Errno::ENOENT
    );
    rename(b"a", b"b", RenameFlags::RENAME_EXCHANGE)
        .await
        .unwrap();
    assert_eq!(fs.lookup(Ino::ROOT, b"a").await.unwrap().unwrap().ino, b);
    assert_eq!(fs.lookup(Ino::ROOT, b"b").await.unwrap().unwrap().ino, a);
    rename(b"a", b"b", RenameFlags::empty()).await.unwrap();
    assert!(fs.lookup(Ino::ROOT, b"a").await.unwrap().is_none());
    assert_eq!(fs.lookup(Ino::ROOT, b"b").await.unwrap().unwrap().ino, b);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_directory_takes_its_tree_along_and_never_goes_below_itself() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let fs = &opened.fs;
    let outer = fs
        .mkdir(ROOT, Ino::ROOT, b"outer", 0o755)
        .await
        .unwrap()
        .ino;
    let inner = fs.mkdir(ROOT, outer, b"inner", 0o755).await.unwrap().ino;
    fs.mknod(ROOT, inner, b"f", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap();
    assert_eq!(
        errno(
            fs.rename(Ino::ROOT, b"outer", inner, b"x", RenameFlags::empty())
                .await
        ),
        Errno::EINVAL
    );
    fs.rename(outer, b"inner", Ino::ROOT, b"moved", RenameFlags::empty())
        .await
        .unwrap();
    assert_eq!(
        fs.lookup(Ino::ROOT, b"moved").await.unwrap().unwrap().ino,
        inner
    );
    assert!(fs.lookup(inner, b"f").await.unwrap().is_some());
    assert_eq!(fs.getattr(outer).await.unwrap().nlink, 2);
    assert_eq!(fs.getattr(Ino::ROOT).await.unwrap().nlink, 4);
    let dots = {
        let fh = fs.opendir(inner).await.unwrap();
        fs.read_dir(fh, 0, false).await.unwrap()
    };
    assert_eq!(dots[1].ino, Ino::ROOT);
    opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_volume_refuses_every_change() {
    let volume = TestVolume::new().await;
    let opened = volume.open().await;
    let file = opened
        .fs
        .mknod(ROOT, Ino::ROOT, b"f", libc::S_IFREG | 0o644, 0)
        .await
        .unwrap()
        .ino;
    opened.close().await;
    let opened = volume
        .open_with(FsConfig {
            read_only: true,
            ..FsConfig::default()
        })
        .await;
    let fs = &opened.fs;
    assert_eq!(
        errno(fs.mkdir(ROOT, Ino::ROOT, b"d", 0o755).await),
        Errno::EROFS
    );
    assert_eq!(
        errno(fs.create(ROOT, Ino::ROOT, b"g", 0o644, libc::O_RDWR).await),
        Errno::EROFS
    );
    assert_eq!(errno(fs.unlink(Ino::ROOT, b"f").await), Errno::EROFS);
    assert_eq!(errno(fs.link(file, Ino::ROOT, b"g").await), Errno::EROFS);
    assert_eq!(
        errno(
            fs.rename(Ino::ROOT, b"f", Ino::ROOT, b"g", RenameFlags::empty())
                .await
        ),
        Errno::EROFS
    );
    assert_eq!(errno(fs.open(ROOT, file, libc::O_RDWR).await), Errno::EROFS);
    assert_eq!(
        errno(
            fs.setattr(
                ROOT,
                file,
                SetAttributes {
                    mode: Some(0),
                    ..SetAttributes::default()
                }
            )
            .await
        ),
        Errno::EROFS
    );
    assert_eq!(
        errno(fs.setxattr(ROOT, file, b"user.a", b"b", 0).await),
        Errno::EROFS
    );
    assert_eq!(errno(fs.removexattr(file, b"user.a").await), Errno::EROFS);
    assert_eq!(errno(fs.fallocate(ROOT, file, 0, 1, 0).await), Errno::EROFS);
    let opened_file = fs.open(ROOT, file, libc::O_RDONLY).await.unwrap();
    fs.fsync(file).await.unwrap();
    fs.release(opened_file.fh);
    fs.shutdown().await;
}
