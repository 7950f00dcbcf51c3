//! The commit of one operation's batch.
//!
//! Promises: a batch is applied whole or not at all. The caches and the totals follow it before the
//! operation returns. Both hold even if the caller goes away in the middle (its future is dropped),
//! because the commit runs in a task of its own and holds the operation's locks until it is over.

use super::{
    Meta, MetaError,
    schema::{self, Table},
    state::{change::Change, locks::Held},
    volume::Inner,
};

impl Meta {
    /// Applies the batch. `held` keeps other operations out until it is over.
    pub(in crate::meta) async fn commit(
        &self,
        change: Change,
        held: Held,
    ) -> Result<(), MetaError> {
        if change.is_empty() {
            return Ok(());
        }
        let inner = self.inner.clone();
        let task = tokio::spawn(async move {
            let result = inner.apply(change).await;
            drop(held);
            result
        });
        match task.await {
            Ok(result) => result,
            // The runtime is going down, or the task panicked, which is a bug. Either way the
            // outcome is not known.
            Err(_) => Err(MetaError::Store("a commit was cut off".into())),
        }
    }
}

impl Inner {
    async fn apply(&self, mut change: Change) -> Result<(), MetaError> {
        // Every batch that changes the totals carries their row, so they are exact whatever a crash
        // leaves. Such batches are written in the order in which they were counted.
        let mut totals = None;
        if change.counts() {
            let guard = self.totals.lock().await;
            let next = change.counted_onto(*guard);
            change.put(Table::Totals.single(), schema::encode_totals(&next));
            totals = Some((guard, next));
        }
        let (batch, cache, replacements) = change.into_parts();
        let written = self.backing.write(batch).await;
        match written {
            Ok(sequence) => {
                if let Some((mut guard, next)) = totals {
                    *guard = next;
                    *self.totals_shown.lock() = next;
                }
                self.caches.apply(cache);
                self.replacements.apply(replacements);
                self.durability.changed(sequence);
                Ok(())
            }
            Err(error) => {
                // SlateDB fails a write only when it is closed for good.
                self.caches.clear();
                Err(self.record_fencing(error))
            }
        }
    }
}
