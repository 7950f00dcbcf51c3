//! Open handles, and orphans.
//!
//! Each handle is paid for while it is open. An open for which there is no room waits until dirty
//! data or reads leave some. An open that would fit only if other handles were closed is refused
//! with ENFILE, since its caller may be the one who has them open.
//!
//! The kernel's own lookup counts are not mirrored here: an inode matters to this table only while
//! it is open or an orphan, so memory does not grow with the inodes that the kernel caches. The
//! kernel sends FORGET for the whole count when it drops an inode, and keeps an orphan only as
//! long as something uses it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    },
};

use nix::errno::Errno;
use parking_lot::Mutex;

use super::{
    FsError,
    busiest::{self, FileBytes, MOVED_BYTES, Moved},
    dense_reads::Density,
    page_turns::{WRITER_BYTES, Writing},
};
use crate::{
    budget::{Governor, Owner, Reservation},
    data::{OPEN_FILE_BYTES, OpenFile},
    meta::Ino,
    telemetry::Metrics,
};

/// Handles at once, at most, whatever the memory: the kernel's default for a whole machine is of
/// this order (`fs.file-max` on 1 GiB is about 100,000).
const HANDLES_MAX: usize = 262_144;

/// The memory of a handle here: its entry, the count of its inode, and the inode's place among the
/// orphans should it lose its name. Measured with 10,000 directories.
const HANDLE_BYTES: u64 = 160;

/// Room for one more handle.
pub struct Room {
    _paid: Reservation,
}

/// An open file.
pub struct FileHandle {
    /// The file.
    pub ino: Ino,
    /// Its readahead.
    pub file: OpenFile,
    /// Opened for writing.
    pub writable: bool,
    /// Reads and writes through it are meant to bypass the kernel's page cache.
    pub past_page_cache: bool,
    /// Set if it made the file and can only write.
    pub made: Option<Made>,
    /// Bytes that were moved through it.
    pub moved: Moved,
    /// Whether what is read through it lies here.
    pub density: Density,
    /// Its turn at the kernel's pages of the file, if it may write.
    pub _writing: Option<Writing>,
    /// The reservation that pays for the handle and its file.
    pub _room: Room,
}

/// How far a new file was written.
#[derive(Default)]
pub struct Made {
    /// The end of the writes so far, bytes.
    pub end: AtomicU64,
}

enum Handle {
    File(Arc<FileHandle>),
    Dir { ino: Ino, _room: Room },
}

impl Handle {
    fn ino(&self) -> Ino {
        match self {
            Handle::File(file) => file.ino,
            Handle::Dir { ino, .. } => *ino,
        }
    }
}

#[derive(Default)]
struct Inner {
    last_fh: u64,
    handles: HashMap<u64, Handle>,
    /// Open handles by inode; no count is 0.
    open: HashMap<Ino, u32>,
    /// Orphans that are not yet given to the reaper, and whether the kernel forgot them.
    orphans: HashMap<Ino, bool>,
}

impl Inner {
    /// The inode, if nothing keeps it any more; it leaves the table.
    fn take_if_unused(&mut self, ino: Ino) -> Option<Ino> {
        let unused = self.orphans.get(&ino) == Some(&true) && !self.open.contains_key(&ino);
        if unused {
            self.orphans.remove(&ino);
        }
        unused.then_some(ino)
    }
}

/// See the module's head.
pub struct HandleTable {
    inner: Mutex<Inner>,
    metrics: Arc<Metrics>,
    governor: Governor,
    /// Set at shutdown: later requests find no handle.
    closed: AtomicBool,
}

impl HandleTable {
    pub fn new(metrics: Arc<Metrics>, governor: Governor) -> HandleTable {
        HandleTable {
            inner: Mutex::new(Inner::default()),
            metrics,
            governor,
            closed: AtomicBool::new(false),
        }
    }

    /// Waits for room for an open file. To be called before anything is done or held.
    pub async fn room_for_file(&self) -> Result<Room, FsError> {
        self.room(HANDLE_BYTES + OPEN_FILE_BYTES + MOVED_BYTES + WRITER_BYTES)
            .await
    }

    /// As [`HandleTable::room_for_file`], for a directory.
    pub async fn room_for_dir(&self) -> Result<Room, FsError> {
        self.room(HANDLE_BYTES).await
    }

    async fn room(&self, bytes: u64) -> Result<Room, FsError> {
        let room = self.governor.acquire_unless_full(Owner::Table, bytes).await;
        room.map(|paid| Room { _paid: paid }).ok_or_else(|| {
            FsError::new(
                Errno::ENFILE,
                "opening one more handle within the memory for them",
            )
        })
    }

    pub fn insert_file(&self, handle: FileHandle) -> Result<u64, FsError> {
        self.insert(Handle::File(Arc::new(handle)))
    }

