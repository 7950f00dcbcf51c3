//! Listings and deletes.
//!
//! Promises: the keys of a listing ascend, start with the prefix asked for, and end: a page that
//! does not advance, and a listing past its bound, are errors. One page is taken at a time, since a
//! page may be large. Never: says that an object does not exist; a store may leave it out of a
//! listing.

use std::sync::atomic::Ordering;

use aws_sdk_s3::{
    operation::list_objects_v2::{ListObjectsV2Output, builders::ListObjectsV2FluentBuilder},
    types::{Delete, ObjectIdentifier},
};
use futures::{StreamExt, TryStreamExt};

use super::{
    Store, StoreError, StoreErrorKind,
    request::{on_bucket, on_object},
    retry::{Again, Failure},
};

/// The most keys that one LIST returns and one DeleteObjects takes (S3 API).
const KEYS_PER_REQUEST: usize = 1000;
/// Pages of a listing of "directories", at most: a level of a volume holds a few directories and a
/// few objects.
const LEVEL_PAGES_MAX: u32 = 32;
/// Single DELETEs at once, where the store lacks DeleteObjects.
const SINGLE_DELETES_IN_FLIGHT: usize = 8;

/// One line of a listing; the key is volume-relative.
#[derive(Clone, Debug)]
pub struct ListEntry {
    /// The volume-relative key.
    pub key: String,
    /// Length of the stored bytes.
    pub size: u64,
    /// The ETag.
    pub etag: Option<String>,
    /// Seconds since 1970.
    pub modified_unix_seconds: i64,
}

/// A listing, page by page, in bounded number.
#[derive(Debug)]
pub struct Pages {
    store: Store,
    prefix: String,
    after: Option<String>,
    left: u32,
}

impl Pages {
    /// The next page; `None` after the last one. Its keys come after all that were given before.
    ///
    /// # Errors
    /// As [`Store::list_page`]; `Nonsense` if there are more pages than there may be.
    pub async fn next(&mut self) -> Result<Option<Vec<ListEntry>>, StoreError> {
        let page = self
            .store
            .list_page(&self.prefix, self.after.as_deref())
            .await?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.after = Some(last.key.clone());
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| endless("ListObjectsV2", &self.prefix))?;
        Ok(Some(page))
    }
}

/// A listing had more pages than there may be.
pub(super) fn endless(operation: &'static str, prefix: &str) -> StoreError {
    StoreError::new(
        StoreErrorKind::Nonsense,
        operation,
        prefix,
        "the listing does not end: it has more pages than any volume needs",
    )
}

impl Store {
    /// All keys that start with `prefix` and come after `after`, in key order, in at most
    /// `pages_max` pages of at most 1,000.
    pub fn pages(&self, prefix: &str, after: Option<&str>, pages_max: u32) -> Pages {
        Pages {
            store: self.clone(),
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            left: pages_max,
        }
    }

