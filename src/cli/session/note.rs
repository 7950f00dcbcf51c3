//! Noting on this machine what is durable in the store, as soon as it is.
//!
//! Each flush of the log that made something durable wakes a task, which writes a line to a local
//! file ([`Trust::note_state`], some tens of microseconds, no access to the disk).
//! Flushes that end while it writes share the next note, so no flush waits for one. A flush is
//! acknowledged a moment before it is noted: a kill in between forgets that flush and no earlier
//! one.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::report::Shared;
use crate::cli::state::{Known, Trust};

/// Notes until it is dropped.
pub(super) struct Noting {
    shared: Arc<Shared>,
    trust: Trust,
    /// The header, which does not change while it is mounted, and the state that was noted last.
    noted: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

impl Noting {
    /// Adopts `found`, and notes whatever becomes durable from then on.
    pub fn start(shared: Arc<Shared>, trust: Trust, found: Known) -> Noting {
        trust.adopt(&found);
        let noted = Arc::new(Mutex::new(found));
        let task = tokio::spawn(follow(
            Arc::clone(&shared),
            trust.clone(),
            Arc::clone(&noted),
        ));
        Noting {
            shared,
            trust,
            noted,
            task,
        }
    }

    /// Notes at the end all that is known.
    pub fn note(&self) {
        let mut noted = self.noted.lock();
        noted.state = self.shared.state_seen();
        self.trust.note(&noted);
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(shared: Arc<Shared>, trust: Trust, noted: Arc<Mutex<Known>>) {
    loop {
        let generation = noted.lock().state.generation;
        if shared.meta.newer_than(generation).await.is_none() {
            return;
        }
        let (shared, trust, noted) = (Arc::clone(&shared), trust.clone(), Arc::clone(&noted));
        if tokio::task::spawn_blocking(move || note(&shared, &trust, &noted))
            .await
            .is_err()
        {
            return;
        }
    }
}

fn note(shared: &Shared, trust: &Trust, noted: &Mutex<Known>) {
    let mut noted = noted.lock();
    noted.state = shared.state_seen();
    trust.note_state(noted.volume, &noted.state);
}
