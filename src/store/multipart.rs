//! Multipart uploads.

use bytes::Bytes;

use super::{Condition, PutOutcome, Store, StoreError};

/// An upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(pub String);

/// What completing needs to know of a part.
#[derive(Clone, Debug)]
pub struct PartTag {
    /// 1 to 10,000.
    pub number: u32,
    /// The part's ETag.
    pub etag: String,
    /// The checksum that the part was sent with, when the store wants it back on completion.
    pub checksum: Option<String>,
}

/// A line of ListMultipartUploads.
#[derive(Clone, Debug)]
pub struct PendingUpload {
    /// Volume-relative key.
    pub key: String,
    /// The upload.
    pub upload: UploadId,
}

impl Store {
    /// Begins an upload.
    pub async fn create_multipart(&self, key: &str) -> Result<UploadId, StoreError> {
        todo!()
    }

    /// Sends one part; a retry sends the identical bytes. `pieces` are not joined.
    pub async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, pieces: Vec<Bytes>) -> Result<PartTag, StoreError> {
        todo!()
    }

    /// Completes. After an ambiguous failure a retry that finds the upload gone but the object there (HEAD) counts as done.
    pub async fn complete_multipart(&self, key: &str, upload: &UploadId, parts: &[PartTag], condition: Condition) -> Result<PutOutcome, StoreError> {
        todo!()
    }

    /// Aborts; an upload that is not there is no error.
    pub async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<(), StoreError> {
        todo!()
    }

    /// All uploads under way for keys that start with `prefix`.
    pub async fn list_multipart(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        todo!()
    }
}
