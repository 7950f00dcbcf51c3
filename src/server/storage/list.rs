//! Listing keys in the order of their bytes, with prefix, delimiter and a place to go on from.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::{Object, Refusal, Storage};

/// The request for a listing.
#[derive(Clone, Debug, Default)]
pub(in crate::server) struct ListingQuery {
    pub(in crate::server) prefix: String,
    /// Keys are grouped up to and including its first occurrence after the prefix; empty is none.
    pub(in crate::server) delimiter: String,
    /// Only keys and groups after this one; a group that equals it has been listed.
    pub(in crate::server) after: String,
    /// Keys and groups together.
    pub(in crate::server) max: usize,
}

/// The result of a listing.
#[derive(Default)]
pub(in crate::server) struct Listing {
    pub(in crate::server) objects: Vec<Arc<Object>>,
    pub(in crate::server) groups: Vec<String>,
    /// Where to go on: the last key or group listed. `None` at the end.
    pub(in crate::server) next: Option<String>,
}

impl Storage {
    /// One page of a bucket's keys.
    pub(in crate::server) fn list_objects(
        &self,
        bucket: &str,
        query: &ListingQuery,
    ) -> Result<Listing, Refusal> {
        Ok(list(&self.read().bucket(bucket)?.objects, query))
    }
}

fn list(objects: &BTreeMap<String, Arc<Object>>, query: &ListingQuery) -> Listing {
    let mut listing = Listing::default();
    let mut last: Option<String> = None;
    let mut from = if query.after.as_str() < query.prefix.as_str() {
        Bound::Included(query.prefix.clone())
    } else if is_group(&query.after, query) {
        match successor(&query.after) {
            Some(next) => Bound::Included(next),
            None => return listing,
        }
    } else {
        Bound::Excluded(query.after.clone())
    };
    if query.max == 0 {
        return listing;
    }
    // Each round lists a run of keys, then jumps over the group that ends it.
    'jump: loop {
        for (key, object) in
            objects.range::<str, _>((from.as_ref().map(String::as_str), Bound::Unbounded))
        {
            if !key.starts_with(&query.prefix) {
                return listing;
            }
            if listing.objects.len() + listing.groups.len() == query.max {
                listing.next = last;
                return listing;
            }
            let Some(group) = group_of(key, query) else {
                listing.objects.push(Arc::clone(object));
                last = Some(key.clone());
                continue;
            };
            listing.groups.push(group.to_owned());
            last = Some(group.to_owned());
            match successor(group) {
                Some(next) => from = Bound::Included(next),
                None => return listing,
            }
            continue 'jump;
        }
        return listing;
    }
}

/// The group a key falls into, if any.
fn group_of<'a>(key: &'a str, query: &ListingQuery) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let at = key.get(query.prefix.len()..)?.find(&query.delimiter)?;
    key.get(..query.prefix.len() + at + query.delimiter.len())
}

/// Whether `after` is itself a group, that is, one that has been listed.
fn is_group(after: &str, query: &ListingQuery) -> bool {
    after.starts_with(&query.prefix) && group_of(after, query) == Some(after)
}

/// The smallest string greater than all that begin with `prefix`. UTF-8 sorts as its code points
/// do.
fn successor(prefix: &str) -> Option<String> {
    let mut next = prefix.to_owned();
    while let Some(last) = next.pop() {
        let above = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            _ => char::from_u32(u32::from(last) + 1),
        };
        if let Some(above) = above {
            next.push(above);
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::super::{BucketDirs, Checksums, Headers, ObjectRecord};
    use super::*;
    use crate::server::SyncPolicy;

    fn index<S: AsRef<str>>(keys: &[S]) -> BTreeMap<String, Arc<Object>> {
        let dirs = Arc::new(BucketDirs::new(
            Path::new("/nonexistent"),
            SyncPolicy::Never,
        ));
        let object = |key: &str| ObjectRecord {
            key: key.to_owned(),
            etag: String::new(),
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
            headers: Headers::default(),
            checksums: Checksums::default(),
            upload: None,
        };
        let entry = |key: &S| {
            (
                key.as_ref().to_owned(),
                Object::new(object(key.as_ref()), Arc::clone(&dirs)),
            )
        };
        keys.iter().map(entry).collect()
    }

    /// All pages of a listing, one after the other.
    fn pages(objects: &BTreeMap<String, Arc<Object>>, query: &ListingQuery) -> Vec<String> {
        let mut query = query.clone();
        let mut found = Vec::new();
        loop {
            let listing = list(objects, &query);
            let mut page: Vec<_> = listing
                .objects
                .iter()
                .map(|object| object.record.key.clone())
                .collect();
            page.extend(listing.groups);
            page.sort();
            assert!(page.len() <= query.max);
            found.extend(page);
            match listing.next {
                Some(next) => query.after = next,
                None => return found,
            }
        }
    }

    proptest! {
        #[test]
        fn every_page_size_finds_what_one_look_at_all_keys_finds(
            keys in prop::collection::btree_set("[a/\u{10ffff}\u{e000}é]{1,5}", 0..30),
            prefix in "[a/é]{0,2}",
            delimiter in prop::sample::select(vec!["", "/", "a/", "é"]),
            max in 1usize..8,
        ) {
            let mut expected = BTreeSet::new();
            for key in keys.iter().filter(|key| key.starts_with(&prefix)) {
                let cut = (!delimiter.is_empty()).then(|| key[prefix.len()..].find(delimiter)).flatten();
                let end = cut.map_or(key.len(), |at| prefix.len() + at + delimiter.len());
                expected.insert(key[..end].to_owned());
            }
            let keys: Vec<_> = keys.into_iter().collect();
            let query = ListingQuery { prefix, delimiter: delimiter.to_owned(), after: String::new(), max };
            prop_assert_eq!(pages(&index(&keys), &query), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn going_on_inside_a_group_lists_the_rest_of_it() {
        let objects = index(&["a/1", "a/2", "b"]);
        let query = |after: &str| ListingQuery {
            delimiter: "/".into(),
            after: after.into(),
            max: 10,
            ..ListingQuery::default()
        };
        assert_eq!(list(&objects, &query("a/1")).groups, ["a/"]);
        assert!(list(&objects, &query("a/2")).groups.is_empty());
        assert!(
            list(&objects, &query("a/")).groups.is_empty(),
            "the group itself has been listed"
        );
    }
}
