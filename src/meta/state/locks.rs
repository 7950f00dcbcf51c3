//! Keyed locks, which make operations atomic against each other.
//!
//! There is a fixed number of locks, one for each residue of the inode number. An operation takes
//! all it needs at once, in ascending order, so no two can wait for each other. The rename lock is
//! taken before them: one directory is moved at a time, so that the walk to the root is over a tree
//! that stands still. The reclaim lock (object records) is taken after them, and the totals last.
//! None is held across a flush.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::meta::Ino;

/// Enough that unrelated operations rarely meet; a lock is 40 bytes.
const STRIPES: u64 = 512;

/// The locks of a volume that is open for writing.
pub(in crate::meta) struct Locks {
    stripes: Vec<Arc<Mutex<()>>>,
    rename: Arc<Mutex<()>>,
    reclaim: Arc<Mutex<()>>,
}

/// Locks that are held until the last clone is dropped. One clone stays with the operation, and one
/// goes with each commit: if the caller goes away, the locks are released only when the commit is
/// over.
#[derive(Clone, Default)]
pub(in crate::meta) struct Held {
    guards: Vec<Arc<Vec<OwnedMutexGuard<()>>>>,
}

impl Held {
    /// Adds the locks of `other`.
    pub fn and(mut self, other: Held) -> Held {
        self.guards.extend(other.guards);
        self
    }

    fn of(guards: Vec<OwnedMutexGuard<()>>) -> Held {
        Held {
            guards: vec![Arc::new(guards)],
        }
    }
}

impl Locks {
    pub fn new() -> Locks {
        Locks {
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
            rename: Arc::default(),
            reclaim: Arc::default(),
        }
    }

    /// Locks these inodes, all at once.
    pub async fn inodes(&self, inos: impl IntoIterator<Item = Ino>) -> Held {
        let mut slots: Vec<usize> = inos
            .into_iter()
            .map(|ino| (ino.0 % STRIPES) as usize)
            .collect();
        slots.sort_unstable();
        slots.dedup();
        let mut guards = Vec::with_capacity(slots.len());
        for stripe in slots.into_iter().filter_map(|slot| self.stripes.get(slot)) {
            guards.push(stripe.clone().lock_owned().await);
        }
        Held::of(guards)
    }

    /// Keeps directories from moving. To be taken before any inode's lock.
    pub async fn rename(&self) -> Held {
        Held::of(vec![self.rename.clone().lock_owned().await])
    }

    /// Keeps object records, members, garbage and sessions unchanged. To be taken after the inodes'
    /// locks.
    pub async fn reclaim(&self) -> Held {
        Held::of(vec![self.reclaim.clone().lock_owned().await])
    }
}
