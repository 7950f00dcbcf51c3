//! Regions that are larger than the memory for them: they are fetched to the local disk.
//!
//! Their frames go there as the store sends them. Each is opened when it is read, as all frames
//! there are, so one that was forged on its way is found then, dropped and asked for again.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::watch, task::AbortHandle};

use super::{Frames, object::ObjectHandle, sent::SentFrames};
use crate::{budget::Reservation, data::DataError, disk::DiskCache};

/// Memory of one such request: a frame in pieces, and the chunk that its end is in.
pub(crate) const TO_DISK_BYTES: u64 = 256 << 10;

/// One GET of whole frames, given up when this is dropped.
pub(crate) struct ToDisk {
    object: Arc<ObjectHandle>,
    frames: Range<u64>,
    has_ended: Arc<AtomicBool>,
    end: watch::Receiver<()>,
    task: AbortHandle,
}

impl ToDisk {
    /// Starts a fetch of `frames`, paid for by `reservation` ([`TO_DISK_BYTES`]).
    pub(crate) fn start(
        memory: &Arc<Frames>,
        disk: DiskCache,
        object: Arc<ObjectHandle>,
        frames: Range<u64>,
        reservation: Reservation,
    ) -> ToDisk {
        let (ending, end) = watch::channel(());
        let has_ended = Arc::new(AtomicBool::new(false));
        let work = run(memory.clone(), disk, object.clone(), frames.clone());
        let ended = has_ended.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = work.await {
                // Nobody waits for these frames: a reader that misses one asks for it, and hears of
                // the error.
                tracing::debug!("a region was not fetched to the local disk: {error}");
            }
            drop(reservation);
            ended.store(true, Ordering::Release);
            drop(ending);
        });
        ToDisk {
            object,
            frames,
            has_ended,
            end,
            task: task.abort_handle(),
        }
    }

    /// Will it bring this frame?
    pub(crate) fn brings(&self, object: &ObjectHandle, frame: u64) -> bool {
        self.object.id == object.id && self.frames.contains(&frame)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Returns when it has ended, or was dropped, which this does not prevent.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut end = self.end.clone();
        async move {
            // An error means that the task is gone.
            while end.changed().await.is_ok() {}
        }
    }
}

impl Drop for ToDisk {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(
    memory: Arc<Frames>,
    disk: DiskCache,
    object: Arc<ObjectHandle>,
    frames: Range<u64>,
) -> Result<(), DataError> {
    let mut frame = frames.start;
    let mut sent = SentFrames::ask(&memory, &object, frames).await?;
    while let Some(sealed) = sent.next().await? {
        // Frames come no faster than the disk writes them.
        if !memory.guess_on_disk(&disk, object.id, frame, sealed).await {
            break;
        }
        frame += 1;
    }
    Ok(())
}
