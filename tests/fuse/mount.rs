//! Mounting, unmounting, read-only mounts, `df`.

use std::{
    fs::{self, File},
    io::Write,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::statvfs,
};
use strongroom::{
    fs::FsConfig,
    fuse::{MountError, MountOptions, mount},
};

use crate::{
    shell::sh,
    support::{
        opened::MountedVolume,
        volume::TestVolume,
        wait::{SOON, block_until},
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_volume_shows_its_use_and_its_limits() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let before = statvfs(at.root()).unwrap();
    fs::write(at.path("f"), vec![1; 10 << 20]).unwrap();
    File::open(at.path("f")).unwrap().sync_all().unwrap();
    let after = statvfs(at.root()).unwrap();
    assert_eq!(after.name_max(), 255);
    assert_eq!(after.blocks(), before.blocks());
    assert_eq!(
        before.blocks_free() - after.blocks_free(),
        (10 << 20) / after.fragment_size()
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmount_from_outside_is_noticed_and_nothing_is_lost() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::write(at.path("f"), b"written just before").unwrap();
    sh(&format!("fusermount3 -u {}", at.root().display()));
    tokio::time::timeout(Duration::from_secs(10), at.mounted.wait_unmounted())
        .await
        .unwrap();
    assert!(!at.mounted.is_there());
    // A filesystem that somebody else mounts there since is left alone.
    sh(&format!("mount -t tmpfs none {}", at.root().display()));
    at.mounted.unmount(true).await.unwrap();
    assert!(sh("cat /proc/self/mountinfo").contains(&at.root().display().to_string()));
    sh(&format!("umount {}", at.root().display()));
    at.opened.close().await;
    let at = volume.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"written just before");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_in_use_is_busy_and_can_be_left_lazily() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let mut file = File::create_new(at.path("f")).unwrap();
    assert!(matches!(
        at.mounted.unmount(false).await,
        Err(MountError::Busy(_))
    ));
    at.mounted.unmount(true).await.unwrap();
    assert!(!at.mounted.is_there());
    file.write_all(b"after the tree has gone").unwrap();
    assert!(
        tokio::time::timeout(Duration::from_millis(200), at.mounted.wait_unmounted())
            .await
            .is_err()
    );
    drop(file);
    at.mounted.wait_unmounted().await;
    at.opened.close().await;
    let at = volume.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"after the tree has gone");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_mount_at_the_same_place_is_refused() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let again = mount(
        at.opened.fs.clone(),
        at.opened.metrics.clone(),
        MountOptions::default(),
        at.root(),
    )
    .await;
    assert!(matches!(again, Err(MountError::AlreadyMounted(_))));
    assert!(at.mounted.is_there());
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_mount_is_not_left_behind() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let (root, entry) = (at.root().to_owned(), at.mounted.path().to_owned());
    assert_eq!(entry, root.canonicalize().unwrap());
    let MountedVolume {
        mounted, opened, ..
    } = at;
    drop(mounted);
    assert!(!sh("cat /proc/self/mountinfo").contains(&root.display().to_string()));
    opened.fs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_mount_shows_everything_and_changes_nothing() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::write(at.path("f"), b"contents").unwrap();
    at.unmount().await;
    let at = volume
        .mount_with(
            FsConfig {
                read_only: true,
                ..FsConfig::default()
            },
            MountOptions::default(),
        )
        .await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"contents");
    assert_eq!(
        fs::write(at.path("g"), b"").unwrap_err().raw_os_error(),
        Some(libc::EROFS)
    );
    assert_eq!(
        fs::remove_file(at.path("f")).unwrap_err().raw_os_error(),
        Some(libc::EROFS)
    );
    at.mounted.unmount(false).await.unwrap();
    at.mounted.wait_unmounted().await;
    at.opened.fs.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_with_a_capacity_is_full_and_has_room_again_once_files_are_removed() {
    const CAPACITY: u64 = 8 << 20;
    let volume = TestVolume::new().await;
    let config = FsConfig {
        capacity: Some(CAPACITY),
        ..FsConfig::default()
    };
    let at = volume.mount_with(config, MountOptions::default()).await;
    let space = || {
        let space = statvfs(at.root()).unwrap();
        let bytes = |blocks: u64| blocks * space.fragment_size();
        (bytes(space.blocks()), bytes(space.blocks_available()))
    };
    assert_eq!(space(), (CAPACITY, CAPACITY));
    let write = |name: &str, len: usize| {
        let file = File::create(at.path(name)).unwrap();
        (&file)
            .write_all(&vec![7; len])
            .and_then(|()| file.sync_all())
    };
    write("first", 5 << 20).unwrap();
    assert_eq!(space(), (CAPACITY, 3 << 20));
    let full = Some(libc::ENOSPC);
    assert_eq!(
        write("second", 5 << 20).unwrap_err().raw_os_error(),
        full,
        "it fills the volume to the last byte at most"
    );
    assert!(space().1 < 1 << 20, "{:?}", space());
    let file = File::create(at.path("third")).unwrap();
    let allocate = |len| fallocate(&file, FallocateFlags::empty(), 0, len);
    assert_eq!(allocate(4 << 20), Err(Errno::ENOSPC));
    // Names and the removal of files need no room.
    fs::rename(at.path("first"), at.path("renamed")).unwrap();
    fs::remove_file(at.path("renamed")).unwrap();
    fs::remove_file(at.path("second")).unwrap();
    block_until("room", SOON, || space().1 == CAPACITY);
    allocate(4 << 20).unwrap();
    write("fourth", 4 << 20).unwrap();
    drop(file);
    at.unmount().await;
}
