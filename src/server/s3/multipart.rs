//! Multipart uploads.

use s3s::dto::*;
use s3s::{S3Request, S3Result, s3_error};

use super::ingest::{self, receive_body};
use super::list::Encoding;
use super::wire::{self, checksums_in, checksums_out, headers_in};
use super::{Operations, page_size};
use crate::server::storage::{self, Completion, Conditions, NewUpload};

/// Part numbers go from 1 to this.
const MAX_PART_NUMBER: i32 = 10_000;

pub(super) fn part_number(number: PartNumber) -> S3Result<u16> {
    u16::try_from(number)
        .ok()
        .filter(|_| (1..=MAX_PART_NUMBER).contains(&number))
        .ok_or_else(|| {
            s3_error!(
                InvalidArgument,
                "A part number must be between 1 and {MAX_PART_NUMBER}."
            )
        })
}

pub(super) async fn create(
    operations: &Operations,
    mut input: CreateMultipartUploadInput,
) -> S3Result<CreateMultipartUploadOutput> {
    let full_object = input
        .checksum_type
        .as_ref()
        .is_some_and(|it| it.as_str() == ChecksumType::FULL_OBJECT);
    if let Some(other) = &input.checksum_algorithm
        && other.as_str() != storage::CRC32
    {
        return Err(ingest::other_checksum());
    }
    let new = NewUpload {
        key: input.key.clone(),
        headers: headers_in!(input),
        checksum_algorithm: input
            .checksum_algorithm
            .as_ref()
            .map(|it| it.as_str().to_owned()),
        full_object_checksum: full_object,
    };
    let bucket = input.bucket.clone();
    let id = operations
        .blocking(move |storage| Ok(storage.create_upload(&bucket, new)?))
        .await?;
    Ok(CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        checksum_algorithm: input.checksum_algorithm,
        checksum_type: input.checksum_type,
        ..Default::default()
    })
}

pub(super) async fn upload_part(
    operations: &Operations,
    req: S3Request<UploadPartInput>,
) -> S3Result<UploadPartOutput> {
    let mut input = req.input;
    let number = part_number(input.part_number)?;
    operations
        .storage
        .head_upload(&input.bucket, &input.key, &input.upload_id)?;
    let received = receive_body!(operations, req, input);
    let part = operations
        .blocking(move |storage| {
            let (temp, size, checksums) = received.verify()?;
            let place = (input.key.as_str(), input.upload_id.as_str(), number);
            Ok(storage.put_part(&input.bucket, place, (temp, size), checksums)?)
        })
        .await?;
    let mut output = UploadPartOutput {
        e_tag: wire::etag(&part.etag),
        ..Default::default()
    };
    checksums_out!(output, part.checksums);
    Ok(output)
}

pub(super) async fn complete(
    operations: &Operations,
    mut input: CompleteMultipartUploadInput,
) -> S3Result<CompleteMultipartUploadOutput> {
    let parts = input
        .multipart_upload
        .take()
        .and_then(|upload| upload.parts)
        .unwrap_or_default();
    if parts.is_empty() {
        return Err(s3_error!(
            MalformedXML,
            "An upload is completed with at least one part."
        ));
    }
    let parts = parts.into_iter().map(|part| storage::CompletedPart {
        number: part.part_number.unwrap_or(0),
        checksums: checksums_in!(part),
        etag: part.e_tag.map(ETag::into_value),
    });
    let completion = Completion {
        key: input.key.clone(),
        id: std::mem::take(&mut input.upload_id),
        parts: parts.collect(),
        conditions: Conditions {
            if_match: input.if_match.take().map(wire::expectation),
            if_none_match: input.if_none_match.take().map(wire::expectation),
            if_size: None,
        },
        checksums: checksums_in!(input),
        full_object_checksum: input
            .checksum_type
            .as_ref()
            .is_some_and(|it| it.as_str() == ChecksumType::FULL_OBJECT),
        size: input
            .mpu_object_size
            .and_then(|size| u64::try_from(size).ok()),
    };
    let bucket = input.bucket.clone();
    let record = operations
        .blocking(move |storage| Ok(storage.complete_upload(&bucket, &completion)?))
        .await?;
    let mut output = CompleteMultipartUploadOutput {
        location: Some(format!("/{}/{}", input.bucket, input.key)),
        bucket: Some(input.bucket),
        key: Some(input.key),
        e_tag: wire::etag(&record.etag),
        checksum_type: wire::checksum_type(&record.checksums),
        ..Default::default()
    };
    checksums_out!(output, record.checksums);
    Ok(output)
}

