//! Inodes, names and object records above the database.
//!
//! Promises: a cache never shows a value older than the last change that was acknowledged. Each
//! operation writes its changes through, all of them under one lock. A value that was *read* from
//! the database is put in only if nothing was changed under its stamp since before the read. Every
//! part is bounded in bytes.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use parking_lot::Mutex;

use super::change::CacheChange;
use crate::{
    byte_lru::ByteLru,
    meta::{
        Dentry, Ino, Inode,
        schema::{ObjectKey, StoredObject},
    },
};

/// Stamps, which keys share. If two keys share one, a value that was read may not be kept; nothing
/// else happens.
const STAMPS: usize = 1024;
/// Memory of an entry beside its own bytes: the list node, the map slot.
const ENTRY_BYTES: u64 = 64;
/// Memory of one name of a directory that is known whole.
const KNOWN_NAME_BYTES: u64 = 16;

/// A version of the keys that share it: taken before the database is read, and given back with the
/// value that was read.
#[derive(Clone, Copy)]
pub(in crate::meta) struct Stamp(u64);

/// The cache's answer about a name.
pub(in crate::meta) enum Name {
    /// It stands for this, or it is not there.
    Is(Option<Dentry>),
    /// Not known; ask the database.
    Unknown(Stamp),
}

struct CachedName {
    dir: Ino,
    name: Box<[u8]>,
    dentry: Option<Dentry>,
}

/// The hashes of all names that a directory has had, if it was made during this mount. A hash that
/// is missing proves that the name is not there. Hashes of removed names stay, so the only possible
/// error is a needless question to the database.
#[derive(Default)]
struct KnownDirectory {
    hashes: HashSet<u64>,
}

struct Parts {
    inodes: ByteLru<Ino, Arc<Inode>>,
    names: ByteLru<u64, CachedName>,
    objects: ByteLru<ObjectKey, StoredObject>,
    directories: ByteLru<Ino, KnownDirectory>,
    stamps: Vec<u64>,
}

/// The caches. `None` for followers: the rows that they read can change below the caches.
pub(in crate::meta) struct Caches {
    parts: Option<Mutex<Parts>>,
    hasher: RandomState,
}

impl Caches {
    /// Each kind of record may take `bytes_max`; known directories as much as names.
    pub fn new(bytes_max: u64) -> Caches {
        let parts = Parts {
            inodes: ByteLru::new(bytes_max, ENTRY_BYTES),
            names: ByteLru::new(bytes_max, ENTRY_BYTES),
            objects: ByteLru::new(bytes_max / 4, ENTRY_BYTES),
            directories: ByteLru::new(bytes_max, ENTRY_BYTES),
            stamps: vec![0; STAMPS],
        };
        Caches {
            parts: Some(Mutex::new(parts)),
            hasher: RandomState::new(),
        }
    }

    pub fn none() -> Caches {
        Caches {
            parts: None,
            hasher: RandomState::new(),
        }
    }

    fn name_hash(&self, dir: Ino, name: &[u8]) -> u64 {
        self.hasher.hash_one((dir, name))
    }

    pub fn inode(&self, ino: Ino) -> Result<Arc<Inode>, Stamp> {
        let Some(parts) = &self.parts else {
            return Err(Stamp(0));
        };
        let mut parts = parts.lock();
        parts
            .inodes
            .get(&ino)
            .cloned()
            .ok_or_else(|| parts.stamp(ino.0))
    }

    pub fn fill_inode(&self, stamp: Stamp, inode: &Arc<Inode>) {
        let Some(parts) = &self.parts else { return };
        let mut parts = parts.lock();
        if parts.stamp(inode.ino.0).0 == stamp.0 {
            parts.put_inode(inode.clone());
        }
    }

    pub fn name(&self, dir: Ino, name: &[u8]) -> Name {
        let Some(parts) = &self.parts else {
            return Name::Unknown(Stamp(0));
        };
        let hash = self.name_hash(dir, name);
        let mut parts = parts.lock();
        if let Some(cached) = parts.names.get(&hash)
            && cached.dir == dir
            && *cached.name == *name
        {
            return Name::Is(cached.dentry);
        }
        match parts.directories.get(&dir) {
            Some(known) if !known.hashes.contains(&hash) => Name::Is(None),
            _ => Name::Unknown(parts.stamp(hash)),
        }
    }

    pub fn fill_name(&self, stamp: Stamp, dir: Ino, name: &[u8], dentry: Option<Dentry>) {
        let Some(parts) = &self.parts else { return };
        let hash = self.name_hash(dir, name);
        let mut parts = parts.lock();
        if parts.stamp(hash).0 == stamp.0 {
            parts.put_name(
                hash,
                CachedName {
                    dir,
                    name: name.into(),
                    dentry,
                },
            );
        }
    }

    /// All stamps, to be taken before a listing and given to [`Caches::fill_listed`] after it.
    pub fn listing_stamps(&self) -> Vec<u64> {
        self.parts
            .as_ref()
            .map(|parts| parts.lock().stamps.clone())
            .unwrap_or_default()
    }

    /// Names read by a listing that began when `stamps` were taken.
    pub fn fill_listed(
        &self,
        stamps: &[u64],
        dir: Ino,
        listed: impl Iterator<Item = (Box<[u8]>, Dentry)>,
    ) {
        let Some(parts) = &self.parts else { return };
        let mut parts = parts.lock();
        for (name, dentry) in listed {
            let hash = self.name_hash(dir, &name);
            if stamps.get(slot(hash)) == Some(&parts.stamp(hash).0) {
                parts.put_name(
                    hash,
                    CachedName {
                        dir,
                        name,
                        dentry: Some(dentry),
                    },
                );
            }
        }
    }

