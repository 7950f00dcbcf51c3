//! File contents: write-back buffers, uploads, packs, readahead, the frame cache, space reclaim.
//!
//! Promises: a write is readable at once through this mount, and durable after [`Data::fsync`];
//! every buffer is paid for by a [`crate::budget::Reservation`] that lives exactly as long;
//! dropping an [`OpenFile`] drops what was in flight for it; random writes do not read, but for
//! what lies between crumbs (`sweep.rs`); contents are committed to [`crate::meta`] only after
//! their object is in the store, or with the bytes themselves. Never: knows names or permissions,
//! talks to the kernel, returns a byte that was not authenticated.

mod config;
mod error;
mod file;
mod frames;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod paid;
mod read;
mod readahead;
mod space;
mod upload;
mod write_back;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    file::{Candidates, FileState, FileTable},
    frames::{BlockPool, FetchTable, FrameCache, Link, Objects},
    paid::{BUFFER_OVERHEAD, STATE_BYTES, paid_bytes},
    read::{Reads, WIDE_PLACES_MAX},
    readahead::{Along, Density, Window, Windows},
    space::{Moves, Readers},
    write_back::{PACKS_IN_FLIGHT_MAX, Unread},
};
use crate::{
    budget::{Governor, Owner, Reclaim, Reservation},
    disk::{DiskCache, DiskStatus},
    meta::{Ino, Inode, Meta, ObjectId, Timestamp},
    seal::keys::VolumeKeys,
    store::Store,
};

pub use config::{DataConfig, DiskAdmission, MEMORY_MIN_BYTES, MemoryPlan};
pub use error::DataError;
pub use paid::OPEN_FILE_BYTES;
pub use space::{Sweep, Swept};
pub use write_back::HeldCommits;

pub(crate) use frames::{object_key, object_number};
pub(crate) use space::{SESSION_PAGES_MAX, session_prefix};

/// The largest file offset.
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;

/// The contents of a mounted volume. Cheap to clone.
#[derive(Clone)]
pub struct Data {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    config: DataConfig,
    governor: Governor,
    store: Store,
    keys: Arc<VolumeKeys>,
    meta: Meta,
    objects: Objects,
    cache: Arc<FrameCache>,
    disk: Option<DiskCache>,
    fetches: FetchTable,
    blocks: Arc<BlockPool>,
    windows: Arc<Windows>,
    density: Mutex<Density>,
    link: Link,
    along: Arc<Along>,
    /// Held by the one wide read that is carried out.
    wide_read: tokio::sync::Mutex<()>,
    /// Readers that wait for that, and know where their bytes are.
    wide_places: Semaphore,
    /// Files that are open or have uncommitted contents.
    files: Arc<FileTable>,
    /// Those of them with uncommitted contents, which are held by this.
    dirty: Mutex<HashMap<Ino, Arc<FileState>>>,
    readers: Readers,
    /// Files that may lie scattered.
    scattered: Candidates,
    reads: Reads,
    unread: Unread,
    next_object: AtomicU64,
    packs: Arc<Semaphore>,
    /// Why nothing can be made durable any more, once another mount has taken over.
    failure: OnceLock<String>,
    wake: Notify,
    settled: Notify,
    /// A commit was made: there may be regions to mend.
    crowded: Notify,
    /// A fetch was started: there will be something to give up again.
    fetched: Notify,
    draining: AtomicBool,
    moves: Moves,
    stop: CancellationToken,
    /// Cancelled with `stop`, and when another mount has taken over.
    no_uploads: CancellationToken,
    tasks: TaskTracker,
}

/// A file that somebody has open: its readahead window lives here. Dropping it lets go of
/// everything in flight for it.
pub struct OpenFile {
    windows: Arc<Windows>,
    file: Arc<FileState>,
    window: Arc<Mutex<Window>>,
    heard: Mutex<Heard>,
    /// Told whenever the window got something.
    fetched: Notify,
}

