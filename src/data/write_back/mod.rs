//! Write-back: writes are admitted, lie in the overlay of their file, leave in uploads or in the
//! metadata, and are committed.
//!
//! `admission.rs` takes writes, `rounds.rs` decides what goes out, `streams.rs`, `packs.rs`,
//! `inline.rs` and `slice.rs` send it, `commit.rs` commits it, and `sync.rs` waits for it.

mod admission;
mod attributes;
mod commit;
mod inline;
#[cfg(test)]
mod model_tests;
mod named;
mod packs;
mod replace;
mod rounds;
mod slice;
mod streams;
mod sweep;
mod sync;
mod unreadable;

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use self::{named::named, packs::PACKS_IN_FLIGHT_MAX, unreadable::UnreadableFiles};
use crate::{
    data::{
        DataError,
        file::FileState,
        read::Reading,
        shared::Shared,
        upload::{Refusals, Uploads},
    },
    meta::{Ino, MetaError, ObjectId},
    store::StoreError,
};

pub use admission::{Admission, WriteBuffer};
pub use attributes::AttributeChange;
pub use replace::HeldCommits;

pub(crate) use admission::buffer_cost;

/// See the module's head.
pub(crate) struct WriteBack {
    shared: Arc<Shared>,
    reading: Arc<Reading>,
    uploads: Arc<Uploads>,
    /// Files with uncommitted contents, which are held by this.
    pub(crate) dirty: Mutex<HashMap<Ino, Arc<FileState>>>,
    /// Places for packs on their way.
    packs: Arc<Semaphore>,
    /// Held by a commit of many files, before any lock of a file.
    large_commit: tokio::sync::Mutex<()>,
    /// Why nothing can be made durable any more, once another mount has taken over.
    failure: OnceLock<String>,
    /// There may be something to send or to commit.
    wake: Notify,
    /// A file has nothing left to commit, or was refused.
    settled: Notify,
    /// A commit was made: there may be regions to mend.
    pub(crate) crowded: Notify,
    draining: AtomicBool,
    unreadable: UnreadableFiles,
}

impl WriteBack {
    pub(crate) fn new(
        shared: Arc<Shared>,
        reading: Arc<Reading>,
        uploads: Arc<Uploads>,
    ) -> WriteBack {
        WriteBack {
            shared,
            reading,
            uploads,
            dirty: Mutex::default(),
            packs: Arc::new(Semaphore::new(PACKS_IN_FLIGHT_MAX)),
            large_commit: tokio::sync::Mutex::default(),
            failure: OnceLock::new(),
            wake: Notify::new(),
            settled: Notify::new(),
            crowded: Notify::new(),
            draining: AtomicBool::new(false),
            unreadable: UnreadableFiles::default(),
        }
    }

    /// Starts the background tasks.
    pub(crate) fn start(self: &Arc<Self>) {
        let tasks = &self.shared.tasks;
        tasks.spawn(self.clone().write_back_loop());
        tasks.spawn(self.clone().end_wanted_streams());
        tasks.spawn(self.clone().fail_when_fenced());
    }

    /// A commit would notice too, but there may be none: it waits for uploads, and the other mount
    /// may have swept these away.
    async fn fail_when_fenced(self: Arc<Self>) {
        tokio::select! {
            () = self.shared.stop.cancelled() => {}
            () = self.shared.meta.fenced() => self.fail(&MetaError::Fenced.to_string()),
        }
    }

    pub(crate) fn mark_dirty(&self, file: &Arc<FileState>) {
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

    /// Files with uncommitted contents.
    pub(crate) fn dirty_files(&self) -> Vec<Arc<FileState>> {
        self.dirty.lock().values().cloned().collect()
    }

    /// Another mount has taken over: nothing can be made durable here any more, and nothing more is
    /// sent. Writes and fsyncs fail from now on.
    fn fail(&self, why: &str) {
        if self.failure.set(why.to_owned()).is_ok() {
            tracing::error!("writing stops: {why}");
        }
        // The tasks that this wakes find the reason.
        self.uploads.no_uploads.cancel();
        for file in self.dirty.lock().values() {
            file.progress.notify_waiters();
        }
        self.settled.notify_waiters();
    }

    /// Why nothing can be made durable any more, once another mount has taken over.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Fails once another mount has taken over.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        match self.failure() {
            Some(why) => Err(DataError::Internal(why.to_owned())),
            None => Ok(()),
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// The file is gone: its dirty data is dropped.
    pub(crate) async fn discard(self: &Arc<Self>, ino: Ino) {
        let Some(file) = self.reading.known_file(ino) else {
            return;
        };
        let dropped = file.content.lock().discard();
        drop(dropped);
        if let Some(stream) = file.stream.lock().await.take() {
            stream.abandon();
            // Bytes that left memory since.
            let dropped = file.content.lock().discard();
            drop(dropped);
        }
        file.progress.notify_waiters();
        self.settle(&file);
    }
}

impl Refusals for WriteBack {
    fn refused(&self, inos: &[Ino], object: ObjectId, error: &StoreError) {
        self.report(&self.known_files(inos), Some(object), error);
    }
}

impl WriteBack {
    /// The states of those of these files that somebody holds.
    fn known_files(&self, inos: &[Ino]) -> Vec<Arc<FileState>> {
        let known = |ino: &Ino| self.reading.known_file(*ino);
        inos.iter().filter_map(known).collect()
    }

    /// Reports a refusal to those who wait for these files, and to nobody else.
    fn report(&self, files: &[Arc<FileState>], object: Option<ObjectId>, error: &StoreError) {
        let files_named = named(files);
        tracing::warn!("{files_named}: refused, and will be tried again: {error}");
        for file in files {
            match object {
                Some(object) => file.content.lock().object_refused(object, error),
                None => file.content.lock().refused(error),
            }
            file.progress.notify_waiters();
        }
        self.settled.notify_waiters();
    }
}
