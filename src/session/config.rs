//! The settings of a session: which volume, where, and how.

use std::{path::PathBuf, time::Duration};

use super::{
    disk_cache::DiskCacheConfig,
    metrics::MetricsAddress,
    recording::RecordingConfig,
    state::{Accept, Fingerprint},
};
use crate::store::{Rates, S3Url};

/// The volume to be mounted, the place, and how.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The volume.
    pub url: S3Url,
    /// How to reach the store.
    pub store: StoreSettings,
    /// The directory, absolute.
    pub mount_point: PathBuf,
    /// `--memory`.
    pub memory_bytes: u64,
    /// When `close` returns.
    pub durability: Durability,
    /// How long written data waits before it is uploaded by itself.
    pub upload_delay: Duration,
    /// How long a request that the store refuses is repeated before the waiting program gets an
    /// error.
    pub refusal_timeout: Duration,
    /// The bytes that the volume may hold.
    pub capacity: Option<u64>,
    /// The mount takes no lease and writes nothing.
    pub read_only: bool,
    /// How often a read-only mount looks for the writer's changes.
    pub follow_every: Duration,
    /// Other users may see it.
    pub allow_other: bool,
    /// Take the lease from its present holder.
    pub takeover: bool,
    /// Deviations of the volume from this machine's knowledge that are accepted.
    pub accept: Accept,
    /// The state that the volume must have reached.
    pub expect: Option<Fingerprint>,
    /// The longest that an operation waits for the store; zero: for ever.
    pub timeout: Duration,
    /// The cache on the local disk.
    pub disk_cache: DiskCacheConfig,
    /// The state directory of all volumes.
    pub state_root: PathBuf,
    /// Flags of the kernel's.
    pub kernel_flags: Vec<KernelFlag>,
    /// Log lines name paths beside inodes.
    pub log_paths: bool,
    /// Where metrics can be had, if anywhere.
    pub metrics: Option<MetricsAddress>,
    /// Where the requests to the store are recorded, if anywhere.
    pub recording: Option<RecordingConfig>,
}

/// Where the store is and how to speak to it. Unset fields come from where AWS users have them.
#[derive(Clone, Debug, Default)]
pub struct StoreSettings {
    /// The S3 endpoint.
    pub endpoint_url: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// The profile of the AWS configuration files.
    pub profile: Option<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Put the bucket's name into the path; otherwise only where the endpoint is not AWS.
    pub path_style: bool,
    /// Limits of bandwidth.
    pub rates: Rates,
}

/// The promise of `close`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// As on a local disk: `close` does not wait, `fsync` does.
    #[default]
    Fsync,
    /// `close` too waits until the file is in the store.
    Close,
}

impl Durability {
    /// The name on the command line and in `status --json`.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Close => "close",
        }
    }
}

/// Flags that the kernel keeps for the mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelFlag {
    /// Nothing on it can be executed.
    NoExec,
    /// Set-user-id bits are ignored. The default.
    NoSuid,
    /// Set-user-id bits count.
    Suid,
    /// Device nodes do not work. The default.
    NoDev,
    /// Device nodes work.
    Dev,
}
