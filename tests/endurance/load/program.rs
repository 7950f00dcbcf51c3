//! Programs of others, run on a mount.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::stage::{Place, Stopped};

/// No call of a program takes longer, whatever the store does meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// A program whose mount is gone ends by itself within this, or is killed: restic would try for
/// many minutes.
const PATIENCE_AFTER_THE_END: Duration = Duration::from_secs(1);

/// Where programs find what is not on the mount.
#[derive(Clone)]
pub struct Programs {
    scratch: PathBuf,
}

impl Programs {
    pub fn new(scratch: PathBuf) -> Programs {
        Programs { scratch }
    }

    /// A directory outside the mount.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let dir = self.scratch.join(name);
        fs::create_dir_all(&dir).expect("scratch directory");
        dir
    }

    /// Runs a shell line in `dir`, which must end well; returns what it printed.
    pub fn run(
        &self,
        at: &Place<'_>,
        name: &str,
        dir: &Path,
        line: &str,
    ) -> Result<String, Stopped> {
        let log = self.scratch.join(format!("{name}.log"));
        let open = |path: &Path| {
            let options = fs::File::options()
                .create(true)
                .append(true)
                .read(true)
                .open(path);
            options.expect("log")
        };
        let mut errors = open(&log);
        let began_at = errors.seek(SeekFrom::End(0)).expect("seek");
        let mut output = tempfile::tempfile().expect("file");
        let child = Command::new("bash")
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(dir)
            .env("HOME", &self.scratch)
            .env("RESTIC_PASSWORD", "x")
            .env("RESTIC_CACHE_DIR", self.scratch.join("restic-cache"))
            .env("BORG_BASE_DIR", self.scratch.join("borg-base"))
            .env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes")
            .env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("file"))
            .stderr(errors.try_clone().expect("log"))
            .process_group(0)
            .spawn();
        let child = at.io(&format!("{name}: bash"), child)?;
        let result = Job(child).wait(at);
        let mut printed = String::new();
        output.seek(SeekFrom::Start(0)).expect("seek");
        let _ = output.read_to_string(&mut printed);
        result.map_err(|error| {
            let mut said = String::new();
            let _ = errors.seek(SeekFrom::Start(began_at));
            let _ = errors.read_to_string(&mut said);
            at.judge(line, &format!("{error}\n{printed}\n{said}"))
        })?;
        Ok(printed)
    }
}

/// A process and those that it started.
struct Job(Child);

impl Job {
    fn wait(mut self, at: &Place<'_>) -> Result<(), String> {
        let began = Instant::now();
        let mut doomed_since = None;
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(status.to_string()),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            if at.life.is_doomed() {
                let since = *doomed_since.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE_AFTER_THE_END {
                    return Err("its mount is gone".to_owned());
                }
            } else if began.elapsed() > PATIENCE {
                return Err(format!("does not end within {PATIENCE:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = killpg(Pid::from_raw(self.0.id() as i32), Signal::SIGKILL);
            let _ = self.0.wait();
        }
    }
}
