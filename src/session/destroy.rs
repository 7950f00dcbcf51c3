//! Deletes a volume. It takes no key: who may delete the objects may delete the volume.

use std::time::Duration;

use super::{errors, exit::Exit, failure::Failure, lease};
use crate::{
    seal::volume::{COPY_KEY, PRIMARY_KEY, SLOT_NOTES_KEY},
    store::{Store, StoreError, StoreErrorKind},
};

/// The prefixes of a volume's objects, besides the header and the lease.
const PREFIXES: [&str; 3] = ["data/", "meta/", "readers/"];

/// A listing has at most so many pages of a thousand: more objects than any volume has.
const PAGES_MAX: u32 = 1_000_000;

/// A mount renews its lease in less than this.
pub const WATCHED: Duration =
    Duration::from_secs(lease::RENEW_EVERY.as_secs() + lease::RENEW_EVERY.as_secs() / 6);

/// Counts of a deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destroyed {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Uploads that were under way.
    pub uploads: u64,
    /// Objects that no version of this program makes, which stay.
    pub foreign: u64,
}

/// Looks whether a mount renews the lease of the volume, for [`WATCHED`].
///
/// # Errors
/// [`Exit::Held`] if one does; those of the store.
pub async fn check_unused(store: &Store) -> Result<(), Failure> {
    let Some(before) = lease_etag(store).await? else {
        return Ok(());
    };
    tokio::time::sleep(WATCHED).await;
    if lease_etag(store).await?.is_none_or(|now| now == before) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Held,
        format!("{} is mounted for writing somewhere", store.url()),
        "unmount it; 'strongroom status' names the process on its machine",
    ))
}

async fn lease_etag(store: &Store) -> Result<Option<String>, Failure> {
    match store.head(lease::LEASE_KEY).await {
        Ok(head) => Ok(head.etag),
        Err(error) if error.kind == StoreErrorKind::NotFound => Ok(None),
        Err(error) => Err(errors::store(&error, store.url())),
    }
}

/// Deletes all objects of the volume, its header last: a deletion that was interrupted can be begun
/// again. `tell` hears of what was deleted until now.
///
/// # Errors
/// Those of the store.
pub async fn destroy(store: &Store, tell: &impl Fn(&Destroyed)) -> Result<Destroyed, Failure> {
    delete_all(store, tell)
        .await
        .map_err(|error| errors::store(&error, store.url()))
}

async fn delete_all(store: &Store, tell: &impl Fn(&Destroyed)) -> Result<Destroyed, StoreError> {
    let mut destroyed = Destroyed::default();
    for prefix in PREFIXES {
        for pending in store.list_multipart(prefix).await? {
            store.abort_multipart(&pending.key, &pending.upload).await?;
            destroyed.uploads += 1;
        }
        let mut pages = store.pages(prefix, None, PAGES_MAX);
        while let Some(page) = pages.next().await? {
            let keys: Vec<String> = page.iter().map(|entry| entry.key.clone()).collect();
            store.delete(&keys).await?;
            destroyed.objects += page.len() as u64;
            destroyed.bytes += page.iter().map(|entry| entry.size).sum::<u64>();
            tell(&destroyed);
        }
    }
    for key in [lease::LEASE_KEY, SLOT_NOTES_KEY, COPY_KEY, PRIMARY_KEY] {
        let size = match store.head(key).await {
            Ok(head) => head.size,
            Err(error) if error.kind == StoreErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        store.delete(&[key.to_owned()]).await?;
        destroyed.objects += 1;
        destroyed.bytes += size;
    }
    let (directories, objects) = store.list_level("").await?;
    destroyed.foreign = (directories.len() + objects.len()) as u64;
    Ok(destroyed)
}
