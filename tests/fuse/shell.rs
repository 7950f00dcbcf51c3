//! Shell commands of root and of another user.

use std::{os::unix::process::CommandExt, process::Command};

/// Runs a shell command; its output, if it succeeded.
pub fn sh(script: &str) -> String {
    let output = Command::new("sh").arg("-ec").arg(script).output().unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a shell command as another user, who may enter only a mount with `allow_other`.
pub fn sh_as_nobody(script: &str) -> String {
    let output = Command::new("sh")
        .arg("-ec")
        .arg(script)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
