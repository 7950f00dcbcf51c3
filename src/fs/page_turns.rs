//! Turns at the pages that the kernel has of a file.
//!
//! Pages that are handed to the kernel unasked ([`super::fill`]) replace those that it has, newer
//! ones too. So they are handed over only while nobody may write to the file: a handle that may
//! write, and a change of size without a handle, wait until the fills under way are over, and keep
//! new ones from beginning.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

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
    /// Readings whose bytes are to be handed over, by inode; no list is empty.
    readings: HashMap<Ino, Vec<Weak<AtomicBool>>>,
}

impl Inner {
    /// Somebody may write to the file from now on.
    fn begin_writing(&mut self, ino: Ino) {
        *self.writers.entry(ino).or_default() += 1;
        for reading in self.readings.remove(&ino).unwrap_or_default() {
            if let Some(is_stale) = reading.upgrade() {
                is_stale.store(true, Ordering::Relaxed);
            }
        }
    }
}

/// The memory of a writer: its turn, and its place in the table twice.
pub const WRITER_BYTES: u64 = 64;

/// Somebody may write to the file, until this is dropped.
pub struct Writing {
    turns: Arc<PageTurns>,
    ino: Ino,
}

/// Bytes of the file were read, and are to be handed to the kernel.
pub struct Reading {
    turns: Arc<PageTurns>,
    ino: Ino,
    is_stale: Arc<AtomicBool>,
}

/// Pages of the file are handed to the kernel, until this is dropped.
pub struct Filling {
    turns: Arc<PageTurns>,
    ino: Ino,
}

impl PageTurns {
    /// Waits until no pages of the file are being handed to the kernel. None are from then on.
    pub async fn write(self: &Arc<Self>, ino: Ino) -> Writing {
        self.inner.lock().begin_writing(ino);
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

    /// Bytes are going to be read that are to be handed over later. `None` if somebody may write to
    /// the file.
    pub fn try_read(self: &Arc<Self>, ino: Ino) -> Option<Reading> {
        let inner = &mut *self.inner.lock();
        if inner.writers.contains_key(&ino) {
            return None;
        }
        let is_stale = Arc::new(AtomicBool::new(false));
        let readings = inner.readings.entry(ino).or_default();
        readings.retain(|reading| reading.strong_count() > 0);
        readings.push(Arc::downgrade(&is_stale));
        Some(Reading {
            turns: Arc::clone(self),
            ino,
            is_stale,
        })
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

impl Reading {
    /// Begins a fill with what was read, unless somebody may have written to the file since.
    pub fn try_fill(&self) -> Option<Filling> {
        // In this order: a writer marks this as stale before it could end.
        let filling = self.turns.try_fill(self.ino)?;
        (!self.is_stale.load(Ordering::Relaxed)).then_some(filling)
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

impl Drop for Reading {
    fn drop(&mut self) {
        let inner = &mut *self.turns.inner.lock();
        if let Some(readings) = inner.readings.get_mut(&self.ino) {
            let own = Arc::as_ptr(&self.is_stale);
            readings.retain(|reading| reading.as_ptr() != own);
            if readings.is_empty() {
                inner.readings.remove(&self.ino);
            }
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
    async fn what_was_read_before_a_write_is_not_handed_over_after_it() {
        let turns = Arc::new(PageTurns::default());
        let other = turns.try_read(Ino(8)).expect("nobody writes");
        let (stale, dropped) = (turns.try_read(FILE), turns.try_read(FILE));
        let stale = stale.expect("nobody writes");
        drop(dropped);
        let writing = turns.write(FILE).await;
        assert!(stale.try_fill().is_none(), "a writer is there");
        assert!(turns.try_read(FILE).is_none(), "a writer is there");
        drop(writing);
        assert!(stale.try_fill().is_none(), "a writer was there");
        let fresh = turns.try_read(FILE).expect("nobody writes any more");
        assert!(fresh.try_fill().is_some());
        assert!(other.try_fill().is_some(), "another file");
        drop((stale, fresh, other));
        assert!(turns.inner.lock().readings.is_empty());
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
