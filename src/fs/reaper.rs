//! Deletes inodes that have no name and no user: their dirty contents, then their records.
//!
//! One background task, a bounded queue in front of it. What does not fit the queue, and what an earlier mount left, is
//! found again in the metadata, where every nameless inode is recorded.
//! Never: touches an inode that [`Table`] still keeps.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, RwLock, RwLockReadGuard},
    task::JoinHandle,
};

use super::table::Table;
use crate::{
    data::Data,
    meta::{Ino, Meta},
};

/// Inodes waiting, at most: half a megabyte.
const QUEUE_MAX: usize = 65_536;
/// Inodes deleted at once: enough to overlap the waits, few enough to leave room for others.
const AT_ONCE: usize = 8;
/// Inodes asked for in one look at the metadata.
const SCAN_LIMIT: usize = 256;

struct Shared {
    queue: Mutex<VecDeque<Ino>>,
    wake: Notify,
    /// The metadata may hold nameless inodes that are not in the queue.
    rescan: AtomicBool,
    stopping: AtomicBool,
    /// Held for reading while an inode loses its name and enters the table, for writing while the metadata is searched: so a search never finds
    /// an inode whose user it does not know.
    naming: RwLock<()>,
    meta: Meta,
    data: Data,
    table: Arc<Table>,
}

/// See the module's head. Dropping it ends the task.
pub struct Reaper {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Reaper {
    /// `scan` looks for what an earlier mount left.
    pub fn start(meta: Meta, data: Data, table: Arc<Table>, scan: bool) -> Reaper {
        let shared = Arc::new(Shared {
            queue: Mutex::new(VecDeque::new()),
            wake: Notify::new(),
            rescan: AtomicBool::new(scan),
            stopping: AtomicBool::new(false),
            naming: RwLock::new(()),
            meta,
            data,
            table,
        });
        let task = tokio::spawn(Arc::clone(&shared).run());
        Reaper { shared, task: Mutex::new(Some(task)) }
    }

    /// Hold this while an inode loses its name.
    pub async fn naming(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.naming.read().await
    }

    /// Deletes an inode soon.
    pub fn reap(&self, ino: Ino) {
        {
            let mut queue = self.shared.queue.lock();
            if queue.len() < QUEUE_MAX {
                queue.push_back(ino);
            } else {
                self.shared.rescan.store(true, Ordering::Relaxed);
            }
        }
        self.shared.wake.notify_one();
    }

    /// Finishes what is queued, then ends the task.
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
    async fn run(self: Arc<Shared>) {
        loop {
            let batch: Vec<Ino> = {
                let mut queue = self.queue.lock();
                let count = queue.len().min(AT_ONCE);
                queue.drain(..count).collect()
            };
            if !batch.is_empty() {
                self.delete_all(&batch).await;
            } else if self.rescan.swap(false, Ordering::Relaxed) && !self.stopping.load(Ordering::Relaxed) {
                self.scan().await;
            } else if self.stopping.load(Ordering::Relaxed) {
                return;
            } else {
                self.wake.notified().await;
            }
        }
    }

    async fn delete_all(&self, batch: &[Ino]) -> bool {
        let done = futures::future::join_all(batch.iter().map(|ino| self.delete(*ino))).await;
        done.into_iter().all(|done| done)
    }

    async fn delete(&self, ino: Ino) -> bool {
        self.data.discard(ino).await;
        match self.meta.reap(ino).await {
            Ok(()) => true,
            Err(error) => {
                // It stays recorded as nameless: the next mount tries again.
                tracing::warn!("deleting removed inode {} failed: {error}", ino.0);
                false
            }
        }
    }

    /// Deletes what the metadata records as nameless and nothing here uses.
    async fn scan(&self) {
        loop {
            let unused: Vec<Ino> = {
                let _no_name_is_lost_meanwhile = self.naming.write().await;
                match self.meta.orphans(SCAN_LIMIT).await {
                    Ok(found) => found.into_iter().filter(|ino| !self.table.keeps(*ino)).collect(),
                    Err(error) => {
                        tracing::warn!("looking for removed files failed: {error}");
                        return;
                    }
                }
            };
            if unused.is_empty() {
                return;
            }
            for batch in unused.chunks(AT_ONCE) {
                if self.stopping.load(Ordering::Relaxed) || !self.delete_all(batch).await {
                    return;
                }
            }
        }
    }
}
