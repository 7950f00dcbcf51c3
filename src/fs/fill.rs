//! Filling the kernel's page cache: a reader of small pieces in no order gets the pages
//! around each piece along, if they are in memory anyway. The kernel then asks for none of
//! them, and a request costs far more than opening a frame.
//!
//! It is done only where reads are dense: a quarter of the last small reads of the handle found
//! their bytes on this machine already. A lone read of a huge file fills nothing.
//!
//! Promises: the kernel never gets older bytes than it has ([`super::page_turns`]); nothing is
//! asked of the store for it; nobody waits for it but whoever opens the same file for writing; the
//! bytes are reserved until the kernel has them, one window at a time.

use std::{
    ops::Range,
    sync::{Arc, Weak},
};

use super::{Fs, table::FileHandle};
use crate::{
    data::{ReadReply, SMALL_READ_MAX},
    meta::Ino,
};

/// Pages are handed over in windows of this size and alignment: a frame, where the file lies in its
/// object from the beginning.
const WINDOW: u64 = 64 << 10;

/// Pages that the kernel may be given.
pub struct Fill {
    handle: Weak<FileHandle>,
    window: Range<u64>,
}

/// Where fills go: to the kernel, some time later. Does not wait; may leave a fill out.
pub trait PageCacheFiller: Send + Sync {
    /// Offers pages.
    fn offer(&self, fill: Fill);

    /// Hands bytes of a file over. Waits for pages that are being read: not for a task.
    fn store(&self, ino: Ino, offset: u64, bytes: &[u8]);
}

impl Fs {
    /// From now on small reads in no order are followed by fills.
    pub fn fill_through(&self, filler: Arc<dyn PageCacheFiller>) {
        let _ = self.inner.filler.set(filler);
    }

    /// Whether pages may be handed over that are read through a handle.
    fn takes_fills(&self, handle: &FileHandle) -> bool {
        // The writer of a followed volume is on another machine: nobody here knows of its turns.
        !handle.writable && !handle.past_page_cache && !self.read_only()
    }

    /// Notes a read, and offers the pages around it if reads are dense.
    pub(super) fn note_for_fills(
        &self,
        handle: &Arc<FileHandle>,
        offset: u64,
        len: u32,
        reply: &mut ReadReply,
    ) {
        if u64::from(len) > SMALL_READ_MAX || !self.takes_fills(handle) {
            return;
        }
        let Some(filler) = self.inner.filler.get() else {
            return;
        };
        if let Some(stretch) = reply.stretch.take() {
            self.hand_over(stretch, handle, filler);
        }
        if handle.density.note(reply.was_here) {
            let start = offset / WINDOW * WINDOW;
            filler.offer(Fill {
                handle: Arc::downgrade(handle),
                window: start..start + WINDOW,
            });
        }
    }

    /// Hands pages to `store`, the kernel, as inode, offset and bytes: if all of them are in memory
    /// and nobody may write to the file.
    pub fn fill(&self, fill: &Fill, store: impl FnOnce(Ino, u64, &[u8])) {
        let Some(handle) = fill.handle.upgrade() else {
            return;
        };
        let Some(_turn) = self.inner.page_turns.try_fill(handle.ino) else {
            return;
        };
        if let Some(reply) = self.data().read_here(&handle.file, fill.window.clone()) {
            let filled = &self.inner.metrics.page_fill_bytes;
            filled.add(reply.bytes.len() as u64);
            store(handle.ino, fill.window.start, &reply.bytes);
        }
    }
}
