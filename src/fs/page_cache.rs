//! The files that the kernel may have pages of.
//!
//! A read that finds nothing in the kernel's page cache costs two copies and a page allocation more
//! than one that bypasses it (`FOPEN_DIRECT_IO`), and a very large file that is read once fills the
//! cache with pages that nobody wants again. So the first reader of such a file that this mount
//! has not touched before bypasses the page cache. A second open shows that the file is wanted
//! again, and is cached as on any filesystem; so is a file that was written here, whose pages the
//! kernel still has. Smaller files are cached at once: small reads in no order find their pages
//! there, fifty times as fast as here, while reading in order is slower by a quarter at most
//! (docs/benchmarks.md, Reads in no order).
//!
//! Writing into the page cache costs more requests than writing past it. The kernel asks for
//! `security.capability` before a file's first write, and sends a write that does not begin on a
//! page boundary in two pieces (`fuse_fill_write_pages` ends at a page that is not up to date).
//! Such pages are of no use to a reader either, because the kernel asks for them again. So after
//! some small new files that were only written (an archive is unpacked) the next one is written
//! past the page cache. A large file among them costs its next reader one fetch; after it, new
//! files are written into the page cache again.
//!
//! Both are guesses. A wrong one costs time, never correctness: the kernel keeps direct and cached
//! handles of a file coherent.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU32, Ordering},
};

use lru::LruCache;
use parking_lot::Mutex;

use crate::meta::Ino;

/// Smaller files are cached at once.
const STREAMED_MIN: u64 = 512 << 20;

/// New files up to this length are small: one write request.
const SMALL_MAX: u64 = 1 << 20;

/// After this many small new files in a row the next one is expected to be small.
const SMALL_IN_A_ROW: u32 = 4;

/// The memory of one remembered file: the list's node, twice its place in the map.
const REMEMBERED_BYTES: u64 = 80;

/// Files remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// See the module's head.
pub struct PageCache {
    opened: Mutex<LruCache<Ino, ()>>,
    small_in_a_row: AtomicU32,
}

impl PageCache {
    pub fn new() -> PageCache {
        PageCache {
            opened: Mutex::new(LruCache::new(REMEMBERED)),
            small_in_a_row: AtomicU32::new(0),
        }
    }

    /// Notes that a file is opened; whether its reads should pass the page cache by.
    pub fn on_open(&self, ino: Ino, writable: bool, size: u64) -> bool {
        let opened_before = self.opened.lock().put(ino, ()).is_some();
        !writable && !opened_before && size >= STREAMED_MIN
    }

    /// Notes that a file is made; whether it should be written past the page cache.
    pub fn on_create(&self, ino: Ino, write_only: bool) -> bool {
        self.opened.lock().put(ino, ());
        write_only && self.small_in_a_row.load(Ordering::Relaxed) >= SMALL_IN_A_ROW
    }

    /// The handle that made a file, and could only write, is closed; it wrote up to `end`.
    pub fn on_made(&self, end: u64) {
        if end > SMALL_MAX {
            self.small_in_a_row.store(0, Ordering::Relaxed);
        } else {
            let one_more = |row: u32| Some(row.saturating_add(1));
            // It never declines.
            let _ =
                self.small_in_a_row
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        }
    }

    /// The present memory of remembered files, and its bound.
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
    fn after_some_small_new_files_the_next_is_written_past_the_cache_until_a_large_one() {
        let cache = PageCache::new();
        for _ in 0..SMALL_IN_A_ROW {
            assert!(!cache.on_create(FILE, true));
            cache.on_made(SMALL_MAX);
        }
        assert!(cache.on_create(FILE, true));
        assert!(!cache.on_create(FILE, false), "it may be read");
        assert!(
            !cache.on_open(FILE, false, STREAMED_MIN),
            "it was written here"
        );
        cache.on_made(SMALL_MAX + 1);
        assert!(!cache.on_create(FILE, true));
    }

    #[test]
    fn what_was_written_here_or_is_small_is_cached() {
        let cache = PageCache::new();
        assert!(!cache.on_open(FILE, true, 0));
        assert!(!cache.on_open(FILE, false, STREAMED_MIN));
        assert!(!cache.on_open(Ino(8), false, STREAMED_MIN - 1));
    }
}
