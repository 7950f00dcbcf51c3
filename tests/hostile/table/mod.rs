//! The promises of docs/security.md about a store that lies: a test for each row of its tables.
//!
//! In each: no byte that was not written, no panic, no memory beyond `--memory`, an end within a
//! deadline, no old state taken for the newest; and where the store turns honest again, everything
//! is there.

mod bounds;
mod headers;
mod metadata;
mod objects;
mod rollback;
mod writers;

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{
    support::{
        lying::{Kind, Op},
        mount::Mount,
        random::noise,
    },
    world::{Ended, World, at, compare, sync_dir, within, write_synced},
};

/// `--memory` of all mounts here.
const MEMORY_BYTES: u64 = 128 << 20;

/// However the store lies, a mount answers or ends within this, and a read ends (`--timeout 20s`).
const DEADLINE: Duration = Duration::from_secs(60);

/// For what needs nothing but an honest store.
const PATIENCE: Duration = Duration::from_secs(30);

/// A file: its name, what it holds, its object.
pub struct Stored {
    pub name: String,
    pub contents: Vec<u8>,
    pub key: String,
}

/// A volume with files that have an object each, made from a machine with this state directory,
/// whose mount has ended.
pub struct Volume {
    pub world: World,
    pub state: PathBuf,
    pub files: Vec<Stored>,
}

impl Volume {
    pub fn make() -> Volume {
        let world = World::start();
        let state = world.site.scratch("known");
        let mount = world.begin_mount(&state, &[]);
        mount.wait_ready();
        let mut files = Vec::new();
        for number in 0..3 {
            let contents = noise(number + 1, 12 << 20);
            let name = format!("file{number}");
            world.store.forget();
            assert_eq!(
                write_synced(&at(&mount, &name), contents.clone(), PATIENCE),
                Ended::Ok
            );
            let seen = world.store.seen();
            let object = seen
                .iter()
                .find(|seen| seen.op == Op::Complete && seen.kind == Kind::Data);
            let key = object.expect("an object of its own").key.clone();
            files.push(Stored {
                name,
                contents,
                key,
            });
        }
        sync_dir(&mount.dir);
        mount.unmount();
        world.store.forget();
        Volume {
            world,
            state,
            files,
        }
    }

    /// All files are there.
    pub fn assert_whole(&self, mount: &Mount<'_>) {
        for file in &self.files {
            let holds = compare(&at(mount, &file.name), file.contents.clone(), PATIENCE);
            assert_eq!(holds, crate::world::Holds::Right, "{}", file.name);
        }
    }
}

/// A read until its error: how many bytes it brought, all of them right, and the error.
fn read_to_error(path: &Path, contents: &[u8]) -> (usize, Option<i32>) {
    let (file, expected) = (path.to_owned(), contents.to_owned());
    let read = move || {
        let mut file = match File::open(file) {
            Ok(file) => file,
            Err(error) => return (0, error.raw_os_error()),
        };
        let mut buffer = vec![0; 64 << 10];
        let mut got = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return (got, None),
                Ok(n) => {
                    let end = got + n;
                    assert!(
                        end <= expected.len() && buffer[..n] == expected[got..end],
                        "a wrong byte reached the reader"
                    );
                    got = end;
                }
                Err(error) => return (got, error.raw_os_error()),
            }
        }
    };
    let ended = within(DEADLINE, read);
    ended.unwrap_or_else(|| {
        panic!(
            "{}: the read neither ends nor fails, or read a wrong byte",
            path.display()
        )
    })
}

/// Watches the peak of a process' memory until `done` says so or `patience` is over; returns
/// whether it was done, and the peak.
fn watch_memory(pid: u32, patience: Duration, mut done: impl FnMut() -> bool) -> (bool, u64) {
    let began = Instant::now();
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0) << 10);
        if done() {
            return (true, peak);
        }
        // Nobody's machine shall suffer for a test that fails.
        if began.elapsed() > patience || peak > 8 * MEMORY_BYTES {
            return (false, peak);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_sound(mount: &Mount<'_>, what: &str) {
    let peak = mount.memory_bytes("VmHWM");
    eprintln!("{what}: peak {} MiB", peak >> 20);
    assert!(peak < MEMORY_BYTES, "peak memory is {peak} bytes");
    assert_no_panic(mount);
}

fn assert_no_panic(mount: &Mount<'_>) {
    let log = mount.log_text();
    assert!(!log.contains("panicked"), "{log}");
}
