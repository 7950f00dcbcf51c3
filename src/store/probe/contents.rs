//! Ranges of an object, and multipart uploads.

use bytes::Bytes;
use futures::future::join_all;

use super::{Probe, ProbeFailure, lacks, refuse};
use crate::store::{Condition, StoreError, StoreErrorKind, UploadId};

/// The smallest part that S3 takes, unless it is the last.
const PART_LEN: usize = 5 * 1024 * 1024;
/// The last part is smaller than any that is not.
const LAST_PART_LEN: usize = 1000;

const RANGED_GET: &str = "ranged GET";
const MULTIPART: &str = "multipart upload";
const ABORT: &str = "AbortMultipartUpload";

impl Probe<'_> {
    pub(super) async fn ranged(&self) -> Result<(), ProbeFailure> {
        self.go_on()?;
        let (key, body) = (self.key("ranges"), pattern(100_000, 1));
        self.put("ranges", body.clone(), Condition::None).await?;
        self.go_on()?;
        let fetched = [0..1, 1000..5000, 99_990..100_010].map(|range| {
            let (key, body) = (&key, &body);
            async move {
                let fetched = self.store.get_bytes(key, Some(range.clone()), 4000).await;
                let (head, bytes) = fetched.map_err(|error| lacks(RANGED_GET, error))?;
                let wanted = body.slice(range.start as usize..(range.end as usize).min(body.len()));
                if bytes != wanted || head.size != body.len() as u64 {
                    return Err(refuse(
                        RANGED_GET,
                        format!("bytes {range:?} differ from those that were written"),
                    ));
                }
                Ok(())
            }
        });
        join_all(fetched).await.into_iter().collect()
    }

    pub(super) async fn multipart(&self) -> Result<(), ProbeFailure> {
        let key = self.key("multipart");
        let failed = |error| lacks(MULTIPART, error);
        let contents = [pattern(PART_LEN, 2), pattern(LAST_PART_LEN, 3)];
        self.go_on()?;
        let upload = self.begin_upload(&key).await?;
        self.go_on()?;
        let parts = (1..).zip(&contents).map(|(number, content)| {
            self.store
                .upload_part(&key, &upload, number, vec![content.clone()])
        });
        let parts: Result<Vec<_>, _> = join_all(parts).await.into_iter().collect();
        let parts = parts.map_err(failed)?;
        self.go_on()?;
        self.store
            .complete_multipart(&key, &upload, &parts, Condition::None)
            .await
            .map_err(failed)?;
        self.uploads.lock().retain(|(_, begun)| *begun != upload);
        self.written.lock().push("multipart");
        self.go_on()?;
        let len = (PART_LEN + LAST_PART_LEN) as u64;
        let (head, body) = self
            .store
            .get_bytes(&key, None, 2 * len)
            .await
            .map_err(failed)?;
        if head.size != len {
            return Err(refuse(
                MULTIPART,
                format!(
                    "the object has {} bytes after its parts were joined",
                    head.size
                ),
            ));
        }
        let [first, last] = contents;
        let (head, tail) = body.split_at(PART_LEN);
        if *head != *first || *tail != *last {
            return Err(refuse(MULTIPART, "the object is not its parts joined"));
        }
        Ok(())
    }

    /// Begins an upload, and remembers it until it is over.
    async fn begin_upload(&self, key: &str) -> Result<UploadId, ProbeFailure> {
        let begun = self.store.create_multipart(key).await;
        let upload = begun.map_err(|error| lacks(MULTIPART, error))?;
        self.uploads.lock().push((key.to_owned(), upload.clone()));
        Ok(upload)
    }

    /// An upload that was begun is listed, and is gone once it is aborted. A store that lists none
    /// removes them by rules of its own.
    pub(super) async fn aborted(&self) -> Result<(), ProbeFailure> {
        let key = self.key("multipart");
        self.go_on()?;
        let upload = self.begin_upload(&key).await?;
        self.go_on()?;
        let is_listed = match self.store.list_multipart(&key).await {
            Ok(listed) => listed.iter().any(|pending| pending.upload == upload),
            Err(error) if error.kind == StoreErrorKind::Other => true,
            Err(error) => return Err(error.into()),
        };
        let aborted = self.store.abort_multipart(&key, &upload).await;
        aborted.map_err(|error| lacks(ABORT, error))?;
        self.uploads.lock().retain(|(_, begun)| *begun != upload);
        if !is_listed {
            let detail = "an upload that was begun is not listed";
            return Err(refuse("ListMultipartUploads", detail));
        }
        self.go_on()?;
        match self.store.list_multipart(&key).await {
            Ok(listed) if listed.iter().any(|pending| pending.upload == upload) => Err(refuse(
                ABORT,
                "an upload is still there after it was aborted",
            )),
            _ => Ok(()),
        }
    }

    /// Aborts the uploads that are not known to be over.
    pub(super) async fn abort_own(&self) -> Result<(), StoreError> {
        let uploads = std::mem::take(&mut *self.uploads.lock());
        let mut outcome = Ok(());
        for (key, upload) in uploads {
            outcome = outcome.and(self.store.abort_multipart(&key, &upload).await);
        }
        outcome
    }
}

/// Bytes that differ from place to place, so that a shifted range shows (xorshift).
pub(super) fn pattern(len: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    Bytes::from(bytes)
}