/// How many errors a descriptor has reported: each is reported once.
#[derive(Clone, Copy)]
pub(crate) struct Heard {
    /// Of its file.
    file: u64,
    /// Of the metadata's log.
    log: u64,
}

/// Contents on their way to a reader; what pays for them is released when the last view of `bytes`
/// is dropped.
pub struct ReadReply {
    /// The bytes, in one piece.
    pub bytes: Bytes,
}

/// Bytes of one write, paid for.
pub struct WriteBuffer {
    bytes: Bytes,
    /// For what is kept of the file, in case this makes it one with uncommitted contents.
    state: Reservation,
}

/// Bytes of one write on their way in; see [`Data::take_in`].
pub struct IncomingWrite {
    room: Room,
}

enum Room {
    Found(WriteBuffer),
    /// Paid for as parked, and waiting for room.
    Awaited(Vec<u8>, Reservation),
    /// There will be none.
    Never(DataError),
}

/// Attributes of contents that are not committed yet; they override those of the inode record.
#[derive(Clone, Copy, Debug)]
pub struct LiveAttributes {
    /// Present size.
    pub size: u64,
    /// Set if a write happened since times were last set explicitly.
    pub mtime: Option<Timestamp>,
    /// As `mtime`.
    pub ctime: Option<Timestamp>,
    /// Dirty bytes to add to the record's `allocated` (an estimate: overwrites count twice until
    /// committed).
    pub dirty_bytes: u64,
}

/// Keeps commits of a file's contents out while its record is changed.
#[must_use]
pub struct AttributeChange {
    _no_commit: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// SEEK_DATA or SEEK_HOLE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE.
    Hole,
}

/// What `status` shows of this module.
#[derive(Clone, Copy, Debug)]
pub struct DataStatus {
    /// Bytes written and not yet committed.
    pub uncommitted_bytes: u64,
    /// Files that are open or have uncommitted contents.
    pub files: usize,
    /// Files with uncommitted contents.
    pub uncommitted_files: usize,
    /// Objects being written.
    pub objects_in_flight: usize,
    /// Frames in the cache.
    pub cached_frames: usize,
    /// Handles that read ahead now.
    pub readahead_handles: usize,
    /// How long an answer of the store takes to begin, once one has.
    pub latency: Option<Duration>,
    /// Bytes a second that a body brings, once a long one has come.
    pub bandwidth_bytes: Option<u64>,
}

impl Data {
    /// Starts the background write-back, with a cache on the local disk if there is one; must be
    /// called inside a tokio runtime.
    pub fn start(
        config: DataConfig,
        governor: Governor,
        store: Store,
        keys: Arc<VolumeKeys>,
        meta: Meta,
        disk: Option<DiskCache>,
    ) -> Data {
        let cache = Arc::new(FrameCache::new());
        let windows = Arc::new(Windows::new(config.turn_bytes()));
        // In the order in which they give way: free buffers, cached frames, regions on their way,
        // readahead.
        let blocks = Arc::new(BlockPool::default());
        let along = Arc::new(Along::default());
        let reclaimers: [Arc<dyn Reclaim>; 4] = [
            blocks.clone(),
            cache.clone(),
            along.clone(),
            windows.clone(),
        ];
        for reclaimer in &reclaimers {
            governor.register(Arc::downgrade(reclaimer));
        }
        let stop = CancellationToken::new();
        let inner = Arc::new(Inner {
            config,
            governor,
            store,
            objects: Objects::new(keys.clone(), meta.clone()),
            keys,
            meta,
            cache,
            disk,
            fetches: FetchTable::default(),
            blocks,
            windows,
            density: Mutex::new(Density::new()),
            link: Link::default(),
            along,
            wide_read: tokio::sync::Mutex::default(),
            wide_places: Semaphore::new(WIDE_PLACES_MAX),
            files: Arc::default(),
            dirty: Mutex::default(),
            readers: Readers::default(),
            scattered: Candidates::default(),
            reads: Reads::default(),
            unread: Unread::default(),
            next_object: AtomicU64::new(0),
            packs: Arc::new(Semaphore::new(PACKS_IN_FLIGHT_MAX)),
            failure: OnceLock::new(),
            wake: Notify::new(),
            settled: Notify::new(),
            crowded: Notify::new(),
            fetched: Notify::new(),
            draining: AtomicBool::new(false),
            moves: Moves::default(),
            no_uploads: stop.child_token(),
            stop,
            tasks: TaskTracker::new(),
        });
        inner.tasks.spawn(inner.clone().write_back_loop());
        inner.tasks.spawn(inner.clone().idle_loop());
        inner.tasks.spawn(inner.clone().along_loop());
        inner.tasks.spawn(inner.clone().turns_loop());
        inner.tasks.spawn(inner.clone().mend_loop());
        Data { inner }
    }

