//! Notes on this machine the state that is durable in the store, as soon as it is.
//!
//! Each flush of the log that made something durable wakes a thread, which writes a line to a local
//! file ([`Trust::note_state`], some tens of microseconds, no access to the disk). Flushes that end
//! while it writes share the next note, so no flush waits for one. A flush is acknowledged a moment
//! before it is noted: a kill in between forgets that flush and no earlier one.
//!
//! It is a thread and not a task: a task would hand each note to a thread and wait for it, which
//! costs the next flush four times as much processor time.

use std::{sync::Arc, thread};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::report::Shared;
use crate::session::{
    failure::Failure,
    state::{Known, Trust},
};

/// Notes until it is dropped.
pub(super) struct Notes {
    shared: Arc<Shared>,
    trust: Trust,
    /// The header, which does not change while it is mounted, and the state that was noted last.
    last: Arc<Mutex<Known>>,
    ended: CancellationToken,
}

impl Notes {
    /// Notes every state that becomes durable after `found`.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(shared: Arc<Shared>, trust: Trust, found: Known) -> Result<Notes, Failure> {
        let notes = Notes {
            shared,
            trust,
            last: Arc::new(Mutex::new(found)),
            ended: CancellationToken::new(),
        };
        let follow = {
            let (shared, trust) = (Arc::clone(&notes.shared), notes.trust.clone());
            let (last, ended) = (Arc::clone(&notes.last), notes.ended.clone());
            let runtime = Handle::current();
            move || runtime.block_on(ended.run_until_cancelled(follow(shared, trust, last)))
        };
        thread::Builder::new()
            .name("note".into())
            .spawn(follow)
            .map_err(|error| Failure::unexpected(format!("cannot start a thread: {error}")))?;
        Ok(notes)
    }

    /// Notes the state that was found too. To be called once the volume is mounted: a rollback that
    /// the user accepted counts only then.
    pub fn adopt(&self) {
        self.trust.adopt(&self.last.lock());
    }

    /// Notes the last known state, at the end.
    pub fn note(&self) {
        let mut last = self.last.lock();
        last.state = self.shared.state_seen();
        self.trust.note(&last);
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

async fn follow(shared: Arc<Shared>, trust: Trust, last: Arc<Mutex<Known>>) {
    loop {
        let generation = last.lock().state.generation;
        if shared.meta.newer_than(generation).await.is_none() {
            return;
        }
        let mut last = last.lock();
        last.state = shared.state_seen();
        trust.note_state(last.volume, &last.state);
    }
}
