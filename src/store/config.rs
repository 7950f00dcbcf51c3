//! The settings of the client.

use std::{path::PathBuf, time::Duration};

use super::{Rates, Retry, S3Url};

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
    /// Limits of bandwidth.
    pub rates: Rates,
    /// How failures that may pass are handled.
    pub retry: Retry,
}
