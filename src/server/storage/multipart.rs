//! Multipart uploads: begun, filled part by part, listed, completed or aborted.
//!
//! A part that is uploaded again replaces the earlier one. Completing is a commit like any other,
//! with conditions; an upload whose completion was refused is still there. Completing again after
//! success (an answer was lost) succeeds again as long as the object it made is there.

use std::fs;
use std::ops::Bound;
use std::sync::Arc;
use std::time::SystemTime;

use super::checksum;
use super::commit::Gone;
use super::record::CompletedUpload;
use super::{
    Bucket, Checksums, Conditions, Headers, Object, ObjectRecord, PartRecord, Refusal, Storage,
    TempFile, Upload, UploadRecord, files,
};

/// The least size of every part but the last, as S3 has it.
const MIN_PART_BYTES: u64 = 5 * 1024 * 1024;

/// An upload to begin.
pub(in crate::server) struct NewUpload {
    pub(in crate::server) key: String,
    pub(in crate::server) headers: Headers,
    pub(in crate::server) checksum_algorithm: Option<String>,
    pub(in crate::server) full_object_checksum: bool,
}

/// A part as the completion names it.
pub(in crate::server) struct CompletedPart {
    pub(in crate::server) number: i32,
    /// Without quotes.
    pub(in crate::server) etag: Option<String>,
    pub(in crate::server) checksums: Checksums,
}

/// An upload to complete.
pub(in crate::server) struct Completion {
    pub(in crate::server) key: String,
    pub(in crate::server) id: String,
    pub(in crate::server) parts: Vec<CompletedPart>,
    pub(in crate::server) conditions: Conditions,
    /// The checksum that the object must have.
    pub(in crate::server) checksums: Checksums,
    /// It is of the whole object rather than of the parts' checksums.
    pub(in crate::server) full_object_checksum: bool,
    /// The size that the object must have, in bytes.
    pub(in crate::server) size: Option<u64>,
}

impl Bucket {
    fn upload(&self, key: &str, id: &str) -> Result<&Upload, Refusal> {
        self.uploads
            .get(&(key.to_owned(), id.to_owned()))
            .ok_or(Refusal::NoSuchUpload)
    }
}

impl Storage {
    /// Begins an upload; returns its id.
    pub(in crate::server) fn create_upload(
        &self,
        bucket: &str,
        new: NewUpload,
    ) -> Result<String, Refusal> {
        let record = UploadRecord {
            key: new.key,
            id: files::random_id()?,
            initiated: SystemTime::now(),
            headers: new.headers,
            checksum_algorithm: new.checksum_algorithm,
            full_object_checksum: new.full_object_checksum,
        };
        let id = record.id.clone();
        let temp = self.temp_file()?;
        temp.seal(0, &record, self.syncs())?;
        let dirs = {
            let mut state = self.state.write();
            let bucket = state.bucket_mut(bucket)?;
            temp.publish(&bucket.dirs.upload(&id))?;
            let place = (record.key.clone(), id.clone());
            bucket.uploads.insert(
                place,
                Upload {
                    record,
                    parts: Default::default(),
                },
            );
            Arc::clone(&bucket.dirs)
        };
        dirs.uploads.sync()?;
        Ok(id)
    }

    /// The upload's record.
    pub(in crate::server) fn head_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<UploadRecord, Refusal> {
        Ok(self.read().bucket(bucket)?.upload(key, id)?.record.clone())
    }

    /// Makes the data in `temp` part `number`, in place of an earlier one.
    pub(in crate::server) fn put_part(
        &self,
        bucket: &str,
        (key, id, number): (&str, &str, u16),
        (temp, size): (TempFile, u64),
        checksums: Checksums,
    ) -> Result<PartRecord, Refusal> {
        let part = PartRecord {
            number,
            size,
            etag: files::random_id()?,
            modified: SystemTime::now(),
            checksums,
        };
        temp.seal(size, &part, self.syncs())?;
        let dirs = {
            let mut state = self.state.write();
            let bucket = state.bucket_mut(bucket)?;
            let dirs = Arc::clone(&bucket.dirs);
            let place = (key.to_owned(), id.to_owned());
            let upload = bucket
                .uploads
                .get_mut(&place)
                .ok_or(Refusal::NoSuchUpload)?;
            temp.publish(&dirs.part(id, number))?;
            upload.parts.insert(number, part.clone());
            dirs
        };
        dirs.parts.sync()?;
        Ok(part)
    }

