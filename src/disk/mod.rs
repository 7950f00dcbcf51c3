//! A cache of sealed frames on the local disk, in files of a fixed total size.
//!
//! Promises: the files never take more than the size that was given, and leave a tenth of the
//! filesystem free. Neither putting a frame in nor evicting makes a caller wait. A fault of the
//! disk (full, slow, damaged, gone) is a miss for the reader and never an error. Frames that were
//! there when the process ended, however it ended, are there for the next. Never: sees an opened
//! frame, or knows whether one is intact. The reader opens the frame that comes back, and drops it
//! here if it does not open.
//!
//! | what | file |
//! |---|---|
//! | directories, locks, what may be trusted | `place.rs` |
//! | one file of entries: its bytes, and finding them again | `segment.rs` |
//! | which entries are where; what is evicted | `index.rs` |
//! | the thread that writes and evicts, and its queue | `writer.rs` |
//! | reading | `read.rs` |

mod index;
mod place;
mod read;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

pub use index::Guesses;
pub use place::{PlaceError, own_directory};
pub use read::SealedRun;
pub(crate) use writer::SEGMENTS_MAX;

use self::{
    index::Index,
    place::Place,
    writer::{Pushed, Queue, Writer},
};

const MIB: u64 = 1 << 20;

/// The smallest cache.
pub const SIZE_MIN_BYTES: u64 = 16 * MIB;

/// Segments in a cache of full size: each eviction gives up about this part of it.
const SEGMENTS: u64 = 64;

/// Bounds of a segment: it holds several frames, and its places fit into 32 bits.
const SEGMENT_BYTES_MIN: u64 = MIB;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// One read brings at most so many bytes, entry headers included.
const READ_BYTES_MAX: u64 = 512 << 10;

/// Reads under way at once.
const READS_MAX: u64 = 4;

/// A frame that is put in may have at most so many bytes: it must fit into the smallest segment.
pub const FRAME_BYTES_MAX: u64 = 128 << 10;

/// Closing waits so long for the last writes and the table of the last segment.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Bytes that name an object within its volume.
pub const OBJECT_LEN: usize = 24;

/// One frame of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FrameKey {
    /// The object.
    pub object: [u8; OBJECT_LEN],
    /// The frame.
    pub frame: u64,
}

/// The size of a cache, and the memory that it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// All files together.
    pub size_bytes: u64,
    /// Entries at most.
    entries_max: usize,
    /// Sealed frames that wait to be written.
    queue_bytes_max: u64,
}

impl DiskPlan {
    /// A cache of `size_bytes` (at least [`SIZE_MIN_BYTES`]) in a process that may take
    /// `memory_bytes`.
    pub fn new(size_bytes: u64, memory_bytes: u64) -> DiskPlan {
        let size_bytes = size_bytes.max(SIZE_MIN_BYTES);
        DiskPlan {
            size_bytes,
            entries_max: index::entries_max(size_bytes, memory_bytes / 16),
            queue_bytes_max: (memory_bytes / 64).clamp(2 * MIB, 8 * MIB),
        }
    }

    /// Memory that the cache takes at most: its index, the queue, and the buffers of reads.
    pub fn memory_bytes(&self) -> u64 {
        index::bytes(self.entries_max) + self.queue_bytes_max + READS_MAX * READ_BYTES_MAX
    }

    fn segment_bytes(&self) -> u64 {
        (self.size_bytes / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }
}

/// The cache since the mount began, as `status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskStatus {
    /// Bytes of all files now.
    pub size_bytes: u64,
    /// The most that they may have.
    pub bound_bytes: u64,
    /// Frames in them that can be found.
    pub frames: u64,
    /// Frames that were read from it and opened.
    pub hits: u64,
    /// Frames that were fetched instead.
    pub misses: u64,
    /// Bytes written.
    pub filled_bytes: u64,
    /// Frames that came while the queue was full, or the disk.
    pub not_filled: u64,
    /// Frames that were there and could not be read or opened.
    pub dropped: u64,
    /// Memory that it takes now; shown with all other memory.
    #[serde(skip)]
    pub memory_bytes: u64,
    /// Why nothing is written at present.
    pub trouble: Option<String>,
}

/// The cache of one mount. Cheap to clone.
#[derive(Clone)]
pub struct DiskCache {
    shared: Arc<Shared>,
    _open: Arc<Open>,
}

/// Ends the thread when the last clone of the cache is dropped.
struct Open(Arc<Shared>);

struct Shared {
    plan: DiskPlan,
    index: Mutex<Index>,
    queue: Queue,
    reads: Arc<Semaphore>,
    /// Free buffers; there are as many buffers as reads at once.
    buffers: Mutex<Vec<Vec<u8>>>,
    slow_until: Mutex<Option<Instant>>,
    counts: Counts,
    trouble: Mutex<Option<String>>,
    closed: Mutex<Option<oneshot::Receiver<()>>>,
}

