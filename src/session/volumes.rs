//! The volumes in a bucket, found by their headers; no key is needed.

use std::collections::VecDeque;

use super::{errors, failure::Failure};
use crate::{
    seal::volume::{COPY_KEY, PRIMARY_KEY, VolumeHeader},
    store::{Store, StoreErrorKind},
};

/// Levels below the place where the search begins.
const DEPTH_MAX: usize = 8;

/// Levels that are listed, each one request or more: a bucket may hold other things too.
const LEVELS_MAX: usize = 10_000;

/// A volume, or what is left of one.
#[derive(Debug)]
pub struct FoundVolume {
    /// Where it is.
    pub url: String,
    /// Its header, or what is wrong with it.
    pub header: Result<VolumeHeader, String>,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct FoundVolumes {
    /// In the order of their URLs.
    pub volumes: Vec<FoundVolume>,
    /// Places that were not looked through, or not to the end, each with the reason.
    pub skipped: Vec<(String, String)>,
}

/// Looks for volumes at the place of `store` and below it. What lies below a volume is its own.
///
/// # Errors
/// Those of the store.
pub async fn find_volumes(store: &Store) -> Result<FoundVolumes, Failure> {
    let mut found = FoundVolumes::default();
    let mut places = VecDeque::from([(String::new(), 0)]);
    let mut left = LEVELS_MAX - places.len();
    while let Some((place, depth)) = places.pop_front() {
        let url = url_of(store, &place);
        let (below, objects) = match store.list_level(&place).await {
            Ok(level) => level,
            Err(error) if error.kind == StoreErrorKind::Nonsense => {
                found.skipped.push((url, error.message));
                continue;
            }
            Err(error) => return Err(errors::store(&error, store.url())),
        };
        let has = |name: &str| {
            let key = format!("{place}{name}");
            objects.iter().any(|object| object.key == key)
        };
        if has(PRIMARY_KEY) || has(COPY_KEY) {
            let header = VolumeHeader::peek(store, &place).await;
            let header = header.map_err(|error| errors::store(&error, store.url()))?;
            found.volumes.push(FoundVolume { url, header });
        } else if depth == DEPTH_MAX && !below.is_empty() {
            let why = format!("it is {DEPTH_MAX} levels down");
            found.skipped.push((url, why));
        } else {
            if below.len() > left {
                let why = format!(
                    "'list' looks at {LEVELS_MAX} prefixes at most; name one of those below it"
                );
                found.skipped.push((url, why));
            }
            let next: Vec<_> = below.into_iter().take(left).collect();
            left -= next.len();
            places.extend(next.into_iter().map(|name| (format!("{name}/"), depth + 1)));
        }
    }
    found.volumes.sort_by(|a, b| a.url.cmp(&b.url));
    Ok(found)
}

/// `place` is empty or ends with a slash.
fn url_of(store: &Store, place: &str) -> String {
    let url = store.url().to_string();
    match place.trim_end_matches('/') {
        "" => url,
        place => format!("{}/{place}", url.trim_end_matches('/')),
    }
}
