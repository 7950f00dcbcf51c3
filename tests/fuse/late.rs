//! Changes that happen after their caller was told that they failed.

use std::{fs, os::unix::fs::MetadataExt, process::Command, time::Duration};

use nix::sys::signal::Signal;
use strongroom::{fs::FsConfig, fuse::MountOptions};

use crate::{
    heal, signal, silence, start,
    support::{opened::MountedVolume, volume::TestVolume, wait::eventually},
    survivors,
};

/// Fills the metadata store's room for what is not yet in the store, so that the next changes of
/// names wait.
async fn fill_metadata(at: &MountedVolume) {
    let path = at.path("filler");
    fs::write(&path, b"").unwrap();
    let full = tokio::task::spawn_blocking(move || {
        let script = "
import os, sys
for n in range(4000):
    try: os.setxattr(sys.argv[1], 'user.filler', os.urandom(60000))
    except OSError: sys.exit(0)
sys.exit(1)
";
        Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .status()
            .unwrap()
            .success()
    });
    assert!(
        full.await.unwrap(),
        "the metadata store takes whatever comes"
    );
}

/// Changes names while the store is silent. Each change fails, for its caller was killed or did not
/// wait longer, and happens all the same once the store is back.
async fn names_change_late(killed: bool) {
    let volume = TestVolume::new().await;
    let options = MountOptions {
        timeout: Duration::from_millis(3000),
        ..MountOptions::default()
    };
    let at = volume.mount_with(FsConfig::default(), options).await;
    let path = |name: &str| at.path(name);
    for dir in ["unlink", "rename", "make", "link", "truncate"] {
        fs::create_dir(path(dir)).unwrap();
        fs::write(path(dir).join("a"), b"first").unwrap();
        fs::write(path(dir).join("b"), b"second").unwrap();
        assert!(fs::metadata(path(dir).join("none")).is_err());
    }
    silence(&volume);
    fill_metadata(&at).await;
    let of = |name: &str| path(name).display().to_string();
    let lines: [&[&str]; 5] = [
        &["rm", "-f", &of("unlink/a")],
        &["mv", "-f", &of("rename/a"), &of("rename/b")],
        &["mkdir", &of("make/none")],
        &["ln", &of("link/a"), &of("link/none")],
        &["chmod", "6711", &of("truncate/a")],
    ];
    let mut children = Vec::new();
    for line in lines {
        children.push((line.join(" "), start(line[0], &line[1..])));
    }
    if killed {
        tokio::time::sleep(Duration::from_millis(300)).await;
        for (line, child) in &mut children {
            assert!(child.try_wait().unwrap().is_none(), "{line} did not wait");
            signal(child, Signal::SIGKILL);
        }
    }
    let left = survivors(&mut children, Duration::from_secs(8)).await;
    assert_eq!(left, Vec::<String>::new());
    heal(&volume);
    let exists = |name: &str| fs::symlink_metadata(path(name)).is_ok();
    eventually("what happened late is seen", async || {
        !exists("unlink/a")
            && !exists("rename/a")
            && fs::read(path("rename/b")).is_ok_and(|read| read == b"first")
            && exists("make/none")
            && fs::metadata(path("link/a")).unwrap().nlink() == 2
            && exists("link/none")
            && fs::metadata(path("truncate/a")).unwrap().mode() & 0o7777 == 0o6711
    })
    .await;
    for (dir, count) in [("unlink", 1), ("rename", 1), ("make", 3), ("link", 3)] {
        assert_eq!(fs::read_dir(path(dir)).unwrap().count(), count, "{dir}");
    }
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_names_that_timed_out_and_happens_later_is_seen() {
    names_change_late(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_names_whose_caller_was_killed_and_that_happens_later_is_seen() {
    names_change_late(true).await;
}