    /// Starts deleting what is garbage and what dead sessions left, and putting scattered files in
    /// order, in the background. For writable mounts.
    pub fn start_reclaim(&self) {
        self.inner.tasks.spawn(self.inner.clone().reclaim_loop());
        self.inner.tasks.spawn(self.inner.clone().defragment_loop());
    }

    /// Starts telling the writer what is read here, so that it does not delete that, in the
    /// background. For read-only mounts.
    pub fn start_telling(&self) {
        self.inner.tasks.spawn(self.inner.clone().reader_loop());
    }

    /// What this and everything above it is paid from.
    pub fn governor(&self) -> &Governor {
        &self.inner.governor
    }

    /// A handle on a file, which the caller pays for ([`OPEN_FILE_BYTES`]) until it is dropped.
    /// What it reads it pays for itself.
    pub fn open(&self, ino: Ino) -> OpenFile {
        let window = Arc::new(Mutex::new(Window::new()));
        let file = self.inner.file(ino);
        let log = self.inner.store.log_health();
        let heard = Heard {
            file: file.content.lock().errors.seen_at_open(),
            log: log.refusals() - u64::from(log.refusal().is_some()),
        };
        OpenFile {
            windows: self.inner.windows.clone(),
            file,
            heard: Mutex::new(heard),
            window,
            fetched: Notify::new(),
        }
    }

    /// On a read-only mount, makes sure that what is read of the file stays the same if it is
    /// removed or replaced now.
    pub async fn hold(&self, file: &OpenFile) -> Result<(), DataError> {
        self.inner.hold(&file.file).await
    }

    /// On a read-only mount, the record of a file that is open: what [`Data::read`] reads is of
    /// this size.
    pub async fn held_record(&self, ino: Ino) -> Result<Option<Inode>, DataError> {
        self.inner.held_record(ino).await
    }

    /// On a read-only mount, those of the open files that are others than when last looked at.
    pub async fn changed_files(&self) -> Vec<Ino> {
        self.inner.look_at_open_files().await
    }

    /// Reads; short only at the end of the file, and beyond half of what is guaranteed to readers
    /// (6 MiB with the smallest `--memory`).
    pub async fn read(
        &self,
        file: &OpenFile,
        offset: u64,
        len: u32,
    ) -> Result<ReadReply, DataError> {
        let _under_way = self.inner.reads.begin();
        self.inner.read(file, offset, len).await
    }

    /// Copies `data` into a paid-for buffer if there is room for it now.
    pub fn try_buffer(&self, data: &[u8]) -> Option<WriteBuffer> {
        let reservation = self
            .inner
            .governor
            .try_acquire(Owner::Dirty, buffer_cost(data.len()))?;
        Some(WriteBuffer::copy_of(data, reservation))
    }

    /// Copies `data`, whose memory is the caller's only until it goes on: into room for dirty data,
    /// or where writes wait for such room. `None` if there is no place for one more that waits
    /// either.
    pub fn take_in(&self, data: &[u8]) -> Option<IncomingWrite> {
        let room = match self.try_buffer(data) {
            Some(buffer) => Room::Found(buffer),
            None => {
                let parked = self
                    .inner
                    .governor
                    .try_acquire(Owner::Parked, buffer_cost(data.len()))?;
                Room::Awaited(data.to_vec(), parked)
            }
        };
        Some(IncomingWrite { room })
    }

