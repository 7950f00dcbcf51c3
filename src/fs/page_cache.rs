//! Which files the kernel may have pages of.
//!
//! A read that finds nothing in the kernel's page cache costs two copies and a page allocation more than one that passes it by
//! (`FOPEN_DIRECT_IO`), and a large file that is read once fills the cache with pages that nobody wants again. So the first reader of a large
//! file that this mount has not touched before streams past the page cache. Whoever opens it again is a sign that it is wanted again, and is
//! cached as on any filesystem; so is a file that was written here, whose pages the kernel still has.
//!
//! It is a guess that costs time if it is wrong, never correctness: the kernel keeps direct and cached readers of a file coherent.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::meta::Ino;

/// Smaller files are cached at once: for them the page cache costs little, and small reads from it are cheap.
const STREAMED_MIN: u64 = 8 << 20;

/// What one takes: the list's node, twice its place in the map.
const REMEMBERED_BYTES: u64 = 80;

/// Files remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// See the module's head.
pub struct PageCache {
    opened: Mutex<LruCache<Ino, ()>>,
}

impl PageCache {
    pub fn new() -> PageCache {
        PageCache {
            opened: Mutex::new(LruCache::new(REMEMBERED)),
        }
    }

    /// Notes that a file is opened; whether its reads should pass the page cache by.
    pub fn on_open(&self, ino: Ino, writable: bool, size: u64) -> bool {
        let opened_before = self.opened.lock().put(ino, ()).is_some();
        !writable && !opened_before && size >= STREAMED_MIN
    }

    /// What the memory of files takes, and takes at most.
    pub fn bytes(&self) -> (u64, u64) {
        let remembered = self.opened.lock().len() as u64;
        (
            remembered * REMEMBERED_BYTES,
            REMEMBERED.get() as u64 * REMEMBERED_BYTES,
        )
    }

    /// The kernel dropped the inode, and its pages with it.
    pub fn forget(&self, ino: Ino) {
        self.opened.lock().pop(&ino);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(7);

    #[test]
    fn the_first_reader_of_a_large_file_streams_and_the_next_is_cached() {
        let cache = PageCache::new();
        assert!(cache.on_open(FILE, false, STREAMED_MIN));
        assert!(!cache.on_open(FILE, false, STREAMED_MIN));
        cache.forget(FILE);
        assert!(cache.on_open(FILE, false, STREAMED_MIN));
    }

    #[test]
    fn what_was_written_here_or_is_small_is_cached() {
        let cache = PageCache::new();
        assert!(!cache.on_open(FILE, true, 0));
        assert!(!cache.on_open(FILE, false, STREAMED_MIN));
        assert!(!cache.on_open(Ino(8), false, STREAMED_MIN - 1));
    }
}
