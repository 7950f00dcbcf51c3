//! Turns at the pages that the kernel has of a file.
//!
//! Pages that are handed to the kernel unasked ([`super::fill`]) replace those that it has, newer
//! ones too. So they are handed over only while nobody may write to the file: a handle that may
//! write, and a change of size without a handle, wait until the fills under way are over, and keep
//! new ones from beginning.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::meta::Ino;

/// See the module's head.
#[derive(Default)]
pub struct PageTurns {
    inner: Mutex<Inner>,
    fill_over: Notify,
}

#[derive(Default)]
struct Inner {
    /// Writers by inode; no count is 0.
    writers: HashMap<Ino, u32>,
    /// Fills under way by inode; no count is 0.
    fills: HashMap<Ino, u32>,
}

/// The memory of a writer: its turn, and its place in the table twice.
pub const WRITER_BYTES: u64 = 64;

/// Somebody may write to the file, until this is dropped.
pub struct Writing {
    turns: Arc<PageTurns>,
    ino: Ino,
}

/// Pages of the file are handed to the kernel, until this is dropped.
pub struct Filling {
    turns: Arc<PageTurns>,
    ino: Ino,
}

impl PageTurns {
    /// Waits until no pages of the file are being handed to the kernel. None are from then on.
    pub async fn write(self: &Arc<Self>, ino: Ino) -> Writing {
        *self.inner.lock().writers.entry(ino).or_default() += 1;
        let writing = Writing {
            turns: Arc::clone(self),
            ino,
        };
        loop {
            let over = self.fill_over.notified();
            tokio::pin!(over);
            over.as_mut().enable();
            if !self.inner.lock().fills.contains_key(&ino) {
                return writing;
            }
            over.await;
        }
    }

    /// As [`PageTurns::write`], for a write of the kernel's; `None` if a handle may write anyway,
    /// which the kernel keeps until the write is answered.
    pub async fn change(self: &Arc<Self>, ino: Ino) -> Option<Writing> {
        if self.inner.lock().writers.contains_key(&ino) {
            return None;
        }
        Some(self.write(ino).await)
    }

    /// Begins a fill, unless somebody may write to the file.
    pub fn try_fill(self: &Arc<Self>, ino: Ino) -> Option<Filling> {
        let inner = &mut *self.inner.lock();
        if inner.writers.contains_key(&ino) {
            return None;
        }
        *inner.fills.entry(ino).or_default() += 1;
        Some(Filling {
            turns: Arc::clone(self),
            ino,
        })
    }
}

fn count_down(counts: &mut HashMap<Ino, u32>, ino: Ino) {
    if let Some(count) = counts.get_mut(&ino) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&ino);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        count_down(&mut self.turns.inner.lock().writers, self.ino);
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        count_down(&mut self.turns.inner.lock().fills, self.ino);
        self.turns.fill_over.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Ino = Ino(7);

    #[tokio::test]
    async fn a_writer_waits_for_fills_and_keeps_others_from_beginning() {
        let turns = Arc::new(PageTurns::default());
        let (first, second) = (turns.try_fill(FILE), turns.try_fill(FILE));
        let mut writer = Box::pin(turns.write(FILE));
        assert!(futures::poll!(writer.as_mut()).is_pending());
        assert!(turns.try_fill(FILE).is_none(), "a writer waits");
        assert!(turns.try_fill(Ino(8)).is_some(), "another file");
        drop(first);
        assert!(futures::poll!(writer.as_mut()).is_pending());
        drop(second);
        let writing = writer.await;
        assert!(turns.try_fill(FILE).is_none());
        assert!(turns.change(FILE).await.is_none(), "covered by the handle");
        drop(writing);
        drop(turns.change(FILE).await.expect("a turn"));
        assert!(turns.try_fill(FILE).is_some());
    }

    #[tokio::test]
    async fn a_writer_that_gives_up_waiting_leaves_nothing() {
        let turns = Arc::new(PageTurns::default());
        let fill = turns.try_fill(FILE);
        {
            let mut writer = Box::pin(turns.write(FILE));
            assert!(futures::poll!(writer.as_mut()).is_pending());
        }
        drop(fill);
        assert!(turns.try_fill(FILE).is_some());
        let inner = turns.inner.lock();
        assert!(inner.writers.is_empty() && inner.fills.is_empty());
    }
}