    /// As [`Data::take_in`], waiting in line for room while `data` stays where it is: the
    /// back-pressure of last resort, for which a FUSE thread waits. Progress of uploads and reads
    /// never depends on a FUSE thread, so this ends once the store answers.
    pub async fn take_in_line(&self, data: &[u8]) -> IncomingWrite {
        let room = match self.inner.dirty_room(buffer_cost(data.len())).await {
            Ok(reservation) => Room::Found(WriteBuffer::copy_of(data, reservation)),
            Err(error) => Room::Never(error),
        };
        IncomingWrite { room }
    }

    /// Returns when there is room for the write, or with an error when there will be none.
    pub async fn room_for(&self, incoming: IncomingWrite) -> Result<WriteBuffer, DataError> {
        match incoming.room {
            Room::Found(buffer) => Ok(buffer),
            Room::Awaited(bytes, parked) => {
                let reservation = self.inner.dirty_room(parked.bytes()).await?;
                Ok(WriteBuffer::paid(bytes, reservation))
            }
            Room::Never(error) => Err(error),
        }
    }

    /// As [`Data::try_buffer`], waiting in line for room.
    pub async fn buffer(&self, data: &[u8]) -> WriteBuffer {
        WriteBuffer::copy_of(
            data,
            self.inner
                .governor
                .acquire(Owner::Dirty, buffer_cost(data.len()))
                .await,
        )
    }

    /// Writes; sets the live mtime and ctime to `now`.
    pub async fn write(
        &self,
        ino: Ino,
        offset: u64,
        buffer: WriteBuffer,
        now: Timestamp,
    ) -> Result<(), DataError> {
        let len = buffer.bytes.len() as u64;
        offset
            .checked_add(len)
            .filter(|end| *end <= OFFSET_MAX)
            .ok_or(DataError::TooLarge)?;
        self.inner.check()?;
        let file = self.inner.loaded(ino).await?;
        self.inner.not_crowded(&file).await?;
        let mut state = Some(buffer.state);
        let (dirty_bytes, at_random) = {
            let mut content = file.content.lock();
            if content.discarded {
                return Err(DataError::NotFound);
            }
            if len > 0 {
                content.write(offset, buffer.bytes);
            }
            content.touch(now);
            content.pay_for_state(&mut state);
            let dirty_bytes = content.overlay.dirty_bytes();
            (dirty_bytes, content.is_written_at_random())
        };
        drop(state);
        self.inner.mark_dirty(&file);
        if !at_random && dirty_bytes >= self.inner.config.part_bytes {
            self.inner.spawn_pump(&file);
        } else if at_random
            && dirty_bytes >= self.inner.config.part_bytes
            && self.inner.is_short_of_room()
        {
            self.inner.spawn_slice(&file);
        }
        Ok(())
    }

    /// Sets the size.
    pub async fn truncate(&self, ino: Ino, size: u64, now: Timestamp) -> Result<(), DataError> {
        self.inner.truncate(ino, size, now).await
    }

    /// Makes a hole; the size stays (FALLOC_FL_PUNCH_HOLE | KEEP_SIZE, and the zeroing half of
    /// ZERO_RANGE).
    pub async fn punch_hole(
        &self,
        ino: Ino,
        range: Range<u64>,
        now: Timestamp,
    ) -> Result<(), DataError> {
        self.inner.punch_hole(ino, range, now).await
    }

    /// Present size and times if the contents differ from the committed record.
    pub fn live(&self, ino: Ino) -> Option<LiveAttributes> {
        let file = self.inner.dirty.lock().get(&ino).cloned()?;
        file.content.lock().live()
    }

