//! Replacing a file without fsync, and a crash: the old contents or the new ones are under the
//! name, whole.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::support::{
    random::noise,
    site::{Site, Transport},
};

const FILES: u64 = 10;
/// Small ones, which share a pack, and one that has an object of its own.
const SIZES: [usize; 4] = [17, 5000, 300_000, 6 << 20];

fn size_of(file: u64) -> usize {
    match file {
        0 => SIZES[3],
        file => SIZES[file as usize % 3],
    }
}

/// The contents of a file after the round.
fn contents(round: u64, file: u64) -> Vec<u8> {
    noise(round * FILES + file + 1, size_of(file))
}

/// As `mv new old`: nothing is synced.
fn replace(dir: &Path, round: u64, file: u64) {
    let temporary = dir.join(format!("file{file}.new"));
    fs::write(&temporary, contents(round, file)).unwrap();
    fs::rename(&temporary, dir.join(format!("file{file}"))).unwrap();
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

fn sync_files(dir: &Path) {
    for file in 0..FILES {
        fs::File::open(dir.join(format!("file{file}")))
            .and_then(|file| file.sync_all())
            .unwrap();
    }
}

/// Makes everybody's names durable, and no other contents.
fn sync_other(dir: &Path) -> std::io::Result<()> {
    let mut file = fs::File::create(dir.join("synced"))?;
    file.write_all(b"synced")?;
    file.sync_all()
}

/// Writes and syncs a file of its own until it is told to stop, which makes everybody's names
/// durable.
fn keep_syncing(dir: &Path, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (dir, stop) = (dir.to_owned(), stop.clone());
    std::thread::spawn(move || {
        while !stop.load(Ordering::Acquire) {
            if sync_other(&dir).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

/// Which of the two each file holds; panics if it is neither.
fn found(dir: &Path, old_rounds: &[u64], new_round: u64) -> Vec<u64> {
    (0..FILES)
        .map(|file| {
            let bytes = fs::read(dir.join(format!("file{file}"))).unwrap();
            if bytes == contents(new_round, file) {
                return new_round;
            }
            let old_round = old_rounds[file as usize];
            assert!(
                bytes == contents(old_round, file),
                "file{file} holds neither its old nor its new contents: {} bytes of {}",
                bytes.len(),
                size_of(file)
            );
            old_round
        })
        .collect()
}

/// The old files are synced. They are replaced, and some time within two seconds the mount dies.
fn replaced_and_killed(delays: [&str; 2], somebody_syncs: bool, rounds: u64) -> u64 {
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    for file in 0..FILES {
        replace(&mount.dir, 0, file);
    }
    mount.unmount();
    let mut held = vec![0; FILES as usize];
    let (mut kept, mut replaced) = (0, 0);
    for round in 1..=rounds {
        let delay = delays[round as usize % 2];
        let mount = site.mount_with(&["--upload-delay", delay]);
        let stop = Arc::new(AtomicBool::new(false));
        let syncing = somebody_syncs.then(|| keep_syncing(&mount.dir, &stop));
        for file in 0..FILES {
            replace(&mount.dir, round, file);
        }
        std::thread::sleep(Duration::from_millis(350 * round));
        // The mount that wrote them has the new ones.
        assert!(
            found(&mount.dir, &held, round)
                .iter()
                .all(|found| *found == round)
        );
        mount.kill();
        stop.store(true, Ordering::Release);
        if let Some(syncing) = syncing {
            syncing.join().unwrap();
        }
        let mount = site.mount();
        let now = found(&mount.dir, &held, round);
        replaced += now.iter().filter(|found| **found == round).count() as u64;
        kept += now.iter().filter(|found| **found != round).count() as u64;
        held = now;
        mount.unmount();
    }
    eprintln!("{rounds} kills: {kept} names kept the old contents, {replaced} have the new ones");
    kept
}

#[test]
fn a_replaced_file_is_old_or_new_after_a_kill_while_somebody_else_syncs() {
    // Unsynced contents stay behind for long, so only the names could become durable.
    let kept = replaced_and_killed(["30s", "30s"], true, 3);
    assert_eq!(kept, 3 * FILES);
}

#[test]
fn a_replaced_file_is_old_or_new_after_a_kill_at_any_time() {
    // The names are durable after a second; the contents before that in one round, after it in the
    // next.
    let kept = replaced_and_killed(["200ms", "5s"], false, 6);
    assert!(kept > 0, "each kill came too late");
}

#[test]
fn syncing_the_directory_makes_what_replaced_a_file_durable() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["--upload-delay", "60s"]);
    for file in 0..FILES {
        replace(&mount.dir, 0, file);
    }
    sync_dir(&mount.dir).unwrap();
    for round in 1..4 {
        for file in 0..FILES {
            replace(&mount.dir, round, file);
        }
    }
    sync_dir(&mount.dir).unwrap();
    mount.kill();
    let mount = site.mount();
    found(&mount.dir, &[3; FILES as usize], 3);
    mount.unmount();
}

#[test]
fn another_mount_sees_the_old_contents_until_the_new_ones_are_there() {
    let site = Site::start(Transport::Plain);
    let mount = site.mount_with(&["--upload-delay", "60s"]);
    for file in 0..FILES {
        replace(&mount.dir, 0, file);
    }
    sync_files(&mount.dir);
    for file in 0..FILES {
        replace(&mount.dir, 1, file);
    }
    sync_other(&mount.dir).unwrap();
    let follower = site.mount_with(&["--read-only"]);
    assert!(follower.dir.join("synced").exists());
    let seen = found(&follower.dir, &[0; FILES as usize], 1);
    assert!(seen.iter().all(|round| *round == 0));
    sync_files(&mount.dir);
    follower.unmount();
    let follower = site.mount_with(&["--read-only"]);
    let seen = found(&follower.dir, &[0; FILES as usize], 1);
    assert!(seen.iter().all(|round| *round == 1));
    follower.unmount();
    mount.unmount();
}

/// rsync writes each file beside the old one and renames it, without fsync.
#[test]
fn a_tree_that_rsync_renews_has_each_file_old_or_new_after_a_kill() {
    const TREE: u64 = 300;
    let site = Site::start(Transport::Plain);
    let source = site.scratch("source");
    let contents = |round: u64, file: u64| noise(round * TREE + file + 1, 20_000);
    let write = |round: u64| {
        for file in 0..TREE {
            fs::write(source.join(format!("f{file}")), contents(round, file)).unwrap();
        }
    };
    let rsync = |target: &Path| {
        let mut command = Command::new("rsync");
        command
            .args(["-a", "--ignore-times", "--whole-file"])
            .arg(format!("{}/", source.display()))
            .arg(target)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    write(0);
    let mount = site.mount();
    assert!(rsync(&mount.dir).status().unwrap().success());
    mount.unmount();
    let mut held = vec![0; TREE as usize];
    for round in 1..5 {
        write(round);
        let mount = site.mount_with(&["--upload-delay", "300ms"]);
        let mut client = rsync(&mount.dir).spawn().unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(300 * round) {
            sync_other(&mount.dir).unwrap();
        }
        mount.kill();
        let _ = client.kill();
        let _ = client.wait();
        let mount = site.mount();
        for file in 0..TREE {
            let bytes = fs::read(mount.dir.join(format!("f{file}"))).unwrap();
            let old = &mut held[file as usize];
            if bytes == contents(round, file) {
                *old = round;
            }
            assert!(
                bytes == contents(*old, file),
                "f{file} holds {} bytes that are neither old nor new",
                bytes.len()
            );
        }
        mount.unmount();
    }
}
