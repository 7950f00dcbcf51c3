//! Contents of files through the kernel.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, symlink},
    path::Path,
    process::Command,
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, FallocateFlags, fallocate},
    unistd::{Whence, linkat, lseek64},
};
use strongroom::{
    fs::{Durability, FsConfig},
    fuse::MountOptions,
};

use crate::{
    shell::sh,
    support::{volume::TestVolume, wait::eventually},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_keeps_what_was_written_for_the_next_mount() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let contents: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7) as u8).collect();
    fs::create_dir_all(at.path("a/b/c")).unwrap();
    fs::write(at.path("a/b/c/file"), &contents).unwrap();
    symlink("b/c/file", at.path("a/link")).unwrap();
    assert!(fs::read(at.path("a/link")).unwrap() == contents);
    at.unmount().await;
    let at = volume.mount().await;
    assert!(fs::read(at.path("a/link")).unwrap() == contents);
    assert_eq!(
        fs::read_link(at.path("a/link")).unwrap(),
        Path::new("b/c/file")
    );
    fs::remove_dir_all(at.path("a")).unwrap();
    assert_eq!(fs::read_dir(at.root()).unwrap().count(), 0);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_open_file_and_a_removed_working_directory_go_on() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(at.path("f"))
        .unwrap();
    file.write_all(b"still ").unwrap();
    fs::remove_file(at.path("f")).unwrap();
    file.write_all(b"here").unwrap();
    let ino = file.metadata().unwrap().ino();
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    let mut contents = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut contents).unwrap();
    assert_eq!(contents, "still here");
    drop(file);
    eventually("the removed file is deleted", async || {
        at.opened
            .meta
            .inode(strongroom::meta::Ino(ino))
            .await
            .unwrap()
            .is_none()
    })
    .await;
    let said = sh(&format!(
        "mkdir {0}/d && cd {0}/d && rmdir {0}/d && ls -a && stat -c %h .",
        at.root().display()
    ));
    assert_eq!(said.lines().last(), Some("0"));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holes_stay_holes() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let file = File::create_new(at.path("sparse")).unwrap();
    file.write_at(b"end", 100 << 20).unwrap();
    file.sync_all().unwrap();
    assert!(file.metadata().unwrap().blocks() < 1024);
    assert_eq!(lseek64(&file, 0, Whence::SeekData).unwrap() % 4096, 0);
    assert_eq!(lseek64(&file, 0, Whence::SeekHole).unwrap(), 0);
    file.write_at(&[1; 65_536], 0).unwrap();
    fallocate(
        &file,
        FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
        4096,
        8192,
    )
    .unwrap();
    let contents = fs::read(at.path("sparse")).unwrap();
    assert_eq!(contents.len(), (100 << 20) + 3);
    assert!(
        contents[4096..12_288].iter().all(|byte| *byte == 0)
            && contents[12_288] == 1
            && contents.ends_with(b"end")
    );
    fallocate(&file, FallocateFlags::empty(), 0, 101 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 101 << 20);
    assert_eq!(
        fallocate(&file, FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 4096),
        Err(Errno::EOPNOTSUPP)
    );
    drop(file);
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mapped_files_are_written_and_read() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let path = at.path("mapped");
    fs::write(&path, vec![b'a'; 10_000]).unwrap();
    let script = "
import mmap, sys
with open(sys.argv[1], 'r+b') as f:
    m = mmap.mmap(f.fileno(), 0)
    m[5000:5003] = b'xyz'
    m.flush()
    m[0:1] = b'Z'
    m.close()
";
    let status = Command::new("python3")
        .arg("-c")
        .arg(script)
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success());
    let file = File::open(&path).unwrap();
    file.sync_all().unwrap();
    drop(file);
    at.unmount().await;
    let at = volume.mount().await;
    let contents = fs::read(at.path("mapped")).unwrap();
    assert_eq!(
        (&contents[5000..5003], contents[0], contents.len()),
        (&b"xyz"[..], b'Z', 10_000)
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_through_two_descriptors_do_not_overwrite_each_other() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(at.path("log"))
            .unwrap()
    };
    let (mut one, mut other) = (open(), open());
    for number in 0..50 {
        one.write_all(format!("one {number}\n").as_bytes()).unwrap();
        other
            .write_all(format!("other {number}\n").as_bytes())
            .unwrap();
    }
    assert_eq!(
        fs::read_to_string(at.path("log")).unwrap().lines().count(),
        100
    );
    drop((one, other));
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_store_if_the_mount_was_made_so() {
    let volume = TestVolume::new().await;
    let at = volume
        .mount_with(
            FsConfig {
                durability: Durability::Close,
                ..FsConfig::default()
            },
            MountOptions::default(),
        )
        .await;
    fs::write(at.path("f"), vec![1; 100_000]).unwrap();
    assert_eq!(at.opened.data.dirty_bytes(), 0);
    let other = volume.open().await;
    assert_eq!(
        other
            .fs
            .lookup(strongroom::meta::Ino::ROOT, b"f")
            .await
            .unwrap()
            .unwrap()
            .size,
        100_000
    );
    at.mounted.unmount(false).await.unwrap();
    at.mounted.wait_unmounted().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_refuses_is_reported_by_fsync_and_close_and_nothing_is_lost() {
    let mut volume = TestVolume::new().await;
    let at = volume.mount().await;
    let file = File::create_new(at.path("f")).unwrap();
    file.sync_all().unwrap();
    volume.server.restart(Some("another-secret")).await;
    file.write_all_at(b"refused at first", 0).unwrap();
    // Each descriptor hears of it.
    let other = OpenOptions::new().write(true).open(at.path("f")).unwrap();
    assert_eq!(file.sync_all().unwrap_err().raw_os_error(), Some(libc::EIO));
    assert_eq!(nix::unistd::close(other).unwrap_err(), Errno::EIO);
    volume.server.restart(None).await;
    file.sync_all().unwrap();
    nix::unistd::close(file).unwrap();
    eventually("it is stored", async || at.opened.data.dirty_bytes() == 0).await;
    let file = OpenOptions::new().write(true).open(at.path("f")).unwrap();
    file.sync_all().unwrap();
    nix::unistd::close(file).unwrap();
    at.unmount().await;
    let at = volume.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"refused at first");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_write_is_in_the_store_when_it_returns() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    for flags in [libc::O_DSYNC, libc::O_SYNC, libc::O_DSYNC | libc::O_DIRECT] {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(flags)
            .open(at.path("f"))
            .unwrap();
        file.write_all(&[5; 4096]).unwrap();
        assert_eq!(at.opened.data.dirty_bytes(), 0, "{flags:o}");
    }
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_without_a_name_held_by_a_path_descriptor_can_be_opened_again() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::write(at.path("f"), b"found again").unwrap();
    let held = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(at.path("f"))
        .unwrap();
    fs::remove_file(at.path("f")).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    use std::os::fd::AsRawFd;
    let through = format!("/proc/self/fd/{}", held.as_raw_fd());
    assert_eq!(fs::read(&through).unwrap(), b"found again");
    assert_eq!(
        linkat(
            AT_FDCWD,
            Path::new(&through),
            AT_FDCWD,
            &at.path("g"),
            AtFlags::AT_SYMLINK_FOLLOW
        ),
        Err(Errno::ENOENT)
    );
    drop(held);
    at.unmount().await;
}