    /// Attributes are about to be set explicitly (`utimens`, chmod, chown): pending times must not
    /// override them, nor a commit that is under way. Hold what this returns until the record is
    /// changed. `mtime`: the modification time is among them.
    pub async fn begin_attribute_change(&self, ino: Ino, mtime: bool) -> AttributeChange {
        let Some(file) = self.inner.known_file(ino) else {
            return AttributeChange { _no_commit: None };
        };
        let no_commit = file.commit.clone().lock_owned().await;
        let mut content = file.content.lock();
        content.ctime = None;
        if mtime {
            content.mtime = None;
        }
        AttributeChange {
            _no_commit: Some(no_commit),
        }
    }

    /// The record was given a newer change time: a pending one must not hide it.
    pub fn forget_change_time(&self, ino: Ino) {
        if let Some(file) = self.inner.known_file(ino) {
            file.content.lock().ctime = None;
        }
    }

    /// SEEK_DATA / SEEK_HOLE; `None` is ENXIO.
    pub async fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<Option<u64>, DataError> {
        self.inner.seek(ino, offset, what).await
    }

    /// Returns when everything written to this file before the call is durable, its metadata
    /// included. What the store refuses for longer than its patience meanwhile is reported; the
    /// data is kept and tried again.
    pub async fn fsync(&self, ino: Ino) -> Result<(), DataError> {
        self.inner.committed_since(ino).await?;
        self.commit_successors(&[ino]).await?;
        self.flush().await
    }

    /// The same through one descriptor, which has then heard of all errors of the file so far:
    /// closing it reports only later ones.
    pub async fn fsync_through(&self, open: &OpenFile) -> Result<(), DataError> {
        let mut seen = open.file.content.lock().errors.count();
        let committed = self.inner.committed(&open.file, &mut seen).await;
        open.heard.lock().file = seen;
        committed?;
        self.commit_successors(&[open.file.ino]).await?;
        let flushed = self.flush().await;
        open.heard.lock().log = self.inner.store.log_health().refusals();
        flushed
    }

    /// What a descriptor that is closed has to report, without waiting: an error that keeps what
    /// was written to this file from being durable, and that it has not reported.
    pub fn unreported(&self, open: &OpenFile) -> Option<DataError> {
        let (error, committed_at) = {
            let content = open.file.content.lock();
            let error = content.errors.report(&mut open.heard.lock().file);
            (error, content.committed_at)
        };
        let log = self.inner.store.log_health();
        let log_error = || {
            let is_undurable = committed_at > self.inner.meta.generation();
            let heard = std::mem::replace(&mut open.heard.lock().log, log.refusals());
            log.refusal()
                .filter(|_| is_undurable && heard < log.refusals())
        };
        error.or_else(log_error).map(DataError::from)
    }

    /// Returns when all that is committed is durable, names and attributes too. Reports what the
    /// store refuses, as [`Data::fsync`] does.
    pub async fn flush(&self) -> Result<(), DataError> {
        tokio::select! {
            flushed = self.inner.meta.flush() => Ok(flushed?),
            refusal = self.inner.store.log_health().next_refusal() => Err(refusal.into()),
        }
    }

    /// The file is gone: drops its dirty data. Call after the last handle is closed, before
    /// [`Meta::reap`].
    pub async fn discard(&self, ino: Ino) {
        self.inner.discard(ino).await;
    }

    /// Returns when everything is durable.
    pub async fn drain(&self) -> Result<(), DataError> {
        let inner = &self.inner;
        inner.draining.store(true, Ordering::Release);
        let outcome = inner.all_committed().await;
        inner.draining.store(false, Ordering::Release);
        outcome?;
        self.flush().await
    }

