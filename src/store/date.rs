//! The date of an answer: by how much this machine's clock differs from the store's.

use std::sync::Arc;

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept, context::BeforeDeserializationInterceptorContextRef, dyn_dispatch_hint,
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use parking_lot::Mutex;

use super::{Store, StoreError, StoreErrorKind, request::on_bucket, skew::seconds};
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
        let dates = Dates::default();
        let seen = &dates;
        let asked = self.retrying(|_| async move {
            let before = clock::unix_seconds();
            let request = on_bucket!(self, head_bucket)
                .customize()
                .interceptor(seen.clone())
                .send();
            let counter = &self.inner.metrics.head_requests;
            let answer = self.plain(context, counter, request).await;
            // The answer was dated while it was under way.
            let now = before.midpoint(clock::unix_seconds());
            let difference = seen.0.lock().take().map(|theirs| now - theirs);
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

/// Notes the `Date` of an answer, in seconds since 1970.
#[derive(Clone, Debug, Default)]
struct Dates(Arc<Mutex<Option<i64>>>);

#[dyn_dispatch_hint]
impl Intercept for Dates {
    fn name(&self) -> &'static str {
        "Dates"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        *self.0.lock() = date.and_then(seconds);
        Ok(())
    }
}
