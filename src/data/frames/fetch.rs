//! One ranged GET of whole frames, opened frame by frame as its body arrives.
//!
//! A fetch lives as long as somebody holds it: a reader that waits for one of its frames, or a
//! readahead window. When the last holder lets go, its task is aborted, the body dropped and what
//! was not delivered is back in the budget. Frames are delivered in order.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    Frames,
    block::{FrameBytes, is_one_block},
    cache::FrameId,
    filling::{Block, Kept},
    object::ObjectHandle,
    sent::SentFrames,
};
use crate::{budget::Reservation, data::DataError, seal::SealError, store::MISSING_TRIES};

/// See the module's head.
pub(crate) struct Fetch {
    memory: Arc<Frames>,
    object: Arc<ObjectHandle>,
    frames: Range<u64>,
    kept: Kept,
    delivered: Mutex<Vec<FrameBytes>>,
    state: watch::Sender<State>,
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Clone, Default)]
struct State {
    delivered: u64,
    failed: Option<Arc<DataError>>,
}

impl State {
    fn has_ended(&self, frames: &Range<u64>) -> bool {
        self.failed.is_some() || self.delivered >= frames.end - frames.start
    }
}

/// Fetches under way, by frame, so that nobody asks for a frame that is coming already. Bounded by
/// the fetches alive.
#[derive(Default)]
pub(crate) struct FetchTable {
    frames: Mutex<HashMap<FrameId, Weak<Fetch>>>,
}

impl FetchTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.lock().is_empty()
    }

    /// The fetch that brings a frame. A fetch that failed brings nothing: those who want the frame
    /// ask the store again.
    pub(crate) fn get(&self, frame: FrameId) -> Option<Arc<Fetch>> {
        let fetch = self.frames.lock().get(&frame).and_then(Weak::upgrade)?;
        let failed = fetch.state.borrow().failed.is_some();
        (!failed).then_some(fetch)
    }
}

impl Fetch {
    /// Starts a fetch of `frames` of `object`, paid for by `reservation` (at least the frames'
    /// plaintext).
    pub(crate) fn start(
        memory: &Arc<Frames>,
        object: Arc<ObjectHandle>,
        frames: Range<u64>,
        reservation: Reservation,
        kept: Kept,
    ) -> Arc<Fetch> {
        let fetch = Arc::new(Fetch {
            memory: memory.clone(),
            object,
            frames: frames.clone(),
            kept: kept.clone(),
            delivered: Mutex::new(Vec::with_capacity((frames.end - frames.start) as usize)),
            state: watch::channel(State::default()).0,
            task: Mutex::new(None),
        });
        {
            let mut table = memory.fetches.frames.lock();
            for frame in frames {
                table.insert((fetch.object.id, frame), Arc::downgrade(&fetch));
            }
        }
        let task = tokio::spawn(run(
            memory.clone(),
            Arc::downgrade(&fetch),
            fetch.object.clone(),
            fetch.frames.clone(),
            reservation,
            kept,
        ));
        *fetch.task.lock() = Some(task.abort_handle());
        memory.fetched.notify_one();
        fetch
    }

    /// Do these frames, all of this fetch, come in one piece of memory?
    pub(crate) fn brings_in_one_piece(&self, frames: &Range<u64>) -> bool {
        frames.end - frames.start == 1 || (self.kept == Kept::Nowhere && is_one_block(frames))
    }

    /// Bytes of the frames that have not come yet.
    pub(crate) fn outstanding_bytes(&self) -> u64 {
        let come = self.delivered.lock().len() as u64;
        (self.frames.start + come..self.frames.end)
            .map(|frame| self.object.layout.frame_plaintext_len(frame))
            .sum()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state.borrow().has_ended(&self.frames)
    }

