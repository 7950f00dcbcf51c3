//! Multipart uploads.

use std::time::Duration;

use aws_sdk_s3::{
    operation::list_parts::ListPartsOutput,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;

use super::{
    Condition, PutOutcome, Store, StoreError, StoreErrorKind,
    attempt::{Direction, Progress},
    list::{endless, wrong_page},
    request::{Watch, on_bucket, on_object},
    retry::Failure,
    upload::Pieces,
};

/// Completing may take the store minutes during which nothing moves (S3 API: "several minutes").
const COMPLETE_TIMEOUT_MIN: Duration = Duration::from_secs(120);

/// S3 allows no more parts in an upload.
const PARTS_MAX: u32 = 10_000;
/// Pages of a listing of uploads, at most. A crash leaves some 30 uploads, and a store that answers
/// nothing for an hour some 1,000 more: each attempt to begin one may have begun it.
const UPLOAD_PAGES_MAX: u32 = 16;

/// An upload that was begun and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadId(pub String);

/// The data of a part that completing the upload needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartTag {
    /// 1 to 10,000.
    pub number: u32,
    /// The part's ETag.
    pub etag: String,
    /// The CRC-32 that the part was sent with, in base64: the store wants it back on completion.
    pub checksum: Option<String>,
}

/// A line of ListParts: a part that the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// 1 to 10,000.
    pub number: u32,
    /// Its length.
    pub len: u64,
    /// Its ETag.
    pub etag: String,
    /// Its CRC-32 in base64, if the store keeps checksums.
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

/// The parts of a page, whose numbers must ascend from `last` on.
fn parts_of(page: &ListPartsOutput, last: u32) -> Result<Vec<StoredPart>, &'static str> {
    let mut parts: Vec<StoredPart> = Vec::new();
    for part in page.parts.as_deref().unwrap_or_default() {
        let number: Option<u32> = part.part_number.and_then(|number| number.try_into().ok());
        let len = part.size.and_then(|size| size.try_into().ok());
        let (Some(number), Some(len), Some(etag)) = (number, len, &part.e_tag) else {
            continue;
        };
        if number <= parts.last().map_or(last, |part| part.number) || number > PARTS_MAX {
            return Err("the listing of parts does not advance: their numbers do not ascend");
        }
        parts.push(StoredPart {
            number,
            len,
            etag: etag.clone(),
            checksum: part.checksum_crc32.clone(),
        });
    }
    Ok(parts)
}

