//! From a URL and a secret to a volume that is served, and back: what `mount`, `demo` and the key commands share.
//!
//! | step | file |
//! |---|---|
//! | reach the store, read and unlock the header | here |
//! | look at the metadata, lease, metadata, contents, filesystem, kernel | `open.rs` |
//! | note on this machine what is durable | `note.rs` |
//! | serve until the kernel lets go; drain; give everything back | `serve.rs` |
//! | signals | `signals.rs` |
//! | what the control socket tells | `report.rs` |
//! | open a volume without serving it, for `fsck` and `gc` | `visit.rs` |

mod note;
mod open;
mod report;
mod serve;
mod signals;
mod visit;

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    args::StoreArgs,
    disk_cache::DiskCacheConfig,
    errors,
    exit::{CliError, Exit},
    fingerprint::Fingerprint,
    mount::Durability,
    mount_options::KernelFlag,
    state::{Accept, Trust},
    values::human_size,
};
use crate::{
    seal::volume::{LoadError, LoadedHeader, Secret, UnlockError, Unlocked, VolumeHeader},
    store::{Retry, S3Url, Store, StoreConfig},
    telemetry::Metrics,
};

pub use open::{Opening, VolumeSession};
pub use serve::{mount_and_serve, serve};
pub use visit::{Visit, VisitArgs, VisitConfig, interruptible};

/// A request without any progress for this long is tried again.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections of a command that does not mount.
const COMMAND_CONNECTIONS: usize = 8;

/// What is mounted, where, and how.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The volume.
    pub url: S3Url,
    /// How to reach the store.
    pub store: StoreArgs,
    /// The directory, absolute.
    pub mount_point: PathBuf,
    /// `--memory`.
    pub memory_bytes: u64,
    /// When `close` returns.
    pub durability: Durability,
    /// How long written data waits before it goes out by itself.
    pub upload_delay: Duration,
    /// How long a request that the store refuses is tried again before whoever waits is told.
    pub refusal_timeout: Duration,
    /// No lease, no writes.
    pub read_only: bool,
    /// How often a read-only mount looks for what the writer did.
    pub follow_every: Duration,
    /// Other users may see it.
    pub allow_other: bool,
    /// Take the lease from whoever holds it.
    pub takeover: bool,
    /// What is accepted of a volume that is not as this machine knows it.
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
}

/// A volume's URL from the command line.
///
/// # Errors
/// It is none.
pub fn parse_url(text: &str) -> Result<S3Url, CliError> {
    text.parse::<S3Url>()
        .map_err(|error| CliError::usage(error.to_string(), "write s3://bucket/prefix"))
}

/// Reaches the store as a command that a person waits for, and makes sure that the bucket is there.
///
/// # Errors
/// No credentials, wrong ones, no bucket, no answer.
pub async fn connect(url: &S3Url, args: &StoreArgs) -> Result<Store, CliError> {
    let store = client(url, args, COMMAND_CONNECTIONS, Arc::new(Metrics::default())).await?;
    store
        .check_bucket()
        .await
        .map_err(|error| errors::store(&error, url))?;
    Ok(store)
}

/// The client alone; nothing is sent.
///
/// # Errors
/// Settings that cannot be used.
pub async fn client(
    url: &S3Url,
    args: &StoreArgs,
    connections_max: usize,
    metrics: Arc<Metrics>,
) -> Result<Store, CliError> {
    let config = StoreConfig {
        url: url.clone(),
        endpoint_url: args.endpoint_url.clone(),
        region: args.region.clone(),
        profile: args.profile.clone(),
        ca_bundle: args.ca_bundle.clone(),
        path_style: args.path_style.then_some(true),
        stall_timeout: STALL_TIMEOUT,
        connections_max,
        retry: Retry::FOR_COMMANDS,
    };
    Store::connect(config, metrics)
        .await
        .map_err(|error| errors::store(&error, url))
}

