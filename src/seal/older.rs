//! Which stored objects are sealed under an older key epoch than the newest. Their headers tell,
//! and a header is believed only if it authenticates.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::{
    codec::{HEADER_LEN, Opener},
    keys::VolumeKeys,
};
use crate::store::{ListEntry, Store, StoreError, StoreErrorKind};

/// Pages of a thousand objects that are listed at most; the metadata has some thousand objects.
const PAGES_MAX: u32 = 1000;

/// Headers that are fetched at once.
const HEADERS_AT_ONCE: usize = 16;

/// An object that is sealed under an older epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OlderObject {
    /// The volume-relative key.
    pub key: String,
    /// Its stored bytes.
    pub bytes: u64,
    /// It has no content: a fence in the metadata's log.
    pub is_empty: bool,
}

/// The objects below `prefix` that are sealed under an older epoch than the newest of `keys`, in
/// the order of the listing. Objects that do not authenticate are left out. It takes a request for
/// each object, and memory for each that is found.
///
/// # Errors
/// The store's.
pub async fn older_objects(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    prefix: &str,
) -> Result<Vec<OlderObject>, StoreError> {
    let mut older = Vec::new();
    let mut pages = store.pages(prefix, None, PAGES_MAX);
    while let Some(page) = pages.next().await? {
        let looks = page.into_iter().map(|entry| look(store, keys, entry));
        let mut looks = futures::stream::iter(looks).buffered(HEADERS_AT_ONCE);
        while let Some(found) = looks.try_next().await? {
            older.extend(found);
        }
    }
    Ok(older)
}

async fn look(
    store: &Store,
    keys: &Arc<VolumeKeys>,
    entry: ListEntry,
) -> Result<Option<OlderObject>, StoreError> {
    let header = store
        .get_bytes(&entry.key, Some(0..HEADER_LEN), HEADER_LEN)
        .await;
    let (head, header) = match header {
        Ok(found) => found,
        // It was deleted meanwhile, or is no sealed object.
        Err(error) if matches!(error.kind, StoreErrorKind::NotFound | StoreErrorKind::Range) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let Ok(opener) = Opener::from_header(keys, &entry.key, &header, head.size) else {
        return Ok(None);
    };
    let is_older = opener.params().epoch < keys.current_epoch();
    Ok(is_older.then(|| OlderObject {
        key: entry.key,
        bytes: head.size,
        is_empty: opener.layout().plaintext_len == 0,
    }))
}
