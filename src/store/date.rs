//! The date of an answer: by how much this machine's clock differs from the store's.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{
    Store, StoreError, StoreErrorKind, layer::on_answer, request::on_bucket, skew::seconds,
};
use crate::clock;

impl Store {
    /// Asks for the bucket's head. Returns by how many seconds this machine's clock is ahead of the
    /// store's (negative: behind), also if the store refuses; `None` if its answer has no date.
    ///
    /// # Errors
    /// `Unreachable`, `Tls`, `Foreign`, `Unavailable`, `NoCredentials`: there was no answer, or it
    /// did not come from an S3 store.
    pub async fn clock_difference(&self) -> Result<Option<i64>, StoreError> {
        use StoreErrorKind::{Foreign, NoCredentials, Tls, Unavailable, Unreachable};
        let context = self.context("HeadBucket", &self.inner.url.bucket);
        // The date of the last answer, in seconds since 1970.
        let date = Arc::new(Mutex::new(None));
        let seen = &date;
        let asked = self.retrying(|_| async move {
            let before = clock::unix_seconds();
            let noted = Arc::clone(seen);
            let note = on_answer(move |answer| {
                *noted.lock() = answer.headers().get("date").and_then(seconds);
                Ok(())
            });
            let request = on_bucket!(self, head_bucket);
            let request = request.customize().interceptor(note).send();
            let counter = &self.inner.metrics.head_requests;
            let answer = self.plain(context, counter, request).await;
            // The answer was dated while it was under way.
            let now = before.midpoint(clock::unix_seconds());
            let difference = seen.lock().take().map(|theirs| now - theirs);
            match answer {
                Err(failure)
                    if matches!(
                        failure.error.kind,
                        Unreachable | Tls | Foreign | Unavailable | NoCredentials
                    ) =>
                {
                    Err(failure)
                }
                _ => Ok(difference),
            }
        });
        asked.await
    }
}
