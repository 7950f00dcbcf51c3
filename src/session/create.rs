//! Making a volume in an empty prefix.

use std::sync::Arc;

use super::{errors, exit::Exit, failure::Failure};
use crate::{
    meta::Meta,
    seal::{
        object_store::SealedObjectStore,
        volume::{Argon2Params, COPY_KEY, PRIMARY_KEY, SaveError, Secret, SlotError, VolumeHeader},
    },
    store::{
        Condition, Store, StoreErrorKind,
        probe::{ProbeFailure, prefix_is_empty, probe},
    },
};

/// The metadata's cache while its first objects are written.
const CACHE_BYTES: u64 = 1 << 20;

/// Makes the bucket if it is not there.
///
/// # Errors
/// Those of the store.
pub async fn make_bucket(store: &Store) -> Result<(), Failure> {
    match store.check_bucket().await {
        Err(error) if error.kind == StoreErrorKind::NoBucket => {}
        outcome => return outcome.map_err(|error| errors::store(&error, store.url())),
    }
    store
        .create_bucket()
        .await
        .map_err(|error| errors::store(&error, store.url()))
}

/// Checks that a volume can be made at the place of `store`: nothing is there yet, and the store
/// has all that a volume needs.
///
/// # Errors
/// [`Exit::VolumeExists`], [`Exit::NotEmpty`], [`Exit::StoreUnfit`]; those of the store.
pub async fn check_place(store: &Store) -> Result<(), Failure> {
    refuse_occupied(store).await?;
    let url = store.url();
    probe(store).await.map_err(|failure| match failure {
        ProbeFailure::Lacks { capability, detail } => Failure::new(
            Exit::StoreUnfit,
            format!("the store at {url} lacks {capability} ({detail})"),
            "use a store that has it; docs/operations.md lists the abilities that a volume needs",
        ),
        ProbeFailure::Store(error) => errors::store(&error, url),
    })
}

async fn refuse_occupied(store: &Store) -> Result<(), Failure> {
    let url = store.url();
    for key in [PRIMARY_KEY, COPY_KEY] {
        match store.head(key).await {
            Ok(_) => {
                return Err(Failure::new(
                    Exit::VolumeExists,
                    format!("there is a volume at {url} already"),
                    "mount it, or choose another prefix",
                ));
            }
            Err(error) if error.kind == StoreErrorKind::NotFound => {}
            Err(error) => return Err(errors::store(&error, url)),
        }
    }
    if prefix_is_empty(store)
        .await
        .map_err(|error| errors::store(&error, url))?
    {
        return Ok(());
    }
    Err(Failure::new(
        Exit::NotEmpty,
        format!("{url} is not empty"),
        "choose an empty prefix, such as one more path segment",
    ))
}

/// Makes a volume in an empty prefix. The header comes first, because exactly one of two that race
/// can write it.
///
/// # Errors
/// Another `init` made one at the same time; the store's errors.
pub async fn make_volume(
    store: &Store,
    secret: Secret,
    recovery: Option<Secret>,
) -> Result<VolumeHeader, Failure> {
    let url = store.url();
    let made = tokio::task::spawn_blocking(move || {
        let (mut header, unlocked) = VolumeHeader::create(&secret, Argon2Params::default())?;
        if let Some(recovery) = recovery {
            header.add_slot(&unlocked.master, &recovery, Argon2Params::default())?;
        }
        Ok((header, unlocked))
    });
    let (header, unlocked) = made
        .await
        .map_err(|error| Failure::unexpected(format!("deriving the key failed: {error}")))?
        .map_err(|error: SlotError| Failure::unexpected(error.to_string()))?;
    header
        .save(store, Condition::Absent)
        .await
        .map_err(|error| match error {
            SaveError::Conflict => Failure::new(
                Exit::VolumeExists,
                format!("somebody else makes a volume at {url} at this moment"),
                "mount that one, or choose another prefix",
            ),
            SaveError::Store(error) => errors::store(&error, url),
        })?;
    let sealed = SealedObjectStore::new(store.clone(), Arc::clone(&unlocked.keys), CACHE_BYTES);
    let (uid, gid) = (
        nix::unistd::getuid().as_raw(),
        nix::unistd::getgid().as_raw(),
    );
    if let Err(error) = Meta::format(Arc::new(sealed), uid, gid).await {
        // Without metadata it is no volume: the header is taken back, so that the next try finds no
        // half of one.
        let _ = store
            .delete(&[PRIMARY_KEY.to_owned(), COPY_KEY.to_owned()])
            .await;
        return Err(errors::meta(&error, "the volume's metadata cannot be made"));
    }
    Ok(header)
}
