//! A mount by the real binary: its process, its log, its end.

use std::{
    fs,
    marker::PhantomData,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};

use super::{commands::BINARY, wait::holds};

/// A mounted volume.
pub struct Mount<'a> {
    _site: PhantomData<&'a ()>,
    pub dir: PathBuf,
    pub state: PathBuf,
    pub log: PathBuf,
    child: Option<Child>,
}

impl Mount<'_> {
    pub(super) fn new(dir: PathBuf, state: PathBuf, log: PathBuf, child: Child) -> Self {
        Mount {
            _site: PhantomData,
            dir,
            state,
            log,
            child: Some(child),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("running").id()
    }

    pub fn is_mounted(&self) -> bool {
        let parent = fs::metadata(self.dir.parent().expect("parent"))
            .expect("parent")
            .dev();
        fs::metadata(&self.dir).is_ok_and(|here| here.dev() != parent)
    }

    /// Has the process ended (though nobody waited for it yet)?
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| rest.trim_start().starts_with('Z'))
    }

    pub fn wait_ready(&self) {
        holds(Duration::from_secs(120), || {
            assert!(!self.has_ended(), "the mount ended: {}", self.log_text());
            self.is_mounted()
        });
        assert!(self.is_mounted(), "no mount: {}", self.log_text());
    }

    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// `fusermount3 -u`, returning as soon as the kernel has let go.
    pub fn let_go(&self) {
        let started = Instant::now();
        loop {
            let out = Command::new("fusermount3")
                .arg("-u")
                .arg(&self.dir)
                .output()
                .expect("fusermount3");
            if out.status.success() {
                return;
            }
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            let busy = text.contains("busy");
            assert!(
                busy && started.elapsed() < Duration::from_secs(10),
                "fusermount3 -u: {text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the process has drained and gone; returns its exit code.
    pub fn wait_gone(&mut self) -> i32 {
        let mut child = self.child.take().expect("running");
        let started = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("wait") {
                return status.code().unwrap_or(-1);
            }
            if started.elapsed() > Duration::from_secs(180) {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the mount does not end: {}", self.log_text());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Unmounts and waits for the drain.
    pub fn unmount(mut self) {
        self.let_go();
        let code = self.wait_gone();
        assert_eq!(code, 0, "exit code after unmount: {}", self.log_text());
    }

    /// `kill -9`, and clears away the dead mount.
    pub fn kill(mut self) {
        self.kill_process();
    }

    /// `kill -9`; the dead mount stays in the way, and answers ENOTCONN, as long as this lives.
    pub fn kill_process(&mut self) {
        let mut child = self.child.take().expect("running");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// `strongroom status --json`.
    pub fn status(&self) -> serde_json::Value {
        let dir = self.dir.to_str().expect("UTF-8");
        let output = Command::new(BINARY)
            .args(["status", dir, "--json"])
            .output()
            .expect("status");
        assert!(output.status.success(), "status: {output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Bytes reserved now, over all owners.
    pub fn reserved_bytes(&self) -> u64 {
        let status = self.status();
        let owners = status["memory"]["owners"].as_object().expect("owners");
        let current = owners.values().map(|owner| &owner["current_bytes"]);
        current.map(|bytes| bytes.as_u64().expect("bytes")).sum()
    }

    /// Resident bytes that no owner explains; negative where more is reserved than resident.
    pub fn unexplained_bytes(&self) -> i64 {
        let status = self.status();
        status["memory"]["unexplained_bytes"]
            .as_i64()
            .expect("bytes")
    }

    /// A field of `/proc/PID/status`, in bytes.
    pub fn memory_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("status");
        let line = status
            .lines()
            .find(|line| line.starts_with(field))
            .expect("field");
        let kib: u64 = line
            .split_whitespace()
            .nth(1)
            .expect("value")
            .parse()
            .expect("number");
        kib * 1024
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        clear_mount(&self.dir);
        if std::thread::panicking() {
            let text = self.log_text();
            let tail: Vec<&str> = text.lines().rev().take(40).collect();
            eprintln!(
                "--- log of {} (newest first):\n{}",
                self.dir.display(),
                tail.join("\n")
            );
        }
    }
}

/// Unmounts lazily whatever is mounted at `dir`.
pub fn clear_mount(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let path = dir.to_str().expect("path");
    if mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == Some(path))
    {
        let _ = Command::new("umount").arg("-l").arg(dir).status();
    }
}
