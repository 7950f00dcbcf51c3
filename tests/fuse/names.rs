//! Names and directories through the kernel.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, RenameFlags, renameat2},
    sys::stat::{Mode, SFlag, makedev, mknod},
};

use crate::support::volume::TestVolume;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rename_is_atomic_and_takes_directories_along() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::create_dir(at.path("d")).unwrap();
    for number in 0..2000 {
        File::create_new(at.path(&format!("d/{number}"))).unwrap();
    }
    fs::rename(at.path("d"), at.path("e")).unwrap();
    assert_eq!(fs::read_dir(at.path("e")).unwrap().count(), 2000);
    fs::write(at.path("a"), b"a").unwrap();
    fs::write(at.path("b"), b"b").unwrap();
    let rename = |from: &str, to: &str, flags| {
        renameat2(AT_FDCWD, &at.path(from), AT_FDCWD, &at.path(to), flags)
    };
    assert_eq!(
        rename("a", "b", RenameFlags::RENAME_NOREPLACE),
        Err(Errno::EEXIST)
    );
    rename("a", "b", RenameFlags::RENAME_EXCHANGE).unwrap();
    assert_eq!(fs::read(at.path("a")).unwrap(), b"b");
    fs::rename(at.path("a"), at.path("b")).unwrap();
    assert_eq!(fs::read(at.path("b")).unwrap(), b"b");
    assert!(!at.path("a").exists());
    assert_eq!(
        fs::rename(at.path("e"), at.path("e/0/x"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::ENOTDIR)
    );
    fs::create_dir(at.path("e/sub")).unwrap();
    assert_eq!(
        fs::rename(at.path("e"), at.path("e/sub/x"))
            .unwrap_err()
            .raw_os_error(),
        Some(libc::EINVAL)
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn big_directories_are_listed_whole_with_attributes() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    fs::create_dir(at.path("big")).unwrap();
    let names: BTreeSet<String> = (0..3000)
        .map(|number| format!("entry with a name of some length {number}"))
        .collect();
    for name in &names {
        fs::write(at.path("big").join(name), name.as_bytes()).unwrap();
    }
    at.unmount().await;
    let at = volume.mount().await;
    for _ in 0..2 {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(at.path("big")).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_eq!(entry.metadata().unwrap().len(), name.len() as u64);
            assert!(found.insert(name));
        }
        assert!(found == names);
    }
    fs::remove_dir_all(at.path("big")).unwrap();
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_names_hard_links_and_special_files_survive_a_mount() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let odd: [&[u8]; 3] = [&[0xff; 255], b"new\nline", b"\xc3\x28"];
    for name in odd {
        fs::write(at.root().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let too_long = at.root().join(OsStr::from_bytes(&[b'x'; 256]));
    assert_eq!(
        fs::write(too_long, b"").unwrap_err().raw_os_error(),
        Some(libc::ENAMETOOLONG)
    );
    fs::write(at.path("a"), b"linked").unwrap();
    fs::hard_link(at.path("a"), at.path("b")).unwrap();
    mknod(
        &at.path("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o600),
        makedev(1, 300),
    )
    .unwrap();
    nix::unistd::mkfifo(&at.path("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at.path("socket")).unwrap());
    at.unmount().await;
    let at = volume.mount().await;
    for name in odd {
        assert_eq!(
            fs::read(at.root().join(OsStr::from_bytes(name))).unwrap(),
            name
        );
    }
    let (a, b) = (
        fs::metadata(at.path("a")).unwrap(),
        fs::metadata(at.path("b")).unwrap(),
    );
    assert_eq!((a.ino(), a.nlink()), (b.ino(), 2));
    assert_eq!(
        fs::metadata(at.path("null")).unwrap().rdev(),
        makedev(1, 300)
    );
    assert!(fs::metadata(at.path("fifo")).unwrap().file_type().is_fifo());
    assert!(
        fs::metadata(at.path("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_was_seen_before_shows_what_changed_since() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let dir = at.path("d");
    fs::create_dir(&dir).unwrap();
    let count = || fs::read_dir(&dir).unwrap().count();
    let changed = || {
        let found = fs::metadata(&dir).unwrap();
        (found.mtime(), found.mtime_nsec(), found.nlink())
    };
    assert_eq!((count(), count()), (0, 0));
    let mut last = changed();
    let mut differs = |links| {
        let now = changed();
        let newer = (now.0, now.1) > (last.0, last.1);
        last = now;
        newer && now.2 == links
    };
    fs::write(dir.join("f"), b"").unwrap();
    assert!(count() == 1 && differs(2));
    fs::create_dir(dir.join("sub")).unwrap();
    assert!(count() == 2 && differs(3));
    fs::rename(dir.join("sub"), at.path("sub")).unwrap();
    assert!(count() == 1 && differs(2));
    fs::hard_link(dir.join("f"), dir.join("g")).unwrap();
    assert!(count() == 2 && differs(2));
    fs::remove_file(dir.join("f")).unwrap();
    assert!(count() == 1 && differs(2));
    assert_eq!(fs::metadata(dir.join("g")).unwrap().nlink(), 1);
    at.unmount().await;
}
