//! The one client.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use aws_sdk_s3::{
    Client,
    config::SharedHttpClient,
    types::{BucketLocationConstraint, CreateBucketConfiguration},
};
use tokio::sync::Semaphore;

use super::{
    Retry, S3Url, StoreError, StoreErrorKind,
    connect::{Connected, connect},
    health::Health,
    request::on_bucket,
    retry::Outage,
};
use crate::telemetry::Metrics;

/// Where and how to reach the store; unset fields come from where AWS users have them
/// (environment, profiles, instance roles).
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Bucket and prefix.
    pub url: S3Url,
    /// `--endpoint-url`.
    pub endpoint_url: Option<String>,
    /// `--region`.
    pub region: Option<String>,
    /// `--profile`: then the only source of credentials.
    pub profile: Option<String>,
    /// `--ca-bundle`: PEM file of certificate authorities to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// `--path-style`; unset: path style where the endpoint is not AWS.
    pub path_style: Option<bool>,
    /// The longest that one request may go without any progress.
    pub stall_timeout: Duration,
    /// Connections kept or opened at once, at most. A [`super::Body`] holds one until its end or
    /// its drop.
    pub connections_max: usize,
    /// How failures that may pass are handled.
    pub retry: Retry,
}

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
    is_aws: bool,
    region: String,
    pub(super) stall_timeout: Duration,
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
        let connected = connect(&config, None).await?;
        Ok(Store::over(connected, config, metrics))
    }

    /// As [`Store::connect`], with `network` in place of the connection pool: for simulations.
    #[doc(hidden)]
    pub async fn connect_through(
        network: SharedHttpClient,
        config: StoreConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Store, StoreError> {
        let connected = connect(&config, Some(network)).await?;
        Ok(Store::over(connected, config, metrics))
    }

    pub(super) fn over(connected: Connected, config: StoreConfig, metrics: Arc<Metrics>) -> Store {
        let Connected {
            client,
            endpoint,
            is_aws,
            region,
        } = connected;
        let inner = Inner {
            client,
            url: config.url,
            endpoint,
            is_aws,
            region,
            stall_timeout: config.stall_timeout,
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

    /// The failure that has repeated itself until just now, for `status`.
    pub fn trouble(&self) -> Option<String> {
        self.inner.outage.trouble()
    }

    /// The endpoint: its URL, or AWS and the region.
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    /// Where it points.
    pub fn url(&self) -> &S3Url {
        &self.inner.url
    }

    /// HeadBucket: does the bucket exist and may we use it?
    ///
    /// # Errors
    /// `NoBucket`, `NoCredentials`, `BadCredentials`, `Denied`, `Unreachable`, `Tls`.
    pub async fn check_bucket(&self) -> Result<(), StoreError> {
        let context = self.context("HeadBucket", &self.inner.url.bucket);
        let checked = self.retrying(|_| async {
            let request = on_bucket!(self, head_bucket);
            self.plain(context, &self.inner.metrics.head_requests, request.send())
                .await
                .map(drop)
        });
        match checked.await {
            // An answer to HEAD has no body that would say why: ask again with a listing.
            Err(error) if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Other) => {
                match self.list_raw("", None, 1).await {
                    Err(reason) if reason.kind != StoreErrorKind::Other => Err(reason),
                    _ => Err(error),
                }
            }
            result => result,
        }
    }

    /// CreateBucket (with the region's location constraint where that is needed). A bucket that
    /// this account owns already is no error.
    ///
    /// # Errors
    /// As [`Store::check_bucket`]; `Other` if the name is taken by somebody else.
    pub async fn create_bucket(&self) -> Result<(), StoreError> {
        let context = self.context("CreateBucket", &self.inner.url.bucket);
        let constraint = (self.inner.is_aws && self.inner.region != "us-east-1").then(|| {
            let region = BucketLocationConstraint::from(self.inner.region.as_str());
            CreateBucketConfiguration::builder()
                .location_constraint(region)
                .build()
        });
        self.retrying(|_| async {
            let mut request = on_bucket!(self, create_bucket);
            request = request.set_create_bucket_configuration(constraint.clone());
            match self
                .plain(context, &self.inner.metrics.put_requests, request.send())
                .await
            {
                Ok(_) => Ok(()),
                Err(failure) if failure.has_code("BucketAlreadyOwnedByYou") => Ok(()),
                Err(failure) if failure.has_code("BucketAlreadyExists") => Err(context
                    .nonsense("a bucket of this name exists already and belongs to somebody else")),
                Err(failure) => Err(failure),
            }
        })
        .await
    }
}
