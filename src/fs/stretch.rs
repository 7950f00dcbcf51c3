//! Stretches of files that lie scattered: they are read in order and handed to the kernel, because
//! small reads in no order miss so much of them (`data/readahead/stretches.rs` decides).
//!
//! Promises, as of [`super::fill`]: the kernel never gets older bytes than it has. One stretch is
//! read at a time. It ends when the handle is closed that it is read for,
//! and when it takes too long.

use std::{
    ops::Range,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};

use super::{Fs, PageCacheFiller, page_turns::PageTurns, table::FileHandle};
use crate::{
    data::{Data, Stretch},
    meta::Ino,
    telemetry::Metrics,
};

/// Bytes that are read at once: each of their pages may lie in a frame of its own.
const READ: u32 = 256 << 10;

/// Bytes that are handed over at once. The kernel interface copies them.
const PIECE: usize = 64 << 10;

/// Stretches that wait for their turn, with the one that is read. Others are left out: their misses
/// go on, and are counted anew.
const WAITING_MAX: usize = 8;

/// A handle that is closed is noticed within this.
const NOTICED_WITHIN: Duration = Duration::from_millis(100);

/// See the module's head.
pub struct Stretches {
    places: Arc<Semaphore>,
    turn: Semaphore,
}

impl Stretches {
    pub fn new() -> Stretches {
        Stretches {
            places: Arc::new(Semaphore::new(WAITING_MAX)),
            turn: Semaphore::new(1),
        }
    }
}

/// A stretch on its way to the kernel. It does not keep the handle open, and ends with it.
struct HandOver {
    data: Data,
    turns: Arc<PageTurns>,
    filler: Arc<dyn PageCacheFiller>,
    metrics: Arc<Metrics>,
    handle: Weak<FileHandle>,
    stretch: Stretch,
}

impl Fs {
    /// Begins to read a stretch of a file and to hand it to the kernel, when it is its turn.
    pub(super) fn hand_over(
        &self,
        stretch: Stretch,
        handle: &Arc<FileHandle>,
        filler: &Arc<dyn PageCacheFiller>,
    ) {
        let Ok(place) = Arc::clone(&self.inner.stretches.places).try_acquire_owned() else {
            return;
        };
        let hand_over = HandOver {
            data: self.data().clone(),
            turns: Arc::clone(&self.inner.page_turns),
            filler: Arc::clone(filler),
            metrics: Arc::clone(&self.inner.metrics),
            handle: Arc::downgrade(handle),
            stretch,
        };
        let stretches = Arc::clone(&self.inner.stretches);
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = closed(hand_over.handle.clone()) => {}
                () = async {
                    let _turn = stretches.turn.acquire().await;
                    hand_over.run().await;
                } => {}
            }
        });
    }
}

/// Returns when the handle is closed.
async fn closed(handle: Weak<FileHandle>) {
    while handle.strong_count() > 0 {
        tokio::time::sleep(NOTICED_WITHIN).await;
    }
}

impl HandOver {
    async fn run(&self) {
        let Some(ino) = self.handle.upgrade().map(|handle| handle.ino) else {
            return;
        };
        let mut outcome = "to its end".to_owned();
        let all = async {
            for range in &self.stretch.ranges {
                self.hand_over(ino, range.clone()).await?;
            }
            Ok(())
        };
        match timeout(self.stretch.time_max, all).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => outcome = why,
            Err(_) => "it takes too long".clone_into(&mut outcome),
        }
        tracing::debug!(
            "handed {:?} of inode {} to the kernel: {outcome}",
            self.stretch.ranges,
            ino.0
        );
    }

    /// Until the end of the range; or until somebody may write to the file, or a read fails.
    async fn hand_over(&self, ino: Ino, range: Range<u64>) -> Result<(), String> {
        let file = self.data.open_at(ino, range.start);
        let mut at = range.start;
        while at < range.end {
            let len = u64::from(READ).min(range.end - at) as u32;
            let Some(reading) = self.turns.try_read(ino) else {
                return Err(format!("at {at} somebody writes"));
            };
            let reply = self.data.read(&file, at, len).await;
            let reply = reply.map_err(|error| format!("at {at} {error}"))?;
            let len = reply.bytes.len();
            if len == 0 {
                return Err(format!("at {at} the file ends"));
            }
            let filler = Arc::clone(&self.filler);
            let handed_over = tokio::task::spawn_blocking(move || {
                let _turn = reading.try_fill()?;
                for (offset, piece) in (at..).step_by(PIECE).zip(reply.bytes.chunks(PIECE)) {
                    filler.store(ino, offset, piece);
                }
                Some(())
            });
            if !matches!(handed_over.await, Ok(Some(()))) {
                return Err(format!("at {at} somebody wrote"));
            }
            self.metrics.page_fill_bytes.add(len as u64);
            self.stretch.kept(at..at + len as u64);
            at += len as u64;
        }
        Ok(())
    }
}