#[derive(Default)]
struct Counts {
    bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    filled_bytes: AtomicU64,
    not_filled: AtomicU64,
    dropped: AtomicU64,
}

impl DiskCache {
    /// Takes a directory of `volume`'s (a name without a slash) below `root`, both made if they are
    /// not there, and begins to index its segments in the background.
    ///
    /// # Errors
    /// The directory cannot be used, or others could put files of theirs into it.
    pub fn open(root: &Path, volume: &str, plan: DiskPlan) -> Result<DiskCache, PlaceError> {
        let place = Place::open(root, volume)?;
        let (ended, closed) = oneshot::channel();
        let shared = Arc::new(Shared {
            plan,
            index: Mutex::new(Index::new(plan.entries_max)),
            queue: Queue::new(plan.queue_bytes_max),
            reads: Arc::new(Semaphore::new(READS_MAX as usize)),
            buffers: Mutex::default(),
            slow_until: Mutex::default(),
            counts: Counts::default(),
            trouble: Mutex::default(),
            closed: Mutex::new(Some(closed)),
        });
        let writer = Writer::new(place, Arc::clone(&shared));
        std::thread::Builder::new()
            .name("disk-cache".to_owned())
            .spawn(move || {
                writer.run();
                // No caller waits for the thread.
                let _ = ended.send(());
            })
            .map_err(|error| PlaceError::new(root, "no thread for it", &error))?;
        Ok(DiskCache {
            _open: Arc::new(Open(Arc::clone(&shared))),
            shared,
        })
    }

    /// Puts a sealed frame in, some time later, unless it is there or there is no room in the
    /// queue.
    pub fn put(&self, key: FrameKey, sealed: &[u8]) {
        let shared = &self.shared;
        if self.takes(&key, sealed) && shared.queue.push(key, sealed, false) != Pushed::Taken {
            shared.counts.not_filled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a sealed frame in that nobody has asked for yet, and waits for room in the queue. False
    /// if the cache takes nothing at present.
    pub async fn put_guess(&self, key: FrameKey, sealed: &[u8]) -> bool {
        let queue = &self.shared.queue;
        if !self.takes(&key, sealed) {
            return true;
        }
        while self.room_bytes() > 0 {
            let room = queue.has_room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match queue.push(key, sealed, true) {
                Pushed::Taken => return true,
                Pushed::Closed => return false,
                Pushed::Full => room.await,
            }
        }
        false
    }

    fn takes(&self, key: &FrameKey, sealed: &[u8]) -> bool {
        sealed.len() as u64 <= FRAME_BYTES_MAX && !self.contains(key)
    }

    /// Whether the frame is there.
    pub fn contains(&self, key: &FrameKey) -> bool {
        self.shared.index.lock().contains(key)
    }

    /// Bytes that the cache holds at most; 0 while its disk is too slow, full or broken.
    pub fn room_bytes(&self) -> u64 {
        let shared = &self.shared;
        match shared.is_slow() || shared.trouble.lock().is_some() {
            true => 0,
            false => shared.plan.size_bytes,
        }
    }

    /// The outcomes of guesses since the last call.
    pub fn take_guesses(&self) -> Guesses {
        self.shared.index.lock().take_guesses()
    }

    /// Drops a frame that did not open.
    pub fn drop_damaged(&self, key: &FrameKey) {
        self.shared.drop_damaged(key);
    }

    /// Writes the frames that wait, and the table of the last segment, within a bound of time.
    /// Takes no more frames.
    pub async fn close(&self) {
        self.shared.queue.close();
        let closed = self.shared.closed.lock().take();
        if let Some(closed) = closed {
            // A disk that takes longer is left to itself: frames that are lost are misses.
            let _ = tokio::time::timeout(CLOSE_WITHIN, closed).await;
        }
    }

    /// The figures for `status`.
    pub fn status(&self) -> DiskStatus {
        let counts = &self.shared.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let buffers: usize = self.shared.buffers.lock().iter().map(Vec::len).sum();
        let index = self.shared.index.lock();
        DiskStatus {
            size_bytes: get(&counts.bytes),
            bound_bytes: self.shared.plan.size_bytes,
            frames: index.len() as u64,
            hits: get(&counts.hits),
            misses: get(&counts.misses),
            filled_bytes: get(&counts.filled_bytes),
            not_filled: get(&counts.not_filled),
            dropped: get(&counts.dropped),
            memory_bytes: index.held_bytes() + self.shared.queue.bytes() + buffers as u64,
            trouble: self.shared.trouble.lock().clone(),
        }
    }
}

impl Shared {
    fn drop_damaged(&self, key: &FrameKey) {
        if self.index.lock().remove(key) {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}