    pub fn object(&self, object: ObjectKey) -> Result<StoredObject, Stamp> {
        let Some(parts) = &self.parts else {
            return Err(Stamp(0));
        };
        let mut parts = parts.lock();
        parts
            .objects
            .get(&object)
            .cloned()
            .ok_or_else(|| parts.stamp(object.number))
    }

    pub fn fill_object(&self, stamp: Stamp, object: ObjectKey, stored: &StoredObject) {
        let Some(parts) = &self.parts else { return };
        let mut parts = parts.lock();
        if parts.stamp(object.number).0 == stamp.0 {
            parts.objects.put(
                object,
                stored.clone(),
                std::mem::size_of::<StoredObject>() as u64,
            );
        }
    }

    /// Makes a committed operation visible, all of it at once.
    pub fn apply(&self, change: CacheChange) {
        let Some(parts) = &self.parts else { return };
        let mut parts = parts.lock();
        for dir in change.new_directories {
            parts.directories.put(
                dir,
                KnownDirectory::default(),
                std::mem::size_of::<KnownDirectory>() as u64,
            );
        }
        for (ino, inode) in change.inodes {
            parts.touch(ino.0);
            match inode {
                Some(inode) => parts.put_inode(inode),
                None => {
                    parts.inodes.remove(&ino);
                    parts.directories.remove(&ino);
                }
            }
        }
        for (dir, name, dentry) in change.names {
            let hash = self.name_hash(dir, &name);
            parts.touch(hash);
            if dentry.is_some() {
                parts.learn_name(dir, hash);
            }
            parts.put_name(hash, CachedName { dir, name, dentry });
        }
        for (object, stored) in change.objects {
            parts.touch(object.number);
            match stored {
                Some(stored) => {
                    parts
                        .objects
                        .put(object, stored, std::mem::size_of::<StoredObject>() as u64)
                }
                None => parts.objects.remove(&object),
            }
        }
    }

    /// Bytes that all parts hold.
    pub fn bytes(&self) -> u64 {
        self.parts.as_ref().map_or(0, |parts| {
            let parts = parts.lock();
            parts.inodes.bytes()
                + parts.names.bytes()
                + parts.objects.bytes()
                + parts.directories.bytes()
        })
    }

    /// Bytes that all parts may hold.
    pub fn bytes_max(&self) -> u64 {
        self.parts.as_ref().map_or(0, |parts| {
            let parts = parts.lock();
            parts.inodes.bytes_max()
                + parts.names.bytes_max()
                + parts.objects.bytes_max()
                + parts.directories.bytes_max()
        })
    }

    /// Forgets everything, after a change whose outcome is not known.
    pub fn clear(&self) {
        let Some(parts) = &self.parts else { return };
        let mut parts = parts.lock();
        parts.inodes.clear();
        parts.names.clear();
        parts.objects.clear();
        parts.directories.clear();
        parts.stamps.iter_mut().for_each(|stamp| *stamp += 1);
    }
}

fn slot(key: u64) -> usize {
    // The remainder is below STAMPS, so it fits in usize everywhere.
    (key % STAMPS as u64) as usize
}

impl Parts {
    fn stamp(&self, key: u64) -> Stamp {
        Stamp(self.stamps.get(slot(key)).copied().unwrap_or_default())
    }

    fn touch(&mut self, key: u64) {
        if let Some(stamp) = self.stamps.get_mut(slot(key)) {
            *stamp += 1;
        }
    }

    fn put_inode(&mut self, inode: Arc<Inode>) {
        let bytes = std::mem::size_of::<Inode>() + inode.target.len();
        self.inodes.put(inode.ino, inode, bytes as u64);
    }

    fn put_name(&mut self, hash: u64, name: CachedName) {
        let bytes = std::mem::size_of::<CachedName>() + name.name.len();
        self.names.put(hash, name, bytes as u64);
    }

    fn learn_name(&mut self, dir: Ino, hash: u64) {
        let Some(mut known) = self.directories.take(&dir) else {
            return;
        };
        known.hashes.insert(hash);
        let bytes = std::mem::size_of::<KnownDirectory>() as u64
            + known.hashes.len() as u64 * KNOWN_NAME_BYTES;
        self.directories.put(dir, known, bytes);
    }
}

/// Inodes that were read together, by number.
pub(in crate::meta) type Found = HashMap<Ino, Arc<Inode>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::FileKind;

    fn dentry(ino: u64) -> Dentry {
        Dentry {
            ino: Ino(ino),
            kind: FileKind::File,
            cookie: ino,
        }
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let caches = Caches::new(1 << 20);
        let Name::Unknown(stamp) = caches.name(Ino(1), b"a") else {
            panic!("known before it was read")
        };
        let names = vec![(Ino(1), b"a".as_slice().into(), Some(dentry(20)))];
        caches.apply(CacheChange {
            names,
            ..CacheChange::default()
        });
        caches.fill_name(stamp, Ino(1), b"a", None);
        assert!(matches!(caches.name(Ino(1), b"a"), Name::Is(Some(found)) if found == dentry(20)));
    }

    #[test]
    fn a_new_directory_answers_for_names_it_never_had() {
        let caches = Caches::new(1 << 20);
        caches.apply(CacheChange {
            new_directories: vec![Ino(7)],
            ..CacheChange::default()
        });
        assert!(matches!(caches.name(Ino(7), b"a"), Name::Is(None)));
        let names = vec![(Ino(7), b"a".as_slice().into(), Some(dentry(20)))];
        caches.apply(CacheChange {
            names,
            ..CacheChange::default()
        });
        assert!(matches!(caches.name(Ino(7), b"a"), Name::Is(Some(_))));
        assert!(matches!(caches.name(Ino(8), b"a"), Name::Unknown(_)));
    }
}
