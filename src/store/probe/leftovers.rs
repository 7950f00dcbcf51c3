//! Leftovers of a probe whose process was killed, known by their keys.

use crate::store::{Store, StoreError};

/// The keys of a probe begin with it.
const PREFIX: &str = "probe-";
/// The ends of a probe's keys, ascending.
pub(super) const NAMES: [&str; 10] = [
    "listed1",
    "listed2",
    "listed3",
    "match",
    "measured",
    "multipart",
    "object",
    "race",
    "ranges",
    "second",
];
/// 128 random bits.
const ID_DIGITS: usize = 32;
/// Pages of leftovers that are looked through, at most.
const PAGES_MAX: u32 = 8;

/// The key of this name of the probe with this random id.
pub(super) fn key_of(id: &str, name: &str) -> String {
    format!("{PREFIX}{id}-{name}")
}

/// Whether a probe has made this key. Nothing else has keys of this form.
pub fn is_of_a_probe(key: &str) -> bool {
    let Some((id, name)) = key
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'))
    else {
        return false;
    };
    let is_hexadecimal = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    id.len() == ID_DIGITS && id.bytes().all(is_hexadecimal) && NAMES.contains(&name)
}

/// Whether nothing is below the volume's prefix but what probes have left that were killed, which
/// this deletes. If there is anything else, nothing is deleted.
///
/// # Errors
/// The store's.
pub async fn clear_leftovers(store: &Store) -> Result<bool, StoreError> {
    let mut left = Vec::new();
    let mut pages = store.pages("", None, PAGES_MAX);
    while let Some(page) = pages.next().await? {
        if !page.iter().all(|entry| is_of_a_probe(&entry.key)) {
            return Ok(false);
        }
        left.extend(page.into_iter().map(|entry| entry.key));
    }
    if !left.is_empty() {
        store.delete(&left).await?;
        abort_uploads(store, PREFIX).await?;
    }
    Ok(true)
}

/// Deletes what probes have left that were killed before this moment (of the store's clock),
/// whatever else is there. Returns how many objects.
///
/// # Errors
/// The store's.
pub async fn clear_old_leftovers(
    store: &Store,
    before_unix_seconds: i64,
) -> Result<usize, StoreError> {
    let mut old = Vec::new();
    let mut pages = store.pages(PREFIX, None, PAGES_MAX);
    while let Some(page) = pages.next().await? {
        let left = page.into_iter().filter(|entry| {
            is_of_a_probe(&entry.key) && entry.modified_unix_seconds < before_unix_seconds
        });
        old.extend(left.map(|entry| entry.key));
    }
    store.delete(&old).await?;
    Ok(old.len())
}

/// Aborts uploads of probes for keys that begin with `prefix`.
pub(super) async fn abort_uploads(store: &Store, prefix: &str) -> Result<(), StoreError> {
    let uploads = match store.list_multipart(prefix).await {
        Ok(uploads) => uploads,
        // Listing uploads is needed after a crash only; a store without it removes unfinished
        // uploads by its own rules.
        Err(error) => {
            tracing::debug!("probe: {error}");
            return Ok(());
        }
    };
    for pending in uploads {
        if is_of_a_probe(&pending.key) {
            store.abort_multipart(&pending.key, &pending.upload).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_probes_are_told_from_all_others() {
        let id = "0123456789abcdef".repeat(2);
        for name in NAMES {
            assert!(is_of_a_probe(&key_of(&id, name)), "{name}");
        }
        for key in [
            key_of(&id, "notes.txt"),
            key_of(&id, ""),
            key_of(&id, "object/x"),
            key_of(&id[1..], "object"),
            key_of(&id.to_uppercase(), "object"),
            format!("probe-{id}"),
            "probe-object".to_owned(),
            "strongroom.json".to_owned(),
        ] {
            assert!(!is_of_a_probe(&key), "{key}");
        }
        assert!(NAMES.is_sorted());
    }
}
