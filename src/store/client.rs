//! The one client.

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use aws_sdk_s3::{Client, config::SharedHttpClient};
use tokio::sync::Semaphore;

use super::{
    Retry, S3Url, StoreConfig, StoreError,
    connect::{Connected, connect},
    health::Health,
    rate::Limit,
    retry::Outage,
};
use crate::{record::Recorder, telemetry::Metrics};

/// The store, cheap to clone: all clones share one client.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) inner: Arc<Inner>,
    pub(super) retry: Retry,
}

/// The state that all clones share.
pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) url: S3Url,
    pub(super) endpoint: String,
    pub(super) is_aws: bool,
    pub(super) region: String,
    recorder: Option<Recorder>,
    pub(super) stall_timeout: Duration,
    pub(super) upload_limit: Option<Arc<Limit>>,
    pub(super) download_limit: Option<Arc<Limit>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) permits: Arc<Semaphore>,
    /// The holder of its one permit may take a LIST page, which may be large.
    pub(super) listing: Semaphore,
    pub(super) outage: Outage,
    log_health: Health,
    /// The store was found to lack DeleteObjects.
    pub(super) deletes_singly: AtomicBool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Makes the client; sends nothing to the store yet.
    ///
    /// # Errors
    /// `Tls` for a CA bundle that cannot be used, `Other` for an endpoint that is no URL or for AWS
    /// without a region.
    pub async fn connect(config: StoreConfig, metrics: Arc<Metrics>) -> Result<Store, StoreError> {
        Store::connect_recording(config, metrics, None).await
    }

    /// As [`Store::connect`]; all requests are recorded.
    ///
    /// # Errors
    /// The same.
    pub async fn connect_recording(
        config: StoreConfig,
        metrics: Arc<Metrics>,
        recorder: Option<Recorder>,
    ) -> Result<Store, StoreError> {
        let connected = connect(&config, None, recorder).await?;
        Ok(Store::over(connected, config, metrics))
    }

    /// As [`Store::connect`], with `network` in place of the connection pool: for simulations.
    #[doc(hidden)]
    pub async fn connect_through(
        network: SharedHttpClient,
        config: StoreConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Store, StoreError> {
        let connected = connect(&config, Some(network), None).await?;
        Ok(Store::over(connected, config, metrics))
    }

    pub(super) fn over(connected: Connected, config: StoreConfig, metrics: Arc<Metrics>) -> Store {
        let Connected {
            client,
            endpoint,
            is_aws,
            region,
            recorder,
        } = connected;
        let inner = Inner {
            client,
            url: config.url,
            endpoint,
            is_aws,
            region,
            recorder,
            stall_timeout: config.stall_timeout,
            upload_limit: Limit::new(config.rates.upload),
            download_limit: Limit::new(config.rates.download),
            metrics,
            permits: Arc::new(Semaphore::new(
                config.connections_max.clamp(1, Semaphore::MAX_PERMITS),
            )),
            listing: Semaphore::new(1),
            outage: Outage::default(),
            log_health: Health::new(),
            deletes_singly: AtomicBool::new(false),
        };
        Store {
            inner: Arc::new(inner),
            retry: config.retry,
        }
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_retry(&self, retry: Retry) -> Store {
        Store {
            inner: Arc::clone(&self.inner),
            retry,
        }
    }

    /// The counters that this store writes.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// Whether the metadata's log gets into the store.
    pub fn log_health(&self) -> &Health {
        &self.inner.log_health
    }

    /// The recording of its requests, if there is one.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.inner.recorder.as_ref()
    }

    /// The failure that has repeated itself until just now, for `status`.
    pub fn trouble(&self) -> Option<String> {
        self.inner.outage.trouble()
    }

    /// The endpoint: its URL, or AWS and the region.
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    /// Whether the endpoint is AWS itself.
    pub fn is_aws(&self) -> bool {
        self.inner.is_aws
    }

    /// Where it points.
    pub fn url(&self) -> &S3Url {
        &self.inner.url
    }
}
