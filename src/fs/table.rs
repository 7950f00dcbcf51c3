//! Open handles, and inodes that have lost their last name.
//!
//! The kernel's own lookup counts are not mirrored here: an inode matters to this table only while it is open or nameless, so memory does
//! not grow with the inodes that the kernel caches. The kernel sends FORGET for the whole count when it drops an inode, and keeps a
//! nameless one only as long as something uses it.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::FsError;
use crate::{data::OpenFile, meta::Ino, telemetry::Metrics};

/// Handles at once, at most: what the kernel allows a whole machine by default is of this order (`fs.file-max` on 1 GiB is about 100,000),
/// and a handle costs some 300 bytes.
const HANDLES_MAX: usize = 262_144;

/// An open file.
pub struct FileHandle {
    /// The file.
    pub ino: Ino,
    /// Its readahead.
    pub file: OpenFile,
    /// Opened for writing.
    pub writable: bool,
}

enum Handle {
    File(Arc<FileHandle>),
    Dir(Ino),
}

impl Handle {
    fn ino(&self) -> Ino {
        match self {
            Handle::File(file) => file.ino,
            Handle::Dir(ino) => *ino,
        }
    }
}

#[derive(Default)]
struct Inner {
    last_fh: u64,
    handles: HashMap<u64, Handle>,
    /// Open handles by inode; no entry is 0.
    open: HashMap<Ino, u32>,
    /// Nameless inodes that are not yet given to the reaper, and whether the kernel forgot them.
    nameless: HashMap<Ino, bool>,
}

impl Inner {
    /// The inode, if nothing keeps it any more; it leaves the table.
    fn take_if_unused(&mut self, ino: Ino) -> Option<Ino> {
        let unused = self.nameless.get(&ino) == Some(&true) && !self.open.contains_key(&ino);
        if unused {
            self.nameless.remove(&ino);
        }
        unused.then_some(ino)
    }
}

/// See the module's head.
pub struct Table {
    inner: Mutex<Inner>,
    metrics: Arc<Metrics>,
    /// Set at shutdown: late requests find nothing.
    closed: AtomicBool,
}

impl Table {
    pub fn new(metrics: Arc<Metrics>) -> Table {
        Table {
            inner: Mutex::new(Inner::default()),
            metrics,
            closed: AtomicBool::new(false),
        }
    }

    pub fn insert_file(&self, handle: FileHandle) -> Result<u64, FsError> {
        self.insert(Handle::File(Arc::new(handle)))
    }

    pub fn insert_dir(&self, ino: Ino) -> Result<u64, FsError> {
        self.insert(Handle::Dir(ino))
    }

    fn insert(&self, handle: Handle) -> Result<u64, FsError> {
        let mut inner = self.inner.lock();
        if inner.handles.len() >= HANDLES_MAX
            || self.closed.load(std::sync::atomic::Ordering::Relaxed)
        {
            return Err(FsError::new(Errno::ENFILE, "opening one more handle"));
        }
        inner.last_fh += 1;
        let fh = inner.last_fh;
        *inner.open.entry(handle.ino()).or_default() += 1;
        inner.handles.insert(fh, handle);
        self.metrics.open_handles.add(1);
        Ok(fh)
    }

    pub fn file(&self, fh: u64) -> Result<Arc<FileHandle>, FsError> {
        match self.inner.lock().handles.get(&fh) {
            Some(Handle::File(file)) => Ok(Arc::clone(file)),
            _ => Err(FsError::new(Errno::EBADF, "finding the file handle")),
        }
    }

    pub fn dir(&self, fh: u64) -> Result<Ino, FsError> {
        match self.inner.lock().handles.get(&fh) {
            Some(Handle::Dir(ino)) => Ok(*ino),
            _ => Err(FsError::new(Errno::EBADF, "finding the directory handle")),
        }
    }

    /// Closes a handle. Returns the inode if nothing keeps it any more.
    pub fn remove(&self, fh: u64) -> Option<Ino> {
        let (handle, unused) = {
            let mut inner = self.inner.lock();
            let handle = inner.handles.remove(&fh)?;
            let ino = handle.ino();
            if let Some(count) = inner.open.get_mut(&ino) {
                *count -= 1;
                if *count == 0 {
                    inner.open.remove(&ino);
                }
            }
            (handle, inner.take_if_unused(ino))
        };
        self.metrics.open_handles.sub(1);
        // Outside the lock: dropping the file drops what was in flight for it.
        drop(handle);
        unused
    }

    /// The inode has lost its last name.
    pub fn lost_name(&self, ino: Ino) {
        self.inner.lock().nameless.entry(ino).or_insert(false);
    }

    /// The inode has a name again.
    pub fn regained_name(&self, ino: Ino) {
        self.inner.lock().nameless.remove(&ino);
    }

    /// The kernel dropped the inode. Returns it if nothing keeps it any more.
    pub fn forgotten(&self, ino: Ino) -> Option<Ino> {
        let mut inner = self.inner.lock();
        *inner.nameless.get_mut(&ino)? = true;
        inner.take_if_unused(ino)
    }

    /// Closes everything; returns the nameless inodes.
    pub fn clear(&self) -> Vec<Ino> {
        self.closed
            .store(true, std::sync::atomic::Ordering::Relaxed);
        let (handles, nameless) = {
            let mut inner = self.inner.lock();
            inner.open.clear();
            (
                std::mem::take(&mut inner.handles),
                std::mem::take(&mut inner.nameless),
            )
        };
        self.metrics.open_handles.sub(handles.len() as u64);
        nameless.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table::new(Arc::new(Metrics::default()))
    }

    #[test]
    fn a_nameless_inode_lives_until_it_is_closed_and_forgotten_in_either_order() {
        for forget_first in [true, false] {
            let table = table();
            let fh = table.insert_dir(Ino(7)).unwrap();
            table.lost_name(Ino(7));
            let (first, second) = if forget_first {
                (table.forgotten(Ino(7)), table.remove(fh))
            } else {
                (table.remove(fh), table.forgotten(Ino(7)))
            };
            assert_eq!((first, second), (None, Some(Ino(7))));
        }
    }

    #[test]
    fn forgetting_an_inode_that_has_names_does_nothing() {
        let table = table();
        assert_eq!(table.forgotten(Ino(7)), None);
        table.lost_name(Ino(7));
        table.regained_name(Ino(7));
        assert_eq!(table.forgotten(Ino(7)), None);
    }

    #[test]
    fn every_handle_counts_once() {
        let metrics = Arc::new(Metrics::default());
        let table = Table::new(Arc::clone(&metrics));
        let first = table.insert_dir(Ino(7)).unwrap();
        let second = table.insert_dir(Ino(7)).unwrap();
        assert_ne!(first, second);
        assert_eq!(metrics.open_handles.get(), 2);
        table.remove(first);
        table.remove(first);
        assert_eq!(metrics.open_handles.get(), 1);
        table.clear();
        assert_eq!(metrics.open_handles.get(), 0);
        assert!(table.insert_dir(Ino(8)).is_err());
    }
}
