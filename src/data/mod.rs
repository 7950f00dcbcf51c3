//! File contents: write-back buffers, uploads, packs, readahead, the frame cache, space reclaim.
//!
//! Promises: a write is readable at once through this mount, and durable after [`Data::fsync`];
//! every buffer is paid for by a [`crate::budget::Reservation`] that lives exactly as long;
//! dropping an [`OpenFile`] drops what was in flight for it; random writes do not read, but for
//! what lies between crumbs (`write_back/sweep.rs`); contents are committed to [`crate::meta`] only
//! after their object is in the store, or with the bytes themselves. Never: knows names or
//! permissions, talks to the kernel, returns a byte that was not authenticated.
//!
//! Its rooms, each a type with fields of its own; a room calls those below it, never one above:
//!
//! | room | type | what it decides or does |
//! |---|---|---|
//! | `space` | `Space` | which bytes are moved and which objects are deleted |
//! | `write_back` | `WriteBack` | admission of writes, what goes out when, commits |
//! | `read` | `Reading` | what a read consists of: overlay, extents, frames |
//! | `readahead` | `Readahead` | what is fetched before it is asked for |
//! | `file` | `FileState` | the state of one file, without I/O: overlay, what is in flight |
//! | `upload` | `Uploads` | one object's way into the store |
//! | `frames` | `Frames` | frames in memory: objects, fetches, blocks, cache, local disk |
//!
//! A write: `api.rs` -> `write_back/admission.rs` -> `file/content.rs`; later
//! `write_back/rounds.rs` -> `upload/writer.rs` -> `write_back/commit.rs`. A read: `api.rs` ->
//! `read/mod.rs` -> `read/locate.rs` -> `read/plan.rs` -> `frames/fetch.rs`, and
//! `readahead/prefetch.rs` for what comes next.

mod api;
mod config;
mod error;
mod file;
mod frames;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod paid;
mod read;
mod readahead;
mod shared;
mod space;
mod status;
mod upload;
mod write_back;

use std::sync::Arc;

use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    frames::Frames, read::Reading, readahead::Readahead, shared::Shared, space::Space,
    upload::Uploads, write_back::WriteBack,
};
use crate::{
    budget::{Governor, Reclaim},
    disk::DiskCache,
    meta::Meta,
    seal::keys::VolumeKeys,
    store::Store,
};

pub use config::{DataConfig, DiskAdmission, MEMORY_MIN_BYTES, MemoryPlan};
pub use error::DataError;
pub use file::LiveAttributes;
pub use paid::OPEN_FILE_BYTES;
pub use read::{OpenFile, ReadReply, SMALL_READ_MAX, Seek};
pub use readahead::Stretch;
pub use space::{OlderContents, Rewriting, Rewritten, Sweep, Swept};
pub use status::{DataStatus, Uncommitted};
pub use write_back::{Admission, AttributeChange, HeldCommits, WriteBuffer};

pub(crate) use frames::{object_key, object_number};
pub(crate) use space::{
    LEASE, READERS_PREFIX, SESSION_PAGES_MAX, object_of, session_of, session_prefix,
};

/// The contents of a mounted volume. Cheap to clone.
#[derive(Clone)]
pub struct Data {
    rooms: Arc<Rooms>,
}

struct Rooms {
    shared: Arc<Shared>,
    frames: Arc<Frames>,
    readahead: Arc<Readahead>,
    reading: Arc<Reading>,
    write_back: Arc<WriteBack>,
    space: Arc<Space>,
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
        let shared = Arc::new(Shared {
            config,
            governor,
            store,
            keys,
            meta,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        let frames = Arc::new(Frames::new(shared.clone(), disk));
        let readahead = Arc::new(Readahead::new(shared.clone(), frames.clone()));
        let reading = Arc::new(Reading::new(
            shared.clone(),
            frames.clone(),
            readahead.clone(),
        ));
        let uploads = Arc::new(Uploads::new(shared.clone(), frames.clone()));
        let write_back = Arc::new(WriteBack::new(shared.clone(), reading.clone(), uploads));
        let space = Arc::new(Space::new(
            shared.clone(),
            reading.clone(),
            write_back.clone(),
        ));
        // In the order in which they give way: free buffers, cached frames, regions on their way,
        // readahead.
        let reclaimers: [Arc<dyn Reclaim>; 4] = [
            frames.blocks.clone(),
            frames.cache.clone(),
            readahead.regions.clone(),
            readahead.registry.clone(),
        ];
        for reclaimer in &reclaimers {
            shared.governor.register(Arc::downgrade(reclaimer));
        }
        write_back.start();
        readahead.start();
        space.start();
        let rooms = Arc::new(Rooms {
            shared,
            frames,
            readahead,
            reading,
            write_back,
            space,
        });
        Data { rooms }
    }

    /// Starts deleting what is garbage and what dead sessions left, and putting scattered files in
    /// order, in the background. For writable mounts.
    pub fn start_reclaim(&self) {
        self.rooms.space.start_reclaim();
    }

    /// Writes all contents that are sealed under an older key epoch anew, under the newest, and
    /// makes that durable. Dead objects are deleted meanwhile. It may be dropped at any time, and
    /// goes on from there when it is called again. For a writer that serves nobody.
    ///
    /// # Errors
    /// The store or the metadata fails. An object that cannot be read is passed over and counted.
    pub async fn rewrite(&self, progress: &Rewriting) -> Result<Rewritten, DataError> {
        self.rooms.space.rewrite(progress).await
    }

    /// The contents that are sealed under an older key epoch.
    ///
    /// # Errors
    /// The metadata's.
    pub async fn older_contents(&self) -> Result<OlderContents, DataError> {
        self.rooms.space.older_contents().await
    }

    /// Starts telling the writer what is read here, so that it does not delete that, in the
    /// background. For read-only mounts.
    pub fn start_telling(&self) {
        self.rooms.space.start_telling();
    }

    /// As [`Data::drain`], for the last time: from the call on nothing is made dirty in the
    /// background any more, so [`Data::shutdown`] leaves nothing behind.
    pub async fn finish(&self) -> Result<(), DataError> {
        self.rooms.space.end_moves();
        self.drain().await
    }

    /// Stops background work. Data that is not durable by then is lost, so call [`Data::finish`]
    /// first. Does not close `meta`.
    pub async fn shutdown(&self) {
        let shared = &self.rooms.shared;
        shared.stop.cancel();
        shared.tasks.close();
        shared.tasks.wait().await;
        if let Some(disk) = &self.rooms.frames.disk {
            disk.close().await;
        }
    }
}