    /// Stops background work. What is not durable by then is lost: [`Data::finish`] first. Does not
    /// close `meta`.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        if let Some(disk) = &self.inner.disk {
            disk.close().await;
        }
    }

    /// Bytes written and not yet committed.
    pub fn dirty_bytes(&self) -> u64 {
        let files: Vec<_> = self.inner.dirty.lock().values().cloned().collect();
        files
            .iter()
            .map(|file| file.content.lock().overlay.total_bytes())
            .sum()
    }

    /// Why something cannot be made durable at present, if so, and the file if it is one file's.
    pub fn trouble(&self) -> Option<(Option<Ino>, String)> {
        let inner = &self.inner;
        if let Some(why) = inner.failure.get() {
            return Some((None, why.clone()));
        }
        if let Some(refusal) = inner.store.log_health().refusal() {
            return Some((None, refusal.to_string()));
        }
        let files: Vec<_> = inner.dirty.lock().values().cloned().collect();
        let standing = |file: &Arc<FileState>| {
            let content = file.content.lock();
            let error = content.errors.standing()?.to_string();
            Some((Some(file.ino), error))
        };
        files
            .iter()
            .find_map(standing)
            .or_else(|| inner.store.trouble().map(|why| (None, why)))
    }

    /// What bounded tables beside the budget take now, and at most.
    pub fn remembered_bytes(&self) -> (u64, u64) {
        let (handles, handles_max) = self.inner.objects.handles_bytes();
        let (density, density_max) = self.inner.density.lock().held_bytes();
        (handles + density, handles_max + density_max)
    }

    /// For `status`: the cache on the local disk, if there is one.
    pub fn disk_status(&self) -> Option<DiskStatus> {
        self.inner.disk.as_ref().map(DiskCache::status)
    }

    /// For `status`.
    pub fn status(&self) -> DataStatus {
        DataStatus {
            uncommitted_bytes: self.dirty_bytes(),
            files: self.inner.files.len(),
            uncommitted_files: self.inner.dirty.lock().len(),
            objects_in_flight: self.inner.objects.pending_count(),
            cached_frames: self.inner.cache.len(),
            readahead_handles: self.inner.windows.active(),
            latency: self.inner.link.latency(),
            bandwidth_bytes: self.inner.link.bandwidth(),
        }
    }
}

impl WriteBuffer {
    fn copy_of(data: &[u8], reservation: Reservation) -> WriteBuffer {
        WriteBuffer::paid(data.to_vec(), reservation)
    }

    fn paid(bytes: Vec<u8>, mut reservation: Reservation) -> WriteBuffer {
        let state = reservation.split(STATE_BYTES);
        WriteBuffer {
            bytes: paid_bytes(bytes, reservation),
            state,
        }
    }

    /// Bytes to be written.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.windows.closed(&self.window);
    }
}

pub(crate) fn buffer_cost(len: usize) -> u64 {
    len as u64 + BUFFER_OVERHEAD + STATE_BYTES
}

