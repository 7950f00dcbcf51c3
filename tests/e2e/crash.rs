//! `kill -9` at random points: what was fsynced is there, and the tree is consistent.

use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::support::{
    commands::tool,
    random::noise,
    site::{Site, Transport},
    tree::{mixed, snapshot},
};

/// Kills in the ordinary run, which the simulation's lives stand beside; each round reads all that
/// was promised before.
const ROUNDS: u64 = 10;

/// Promises to an application: (file, length, seed), noted only after fsync of the file and its
/// directory returned.
type Promises = Arc<Mutex<Vec<(String, usize, u64)>>>;

/// Writes files and fsyncs them until told to stop or until the mount dies.
fn keep_promising(
    dir: &Path,
    round: u64,
    promises: &Promises,
    stop: &Arc<AtomicBool>,
) -> std::thread::JoinHandle<()> {
    let dir = dir.to_owned();
    let promises = promises.clone();
    let stop = stop.clone();
    std::thread::spawn(move || {
        let _ = fs::create_dir(dir.join("promised"));
        for index in 0u64.. {
            if stop.load(Ordering::Acquire) {
                return;
            }
            let seed = round * 100_000 + index;
            let len = [17, 4096, 70_000, 300_001, 6 << 20][(seed % 5) as usize];
            let name = format!("promised/{round}-{index}");
            let path = dir.join(&name);
            let step = || -> std::io::Result<()> {
                let mut file = fs::File::create(&path)?;
                file.write_all(&noise(seed, len))?;
                // A second write in the middle: overlay over what may be on its way.
                file.write_all_at(&noise(seed, len)[..len / 2], 0)?;
                file.sync_all()?;
                fs::File::open(dir.join("promised"))?.sync_all()
            };
            match step() {
                Ok(()) => promises.lock().unwrap().push((name, len, seed)),
                Err(_) => return,
            }
        }
    })
}

fn check(mnt: &Path, promises: &Promises) {
    for (name, len, seed) in promises.lock().unwrap().iter() {
        let found = fs::read(mnt.join(name))
            .unwrap_or_else(|error| panic!("{name} was fsynced and is gone: {error}"));
        assert!(
            found == noise(*seed, *len),
            "{name} was fsynced and differs ({} of {len} bytes)",
            found.len()
        );
    }
    // Walks and reads everything: an inconsistent tree shows as an error.
    snapshot(mnt);
}

fn killed_at_random_points(
    rounds: u64,
    start: impl Fn(&Site, &Path, u64) -> Command,
    settle: impl Fn(&Site, &Path),
) {
    let site = Site::start(Transport::Plain);
    mixed(&site.scratch("source"), 40);
    let promises = Promises::default();
    for round in 0..rounds {
        let mount = site.mount();
        settle(&site, &mount.dir);
        let stop = Arc::new(AtomicBool::new(false));
        let promising = keep_promising(&mount.dir, round, &promises, &stop);
        let mut client = start(&site, &mount.dir, round)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("client");
        std::thread::sleep(Duration::from_millis(
            60 + noise(round + 1, 8)[0] as u64 * 5,
        ));
        mount.kill();
        stop.store(true, Ordering::Release);
        promising.join().expect("promising thread");
        let _ = client.kill();
        let _ = client.wait();
        let mount = site.mount();
        check(&mount.dir, &promises);
        mount.unmount();
    }
    let kept = promises.lock().unwrap().len();
    eprintln!("{rounds} kills, {kept} fsynced files checked");
    assert!(
        kept as u64 > rounds,
        "too few promises to mean anything: {kept}"
    );
}

#[test]
fn fsynced_files_survive_kill_under_rsync() {
    killed_under_rsync(ROUNDS);
}

fn killed_under_rsync(rounds: u64) {
    killed_at_random_points(
        rounds,
        |site, mnt, round| {
            let mut command = Command::new("rsync");
            command
                .args(["-a", "--fsync"])
                .arg(site.path().join("source/"))
                .arg(mnt.join(format!("copy-{}", round % 3)));
            command
        },
        |_, _| {},
    );
}

#[test]
fn fsynced_files_survive_kill_under_restic() {
    killed_under_restic(ROUNDS);
}