pub(super) async fn abort(
    operations: &Operations,
    input: AbortMultipartUploadInput,
) -> S3Result<AbortMultipartUploadOutput> {
    operations
        .blocking(move |storage| {
            Ok(storage.abort_upload(&input.bucket, &input.key, &input.upload_id)?)
        })
        .await?;
    Ok(AbortMultipartUploadOutput::default())
}

pub(super) fn list_parts(
    operations: &Operations,
    input: ListPartsInput,
) -> S3Result<ListPartsOutput> {
    let max = page_size(input.max_parts)?;
    let after = u16::try_from(input.part_number_marker.unwrap_or(0)).unwrap_or(u16::MAX);
    let place = (input.key.as_str(), input.upload_id.as_str());
    let (upload, parts, more) = operations
        .storage
        .list_parts(&input.bucket, place, after, max)?;
    let next = parts
        .last()
        .map(|part| i32::from(part.number))
        .filter(|_| more);
    let parts = parts.into_iter().map(|part| {
        let mut out = Part {
            part_number: Some(i32::from(part.number)),
            e_tag: wire::etag(&part.etag),
            last_modified: Some(part.modified.into()),
            size: Some(wire::signed(part.size)),
            ..Default::default()
        };
        checksums_out!(out, part.checksums);
        out
    });
    Ok(ListPartsOutput {
        parts: Some(parts.collect()),
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        is_truncated: Some(more),
        max_parts: i32::try_from(max).ok(),
        part_number_marker: input.part_number_marker,
        next_part_number_marker: next,
        checksum_algorithm: upload.checksum_algorithm.map(ChecksumAlgorithm::from),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        ..Default::default()
    })
}

pub(super) fn list_uploads(
    operations: &Operations,
    input: ListMultipartUploadsInput,
) -> S3Result<ListMultipartUploadsOutput> {
    if input
        .delimiter
        .as_ref()
        .is_some_and(|delimiter| !delimiter.is_empty())
    {
        return Err(s3_error!(
            NotImplemented,
            "Uploads are not grouped by a delimiter."
        ));
    }
    let max = page_size(input.max_uploads)?;
    let prefix = input.prefix.clone().unwrap_or_default();
    let key_marker = input.key_marker.clone().unwrap_or_default();
    let id_marker = input.upload_id_marker.clone().unwrap_or_default();
    let (uploads, more) =
        operations
            .storage
            .list_uploads(&input.bucket, &prefix, (&key_marker, &id_marker), max)?;
    let encode = Encoding::of(input.encoding_type.as_ref());
    let last = uploads.last().filter(|_| more);
    let (next_key, next_id) = (
        last.map(|it| encode.apply(&it.key)),
        last.map(|it| it.id.clone()),
    );
    let uploads = uploads.into_iter().map(|upload| MultipartUpload {
        key: Some(encode.apply(&upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(upload.initiated.into()),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm: upload.checksum_algorithm.map(ChecksumAlgorithm::from),
        ..Default::default()
    });
    Ok(ListMultipartUploadsOutput {
        uploads: Some(uploads.collect()),
        bucket: Some(input.bucket),
        prefix: Some(encode.apply(&prefix)),
        is_truncated: Some(more),
        max_uploads: i32::try_from(max).ok(),
        key_marker: Some(encode.apply(&key_marker)),
        upload_id_marker: Some(id_marker),
        next_key_marker: next_key,
        next_upload_id_marker: next_id,
        encoding_type: input.encoding_type,
        ..Default::default()
    })
}
