//! One file that is open or has uncommitted contents.
//!
//! The record in `meta` says what is durable; this says what is true now. Sequence numbers tie the two: each change takes the
//! next `change`, and `committed` is the last one that the record covers.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell};

use super::{DataError, LiveAttributes, overlay::Overlay, view::ViewSlot, writer::ObjectWriter};
use crate::budget::Reservation;
use crate::meta::{Extent, FileKind, Ino, Meta, ObjectId, Timestamp};

/// Places that the table of files keeps when they are empty; 16 bytes each.
const PLACES_KEPT: usize = 1024;

/// Extents kept per file between reads; 56 bytes each.
pub(super) const EXTENT_WINDOW_MAX: usize = 128;

/// So many come with what an open file pays.
pub(super) const EXTENTS_PAID_FOR: usize = 4;

/// What somebody waits for goes into the metadata itself, with its extents, if it is at most this much: then one request makes it durable instead of
/// two. Unlike objects, metadata is compacted, at some 4 MB a second 20 ms away, and who writes more than that waits. 32 threads that write and sync files
/// there with `--memory 128MiB` came to 567 a second with 4 KiB each, 510 with 8, 339 with 16 and 67 with 64; by packs it is 320 to 360 whatever the size.
const INLINE_DIRTY_MAX: u64 = 4096;

/// And only in files of at most this size. Extents never lie beyond a file's size, so no file, however long it is written and synced a page at a time, has
/// more than this in the metadata: nothing needs to be counted, and nothing moved out later.
const INLINE_SIZE_MAX: u64 = 64 << 10;

/// A file whose writes go on from each other for less than this on average is written *at random*.
const RANDOM_RUN_MAX: u64 = 256 << 10;

/// Writes that come this far out of order still count as going on: several are in flight.
const REORDER_BYTES: u64 = 2 << 20;

/// Files that somebody holds: an open handle, the table of the dirty, a task under way. Whoever lets go last takes the file out.
#[derive(Default)]
pub(super) struct FileTable {
    files: Mutex<HashMap<Ino, Weak<FileState>>>,
}

impl FileTable {
    /// The state of a file, made if there is none.
    pub(super) fn get(self: &Arc<Self>, ino: Ino) -> Arc<FileState> {
        let mut files = self.files.lock();
        if let Some(file) = files.get(&ino).and_then(Weak::upgrade) {
            return file;
        }
        let file = Arc::new(FileState::new(ino, self.clone()));
        files.insert(ino, Arc::downgrade(&file));
        file
    }

    pub(super) fn len(&self) -> usize {
        self.files.lock().len()
    }

    /// At most `max` of them, in no order.
    pub(super) fn all(&self, max: usize) -> Vec<Arc<FileState>> {
        let files = self.files.lock();
        files.values().filter_map(Weak::upgrade).take(max).collect()
    }

    /// The state of a file that somebody holds.
    pub(super) fn known(&self, ino: Ino) -> Option<Arc<FileState>> {
        self.files.lock().get(&ino).and_then(Weak::upgrade)
    }
}

/// See the module's head.
pub(super) struct FileState {
    pub(super) ino: Ino,
    pub(super) content: Mutex<Content>,
    /// Held while extents of this file change in `meta`, so that a truncation cannot pass a commit under way.
    pub(super) commit: Arc<tokio::sync::Mutex<()>>,
    /// Held while pieces are taken from the overlay, so that one file's takes are in order. Holds the stream, if one is open.
    pub(super) take: tokio::sync::Mutex<Option<ObjectWriter>>,
    /// Told whenever `committed` moved.
    pub(super) progress: Notify,
    /// A task sends full parts of its stream.
    pub(super) pumping: AtomicBool,
    /// A task will take what is dirty, whole.
    pub(super) queued: AtomicBool,
    loaded: OnceCell<()>,
    /// Followers only.
    view: OnceLock<Box<ViewSlot>>,
    table: Arc<FileTable>,
}

impl Drop for FileState {
    fn drop(&mut self) {
        let mut files = self.table.files.lock();
        // A later state of the same file may have taken the entry over.
        if files
            .get(&self.ino)
            .is_some_and(|listed| std::ptr::eq(listed.as_ptr(), self))
        {
            files.remove(&self.ino);
        }
        // Once many were open, their places are given back too.
        if files.capacity() > PLACES_KEPT && files.len() * 4 < files.capacity() {
            let room = files.len() * 2;
            files.shrink_to(room);
        }
    }
}