    /// Returns when it has brought everything, failed, or was dropped, which this does not prevent.
    pub(crate) fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut state = self.state.subscribe();
        let frames = self.frames.clone();
        async move {
            // An error means that it was dropped.
            let _ = state.wait_for(|state| state.has_ended(&frames)).await;
        }
    }

    /// Hands the next frames to the readers that wait.
    pub(crate) fn hand_over(&self, frames: impl IntoIterator<Item = FrameBytes>) {
        let delivered = {
            let mut delivered = self.delivered.lock();
            delivered.extend(frames);
            delivered.len() as u64
        };
        self.state.send_modify(|state| state.delivered = delivered);
    }

    /// Waits for one frame.
    pub(crate) async fn frame(&self, frame: u64) -> Result<FrameBytes, Arc<DataError>> {
        let index = frame - self.frames.start;
        let mut state = self.state.subscribe();
        let seen = state
            .wait_for(|state| state.delivered > index || state.failed.is_some())
            .await
            .map(|state| state.clone());
        let delivered = self.delivered.lock().get(index as usize).cloned();
        if let Some(bytes) = delivered {
            if self.kept != Kept::Nowhere {
                self.memory.cache.note_read((self.object.id, frame));
            }
            return Ok(bytes);
        }
        match seen {
            Ok(State {
                failed: Some(error),
                ..
            }) => Err(error),
            _ => Err(Arc::new(DataError::Internal("a fetch ended early".into()))),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
        let mut table = self.memory.fetches.frames.lock();
        for frame in self.frames.clone() {
            let key = (self.object.id, frame);
            // The entry may belong to a later fetch of the same frame by now.
            if table
                .get(&key)
                .is_some_and(|listed| std::ptr::eq(listed.as_ptr(), self))
            {
                table.remove(&key);
            }
        }
    }
}

async fn run(
    memory: Arc<Frames>,
    fetch: Weak<Fetch>,
    object: Arc<ObjectHandle>,
    frames: Range<u64>,
    reservation: Reservation,
    kept: Kept,
) {
    let mut delivery = Delivery {
        block: Block::begin(&memory, &object, frames.clone(), &kept),
        memory: memory.clone(),
        fetch: fetch.clone(),
        object,
        end: frames.end,
        reservation,
        kept,
    };
    let mut backoff = memory.shared.store.backoff();
    let mut missing = 0;
    let failure = loop {
        let until = match delivery.take_from_disk().await {
            Ok(until) => until,
            Err(failure) => break failure,
        };
        if delivery.has_ended() {
            return;
        }
        let before = delivery.next();
        match delivery.take_from_store(until).await {
            Ok(()) if delivery.has_ended() => return,
            // The next frames are on the disk.
            Ok(()) if delivery.next() >= until => {}
            // The body ended early or the connection broke: go on after what came. A store whose
            // bodies bring nothing is asked less and less often.
            Ok(()) => {
                let brought = delivery.object.layout.stored_range(before..delivery.next());
                backoff.pause(brought.end - brought.start).await;
            }
            Err(DataError::Seal(SealError::Missing { .. })) if missing + 1 < MISSING_TRIES => {
                missing += 1;
                backoff.pause(0).await;
            }
            Err(failure) => break failure,
        }
    };
    if let DataError::Seal(cause) = &failure {
        memory.note_unreadable(cause);
    }
    if let Some(fetch) = fetch.upgrade() {
        fetch
            .state
            .send_modify(|state| state.failed = Some(Arc::new(failure)));
    }
}

/// Frames on their way to those who wait, in order.
pub(crate) struct Delivery {
    pub(crate) memory: Arc<Frames>,
    fetch: Weak<Fetch>,
    pub(crate) object: Arc<ObjectHandle>,
    pub(crate) end: u64,
    reservation: Reservation,
    kept: Kept,
    block: Block,
}

impl Delivery {
    /// The frame that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.block.next_frame()
    }

    fn has_ended(&self) -> bool {
        self.next() >= self.end
    }

    /// Opens the next frame, and delivers its block if that is full now.
    pub(crate) fn take(&mut self, sealed: &[u8]) -> Result<(), DataError> {
        self.block.open(&self.object, sealed)?;
        if self.block.is_full() {
            let rest = self.next()..self.end;
            let rest = Block::begin(&self.memory, &self.object, rest, &self.kept);
            let full = std::mem::replace(&mut self.block, rest);
            let gone = || DataError::Internal("nobody waits for this fetch any more".into());
            let fetch = self.fetch.upgrade().ok_or_else(gone)?;
            let paid = &mut self.reservation;
            fetch.hand_over(full.share(&self.memory, &self.object, paid, &self.kept));
        }
        Ok(())
    }

    /// One GET up to frame `until`; delivers the frames that come. Ends early without an error if
    /// the connection breaks.
    async fn take_from_store(&mut self, until: u64) -> Result<(), DataError> {
        let frames = self.next()..until;
        let mut sent = SentFrames::ask(&self.memory, &self.object, frames).await?;
        while let Some(sealed) = sent.next().await? {
            let frame = self.next();
            self.take(sealed)?;
            let in_order = self.kept == Kept::Nowhere;
            self.memory
                .put_on_disk(self.object.id, frame, sealed, in_order);
        }
        Ok(())
    }
}