    /// Up to `max` parts after number `after`, and whether there are more.
    pub(in crate::server) fn list_parts(
        &self,
        bucket: &str,
        (key, id): (&str, &str),
        after: u16,
        max: usize,
    ) -> Result<(UploadRecord, Vec<PartRecord>, bool), Refusal> {
        let state = self.read();
        let upload = state.bucket(bucket)?.upload(key, id)?;
        let mut rest = upload
            .parts
            .range((Bound::Excluded(after), Bound::Unbounded))
            .map(|(_, part)| part.clone());
        let parts: Vec<_> = rest.by_ref().take(max).collect();
        Ok((upload.record.clone(), parts, rest.next().is_some()))
    }

    /// Up to `max` uploads after (key, id), and whether there are more. An empty id passes all of
    /// the key's.
    pub(in crate::server) fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        (after_key, after_id): (&str, &str),
        max: usize,
    ) -> Result<(Vec<UploadRecord>, bool), Refusal> {
        let state = self.read();
        let is_after = |key: &str, id: &str| {
            key > after_key || (key == after_key && !after_id.is_empty() && id > after_id)
        };
        let mut rest = state
            .bucket(bucket)?
            .uploads
            .iter()
            .filter(|((key, id), _)| {
                key.starts_with(prefix) && (after_key.is_empty() || is_after(key, id))
            })
            .map(|(_, upload)| upload.record.clone());
        let uploads: Vec<_> = rest.by_ref().take(max).collect();
        Ok((uploads, rest.next().is_some()))
    }

    /// Ends an upload without an object.
    pub(in crate::server) fn abort_upload(
        &self,
        bucket: &str,
        key: &str,
        id: &str,
    ) -> Result<(), Refusal> {
        let (dirs, upload) = {
            let mut state = self.state.write();
            let bucket = state.bucket_mut(bucket)?;
            bucket.upload(key, id)?;
            fs::remove_file(bucket.dirs.upload(id))?;
            let place = (key.to_owned(), id.to_owned());
            (Arc::clone(&bucket.dirs), bucket.uploads.remove(&place))
        };
        dirs.uploads.sync()?;
        for number in upload.iter().flat_map(|upload| upload.parts.keys()) {
            fs::remove_file(dirs.part(id, *number))?;
        }
        Ok(())
    }

    /// Makes the parts an object, if the conditions hold.
    pub(in crate::server) fn complete_upload(
        &self,
        bucket: &str,
        completion: &Completion,
    ) -> Result<ObjectRecord, Refusal> {
        let (key, id) = (completion.key.as_str(), completion.id.as_str());
        let record = {
            let state = self.read();
            let bucket = state.bucket(bucket)?;
            match bucket.upload(key, id) {
                Ok(upload) => completed_record(upload, completion)?,
                Err(refusal) => return completed_before(bucket, completion).ok_or(refusal),
            }
        };
        let temp = self.temp_file()?;
        temp.seal(0, &record, self.syncs())?;
        let (gone, upload) = {
            let mut state = self.state.write();
            let bucket = state.bucket_mut(bucket)?;
            let upload = match bucket.upload(key, id) {
                Ok(upload) => upload,
                Err(refusal) => return completed_before(bucket, completion).ok_or(refusal),
            };
            // A part may have been uploaded again since; its ETag is another then.
            select_parts(upload, &completion.parts)?;
            completion
                .conditions
                .check(bucket.objects.get(key).map(|object| &object.record))?;
            temp.publish(&bucket.dirs.object(key))?;
            let dirs = Arc::clone(&bucket.dirs);
            let object = Object::new(record.clone(), Arc::clone(&dirs));
            let upload = bucket.uploads.remove(&(key.to_owned(), id.to_owned()));
            (
                Gone {
                    object: bucket.objects.insert(key.to_owned(), object),
                    dirs,
                },
                upload,
            )
        };
        let dirs = Arc::clone(&gone.dirs);
        gone.bury()?;
        // From here on a start would do the same: the object says that the upload is completed.
        fs::remove_file(dirs.upload(id))?;
        let used = record.upload.iter().flat_map(|upload| &upload.parts);
        let used: std::collections::HashSet<u16> = used.map(|part| part.number).collect();
        for number in upload
            .iter()
            .flat_map(|upload| upload.parts.keys())
            .filter(|number| !used.contains(number))
        {
            fs::remove_file(dirs.part(id, *number))?;
        }
        Ok(record)
    }
}

