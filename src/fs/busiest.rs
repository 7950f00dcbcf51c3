//! Bytes that programs move through open handles, for whoever wants to see which files are busy.
//!
//! Promises: counting is one relaxed atomic operation, without a lock of its own; it takes
//! [`MOVED_BYTES`] of a handle, and a look at all handles takes the memory of [`HANDLES_SHOWN`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::meta::Ino;

/// Handles that a look at them all keeps: those that moved most.
pub(super) const HANDLES_SHOWN: usize = 64;

/// The memory of [`Moved`].
pub(super) const MOVED_BYTES: u64 = size_of::<Moved>() as u64;

/// Bytes that were moved through one handle.
#[derive(Debug, Default)]
pub struct Moved {
    read: AtomicU64,
    written: AtomicU64,
}

impl Moved {
    pub(super) fn count_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// An open file, and the bytes that were moved through the handles that are open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBytes {
    /// The file.
    pub ino: Ino,
    /// Its handles among those that moved most.
    pub handles: u32,
    /// Bytes that programs read.
    pub read_bytes: u64,
    /// Bytes that programs wrote.
    pub written_bytes: u64,
}

/// The files behind the handles that moved most; handles that moved nothing do not count.
pub(super) fn busiest<'a>(handles: impl Iterator<Item = (Ino, &'a Moved)>) -> Vec<FileBytes> {
    let mut most = BinaryHeap::with_capacity(HANDLES_SHOWN + 1);
    for (ino, moved) in handles {
        let read = moved.read.load(Ordering::Relaxed);
        let written = moved.written.load(Ordering::Relaxed);
        let total = read.saturating_add(written);
        if total == 0 {
            continue;
        }
        most.push(Reverse((total, ino.0, read, written)));
        if most.len() > HANDLES_SHOWN {
            most.pop();
        }
    }
    let mut files = BTreeMap::new();
    for Reverse((_, ino, read, written)) in most {
        let file = files.entry(ino).or_insert(FileBytes {
            ino: Ino(ino),
            handles: 0,
            read_bytes: 0,
            written_bytes: 0,
        });
        file.handles += 1;
        file.read_bytes += read;
        file.written_bytes += written;
    }
    files.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_handles_those_are_kept_that_moved_most_and_handles_of_a_file_add_up() {
        let handles: Vec<Moved> = (0..1000).map(|_| Moved::default()).collect();
        for (number, moved) in handles.iter().enumerate() {
            moved.count_read(number as u64);
        }
        handles[7].count_written(1 << 20);
        let inodes = (0..1000).map(|number| Ino(number / 2));
        let files = busiest(inodes.zip(&handles));
        assert_eq!(files.iter().map(|file| file.handles).sum::<u32>(), 64);
        assert!(files.contains(&FileBytes {
            ino: Ino(3),
            handles: 1,
            read_bytes: 7,
            written_bytes: 1 << 20,
        }));
        assert!(files.contains(&FileBytes {
            ino: Ino(499),
            handles: 2,
            read_bytes: 998 + 999,
            written_bytes: 0,
        }));
    }

    #[test]
    fn a_handle_that_moved_nothing_is_not_busy() {
        assert_eq!(busiest([(Ino(1), &Moved::default())].into_iter()), []);
    }
}
