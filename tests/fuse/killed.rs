//! Callers that are killed while they wait for the store.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use strongroom::{
    fs::{Durability, FsConfig},
    fuse::MountOptions,
};

use crate::{
    heal, signal, silence, start,
    support::{opened::MountedVolume, volume::TestVolume, wait::eventually},
    survivors,
};

/// The longest time that a killed process may take to go.
const DIES_WITHIN: Duration = Duration::from_secs(2);

/// Files that are there before the store falls silent. Opening the mount anew forgets all that was
/// read.
async fn filled(volume: &TestVolume) -> MountedVolume {
    let at = volume.mount().await;
    fs::write(at.path("big"), vec![7; 24 << 20]).unwrap();
    fs::write(at.path("mapped"), vec![8; 1 << 20]).unwrap();
    for dir in 0..8 {
        fs::create_dir(at.path(&format!("d{dir}"))).unwrap();
        for name in ["a", "b"] {
            fs::write(at.path(&format!("d{dir}/{name}")), vec![9; 70_000]).unwrap();
        }
    }
    at.unmount().await;
    fresh(volume).await
}

/// The files of [`filled`], with nothing of them in memory.
async fn fresh(volume: &TestVolume) -> MountedVolume {
    let at = volume.mount().await;
    // These are known, so that the programs get as far as the operation that is meant.
    for known in ["big", "mapped"] {
        fs::metadata(at.path(known)).unwrap();
    }
    at
}

