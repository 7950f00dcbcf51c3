//! The one client.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{Retry, S3Url, StoreError};
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
    /// `--profile`.
    pub profile: Option<String>,
    /// `--ca-bundle`: PEM file of certificate authorities to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// `--path-style`; unset: path style where the endpoint is not AWS.
    pub path_style: Option<bool>,
    /// The longest that one request may go without any progress.
    pub stall_timeout: Duration,
    /// Connections kept or opened at once, at most.
    pub connections_max: usize,
    /// What to do about failures that may pass.
    pub retry: Retry,
}

/// The store, cheap to clone: all clones share one client.
#[derive(Clone, Debug)]
pub struct Store {
    // private fields: inner: Arc<...>, retry: Retry
}

impl Store {
    /// Makes the client; sends nothing yet.
    pub async fn connect(config: StoreConfig, metrics: Arc<Metrics>) -> Result<Store, StoreError> {
        todo!()
    }

    /// The same client with another patience.
    #[must_use]
    pub fn with_retry(&self, retry: Retry) -> Store {
        todo!()
    }

    /// The counters that this store writes.
    pub fn metrics(&self) -> &Arc<Metrics> {
        todo!()
    }

    /// Where it points.
    pub fn url(&self) -> &S3Url {
        todo!()
    }

    /// HeadBucket: does the bucket exist and may we use it?
    pub async fn check_bucket(&self) -> Result<(), StoreError> {
        todo!()
    }

    /// CreateBucket (with the region's location constraint where that is needed).
    pub async fn create_bucket(&self) -> Result<(), StoreError> {
        todo!()
    }
}
