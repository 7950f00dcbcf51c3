//! Deletes orphans that have no handle any more: their dirty contents, then their records.
//!
//! One background task, a bounded queue in front of it. Every orphan is recorded in the
//! metadata: at the start the task goes through what earlier mounts left there. Removing names
//! waits while the queue is more than half full; should it overflow all the same (a hundred
//! thousand removed files closed at once), the rest is left to the next mount.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::JoinHandle};

use crate::{
    data::Data,
    meta::{Ino, Meta},
    telemetry::InLog,
};

/// Inodes waiting, at most: half a megabyte.
const QUEUE_MAX: usize = 65_536;
/// Inodes deleted at once: enough to overlap the waits, few enough to leave room for others.
const AT_ONCE: usize = 8;
/// Inodes read in one scan of the metadata.
const SCAN_LIMIT: usize = 256;

struct Shared {
    queue: Mutex<VecDeque<Ino>>,
    /// Something was queued, or the end was asked for.
    wake: Notify,
    /// The queue became shorter.
    room: Notify,
    stopping: AtomicBool,
    meta: Meta,
    data: Data,
}

/// See the module's head. Dropping it ends the task.
pub struct Reaper {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Reaper {
    /// With `leftovers`, it first deletes the orphans that earlier mounts left.
    pub fn start(meta: Meta, data: Data, leftovers: bool) -> Reaper {
        let shared = Arc::new(Shared {
            queue: Mutex::new(VecDeque::new()),
            wake: Notify::new(),
            room: Notify::new(),
            stopping: AtomicBool::new(false),
            meta,
            data,
        });
        let task = tokio::spawn(Arc::clone(&shared).run(leftovers));
        Reaper {
            shared,
            task: Mutex::new(Some(task)),
        }
    }

    /// Queues an inode for deletion.
    pub fn reap(&self, ino: Ino) {
        {
            let mut queue = self.shared.queue.lock();
            if queue.len() < QUEUE_MAX {
                queue.push_back(ino);
            }
        }
        self.shared.wake.notify_one();
    }

    /// Waits while too many are queued.
    pub async fn room(&self) {
        loop {
            let shorter = self.shared.room.notified();
            tokio::pin!(shorter);
            shorter.as_mut().enable();
            if self.shared.queue.lock().len() <= QUEUE_MAX / 2 {
                return;
            }
            shorter.await;
        }
    }

    /// Finishes the queue, then ends the task.
    pub async fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.shared.wake.notify_one();
        let task = self.task.lock().take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("deleting removed files ended early; the next mount goes on with it");
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }
}

impl Shared {
    async fn run(self: Arc<Shared>, leftovers: bool) {
        if leftovers {
            self.delete_leftovers().await;
        }
        loop {
            let batch: Vec<Ino> = {
                let mut queue = self.queue.lock();
                let count = queue.len().min(AT_ONCE);
                queue.drain(..count).collect()
            };
            if !batch.is_empty() {
                self.room.notify_waiters();
                self.delete_all(&batch).await;
            } else if self.stopping.load(Ordering::Relaxed) {
                return;
            } else {
                self.wake.notified().await;
            }
        }
    }

    /// True if all deletions succeeded.
    async fn delete_all(&self, batch: &[Ino]) -> bool {
        let done = futures::future::join_all(batch.iter().map(|ino| self.delete(*ino))).await;
        done.into_iter().all(|done| done)
    }

    async fn delete(&self, ino: Ino) -> bool {
        self.data.discard(ino).await;
        match self.meta.reap(ino).await {
            Ok(()) => true,
            Err(error) => {
                // It stays recorded as an orphan: the next mount tries again.
                tracing::warn!("deleting the removed {} failed: {error}", InLog(ino.0));
                false
            }
        }
    }

    async fn delete_leftovers(&self) {
        loop {
            let found = match self.meta.orphans(SCAN_LIMIT).await {
                Ok(found) if found.is_empty() => return,
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(
                        "looking for files that an earlier mount removed failed: {error}"
                    );
                    return;
                }
            };
            for batch in found.chunks(AT_ONCE) {
                if self.stopping.load(Ordering::Relaxed) || !self.delete_all(batch).await {
                    return;
                }
            }
        }
    }
}
