//! Running the binary and looking at how it ended.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use strongroom::session::Exit;

pub use crate::support::commands::write_secret;
use crate::support::{
    commands::{BINARY, around, succeed, text},
    site::Site,
};

/// A command that is to fail.
pub fn strongroom(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args);
    command
}

/// Runs it, wants this exit code and one line on standard error that says each of `words` and ends
/// in advice.
pub fn assert_refused(command: &mut Command, exit: Exit, words: &[&str]) {
    refused(command, exit, words);
}

/// [`assert_refused`], and the line.
pub fn refused(command: &mut Command, exit: Exit, words: &[&str]) -> String {
    let output = command.output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(i32::from(exit.code())),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "more than one line: {error}");
    assert!(error.starts_with("strongroom: "), "{error}");
    let parts = error.trim_end().splitn(3, ": ").collect::<Vec<_>>();
    assert_eq!(parts.len(), 3, "no advice: {error}");
    for word in words {
        assert!(error.contains(word), "'{word}' is missing: {error}");
    }
    error
}

/// `strongroom mount` of the site's volume in the background, not yet run.
pub struct BackgroundMount {
    pub dir: PathBuf,
    pub state: PathBuf,
}

impl BackgroundMount {
    /// Directories for a mount of this name.
    pub fn prepare(site: &Site, name: &str) -> BackgroundMount {
        BackgroundMount {
            dir: site.scratch(&format!("{name}-mnt")),
            state: site.scratch(&format!("{name}-state")),
        }
    }

    /// The command.
    pub fn command(&self, site: &Site, options: &[&str]) -> Command {
        let run = site.strongroom(&[
            "mount",
            &site.url(),
            text(&self.dir),
            "--state-dir",
            text(&self.state),
        ]);
        let mut command = run.with_passphrase(site).command;
        command.args(options);
        command
    }

    /// Runs it and wants it to succeed.
    pub fn mount(&self, site: &Site, options: &[&str]) {
        succeed(&self.command(site, options).output().expect("runs"));
    }

    /// `strongroom umount`, which must succeed.
    pub fn umount(&self, site: &Site) {
        succeed(&site.strongroom(&["umount", text(&self.dir)]).output());
    }

    /// The process that serves it.
    pub fn pid(&self, site: &Site) -> u64 {
        self.status(site)["mount"]["pid"]
            .as_u64()
            .expect("a number")
    }

    /// `strongroom status --json`.
    pub fn status(&self, site: &Site) -> serde_json::Value {
        let text = succeed(
            &site
                .strongroom(&["status", "--json", text(&self.dir)])
                .output(),
        );
        serde_json::from_str(&text).expect("JSON")
    }

    /// The log of all its mounts.
    pub fn log(&self) -> String {
        let volumes = fs::read_dir(&self.state).expect("state directory");
        volumes
            .filter_map(|volume| fs::read_to_string(volume.ok()?.path().join("mount.log")).ok())
            .collect()
    }
}

impl Drop for BackgroundMount {
    fn drop(&mut self) {
        // Only a test that failed leaves a mount; its process ends once nothing is mounted.
        let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if table
            .lines()
            .any(|line| line.split(' ').nth(1) == self.dir.to_str())
        {
            let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        }
    }
}

/// Runs a program on a terminal of its own, and answers its questions for a passphrase in turn.
const ON_A_TERMINAL: &str = "
import os, pty, sys, termios, time
answers, program = sys.argv[1].split(','), sys.argv[2:]
pid, master = pty.fork()
if pid == 0: os.execvp(program[0], program)
said, typed = b'', 0
while True:
    try: data = os.read(master, 4096)
    except OSError: break
    if not data: break
    said += data
    if sum(map(said.count, (b'Passphrase: ', b'New passphrase: ', b'The same again: '))) > typed:
        while termios.tcgetattr(master)[3] & termios.ECHO: time.sleep(0.01)
        os.write(master, answers[typed].encode() + b'\\n')
        typed += 1
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

/// Runs a command with these answers to the passphrases that it asks for.
pub fn typed(site: &Site, answers: &str, args: &[&str]) -> Output {
    let run = site.strongroom(args).command;
    let mut command = Command::new("python3");
    command.args(["-c", ON_A_TERMINAL, answers]);
    around(&mut command, &run);
    command.output().expect("runs")
}
