//! Machines: state directories, and mounts that are to be refused.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use strongroom::session::Exit;

use crate::{
    provider::{Picture, Provider},
    support::{
        commands::{succeed, text, write_secret},
        mount::Mount,
        site::{Site, Transport},
    },
};

/// The longest that a refusal may take; the longest of all asks eight times, with pauses.
const END_WITHIN: Duration = Duration::from_secs(40);

/// A site whose volume has a key file too: unlocking with it costs no derivation, so that a mount
/// can be tried many times.
pub fn site() -> Site {
    let site = Site::start(Transport::Plain);
    add_key_file(&site);
    site
}

pub fn add_key_file(site: &Site) {
    let key = site.path().join("key");
    write_secret(&key, key_bytes(7));
    let add = site.strongroom(&["key", "add", &site.url(), "--new-key-file", text(&key)]);
    succeed(&add.with_passphrase(site).output());
}

/// Bytes that are taken for random ones.
pub fn key_bytes(seed: u8) -> Vec<u8> {
    (0..64_u8)
        .map(|at| at.wrapping_mul(37).wrapping_add(seed))
        .collect()
}

/// A machine is what it remembers.
pub struct Machine<'a> {
    site: &'a Site,
    pub state: PathBuf,
    dir: PathBuf,
}

impl<'a> Machine<'a> {
    /// One that never met the volume.
    pub fn new(site: &'a Site, name: &str) -> Machine<'a> {
        Machine {
            site,
            state: site.scratch(&format!("{name}-state")),
            dir: site.scratch(&format!("{name}-mnt")),
        }
    }

    /// The one that made the volume.
    pub fn first(site: &'a Site) -> Machine<'a> {
        Machine {
            site,
            state: site.scratch("state"),
            dir: site.scratch("first-mnt"),
        }
    }

    pub fn mount(&self) -> Mount<'a> {
        self.mount_with(&[])
    }

    pub fn mount_with(&self, options: &[&str]) -> Mount<'a> {
        let mut all = vec!["--state-dir", text(&self.state)];
        all.extend(options);
        self.site.mount_with(&all)
    }

    /// `strongroom mount` in the foreground with the key file, to be run to its end.
    pub fn mount_command(&self, options: &[&str]) -> Command {
        let (url, key) = (self.site.url(), self.site.path().join("key"));
        let mut run = self.site.strongroom(&[
            "mount",
            &url,
            text(&self.dir),
            "--foreground",
            "--key-file",
            text(&key),
            "--state-dir",
            text(&self.state),
            "--memory",
            "128MiB",
        ]);
        run.command.args(options);
        run.command
    }

    /// Another command on this machine.
    pub fn strongroom(&self, args: &[&str]) -> Command {
        let mut command = self.site.strongroom(args).command;
        command.arg("--state-dir").arg(&self.state);
        command
    }

    /// Wants a mount to be refused with this code, as often as `times`, without a change of the
    /// bucket.
    pub fn refused(&self, provider: &Provider, exit: Exit, times: u32, options: &[&str]) -> String {
        let before = provider.listing();
        let mut said = String::new();
        for time in 0..times {
            said = fails(&mut self.mount_command(options), exit);
            assert!(!said.is_empty(), "try {time}");
        }
        assert_eq!(before, provider.listing(), "a refused mount wrote: {said}");
        said
    }
}

/// Runs a command that must fail so; what it said.
pub fn fails(command: &mut Command, exit: Exit) -> String {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that is not refused would serve for ever.
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > END_WITHIN {
            // SIGTERM, so that it unmounts.
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
            let said = child.wait_with_output().unwrap();
            panic!(
                "{exit:?} was expected, but it goes on: {}",
                String::from_utf8_lossy(&said.stderr)
            );
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(i32::from(exit.code())),
        "{exit:?} was expected: {said}"
    );
    said
}

/// Writes a file and syncs it.
pub fn write_synced(path: &Path, contents: &[u8]) {
    fs::write(path, contents).unwrap();
    File::open(path).unwrap().sync_all().unwrap();
}

/// The states after each of `count` mounts of one machine, which wrote a file each; the oldest
/// first.
pub fn pictures(machine: &Machine<'_>, provider: &Provider, count: usize) -> Vec<Picture> {
    (0..count)
        .map(|number| {
            let mount = machine.mount();
            write_synced(&mount.dir.join(format!("file{number}")), &[1; 3000]);
            mount.unmount();
            provider.picture()
        })
        .collect()
}