impl Store {
    /// Begins an upload. After an ambiguous failure a second one may stand:
    /// [`Store::list_multipart`] finds it.
    ///
    /// # Errors
    /// Every failure that keeps the request from being answered.
    pub async fn create_multipart(&self, key: &str) -> Result<UploadId, StoreError> {
        let context = self.context("CreateMultipartUpload", key);
        self.retrying(|_| async {
            let request = on_object!(self, create_multipart_upload, key);
            let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32);
            let output = self
                .plain(
                    context,
                    &self.inner.metrics.multipart_requests,
                    request.send(),
                )
                .await
                .map_err(Failure::into_claim)?;
            output
                .upload_id
                .map(UploadId)
                .ok_or_else(|| context.nonsense("the answer names no upload"))
        })
        .await
    }

    /// Sends one part; a retry sends the identical bytes. `pieces` are not joined.
    ///
    /// # Errors
    /// `NotFound` if the upload is not there.
    pub async fn upload_part(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        pieces: Vec<Bytes>,
    ) -> Result<PartTag, StoreError> {
        let context = self.context("UploadPart", key);
        let pieces = &Pieces::new(pieces);
        self.retrying(|_| async move {
            let progress = Progress::new();
            let request = on_object!(self, upload_part, key);
            let request = request
                .upload_id(&upload.0)
                .part_number(i32::try_from(number).unwrap_or(i32::MAX))
                .content_length(pieces.content_length())
                .checksum_crc32(&pieces.checksum)
                .body(self.body_of(pieces, &progress));
            let counter = &self.inner.metrics.part_requests;
            let sent = self.upload(context, counter, &progress, request.send());
            let output = sent.await.map_err(Failure::unconditional)?;
            let etag = output
                .e_tag
                .ok_or_else(|| context.nonsense("the answer has no ETag"))?;
            Ok(PartTag {
                number,
                etag,
                checksum: Some(pieces.checksum.clone()),
            })
        })
        .await
    }

    /// Completes. After an ambiguous failure a retry that finds the upload gone but the object
    /// there (HEAD) counts as done.
    ///
    /// # Errors
    /// `Precondition` if the condition does not hold, `NotFound` if the upload is not there.
    pub async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[PartTag],
        condition: Condition,
    ) -> Result<PutOutcome, StoreError> {
        let context = self.context("CompleteMultipartUpload", key);
        let completed = parts.iter().map(|part| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                .e_tag(&part.etag)
                .set_checksum_crc32(part.checksum.clone())
                .build()
        });
        let completed = &CompletedMultipartUpload::builder()
            .set_parts(Some(completed.collect()))
            .build();
        let condition = &condition;
        let stall = self.inner.stall_timeout.max(COMPLETE_TIMEOUT_MIN);
        self.retrying(|attempt| async move {
            let (if_none_match, if_match) = condition.headers();
            let request = on_object!(self, complete_multipart_upload, key);
            let request = request
                .upload_id(&upload.0)
                .multipart_upload(completed.clone())
                .set_if_none_match(if_none_match)
                .set_if_match(if_match);
            let watch = Watch {
                direction: Direction::Neither,
                stall,
                progress: &Progress::new(),
            };
            let counter = &self.inner.metrics.multipart_requests;
            match self.attempt(context, counter, watch, request.send()).await {
                Ok(output) => Ok(PutOutcome { etag: output.e_tag }),
                Err(failure) if attempt.ambiguous_before && failure.has_code("NoSuchUpload") => {
                    match self.head_once(key).await {
                        Ok(there) => Ok(PutOutcome { etag: there.e_tag }),
                        Err(unknown) if unknown.error.kind == StoreErrorKind::NotFound => {
                            Err(failure)
                        }
                        Err(unknown) => Err(unknown),
                    }
                }
                Err(failure) if *condition == Condition::None => Err(failure.unconditional()),
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    /// The parts that the store has of an upload, by number, each once.
    ///
    /// # Errors
    /// `NotFound` if the upload is not there; `Nonsense` for a listing that does not advance.
    pub async fn list_parts(
        &self,
        key: &str,
        upload: &UploadId,
    ) -> Result<Vec<StoredPart>, StoreError> {
        let context = self.context("ListParts", key);
        let mut parts: Vec<StoredPart> = Vec::new();
        let mut marker: Option<String> = None;
        loop {
            let from = &marker;
            let last = parts.last().map_or(0, |part| part.number);
            let page = self.retrying(|_| async move {
                let request = on_object!(self, list_parts, key);
                let request = request
                    .upload_id(&upload.0)
                    .set_part_number_marker(from.clone());
                let page = self
                    .plain(
                        context,
                        &self.inner.metrics.multipart_requests,
                        request.send(),
                    )
                    .await
                    .map_err(Failure::unconditional)?;
                match parts_of(&page, last) {
                    Ok(parts) => Ok((page, parts)),
                    Err(why) => Err(wrong_page("ListParts", key, why)),
                }
            });
            let (page, mut found) = page.await?;
            // Each page that is followed by another brings a higher number, so they end.
            let next = page.next_part_number_marker;
            let goes_on = page.is_truncated == Some(true) && next.is_some() && !found.is_empty();
            parts.append(&mut found);
            if !goes_on {
                return Ok(parts);
            }
            marker = next;
        }
    }

    /// Aborts; an upload that is not there is no error.
    ///
    /// # Errors
    /// Every failure that keeps the request from being answered.
    pub async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<(), StoreError> {
        let context = self.context("AbortMultipartUpload", key);
        self.retrying(|_| async {
            let request = on_object!(self, abort_multipart_upload, key);
            match self
                .plain(
                    context,
                    &self.inner.metrics.multipart_requests,
                    request.upload_id(&upload.0).send(),
                )
                .await
            {
                Ok(_) => Ok(()),
                Err(failure) if failure.error.kind == StoreErrorKind::NotFound => Ok(()),
                Err(failure) => Err(failure),
            }
        })
        .await
    }

    /// All uploads under way for keys that start with `prefix`.
    ///
    /// # Errors
    /// Every failure that keeps the request from being answered; `Nonsense` for a listing that does
    /// not advance or does not end.
    pub async fn list_multipart(&self, prefix: &str) -> Result<Vec<PendingUpload>, StoreError> {
        let context = self.context("ListMultipartUploads", prefix);
        let mut pending = Vec::new();
        let mut marker: (Option<String>, Option<String>) = (None, None);
        for _ in 0..UPLOAD_PAGES_MAX {
            let from = &marker;
            let page = self.retrying(|_| async move {
                // Never closed, so this always is a permit.
                let _one_page = self.inner.listing.acquire().await.ok();
                let request = on_bucket!(self, list_multipart_uploads);
                let request = request.prefix(self.inner.url.full_key(prefix));
                let request = request
                    .set_key_marker(from.0.clone())
                    .set_upload_id_marker(from.1.clone());
                self.plain(
                    context,
                    &self.inner.metrics.multipart_requests,
                    request.send(),
                )
                .await
                .map_err(Failure::into_claim)
            });
            let page = page.await?;
            for upload in page.uploads.unwrap_or_default() {
                let (Some(full), Some(id)) = (upload.key, upload.upload_id) else {
                    continue;
                };
                // Uploads of others must not be aborted by us.
                let key = self.inner.url.relative_key(&full);
                let Some(key) = key.filter(|key| key.starts_with(prefix)) else {
                    continue;
                };
                pending.push(PendingUpload {
                    key: key.to_owned(),
                    upload: UploadId(id),
                });
            }
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if page.is_truncated != Some(true) || next.0.is_none() {
                return Ok(pending);
            }
            if next == marker || next.0 < marker.0 {
                let why = "the listing of uploads does not advance";
                return Err(wrong_page("ListMultipartUploads", prefix, why).error);
            }
            marker = next;
        }
        Err(endless("ListMultipartUploads", prefix))
    }
}