    /// One page (at most 1,000) of keys that start with `prefix` and come after `after`, in key
    /// order.
    ///
    /// # Errors
    /// `NoBucket`, and every failure that keeps the request from being answered; `Nonsense` for a
    /// page that does not belong to this request.
    pub async fn list_page(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<ListEntry>, StoreError> {
        self.list_raw(prefix, after, KEYS_PER_REQUEST).await
    }

    /// A page of at most `keys_max` keys.
    pub(super) async fn list_raw(
        &self,
        prefix: &str,
        after: Option<&str>,
        keys_max: usize,
    ) -> Result<Vec<ListEntry>, StoreError> {
        let after = after.map(|after| self.inner.url.full_key(after));
        let (full_prefix, behind) = (self.inner.url.full_key(prefix), after.as_deref());
        let output = self.list(
            prefix,
            |request| {
                request
                    .set_start_after(after.clone())
                    .max_keys(i32::try_from(keys_max).unwrap_or(i32::MAX))
            },
            |page| advances(keys_of(page), &full_prefix, behind),
        );
        Ok(self.entries(output.await?))
    }

    /// The "directories" (without their trailing slash) and objects directly under `prefix`
    /// (delimiter `/`), all pages.
    ///
    /// # Errors
    /// As [`Store::list_page`], and as [`Pages::next`].
    pub async fn list_level(
        &self,
        prefix: &str,
    ) -> Result<(Vec<String>, Vec<ListEntry>), StoreError> {
        let full_prefix = self.inner.url.full_key(prefix);
        let mut directories = Vec::new();
        let mut entries = Vec::new();
        let mut token: Option<String> = None;
        let (mut last_key, mut last_directory): (Option<String>, Option<String>) = (None, None);
        for _ in 0..LEVEL_PAGES_MAX {
            let mut page = self
                .list(
                    prefix,
                    |request| request.delimiter("/").set_continuation_token(token.clone()),
                    |page| {
                        advances(keys_of(page), &full_prefix, last_key.as_deref())?;
                        advances(
                            directories_of(page),
                            &full_prefix,
                            last_directory.as_deref(),
                        )
                    },
                )
                .await?;
            token = page
                .next_continuation_token
                .take()
                .filter(|_| page.is_truncated == Some(true));
            last_key = keys_of(&page).last().map(str::to_owned).or(last_key);
            last_directory = directories_of(&page)
                .last()
                .map(str::to_owned)
                .or(last_directory);
            for common in page.common_prefixes.take().unwrap_or_default() {
                let full = common.prefix.unwrap_or_default();
                directories.extend(
                    self.inner
                        .url
                        .relative_key(&full)
                        .map(|key| key.trim_end_matches('/').to_owned()),
                );
            }
            entries.extend(self.entries(page));
            if token.is_none() {
                return Ok((directories, entries));
            }
        }
        Err(endless("ListObjectsV2", prefix))
    }

    async fn list(
        &self,
        prefix: &str,
        page: impl Fn(ListObjectsV2FluentBuilder) -> ListObjectsV2FluentBuilder,
        check: impl Fn(&ListObjectsV2Output) -> Result<(), &'static str>,
    ) -> Result<ListObjectsV2Output, StoreError> {
        let context = self.context("ListObjectsV2", prefix);
        let (page, check) = (&page, &check);
        self.retrying(|_| async move {
            // Never closed, so this always is a permit.
            let _one_page = self.inner.listing.acquire().await.ok();
            let request = on_bucket!(self, list_objects_v2);
            // Even where the volume's prefix is empty: an absent one and an empty one are the same.
            let request = page(request.prefix(self.inner.url.full_key(prefix)));
            let output = self
                .plain(context, &self.inner.metrics.list_requests, request.send())
                .await
                .map_err(Failure::into_claim)?;
            match check(&output) {
                Ok(()) => Ok(output),
                Err(why) => Err(wrong_page("ListObjectsV2", prefix, why)),
            }
        })
        .await
    }

    fn entries(&self, page: ListObjectsV2Output) -> Vec<ListEntry> {
        let lines = page.contents.unwrap_or_default().into_iter();
        let entry = |object: aws_sdk_s3::types::Object| {
            Some(ListEntry {
                key: self
                    .inner
                    .url
                    .relative_key(object.key.as_deref()?)?
                    .to_owned(),
                size: object
                    .size
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
                etag: object.e_tag,
                modified_unix_seconds: object.last_modified.map_or(0, |time| time.secs()),
            })
        };
        lines.filter_map(entry).collect()
    }

    /// Deletes objects, up to 1,000 a request; one that is not there is no error.
    ///
    /// # Errors
    /// `Denied` and the like; some of the objects may be gone then.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        for batch in keys.chunks(KEYS_PER_REQUEST) {
            match batch {
                [key] => self.delete_one(key).await?,
                _ if self.inner.deletes_singly.load(Ordering::Relaxed) => {
                    self.delete_singly(batch).await?
                }
                _ => self.delete_batch(batch).await?,
            }
        }
        Ok(())
    }

    async fn delete_one(&self, key: &str) -> Result<(), StoreError> {
        let context = self.context("DeleteObject", key);
        self.retrying(|_| async {
            let request = on_object!(self, delete_object, key);
            match self
                .plain(context, &self.inner.metrics.delete_requests, request.send())
                .await
            {
                Ok(_) => Ok(()),
                Err(failure) if failure.error.kind == StoreErrorKind::NotFound => Ok(()),
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    async fn delete_singly(&self, keys: &[String]) -> Result<(), StoreError> {
        let deletes = futures::stream::iter(keys.to_vec())
            .map(|key| async move { self.delete_one(&key).await });
        deletes
            .buffer_unordered(SINGLE_DELETES_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn delete_batch(&self, keys: &[String]) -> Result<(), StoreError> {
        let label = format!("{} objects", keys.len());
        let context = self.context("DeleteObjects", &label);
        let mut objects = Vec::with_capacity(keys.len());
        for key in keys {
            let object = ObjectIdentifier::builder()
                .key(self.inner.url.full_key(key))
                .build();
            objects.push(object.map_err(|error| context.nonsense(error.to_string()).error)?);
        }
        let delete = Delete::builder()
            .set_objects(Some(objects))
            .quiet(true)
            .build();
        let delete = &delete.map_err(|error| context.nonsense(error.to_string()).error)?;
        let deleted = self.retrying(|_| async move {
            let request = on_bucket!(self, delete_objects).delete(delete.clone());
            let output = self
                .plain(context, &self.inner.metrics.delete_requests, request.send())
                .await?;
            output
                .errors
                .unwrap_or_default()
                .iter()
                .find_map(not_deleted)
                .map_or(Ok(()), |(kind, key, message)| {
                    let key = self.inner.url.relative_key(key).unwrap_or_default();
                    Err(Failure::local(StoreError::new(
                        kind,
                        "DeleteObjects",
                        key,
                        message,
                    )))
                })
        });
        match deleted.await {
            // Some stores lack DeleteObjects, or want a digest in it that current SDKs no longer
            // send.
            Err(error) if error.kind == StoreErrorKind::Other => {
                tracing::info!("deleting objects one by one from now on: {error}");
                self.inner.deletes_singly.store(true, Ordering::Relaxed);
                self.delete_singly(keys).await
            }
            result => result,
        }
    }
}

/// A page that does not belong to the request; the request is repeated a few times.
pub(super) fn wrong_page(operation: &'static str, prefix: &str, why: &str) -> Failure {
    let error = StoreError::new(StoreErrorKind::Nonsense, operation, prefix, why);
    Failure {
        again: Again::AFewTimes,
        ..Failure::local(error)
    }
}

fn keys_of(page: &ListObjectsV2Output) -> impl Iterator<Item = &str> {
    let lines = page.contents.as_deref().unwrap_or_default();
    lines.iter().filter_map(|object| object.key.as_deref())
}

fn directories_of(page: &ListObjectsV2Output) -> impl Iterator<Item = &str> {
    let lines = page.common_prefixes.as_deref().unwrap_or_default();
    lines.iter().filter_map(|common| common.prefix.as_deref())
}

/// Whether full keys start with `prefix` and ascend, beginning behind `after`.
fn advances<'a>(
    keys: impl Iterator<Item = &'a str>,
    prefix: &str,
    after: Option<&'a str>,
) -> Result<(), &'static str> {
    let mut last = after;
    for key in keys {
        if !key.starts_with(prefix) {
            return Err("the listing names keys that were not asked for");
        }
        if last.is_some_and(|last| key <= last) {
            return Err("the listing does not advance: its keys do not ascend");
        }
        last = Some(key);
    }
    Ok(())
}

/// The meaning of a line of DeleteObjects' answer; `None` if the object is gone.
fn not_deleted(line: &aws_sdk_s3::types::Error) -> Option<(StoreErrorKind, &str, String)> {
    let code = line.code.as_deref().unwrap_or_default();
    let kind = match code {
        "NoSuchKey" => return None,
        "AccessDenied" => StoreErrorKind::Denied,
        "InternalError" | "SlowDown" | "ServiceUnavailable" => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Other,
    };
    let message = format!("{code}: {}", line.message.as_deref().unwrap_or_default());
    Some((kind, line.key.as_deref().unwrap_or_default(), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_repeat_go_back_or_lie_elsewhere_are_refused() {
        let check = |keys: &[&'static str], after| advances(keys.iter().copied(), "v/", after);
        assert_eq!(check(&["v/a", "v/b", "v/b/c"], None), Ok(()));
        assert_eq!(check(&["v/b"], Some("v/a")), Ok(()));
        assert_eq!(check(&[], Some("v/a")), Ok(()));
        for (keys, after) in [
            (&["v/a", "v/a"][..], None),
            (&["v/b", "v/a"], None),
            (&["v/a"], Some("v/a")),
            (&["v/a"], Some("v/b")),
            (&["w/a"], None),
            (&["v"], None),
        ] {
            assert!(check(keys, after).is_err(), "{keys:?} after {after:?}");
        }
    }
}
