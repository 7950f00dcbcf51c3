//! Temporary files, names and directory syncs: the pieces of an atomic commit.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::record;

/// A file under construction; gone when dropped before it got its name.
pub(crate) struct TempFile {
    path: PathBuf,
    file: File,
    named: bool,
}

impl TempFile {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = File::options()
            .create_new(true)
            .write(true)
            .read(true)
            .open(&path)?;
        Ok(Self {
            path,
            file,
            named: false,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Ends the data with its record; on the disk when `sync`.
    pub(super) fn seal<T: Serialize>(
        &self,
        data_len: u64,
        record: &T,
        sync: bool,
    ) -> io::Result<()> {
        record::append(&self.file, data_len, record)?;
        if sync { self.file.sync_all() } else { Ok(()) }
    }

    /// Gives the file its name, replacing the file that had it. Atomic; durable after the
    /// directory's sync.
    pub(super) fn publish(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.named {
            // A file that is left is removed at the next start.
            let _left_behind = fs::remove_file(&self.path);
        }
    }
}

/// A directory whose syncs are shared: callers that wait while one runs are served by the next,
/// together.
pub(super) struct SyncedDir {
    path: PathBuf,
    wanted: AtomicU64,
    done: Mutex<u64>,
    enabled: bool,
}

impl SyncedDir {
    pub(super) fn new(path: PathBuf, enabled: bool) -> Self {
        Self {
            path,
            wanted: AtomicU64::new(0),
            done: Mutex::new(0),
            enabled,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns when all changes made to the directory before the call are on the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        if !self.enabled {
            return Ok(());
        }
        let mine = self.wanted.fetch_add(1, Ordering::SeqCst) + 1;
        let mut done = self.done.lock();
        if *done >= mine {
            return Ok(());
        }
        let all = self.wanted.load(Ordering::SeqCst);
        sync_dir(&self.path)?;
        *done = all;
        Ok(())
    }
}

/// Syncs a directory's entries.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The flat name of a key: a hash, so that any key of any length fits and none is inside another.
pub(super) fn name_of(key: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(key.as_bytes()))
}

/// 128 random bits in hexadecimal.
pub(super) fn random_id() -> io::Result<String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    Ok(data_encoding::HEXLOWER.encode(&id))
}
