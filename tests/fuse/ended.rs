//! A session with the kernel that ends though nobody unmounted.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};

use crate::support::volume::TestVolume;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_whose_session_was_cut_off_stays_in_the_way_and_what_was_written_is_drained() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    let mut file = File::create_new(at.path("f")).unwrap();
    file.write_all(b"written before").unwrap();
    // It is in use, so this does not unmount it: it only cuts the session off.
    assert_eq!(umount2(at.root(), MntFlags::MNT_FORCE), Err(Errno::EBUSY));
    at.mounted.wait_unmounted().await;
    let lost = fs::write(at.path("lost"), b"x").unwrap_err();
    assert_eq!(lost.raw_os_error(), Some(libc::ENOTCONN));
    drop(file);
    let root = at.root().to_owned();
    at.opened.close().await;
    drop(at.mounted);
    assert!(fs::metadata(&root).is_err(), "it is still in the way");
    let removed = Command::new("fusermount3")
        .arg("-u")
        .arg(&root)
        .status()
        .unwrap();
    assert!(removed.success());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    let at = volume.mount().await;
    assert_eq!(fs::read(at.path("f")).unwrap(), b"written before");
    at.unmount().await;
}
