//! Names that were given to a file whose contents are not committed yet, in place of another file.
//!
//! A program that replaces a file writes a new one and renames it over the old name. It may do so
//! without fsync, and expects the old contents or the new ones after a crash. So until the new
//! contents are committed the entry has a *fallback*, the old inode. The mount that writes finds
//! the new file under the name. Readers of the durable state (a follower, the next mount after a
//! crash) find the old one.
//!
//! Promises: the batch that commits the last contents written before the rename also takes the
//! fallback away. Until then the old inode is kept, though it has no name. The next writable mount
//! undoes replacements that a crash left, before anybody sees them. Never: delays a rename, except
//! where a bound is reached.
//!
//! A name may pass from one uncommitted file to the next. It falls back to what was there before
//! all of them, since nothing else is committed. A program that syncs a file in the middle must not
//! find something older after a crash. So the sync also commits the contents of the file that has
//! the name now (`Meta::successors`).
//!
//! An entry changes only under the lock of the inode that it names, so the lock under which
//! contents are committed also keeps the file's names in place.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::change::{Change, Replacement, ReplacementChange, ReplacementKey};
use crate::meta::{Dentry, FileKind, Ino, schema::Fallback};

/// Names that have a fallback at once. With names of 255 bytes they take 3 MiB. A rename beyond the
/// bound waits until the contents of its file are committed, so uploads set the pace then.
const REPLACEMENTS_MAX: usize = 8192;

/// The same for one file: they go out with the batch that commits its contents.
const REPLACEMENTS_OF_FILE_MAX: usize = 64;

/// Files in the middle of one name; they take 1 MiB if every name has as many.
const SUPERSEDED_MAX: usize = 16;

#[derive(Default)]
struct Pin {
    /// Names that fall back to the inode.
    names: usize,
    /// Its deletion was asked for meanwhile.
    reaping_deferred: bool,
}

#[derive(Default)]
struct State {
    names: BTreeMap<ReplacementKey, Replacement>,
    /// How many of them passed through other files.
    passed_on: usize,
    /// Inodes that names fall back to.
    pins: HashMap<Ino, Pin>,
    /// Inodes whose deletion was deferred, and is due.
    released: VecDeque<Ino>,
}

/// The names with a fallback that this mount made. Changed by batches, after they are applied and
/// before their locks are let go of.
#[derive(Default)]
pub(in crate::meta) struct Replacements {
    state: Mutex<State>,
    due: Arc<Notify>,
}

impl Replacements {
    /// The inode that the entry falls back to, if it has a fallback.
    pub fn of(&self, dentry: &Dentry) -> Option<Fallback> {
        let state = self.state.lock();
        let name = state.names.get(&(dentry.ino, dentry.cookie))?;
        Some(name.old)
    }

    /// Uncommitted files that had the entry's name before its own file did, with its own file last.
    pub fn superseded_with(&self, dentry: &Dentry) -> Vec<Ino> {
        let state = self.state.lock();
        let Some(name) = state.names.get(&(dentry.ino, dentry.cookie)) else {
            return Vec::new();
        };
        name.superseded
            .iter()
            .copied()
            .chain([dentry.ino])
            .collect()
    }

    /// Files that have a name which `ino` had before, while none of them was committed.
    pub fn successors(&self, ino: Ino) -> Vec<Ino> {
        let state = self.state.lock();
        if state.passed_on == 0 {
            return Vec::new();
        }
        let names = state.names.iter();
        let passed_on = names.filter(|(_, name)| name.superseded.contains(&ino));
        passed_on.map(|((new, _), _)| *new).collect()
    }

    /// Whether one more name of `ino` may have a fallback.
    pub fn has_room(&self, ino: Ino, superseded: &[Ino]) -> bool {
        let state = self.state.lock();
        superseded.len() <= SUPERSEDED_MAX
            && state.names.len() < REPLACEMENTS_MAX
            && state.names.range((ino, 0)..=(ino, u64::MAX)).count() < REPLACEMENTS_OF_FILE_MAX
    }

    /// Makes names of `ino` final, in `change`: those that were given to it up to the change
    /// `covers` of its contents. Call under the lock of `ino`.
    pub fn complete(&self, ino: Ino, covers: u64, change: &mut Change) {
        let state = self.state.lock();
        let names = state.names.range((ino, 0)..=(ino, u64::MAX));
        for ((_, cookie), name) in names.filter(|(_, name)| name.last_change <= covers) {
            let dentry = Dentry {
                ino,
                kind: FileKind::File,
                cookie: *cookie,
            };
            change.put_name(name.dir, &name.name, dentry);
            change.end_replacement(ino, *cookie);
        }
    }

    /// Whether a name may have to fall back to `ino`. If so, the inode is deleted later, without
    /// another request.
    pub fn defers_reaping(&self, ino: Ino) -> bool {
        match self.state.lock().pins.get_mut(&ino) {
            Some(pin) => {
                pin.reaping_deferred = true;
                true
            }
            None => false,
        }
    }

    /// Notes a batch that was applied.
    pub fn apply(&self, change: ReplacementChange) {
        let mut state = self.state.lock();
        // A name that passes to another file keeps its fallback pinned, so new replacements are
        // counted before ended ones.
        for (key, name) in change.begun {
            state.pins.entry(name.old.ino).or_default().names += 1;
            state.passed_on += usize::from(!name.superseded.is_empty());
            state.names.insert(key, name);
        }
        for key in change.ended {
            let Some(name) = state.names.remove(&key) else {
                continue;
            };
            state.passed_on -= usize::from(!name.superseded.is_empty());
            let old = name.old.ino;
            let Some(pin) = state.pins.get_mut(&old) else {
                continue;
            };
            pin.names -= 1;
            if pin.names > 0 {
                continue;
            }
            if pin.reaping_deferred {
                state.released.push_back(old);
                self.due.notify_one();
            }
            state.pins.remove(&old);
        }
    }

    /// The next inode whose deletion was deferred and is due.
    pub fn next_released(&self) -> Option<Ino> {
        self.state.lock().released.pop_front()
    }

    /// Notified when such an inode is there.
    pub fn due(&self) -> Arc<Notify> {
        self.due.clone()
    }

    /// Files that got a name which still falls back to another.
    pub fn new_files(&self) -> Vec<Ino> {
        let state = self.state.lock();
        let mut files: Vec<Ino> = state.names.keys().map(|(new, _)| *new).collect();
        files.dedup();
        files
    }
}
