//! From a URL and a secret to a volume whose header is unlocked.

use std::{sync::Arc, time::Duration};

use super::{config::StoreSettings, errors, exit::Exit, failure::Failure, state::Trust};
use crate::{
    record::Recorder,
    seal::volume::{LoadError, LoadedHeader, Secret, UnlockError, Unlocked, VolumeHeader},
    store::{Retry, S3Url, Store, StoreConfig, StoreError},
    telemetry::{Metrics, human_size},
};

/// A request without any progress for this long is tried again.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections of a command that does not mount.
const COMMAND_CONNECTIONS: usize = 8;

/// A volume's URL from the command line.
///
/// # Errors
/// The text is no such URL.
pub fn parse_url(text: &str) -> Result<S3Url, Failure> {
    text.parse::<S3Url>()
        .map_err(|error| Failure::usage(error.to_string(), "write s3://bucket/prefix"))
}

/// Reaches the store as a command that a person waits for, and makes sure that the bucket is there.
///
/// # Errors
/// No credentials, wrong ones, no bucket, no answer.
pub async fn connect(url: &S3Url, settings: &StoreSettings) -> Result<Store, Failure> {
    let store = client(
        url,
        settings,
        COMMAND_CONNECTIONS,
        Arc::new(Metrics::default()),
    )
    .await?;
    store
        .check_bucket()
        .await
        .map_err(|error| errors::store(&error, url))?;
    Ok(store)
}

/// Makes the client alone; nothing is sent.
///
/// # Errors
/// Settings that cannot be used.
pub async fn client(
    url: &S3Url,
    settings: &StoreSettings,
    connections_max: usize,
    metrics: Arc<Metrics>,
) -> Result<Store, Failure> {
    client_recording(url, settings, connections_max, metrics, None).await
}

/// As [`client`]; all requests are recorded.
///
/// # Errors
/// The same.
pub async fn client_recording(
    url: &S3Url,
    settings: &StoreSettings,
    connections_max: usize,
    metrics: Arc<Metrics>,
    recorder: Option<Recorder>,
) -> Result<Store, Failure> {
    let config = StoreConfig {
        url: url.clone(),
        endpoint_url: settings.endpoint_url.clone(),
        region: settings.region.clone(),
        profile: settings.profile.clone(),
        ca_bundle: settings.ca_bundle.clone(),
        path_style: settings.path_style.then_some(true),
        stall_timeout: STALL_TIMEOUT,
        connections_max,
        rates: settings.rates,
        retry: Retry::FOR_COMMANDS,
    };
    Store::connect_recording(config, metrics, recorder)
        .await
        .map_err(|error| errors::store(&error, url))
}

/// Reads the volume header.
///
/// # Errors
/// There is no header, it is damaged, or it is newer than this program.
pub async fn load_header(store: &Store) -> Result<LoadedHeader, Failure> {
    VolumeHeader::load(store)
        .await
        .map_err(|error| match error {
            LoadError::NoVolume(url) => Failure::new(
                Exit::NoVolume,
                format!("there is no volume at {url}"),
                "check the URL, or make one with 'strongroom init'",
            ),
            LoadError::NoBucket(_) => Failure::new(
                Exit::NoBucket,
                format!("bucket {} does not exist", store.url().bucket),
                "check the name and the endpoint, or make it: strongroom init --create-bucket",
            ),
            LoadError::NewerFormat(format) => Failure::new(
                Exit::NewerFormat,
                format!("the volume has format {format}, which is newer than this program"),
                "use a newer strongroom",
            ),
            LoadError::Damaged { primary, copy } => Failure::new(
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
    /// The checks of the volume against this machine's knowledge.
    pub trust: Trust,
    /// The header.
    pub loaded: LoadedHeader,
    /// Its keys.
    pub unlocked: Unlocked,
}

impl Opened {
    /// Mends the header if a fault was found ([`LoadedHeader::fault`]). To be called once the state
    /// of the volume was compared with what is known of it.
    pub(super) async fn mend_header(
        &self,
        fault: Result<Option<(&'static str, String)>, StoreError>,
    ) -> Result<(), StoreError> {
        if fault?.is_some() {
            self.loaded.repair(&self.store, &self.unlocked).await?;
        }
        Ok(())
    }

    /// Loads, unlocks, and compares with this machine's knowledge.
    ///
    /// # Errors
    /// Those of [`load_header`]; a wrong secret; a header that somebody without the key changed; a
    /// header that is older than this machine has seen, or another volume's.
    pub async fn open(
        store: &Store,
        secret: Secret,
        trust: Trust,
        memory_bytes_max: u64,
    ) -> Result<Opened, Failure> {
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

/// Unlocks in a thread of its own, because the derivation takes a good part of a second. The secret
/// is wiped at its end. A derivation may take `memory_bytes_max`.
async fn unlock(
    loaded: &LoadedHeader,
    secret: Secret,
    memory_bytes_max: u64,
) -> Result<Unlocked, Failure> {
    let header = loaded.header.clone();
    tokio::task::spawn_blocking(move || header.unlock_within(&secret, memory_bytes_max))
        .await
        .map_err(|error| Failure::unexpected(format!("unlocking failed: {error}")))?
        .map_err(|error| match error {
            UnlockError::WrongSecret(_) => Failure::new(
                Exit::WrongKey,
                error.to_string(),
                "try again; 'strongroom key list' shows which secrets unlock this volume",
            ),
            UnlockError::NoSlot(kind) => Failure::new(
                Exit::WrongKey,
                format!("the volume has no {kind} slot"),
                "'strongroom key list' shows which secrets unlock this volume",
            ),
            UnlockError::Memory { needed_bytes, .. } => Failure::new(
                Exit::MemoryTooSmall,
                error.to_string(),
                format!(
                    "give {} more of --memory, or unlock with another slot",
                    human_size(needed_bytes.saturating_sub(memory_bytes_max))
                ),
            ),
            UnlockError::Time => Failure::new(
                Exit::WrongKey,
                error.to_string(),
                "unlock with a key file or the recovery key, which take no time",
            ),
            UnlockError::Tampered => Failure::new(
                Exit::DamagedHeader,
                "the volume header was changed by somebody without the key",
                "restore strongroom.json from a copy of the bucket, and find out who can write to it",
            ),
        })
}