const MAP_AND_READ: &str = "
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
m = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
m[500000]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_caller_dies_within_two_seconds_though_the_store_is_silent() {
    let volume = TestVolume::new().await;
    filled(&volume).await.unmount().await;
    for (round, how) in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGQUIT]
        .into_iter()
        .enumerate()
    {
        let at = fresh(&volume).await;
        fs::write(at.path("synced"), b"x").unwrap();
        silence(&volume);
        let path = |name: &str| at.path(name).display().to_string();
        let lines: Vec<Vec<String>> = vec![
            vec!["cat".into(), path("big")],
            vec!["cat".into(), path("mapped")],
            vec![
                "dd".into(),
                format!("if={}", path("big")),
                "iflag=direct".into(),
                "bs=1M".into(),
            ],
            vec![
                "python3".into(),
                "-c".into(),
                MAP_AND_READ.into(),
                path("mapped"),
            ],
            vec![
                "dd".into(),
                "if=/dev/zero".into(),
                format!("of={}", path("synced")),
                "bs=1M".into(),
                "count=3".into(),
                "conv=notrunc,fsync".into(),
            ],
            vec![
                "dd".into(),
                "if=/dev/zero".into(),
                format!("of={}", path("synced")),
                "bs=4k".into(),
                "count=3".into(),
                "seek=900".into(),
                "conv=notrunc".into(),
                "oflag=dsync".into(),
            ],
            vec!["cp".into(), path("big"), path("copy")],
            vec!["rm".into(), path(&format!("d{round}/a"))],
            vec![
                "mv".into(),
                path(&format!("d{}/a", round + 4)),
                path(&format!("d{}/c", round + 4)),
            ],
            vec!["ls".into(), "-l".into(), path("d3")],
        ];
        let mut children = Vec::new();
        for line in &lines {
            let args: Vec<&str> = line.iter().map(String::as_str).collect();
            children.push((line.join(" "), start(args[0], &args[1..])));
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        children.retain_mut(|(_, child)| child.try_wait().unwrap().is_none());
        // A change of names may find in memory all that it needs.
        assert!(
            children.len() >= 7,
            "only {} of {} wait for the store",
            children.len(),
            lines.len()
        );
        for (_, child) in &children {
            signal(child, how);
        }
        let left = survivors(&mut children, DIES_WITHIN).await;
        heal(&volume);
        assert_eq!(left, Vec::<String>::new(), "{how} was survived");
        let (big, mount) = (at.path("big"), at.path("d3"));
        let seen = tokio::task::spawn_blocking(move || {
            (
                fs::read(big).unwrap().len(),
                fs::read_dir(mount).unwrap().count(),
            )
        });
        assert_eq!(seen.await.unwrap(), (24 << 20, 2));
        at.unmount().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_wait_for_room_can_be_killed_even_when_every_thread_waits_with_one() {
    let volume = TestVolume::new().await;
    let at = volume.mount().await;
    for file in 0..8 {
        fs::write(at.path(&format!("f{file}")), b"x").unwrap();
    }
    silence(&volume);
    let mut children = Vec::new();
    for file in 0..8 {
        let to = format!("of={}", at.path(&format!("f{file}")).display());
        let line = ["if=/dev/zero", &to, "bs=1M", "count=1000", "conv=notrunc"];
        children.push((line.join(" "), start("dd", &line)));
    }
    // Until nothing fits any more.
    let mut before = 0;
    eventually("the memory is full", async || {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let now = at.opened.data.dirty_bytes();
        let full = now > 0 && now == before;
        before = now;
        full
    })
    .await;
    for (_, child) in &children {
        signal(child, Signal::SIGKILL);
    }
    let left = survivors(&mut children, DIES_WITHIN).await;
    assert_eq!(left, Vec::<String>::new());
    // The threads are free for others again, though the store is still silent.
    let root = at.root().to_owned();
    let answer = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(&root));
    tokio::time::timeout(DIES_WITHIN, answer)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let accepted: Vec<u64> = (0..8)
        .map(|file| fs::metadata(at.path(&format!("f{file}"))).unwrap().len())
        .collect();
    heal(&volume);
    at.unmount().await;
    let at = volume.mount().await;
    for (file, len) in accepted.into_iter().enumerate() {
        let found = fs::read(at.path(&format!("f{file}"))).unwrap();
        assert_eq!(found.len() as u64, len);
        assert!(found.iter().all(|byte| *byte == 0) || len == 1);
    }
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_ignores_a_signal_is_not_interrupted_by_it() {
    let volume = TestVolume::new().await;
    let at = filled(&volume).await;
    let script = "
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
with open(sys.argv[2], 'w') as ready: ready.write('1')
import mmap
buffer = mmap.mmap(-1, 1 << 20)
print(os.readv(fd, [buffer]), buffer[0])
";
    let flag = tempfile::NamedTempFile::new().unwrap();
    silence(&volume);
    // Opening needs nothing from the store: the inode is known.
    let child = Command::new("python3")
        .args(["-c", script])
        .arg(at.path("mapped"))
        .arg(flag.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("it reads", async || fs::read(flag.path()).unwrap() == b"1").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    signal(&child, Signal::SIGTERM);
    signal(&child, Signal::SIGUSR1);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    heal(&volume);
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1048576 8\n");
    at.unmount().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lazy_unmount_returns_at_once_though_the_store_is_silent() {
    let volume = TestVolume::new().await;
    let at = filled(&volume).await;
    silence(&volume);
    let mut reader = start("cat", &[&at.path("big").display().to_string()]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let root = at.root().to_owned();
    let unmounted = tokio::task::spawn_blocking(move || {
        Command::new("fusermount3")
            .arg("-uz")
            .arg(root)
            .status()
            .unwrap()
    });
    assert!(unmounted.await.unwrap().success());
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    signal(&reader, Signal::SIGKILL);
    let gone = tokio::task::spawn_blocking(move || reader.wait().unwrap());
    tokio::time::timeout(DIES_WITHIN, gone)
        .await
        .unwrap()
        .unwrap();
    tokio::time::timeout(DIES_WITHIN, at.mounted.wait_unmounted())
        .await
        .expect("the kernel has let go");
    heal(&volume);
    at.opened.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_does_not_wait_until_what_it_had_open_is_durable() {
    let volume = TestVolume::new().await;
    let config = FsConfig {
        durability: Durability::Close,
        ..FsConfig::default()
    };
    let at = volume.mount_with(config, MountOptions::default()).await;
    let script = "
import os, sys, time
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(fd, b'written')
time.sleep(3600)
";
    for round in 0..3 {
        let path = at.path(&format!("f{round}"));
        let line = ["-c", script, path.to_str().unwrap()];
        let child = start("python3", &line);
        eventually("it has written", async || {
            fs::metadata(&path).is_ok_and(|found| found.len() == 7)
        })
        .await;
        silence(&volume);
        // Its death closes the file, and closing waits for the store.
        signal(&child, Signal::SIGKILL);
        let mut children = vec![(line.join(" "), child)];
        let left = survivors(&mut children, DIES_WITHIN).await;
        heal(&volume);
        assert_eq!(left, Vec::<String>::new());
        assert_eq!(fs::read(&path).unwrap(), b"written");
    }
    at.unmount().await;
}
