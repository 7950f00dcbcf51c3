//! Whether uploads succeed: what fsync must report although the data is kept and retried.

use tokio::sync::watch;

use crate::store::StoreError;

/// See the module's head.
pub(super) struct Health {
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

    /// An upload was refused for good, for now.
    pub(super) fn store_refused(&self, error: &StoreError) {
        self.refusal.send_modify(|refusals| {
            refusals.count += 1;
            refusals.last = Some(error.clone());
        });
    }

    /// An upload was accepted.
    pub(super) fn store_answered(&self) {
        self.refusal
            .send_if_modified(|refusals| refusals.last.take().is_some());
    }

    /// Resolves with the first refusal from now on.
    pub(super) async fn next_refusal(&self) -> StoreError {
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

    /// The refusal that stands now, if uploads fail at present.
    pub(super) fn refusal(&self) -> Option<StoreError> {
        self.refusal.borrow().last.clone()
    }
}
