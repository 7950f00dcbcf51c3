//! Programs that are run and must succeed.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::Instant,
};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_strongroom");

/// Runs a tool and wants it to succeed; returns what it printed.
pub fn tool(dir: &Path, program: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let started = Instant::now();
    let out = Command::new(program)
        .args(args)
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error} (mount-scripts/test.sh installs what the tests need)")
        });
    let printed = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{program} {args:?} in {}: {}\n{printed}\n{}",
        dir.display(),
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    eprintln!(
        "{:>8.2} s  {program} {}",
        started.elapsed().as_secs_f64(),
        args.join(" ").chars().take(100).collect::<String>()
    );
    printed
}

/// Writes the file of a secret, for its owner alone.
pub fn write_secret(path: &Path, content: impl AsRef<[u8]>) {
    fs::write(path, content).expect("written");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("chmod");
}

/// A shell line that must succeed.
pub fn shell(dir: &Path, line: &str) -> String {
    tool(dir, "bash", &["-euo", "pipefail", "-c", line], &[])
}

/// The standard output of a command that must have succeeded.
pub fn succeed(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything that a command printed, and how it ended.
pub fn said(output: &Output) -> String {
    format!(
        "exit {:?}\n{}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// A configuration of fsx with all its operations. `sync_weight` is that of fsync and fdatasync.
pub fn fsx_configuration(sync_weight: &str) -> String {
    format!(
        "
flen = 1048576
nomsyncafterwrite = true
[weights]
close_open = 1
invalidate = 1
read = 10
write = 10
mapread = 10
mapwrite = 10
truncate = 5
punch_hole = 3
posix_fallocate = 1
sendfile = 3
posix_fadvise = 1
copy_file_range = 3
fsync = {sync_weight}
fdatasync = {sync_weight}
"
    )
}

/// `wrapper`, which runs the rest of its words, with `inner` as these words and its environment.
pub fn around(wrapper: &mut Command, inner: &Command) {
    wrapper.arg(inner.get_program()).args(inner.get_args());
    same_environment(wrapper, inner);
}

/// Gives `command` the variables that `other` has, and takes those that it has not.
pub fn same_environment(command: &mut Command, other: &Command) {
    for (name, value) in other.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

/// Runs a command in a process namespace of its own: process numbers mean nothing there, as on
/// another machine.
pub fn elsewhere(inner: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    around(&mut command, inner);
    command
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