/// The object that this very completion made, if it is still there.
fn completed_before(bucket: &Bucket, completion: &Completion) -> Option<ObjectRecord> {
    let record = &bucket.objects.get(&completion.key)?.record;
    let upload = record
        .upload
        .as_ref()
        .filter(|upload| upload.id == completion.id)?;
    let same = upload.parts.len() == completion.parts.len()
        && upload
            .parts
            .iter()
            .zip(&completion.parts)
            .all(|(made, named)| {
                i32::from(made.number) == named.number
                    && named.etag.as_ref().is_none_or(|etag| *etag == made.etag)
            });
    same.then(|| record.clone())
}

/// The parts that a completion names, checked.
fn select_parts(upload: &Upload, named: &[CompletedPart]) -> Result<Vec<PartRecord>, Refusal> {
    let mut parts: Vec<PartRecord> = Vec::with_capacity(named.len());
    for part in named {
        let found = u16::try_from(part.number)
            .ok()
            .and_then(|number| upload.parts.get(&number));
        let found = found.ok_or(Refusal::InvalidPart(part.number))?;
        let same_checksum = match (&part.checksums.crc32, &found.checksums.crc32) {
            (Some(named), Some(found)) => named == found,
            _ => true,
        };
        if part.etag.as_ref().is_some_and(|etag| *etag != found.etag) || !same_checksum {
            return Err(Refusal::InvalidPart(part.number));
        }
        if parts.last().is_some_and(|last| last.number >= found.number) {
            return Err(Refusal::InvalidPartOrder);
        }
        parts.push(found.clone());
    }
    Ok(parts)
}

/// The record of the object that the completion would make.
fn completed_record(upload: &Upload, completion: &Completion) -> Result<ObjectRecord, Refusal> {
    let parts = select_parts(upload, &completion.parts)?;
    let all_but_last = parts
        .get(..parts.len().saturating_sub(1))
        .unwrap_or_default();
    if let Some(part) = all_but_last.iter().find(|part| part.size < MIN_PART_BYTES) {
        return Err(Refusal::PartTooSmall {
            number: part.number,
            size: part.size,
        });
    }
    let size = parts.iter().map(|part| part.size).sum();
    if let Some(expected) = completion.size.filter(|expected| *expected != size) {
        return Err(Refusal::SizeMismatch {
            actual: size,
            expected,
        });
    }
    Ok(ObjectRecord {
        key: completion.key.clone(),
        etag: format!("{}-{}", files::random_id()?, parts.len()),
        size,
        modified: SystemTime::now(),
        headers: upload.record.headers.clone(),
        checksums: completed_checksums(&upload.record, completion, &parts)?,
        upload: Some(CompletedUpload {
            id: completion.id.clone(),
            parts,
        }),
    })
}

fn completed_checksums(
    upload: &UploadRecord,
    completion: &Completion,
    parts: &[PartRecord],
) -> Result<Checksums, Refusal> {
    let given = completion.checksums.crc32.as_deref();
    if given.is_none() && upload.checksum_algorithm.as_deref() != Some(checksum::CRC32) {
        return Ok(Checksums::default());
    }
    let full_object = upload.full_object_checksum || completion.full_object_checksum;
    let sum = checksum::of_parts(parts, full_object);
    // Clients give a composite checksum with or without the number of parts.
    let bare = sum.as_deref().and_then(|sum| sum.split('-').next());
    if given.is_some() && given != sum.as_deref() && given != bare {
        return Err(Refusal::ChecksumMismatch);
    }
    Ok(Checksums {
        composite: sum.is_some() && !full_object,
        crc32: sum,
    })
}
