//! The last session at each mount point, and how it ended, in `<state-dir>/mount-points/`.
//!
//! `umount` looks here where nothing is mounted any more and no process drains: a drain that
//! `fusermount3 -u` began may be over by then, and a script has to learn how it ended.
//!
//! Promises: a session that has begun hides how earlier ones ended, also after a loss of power;
//! one that was killed counts as not ended.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    control::Progress,
    lease::{Machine, Process},
};
use crate::clock;

/// The directory of the files below the state directory.
const DIRECTORY: &str = "mount-points";

/// Mount points that are remembered; those that were mounted longest ago are forgotten.
const REMEMBERED_MAX: usize = 1024;

/// The format of a file.
const FORMAT: u32 = 1;

/// A session at a mount point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSession {
    format: u32,
    /// The mount point as people read it; the file's name decides.
    mount_point: String,
    /// The volume's URL.
    pub url: String,
    machine: Machine,
    /// The process that served it.
    process: Process,
    /// How it ended; `None` while it goes on, and if the process was killed.
    pub ended: Option<Ended>,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, seconds since 1970.
    pub unix_seconds: i64,
    /// [`Progress::Finished`].
    pub outcome: Progress,
}

impl LastSession {
    /// The last session at a mount point, an absolute path. A file that cannot be read counts as
    /// absent.
    pub fn read(state_root: &Path, mount_point: &Path) -> Option<LastSession> {
        let text = fs::read(file(state_root, mount_point)).ok()?;
        let last: LastSession = serde_json::from_slice(&text).ok()?;
        (last.format == FORMAT).then_some(last)
    }

    /// The process that served it, if that still runs.
    pub fn running(&self) -> Option<Process> {
        let here = Machine::this().shares_processes_with(&self.machine);
        (here && self.process.is_alive()).then_some(self.process)
    }

    /// Whether the process with this number served it.
    pub fn is_of(&self, process: &Process) -> bool {
        self.process == *process && Machine::this() == self.machine
    }
}

/// The session of this process, written down.
#[derive(Debug)]
pub struct SessionRecord {
    file: PathBuf,
    session: LastSession,
}

impl SessionRecord {
    /// Notes that a session begins. `None` if that is not possible, and then nothing is known of
    /// earlier sessions there either.
    pub fn begin(state_root: &Path, mount_point: &Path, url: &str) -> Option<SessionRecord> {
        let record = SessionRecord {
            file: file(state_root, mount_point),
            session: LastSession {
                format: FORMAT,
                mount_point: mount_point.display().to_string(),
                url: url.to_owned(),
                machine: Machine::this(),
                process: Process::of(std::process::id())?,
                ended: None,
            },
        };
        match record.write(Synced::Yes) {
            Ok(()) => {
                record.forget_oldest();
                Some(record)
            }
            Err(error) => {
                tracing::warn!(
                    "{} cannot be written, so 'umount' cannot tell later how this mount ended: {error}",
                    record.file.display()
                );
                let _ = fs::remove_file(&record.file);
                None
            }
        }
    }

    /// Forgets a session that did not come to be.
    pub fn forget(self) {
        if self.is_last() {
            let _ = fs::remove_file(&self.file);
        }
    }

    /// Notes how the session ended, unless another one has begun there since.
    pub fn end(mut self, outcome: &Progress) {
        if !self.is_last() {
            return;
        }
        self.session.ended = Some(Ended {
            unix_seconds: clock::unix_seconds(),
            outcome: outcome.clone(),
        });
        if let Err(error) = self.write(Synced::No) {
            tracing::warn!("{} cannot be written: {error}", self.file.display());
        }
    }

    /// Keeps the directory small where each mount has a directory of its own.
    fn forget_oldest(&self) {
        let directory = self.file.parent().map(fs::read_dir);
        let Some(Ok(entries)) = directory else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort_unstable();
        let too_many = files.len().saturating_sub(REMEMBERED_MAX);
        for (_, oldest) in files.into_iter().take(too_many) {
            let _ = fs::remove_file(oldest);
        }
    }

