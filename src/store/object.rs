//! Single objects: get, put, head, delete, list.

use std::ops::Range;

use bytes::Bytes;

use super::{Store, StoreError};

/// The condition of a PUT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Replace whatever is there.
    None,
    /// Only if there is nothing (`If-None-Match: *`).
    Absent,
    /// Only if the ETag is this one (`If-Match`).
    Matches(String),
}

/// What a PUT made.
#[derive(Clone, Debug)]
pub struct PutOutcome {
    /// The new ETag.
    pub etag: Option<String>,
}

/// What HEAD tells.
#[derive(Clone, Debug)]
pub struct ObjectHead {
    /// Length of the stored bytes.
    pub size: u64,
    /// The ETag, quoted as the store gave it.
    pub etag: Option<String>,
    /// Seconds since 1970.
    pub modified_unix_seconds: i64,
    /// User metadata (`x-amz-meta-*`).
    pub attributes: Vec<(String, String)>,
}

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

/// A body being streamed. Dropping it closes the connection unless the body was at its end.
#[derive(Debug)]
pub struct Body {
    /// What HEAD would tell. `size` is the length of the whole object.
    pub head: ObjectHead,
    /// The absolute range that this body carries.
    pub range: Range<u64>,
    // private fields follow
}

impl Body {
    /// The next piece as it came off the wire; `None` at the end. Fails with `Unavailable` if the connection
    /// breaks: the caller asks again for the rest.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        todo!()
    }
}

impl Store {
    /// Starts a GET of the whole object or of a range (clamped to its end by the store).
    pub async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<Body, StoreError> {
        todo!()
    }

    /// GET into memory, resuming after broken connections; fails if more than `max_bytes` would come.
    pub async fn get_bytes(&self, key: &str, range: Option<Range<u64>>, max_bytes: u64) -> Result<(ObjectHead, Bytes), StoreError> {
        todo!()
    }

    /// PUT of one object; `pieces` are sent one after the other without being joined.
    /// With a condition, an ambiguous failure (sent, answer lost) is resolved by the caller: it may find its own object there.
    pub async fn put(&self, key: &str, pieces: Vec<Bytes>, condition: Condition, attributes: &[(String, String)]) -> Result<PutOutcome, StoreError> {
        todo!()
    }

    /// HEAD.
    pub async fn head(&self, key: &str) -> Result<ObjectHead, StoreError> {
        todo!()
    }

    /// Deletes objects, up to 1,000 a request; one that is not there is no error.
    pub async fn delete(&self, keys: &[String]) -> Result<(), StoreError> {
        todo!()
    }

    /// One page (at most 1,000) of keys that start with `prefix` and come after `after`, in key order.
    pub async fn list_page(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ListEntry>, StoreError> {
        todo!()
    }

    /// The "directories" and objects directly under `prefix` (delimiter `/`), all pages.
    pub async fn list_level(&self, prefix: &str) -> Result<(Vec<String>, Vec<ListEntry>), StoreError> {
        todo!()
    }
}