impl Inner {
    fn next_object(&self) -> ObjectId {
        ObjectId {
            session: self.meta.session(),
            number: self.next_object.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The state of a file, made if there is none.
    fn file(&self, ino: Ino) -> Arc<FileState> {
        self.files.get(ino)
    }

    /// The state of a file, with its committed size known.
    async fn loaded(&self, ino: Ino) -> Result<Arc<FileState>, DataError> {
        let file = self.file(ino);
        file.load(&self.meta).await?;
        Ok(file)
    }

    fn known_file(&self, ino: Ino) -> Option<Arc<FileState>> {
        self.files.known(ino)
    }

    fn mark_dirty(&self, file: &Arc<FileState>) {
        let first = {
            let mut dirty = self.dirty.lock();
            let first = dirty.is_empty();
            dirty.insert(file.ino, file.clone());
            first
        };
        if first {
            self.wake.notify_one();
        }
    }

    /// After a commit: a file with nothing left to commit leaves the table of the dirty.
    fn settle(&self, file: &Arc<FileState>) {
        let settled = {
            let mut dirty = self.dirty.lock();
            let mut content = file.content.lock();
            let clean = content.is_clean();
            if clean {
                dirty.remove(&file.ino);
            }
            // Given back when the locks are not held.
            clean.then(|| content.stop_paying_for_state())
        };
        if let Some(state) = settled {
            drop(state);
            self.settled.notify_waiters();
        }
    }

    /// Another mount has taken over: nothing can be made durable here any more, and nothing more is
    /// sent. Writes and fsyncs fail from now on.
    fn fail(&self, why: &str) {
        if self.failure.set(why.to_owned()).is_ok() {
            tracing::error!("writing stops: {why}");
        }
        // Whoever this wakes finds the reason.
        self.no_uploads.cancel();
        for file in self.dirty.lock().values() {
            file.progress.notify_waiters();
        }
        self.settled.notify_waiters();
    }

    fn check(&self) -> Result<(), DataError> {
        match self.failure.get() {
            Some(why) => Err(DataError::Internal(why.clone())),
            None => Ok(()),
        }
    }

    /// Waits in line for room for dirty data. Once nothing can be uploaded any more none of it is
    /// given back, so nobody waits then.
    async fn dirty_room(&self, bytes: u64) -> Result<Reservation, DataError> {
        tokio::select! {
            biased;
            reservation = self.governor.acquire(Owner::Dirty, bytes) => Ok(reservation),
            () = self.no_uploads.cancelled() => {
                self.check()?;
                Err(DataError::Internal("the mount has ended".into()))
            }
        }
    }

    /// Waits while too much of the file waits for data before it.
    async fn not_crowded(self: &Arc<Self>, file: &Arc<FileState>) -> Result<(), DataError> {
        loop {
            let progress = file.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let mut content = file.content.lock();
                if !content.is_crowded() {
                    return Ok(());
                }
                content.wanted = content.change;
            }
            self.check()?;
            self.wake.notify_one();
            progress.await;
        }
    }

    /// Returns when all changes made to the file before the call are committed, or with an error
    /// from then on.
    async fn committed_since(self: &Arc<Self>, ino: Ino) -> Result<(), DataError> {
        let Some(file) = self.known_file(ino) else {
            return self.check();
        };
        let mut seen = file.content.lock().errors.count();
        self.committed(&file, &mut seen).await
    }

    /// Returns when all changes made to the file before the call are committed, or with an error of
    /// the file beyond those `seen`.
    async fn committed(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        seen: &mut u64,
    ) -> Result<(), DataError> {
        let target = {
            let mut content = file.content.lock();
            if content.committed < content.change {
                content.wanted = content.change;
            }
            content.change
        };
        loop {
            let progress = file.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let content = file.content.lock();
                if content.committed >= target || content.discarded {
                    return self.check();
                }
                if let Some(error) = content.trouble(seen) {
                    return Err(error.into());
                }
            }
            self.check()?;
            self.wake.notify_one();
            progress.await;
        }
    }

    /// Returns when all files are committed, or with an error when those that are left have all
    /// been refused since.
    async fn all_committed(self: &Arc<Self>) -> Result<(), DataError> {
        let mut seen: HashMap<Ino, u64> = HashMap::new();
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            self.check()?;
            let files: Vec<_> = self.dirty.lock().values().cloned().collect();
            let mut trouble = None;
            let mut all_in_trouble = true;
            for file in &files {
                let content = file.content.lock();
                let seen = *seen
                    .entry(file.ino)
                    .or_insert_with(|| content.errors.count());
                match content.trouble(&mut seen.clone()) {
                    Some(error) => trouble = Some(error),
                    None => all_in_trouble = false,
                }
            }
            match trouble {
                _ if files.is_empty() => return Ok(()),
                Some(error) if all_in_trouble => return Err(error.into()),
                _ => {}
            }
            self.wake.notify_one();
            settled.await;
        }
    }

    async fn discard(self: &Arc<Self>, ino: Ino) {
        let Some(file) = self.known_file(ino) else {
            return;
        };
        let dropped = file.content.lock().discard();
        drop(dropped);
        if let Some(stream) = file.take.lock().await.take() {
            stream.abandon();
            // What it took since.
            let dropped = file.content.lock().discard();
            drop(dropped);
        }
        file.progress.notify_waiters();
        self.settle(&file);
    }
}