    fn is_last(&self) -> bool {
        let last = fs::read(&self.file).ok();
        let last = last.and_then(|text| serde_json::from_slice::<LastSession>(&text).ok());
        last.is_some_and(|last| last == self.session)
    }

    /// Replaces the file whole.
    fn write(&self, synced: Synced) -> io::Result<()> {
        let directory = self.file.parent().ok_or(io::ErrorKind::InvalidInput)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let temporary = self
            .file
            .with_extension(format!("{}.tmp", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(&serde_json::to_vec(&self.session)?)?;
                match synced {
                    Synced::Yes => file.sync_all(),
                    Synced::No => Ok(()),
                }
            })
            .and_then(|()| fs::rename(&temporary, &self.file));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        match synced {
            Synced::Yes => written.and_then(|()| File::open(directory)?.sync_all()),
            Synced::No => written,
        }
    }
}

/// Whether a file outlives a loss of power from the moment that it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synced {
    Yes,
    No,
}

fn file(state_root: &Path, mount_point: &Path) -> PathBuf {
    let name = Sha256::digest(mount_point.as_os_str().as_bytes());
    let name = data_encoding::HEXLOWER.encode(&name);
    state_root.join(DIRECTORY).join(name).with_extension("json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{exit::Exit, failure::Failure};

    const DIR: &str = "/mnt/vault";

    fn begin(root: &Path) -> SessionRecord {
        SessionRecord::begin(root, Path::new(DIR), "s3://b/v").expect("written")
    }

    fn last(root: &Path) -> Option<LastSession> {
        LastSession::read(root, Path::new(DIR))
    }

    fn ended(root: &Path) -> Option<Progress> {
        last(root)
            .and_then(|last| last.ended)
            .map(|ended| ended.outcome)
    }

    #[test]
    fn a_session_that_begins_hides_how_the_one_before_ended() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        assert_eq!(last(root), None);
        let durable = Progress::finished(&Ok(None));
        begin(root).end(&durable);
        assert_eq!(ended(root), Some(durable.clone()));
        let second = begin(root);
        let seen = last(root).expect("there");
        assert_eq!(seen.ended, None);
        assert_eq!(
            seen.running().map(|process| process.pid),
            Some(std::process::id())
        );
        let lost = Progress::finished(&Err(Failure::new(Exit::NotDurable, "lost", "look")));
        second.end(&lost);
        assert_eq!(ended(root), Some(lost));
        // Another mount point is another matter, and one that was never mounted is forgotten.
        assert_eq!(LastSession::read(root, Path::new("/mnt")), None);
        begin(root).forget();
        assert_eq!(last(root), None);
    }

    #[test]
    fn the_mount_points_that_were_used_longest_ago_are_forgotten() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        let directory = root.join(DIRECTORY);
        fs::create_dir(&directory).expect("made");
        for number in 0..REMEMBERED_MAX + 5 {
            fs::write(directory.join(format!("{number}.json")), b"").expect("written");
        }
        begin(root);
        assert_eq!(
            fs::read_dir(&directory).expect("read").count(),
            REMEMBERED_MAX
        );
        assert!(last(root).is_some());
    }

    #[test]
    fn a_session_that_was_replaced_does_not_speak_for_the_one_after_it() {
        let root = tempfile::tempdir().expect("a directory");
        let root = root.path();
        let (first, path) = (begin(root), file(root, Path::new(DIR)));
        let mut later = last(root).expect("there");
        later.process.started_ticks += 1;
        fs::write(&path, serde_json::to_vec(&later).expect("JSON")).expect("written");
        first.end(&Progress::finished(&Ok(None)));
        assert_eq!(last(root), Some(later.clone()));
        assert_eq!(later.running(), None);
        fs::write(&path, b"{").expect("written");
        assert_eq!(last(root), None);
    }
}