fn killed_under_restic(rounds: u64) {
    let restic = |site: &Site, mnt: &Path, args: &[&str]| {
        let mut command = Command::new("restic");
        command
            .arg("-r")
            .arg(mnt.join("repo"))
            .args(["--no-cache", "--quiet", "--password-file"])
            .arg(site.path().join("pass"))
            .args(args);
        command.current_dir(site.path());
        command
    };
    killed_at_random_points(
        rounds,
        |site, mnt, _| restic(site, mnt, &["backup", "source"]),
        |site, mnt| {
            let pass = site.path().join("pass");
            let repo = mnt.join("repo");
            let base = [
                "-r",
                repo.to_str().unwrap(),
                "--no-cache",
                "--quiet",
                "--password-file",
                pass.to_str().unwrap(),
            ];
            if repo.join("config").exists() {
                tool(
                    site.path(),
                    "restic",
                    &[&base[..], &["unlock"]].concat(),
                    &[],
                );
                tool(
                    site.path(),
                    "restic",
                    &[&base[..], &["check"]].concat(),
                    &[],
                );
            } else {
                tool(site.path(), "restic", &[&base[..], &["init"]].concat(), &[]);
            }
        },
    );
}

/// A file whose blocks are overwritten in place: each block holds the number of the write that made
/// it.
#[test]
fn fsynced_overwrites_survive_kill() {
    const BLOCKS: u64 = 512;
    const BLOCK: usize = 4096;
    let site = Site::start(Transport::Plain);
    let mount = site.mount();
    fs::write(mount.dir.join("file"), vec![0; BLOCKS as usize * BLOCK]).unwrap();
    mount.unmount();
    // By block: the last write that fsync returned for, and the last that was tried.
    let mut kept = vec![0_u64; BLOCKS as usize];
    let mut tried = kept.clone();
    let mut number = 0;
    let mut promises = 0;
    for round in 0..10 {
        let mount = site.mount();
        let path = mount.dir.join("file");
        let overwriting = std::thread::spawn(move || {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            loop {
                let mut pending = Vec::new();
                for _ in 0..1 + number % 7 {
                    number += 1;
                    let block =
                        u64::from_le_bytes(noise(number, 8)[..8].try_into().unwrap()) % BLOCKS;
                    let bytes = number.to_le_bytes().repeat(BLOCK / 8);
                    tried[block as usize] = number;
                    if file.write_all_at(&bytes, block * BLOCK as u64).is_err() {
                        return (kept, tried, number, promises);
                    }
                    pending.push(block as usize);
                }
                if file.sync_all().is_err() {
                    return (kept, tried, number, promises);
                }
                for block in pending {
                    kept[block] = tried[block];
                }
                promises += 1;
            }
        });
        std::thread::sleep(Duration::from_millis(
            100 + noise(round + 1, 8)[0] as u64 * 5,
        ));
        mount.kill();
        (kept, tried, number, promises) = overwriting.join().expect("overwriting thread");
        let mount = site.mount();
        let bytes = fs::read(mount.dir.join("file")).unwrap();
        for (block, bytes) in bytes.chunks(BLOCK).enumerate() {
            let found = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            assert!(
                bytes.chunks(8).all(|word| word == found.to_le_bytes()),
                "block {block} is torn"
            );
            assert!(
                (kept[block]..=tried[block]).contains(&found),
                "block {block} holds write {found}, fsync returned for {}, the last tried was {}",
                kept[block],
                tried[block]
            );
            // From now on the contents that were found count.
            kept[block] = found;
            tried[block] = found;
        }
        mount.unmount();
    }
    eprintln!("10 kills, {promises} fsyncs of {number} overwrites");
    assert!(promises > 20, "too few fsyncs to mean anything: {promises}");
}

mod long {
    #[test]
    #[ignore = "a quarter of an hour: run by mount-scripts/test.sh --long"]
    fn fsynced_files_survive_sixty_kills_under_rsync() {
        super::killed_under_rsync(60);
    }

    #[test]
    #[ignore = "a quarter of an hour: run by mount-scripts/test.sh --long"]
    fn fsynced_files_survive_sixty_kills_under_restic() {
        super::killed_under_restic(60);
    }
}