/// The part under the (short, never awaited under) lock.
pub(super) struct Content {
    pub(super) overlay: Overlay,
    /// Present size.
    pub(super) size: u64,
    /// Size in the committed record: no committed extent lies beyond.
    pub(super) base_size: u64,
    pub(super) mtime: Option<Timestamp>,
    pub(super) ctime: Option<Timestamp>,
    /// Number of the last change.
    pub(super) change: u64,
    /// Changes up to this one are committed.
    pub(super) committed: u64,
    /// Takes under way, oldest first.
    takes: VecDeque<Take>,
    next_take: u64,
    /// What [`Meta::applied`] was after the last commit.
    pub(super) committed_at: u64,
    /// When the oldest uncommitted change was made.
    pub(super) dirty_since: Option<Instant>,
    /// Somebody waits for everything up to this change.
    pub(super) wanted: u64,
    /// The file was removed for good.
    pub(super) discarded: bool,
    /// Committed extents of a part of the file, as last read.
    pub(super) extents: Option<ExtentWindow>,
    /// What pays for them, if they are more than the few that come with an open file.
    pub(super) extents_paid: Option<Reservation>,
    /// Bumped when committed extents change, so that a window read before is not kept.
    pub(super) extents_version: u64,
    /// What pays for this while there are uncommitted contents.
    paid: Option<Reservation>,
    writes: WritePattern,
}

/// Where writes come, relative to those before.
struct WritePattern {
    next: u64,
    /// Bytes written in order since the last jump.
    run_bytes: u64,
    /// The same, on average of the runs lately.
    usual_run_bytes: u64,
}

impl WritePattern {
    fn note(&mut self, offset: u64, len: u64) {
        if offset.abs_diff(self.next) > REORDER_BYTES {
            self.usual_run_bytes = (self.usual_run_bytes * 3 + self.run_bytes) / 4;
            self.run_bytes = 0;
        }
        self.next = offset + len;
        self.run_bytes += len;
    }

    fn is_random(&self) -> bool {
        self.usual_run_bytes.max(self.run_bytes) < RANDOM_RUN_MAX
    }
}

/// Committed extents that overlap `range`.
#[derive(Clone)]
pub(super) struct ExtentWindow {
    pub(super) range: Range<u64>,
    pub(super) extents: Arc<Vec<Extent>>,
}

impl ExtentWindow {
    /// What keeping it costs beyond what an open file has paid for.
    pub(super) fn cost(&self) -> u64 {
        match self.extents.len() {
            ..=EXTENTS_PAID_FOR => 0,
            count => (count * size_of::<Extent>()) as u64,
        }
    }
}

struct Take {
    number: u64,
    object: Option<ObjectId>,
    /// All changes up to this one were taken; `None` if dirty bytes were left behind.
    covers: Option<u64>,
    done: bool,
}

impl FileState {
    fn new(ino: Ino, table: Arc<FileTable>) -> FileState {
        FileState {
            ino,
            content: Mutex::new(Content {
                overlay: Overlay::default(),
                size: 0,
                base_size: 0,
                mtime: None,
                ctime: None,
                change: 0,
                committed: 0,
                takes: VecDeque::new(),
                next_take: 0,
                committed_at: 0,
                dirty_since: None,
                wanted: 0,
                discarded: false,
                extents: None,
                extents_paid: None,
                extents_version: 0,
                paid: None,
                writes: WritePattern {
                    next: 0,
                    run_bytes: 0,
                    usual_run_bytes: 4 * RANDOM_RUN_MAX,
                },
            }),
            commit: Arc::default(),
            take: tokio::sync::Mutex::new(None),
            progress: Notify::new(),
            pumping: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            loaded: OnceCell::new(),
            view: OnceLock::new(),
            table,
        }
    }

    pub(super) fn view_slot(&self) -> &ViewSlot {
        self.view.get_or_init(Box::default)
    }

    /// Reads the committed size, once.
    pub(super) async fn load(&self, meta: &Meta) -> Result<(), DataError> {
        self.loaded
            .get_or_try_init(|| async {
                let inode = meta.inode(self.ino).await?.ok_or(DataError::NotFound)?;
                if inode.kind != FileKind::File {
                    return Err(DataError::NotFound);
                }
                let mut content = self.content.lock();
                content.size = inode.size;
                content.base_size = inode.size;
                Ok(())
            })
            .await
            .copied()
    }
}