/// Reads the volume header.
///
/// # Errors
/// There is none, it is damaged, it is newer than this program.
pub async fn load_header(store: &Store) -> Result<LoadedHeader, CliError> {
    VolumeHeader::load(store)
        .await
        .map_err(|error| match error {
            LoadError::NoVolume(url) => CliError::new(
                Exit::NoVolume,
                format!("there is no volume at {url}"),
                "check the URL, or make one with 'strongroom init'",
            ),
            LoadError::NoBucket(_) => CliError::new(
                Exit::NoBucket,
                format!("bucket {} does not exist", store.url().bucket),
                "check the name and the endpoint, or make it: strongroom init --create-bucket",
            ),
            LoadError::NewerFormat(format) => CliError::new(
                Exit::NewerFormat,
                format!("the volume has format {format}, which is newer than this program"),
                "use a newer strongroom",
            ),
            LoadError::Damaged { primary, copy } => CliError::new(
                Exit::DamagedHeader,
                format!("the volume header is damaged in both copies ({primary}; copy: {copy})"),
                "restore strongroom.json from a copy of the bucket",
            ),
            LoadError::Store(error) => errors::store(&error, store.url()),
        })
}

/// A volume whose header is unlocked.
pub struct Opened {
    /// The store, with the patience of a command.
    pub store: Store,
    /// What it is compared with.
    pub trust: Trust,
    /// The header.
    pub loaded: LoadedHeader,
    /// Its keys.
    pub unlocked: Unlocked,
}

impl Opened {
    /// Loads, unlocks, and compares with what this machine knows.
    ///
    /// # Errors
    /// Those of [`load_header`]; a wrong secret; a header that somebody without the key changed; one that is older than what was seen here,
    /// or another volume's.
    pub async fn open(
        store: &Store,
        secret: Secret,
        trust: Trust,
        memory_bytes_max: u64,
    ) -> Result<Opened, CliError> {
        let loaded = load_header(store).await?;
        let unlocked = unlock(&loaded, secret, memory_bytes_max)
            .await
            .map_err(|error| {
                // The secret may be right, and the volume another one.
                let another = trust
                    .check_header(&loaded.header)
                    .err()
                    .filter(|refusal| refusal.exit == Exit::OtherVolume);
                another.unwrap_or(error)
            })?;
        trust.check_header(&loaded.header)?;
        Ok(Opened {
            store: store.clone(),
            trust,
            loaded,
            unlocked,
        })
    }
}

/// Unlocks in a thread of its own: the derivation takes a good part of a second. The secret is wiped at its end.
/// A derivation may take `memory_bytes_max`.
async fn unlock(
    loaded: &LoadedHeader,
    secret: Secret,
    memory_bytes_max: u64,
) -> Result<Unlocked, CliError> {
    let header = loaded.header.clone();
    tokio::task::spawn_blocking(move || header.unlock_within(&secret, memory_bytes_max))
        .await
        .map_err(|error| CliError::unexpected(format!("unlocking failed: {error}")))?
        .map_err(|error| match error {
            UnlockError::WrongSecret(_) => CliError::new(
                Exit::WrongKey,
                error.to_string(),
                "try again; 'strongroom key list' shows what unlocks this volume",
            ),
            UnlockError::NoSlot(kind) => CliError::new(
                Exit::WrongKey,
                format!("the volume has no {kind} slot"),
                "'strongroom key list' shows what unlocks this volume",
            ),
            UnlockError::Memory { needed_bytes, .. } => CliError::new(
                Exit::MemoryTooSmall,
                error.to_string(),
                format!(
                    "give {} more of --memory, or unlock with another slot",
                    human_size(needed_bytes.saturating_sub(memory_bytes_max))
                ),
            ),
            UnlockError::Time => CliError::new(
                Exit::WrongKey,
                error.to_string(),
                "unlock with a key file or the recovery key, which take no time",
            ),
            UnlockError::Tampered => CliError::new(
                Exit::DamagedHeader,
                "the volume header was changed by somebody without the key",
                "restore strongroom.json from a copy of the bucket, and look who can write to it",
            ),
        })
}