    pub fn insert_dir(&self, ino: Ino, room: Room) -> Result<u64, FsError> {
        self.insert(Handle::Dir { ino, _room: room })
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
            Some(Handle::Dir { ino, .. }) => Ok(*ino),
            _ => Err(FsError::new(Errno::EBADF, "finding the directory handle")),
        }
    }

    /// Counts bytes that were read through a handle.
    pub fn count_read(&self, handle: &FileHandle, bytes: u64) {
        handle.moved.count_read(bytes);
        self.metrics.fuse_read_bytes.add(bytes);
    }

    /// Counts bytes that are written, through a handle if it is still open.
    pub fn count_written(&self, handle: Option<&FileHandle>, bytes: u64) {
        if let Some(handle) = handle {
            handle.moved.count_written(bytes);
        }
        self.metrics.fuse_written_bytes.add(bytes);
    }

    /// The files behind the open handles that most was moved through.
    pub fn busiest(&self) -> Vec<FileBytes> {
        let inner = self.inner.lock();
        busiest::busiest(inner.handles.values().filter_map(|handle| match handle {
            Handle::File(file) => Some((file.ino, &file.moved)),
            Handle::Dir { .. } => None,
        }))
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
        // This happens outside the lock, because dropping the file drops work in flight for it.
        drop(handle);
        unused
    }

    /// The inode has lost its last name.
    pub fn lost_name(&self, ino: Ino) {
        self.inner.lock().orphans.entry(ino).or_insert(false);
    }

    /// The inode has a name again.
    pub fn regained_name(&self, ino: Ino) {
        self.inner.lock().orphans.remove(&ino);
    }

    /// The kernel dropped the inode. Returns it if nothing keeps it any more.
    pub fn forgotten(&self, ino: Ino) -> Option<Ino> {
        let mut inner = self.inner.lock();
        *inner.orphans.get_mut(&ino)? = true;
        inner.take_if_unused(ino)
    }

    /// Closes everything; returns the orphans.
    pub fn clear(&self) -> Vec<Ino> {
        self.closed
            .store(true, std::sync::atomic::Ordering::Relaxed);
        let (handles, orphans) = {
            let mut inner = self.inner.lock();
            inner.open.clear();
            (
                std::mem::take(&mut inner.handles),
                std::mem::take(&mut inner.orphans),
            )
        };
        self.metrics.open_handles.sub(handles.len() as u64);
        drop(handles);
        orphans.into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Shares;

    const CAPACITY: u64 = 1 << 20;

    fn table() -> HandleTable {
        let governor = Governor::new(Shares {
            capacity_bytes: CAPACITY,
            dirty_min_bytes: 0,
            parked_min_bytes: 0,
            upload_min_bytes: 0,
            read_min_bytes: CAPACITY / 2,
            table_min_bytes: 0,
            listing_min_bytes: 0,
        });
        HandleTable::new(Arc::default(), governor)
    }

    async fn open_dir(table: &HandleTable, ino: u64) -> u64 {
        let room = table.room_for_dir().await.unwrap();
        table.insert_dir(Ino(ino), room).unwrap()
    }

    #[tokio::test]
    async fn an_orphan_lives_until_it_is_closed_and_forgotten_in_either_order() {
        for forget_first in [true, false] {
            let table = table();
            let fh = open_dir(&table, 7).await;
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

    #[tokio::test]
    async fn every_handle_counts_once_and_gives_its_room_back() {
        let table = table();
        let first = open_dir(&table, 7).await;
        let second = open_dir(&table, 7).await;
        assert_ne!(first, second);
        assert_eq!(table.metrics.open_handles.get(), 2);
        table.remove(first);
        table.remove(first);
        assert_eq!(table.metrics.open_handles.get(), 1);
        let late = table.room_for_dir().await.unwrap();
        table.clear();
        assert_eq!(table.metrics.open_handles.get(), 0);
        assert!(table.insert_dir(Ino(8), late).is_err());
        assert_eq!(table.governor.reservations(), 0);
    }

    #[tokio::test]
    async fn handles_wait_for_others_and_are_refused_only_where_handles_are_in_the_way() {
        let table = table();
        let read = table.governor.acquire(Owner::Read, CAPACITY).await;
        let mut waiting = Box::pin(table.room_for_file());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(read);
        let waited = waiting.await.unwrap();
        let mut open = Vec::new();
        let refused = loop {
            match table.room_for_file().await {
                Ok(room) => open.push(room),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused.errno, Errno::ENFILE);
        assert!(table.governor.used_bytes(Owner::Table) <= CAPACITY / 2);
        drop(waited);
        assert!(table.room_for_file().await.is_ok());
    }
}
