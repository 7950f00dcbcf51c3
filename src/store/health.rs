//! Whether the metadata's log gets into the store: fsync must report a failure of it, although the
//! log is kept and its upload repeated.
//!
//! The metadata store repeats its PUTs for ever, so the sealed store below it reports each outcome
//! here.

use tokio::sync::watch;

use super::StoreError;

/// See the module's head.
pub struct Health {
    refusal: watch::Sender<Refusals>,
}

#[derive(Clone, Default)]
struct Refusals {
    count: u64,
    last: Option<StoreError>,
}

impl Health {
    pub(super) fn new() -> Health {
        Health {
            refusal: watch::channel(Refusals::default()).0,
        }
    }

    /// The store refused an upload for good, for now.
    pub fn store_refused(&self, error: &StoreError) {
        self.refusal.send_modify(|refusals| {
            refusals.count += 1;
            refusals.last = Some(error.clone());
        });
    }

    /// An upload was accepted.
    pub fn store_answered(&self) {
        self.refusal
            .send_if_modified(|refusals| refusals.last.take().is_some());
    }

    /// Records how an upload ended that is repeated for ever. A condition that did not hold counts
    /// as an answer.
    pub fn upload_ended<T>(&self, outcome: &Result<T, StoreError>) {
        match outcome {
            Err(error) if !error.kind.is_an_answer() => self.store_refused(error),
            _ => self.store_answered(),
        }
    }

    /// Resolves with the first refusal from now on.
    pub async fn next_refusal(&self) -> StoreError {
        let mut changes = self.refusal.subscribe();
        let seen = changes.borrow_and_update().count;
        loop {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let now = changes.borrow_and_update().clone();
            if let (true, Some(error)) = (now.count > seen, now.last) {
                return error;
            }
        }
    }

    /// How many refusals there were.
    pub fn refusals(&self) -> u64 {
        self.refusal.borrow().count
    }

    /// The refusal that stands now, if uploads fail at present.
    pub fn refusal(&self) -> Option<StoreError> {
        self.refusal.borrow().last.clone()
    }
}