impl Content {
    /// Notes that something changed at `now`.
    pub(super) fn touch(&mut self, now: Timestamp) {
        self.change += 1;
        self.mtime = Some(now);
        self.ctime = Some(now);
        self.dirty_since.get_or_insert_with(Instant::now);
    }

    /// Puts freshly written bytes over whatever is there.
    pub(super) fn write(&mut self, offset: u64, bytes: Bytes) {
        let len = bytes.len() as u64;
        self.writes.note(offset, len);
        self.size = self.size.max(offset + len);
        self.overlay.write(offset, bytes);
    }

    /// Do its writes jump about, so that what is taken late is taken sorted, and what is overwritten meanwhile not at all?
    pub(super) fn is_written_at_random(&self) -> bool {
        self.writes.is_random()
    }

    /// A sweep that began at `began` ended at `swept_to`. If nothing is dirty behind that, what is dirty now was written meanwhile; else some of it may
    /// be older, and stays due.
    pub(super) fn note_sweep(&mut self, began: Instant, swept_to: u64) {
        if self.overlay.dirty_pieces(swept_to, 1).is_empty() {
            self.dirty_since = self.dirty_since.map(|_| began);
        }
    }

    /// Takes `state` if nothing pays for this yet.
    pub(super) fn pay_for_state(&mut self, state: &mut Option<Reservation>) {
        if self.paid.is_none() {
            self.paid = state.take();
        }
    }

    /// Nothing is uncommitted any more: what paid for it, to be dropped when no lock is held.
    pub(super) fn stop_paying_for_state(&mut self) -> Option<Reservation> {
        self.paid.take()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.committed == self.change && self.overlay.is_empty() && self.takes.is_empty()
    }

    pub(super) fn live(&self) -> Option<LiveAttributes> {
        (!self.is_clean()).then(|| LiveAttributes {
            size: self.size,
            mtime: self.mtime,
            ctime: self.ctime,
            dirty_bytes: self.overlay.total_bytes(),
        })
    }

    /// Notes that pieces were taken into `object` (`None`: attributes, and what goes inline).
    pub(super) fn begin_take(&mut self, object: Option<ObjectId>) {
        let covers = (self.overlay.dirty_bytes() == 0).then_some(self.change);
        if covers.is_some() {
            self.dirty_since = None;
        }
        if let (Some(last), Some(_)) = (self.takes.back_mut(), object)
            && last.object == object
        {
            last.covers = covers;
            return;
        }
        self.takes.push_back(Take {
            number: self.next_take,
            object,
            covers,
            done: false,
        });
        self.next_take += 1;
    }

    /// May what is left to be taken go into the metadata itself? Not while an object is on its way: it has to be waited for anyway, and the size
    /// must not become durable before what is in it.
    pub(super) fn fits_inline(&self) -> bool {
        let dirty_bytes = self.overlay.dirty_bytes();
        let is_small = dirty_bytes <= INLINE_DIRTY_MAX && self.size <= INLINE_SIZE_MAX;
        (is_small || dirty_bytes == 0) && self.takes.iter().all(|take| take.object.is_none())
    }

    /// Takes all that is dirty, to be committed as it is.
    pub(super) fn begin_inline_take(&mut self) {
        self.overlay.take_inline(self.next_take);
        self.begin_take(None);
    }

    /// Takes with a number below this one have begun.
    pub(super) fn takes_begun(&self) -> u64 {
        self.next_take
    }

    /// Notes that the takes into `object` that began before `begun` are committed; moves `committed` as far as takes are done in order.
    pub(super) fn end_take(&mut self, object: Option<ObjectId>, begun: u64) {
        for take in &mut self.takes {
            take.done |= take.object == object && take.number < begun;
        }
        while self.takes.front().is_some_and(|take| take.done) {
            if let Some(Take {
                covers: Some(change),
                ..
            }) = self.takes.pop_front()
            {
                self.committed = self.committed.max(change);
            }
        }
    }

    /// The file is gone: nothing of it will be committed.
    pub(super) fn forget_takes(&mut self) {
        self.takes.clear();
    }

    /// Everything that changed is on its way.
    pub(super) fn everything_taken(&self) -> bool {
        self.overlay.dirty_bytes() == 0
            && (self.committed == self.change
                || self
                    .takes
                    .back()
                    .is_some_and(|take| take.covers == Some(self.change)))
    }

    /// Committed extents changed.
    pub(super) fn invalidate_extents(&mut self) {
        self.extents = None;
        self.extents_paid = None;
        self.extents_version += 1;
    }
}
