//! The shape that all requests share: the bucket and key that they name, their counter, and one
//! attempt of them with its place in the line, its bound on standing still and its error.

use std::{error::Error, future::Future, time::Duration};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::{
    Store,
    attempt::{Direction, Progress, unless_stalled},
    classify::Context,
    retry::Failure,
};
use crate::telemetry::Counter;

/// A request of the SDK to the volume's bucket.
macro_rules! on_bucket {
    ($store:expr, $operation:ident) => {
        $store
            .inner
            .client
            .$operation()
            .bucket(&$store.inner.url.bucket)
    };
}
pub(super) use on_bucket;

/// A request of the SDK about one of the volume's objects.
macro_rules! on_object {
    ($store:expr, $operation:ident, $key:expr) => {
        $crate::store::request::on_bucket!($store, $operation).key($store.inner.url.full_key($key))
    };
}
pub(super) use on_object;

/// The part of the SDK's error that belongs to one operation.
pub(super) trait SdkCause: ProvideErrorMetadata + Error + Send + Sync + 'static {}

impl<E: ProvideErrorMetadata + Error + Send + Sync + 'static> SdkCause for E {}

/// How one attempt is watched.
pub(super) struct Watch<'a> {
    pub(super) direction: Direction,
    /// The attempt ends once nothing has moved for so long.
    pub(super) stall: Duration,
    pub(super) progress: &'a Progress,
}

impl Store {
    /// Names a request in errors.
    pub(super) fn context<'a>(&'a self, operation: &'static str, key: &'a str) -> Context<'a> {
        Context {
            operation,
            key,
            endpoint: &self.inner.endpoint,
        }
    }

    /// One attempt of a request that moves no body of size.
    pub(super) async fn plain<T, E: SdkCause>(
        &self,
        context: Context<'_>,
        counter: &Counter,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure> {
        let watch = Watch {
            direction: Direction::Neither,
            stall: self.inner.stall_timeout,
            progress: &Progress::new(),
        };
        self.attempt(context, counter, watch, request).await
    }

    /// One attempt of a request whose body reports its `progress`.
    pub(super) async fn upload<T, E: SdkCause>(
        &self,
        context: Context<'_>,
        counter: &Counter,
        progress: &Progress,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure> {
        let watch = Watch {
            direction: Direction::Upload,
            stall: self.inner.stall_timeout,
            progress,
        };
        self.attempt(context, counter, watch, request).await
    }

    /// One attempt of any request whose answer has no body that outlives it.
    pub(super) async fn attempt<T, E: SdkCause>(
        &self,
        context: Context<'_>,
        counter: &Counter,
        watch: Watch<'_>,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Failure> {
        // The SDK's futures are some 10 KiB: boxed, so that the futures of callers stay small.
        let request = Box::pin(request);
        let _flight = self.admit(watch.direction).await;
        counter.increment();
        let sent = self.sent(context.operation);
        let result = match unless_stalled(watch.stall, watch.progress, request).await {
            Some(result) => result.map_err(|error| context.classify(error)),
            None => Err(context.stalled(watch.stall)),
        };
        sent.ended(&result);
        result
    }
}
